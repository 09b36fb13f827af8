//! What a virtual environment takes from outside of it: its Python, and folders that `.pth` files put on `sys.path`.
//!
//! Source: PEP 405 (`pyvenv.cfg` is in a folder whose `bin/python` is, or leads to, a Python), and Python's documentation
//! of `site` (a line of a `.pth` file is a comment, code that begins with `import`, or a folder).

use std::path::{Path, PathBuf};

use crate::finding::{Finding, Kind, Severity};
use crate::outside::Host;
use crate::tree::Tree;

/// The largest `.pth` file that is read, bytes.
const MAX_PTH: u64 = 1 << 20;
/// Folders outside that are named.
const MAX_FOLDERS: usize = 64;
/// Most links on one way, as the kernel has it (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// The findings; `subject` is what is inspected, as it was named.
pub fn check(tree: &Tree, subject: &str, host: Option<&Host>) -> Vec<Finding> {
    let root = host.and_then(|host| host.root.as_deref());
    let mut findings = folders(tree, subject, root);
    findings.extend(root.and_then(|root| python(tree, root)));
    findings
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

/// Folders on `sys.path` that are not among what is inspected.
fn folders(tree: &Tree, subject: &str, root: Option<&Path>) -> Vec<Finding> {
    // Absolute paths lead into what is inspected as well.
    let real = root.and_then(|_| std::fs::canonicalize(subject).ok());
    let files = tree.files().filter(|(path, size)| is_pth(path) && *size <= MAX_PTH);
    let mut findings = Vec::new();
    for (path, _) in files {
        let site = path.rsplit_once('/').map_or("", |(site, _)| site);
        let text = tree.text(path, MAX_PTH).unwrap_or_default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let named = match line.starts_with("import ") || line.starts_with("import\t") {
                // setuptools' editable installs that name their folders in a program of their own.
                true if line.contains("__editable__") => {
                    "a folder that its program names".to_owned()
                }
                true => continue,
                false if line.starts_with('#') => continue,
                false if is_inside(tree, site, line, real.as_ref()) => continue,
                // Python passes over what is not there.
                false if root.is_some_and(|root| !is_there(root, line)) => continue,
                false => line.chars().filter(|c| !c.is_control()).take(256).collect(),
            };
            let message =
                format!("Python looks for modules in {named} too, which was not inspected");
            findings.push(
                Finding::new(Severity::Note, Kind::NotInspected, path, message)
                    .fix("inspect that folder as well"),
            );
            if findings.len() == MAX_FOLDERS {
                return findings;
            }
        }
    }
    findings
}

/// Whether this is a `.pth` file in a folder in which Python looks for them.
fn is_pth(path: &str) -> bool {
    let Some((folder, name)) = path.rsplit_once('/') else { return false };
    name.ends_with(".pth")
        && (folder.ends_with("site-packages") || folder.ends_with("dist-packages"))
}

fn is_inside(tree: &Tree, site: &str, line: &str, real: Option<&PathBuf>) -> bool {
    let below = match line.starts_with('/') {
        false => return tree.is_directory(&format!("{site}/{line}")),
        true => match real {
            Some(real) => Path::new(line).strip_prefix(real).ok(),
            None => Some(Path::new(line)),
        },
    };
    below.and_then(Path::to_str).is_some_and(|below| tree.is_directory(below))
}

fn is_there(root: &Path, line: &str) -> bool {
    // A relative one that leads out of the folder is counted as there.
    line.strip_prefix('/').is_none_or(|path| root.join(path).exists())
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
        let host = Host { library_path: String::new(), root: Some(root.to_owned()) };
        let findings = check(tree, "venv", Some(&host));
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
        assert_eq!(check(&venv("/usr/bin/python3.11"), "venv", None), []);
        let mut copied = venv("python3.12");
        copied.add_file("bin/python3.12", Arc::new(b"\x7fELF".to_vec()));
        assert_eq!(said(&copied, machine.path()), [] as [String; 0]);
    }

    #[test]
    fn folders_beside_the_environment() {
        let machine = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(machine.path().join("home/me/src")).expect("a folder");
        let mut tree = Tree::new();
        let site = "lib/python3.12/site-packages";
        tree.add_directory(&format!("{site}/inside"));
        tree.add_file(
            &format!("{site}/all.pth"),
            Arc::new(b"# a comment\ninside\n/home/me/src\n/not/there\nimport os\nimport __editable___x_finder; x()\n".to_vec()),
        );
        tree.add_file("elsewhere/b.pth", Arc::new(b"/home/me/src\n".to_vec()));
        assert_eq!(
            said(&tree, machine.path()),
            [
                "Python looks for modules in /home/me/src too, which was not inspected",
                "Python looks for modules in a folder that its program names too, which was not inspected"
            ]
        );
    }
}
