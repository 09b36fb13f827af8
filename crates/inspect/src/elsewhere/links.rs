//! Links in folders of packages that lead out of what is inspected, as installers make them that keep packages in a
//! cache (`uv pip install --link-mode symlink`) and people who work on a package.

use super::{Leads, Place, words};
use crate::finding::{Finding, Kind, Severity};
use crate::names;

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
    // Libraries and modules first: what is in them decides.
    outside.sort_by_key(|(path, _)| rank(path));
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
        .gpu(true)
        .undecided(rank(first) < SPARE);
    Some(finding)
}

/// The rank of what decides nothing.
const SPARE: u8 = 3;

/// What a link may lead to, by its name: a library, code of Python's, a folder or something else, a text that is not read.
fn rank(path: &str) -> u8 {
    let name = path.rsplit('/').next().unwrap_or(path);
    let of_metadata = path.split('/').any(|part| part.ends_with(".dist-info"));
    match name.rsplit_once('.') {
        _ if names::is_native(name) => 0,
        _ if of_metadata || names::is_spare_file(name) || names::is_for_compilers(name) => SPARE,
        Some((_, "py")) => 1,
        _ => 2,
    }
}

/// Links that have the name of a module and lead nowhere: Python finds the name and can't open it.
pub(super) fn dangling(place: &Place<'_>, torch: bool) -> Option<Finding> {
    let is_module = |path: &str| names::is_module(path.rsplit('/').next().unwrap_or(path));
    let in_packages =
        |path: &str| path.match_indices('/').any(|(at, _)| place.is_searched(&path[..at]));
    let modules = place.tree.links().filter(|(path, _)| is_module(path) && in_packages(path));
    let nowhere = modules.take(MAX_LINKS).filter(|(path, target)| {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        match place.is_image {
            true => place.tree.resolve(path).is_none(),
            false => place.leads(folder, target) == Leads::Nowhere,
        }
    });
    let mut all: Vec<(&str, &str)> = nowhere.collect();
    // Beside torch, a package is a part.
    let of_torch = |path: &str| path.contains("/torch/");
    all.sort_by_key(|(path, _)| !of_torch(path));
    let (path, target) = *all.first()?;
    let severity = if torch && !of_torch(path) { Severity::Warning } else { Severity::Error };
    let message = format!("is a link to {}, which is not there", words(target));
    let evidence = all.iter().take(MAX_EVIDENCE);
    Some(
        Finding::new(severity, Kind::FileMissing, path, message)
            .evidence(
                evidence.map(|(path, target)| format!("{} -> {}", words(path), words(target))),
            )
            .fix("install its package again")
            .gpu(true),
    )
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
    use crate::packages::Contents;
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
        let host = Host {
            library_path: String::new(),
            path: std::ffi::OsString::new(),
            root: Some(machine.path().to_owned()),
        };
        assert_eq!(check(&tree, "venv", Some(&host), &Contents::default()), []);
        tree.add_link(&format!("{site}/torch"), "/cache/torch");
        let findings = check(&tree, "venv", Some(&host), &Contents::default());
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].subject, format!("{site}/torch"));
        assert_eq!(findings[0].message, "leads to /cache/torch, which was not inspected");
    }
}
