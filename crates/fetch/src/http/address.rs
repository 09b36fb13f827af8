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
        match authority.rsplit_once('@') {
            // Where somebody's variable goes is what `sconce trust` is read for; its value stands elsewhere.
            Some((login, _)) if is_variables(login) => out.push_str(authority),
            Some((_, host)) => out.push_str(host),
            None => out.push_str(authority),
        }
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

/// An address as it may lie where others can read it: without the login, which whoever asks again has from where this
/// one had it. Nothing where it has a query: many are tokens or signatures, and without it the address leads nowhere.
pub fn to_be_kept(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    url.query().is_none().then(|| bare(&url).into())
}

/// Whether a login is nothing but names of variables: `${USER}:${TOKEN}`.
fn is_variables(login: &str) -> bool {
    login.split(':').all(|part| {
        let name = part.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        name.is_some_and(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
    })
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

/// An address without login and fragment.
pub(super) fn bare(url: &Url) -> Url {
    let mut bare = url.clone();
    // Neither fails for an http or https address, which `parse` has made sure of.
    let _ = bare.set_username("");
    let _ = bare.set_password(None);
    bare.set_fragment(None);
    bare
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
    use super::{to_be_kept, without_secrets};

    #[test]
    fn what_is_kept_of_an_address_is_no_secret() {
        let kept = |url| to_be_kept(url);
        let bare = Some("https://h.invalid/a%2Bb.whl".to_owned());
        assert_eq!(kept("https://me:word@h.invalid/a%2Bb.whl#sha256=0"), bare);
        assert_eq!(kept("https://h.invalid/a%2Bb.whl"), bare);
        assert_eq!(kept("https://h.invalid/a.whl?X-Amz-Signature=1"), None);
        assert_eq!(kept("file:///a.whl").as_deref(), Some("file:///a.whl"));
        assert_eq!(kept("./a.whl"), None);
    }

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
            ("`https://${U}:${TOKEN_1}@h/`", "`https://${U}:${TOKEN_1}@h/`"),
            ("https://me:${TOKEN}@h/ https://${a}b@h", "https://h/ https://h"),
        ] {
            assert_eq!(without_secrets(text), expected);
        }
    }
}
