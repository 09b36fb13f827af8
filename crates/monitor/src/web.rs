//! The file of a "web configuration", as Prometheus's own exporters take it with `--web.config.file`: TLS and users.
//!
//! Source: prometheus/exporter-toolkit, `docs/web-configuration.md` (v0.14). What is not known is an error, since
//! whoever wrote it relies on it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

/// What such a file asks for; its paths as they lead from its folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Web {
    /// TLS.
    pub tls: Option<WebTls>,
    /// Names and the bcrypt of their passwords, each with the number of its line.
    pub users: Vec<(usize, String, String)>,
}

/// `tls_server_config`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct WebTls {
    /// The certificate, with those above it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities of clients' certificates, and whether a client must have one.
    pub clients: Option<(PathBuf, bool)>,
    /// TLS 1.3 alone.
    pub newest: bool,
}

/// The file, as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Document {
    #[serde(deserialize_with = "there")]
    tls_server_config: Option<Option<TlsServer>>,
    #[serde(deserialize_with = "there")]
    basic_auth_users: Option<Option<BTreeMap<String, Spanned<String>>>>,
}

/// A key without a value is there, and says nothing.
fn there<'de, D: Deserializer<'de>, T: Deserialize<'de>>(given: D) -> Result<Option<T>, D::Error> {
    T::deserialize(given).map(Some)
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TlsServer {
    cert_file: String,
    key_file: String,
    client_auth_type: Option<Spanned<String>>,
    client_ca_file: String,
    min_version: Option<Spanned<String>>,
}

/// Reads one; `folder` is that of the file, from which its paths lead.
///
/// # Errors
/// What is wrong with it, with the number of the line and no hash.
pub fn parse(text: &str, folder: &Path) -> Result<Web, String> {
    // A file of comments alone is one of nothing.
    let document: Option<Document> = serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map_or(1, |at| at.line());
        // What the library quotes may be a password's hash.
        let why = match error.without_snippet() {
            serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
                format!("`{field}` is not known: there are {}", expected.join(", "))
            }
            serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
                format!("`{key}` stands there twice")
            }
            _ => "it is not YAML, or not what belongs here".to_owned(),
        };
        format!("line {line}: {why}")
    })?;
    let Document { tls_server_config: tls, basic_auth_users: users } = document.unwrap_or_default();
    // A list that was cut off or commented out would open what it is to close.
    if users.as_ref().is_some_and(|users| users.as_ref().is_none_or(BTreeMap::is_empty)) {
        return Err("basic_auth_users names nobody".to_owned());
    }
    let tls = match tls {
        Some(None) => return Err("tls_server_config says nothing".to_owned()),
        tls => tls.flatten(),
    };
    if tls.is_none() && users.is_none() {
        return Err("it asks for neither TLS nor a login".to_owned());
    }
    let users = users.flatten().unwrap_or_default();
    if let Some(hash) = users.get("") {
        return Err(format!("line {}: the user has no name", line_of(hash)));
    }
    let users = users.into_iter().map(|(name, hash)| (line_of(&hash), name, hash.value));
    Ok(Web { tls: tls.map(|tls| WebTls::of(&tls, folder)).transpose()?, users: users.collect() })
}

fn line_of<T>(item: &Spanned<T>) -> usize {
    usize::try_from(item.referenced.line()).unwrap_or(1)
}

