//! Where a direct requirement (`name @ …`, `./x.whl`) comes from, by its text alone.
//!
//! sconce takes wheels. Everything else (a folder, a source archive, a repository) runs code of its
//! own to say what it needs, and uv would run it on this machine: `--no-build` does not keep it from
//! editable ones (uv 0.13.9, measured). So all of it is refused before uv is asked.

use crate::wheel_name::file_of_url;

/// Where a wheel, an index or a collection of files is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the network, at this address.
    Network(String),
    /// On this machine, as the path was written (`file:` taken off, percent-decoded).
    Local(String),
}

/// Endings of source archives (PEP 625, and what pip and uv take besides).
const ARCHIVES: &[&str] =
    &[".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lzma", ".tar", ".zip"];

/// Schemes of repositories (pip, "VCS Support").
const REPOSITORIES: &[&str] = &["git", "hg", "svn", "bzr", "ssh"];

/// The place that a text names.
pub(crate) fn place(text: &str) -> Place {
    match scheme(text) {
        Some("file") => {
            let rest = text.get("file:".len()..).unwrap_or_default();
            let path = match rest.strip_prefix("//") {
                // An authority: this machine, whatever its name.
                Some(rest) => rest.find('/').map_or("", |at| &rest[at..]),
                None => rest,
            };
            let path = path.split(['?', '#']).next().unwrap_or(path);
            Place::Local(decoded(path).unwrap_or_else(|| path.to_owned()))
        }
        Some(_) if text.contains("://") => Place::Network(text.to_owned()),
        // `x:/../y` is a path, as for whoever opens it.
        _ => Place::Local(text.split('#').next().unwrap_or(text).to_owned()),
    }
}

/// The place of a wheel; in words, why what the text names is none.
pub(crate) fn wheel_place(text: &str) -> Result<Place, String> {
    let scheme = scheme(text).map(str::to_ascii_lowercase);
    if let Some(scheme) = &scheme
        && (scheme.contains('+') || REPOSITORIES.contains(&scheme.as_str()))
    {
        return Err("it is a repository, whose code would run here to build it".into());
    }
    let file = match &scheme {
        Some(scheme) if !matches!(scheme.as_str(), "http" | "https" | "file") => {
            return Err(format!("`{scheme}:` addresses are not read"));
        }
        Some(_) => file_of_url(text).unwrap_or_default(),
        None => {
            text.split('#').next().and_then(|path| path.rsplit('/').next()).unwrap_or("").into()
        }
    };
    let lower = file.to_ascii_lowercase();
    if lower.ends_with(".whl") {
        return Ok(place(text));
    }
    Err(match ARCHIVES.iter().any(|ending| lower.ends_with(ending)) {
        true => "it is a source distribution, whose code would run here to build it".into(),
        false if matches!(scheme.as_deref(), None | Some("file")) => {
            "it is a folder, whose code would run here to build it".into()
        }
        false => {
            "it is not a wheel, and what is not a wheel would run code here to be built".into()
        }
    })
}

/// Whether a text without `@` is a path or an address rather than a package's name.
pub(crate) fn is_place(text: &str) -> bool {
    let word = text.split([' ', '\t', ';', '[', '#']).next().unwrap_or(text);
    let lower = word.to_ascii_lowercase();
    scheme(text).is_some()
        || word.starts_with(['.', '/', '~', '\\'])
        || word.contains('/')
        || word.contains("${")
        || lower.ends_with(".whl")
        || ARCHIVES.iter().any(|ending| lower.ends_with(ending))
}

/// The scheme of an address (RFC 3986, section 3.1).
pub(crate) fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once(':')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let good = scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(plain);
    good.then_some(scheme)
        .map(|scheme| if scheme.eq_ignore_ascii_case("file") { "file" } else { scheme })
}

/// The variables that pip and uv put into a text: `${NAME}` (pip, "Using environment variables").
pub(crate) fn variables(text: &str) -> impl Iterator<Item = &str> {
    let name = |part: &'_ str| {
        let end = part.find('}')?;
        let name = part.get(..end)?;
        let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        (!name.is_empty() && name.chars().all(plain)).then_some(end)
    };
    text.split("${").skip(1).filter_map(move |part| part.get(..name(part)?))
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|d| (d as char).to_digit(16));
        let (high, low) = (digit()?, digit()?);
        bytes.push((high << 4 | low) as u8);
    }
    String::from_utf8(bytes).ok()
}

/// The `file:` address of an absolute path.
pub(crate) fn file_url(path: &std::path::Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut url = String::from("file://");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'+' => {
                url.push(*byte as char);
            }
            byte => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wheels_are_taken() {
        for good in [
            "./a-1-py3-none-any.whl",
            "/x/a-1-py3-none-any.whl",
            "file:///x/a-1-py3-none-any.whl",
            "https://h.invalid/a-1-py3-none-any.whl#sha256=00",
            "HTTPS://h.invalid/a-1-py3-none-any.WHL?x=1",
        ] {
            assert!(wheel_place(good).is_ok(), "{good}");
        }
        for (bad, word) in [
            (".", "folder"),
            ("./", "folder"),
            ("file:.", "folder"),
            ("FILE:///x", "folder"),
            ("${PWD}", "folder"),
            ("../a.zip", "source"),
            ("https://h.invalid/a-1.tar.gz#/b.whl", "source"),
            ("https://h.invalid/a-1.tar.gz?b.whl", "source"),
            ("git+https://h.invalid/a", "repository"),
            ("Git+ssh://h.invalid/a.whl", "repository"),
            ("ssh://h.invalid/a.whl", "repository"),
            ("ftp://h.invalid/a.whl", "`ftp:`"),
            ("https://h.invalid/a", "not a wheel"),
        ] {
            let words = wheel_place(bad).unwrap_err();
            assert!(words.contains(word), "{bad}: {words}");
        }
    }

    #[test]
    fn places_of_this_machine() {
        let local = |text: &str| Place::Local(text.into());
        assert_eq!(place("file:///a%20b/c.whl"), local("/a b/c.whl"));
        assert_eq!(place("file://localhost/a/c.whl#x"), local("/a/c.whl"));
        assert_eq!(place("file:../c.whl"), local("../c.whl"));
        assert_eq!(place("wheels"), local("wheels"));
        assert_eq!(place("x:/../../y"), local("x:/../../y"));
        assert_eq!(place("https://h.invalid/"), Place::Network("https://h.invalid/".into()));
        assert_eq!(file_url(std::path::Path::new("/a b/ü")), "file:///a%20b/%C3%BC");
    }

    #[test]
    fn variables_are_seen_as_pip_sees_them() {
        let names = |text| variables(text).collect::<Vec<_>>();
        assert_eq!(names("https://${USER}:${TOKEN_1}@h/${PWD}"), ["USER", "TOKEN_1", "PWD"]);
        assert!(names("$HOME ${lower} ${} ${A B} ${OPEN").is_empty());
    }
}
