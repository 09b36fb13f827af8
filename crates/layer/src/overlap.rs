//! What two wheels install at one path, with other content.
//!
//! Known of installed wheels, and of wheels that are not downloaded yet from the directory of their
//! archive alone: there a file's size and CRC-32 stand for its content. Two that differ in these
//! differ; of two that agree a build has the last word.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::Error;
use crate::install::{Installed, Venv, place};
use crate::metadata::{MetadataFault, entry_points};
use crate::record::cut;

/// A wheel's files as its archive lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    name: String,
    files: Vec<(String, Content)>,
}

/// A file as an archive lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Listed {
        size: u64,
        crc: u32,
    },
    /// The script of an entry point.
    Script(String),
}

impl Listing {
    /// What the wheel `file_name` installs, by its archive's files (name, bytes, CRC-32) and the
    /// text of its entry_points.txt. What describes the wheel itself is left out: another wheel of
    /// the set has a folder of its own for that.
    ///
    /// # Errors
    /// It is not as a wheel should be.
    pub fn new<'a>(
        name: &str,
        file_name: &str,
        files: impl IntoIterator<Item = (&'a str, u64, u32)>,
        points: &str,
        venv: &Venv,
    ) -> Result<Self, Error> {
        let files: Vec<_> = files.into_iter().collect();
        let fault = |fault| {
            let file = "*.dist-info".to_owned();
            Error::Metadata { wheel: file_name.to_owned(), file, fault }
        };
        let dist_info = files.iter().find_map(|(name, ..)| {
            let folder = name.strip_suffix("/WHEEL")?;
            (folder.ends_with(".dist-info") && !folder.contains('/')).then_some(folder)
        });
        let dist_info = dist_info.ok_or_else(|| fault(MetadataFault::Missing))?;
        let own = format!("{dist_info}/");
        let mut found = Vec::with_capacity(files.len());
        for (name, size, crc) in files.into_iter().filter(|(name, ..)| !name.starts_with(&own)) {
            let place = place(file_name, dist_info, venv, name)?;
            found.push((place.path, Content::Listed { size, crc }));
        }
        for point in entry_points(points).map_err(fault)? {
            let path = format!("{}/{}", venv.bin(), point.name);
            // An installer leaves out what the wheel itself has of that name.
            found.retain(|(other, _)| *other != path);
            found.push((path, Content::Script(point.script(&venv.interpreter()))));
        }
        Ok(Self { name: name.to_owned(), files: found })
    }

    fn owner(&self) -> Owner<'_, Content> {
        let files = self.files.iter().map(|(path, content)| (path.as_str(), content)).collect();
        Owner { name: &self.name, files }
    }
}

/// Two wheels that install other files at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The place of one of them among those asked about.
    pub first: usize,
    /// And of the other.
    pub second: usize,
    /// A path of both, below site-packages where it lies there.
    pub path: String,
    /// How many more there are.
    pub more: usize,
}

impl Overlap {
    /// The overlaps of a set of wheels; those named in `prefer` win over others.
    pub fn among(wheels: &[Listing], venv: &Venv, prefer: &[String]) -> Vec<Self> {
        let owners: Vec<Owner<'_, Content>> = wheels.iter().map(Listing::owner).collect();
        let mut pairs: BTreeMap<(usize, usize), Self> = BTreeMap::new();
        for Clash { path, first, second } in overlaps(&owners, venv, prefer).clashes {
            let known = pairs.entry((first, second));
            known.and_modify(|overlap| overlap.more += 1).or_insert_with(|| Self {
                first,
                second,
                path: cut(venv.inside(&path)),
                more: 0,
            });
        }
        pairs.into_values().collect()
    }
}

/// What can be told to be the same.
pub(crate) trait Comparable {
    /// Whether a build may take one for the other.
    fn same(&self, other: &Self) -> bool;
}

impl Comparable for Installed {
    fn same(&self, other: &Self) -> bool {
        self.size == other.size && self.hash == other.hash && self.hash.is_some()
    }
}

