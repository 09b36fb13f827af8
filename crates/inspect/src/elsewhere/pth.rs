//! `.pth` files, and the egg-links of `setup.py develop`.
//!
//! Source: Python's documentation of `site`, and `addpackage` in its `Lib/site.py`: a line of a `.pth` file is a comment,
//! code that begins with `import`, or a folder, from the folder that the file lies in; what is not there is passed over.
//! setuptools' documentation, "Development Mode": the first line of an egg-link is the folder of the sources.

use std::collections::BTreeSet;

use super::{Leads, Place, not_inspected, words};
use crate::finding::Finding;

/// The largest file that is read, bytes.
const MAX_FILE: u64 = 1 << 20;
/// Bytes of such files that are read in all.
const MAX_ALL: u64 = 16 << 20;
/// Folders that are named.
const MAX_FOLDERS: usize = 64;
/// Words of a program by which it puts folders on `sys.path`; setuptools' editable installs name theirs in a module.
const ADDS: &[&str] = &[
    "__editable__",
    "addsitedir(",
    "sys.path.append(",
    "sys.path.insert(",
    "sys.path.extend(",
    "sys.path +=",
    "sys.path+=",
];

/// Folders on `sys.path` that are not among what is inspected, and files that may name such and were not read.
pub(super) fn check(place: &Place<'_>) -> Vec<Finding> {
    let is_one = |path: &str| {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        (name.ends_with(".pth") || name.ends_with(".egg-link")) && place.is_searched(folder)
    };
    let files = place.tree.files().map(|(path, _)| path);
    let links = place.tree.links().map(|(path, _)| path);
    let mut paths: Vec<&str> = files.chain(links).filter(|path| is_one(path)).collect();
    // What an egg-link names is mostly in a `.pth` file too, and is told of there.
    paths.sort_unstable_by_key(|path| (path.ends_with(".egg-link"), *path));
    let mut search = Search { place, read: 0, folders: BTreeSet::new(), findings: Vec::new() };
    for (number, path) in paths.iter().enumerate() {
        search.file(path);
        if search.findings.len() >= MAX_FOLDERS {
            let left = paths.len() - number - 1;
            let message = format!(
                "more folders are named here than are told, and {left} more files that name such were not read"
            );
            search.findings.push(not_inspected(path, message));
            break;
        }
    }
    search.findings
}

struct Search<'a> {
    place: &'a Place<'a>,
    read: u64,
    /// Folders told of.
    folders: BTreeSet<String>,
    findings: Vec<Finding>,
}

