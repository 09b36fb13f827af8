//! `Packages`, the list of an archive's packages, and what a resolution needs of it.
//!
//! Source: Debian Policy §5.3 and the Debian wiki, "DebianRepository/Format", "Packages".

use std::collections::HashMap;
use std::io::BufRead;

use sconce_blob::Digest;
use sconce_layer::check_path;

use crate::brief::Brief;
use crate::control::{Stanza, Stanzas};
use crate::{Arch, Error, Version, relation};

/// The most packages of all lists together. Trixie has 69,000 for one architecture.
const MAX_PACKAGES: usize = 1_000_000;
/// The largest .deb accepted, bytes.
pub(crate) const MAX_DEB: u64 = 4 << 30;

/// A package of an archive.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// `all` or the target's architecture.
    pub architecture: String,
    /// Which suite listed it, such as `trixie-security`.
    pub suite: String,
    /// The .deb, relative to the archive's address.
    pub filename: String,
    /// The .deb's length, bytes.
    pub size: u64,
    /// The .deb's digest.
    pub sha256: Digest,
    /// Rank of its priority: 0 is `required`, 5 is unknown.
    pub(crate) priority: u8,
    /// `Pre-Depends` and `Depends`, as written.
    pub(crate) depends: String,
    /// `Conflicts` and `Breaks`, as written.
    pub(crate) conflicts: String,
    /// What it provides, with the version if it says one.
    pub(crate) provides: Vec<(String, Option<Version>)>,
}

/// Every package of the suites of a release, by name and by what it provides.
#[derive(Debug, Default)]
pub struct Packages {
    all: Vec<Package>,
    by_name: HashMap<String, usize>,
    providers: HashMap<String, Vec<usize>>,
}

/// Where a list comes from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The list's address, for messages.
    pub url: &'a str,
    /// The suite it belongs to.
    pub suite: &'a str,
}

impl Packages {
    /// No packages.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a list. Of one name in several lists the highest version stays; of equal versions
    /// the one that came first.
    pub fn add(&mut self, list: impl BufRead, origin: Origin<'_>, arch: Arch) -> Result<(), Error> {
        self.merge(read(list, origin, arch, None)?, origin)
    }

    /// As [`Packages::add`], of packages that were read.
    pub(crate) fn merge(&mut self, list: Vec<Package>, origin: Origin<'_>) -> Result<(), Error> {
        self.by_name.reserve(list.len());
        for package in list {
            match self.by_name.get(&package.name) {
                Some(&at) if self.all[at].version >= package.version => {}
                Some(&at) => self.all[at] = package,
                None if self.all.len() >= MAX_PACKAGES => {
                    return Err(too_many(origin, package.name));
                }
                None => {
                    self.by_name.insert(package.name.clone(), self.all.len());
                    self.all.push(package);
                }
            }
        }
        Ok(())
    }

    /// Makes what packages provide findable; called once, after the last list.
    pub fn finish(&mut self) {
        self.providers.clear();
        for (at, package) in self.all.iter().enumerate() {
            for (name, _) in &package.provides {
                self.providers.entry(name.clone()).or_default().push(at);
            }
        }
        for list in self.providers.values_mut() {
            list.sort_by_key(|&at| (self.all[at].priority, self.all[at].name.clone()));
            list.dedup();
        }
    }

    /// How many packages there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The package of this name.
    pub fn get(&self, name: &str) -> Option<&Package> {
        self.by_name.get(name).and_then(|&at| self.all.get(at))
    }

    /// Packages that provide `name`, the most important first, then by name.
    pub fn providers(&self, name: &str) -> impl Iterator<Item = &Package> {
        self.providers.get(name).into_iter().flatten().filter_map(|&at| self.all.get(at))
    }

    /// The name nearest to `name`, if one is near.
    pub fn nearest(&self, name: &str) -> Option<&str> {
        let scored = self.by_name.keys().map(|known| (strsim::jaro_winkler(name, known), known));
        let (score, best) = scored.max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)))?;
        (score > 0.85).then_some(best.as_str())
    }
}

/// The fields of a list that are read.
const FIELDS: [&str; 12] = [
    "Package",
    "Version",
    "Architecture",
    "Filename",
    "Size",
    "SHA256",
    "Priority",
    "Pre-Depends",
    "Depends",
    "Conflicts",
    "Breaks",
    "Provides",
];

