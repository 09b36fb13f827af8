//! What is installed: Python distributions, Debian packages, and what torch says it was built for.
//!
//! Source: PyPA "Recording installed projects" and "Core metadata"; deb822 for dpkg's status;
//! `torch/version.py`. All of it is text from outside: sizes are bounded, unknown lines skipped.

mod debian;
mod declared;
pub mod markers;
mod python;

use std::collections::BTreeMap;

use sconce_facts::CudaVersion;
use serde::Serialize;

use crate::names;
use crate::scan::Scan;
use crate::tree::Tree;

pub use declared::{Declared, Installed, installed};

const MAX_METADATA: u64 = 4 << 20;
const MAX_RECORD: u64 = 64 << 20;
const MAX_STATUS: u64 = 64 << 20;
/// No text is read that is larger, bytes.
pub(crate) const MAX_TEXT: u64 = 64 << 20;

/// Whether the text of a file with this path is read anywhere in this crate.
pub(crate) fn is_read(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name {
        "METADATA" | "RECORD" | "variant.json" => path.contains(".dist-info/"),
        "version.py" => path.ends_with("torch/version.py"),
        "pyvenv.cfg" | "ld.so.cache" => true,
        _ => {
            name.ends_with(".pth") || name.ends_with(".egg-link") || path.contains("var/lib/dpkg/")
        }
    }
}

/// Where a package comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A Python distribution (`*.dist-info`).
    Python,
    /// A Debian package.
    Debian,
}

/// One installed package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Package {
    /// Its name, normalised (lower case, `-`).
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where from.
    pub origin: Origin,
    /// Files it says it has and that are there.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// `Requires-Dist` lines, for Python.
    #[serde(skip)]
    pub requires: Vec<String>,
    /// The libraries and modules that its RECORD names and that are there.
    #[serde(skip)]
    pub native: Vec<String>,
    /// Where its metadata lies.
    #[serde(skip)]
    pub metadata: String,
}

/// What `torch/version.py` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Torch {
    /// Its version, local part included: `2.15.0+cu132`.
    pub version: String,
    /// The CUDA it was built with; `None` for a CPU-only build.
    pub cuda: Option<String>,
    /// The directory it is in.
    pub path: String,
}

/// A component a report names first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Its name for people.
    pub name: String,
    /// Its version, as far as it is known.
    pub version: String,
    /// The package or library that says so.
    pub from: String,
}

/// What is in an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// torch, when there is one.
    pub torch: Option<Torch>,
    /// CUDA runtime, cuDNN, NCCL and the like.
    pub parts: Vec<Part>,
    /// Python's version.
    pub python: Option<String>,
    /// The newest glibc that a library outside the system needs.
    pub glibc_needed: Option<String>,
    /// The glibc there is.
    pub glibc: Option<String>,
    /// All packages, by name.
    pub packages: Vec<Package>,
}

impl Contents {
    /// The CUDA major that torch was built with.
    pub fn cuda_major(&self) -> Option<u16> {
        let cuda = self.torch.as_ref()?.cuda.as_deref()?;
        cuda.parse::<CudaVersion>().ok().map(|cuda| cuda.major)
    }

    /// The Python package whose directory the file at `path` lies in.
    fn owner(&self, path: &str) -> Option<&Package> {
        let site = ["site-packages/", "dist-packages/"];
        let start = site.iter().find_map(|site| Some(path.rfind(site)? + site.len())).unwrap_or(0);
        let folder = normalise(path[start..].split('/').next()?.trim_end_matches(".libs"));
        self.packages.iter().find(|package| package.name == folder)
    }

    /// What to do about a module at `path` that was built for other libraries than there are: for
    /// another torch, where `torch` says so.
    pub fn rebuild(&self, path: &str, torch: bool) -> String {
        let name = match self.owner(path) {
            Some(package) => package.name.clone(),
            None => path.rsplit('/').next().unwrap_or(path).to_owned(),
        };
        let there = self.torch.as_ref().map(|torch| torch.version.as_str());
        let pinned = self.owner(path).and_then(|package| {
            package.requires.iter().find_map(|line| pin(line).filter(|(name, _)| name == "torch"))
        });
        if let Some(there) = there.filter(|_| name == "torch") {
            let version = there.split('+').next().unwrap_or(there);
            return format!("install torch=={version} again, with the packages that it asks for");
        }
        match (torch, there, pinned) {
            (true, Some(there), Some((_, version))) => format!(
                "install a {name} made for torch {there}, or torch {version}, which this one was made for"
            ),
            (true, Some(there), None) => format!("install or build {name} for torch {there}"),
            _ => format!("install or build {name} for the libraries that are there"),
        }
    }
}

