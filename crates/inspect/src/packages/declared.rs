//! What installed packages say of themselves, without a look at their files.
//!
//! Source: PyPA "Core metadata"; deb822, Debian Policy §5.3 (`Source` with its version in parentheses where that is another).

use super::{MAX_METADATA, MAX_STATUS, Origin, Torch, normalise, python};
use crate::tree::Tree;

/// What a name or a version may have, bytes: no honest one has more.
const MAX_WORD: usize = 256;
/// What is kept of a licence or a name in a package's own words, characters.
const MAX_WORDS: usize = 200;
/// More packages are not read.
const MAX_PACKAGES: usize = 50_000;

/// What a package says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Its name; a Python package's normalised.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where from.
    pub origin: Origin,
    /// Debian's name of the processor.
    pub architecture: Option<String>,
    /// The source package and its version, of a Debian package: its own where it names no other.
    pub source: Option<(String, String)>,
    /// Its licence expression (PEP 639).
    pub licence_expression: Option<String>,
    /// Its licence in its own words.
    pub licence: Option<String>,
    /// Its classifiers of licences.
    pub classifiers: Vec<String>,
    /// Who made it: the author, or the maintainer.
    pub maker: Option<String>,
}

/// What is installed in an environment, by what it says.
#[derive(Clone, Debug, Default)]
pub struct Installed {
    /// Its packages: Python's first, each kind by name.
    pub packages: Vec<Declared>,
    /// What could not be read, in words.
    pub unread: Vec<String>,
    /// torch, by its own file.
    pub torch: Option<Torch>,
    /// Python's version.
    pub python: Option<String>,
}

