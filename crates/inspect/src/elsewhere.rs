//! What an environment takes from outside of it: its Python, folders that `.pth` files put on `sys.path`, and links.
//!
//! Source: PEP 405 (`pyvenv.cfg` is in a folder whose `bin/python` is, or leads to, a Python).

mod links;
mod pth;

use std::path::{Path, PathBuf};

use crate::finding::{Finding, Kind, Severity};
use crate::outside::Host;
use crate::packages::Contents;
use crate::tree::Tree;

/// Most links on one way, as the kernel has it (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// The findings; `subject` is what is inspected, as it was named.
pub fn check(tree: &Tree, subject: &str, host: Option<&Host>, contents: &Contents) -> Vec<Finding> {
    let place = Place::new(tree, subject, host);
    let mut findings = pth::check(&place);
    findings.extend(links::check(&place));
    findings.extend(links::dangling(&place, contents.torch.is_some()));
    findings.extend(system_packages(&place));
    findings.extend(place.root.and_then(|root| python(tree, root)));
    findings.extend(conda(tree));
    findings
}

/// Where what is inspected lies.
struct Place<'a> {
    tree: &'a Tree,
    /// The root of the machine that it runs on; none where that may be another one.
    root: Option<&'a Path>,
    /// Whether its root is the root of what runs.
    is_image: bool,
    /// Its own path there.
    real: Option<PathBuf>,
    /// Whether it is itself a folder in which Python looks for packages.
    is_site: bool,
}

/// Where a path leads to.
#[derive(Debug, PartialEq, Eq)]
enum Leads {
    /// To this path of what is inspected.
    Inside(String),
    /// Out of it.
    Outside(String),
    /// Nowhere.
    Nowhere,
}

impl<'a> Place<'a> {
    fn new(tree: &'a Tree, subject: &str, host: Option<&'a Host>) -> Self {
        let root = host.and_then(|host| host.root.as_deref());
        // Absolute paths lead into what is inspected as well.
        let real = root.and_then(|_| std::fs::canonicalize(subject).ok());
        let named = real.as_deref().unwrap_or(Path::new(subject)).file_name();
        let named = named.is_some_and(|name| name == "site-packages" || name == "dist-packages");
        let has_packages = || {
            let mut files = tree.files();
            files.any(|(path, _)| {
                let (folder, name) = path.split_once('/').unwrap_or(("", path));
                folder.ends_with(".dist-info") && name == "METADATA"
            })
        };
        let is_image = host.is_none();
        Self { tree, root, is_image, real, is_site: named || (!is_image && has_packages()) }
    }

    /// Whether Python looks for packages in this folder of the tree.
    fn is_searched(&self, folder: &str) -> bool {
        match folder {
            "" => self.is_site,
            _ => folder.ends_with("site-packages") || folder.ends_with("dist-packages"),
        }
    }

    /// Where `path` leads to from the folder `from` of the tree, as Python or the kernel follows it.
    fn leads(&self, from: &str, path: &str) -> Leads {
        let full = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("{from}/{path}"),
        };
        if self.is_image {
            let inside = self.tree.directory(&full).or_else(|| self.tree.resolve(&full));
            return inside.map_or_else(|| Leads::Outside(path.to_owned()), Leads::Inside);
        }
        if !path.starts_with('/')
            && let Some(inside) = self.tree.beneath(&full)
        {
            return Leads::Inside(inside);
        }
        if !path.starts_with('/') && self.is_gone(from, path) {
            return Leads::Nowhere;
        }
        let Some(real) = &self.real else {
            // A folder that is called by its path on a machine that is not known.
            let inside = self.tree.beneath(&full).filter(|_| path.starts_with('/'));
            return inside.map_or_else(|| self.outside(path, Path::new(path)), Leads::Inside);
        };
        let full = lexical(&real.join(from).join(path));
        let below = full.strip_prefix(real).ok().and_then(Path::to_str);
        match below.and_then(|below| self.tree.beneath(below)) {
            Some(inside) => Leads::Inside(inside),
            None => self.outside(path, &full),
        }
    }

    /// Whether a path stays in what is inspected by its text, over no other link, and nothing is there.
    fn is_gone(&self, from: &str, path: &str) -> bool {
        let mut done: Vec<&str> = from.split('/').filter(|part| !part.is_empty()).collect();
        for part in path.split('/') {
            match part {
                ".." if done.pop().is_none() => return false,
                ".." | "" | "." => {}
                part => {
                    done.push(part);
                    if self.tree.is_link(&done.join("/")) {
                        return false;
                    }
                }
            }
        }
        true
    }

    fn outside(&self, path: &str, full: &Path) -> Leads {
        // What stands before `..` may be a link, which the text alone does not follow.
        let certain = full.is_absolute()
            && path.trim_start_matches("../").split('/').all(|part| part != "..");
        let on_machine =
            |root: &Path| root.join(full.strip_prefix("/").unwrap_or(full)).symlink_metadata();
        match self.root.is_some_and(|root| certain && on_machine(root).is_err()) {
            true => Leads::Nowhere,
            false => Leads::Outside(full.to_string_lossy().into_owned()),
        }
    }
}

/// The path without `.` and `..`, by its text.
fn lexical(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                out.pop();
            }
            std::path::Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

/// Text of a file for a message.
fn words(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(256).collect()
}

