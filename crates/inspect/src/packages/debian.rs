//! Debian's packages: dpkg's status (deb822), and distroless's `status.d`.

use super::{MAX_METADATA, MAX_STATUS, Origin, Package};
use crate::tree::Tree;

/// What is installed.
pub(super) fn packages(tree: &Tree) -> Vec<Package> {
    let mut texts = Vec::new();
    texts.extend(tree.text("var/lib/dpkg/status", MAX_STATUS));
    for (path, _) in tree.files_below("var/lib/dpkg/status.d") {
        if !path.ends_with(".md5sums") {
            texts.extend(tree.text(path, MAX_METADATA));
        }
    }
    let mut out = Vec::new();
    for paragraph in texts.iter().flat_map(|text| text.split("\n\n")) {
        let field = |name: &str| {
            paragraph
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
        };
        let Some((name, version)) = field("Package").zip(field("Version")) else { continue };
        if field("Status").is_some_and(|status| !status.ends_with(" installed")) {
            continue;
        }
        let (files, bytes) = files_of(tree, name, field("Architecture").unwrap_or_default());
        out.push(Package {
            name: name.to_owned(),
            version: version.to_owned(),
            origin: Origin::Debian,
            files,
            bytes,
            requires: Vec::new(),
            native: Vec::new(),
            metadata: "var/lib/dpkg".to_owned(),
        });
    }
    out
}

/// Files and bytes of a Debian package: by `info/NAME.list`, or by distroless's
/// `status.d/NAME.md5sums`.
fn files_of(tree: &Tree, name: &str, architecture: &str) -> (u64, u64) {
    let list = [
        format!("var/lib/dpkg/info/{name}.list"),
        format!("var/lib/dpkg/info/{name}:{architecture}.list"),
        format!("var/lib/dpkg/status.d/{name}.md5sums"),
    ]
    .iter()
    .find_map(|path| tree.text(path, MAX_METADATA))
    .unwrap_or_default();
    let paths = list.lines().map(|line| match line.split_once("  ") {
        Some((sum, path)) if sum.len() == 32 => path,
        _ => line,
    });
    paths
        .filter_map(|path| {
            let path = path.trim_start_matches('/');
            tree.size(path).or_else(|| tree.size(&tree.resolve(path)?))
        })
        .fold((0, 0), |(files, bytes), size| (files + 1, bytes + size))
}