/// Reads the packages of a list for an architecture; `brief` takes what is read of them.
pub(crate) fn read(
    list: impl BufRead,
    origin: Origin<'_>,
    arch: Arch,
    mut brief: Option<&mut Brief>,
) -> Result<Vec<Package>, Error> {
    let mut stanzas = Stanzas::new(list);
    let mut stanza = Stanza::default();
    let mut found = Vec::new();
    let fault = |source| Error::Control { what: origin.url.to_owned(), source };
    while stanzas.read_into(&mut stanza).map_err(fault)? {
        let package = package(&stanza, origin).map_err(|reason| Error::Packages {
            url: origin.url.to_owned(),
            package: stanza.get("Package").unwrap_or("?").chars().take(128).collect(),
            reason,
        })?;
        if package.architecture != "all" && package.architecture != arch.name() {
            continue;
        }
        if found.len() >= MAX_PACKAGES {
            return Err(too_many(origin, package.name));
        }
        found.push(package);
        if let Some(brief) = &mut brief {
            brief.add(&stanza, &FIELDS);
        }
    }
    Ok(found)
}

fn too_many(origin: Origin<'_>, package: String) -> Error {
    let reason = format!("more than {MAX_PACKAGES} packages");
    Error::Packages { url: origin.url.to_owned(), package, reason }
}

/// Reads one stanza, or says what is wrong with it.
fn package(stanza: &Stanza, origin: Origin<'_>) -> Result<Package, String> {
    let field = |name: &str| stanza.get(name).unwrap_or("");
    let required = |name: &str| match stanza.get(name) {
        Some(value) if !value.is_empty() => Ok(value),
        _ => Err(format!("no `{name}`")),
    };
    let name = required("Package")?;
    if !relation::is_package_name(name) {
        return Err("not a package's name".into());
    }
    let filename = required("Filename")?.trim_start_matches("./");
    check_path(filename).map_err(|fault| format!("`Filename`: {fault}"))?;
    let size = required("Size")?.parse().map_err(|_| "`Size` is not a number".to_owned())?;
    if size > MAX_DEB {
        return Err(format!("`Size` is {size}, more than 4 GiB"));
    }
    let digest = required("SHA256")?;
    let priorities = ["required", "important", "standard", "optional", "extra"];
    let rank = |value: &str| priorities.iter().position(|known| *known == value);
    let provided = |text: &str| -> Result<Vec<_>, String> {
        let groups = relation::parse(text).map_err(|piece| format!("`Provides`: `{piece}`"))?;
        let relations = groups.into_iter().flatten();
        Ok(relations.map(|r| (r.name, r.version.map(|(_, version)| version))).collect())
    };
    Ok(Package {
        name: name.to_owned(),
        version: Version::parse(required("Version")?).map_err(|error| error.to_string())?,
        architecture: required("Architecture")?.to_owned(),
        suite: origin.suite.to_owned(),
        filename: filename.to_owned(),
        size,
        sha256: digest.parse().map_err(|error| format!("`SHA256`: {error}"))?,
        priority: rank(field("Priority")).unwrap_or(priorities.len()) as u8,
        depends: join(field("Pre-Depends"), field("Depends")),
        conflicts: join(field("Conflicts"), field("Breaks")),
        provides: provided(field("Provides"))?,
    })
}

fn join(a: &str, b: &str) -> String {
    if a.is_empty() || b.is_empty() { format!("{a}{b}") } else { format!("{a}, {b}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn stanza(name: &str, version: &str, extra: &str) -> String {
        format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{name}.deb\n\
             Size: 1\nSHA256: {HASH}\n{extra}\n"
        )
    }

    fn add(packages: &mut Packages, suite: &str, text: &str) -> Result<(), Error> {
        let origin = Origin { url: "http://example.invalid/Packages", suite };
        packages.add(text.as_bytes(), origin, Arch::Amd64)
    }

    #[test]
    fn the_highest_version_of_all_suites_stays() {
        let mut packages = Packages::new();
        add(&mut packages, "trixie", &stanza("a", "1.0-1", "")).unwrap();
        add(&mut packages, "trixie-security", &stanza("a", "1.0-1+deb13u1", "")).unwrap();
        add(&mut packages, "trixie-updates", &stanza("a", "0.9", "")).unwrap();
        assert_eq!(packages.len(), 1);
        assert_eq!(packages.get("a").unwrap().suite, "trixie-security");
    }

    #[test]
    fn faults_name_the_package() {
        let whole = stanza("a", "1", "");
        for (from, to, message) in [
            ("Version: 1", "Version: _", "`_` is not a Debian version"),
            ("pool/a.deb", "../a.deb", "`Filename`: the path has a `..`"),
            ("Size: 1", "Size: 99999999999", "more than 4 GiB"),
            ("Size: 1\n", "", "no `Size`"),
            (HASH, "00", "not a SHA-256 digest"),
            ("Package: a", "Package: A/..", "not a package's name"),
        ] {
            let text = whole.replace(from, to);
            let error = add(&mut Packages::new(), "s", &text).unwrap_err().to_string();
            assert!(error.contains(message) && error.contains("example.invalid"), "{error}");
        }
    }
}
