//! What is needed to download and stands in no lock: logins of package indexes, those in the addresses that uv and
//! pip have configured and those that uv takes from variables by the name of an index (uv, "Authentication"); and
//! logins and queries (tokens, signatures) of the addresses that a project names.

use std::ffi::OsString;

use sconce_fetch::http::Client;
use sconce_fetch::indexes::Configured;
use sconce_lock::Spec;
use url::Url;

/// Hands a client the logins and queries of the addresses that the machine's configuration and a project name. What a
/// project's names draw on is among what a person is asked to trust (`sconce_lock::reaches`).
pub(crate) fn add(
    client: &Client,
    configured: &Configured,
    spec: &Spec,
    env: &dyn Fn(&str) -> Option<OsString>,
) {
    for url in configured.default.iter().chain(&configured.find_links) {
        client.remember(url);
    }
    let indexes = spec.environment.indexes.iter();
    let named = indexes.map(|index| (Some(&index.name), &index.url));
    for (name, url) in named.chain(configured.extra.iter().map(|(name, url)| (name.as_ref(), url)))
    {
        client.remember(url);
        if let Some(url) = name.and_then(|name| with_login(name, url, env)) {
            client.remember(&url);
        }
    }
    for url in spec.addresses(env) {
        client.remember(&url);
    }
}

/// The address with the login that variables give for the index of this name.
fn with_login(name: &str, url: &str, env: &dyn Fn(&str) -> Option<OsString>) -> Option<String> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let variable = |part: &str| {
        let name: String = name.chars().map(plain).collect();
        env(&format!("UV_INDEX_{name}_{part}"))?.into_string().ok().filter(|text| !text.is_empty())
    };
    let (user, password) = (variable("USERNAME"), variable("PASSWORD"));
    if user.is_none() && password.is_none() {
        return None;
    }
    let mut url = Url::parse(url).ok()?;
    url.set_username(&user.unwrap_or_default()).ok()?;
    url.set_password(password.as_deref()).ok()?;
    Some(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_go_by_the_name_of_the_index() {
        let env = |name: &str| match name {
            "UV_INDEX_LAB_X_USERNAME" => Some("me@lab".into()),
            "UV_INDEX_LAB_X_PASSWORD" => Some("s:e/cret".into()),
            _ => None,
        };
        assert_eq!(
            with_login("lab-x", "https://h.invalid/simple", &env).as_deref(),
            Some("https://me%40lab:s%3Ae%2Fcret@h.invalid/simple")
        );
        assert_eq!(with_login("lab", "https://h.invalid/simple", &env), None);
        assert_eq!(with_login("lab-x", "./wheels", &env), None);
    }
}
