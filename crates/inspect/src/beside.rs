//! What packages need of what stands beside them and their metadata does not say: releases that fit each other, the torch
//! that a version's local part names, and programs that compile their code at first use.

use std::collections::BTreeSet;

use crate::finding::{Finding, Kind, Severity};
use crate::loads::below_site;
use crate::names;
use crate::packages::{Contents, Package, release};
use crate::scan::Library;
use crate::tree::Tree;

/// All of it.
pub fn check(tree: &Tree, whole: bool, contents: &Contents, libraries: &[Library]) -> Vec<Finding> {
    let mut out = undeclared(contents);
    out.extend(together(contents));
    out.extend(clashes(contents));
    out.extend(contents.packages.iter().filter_map(|package| built_for_torch(contents, package)));
    out.extend(first_use(tree, whole, contents, libraries));
    out
}

fn installed<'a>(contents: &'a Contents, name: &str) -> Option<&'a Package> {
    contents.packages.iter().find(|package| package.name == name)
}

/// Releases that refuse an older one beside them.
fn undeclared(contents: &Contents) -> Vec<Finding> {
    let mut out = Vec::new();
    for row in sconce_facts::undeclared() {
        let Some(package) = installed(contents, &row.package) else { continue };
        let requirement = row.requirement_of(&package.version);
        let bounds = [(">=", "or newer"), ("<=", "or older"), ("!=", ""), ("<", "")].into_iter();
        let mut bounds = bounds.filter_map(|(operator, words)| {
            Some((requirement.split_once(operator)?, operator, words))
        });
        let Some(((name, bound), operator, or)) = bounds.next() else { continue };
        let Some(other) = installed(contents, name) else { continue };
        let own = release(&package.version);
        let in_row = release(&row.from) <= own
            && row.until.as_ref().is_none_or(|until| own <= release(until));
        let bound = bound.trim_end_matches(".*");
        let (has, needs) = (release(&other.version), release(bound));
        let fits = match operator {
            ">=" => has >= needs,
            "<=" => has <= needs,
            // `!=9.10.0.*`: all that begin so.
            "!=" => !format!("{}.", other.version).starts_with(&format!("{bound}.")),
            _ => has < needs,
        };
        if !in_row || has.is_none() || fits {
            continue;
        }
        let words = match (operator, or) {
            ("!=", _) => format!("other than {bound}"),
            (_, "") => format!("older than {bound}"),
            (_, or) => format!("{bound} {or}"),
        };
        let message = format!(
            "{} {} needs {name} {words}; {} is installed",
            package.name, package.version, other.version
        );
        let severity = match row.stops && contents.torch.is_none() {
            true => Severity::Error,
            false => Severity::Warning,
        };
        out.push(
            Finding::new(severity, Kind::VersionMismatch, package.name.clone(), message)
                .evidence(["its metadata does not say so: its import does"])
                .fix(format!("install '{requirement}'"))
                .gpu(row.gpu),
        );
    }
    out
}

/// Packages that refuse to work when one is of another release.
fn together(contents: &Contents) -> Vec<Finding> {
    let mut out = Vec::new();
    for row in names::together() {
        if installed(contents, &row.with).is_none() {
            continue;
        }
        let all: Vec<&Package> =
            row.packages.iter().filter_map(|name| installed(contents, name)).collect();
        let first = row.packages.first().and_then(|name| installed(contents, name));
        let since = row.since.as_deref().and_then(release);
        if first.is_some_and(|first| release(&first.version) < since) {
            continue;
        }
        let versions: BTreeSet<Option<Vec<u64>>> =
            all.iter().map(|package| release(&package.version)).collect();
        if versions.len() < 2 {
            continue;
        }
        let list: Vec<String> =
            all.iter().map(|package| format!("{} {}", package.name, package.version)).collect();
        let newest = all.iter().max_by_key(|package| release(&package.version));
        let newest = newest.map_or("", |package| package.version.as_str());
        let severity = match row.stops && contents.torch.is_none() {
            true => Severity::Error,
            false => Severity::Warning,
        };
        out.push(
            Finding::new(
                severity,
                Kind::VersionMismatch,
                row.with.clone(),
                format!("{} must be of one release", list.join(", ")),
            )
            .evidence([format!("seen as: {}", row.fails)])
            .fix(format!("install {newest} of each"))
            .gpu(true),
        );
    }
    out
}

/// Packages of which one has replaced files of another.
fn clashes(contents: &Contents) -> Vec<Finding> {
    let mut out = Vec::new();
    for row in names::clashes() {
        let all: Vec<&str> = row.packages.iter().map(String::as_str).collect();
        let all: Vec<&str> =
            all.into_iter().filter(|name| installed(contents, name).is_some()).collect();
        let (Some(first), true) = (all.last(), all.len() > 1) else { continue };
        let message = format!(
            "{} install the same files, and which of them are there depends on the order",
            all.join(" and ")
        );
        out.push(
            Finding::new(Severity::Warning, Kind::Duplicate, *first, message)
                .evidence([format!("seen as: {}", row.fails)])
                .fix(format!("remove all of them, then install {first} alone"))
                .gpu(true),
        );
    }
    out
}

