//! What a path asks for (distribution-spec 1.1, "Endpoints").

use sconce_blob::Digest;

use crate::error::Refusal;

/// The longest name of a repository, as `distribution/reference` has it.
const MAX_NAME: usize = 255;
/// The longest tag.
const MAX_TAG: usize = 128;

/// Which image of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The one with this tag.
    Tag(String),
    /// The one with this digest.
    Digest(Digest),
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`: whether this is a registry.
    Base,
    /// `/v2/_catalog`: the repositories.
    Catalog,
    /// `/v2/NAME/tags/list`.
    Tags(String),
    /// `/v2/NAME/manifests/TAG` or `.../DIGEST`.
    Manifest(String, Wanted),
    /// `/v2/NAME/referrers/DIGEST`: what there is about an image.
    Referrers(String, Digest),
    /// `/v2/NAME/blobs/DIGEST`.
    Blob(Digest),
    /// `/locks/NAME:TAG`, which is sconce's own: the lock of a tag that was built.
    Lock(String),
}

/// Reads a path. Letters in other writings than their own (`%2e`) are in no name.
///
/// # Errors
/// There is nothing of that kind; the name, tag or digest is none.
pub fn route(path: &str) -> Result<Route, Refusal> {
    if let Some(name) = path.strip_prefix("/locks/") {
        return match name.split_once(':') {
            Some((repository, tag)) if is_name(repository) && is_tag(tag) => {
                Ok(Route::Lock(name.to_owned()))
            }
            _ => Err(Refusal::name_invalid()),
        };
    }
    let rest = match path {
        "/v2" | "/v2/" => return Ok(Route::Base),
        "/v2/_catalog" => return Ok(Route::Catalog),
        _ => path.strip_prefix("/v2/").ok_or_else(Refusal::nothing_here)?,
    };
    // A repository may itself be called `a/blobs/b`: the last of them counts.
    let mut words = rest.rsplitn(3, '/');
    let (Some(last), Some(kind), Some(name)) = (words.next(), words.next(), words.next()) else {
        return Err(Refusal::nothing_here());
    };
    if !matches!((kind, last), ("tags", "list") | ("manifests" | "blobs" | "referrers", _)) {
        return Err(Refusal::nothing_here());
    }
    if !is_name(name) {
        return Err(Refusal::name_invalid());
    }
    let digest = || last.parse::<Digest>().map_err(|_| Refusal::digest_invalid());
    Ok(match kind {
        "tags" => Route::Tags(name.to_owned()),
        "blobs" => Route::Blob(with_algorithm(last).and_then(|()| digest())?),
        "referrers" => {
            with_algorithm(last)?;
            Route::Referrers(name.to_owned(), digest()?)
        }
        _ if last.contains(':') => {
            with_algorithm(last)?;
            Route::Manifest(name.to_owned(), Wanted::Digest(digest()?))
        }
        _ if is_tag(last) => Route::Manifest(name.to_owned(), Wanted::Tag(last.to_owned())),
        _ => return Err(Refusal::manifest_unknown("this is not a tag")),
    })
}

/// An upload, or all of a repository: `/v2/NAME/blobs/uploads/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upload {
    pub(crate) repository: String,
    pub(crate) id: Option<String>,
}

/// Which upload a path means; nothing where it means none.
pub(crate) fn upload(path: &str) -> Result<Option<Upload>, Refusal> {
    const BEHIND: &str = "/blobs/uploads";
    let Some(rest) = path.strip_prefix("/v2/") else { return Ok(None) };
    let Some(at) = rest.rfind(BEHIND) else { return Ok(None) };
    let (repository, id) = (&rest[..at], &rest[at + BEHIND.len()..]);
    let id = match id {
        "" | "/" => None,
        _ => match id.strip_prefix('/') {
            Some(id) if id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) => Some(id),
            _ => return Ok(None),
        },
    };
    match is_name(repository) {
        true => Ok(Some(Upload { repository: repository.to_owned(), id: id.map(str::to_owned) })),
        false => Err(Refusal::name_invalid()),
    }
}

