//! Links in folders of packages that lead out of what is inspected, as installers make them that keep packages in a
//! cache (`uv pip install --link-mode symlink`) and people who work on a package.

use super::{Leads, Place, words};
use crate::finding::{Finding, Kind, Severity};

/// Links that are followed; more are counted.
const MAX_LINKS: usize = 100_000;
/// Links named.
const MAX_EVIDENCE: usize = 6;

/// One finding for all of them.
pub(super) fn check(place: &Place<'_>) -> Option<Finding> {
    // Of an image one that leads out of it leads nowhere.
    if place.is_image {
        return None;
    }
    let in_packages = |path: &str| {
        path.match_indices('/').any(|(at, _)| place.is_searched(&path[..at]))
            || place.is_searched("")
    };
    let mut outside: Vec<(&str, String)> = Vec::new();
    let mut more = 0;
    let links = place.tree.links().filter(|(path, _)| in_packages(path) && !is_pth(path));
    for (number, (path, target)) in links.enumerate() {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if number >= MAX_LINKS {
            more += 1;
        } else if let Leads::Outside(to) = place.leads(folder, target) {
            outside.push((path, to));
        }
    }
    let (first, to) = outside.first()?;
    let count = outside.len() + more;
    let message = match count {
        1 => format!("leads to {}, which was not inspected", words(to)),
        _ => format!(
            "and {} more links lead out of what is inspected; what they lead to was not",
            count - 1
        ),
    };
    let all = outside.iter().take(MAX_EVIDENCE);
    let finding = Finding::new(Severity::Note, Kind::NotInspected, *first, message)
        .evidence(all.map(|(path, to)| format!("{} -> {}", words(path), words(to))))
        .fix("inspect the folders that they lead to as well, or install the packages as files (`uv pip install --link-mode copy`)")
        .gpu(true);
    Some(finding)
}

/// What such a file names is looked for elsewhere.
fn is_pth(path: &str) -> bool {
    path.ends_with(".pth") || path.ends_with(".egg-link")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::elsewhere::check;
    use crate::outside::Host;
    use crate::tree::Tree;

    #[test]
    fn packages_that_are_links() {
        let machine = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(machine.path().join("cache/torch")).unwrap();
        let mut tree = Tree::new();
        let site = "lib/python3.12/site-packages";
        tree.add_file(&format!("{site}/a/x.so.1"), Arc::new(b"ELF".to_vec()));
        tree.add_link(&format!("{site}/a/x.so"), "x.so.1");
        tree.add_link(&format!("{site}/gone"), "/cache/gone");
        tree.add_link("bin/python", "/cache/torch");
        let host = Host { library_path: String::new(), root: Some(machine.path().to_owned()) };
        assert_eq!(check(&tree, "venv", Some(&host)), []);
        tree.add_link(&format!("{site}/torch"), "/cache/torch");
        let findings = check(&tree, "venv", Some(&host));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].subject, format!("{site}/torch"));
        assert_eq!(findings[0].message, "leads to /cache/torch, which was not inspected");
    }
}