impl Search<'_> {
    fn file(&mut self, path: &str) {
        let tree = self.place.tree;
        let (site, name) = path.rsplit_once('/').unwrap_or(("", path));
        let link = tree.links().find(|(link, _)| *link == path).map(|(_, target)| target);
        // Python opens it wherever a link leads to.
        let at = match link.map(|target| self.place.leads(site, target)) {
            Some(Leads::Nowhere) => return,
            Some(Leads::Outside(_)) if self.place.is_image => return,
            Some(Leads::Outside(to)) => {
                return self.unread(path, &format!("a link to {}", words(&to)));
            }
            Some(Leads::Inside(to)) => to,
            None => path.to_owned(),
        };
        let Some(size) = tree.size(&at) else { return };
        if size > MAX_FILE {
            return self.unread(path, &format!("larger than {MAX_FILE} bytes"));
        }
        self.read += size;
        if self.read > MAX_ALL {
            return self
                .unread(path, &format!("one of so many that they have over {MAX_ALL} bytes"));
        }
        let Some(text) = tree.text(&at, MAX_FILE) else {
            return self.unread(path, "not readable");
        };
        let text = text.trim_start_matches('\u{feff}');
        let lines = match name.ends_with(".egg-link") {
            // The second line says where its setup.py lies.
            true => 1,
            false => usize::MAX,
        };
        for line in text.lines().take(lines).map(str::trim).filter(|line| !line.is_empty()) {
            if self.findings.len() >= MAX_FOLDERS {
                return;
            }
            self.line(path, site, line);
        }
    }

    fn line(&mut self, path: &str, site: &str, line: &str) {
        if line.starts_with('#') {
            return;
        }
        if line.starts_with("import ") || line.starts_with("import\t") {
            // easy-install only moves what its own file added.
            if ADDS.iter().any(|adds| line.contains(adds)) && !line.contains("__plen") {
                self.tell(path, "a folder that its program names".to_owned());
            }
            return;
        }
        match self.place.leads(site, line) {
            Leads::Nowhere => {}
            // Modules in an archive are imported like those in a folder.
            Leads::Inside(at) if self.place.tree.size(&at).is_some() => {
                self.tell(path, format!("the archive {}", words(&at)));
            }
            Leads::Inside(_) => {}
            Leads::Outside(folder) => self.tell(path, words(&folder)),
        }
    }

    fn tell(&mut self, path: &str, named: String) {
        let message = format!("Python looks for modules in {named} too, which was not inspected");
        let shared = !named.starts_with("a folder");
        if !shared || self.folders.insert(named) {
            self.findings.push(not_inspected(path, message));
        }
    }

    fn unread(&mut self, path: &str, why: &str) {
        let message = format!(
            "is {why}, and was not read: the folders that it puts on sys.path are not known"
        );
        self.findings.push(not_inspected(path, message));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::elsewhere::check;
    use crate::outside::Host;
    use crate::packages::Contents;
    use crate::tree::Tree;

    const SITE: &str = "lib/python3.12/site-packages";

    fn put(tree: &mut Tree, name: &str, text: &str) {
        tree.add_file(&format!("{SITE}/{name}"), Arc::new(text.as_bytes().to_vec()));
    }

    fn said(tree: &Tree, root: &Path) -> Vec<String> {
        let host = Host {
            library_path: String::new(),
            path: std::ffi::OsString::new(),
            root: Some(root.to_owned()),
        };
        let subject = root.join("home/me/venv");
        let findings = check(tree, subject.to_str().unwrap(), Some(&host), &Contents::default());
        let cut = root.to_string_lossy().into_owned();
        findings.into_iter().map(|finding| finding.message.replace(&cut, "")).collect()
    }

    /// A machine whose root is this folder, so that `/home/me/venv` lies at its real path.
    fn machine() -> tempfile::TempDir {
        let machine = tempfile::tempdir().unwrap();
        for folder in ["home/me/src", "home/me/venv/lib/python3.12/site-packages"] {
            std::fs::create_dir_all(machine.path().join(folder)).unwrap();
        }
        machine
    }

    #[test]
    fn folders_beside_the_environment() {
        let machine = machine();
        let mut tree = Tree::new();
        tree.add_directory(&format!("{SITE}/inside"));
        put(
            &mut tree,
            "all.pth",
            "# a comment\ninside\n/home/me/src\n/not/there\nimport os\nimport __editable___x_finder; x()\n",
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

    #[test]
    fn ways_that_lead_out_by_dots() {
        // On a machine of its own, where the subject's real path is the path that it has.
        let machine = machine();
        let outer = machine.path().to_str().unwrap();
        let host = Host {
            library_path: String::new(),
            path: std::ffi::OsString::new(),
            root: Some("/".into()),
        };
        let subject = format!("{outer}/home/me/venv");
        let mut tree = Tree::new();
        tree.add_directory(&format!("{SITE}/inside"));
        tree.add_directory("src");
        put(
            &mut tree,
            "x.pth",
            &format!(
                "../../../../src\n../../../src\n../../../../nowhere\n{subject}/src\n../../../../venv/src\n"
            ),
        );
        let findings = check(&tree, &subject, Some(&host), &Contents::default());
        let said: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
        let expected =
            format!("Python looks for modules in {outer}/home/me/src too, which was not inspected");
        assert_eq!(said, [expected.as_str()]);
        // A wheel goes to a machine that is not known.
        let host =
            Host { library_path: String::new(), path: std::ffi::OsString::new(), root: None };
        let mut wheel = Tree::new();
        wheel.add_file("x.pth", Arc::new(b"../../outside\nx-1.dist-info\n".to_vec()));
        wheel.add_file("x-1.dist-info/METADATA", Arc::new(b"Name: x\nVersion: 1\n".to_vec()));
        let findings = check(&wheel, "x-1-py3-none-any.whl", Some(&host), &Contents::default());
        let said: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(
            said,
            ["Python looks for modules in ../../outside too, which was not inspected"]
        );
    }

    #[test]
    fn files_that_are_not_read_are_told_of() {
        let machine = machine();
        std::fs::write(machine.path().join("home/me/list.pth"), "/x\n").unwrap();
        let mut tree = Tree::new();
        put(&mut tree, "large.pth", &"#".repeat((1 << 20) + 1));
        put(&mut tree, "named.txt", "/home/me/src\n");
        tree.add_link(&format!("{SITE}/inner.pth"), "named.txt");
        tree.add_link(&format!("{SITE}/outer.pth"), "/home/me/list.pth");
        tree.add_link(&format!("{SITE}/broken.pth"), "/home/me/gone.pth");
        put(&mut tree, "old.egg", "PK");
        put(&mut tree, "easy-install.pth", "import sys; sys.__plen = len(sys.path)\n./old.egg\n");
        assert_eq!(
            said(&tree, machine.path()),
            [
                "Python looks for modules in the archive lib/python3.12/site-packages/old.egg too, which was not inspected",
                "Python looks for modules in /home/me/src too, which was not inspected",
                "is larger than 1048576 bytes, and was not read: the folders that it puts on sys.path are not known",
                "is a link to /home/me/list.pth, and was not read: the folders that it puts on sys.path are not known",
            ]
        );
    }

    #[test]
    fn an_egg_link_is_told_of_once() {
        let machine = machine();
        let mut tree = Tree::new();
        put(&mut tree, "a.egg-link", "/home/me/src\n.\n");
        let once = ["Python looks for modules in /home/me/src too, which was not inspected"];
        assert_eq!(said(&tree, machine.path()), once);
        put(&mut tree, "easy-install.pth", "/home/me/src\n");
        assert_eq!(said(&tree, machine.path()), once);
    }

    #[test]
    fn more_than_are_told_is_said() {
        let machine = machine();
        let mut tree = Tree::new();
        let lines: String = (0..200).map(|n| format!("../../../../home/x{n}/../y{n}\n")).collect();
        put(&mut tree, "many.pth", &lines);
        put(&mut tree, "next.pth", "/home/me/src\n");
        let said = said(&tree, machine.path());
        assert_eq!(said.len(), MAX_FOLDERS + 1);
        assert!(said[MAX_FOLDERS].contains("and 1 more files"), "{}", said[MAX_FOLDERS]);
    }
}