impl Comparable for Content {
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Listed { .. }, Self::Listed { .. }) | (Self::Script(_), Self::Script(_)) => {
                self == other
            }
            // The archive does not say whether its script is the one that is made.
            _ => true,
        }
    }
}

/// A wheel and what it installs.
pub(crate) struct Owner<'a, C> {
    pub name: &'a str,
    pub files: Vec<(&'a str, &'a C)>,
}

/// What two wheels, by their places, do not agree about.
pub(crate) struct Clash {
    pub path: String,
    pub first: usize,
    pub second: usize,
}

/// What was found of a set.
#[derive(Default)]
pub(crate) struct Found {
    pub clashes: Vec<Clash>,
    /// Those that nothing is likely to read.
    pub strays: Vec<Clash>,
    /// What a wheel does not install because another is preferred.
    pub lost: BTreeMap<usize, BTreeSet<String>>,
}

/// One path, one content; and what is a directory for one wheel is not a file of another.
pub(crate) fn overlaps<C: Comparable>(
    wheels: &[Owner<'_, C>],
    venv: &Venv,
    prefer: &[String],
) -> Found {
    let site = venv.site_packages();
    let rank = |at: usize| prefer.iter().position(|name| name == wheels[at].name);
    let wins = |at: usize| rank(at).unwrap_or(usize::MAX);
    let mut order: Vec<usize> = (0..wheels.len()).collect();
    order.sort_by_key(|&at| wins(at));
    let mut found = Found::default();
    let count = wheels.iter().map(|wheel| wheel.files.len()).sum();
    let mut seen: HashMap<&str, (usize, &C)> = HashMap::with_capacity(count);
    // Further wheels with a path, of which each pair may clash: without the first the others are still there.
    let mut others: HashMap<&str, Vec<(usize, &C)>> = HashMap::new();
    for &at in &order {
        for &(path, content) in &wheels[at].files {
            let Some(&(first, other)) = seen.get(path) else {
                seen.insert(path, (at, content));
                continue;
            };
            if first == at {
                continue;
            }
            let clash = |first: usize| Clash {
                path: path.to_owned(),
                first: first.min(at),
                second: first.max(at),
            };
            let differs = !content.same(other);
            if rank(first).is_some() {
                if differs {
                    found.lost.entry(at).or_default().insert(path.to_owned());
                }
            } else if is_stray(path, &site) || is_beside(path, venv.prefix()) {
                found.strays.extend(differs.then(|| clash(first)));
            } else {
                found.clashes.extend(differs.then(|| clash(first)));
                let others = others.entry(path).or_default();
                let more = others.iter().filter(|(other, _)| *other != at);
                let more = more.filter(|(_, other)| !content.same(other));
                found.clashes.extend(more.map(|(other, _)| clash(*other)));
                others.push((at, content));
            }
        }
    }
    for &at in &order {
        for &(path, _) in &wheels[at].files {
            for (end, _) in path.match_indices('/') {
                let above = &path[..end];
                let Some(&(first, _)) = seen.get(above) else { continue };
                if wins(first) < wins(at) {
                    found.lost.entry(at).or_default().insert(path.to_owned());
                } else if wins(at) < wins(first) {
                    found.lost.entry(first).or_default().insert(above.to_owned());
                } else {
                    let (first, second) = (first.min(at), first.max(at));
                    found.clashes.push(Clash { path: above.to_owned(), first, second });
                }
            }
        }
    }
    found
}

/// What lies at the top of site-packages by mistake: setuptools leaves folders and modules of these
/// names out when it looks for packages (setuptools/discovery.py, `FlatLayoutPackageFinder` and
/// `FlatLayoutModuleFinder`; without `util`, `utils` and `python`, which are imported), and nothing
/// imports a file that is not a module.
const STRAY_FOLDERS: [&str; 23] = [
    "ci",
    "bin",
    "debian",
    "doc",
    "docs",
    "documentation",
    "manpages",
    "news",
    "newsfragments",
    "changelog",
    "test",
    "tests",
    "unit_test",
    "unit_tests",
    "example",
    "examples",
    "scripts",
    "tools",
    "build",
    "benchmark",
    "benchmarks",
    "exercise",
    "exercises",
];
const STRAY_MODULES: [&str; 11] = [
    "setup.py",
    "conftest.py",
    "toxfile.py",
    "noxfile.py",
    "pavement.py",
    "dodo.py",
    "tasks.py",
    "fabfile.py",
    "conanfile.py",
    "manage.py",
    "build_backend.py",
];

/// `__init__.py` of a folder that many wheels share: empty, or all it does is extend the folder's path, which in one
/// site-packages is nothing (nvidia-nvimgcodec-cu12 0.9.0.20 beside nvidia-nvjpeg2k-cu12 0.11.0.51).
const NAMESPACES: [&str; 1] = ["nvidia/__init__.py"];

/// Documentation that lies at the top (ax-platform 1.3.1); Sphinx itself has none of it.
const DOCUMENTS: [&str; 3] = ["sphinx/source", "sphinx/Makefile", "sphinx/make.bat"];

fn is_stray(path: &str, site: &str) -> bool {
    let inside = path.strip_prefix(site).and_then(|rest| rest.strip_prefix('/'));
    inside.is_some_and(|inside| match inside.split_once('/') {
        Some((folder, _)) => {
            let below = |document: &str| {
                let rest = inside.strip_prefix(document);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            STRAY_FOLDERS.contains(&folder)
                || NAMESPACES.contains(&inside)
                || DOCUMENTS.iter().any(|document| below(document))
        }
        None => {
            let module =
                [".py", ".so", ".pyc", ".pyd", ".pth"].iter().any(|end| inside.ends_with(end));
            !module || STRAY_MODULES.contains(&inside)
        }
    })
}

/// Folders of a prefix in which something is looked for (sysconfig, scheme `posix_prefix`; Filesystem Hierarchy Standard 3.0,
/// chapter 4).
const FOLDERS_OF_PREFIX: [&str; 9] =
    ["bin", "etc", "games", "include", "lib", "lib64", "libexec", "sbin", "share"];

/// Whether a file lies in the environment beside all folders that something reads: data_files of a setup.py (LICENSE of
/// about-time 4.2.1 and alive-progress 3.3.0).
fn is_beside(path: &str, prefix: &str) -> bool {
    let inside = path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/'));
    inside.is_some_and(|inside| {
        let first = inside.split('/').next().unwrap_or(inside);
        !FOLDERS_OF_PREFIX.contains(&first) && inside != "pyvenv.cfg"
    })
}

#[cfg(test)]
mod tests {
    use super::{is_beside, is_stray};

    #[test]
    fn what_lies_beside_all_folders() {
        for (path, beside) in [
            ("opt/venv/LICENSE", true),
            ("opt/venv/sphinx/source/conf.py", true),
            ("opt/venv/share/x/conf.py", false),
            ("opt/venv/bin/x", false),
            ("opt/venv/lib/python3.13/site-packages/a.py", false),
            ("opt/venv/pyvenv.cfg", false),
            ("opt/venvs/LICENSE", false),
            ("LICENSE", false),
        ] {
            assert_eq!(is_beside(path, "opt/venv"), beside, "{path}");
        }
    }

    #[test]
    fn what_nobody_reads() {
        let site = "opt/venv/lib/python3.13/site-packages";
        let stray = |path: &str| is_stray(&format!("{site}/{path}"), site);
        for path in [
            "LICENSE",
            "tests/a.py",
            "build_backend.py",
            "nvidia/__init__.py",
            "sphinx/source/conf.py",
        ] {
            assert!(stray(path), "{path}");
        }
        for path in [
            "a.py",
            "a/tests/b.py",
            "sphinx/__init__.py",
            "sphinx/sources.py",
            "nvidia/a/__init__.py",
            "a/nvidia/__init__.py",
            "nvidia/a.py",
        ] {
            assert!(!stray(path), "{path}");
        }
        assert!(!is_stray("elsewhere/nvidia/__init__.py", site));
    }
}
