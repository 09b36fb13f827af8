//! Addresses: which are taken, what is shown of one, the login that stands in one.

use url::Url;

use crate::error::Error;
use crate::netrc::Login;

/// The address without login, and without the values of its query (they may be signatures).
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    if url.query().is_some() {
        url.set_query(Some("..."));
    }
    url.to_string()
}

/// A text with its addresses as [`shown`] has them: without logins, and without the values of queries. For words
/// that others wrote (uv, a server), in which an address may stand whole.
pub fn without_secrets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let ends = |c: char| c.is_whitespace() || c.is_control() || "`'\"<>".contains(c);
        let (address, more) = after.split_at(after.find(ends).unwrap_or(after.len()));
        let (authority, path) =
            address.split_at(address.find(['/', '?', '#']).unwrap_or(address.len()));
        out.push_str(authority.rsplit('@').next().unwrap_or(authority));
        match path.split_once('?') {
            // At the end of a sentence it is a question.
            Some((path, query)) if query.chars().any(char::is_alphanumeric) => {
                out.push_str(path);
                out.push_str("?...");
            }
            _ => out.push_str(path),
        }
        rest = more;
    }
    out.push_str(rest);
    out
}

/// An address sconce can fetch: `http:`, `https:` or `file:`.
pub fn parse(url: &str) -> Result<Url, Error> {
    let bad = |why: String| {
        // What doesn't parse may hold a password all the same.
        let shown = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
        let shown = shown.split_once('?').map_or(shown, |(address, _)| address);
        Error::BadUrl { url: shown.chars().take(200).collect(), why }
    };
    let parsed = Url::parse(url).map_err(|error| bad(error.to_string()))?;
    match parsed.scheme() {
        "http" | "https" if parsed.has_host() => Ok(parsed),
        "file" => Ok(parsed),
        other => Err(bad(format!("`{other}:` addresses are not supported"))),
    }
}

/// The path of a `file:` address.
pub(crate) fn local_path(url: &Url) -> Result<Option<std::path::PathBuf>, Error> {
    if url.scheme() != "file" {
        return Ok(None);
    }
    url.to_file_path().map(Some).map_err(|()| Error::BadUrl {
        url: url.to_string(),
        why: "it names no path on this machine".to_owned(),
    })
}

/// The login that stands in an address.
pub(super) fn login_in(url: &Url) -> Option<Login> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let plain =
        |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some(Login { user: plain(url.username()), password: plain(url.password().unwrap_or("")) })
}

#[cfg(test)]
mod tests {
    use super::without_secrets;

    #[test]
    fn words_of_others_keep_no_secret() {
        for (text, expected) in [
            (
                "can't fetch `a @ https://me:pa@ss@h.invalid/a.whl?token=abc#x`: 403",
                "can't fetch `a @ https://h.invalid/a.whl?...`: 403",
            ),
            ("https://u@h https://h/x?a=b\nnext", "https://h https://h/x?...\nnext"),
            ("is it https://h/x? or ://? no", "is it https://h/x? or ://? no"),
            ("me@h.invalid, a?b=c", "me@h.invalid, a?b=c"),
        ] {
            assert_eq!(without_secrets(text), expected);
        }
    }
}
