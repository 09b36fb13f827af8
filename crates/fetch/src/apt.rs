//! Where this host's apt gets Debian's packages from, and with whose keys.
//!
//! Source: sources.list(5) for both formats, apt-transport-mirror(1), apt-secure(8), apt.conf(5).
//! A host that is no Debian has no such sources; then the mirror must be named.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sconce_debian::{Fetch, FetchError, Keyring, Mirror, Mirrors, SignatureError, Stanza, Stanzas};

use crate::http;

/// Names the mirror of Debian's archive when the specification doesn't.
pub const MIRROR_VARIABLE: &str = "SCONCE_DEBIAN_MIRROR";

/// The largest file of apt's configuration that is read, bytes.
const MAX_FILE: u64 = 4 << 20;
/// The most mirrors taken from apt's configuration.
const MAX_MIRRORS: usize = 64;
/// First parts of the names of Debian's suites. A mirror of any release has them all, so a host
/// of one release can lock an image of another.
const SUITES: [&str; 13] = [
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "stable",
    "oldstable",
    "oldoldstable",
    "testing",
    "unstable",
    "experimental",
];

/// What can go wrong while looking for a mirror.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither the specification, nor the environment, nor apt names a mirror.
    #[error("no mirror of Debian is known: this host's apt has no sources of Debian")]
    NoMirror,
    /// An address that is none.
    #[error("`{url}` is not a mirror's address")]
    BadMirror {
        /// As it was given.
        url: String,
    },
    /// A file of apt's configuration can't be read.
    #[error("{} can't be read", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of apt's configuration is malformed.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// Which one.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// A keyring holds no key that can be used.
    #[error("the keys of {what} can't be used")]
    Keys {
        /// The keyring's path, or where it stands.
        what: String,
        /// Why.
        #[source]
        source: SignatureError,
    },
}

impl Error {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoMirror => Some(format!(
                "set `mirror` in [base] of sconce.toml, or {MIRROR_VARIABLE}, to the address of a \
                 Debian mirror: the one above its dists/ and pool/"
            )),
            Self::BadMirror { .. } => {
                Some("a mirror's address begins with https://, http:// or file:///".into())
            }
            Self::Read { .. } | Self::Malformed { .. } => {
                Some("`apt-get update` on this host should say the same".into())
            }
            Self::Keys { .. } => Some("correct `Signed-By` in apt's sources".into()),
        }
    }
}

/// The mirrors to use: `mirror` (the specification's) if there is one, else the one the
/// environment names, else those of apt's sources below `host` (`/` but for tests).
///
/// A mirror that is named serves the security archive beside it; apt's sources name both.
pub fn mirrors(mirror: Option<&str>, host: &Path) -> Result<Mirrors, Error> {
    let variable = std::env::var(MIRROR_VARIABLE).ok().filter(|value| !value.is_empty());
    match mirror.or(variable.as_deref()) {
        Some(url) => named(url),
        None => of_host(host),
    }
}

/// A mirror that was named, with Debian's own keys. A dated snapshot's `Valid-Until` has passed
/// by its nature.
pub fn named(url: &str) -> Result<Mirrors, Error> {
    let url = url.trim();
    if !["https://", "http://", "file:///"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(Error::BadMirror { url: url.to_owned() });
    }
    let main = Mirror {
        url: url.trim_end_matches('/').to_owned(),
        keyring: debian_keys()?,
        check_valid_until: !is_dated(url),
        must_be_debian: false,
    };
    Ok(Mirrors { main: vec![main], ..Mirrors::default() })
}

/// The mirrors that apt on this host uses.
pub fn of_host(host: &Path) -> Result<Mirrors, Error> {
    let apt = host.join("etc/apt");
    let mut entries = Vec::new();
    let list = apt.join("sources.list");
    if let Some(text) = read_if_there(&list)? {
        one_line(&text, &list, &mut entries)?;
    }
    for path in files_in(&apt.join("sources.list.d"))? {
        let Some(text) = read_if_there(&path)? else { continue };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("list") => one_line(&text, &path, &mut entries)?,
            Some("sources") => deb822(&text, &path, &mut entries)?,
            _ => {}
        }
    }
    let lenient = ignores_valid_until(&apt)?;
    let mut mirrors = Mirrors::default();
    for entry in entries.iter().filter(|entry| entry.components.iter().any(|c| c == "main")) {
        for suite in &entry.suites {
            let base = suite.split(['-', '/']).next().unwrap_or_default();
            if !SUITES.contains(&base) {
                continue;
            }
            let security = suite.ends_with("-security") || suite.ends_with("/updates");
            let urls = addresses(&entry.url, host)?;
            let list = if security { &mut mirrors.security } else { &mut mirrors.main };
            for url in urls {
                if list.len() >= MAX_MIRRORS || list.iter().any(|known| known.url == url) {
                    continue;
                }
                list.push(Mirror {
                    check_valid_until: !(lenient || entry.lenient || is_dated(&url)),
                    keyring: keys(&entry.signed_by, host)?,
                    must_be_debian: true,
                    url,
                });
            }
        }
    }
    if mirrors.main.is_empty() {
        return Err(Error::NoMirror);
    }
    Ok(mirrors)
}