/// Only SHA-256 is kept here, and a digest says so.
fn with_algorithm(text: &str) -> Result<(), Refusal> {
    match text.starts_with("sha256:") {
        true => Ok(()),
        false => Err(Refusal::digest_invalid()),
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, several with slashes between them.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |part: &str| {
        let separators = part.as_bytes().split(plain).filter(|run| !run.is_empty());
        part.as_bytes().first().is_some_and(plain)
            && part.as_bytes().last().is_some_and(plain)
            && separators.into_iter().all(|run| {
                matches!(run, b"." | b"_" | b"__") || run.iter().all(|byte| *byte == b'-')
            })
    };
    name.len() <= MAX_NAME && name.split('/').all(is_part)
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
pub(crate) fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_specification() {
        let digest = Digest::of(b"x");
        let tag = |tag: &str| Wanted::Tag(tag.to_owned());
        for (path, expected) in [
            ("/v2/".to_owned(), Route::Base),
            ("/v2".to_owned(), Route::Base),
            ("/v2/_catalog".to_owned(), Route::Catalog),
            ("/v2/a/b/tags/list".to_owned(), Route::Tags("a/b".to_owned())),
            ("/v2/a/manifests/1.0-x_Y".to_owned(), Route::Manifest("a".to_owned(), tag("1.0-x_Y"))),
            (
                format!("/v2/a/manifests/{digest}"),
                Route::Manifest("a".to_owned(), Wanted::Digest(digest)),
            ),
            (format!("/v2/a/blobs/b/blobs/{digest}"), Route::Blob(digest)),
            (format!("/v2/a/b/referrers/{digest}"), Route::Referrers("a/b".to_owned(), digest)),
            ("/locks/torch:2.15.0".to_owned(), Route::Lock("torch:2.15.0".to_owned())),
        ] {
            assert_eq!(route(&path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn paths_of_uploads() {
        let id = "0123456789abcdef0123456789ABCDEF";
        let found = |path: &str| upload(path).map(|found| found.map(|u| (u.repository, u.id)));
        for path in ["/v2/a/b/blobs/uploads", "/v2/a/b/blobs/uploads/"] {
            assert_eq!(found(path).unwrap(), Some(("a/b".to_owned(), None)), "{path}");
        }
        let path = format!("/v2/a/blobs/uploads/blobs/uploads/{id}");
        let expected = Some(("a/blobs/uploads".to_owned(), Some(id.to_owned())));
        assert_eq!(found(&path).unwrap(), expected);
        for path in ["/v2/a/blobs/uploads/x", "/v2/a/blobs/sha256:0", "/x/a/blobs/uploads/"] {
            assert_eq!(found(path).unwrap(), None, "{path}");
        }
        assert!(
            found("/v2/../a/blobs/uploads/").is_err() && found("/v2/A/blobs/uploads/").is_err()
        );
    }

    #[test]
    fn paths_that_lead_nowhere() {
        let hex = Digest::of(b"x").hex();
        for path in [
            "/".to_owned(),
            "/v1/".to_owned(),
            "/v2//".to_owned(),
            "/v2/../etc/passwd".to_owned(),
            "/v2/a/../../b/manifests/1".to_owned(),
            "/v2/a/manifests/..".to_owned(),
            "/v2/a/manifests/%2e%2e".to_owned(),
            "/v2/%61/manifests/1".to_owned(),
            "/v2/A/manifests/1".to_owned(),
            "/v2/a//b/manifests/1".to_owned(),
            "/v2/a___b/manifests/1".to_owned(),
            "/v2/a-/manifests/1".to_owned(),
            "/v2/a:5000/b/manifests/1".to_owned(),
            "/v2/a/manifests/".to_owned(),
            "/v2/a/manifests/-x".to_owned(),
            "/v2/manifests/1".to_owned(),
            "/v2/a/tags/lists".to_owned(),
            "/v2/a/referrers/1".to_owned(),
            format!("/v2/A/referrers/sha256:{hex}"),
            format!("/v2/a/blobs/{hex}"),
            format!("/v2/a/blobs/sha256:{}", &hex[1..]),
            format!("/v2/a/blobs/sha512:{hex}{hex}"),
            format!("/v2/a/blobs/sha256:{hex}/"),
            format!("/v2/{}/manifests/1", "a".repeat(256)),
            format!("/v2/a/manifests/{}", "a".repeat(129)),
            "/locks/../x:1".to_owned(),
            "/locks/x".to_owned(),
        ] {
            assert!(route(&path).is_err(), "{path}");
        }
        for name in ["a", "a/b-c/d__e.f", "0--1", "ghcr.io/team/app"] {
            assert!(is_name(name), "{name}");
        }
    }
}