/// A package whose version says that it was built for another torch.
fn built_for_torch(contents: &Contents, package: &Package) -> Option<Finding> {
    let torch = contents.torch.as_ref()?;
    let (_, local) = package.version.split_once('+')?;
    let own = names::locals().iter().find_map(|row| torch_of(local, &row.mark, row.patch))?;
    let has = release(&torch.version)?;
    let minor = |numbers: &[u64]| {
        (numbers.first().copied().unwrap_or(0), numbers.get(1).copied().unwrap_or(0))
    };
    (minor(&own) != minor(&has)).then(|| {
        let (major, second) = minor(&own);
        let message = format!(
            "{} {} was built for torch {major}.{second}; {} is installed",
            package.name, package.version, torch.version
        );
        Finding::new(Severity::Warning, Kind::VersionMismatch, package.name.clone(), message)
            .fix(format!("install the {} that was built for torch {}", package.name, torch.version))
            .gpu(true)
    })
}

/// The torch that a local part names behind `mark`: 2.5 of `cu12torch2.5cxx11abiFALSE`, `torch250cu124` and `pt25cu124`.
fn torch_of(local: &str, mark: &str, patch: bool) -> Option<Vec<u64>> {
    let at = local.find(mark)?;
    // `pt` of another word is none.
    if local[..at].ends_with(|before: char| before.is_ascii_alphabetic()) {
        return None;
    }
    let rest = &local[at + mark.len()..];
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let digits = rest[..end].trim_end_matches('.');
    if digits.contains('.') {
        return release(digits);
    }
    let digits = match patch {
        true => digits.get(..digits.len().checked_sub(1)?)?,
        false => digits,
    };
    let (major, minor) = digits.split_at_checked(1)?;
    Some(vec![major.parse().ok()?, minor.parse().ok()?])
}

/// Packages that compile at first use, and the programs for it that are not there.
fn first_use(tree: &Tree, whole: bool, contents: &Contents, libraries: &[Library]) -> Vec<Finding> {
    let mut out = Vec::new();
    for row in names::first_uses() {
        let Some(package) = installed(contents, &row.package) else { continue };
        let folder = format!("{}/", row.folder);
        let built = || {
            let mut modules = libraries.iter().filter(|library| library.dynamic.is_some());
            modules.any(|library| below_site(&library.path).starts_with(&folder))
        };
        let brought = row.unless.iter().any(|name| installed(contents, name).is_some());
        if brought || built() {
            continue;
        }
        let lacks: Vec<&str> =
            row.needs.iter().map(String::as_str).filter(|name| !has_program(tree, name)).collect();
        // The machine may have what a virtual environment lacks.
        let (severity, how) = match (lacks.is_empty(), whole) {
            (true, _) => (Severity::Note, "which are here".to_owned()),
            (false, true) => (Severity::Warning, format!("and {} is not here", lacks.join(", "))),
            (false, false) => (
                Severity::Note,
                format!("and {} must be on the machine where it runs", lacks.join(", ")),
            ),
        };
        let message = format!(
            "{} compiles its code for the GPU at first use: that needs {}, {how}",
            package.name,
            row.needs.join(", ")
        );
        out.push(
            Finding::new(severity, Kind::NoCompiler, package.name.clone(), message)
                .evidence([format!("seen as: {}", row.fails)])
                .fix("install a CUDA toolkit of torch's CUDA with nvcc, a C++ compiler and ninja")
                .gpu(severity == Severity::Warning),
        );
    }
    out
}

/// Whether a folder for programs has one of this name.
fn has_program(tree: &Tree, name: &str) -> bool {
    let end = format!("bin/{name}");
    let is = |path: &str| {
        path.strip_suffix(end.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
    };
    tree.files().any(|(path, _)| is(path)) || tree.links().any(|(path, _)| is(path))
}

#[cfg(test)]
mod tests {
    use super::torch_of;

    #[test]
    fn the_torch_of_a_local_part() {
        for (local, mark, patch, is) in [
            ("cu12torch2.5cxx11abiFALSE", "torch", true, Some(vec![2, 5])),
            ("torch250cu124", "torch", true, Some(vec![2, 5])),
            ("torch2100cu128", "torch", true, Some(vec![2, 10])),
            ("pt25cu124", "pt", false, Some(vec![2, 5])),
            ("pt210cu128", "pt", false, Some(vec![2, 10])),
            ("pt113cu117", "pt", false, Some(vec![1, 13])),
            ("opt25", "pt", false, None),
            ("pt", "pt", false, None),
            ("torch2", "torch", true, None),
            ("torch", "torch", true, None),
            ("cu124", "pt", false, None),
            ("pt99999999999999999999999", "pt", false, None),
        ] {
            assert_eq!(torch_of(local, mark, patch), is, "{local}");
        }
    }
}