impl Declared {
    /// Of a distribution's METADATA.
    #[must_use]
    pub fn of_metadata(text: &str) -> Option<Self> {
        let header = || text.lines().take_while(|line| !line.trim_end().is_empty());
        let fields = |name: &'static str| {
            header().filter_map(move |line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let field = |name| fields(name).find(|value| !value.is_empty() && *value != "UNKNOWN");
        let maker = ["Author", "Maintainer", "Author-email", "Maintainer-email"];
        Some(Self {
            name: normalise(word(field("Name")?)?),
            version: word(field("Version")?)?.to_owned(),
            origin: Origin::Python,
            architecture: None,
            source: None,
            licence_expression: field("License-Expression").map(str::to_owned),
            licence: field("License").and_then(words),
            classifiers: fields("Classifier")
                .filter(|value| value.starts_with("License :: ") && value.len() <= MAX_WORD)
                .map(str::to_owned)
                .collect(),
            maker: maker.into_iter().find_map(field).and_then(without_address),
        })
    }

    /// Of a stanza of dpkg's; nothing where it says that it is not installed.
    #[must_use]
    pub fn of_stanza(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        if field("Status").is_some_and(|status| !status.ends_with(" installed")) {
            return None;
        }
        let (name, version) = (word(field("Package")?)?, word(field("Version")?)?);
        let source = match field("Source").map(|source| source.split_once(" (")) {
            None => (name, version),
            Some(Some((source, version))) => (source, version.trim_end_matches(')')),
            Some(None) => (field("Source")?, version),
        };
        Some(Self {
            name: name.to_owned(),
            version: version.to_owned(),
            origin: Origin::Debian,
            architecture: field("Architecture").and_then(word).map(str::to_owned),
            source: Some((word(source.0)?.to_owned(), word(source.1)?.to_owned())),
            licence_expression: None,
            licence: None,
            classifiers: Vec::new(),
            maker: field("Maintainer").and_then(without_address),
        })
    }
}

/// Reads what is installed in `tree`.
#[must_use]
pub fn installed(tree: &Tree) -> Installed {
    let mut found = Installed::default();
    let debs = debian(tree, &mut found.unread);
    for (path, _) in tree.files() {
        if path == "torch/version.py" || path.ends_with("/torch/version.py") {
            found.torch = found.torch.or_else(|| python::torch(tree, path));
        }
        let Some(folder) = path.strip_suffix(".dist-info/METADATA") else { continue };
        // Debian's own Python packages are its packages (Debian Python Policy, "Module Path").
        if !debs.is_empty() && folder.starts_with("usr/lib/python3/dist-packages/") {
            continue;
        }
        if is_inside_another(folder) {
            continue;
        }
        match tree.text(path, MAX_METADATA).as_deref().and_then(Declared::of_metadata) {
            Some(package) => found.packages.push(package),
            None => found.unread.push(format!("{path} has no name and version that can be read")),
        }
        if found.packages.len() > MAX_PACKAGES {
            found.unread.push(format!("there are more than {MAX_PACKAGES} packages"));
            break;
        }
    }
    found.packages.extend(debs);
    found.packages.sort_by(|a, b| {
        let key = |one: &Declared| (one.origin, one.name.clone(), one.version.clone());
        key(a).cmp(&key(b))
    });
    found.packages.dedup();
    found.python = python::version(tree);
    found
}

/// Whether it lies in a package's own folder, as what setuptools has in `setuptools/_vendor`: that is a part of the package.
fn is_inside_another(folder: &str) -> bool {
    let site = ["site-packages/", "dist-packages/"].into_iter();
    let rest = site.filter_map(|site| Some(&folder[folder.rfind(site)? + site.len()..])).next();
    rest.is_some_and(|rest| rest.contains('/'))
}

fn debian(tree: &Tree, unread: &mut Vec<String>) -> Vec<Declared> {
    let status = "var/lib/dpkg/status";
    let below = tree.files_below("var/lib/dpkg/status.d");
    let below = below.iter().map(|(path, _)| (*path, MAX_METADATA));
    let mut found = Vec::new();
    for (path, limit) in std::iter::once((status, MAX_STATUS)).chain(below) {
        // md5sums are distroless's, and no stanza.
        if path.ends_with(".md5sums") || tree.size(path).is_none() {
            continue;
        }
        let Some(text) = tree.text(path, limit) else {
            unread.push(format!("{path} can't be read"));
            continue;
        };
        for stanza in text.split("\n\n").filter(|stanza| !stanza.trim().is_empty()) {
            match Declared::of_stanza(stanza) {
                Some(package) => found.push(package),
                None if stanza.contains("Status:") && !stanza.contains(" installed") => {}
                None => {
                    unread.push(format!("{path} has a package whose name or version can't be read"))
                }
            }
            if found.len() > MAX_PACKAGES {
                unread.push(format!("there are more than {MAX_PACKAGES} packages"));
                return found;
            }
        }
    }
    found
}

/// A name or a version, if it can be one.
fn word(text: &str) -> Option<&str> {
    let plain = |c: char| c.is_ascii_graphic();
    (!text.is_empty() && text.len() <= MAX_WORD && text.chars().all(plain)).then_some(text)
}

/// A package's own words: one line of them, without what moves a cursor.
fn words(text: &str) -> Option<String> {
    let plain: String = text.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect();
    let plain = plain.trim();
    (!plain.is_empty()).then(|| plain.to_owned())
}

/// `Name <name@host>` without the address: whose it is, not where to write to.
fn without_address(text: &str) -> Option<String> {
    let name = text.split('<').next().unwrap_or(text).trim().trim_matches('"');
    match name.is_empty() || name.contains('@') {
        true => None,
        false => words(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_distribution() {
        let text = "Metadata-Version: 2.4\nName: Foo.Bar\nVersion: 1.0\nLicense-Expression: MIT\n\
            Classifier: License :: OSI Approved :: MIT License\nClassifier: Topic :: X\nAuthor-email: \"A B\" <a@b>\n\nName: body\n";
        let found = Declared::of_metadata(text).unwrap();
        assert_eq!((&*found.name, &*found.version), ("foo-bar", "1.0"));
        assert_eq!(found.maker.as_deref(), Some("A B"));
        assert_eq!(found.classifiers.len(), 1);
        for text in ["", "Name: a\n", "Name: a\nVersion: 1\u{1b}[2J\n", "Name:\nVersion: 1\n"] {
            assert_eq!(Declared::of_metadata(text), None, "{text:?}");
        }
        let long = format!("Name: a\nVersion: {}\n", "1".repeat(5000));
        assert_eq!(Declared::of_metadata(&long), None);
    }

    #[test]
    fn of_a_stanza() {
        let text = "Package: libc6\nStatus: install ok installed\nSource: glibc (2.36-9)\nVersion: 2.36-9+b1\nArchitecture: amd64\nMaintainer: GNU Libc Maintainers <x@y>\n";
        let found = Declared::of_stanza(text).unwrap();
        assert_eq!(found.source, Some(("glibc".into(), "2.36-9".into())));
        assert_eq!(found.maker.as_deref(), Some("GNU Libc Maintainers"));
        let gone = "Package: a\nStatus: deinstall ok config-files\nVersion: 1\n";
        assert_eq!(Declared::of_stanza(gone), None);
    }

    #[test]
    fn what_is_installed_in_a_tree() {
        let mut tree = Tree::new();
        let mut add = |path: &str, text: &str| {
            tree.add_file(path, std::sync::Arc::new(text.as_bytes().to_vec()));
        };
        add(
            "opt/venv/lib/python3.13/site-packages/a-1.dist-info/METADATA",
            "Name: a\nVersion: 1\n",
        );
        add("opt/venv/lib/python3.13/site-packages/b-1.dist-info/METADATA", "Name: b\n");
        add(
            "opt/venv/lib/python3.13/site-packages/a/_vendor/e-1.dist-info/METADATA",
            "Name: e\nVersion: 1\n",
        );
        add("usr/lib/python3/dist-packages/c-1.dist-info/METADATA", "Name: c\nVersion: 1\n");
        add("var/lib/dpkg/status.d/d", "Package: d\nVersion: 2\n");
        add("var/lib/dpkg/status.d/d.md5sums", "00  usr/bin/d\n");
        let found = installed(&tree);
        let names: Vec<&str> = found.packages.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["a", "d"]);
        assert_eq!(found.unread.len(), 1, "{:?}", found.unread);
    }
}
