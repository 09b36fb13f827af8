//! Logins: Docker's `config.json`, and the tokens a registry asks for.
//!
//! Source: distribution's "Token Authentication Specification"; RFC 9110, 11.6.1 (challenges);
//! docker/cli `configfile` for `auths`.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::error::Error;

/// Docker Hub's key among the logins.
const HUB_KEY: &str = "index.docker.io";
const MAX_FILE: u64 = 1 << 20;

/// User names and passwords by registry.
#[derive(Clone, Default)]
pub struct Logins {
    /// By host, without scheme and path.
    basic: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Logins {
    /// Reads Docker's `config.json`; a file that isn't there has no logins.
    ///
    /// # Errors
    /// [`Error::Logins`] for a file that can't be read or is no such file. What it holds stands in
    /// no error.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bad = |why: String| Error::Logins { path: path.to_owned(), why };
        let text = sconce_open::read_if_there(path, MAX_FILE);
        let Some(text) = text.map_err(|error| bad(error.to_string()))? else {
            return Ok(Self::default());
        };
        Self::parse(&text).map_err(|(line, column)| {
            bad(format!("no such file as `docker login` writes (line {line}, column {column})"))
        })
    }

    fn parse(text: &[u8]) -> Result<Self, (usize, usize)> {
        let config: Config =
            serde_json::from_slice(text).map_err(|error| (error.line(), error.column()))?;
        let mut basic = BTreeMap::new();
        for (host, auth) in config.auths {
            let pair = match (auth.auth, auth.username, auth.password) {
                (Some(coded), ..) if !coded.is_empty() => coded,
                (_, Some(user), Some(password)) => STANDARD.encode(format!("{user}:{password}")),
                // The password is with a credential helper.
                _ => continue,
            };
            basic.insert(bare(&host).to_owned(), pair);
        }
        Ok(Self { basic })
    }

    /// The login for a registry, coded as in a `Basic` header.
    pub(crate) fn get(&self, host: &str) -> Option<&str> {
        let key = if host == "docker.io" { HUB_KEY } else { host };
        self.basic.get(key).or_else(|| self.basic.get(host)).map(String::as_str)
    }
}

/// The host of a key of `auths`, which may be an address.
fn bare(key: &str) -> &str {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest);
    key.split('/').next().unwrap_or(key)
}

/// What a registry asks for with status 401.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A user name and password.
    Basic,
    /// A token from `realm`.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Reads a `WWW-Authenticate` header; `None` for a way that is not known here.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut fields = parameters(rest);
        Some(Self::Bearer {
            realm: fields.remove("realm")?,
            service: fields.remove("service"),
            scope: fields.remove("scope"),
        })
    }
}

/// `name="value"` parts, separated by commas; values may hold commas.
fn parameters(mut rest: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_start_matches([',', ' ']).trim().to_ascii_lowercase();
        let after = after.trim_start();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        out.insert(name, value.trim().to_owned());
        rest = next;
    }
    out
}

/// What the realm answers.
#[derive(Deserialize)]
pub(crate) struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Token {
    pub(crate) fn value(self) -> Option<String> {
        self.token.or(self.access_token).filter(|token| !token.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let bearer = r#"Bearer realm="https://auth.example.invalid/token",service="r.example.invalid",scope="repository:a/b:pull,push""#;
        assert_eq!(
            Challenge::parse(bearer),
            Some(Challenge::Bearer {
                realm: "https://auth.example.invalid/token".into(),
                service: Some("r.example.invalid".into()),
                scope: Some("repository:a/b:pull,push".into()),
            })
        );
        assert_eq!(Challenge::parse("basic realm=\"x\""), Some(Challenge::Basic));
        for other in ["", "Negotiate", "Bearer", "Bearer service=\"x\"", "Bearer realm", "=,=\"="] {
            assert_eq!(Challenge::parse(other), None, "{other}");
        }
    }

    #[test]
    fn docker_s_config() {
        let logins = Logins::parse(
            br#"{"auths":{
                "https://index.docker.io/v1/": {"auth": "aHVi"},
                "r.example.invalid:5000": {"username": "u", "password": "p"},
                "helped.example.invalid": {}
            }, "credsStore": "desktop"}"#,
        )
        .unwrap();
        assert_eq!(logins.get("docker.io"), Some("aHVi"));
        assert_eq!(logins.get("r.example.invalid:5000"), Some("dTpw"));
        assert_eq!(logins.get("r.example.invalid"), None);
        assert_eq!(logins.get("helped.example.invalid"), None);
        assert!(Logins::parse(b"{\"auths\": 3}").is_err());
        assert!(Logins::read(Path::new("/nonexistent/config.json")).is_ok());
    }
}