/// One source of apt's.
#[derive(Debug, Default)]
struct SourceEntry {
    url: String,
    suites: Vec<String>,
    components: Vec<String>,
    /// Paths, or an armoured key.
    signed_by: String,
    lenient: bool,
}

/// `deb [option=value ...] address suite component ...`
fn one_line(text: &str, path: &Path, entries: &mut Vec<SourceEntry>) -> Result<(), Error> {
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t', '[']))
        else {
            continue;
        };
        let fault = || Error::Malformed {
            path: path.to_owned(),
            reason: format!("line {}: not `deb [options] address suite components`", number + 1),
        };
        let rest = rest.trim_start();
        let mut entry = SourceEntry::default();
        let rest = match rest.strip_prefix('[') {
            None => rest,
            Some(options) => {
                let (options, rest) = options.split_once(']').ok_or_else(fault)?;
                for option in options.split_ascii_whitespace() {
                    match option.split_once('=') {
                        Some(("signed-by", paths)) => entry.signed_by = paths.replace(',', "\n"),
                        Some(("check-valid-until", value)) => entry.lenient = is_no(value),
                        _ => {}
                    }
                }
                rest
            }
        };
        let mut words = rest.split_ascii_whitespace();
        let (Some(url), Some(suite)) = (words.next(), words.next()) else { return Err(fault()) };
        entry.url = url.to_owned();
        entry.suites.push(suite.to_owned());
        entry.components.extend(words.map(str::to_owned));
        entries.push(entry);
    }
    Ok(())
}

/// Stanzas with `Types`, `URIs`, `Suites`, `Components`.
fn deb822(text: &str, path: &Path, entries: &mut Vec<SourceEntry>) -> Result<(), Error> {
    let mut stanzas = Stanzas::new(text.as_bytes());
    let fault = |error: sconce_debian::ControlError| Error::Malformed {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    while let Some(stanza) = stanzas.next_stanza().map_err(fault)? {
        let enabled = stanza.get("Enabled").is_none_or(|value| !is_no(value));
        if !enabled || !words(&stanza, "Types").any(|kind| kind == "deb") {
            continue;
        }
        for url in words(&stanza, "URIs") {
            entries.push(SourceEntry {
                url: url.to_owned(),
                suites: words(&stanza, "Suites").map(str::to_owned).collect(),
                components: words(&stanza, "Components").map(str::to_owned).collect(),
                signed_by: stanza.get("Signed-By").unwrap_or_default().to_owned(),
                lenient: stanza.get("Check-Valid-Until").is_some_and(is_no),
            });
        }
    }
    Ok(())
}

fn words<'a>(stanza: &'a Stanza, field: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    stanza.get(field).unwrap_or_default().split_ascii_whitespace()
}

fn is_no(value: &str) -> bool {
    matches!(value.trim().to_ascii_lowercase().as_str(), "no" | "false" | "0" | "off" | "without")
}

/// Whether the address holds a snapshot's date: `20260101T000000Z`.
fn is_dated(url: &str) -> bool {
    url.split('/').any(|part| {
        let bytes = part.as_bytes();
        bytes.len() == 16
            && bytes.iter().enumerate().all(|(at, byte)| match at {
                8 => *byte == b'T',
                15 => *byte == b'Z',
                _ => byte.is_ascii_digit(),
            })
    })
}

/// An address as apt means it: `mirror+file:` names a file with one address a line. Kinds that
/// are no download (`cdrom:`, `copy:`) are left out.
fn addresses(url: &str, host: &Path) -> Result<Vec<String>, Error> {
    let clean = |url: &str| url.trim_end_matches('/').to_owned();
    let usable = |url: &str| {
        ["http://", "https://", "file:///"].iter().any(|scheme| url.starts_with(scheme))
    };
    if let Some(list) = url.strip_prefix("mirror+file:") {
        let path = host.join(list.trim_start_matches('/'));
        let text = read(&path)?;
        let first =
            |line: &str| line.split_ascii_whitespace().next().unwrap_or_default().to_owned();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#')).map(first);
        return Ok(lines.filter(|url| usable(url)).map(|url| clean(&url)).collect());
    }
    let url = match url.strip_prefix("file:/") {
        Some(path) if !path.starts_with("//") => {
            format!("file:///{}", path.trim_start_matches('/'))
        }
        _ => url.to_owned(),
    };
    Ok(if usable(&url) { vec![clean(&url)] } else { Vec::new() })
}