impl WebTls {
    fn of(tls: &TlsServer, folder: &Path) -> Result<Self, String> {
        let path = |name: &str| (!name.is_empty()).then(|| folder.join(name));
        let needed = |key: &str, name: &str| {
            path(name).ok_or_else(|| format!("tls_server_config has no {key}"))
        };
        let (certificate, key) =
            (needed("cert_file", &tls.cert_file)?, needed("key_file", &tls.key_file)?);
        let row = |field: &Option<Spanned<String>>| {
            field.as_ref().map(|value| (line_of(value), value.value.clone()))
        };
        let newest = match row(&tls.min_version) {
            None => false,
            Some((_, version)) if version == "TLS12" => false,
            Some((_, version)) if version == "TLS13" => true,
            Some((number, other)) => {
                return Err(format!(
                    "line {number}: min_version is `{other}`, and TLS12 and TLS13 are spoken"
                ));
            }
        };
        let authorities = path(&tls.client_ca_file);
        let asked = row(&tls.client_auth_type);
        let clients = match (
            asked.as_ref().map(|(number, word)| (*number, word.as_str())),
            authorities,
        ) {
            (None | Some((_, "NoClientCert")), None) => None,
            (None | Some((_, "NoClientCert")), Some(_)) => {
                return Err(
                    "client_ca_file is for nothing without a client_auth_type: RequireAndVerifyClientCert asks for a certificate"
                        .to_owned(),
                );
            }
            (Some((_, "VerifyClientCertIfGiven")), Some(path)) => Some((path, false)),
            (Some((_, "RequireAndVerifyClientCert")), Some(path)) => Some((path, true)),
            (Some((number, "VerifyClientCertIfGiven" | "RequireAndVerifyClientCert")), None) => {
                return Err(format!(
                    "line {number}: client_auth_type wants a client_ca_file to compare with"
                ));
            }
            // Those that look at no certificate keep nobody out.
            (Some((number, other)), _) => {
                return Err(format!(
                    "line {number}: client_auth_type is `{other}`; there are NoClientCert, VerifyClientCertIfGiven and RequireAndVerifyClientCert"
                ));
            }
        };
        Ok(Self { certificate, key, clients, newest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Web, String> {
        parse(text, Path::new("/etc/sconce"))
    }

    #[test]
    fn what_exporters_take() {
        let web = read(
            "---\ntls_server_config:\n  cert_file: server.crt # ours\n  key_file: '/keys/it''s.key'\n  client_auth_type: \"RequireAndVerifyClientCert\"\n  client_ca_file: ca.crt\n  min_version: TLS13\n\nbasic_auth_users:\n    alice: $2y$10$abc\n    \"b: \\\"b\\\"\": $2b$05$def\n",
        )
        .unwrap();
        let tls = web.tls.unwrap();
        assert_eq!(tls.certificate, Path::new("/etc/sconce/server.crt"));
        assert_eq!(tls.key, Path::new("/keys/it's.key"));
        assert_eq!(tls.clients, Some(("/etc/sconce/ca.crt".into(), true)));
        assert!(tls.newest);
        let user = |line, name: &str, hash: &str| (line, name.to_owned(), hash.to_owned());
        assert_eq!(
            web.users,
            [user(10, "alice", "$2y$10$abc"), user(11, "b: \"b\"", "$2b$05$def")]
        );
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let tls = "tls_server_config:\n  cert_file: a\n  key_file: b\n";
        for (text, says) in [
            ("http_server_config:\n  http2: false\n", "line 1: `http_server_config` is not known"),
            (
                "tls_server_config:\n  cert: x\n",
                "line 2: `cert` is not known: there are cert_file, key_file",
            ),
            ("tls_server_config:\n  cert_file: a\n", "tls_server_config has no key_file"),
            ("basic_auth_users:\n  - a\n", "line 2: it is not YAML, or not what belongs here"),
            ("basic_auth_users:\n  a: *b\n", "line 2: it is not YAML, or not what belongs here"),
            ("basic_auth_users:\n  a: b\n c: d\n", "line 3: it is not YAML"),
            (
                "basic_auth_users:\n  a: [s3cret]\n",
                "line 2: it is not YAML, or not what belongs here",
            ),
            ("basic_auth_users:\n  a: b\n  a: c\n", "line 3: `a` stands there twice"),
            (
                "basic_auth_users:\nbasic_auth_users:\n",
                "line 2: `basic_auth_users` stands there twice",
            ),
            ("# nothing\n\n", "it asks for neither TLS nor a login"),
            ("basic_auth_users:\n", "basic_auth_users names nobody"),
            ("basic_auth_users: {}\n", "basic_auth_users names nobody"),
            (&format!("{tls}basic_auth_users:\n"), "basic_auth_users names nobody"),
            (&format!("{tls}basic_auth_users: ~\n"), "basic_auth_users names nobody"),
            (&format!("{tls}basic_auth_users:\n  # a: b\n"), "basic_auth_users names nobody"),
            ("tls_server_config:\nbasic_auth_users:\n  a: b\n", "tls_server_config says nothing"),
            ("junk\n", "line 1: it is not YAML, or not what belongs here"),
            (&format!("{tls}  min_version: TLS10\n"), "line 4: min_version is `TLS10`"),
            (
                &format!("{tls}  client_auth_type: RequestClientCert\n"),
                "line 4: client_auth_type is `RequestClientCert`",
            ),
            (
                &format!("{tls}  client_auth_type: RequireAndVerifyClientCert\n"),
                "line 4: client_auth_type wants a client_ca_file",
            ),
            (&format!("{tls}  client_ca_file: c\n"), "client_ca_file is for nothing"),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.starts_with(says), "{text}: {why}");
        }
    }
}
