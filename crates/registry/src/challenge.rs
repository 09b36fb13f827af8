//! What a registry asks for with status 401, and the tokens that answer it.
//!
//! Source: distribution's "Token Authentication Specification" and "OAuth2 Token Authentication";
//! RFC 9110, 11.6.1 (challenges).

use std::collections::BTreeMap;

use serde::Deserialize;

/// The longest name of a scheme that is shown, bytes.
const MAX_SCHEME: usize = 40;

/// What a registry asks for with status 401.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A user name and password.
    Basic,
    /// A token from `realm`.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// Why no challenge of a registry can be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWay {
    /// It wants a login of kinds that are not known here.
    #[error("wants a login by {}, which is not supported", .0.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or "))]
    Schemes(Vec<String>),
    /// It wants a token, and has no `realm`.
    #[error(
        "wants a token (`Bearer`) and does not say from where: its WWW-Authenticate has no realm"
    )]
    NoRealm,
}

impl Challenge {
    /// Reads `WWW-Authenticate` headers, each of which may have several challenges: the first that can be answered. `None` where there
    /// is none at all.
    ///
    /// # Errors
    /// There are others alone.
    pub(crate) fn of<'a>(
        headers: impl IntoIterator<Item = &'a str>,
    ) -> Result<Option<Self>, NoWay> {
        let (mut others, mut without_realm) = (Vec::new(), false);
        for (scheme, rest) in headers.into_iter().flat_map(schemes) {
            if scheme.eq_ignore_ascii_case("basic") {
                return Ok(Some(Self::Basic));
            }
            if !scheme.eq_ignore_ascii_case("bearer") {
                others.push(scheme);
                continue;
            }
            let mut fields = parameters(&rest);
            match fields.remove("realm") {
                Some(realm) => {
                    let (service, scope) = (fields.remove("service"), fields.remove("scope"));
                    return Ok(Some(Self::Bearer { realm, service, scope }));
                }
                None => without_realm = true,
            }
        }
        others.dedup();
        match (without_realm, others.is_empty()) {
            (true, _) => Err(NoWay::NoRealm),
            (false, false) => Err(NoWay::Schemes(others)),
            (false, true) => Ok(None),
        }
    }
}

/// The challenges of a header: each scheme with what stands behind it. A part without `=` behind its first word begins a new one.
fn schemes(header: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut quoted = false;
    let parts = header.split(|c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    for part in parts.map(str::trim) {
        let (word, rest) = part.split_once([' ', '\t']).unwrap_or((part, ""));
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_scheme = (1..=MAX_SCHEME).contains(&word.len()) && word.chars().all(is_name);
        if is_scheme && !rest.trim_start().starts_with('=') {
            found.push((word.to_owned(), rest.to_owned()));
        } else if let Some((_, fields)) = found.last_mut() {
            *fields += ", ";
            *fields += part;
        }
    }
    found
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
            Challenge::of([bearer]),
            Ok(Some(Challenge::Bearer {
                realm: "https://auth.example.invalid/token".into(),
                service: Some("r.example.invalid".into()),
                scope: Some("repository:a/b:pull,push".into()),
            }))
        );
        for basic in ["basic realm=\"x\"", "Negotiate, Basic realm = \"x, y\"", "Bearer, Basic"] {
            assert_eq!(Challenge::of([basic]), Ok(Some(Challenge::Basic)), "{basic}");
        }
        assert_eq!(Challenge::of(["Negotiate", "Basic"]), Ok(Some(Challenge::Basic)));
        for other in ["", "=,=\"=", ", ,", "\"Negotiate\""] {
            assert_eq!(Challenge::of([other]), Ok(None), "{other}");
        }
        for other in ["Bearer", "Bearer service=\"x\"", "Bearer realm", "Negotiate, Bearer"] {
            assert_eq!(Challenge::of([other]), Err(NoWay::NoRealm), "{other}");
        }
        for (other, names) in [
            ("Negotiate", &["Negotiate"][..]),
            ("Negotiate YII=, NTLM", &["Negotiate", "NTLM"]),
            ("Digest realm=\"a, Basic b\", nonce=\"Basic\"", &["Digest"]),
        ] {
            let names = names.iter().map(ToString::to_string).collect();
            assert_eq!(Challenge::of([other]), Err(NoWay::Schemes(names)), "{other}");
        }
    }
}
