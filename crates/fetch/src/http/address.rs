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

/// An address sconce can fetch: `http:`, `https:` or `file:`.
pub fn parse(url: &str) -> Result<Url, Error> {
    let bad = |why: String| {
        // What doesn't parse may hold a password all the same.
        let shown = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
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