/// The package and version that a `Requires-Dist` line pins; nothing of a range, which is the
/// resolver's business, and of what only an extra asks for.
pub fn pin(line: &str) -> Option<(String, &str)> {
    let (requirement, marker) = line.split_once(';').unwrap_or((line, ""));
    let (name, version) = requirement.split_once("==")?;
    if version.contains(['*', ',']) || marker.contains("extra") || marker.contains("python_version")
    {
        return None;
    }
    let name = name.split('[').next().unwrap_or(name).trim_end_matches(['(', ' ']);
    // `===` compares as text (PEP 440), and is as exact.
    let version = version.trim_start_matches('=').trim().trim_end_matches(')').trim();
    Some((normalise(name.trim()), version))
}

/// A distribution's name as PEP 503 normalises it.
pub fn normalise(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if matches!(c, '-' | '_' | '.') {
            if !out.ends_with('-') {
                out.push('-');
            }
        } else {
            out.extend(c.to_lowercase());
        }
    }
    out
}

/// Reads what is installed in `tree`.
pub fn contents(tree: &Tree, scan: &Scan) -> Contents {
    let mut contents = Contents::default();
    let mut torches = Vec::new();
    let mut infos = Vec::new();
    for (path, _) in tree.files() {
        if let Some(folder) = path.strip_suffix(".dist-info/METADATA") {
            infos.push(format!("{folder}.dist-info"));
        } else if path == "torch/version.py" || path.ends_with("/torch/version.py") {
            torches.push(path.to_owned());
        }
    }
    contents.packages.extend(infos.iter().filter_map(|info| distribution(tree, info)));
    contents.packages.extend(debian::packages(tree));
    contents.packages.sort_by(|a, b| (&a.name, a.origin).cmp(&(&b.name, b.origin)));
    contents.torch = torches.iter().find_map(|path| python::torch(tree, path));
    contents.parts = parts(&contents.packages, scan);
    contents.python = python::version(tree);
    contents.glibc = newest_glibc(
        scan.libraries
            .iter()
            .filter(|library| library.soname() == "libc.so.6")
            .filter_map(|library| library.dynamic.as_ref())
            .flat_map(|dynamic| dynamic.versions_defined.iter().map(String::as_str)),
    );
    contents.glibc_needed = newest_glibc(
        scan.libraries
            .iter()
            .filter(|library| is_python_library(&library.path))
            .filter_map(|library| library.dynamic.as_ref())
            .flat_map(|dynamic| dynamic.versions_needed.iter().map(|need| need.version.as_str())),
    );
    contents
}

/// Whether a file belongs to a Python package rather than to the system.
pub fn is_python_library(path: &str) -> bool {
    let system =
        ["usr/lib/", "lib/", "usr/bin/", "bin/", "usr/sbin/", "sbin/", "lib64/", "usr/lib64/"];
    path.contains("site-packages/")
        || path.contains("dist-packages/")
        || !system.iter().any(|folder| path.starts_with(folder))
}

fn newest_glibc<'a>(versions: impl Iterator<Item = &'a str>) -> Option<String> {
    versions
        .filter_map(|version| version.strip_prefix("GLIBC_"))
        .filter_map(|version| Some((numbers(version)?, version)))
        .max()
        .map(|(_, version)| version.to_owned())
}

/// The numbers of a version that has nothing but numbers, trailing zeros left out.
pub fn numbers(version: &str) -> Option<Vec<u64>> {
    let mut parts =
        version.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>()?;
    while parts.last() == Some(&0) {
        parts.pop();
    }
    Some(parts)
}

/// The numbers that a version starts with: those of `2.6` for `2.6.0a0+git1234`.
pub fn release(version: &str) -> Option<Vec<u64>> {
    let end = version.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(version.len());
    numbers(version[..end].trim_end_matches('.'))
}

/// The files that a distribution's RECORD names, as paths of the tree.
pub(crate) fn recorded(tree: &Tree, info: &str) -> Vec<String> {
    let site = info.rsplit_once('/').map_or("", |(folder, _)| folder);
    let record = tree.text(&format!("{info}/RECORD"), MAX_RECORD).unwrap_or_default();
    let path = |line: &str| {
        let name = match line.strip_prefix('"') {
            Some(rest) => rest.split('"').next(),
            None => line.split(',').next(),
        };
        let name = name.filter(|name| !name.is_empty())?;
        // What a wheel keeps for the folder of packages lies there when it is installed.
        let name = match name.split_once(".data/") {
            Some((first, rest)) if !first.contains('/') => {
                let inside = ["purelib/", "platlib/"].iter().find_map(|it| rest.strip_prefix(it));
                inside.unwrap_or(name)
            }
            _ => name,
        };
        let path = if name.starts_with('/') { name.to_owned() } else { format!("{site}/{name}") };
        Some(path.trim_start_matches('/').to_owned())
    };
    record.lines().filter_map(path).collect()
}