fn debian_keys() -> Result<Keyring, Error> {
    Keyring::debian().map_err(|source| Error::Keys { what: "Debian in sconce".into(), source })
}

/// Debian's keys, and those of `Signed-By`, or apt's own where there is none.
fn keys(signed_by: &str, host: &Path) -> Result<Keyring, Error> {
    let mut keyring = debian_keys()?;
    if signed_by.contains("-----BEGIN PGP") {
        // deb822 has a full stop where the key has an empty line.
        let key: Vec<_> = signed_by
            .lines()
            .map(|line| if line.trim() == "." { "" } else { line.trim() })
            .collect();
        keyring
            .add(key.join("\n").trim().as_bytes())
            .map_err(|source| Error::Keys { what: "an inline `Signed-By`".into(), source })?;
        return Ok(keyring);
    }
    let named: Vec<&str> = signed_by.split_ascii_whitespace().collect();
    for path in named.iter().filter(|path| path.starts_with('/')) {
        let path = host.join(path.trim_start_matches('/'));
        let bytes = read_bytes(&path)?;
        keyring
            .add(&bytes)
            .map_err(|source| Error::Keys { what: path.display().to_string(), source })?;
    }
    if named.is_empty() {
        let mut files = files_in(&host.join("etc/apt/trusted.gpg.d"))?;
        files.push(host.join("etc/apt/trusted.gpg"));
        for path in files {
            // Any archive's keys are here; apt goes on past those it can't use, and so do we.
            if let Ok(bytes) = read_bytes(&path) {
                let _ = keyring.add(&bytes);
            }
        }
    }
    Ok(keyring)
}

/// Whether apt.conf says `Acquire::Check-Valid-Until "false";`, written on one line.
fn ignores_valid_until(apt: &Path) -> Result<bool, Error> {
    let mut files = files_in(&apt.join("apt.conf.d"))?;
    files.push(apt.join("apt.conf"));
    let mut lenient = false;
    for path in files {
        let Some(text) = read_if_there(&path)? else { continue };
        for line in text.lines() {
            let line = line.trim();
            let key = line.get(..26).unwrap_or_default();
            if key.eq_ignore_ascii_case("Acquire::Check-Valid-Until") {
                let value = line.get(26..).unwrap_or_default();
                lenient = is_no(value.trim().trim_end_matches(';').trim().trim_matches('"'));
            }
        }
    }
    Ok(lenient)
}

/// Files of a folder by name; none if it isn't there.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let fault = |source| Error::Read { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fault(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(fault)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let fault = |source| Error::Read { path: path.to_owned(), source };
    sconce_open::read(path, MAX_FILE).map_err(fault)
}

fn read(path: &Path) -> Result<String, Error> {
    let utf8 = |_| Error::Malformed { path: path.to_owned(), reason: "it isn't UTF-8".into() };
    String::from_utf8(read_bytes(path)?).map_err(utf8)
}

