//! The file of a "web configuration", as Prometheus's own exporters take it with `--web.config.file`: TLS and users.
//!
//! Source: prometheus/exporter-toolkit, `docs/web-configuration.md` (v0.14). Of YAML only what such files need is read: two levels of
//! `key: value`; what is not known is an error, since whoever wrote it relies on it.

use std::path::{Path, PathBuf};

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

/// The keys of the first level that are read.
const TLS: &str = "tls_server_config";
const USERS: &str = "basic_auth_users";
/// The keys of TLS that are read.
const TLS_KEYS: [&str; 5] =
    ["cert_file", "key_file", "client_auth_type", "client_ca_file", "min_version"];

/// Reads one; `folder` is that of the file, from which its paths lead.
///
/// # Errors
/// What is wrong with it, with the number of the line and no hash.
pub fn parse(text: &str, folder: &Path) -> Result<Web, String> {
    let mut web = Web::default();
    let mut sections: Vec<String> = Vec::new();
    let mut tls: Vec<(usize, String, String)> = Vec::new();
    let mut indent = None;
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        let wrong = |why: String| format!("line {number}: {why}");
        let content = line.trim_start_matches(' ');
        if content.trim().is_empty() || content.starts_with('#') || line.trim_end() == "---" {
            continue;
        }
        let (key, value) = entry(content).map_err(|why| wrong(why.to_owned()))?;
        let depth = line.len() - content.len();
        if depth == 0 {
            match (key.as_str(), value.as_str()) {
                (TLS | USERS, "" | "{}") => {}
                (TLS | USERS, _) => return Err(wrong(format!("`{key}` has lines below it"))),
                _ => {
                    return Err(wrong(format!(
                        "`{key}` is not known: there are {TLS} and {USERS}"
                    )));
                }
            }
            if sections.contains(&key) {
                return Err(wrong(format!("`{key}` stands there twice")));
            }
            sections.push(key);
            indent = None;
            continue;
        }
        let Some(section) = sections.last() else {
            return Err(wrong("it is indented below nothing".to_owned()));
        };
        if *indent.get_or_insert(depth) != depth {
            return Err(wrong("it is indented otherwise than the line before".to_owned()));
        }
        let rows = if section == TLS { &mut tls } else { &mut web.users };
        if section == TLS && !TLS_KEYS.contains(&key.as_str()) {
            return Err(wrong(format!("`{key}` is not known: {TLS} has {}", TLS_KEYS.join(", "))));
        }
        if rows.iter().any(|(_, known, _)| *known == key) {
            return Err(wrong(format!("`{key}` stands there twice")));
        }
        rows.push((number, key, value));
    }
    if !tls.is_empty() {
        web.tls = Some(WebTls::of(&tls, folder)?);
    }
    Ok(web)
}

impl WebTls {
    fn of(rows: &[(usize, String, String)], folder: &Path) -> Result<Self, String> {
        let row = |name: &str| {
            let found = rows.iter().find(|(_, key, value)| key == name && !value.is_empty());
            found.map(|(number, _, value)| (*number, value.as_str()))
        };
        let path = |name: &str| row(name).map(|(_, value)| folder.join(value));
        let needed = |name: &str| path(name).ok_or_else(|| format!("{TLS} has no {name}"));
        let (certificate, key) = (needed("cert_file")?, needed("key_file")?);
        let newest = match row("min_version") {
            None | Some((_, "TLS12")) => false,
            Some((_, "TLS13")) => true,
            Some((number, other)) => {
                return Err(format!(
                    "line {number}: min_version is `{other}`, and TLS12 and TLS13 are spoken"
                ));
            }
        };
        let authorities = path("client_ca_file");
        let clients = match (row("client_auth_type"), authorities) {
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

/// `key: value`, either of them plain or in quotes.
fn entry(line: &str) -> Result<(String, String), &'static str> {
    const NO: &str = "it is no `key: value`, which is all that is read of YAML";
    if line.starts_with('\t') {
        return Err("it is indented with a tab, which YAML does not take");
    }
    let (key, rest) = match line.chars().next() {
        Some('"' | '\'') => {
            let (key, rest) = quoted(line).ok_or(NO)?;
            (key, rest.trim_start().strip_prefix(':').ok_or(NO)?)
        }
        _ => {
            let end = line.find(": ").or_else(|| {
                let trimmed = line.trim_end();
                trimmed.ends_with(':').then(|| trimmed.len() - 1)
            });
            let (key, rest) = line.split_at(end.ok_or(NO)?);
            (key.trim_end().to_owned(), &rest[1..])
        }
    };
    // What begins so is a list, an anchor, a tag or a block.
    let is_other =
        |text: &str| text.starts_with(['-', '&', '*', '!', '|', '>', '?', '[', '%', '@']);
    let rest = rest.trim();
    let value = match rest.chars().next() {
        Some('"' | '\'') => {
            let (value, after) = quoted(rest).ok_or(NO)?;
            let after = after.trim_start();
            match after.is_empty() || after.starts_with('#') {
                true => value,
                false => return Err(NO),
            }
        }
        Some('#') => String::new(),
        _ => rest.split(" #").next().unwrap_or_default().trim_end().to_owned(),
    };
    let is_plain = !rest.starts_with(['"', '\'']);
    match is_other(&key) || key.is_empty() || (is_plain && is_other(&value)) {
        true => Err(NO),
        false => Ok((key, value)),
    }
}

/// A text in quotes from the start of a line, and what stands behind it. Of what a backslash means in double ones only `\\` and `\"` are
/// read.
fn quoted(line: &str) -> Option<(String, &str)> {
    let mark = line.chars().next()?;
    let mut out = String::new();
    let mut rest = line.get(1..)?;
    loop {
        let at = rest.find([mark, '\\'])?;
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let next = from.get(1..)?;
        rest = match (from.chars().next()?, next.chars().next()) {
            // Two of them in single ones are one (YAML 1.2, 7.3.2).
            ('\'', Some('\'')) if mark == '\'' => {
                out.push('\'');
                next.get(1..)?
            }
            (end, _) if end == mark => return Some((out, next)),
            (_, Some(what @ ('\\' | '"'))) if mark == '"' => {
                out.push(what);
                next.get(1..)?
            }
            (_, _) if mark == '"' => return None,
            (slash, _) => {
                out.push(slash);
                next
            }
        };
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
        assert_eq!(read("# nothing\n\n"), Ok(Web::default()));
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
                "line 2: `cert` is not known: tls_server_config has cert_file",
            ),
            ("tls_server_config:\n  cert_file: a\n", "tls_server_config has no key_file"),
            ("basic_auth_users: {a: b}\n", "line 1: `basic_auth_users` has lines below it"),
            ("basic_auth_users:\n  - a\n", "line 2: it is no `key: value`"),
            ("basic_auth_users:\n  a: *b\n", "line 2: it is no `key: value`"),
            ("basic_auth_users:\n\ta: b\n", "line 2: it is indented with a tab"),
            ("basic_auth_users:\n  a: b\n   c: d\n", "line 3: it is indented otherwise"),
            ("basic_auth_users:\n  a: b\n  a: c\n", "line 3: `a` stands there twice"),
            (
                "basic_auth_users:\nbasic_auth_users:\n",
                "line 2: `basic_auth_users` stands there twice",
            ),
            ("  a: b\n", "line 1: it is indented below nothing"),
            ("junk\n", "line 1: it is no `key: value`"),
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