fn distribution(tree: &Tree, info: &str) -> Option<Package> {
    let metadata = tree.text(&format!("{info}/METADATA"), MAX_METADATA)?;
    let header = || metadata.lines().take_while(|line| !line.is_empty());
    let field = |name: &str| {
        header().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let (mut files, mut bytes) = (0, 0);
    let mut native = Vec::new();
    for path in recorded(tree, info) {
        // Scripts are recorded as `../../../bin/x`.
        let size = tree.size(&path).or_else(|| {
            path.contains("..").then(|| tree.resolve(&path)).flatten().and_then(|p| tree.size(&p))
        });
        if let Some(size) = size {
            files += 1;
            bytes += size;
            if names::is_native(&path) {
                native.push(path);
            }
        }
    }
    Some(Package {
        name: normalise(field("Name")?),
        version: field("Version")?.to_owned(),
        origin: Origin::Python,
        files,
        bytes,
        requires: header()
            .filter_map(|line| line.strip_prefix("Requires-Dist:"))
            .map(|line| line.trim().to_owned())
            .collect(),
        native,
        metadata: info.to_owned(),
    })
}

fn parts(packages: &[Package], scan: &Scan) -> Vec<Part> {
    names::components()
        .iter()
        .flat_map(|component| {
            let mut found: Vec<Part> = packages
                .iter()
                .filter(|package| component.is_brought_by(&package.name))
                .map(|package| Part {
                    name: component.name.clone(),
                    version: package.version.clone(),
                    from: package.name.clone(),
                })
                .collect();
            // Without a package: what the names of the library files say.
            if let (true, Some(start)) = (found.is_empty(), &component.library) {
                let versions: BTreeMap<&str, &str> = scan
                    .libraries
                    .iter()
                    .filter_map(|library| {
                        Some((library.name().strip_prefix(start.as_str())?, library.path.as_str()))
                    })
                    .collect();
                found.extend(versions.into_iter().map(|(version, path)| Part {
                    name: component.name.clone(),
                    version: version.to_owned(),
                    from: path.to_owned(),
                }));
            }
            found
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new();
        for (path, text) in files {
            tree.add_file(path, Arc::new(text.as_bytes().to_vec()));
        }
        tree
    }

    #[test]
    fn a_distribution_its_files_and_torch() {
        let tree = tree(&[
            ("opt/venv/bin/tool", "12345"),
            (
                "opt/venv/lib/python3.13/site-packages/torch/version.py",
                "__version__ = '2.15.0+cu132'\ncuda: Optional[str] = '13.2'\n",
            ),
            (
                "opt/venv/lib/python3.13/site-packages/Torch_X-2.15.0.dist-info/METADATA",
                "Metadata-Version: 2.1\nName: Torch_X\nVersion: 2.15.0\nRequires-Dist: a==1\n\nName: liar\n",
            ),
            (
                "opt/venv/lib/python3.13/site-packages/Torch_X-2.15.0.dist-info/RECORD",
                "torch/version.py,sha256=x,1\n../../../bin/tool,,\n\"odd, name.py\",,\n../../../../../../../../etc/passwd,,\n",
            ),
        ]);
        let contents = contents(&tree, &Scan::default());
        let package = &contents.packages[0];
        assert_eq!((package.name.as_str(), package.version.as_str()), ("torch-x", "2.15.0"));
        assert_eq!(
            (package.files, package.requires.as_slice()),
            (2, ["a==1".to_owned()].as_slice())
        );
        let torch = contents.torch.unwrap();
        assert_eq!((torch.version.as_str(), torch.cuda.as_deref()), ("2.15.0+cu132", Some("13.2")));
        assert_eq!(contents.python.as_deref(), Some("3.13"));
    }

    #[test]
    fn a_cpu_only_torch() {
        let tree = tree(&[("torch/version.py", "__version__ = '2.1.0+cpu'\ncuda = None\n")]);
        assert_eq!(contents(&tree, &Scan::default()).torch.unwrap().cuda, None);
    }

    #[test]
    fn debian_packages_of_both_kinds() {
        let tree = tree(&[
            (
                "var/lib/dpkg/status",
                "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.41-12\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n",
            ),
            ("var/lib/dpkg/info/libc6:amd64.list", "/.\n/usr/lib/libc.so.6\n"),
            ("usr/lib/libc.so.6", "libc"),
            ("var/lib/dpkg/status.d/zlib1g", "Package: zlib1g\nVersion: 1:1.3\n"),
        ]);
        let packages = contents(&tree, &Scan::default()).packages;
        let names: Vec<_> = packages.iter().map(|p| (p.name.as_str(), p.bytes)).collect();
        assert_eq!(names, [("libc6", 4), ("zlib1g", 0)]);
    }
}