fn read_if_there(path: &Path) -> Result<Option<String>, Error> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Fetch for http::Client {
    fn get(&self, url: &str, limit: u64) -> Result<Option<Vec<u8>>, FetchError> {
        match self.get_bytes(url, limit) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(crate::Error::Status { status: 404 | 410, .. }) => Ok(None),
            // A mirror on disk.
            Err(crate::Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host with these files, and what its mirrors are: kind, address, strictness.
    fn check(files: &[(&str, &str)], expected: &[&str]) {
        let host = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = host.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found = match of_host(host.path()) {
            Ok(mirrors) => {
                let show = |kind: &str, mirror: &Mirror| {
                    let strict = if mirror.check_valid_until { "strict" } else { "lenient" };
                    format!("{kind} {} {strict} {} keys", mirror.url, mirror.keyring.len())
                };
                let main = mirrors.main.iter().map(|mirror| show("main", mirror));
                let security = mirrors.security.iter().map(|mirror| show("security", mirror));
                main.chain(security).collect::<Vec<_>>()
            }
            Err(error) => {
                let root = format!("{}/", host.path().display());
                vec![error.to_string().replace(&root, "")]
            }
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn debian_s_own_form() {
        check(
            &[
                (
                    "etc/apt/sources.list.d/debian.sources",
                    "Types: deb deb-src\n# a comment\nURIs: http://a.invalid/debian\n\
                     Suites: bookworm bookworm-updates\nComponents: main contrib\n\n\
                     Types: deb\nURIs: http://a.invalid/debian-security/\n\
                     Suites: bookworm-security\nComponents: main\nCheck-Valid-Until: no\n",
                ),
                (
                    "etc/apt/sources.list.d/other.sources",
                    "Types: deb\nURIs: http://other.invalid/\nSuites: nodistro\n\
                     Components: main\nSigned-By: /usr/share/keyrings/missing.gpg\n",
                ),
                (
                    "etc/apt/sources.list.d/off.sources",
                    "Types: deb\nEnabled: no\nURIs: http://off.invalid/\nSuites: sid\n\
                     Components: main\n",
                ),
            ],
            &[
                "main http://a.invalid/debian strict 6 keys",
                "security http://a.invalid/debian-security lenient 6 keys",
            ],
        );
    }

    #[test]
    fn the_old_form_and_mirror_lists_and_snapshots() {
        check(
            &[
                (
                    "etc/apt/sources.list",
                    "# deb http://no.invalid/debian trixie main\n\
                     deb-src http://no.invalid/debian trixie main\n\
                     deb [arch=amd64 check-valid-until=no] http://b.invalid/debian/ trixie main\n\
                     deb http://b.invalid/debian trixie-updates main # again\n\
                     deb http://c.invalid/debian bullseye/updates main\n\
                     deb mirror+file:/etc/apt/mirrors.list trixie main\n\
                     deb file:/srv/debian trixie main\n\
                     deb cdrom:[Debian]/ trixie main\n\
                     deb http://snap.invalid/debian/20260101T000000Z trixie main\n\
                     deb http://d.invalid/debian trixie contrib\n",
                ),
                ("etc/apt/mirrors.list", "# mirrors\nhttps://m1.invalid/debian\tpriority:1\n"),
            ],
            &[
                "main http://b.invalid/debian lenient 6 keys",
                "main https://m1.invalid/debian strict 6 keys",
                "main file:///srv/debian strict 6 keys",
                "main http://snap.invalid/debian/20260101T000000Z lenient 6 keys",
                "security http://c.invalid/debian strict 6 keys",
            ],
        );
    }

    #[test]
    fn a_host_without_debian_is_told_what_to_do() {
        let ubuntu = "Types: deb\nURIs: http://u.invalid/ubuntu\nSuites: noble\nComponents: main\n";
        check(
            &[("etc/apt/sources.list.d/ubuntu.sources", ubuntu)],
            &["no mirror of Debian is known: this host's apt has no sources of Debian"],
        );
        assert!(Error::NoMirror.hint().unwrap().contains(MIRROR_VARIABLE));
        check(&[], &["no mirror of Debian is known: this host's apt has no sources of Debian"]);
    }

    #[test]
    fn malformed_sources_name_file_and_line() {
        check(
            &[("etc/apt/sources.list", "\ndeb http://a.invalid/debian\n")],
            &["etc/apt/sources.list: line 2: not `deb [options] address suite components`"],
        );
        check(
            &[("etc/apt/sources.list.d/a.sources", "Types: deb\noops\n")],
            &["etc/apt/sources.list.d/a.sources: line 2: a line without a colon"],
        );
        let debian = "deb [signed-by=/k.gpg] http://a.invalid/debian trixie main\n";
        check(&[("etc/apt/sources.list", debian)], &["k.gpg can't be read"]);
        check(
            &[("etc/apt/sources.list", debian), ("k.gpg", "no key")],
            &["the keys of k.gpg can't be used"],
        );
    }

    #[test]
    fn apt_conf_may_ignore_valid_until() {
        let debian = "deb http://a.invalid/debian trixie main\n";
        check(
            &[
                ("etc/apt/sources.list", debian),
                ("etc/apt/apt.conf.d/99x", "Acquire::Check-Valid-Until \"false\";\n"),
            ],
            &["main http://a.invalid/debian lenient 6 keys"],
        );
    }

    #[test]
    fn a_named_mirror_is_enough() {
        let mirrors = named("https://m.invalid/debian/").unwrap();
        assert_eq!(mirrors.urls("trixie", "pool/a.deb"), ["https://m.invalid/debian/pool/a.deb"]);
        assert_eq!(
            mirrors.urls("trixie-security", "pool/a.deb"),
            ["https://m.invalid/debian-security/pool/a.deb"]
        );
        let dated = named("http://m.invalid/archive/debian/20260101T000000Z").unwrap();
        assert!(!dated.main[0].check_valid_until);
        assert_eq!(
            dated.urls("trixie-security", "pool/a.deb"),
            ["http://m.invalid/archive/debian-security/20260101T000000Z/pool/a.deb"]
        );
        assert!(named("m.invalid/debian").is_err());
    }
}