/// Something that Python may take from a place that was not inspected.
fn not_inspected(path: &str, message: String) -> Finding {
    Finding::new(Severity::Note, Kind::NotInspected, path, message)
        .fix("inspect that folder as well")
        .gpu(true)
        .undecided(true)
}

/// A virtual environment whose Python takes packages of the system too, which are not among what is inspected.
///
/// Source: PEP 405, "Isolation from system site-packages".
fn system_packages(place: &Place<'_>) -> Option<Finding> {
    const MAX_CONFIG: u64 = 1 << 16;
    if place.is_image {
        return None;
    }
    let is_config = |path: &str| path == "pyvenv.cfg" || path.ends_with("/pyvenv.cfg");
    let takes = |path: &&str| {
        let text = place.tree.text(path, MAX_CONFIG).unwrap_or_default();
        text.lines().any(|line| {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            key.trim() == "include-system-site-packages"
                && value.trim().eq_ignore_ascii_case("true")
        })
    };
    let path =
        place.tree.files().map(|(path, _)| path).filter(|path| is_config(path)).find(takes)?;
    let message = "its Python takes the system's packages too (include-system-site-packages = true), which were not inspected";
    let fix = "inspect the system's folder of packages as well, or make the virtual environment without them";
    Some(not_inspected(path, message.to_owned()).fix(fix))
}

/// A virtual environment whose Python is not there any more: nothing of it runs.
fn python(tree: &Tree, root: &Path) -> Option<Finding> {
    tree.resolve("pyvenv.cfg")?;
    let mut at = "bin/python".to_owned();
    for _ in 0..MAX_LINKS {
        if tree.size(&at).is_some() {
            return None;
        }
        let Some((_, target)) = tree.links().find(|(path, _)| *path == at) else {
            // One for Windows has no such folder.
            let message = "it is a virtual environment without a Python";
            return tree.is_directory("bin").then(|| gone(&at, message.to_owned()));
        };
        if let Some(outside) = target.strip_prefix('/') {
            let there = root.join(outside).exists();
            let message =
                format!("its Python is gone: bin/python leads to {target}, which is not there");
            return (!there).then(|| gone("bin/python", message));
        }
        // `../../python/bin/python` leaves the folder for a place that is not known here.
        if target.contains('/') {
            return None;
        }
        at = format!("bin/{target}");
    }
    Some(gone("bin/python", "its Python is a link to itself".to_owned()))
}

fn gone(path: &str, message: String) -> Finding {
    Finding::new(Severity::Error, Kind::PythonMissing, path, message)
        .fix("make the virtual environment again with a Python that is there")
        .gpu(true)
}

/// What is not read of a conda environment: the records of its packages.
///
/// Source: conda's documentation, "Conda environments": `conda-meta` has one JSON file for each package.
fn conda(tree: &Tree) -> Option<Finding> {
    let is_record = |path: &str| {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let named = folder == "conda-meta" || folder.ends_with("/conda-meta");
        (named && name.ends_with(".json")).then(|| folder.to_owned())
    };
    let folder = tree.files().find_map(|(path, _)| is_record(path))?;
    let message = "it is a conda environment: its libraries and Python packages were inspected; conda's records of packages, which name the others and what they ask for, were not read";
    Some(
        Finding::new(Severity::Note, Kind::NotInspected, folder, message)
            .fix("`conda list` names them"),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn venv(python: &str) -> Tree {
        let mut tree = Tree::new();
        tree.add_file("pyvenv.cfg", Arc::new(b"home = /usr/bin\n".to_vec()));
        tree.add_link("bin/python", "python3");
        tree.add_link("bin/python3", python);
        tree
    }

    fn said(tree: &Tree, root: &Path) -> Vec<String> {
        let host = Host {
            library_path: String::new(),
            path: std::ffi::OsString::new(),
            root: Some(root.to_owned()),
        };
        let findings = check(tree, "venv", Some(&host), &Contents::default());
        findings.into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_python_that_is_gone() {
        let machine = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(machine.path().join("usr/bin")).expect("a folder");
        std::fs::write(machine.path().join("usr/bin/python3.12"), "").expect("a file");
        assert_eq!(said(&venv("/usr/bin/python3.12"), machine.path()), [] as [String; 0]);
        assert_eq!(
            said(&venv("/usr/bin/python3.11"), machine.path()),
            ["its Python is gone: bin/python leads to /usr/bin/python3.11, which is not there"]
        );
        assert_eq!(said(&venv("python"), machine.path()), ["its Python is a link to itself"]);
        // Of one in an image, or for another machine, nothing can be said.
        assert_eq!(check(&venv("/usr/bin/python3.11"), "venv", None, &Contents::default()), []);
        let mut copied = venv("python3.12");
        copied.add_file("bin/python3.12", Arc::new(b"\x7fELF".to_vec()));
        assert_eq!(said(&copied, machine.path()), [] as [String; 0]);
    }

    #[test]
    fn what_is_not_read_of_a_conda_environment() {
        let mut tree = Tree::new();
        tree.add_file("conda-meta/history", Arc::new(b"==>\n".to_vec()));
        assert_eq!(check(&tree, "env", None, &Contents::default()), []);
        tree.add_file("conda-meta/cuda-cudart-12.4.127-0.json", Arc::new(b"{}".to_vec()));
        let findings = check(&tree, "env", None, &Contents::default());
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].subject, "conda-meta");
    }
}
