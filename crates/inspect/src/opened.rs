//! Libraries that code for a GPU names in its data and opens when it runs: will it find one?

use std::collections::BTreeMap;

use crate::finding::{Finding, Kind, Severity};
use crate::loader::{Loader, Process};
use crate::loads::LoadedByPath;
use crate::packages::Contents;
use crate::scan::Library;
use crate::{drivers, names};

/// What the libraries of `process` will look for and not find. `torch` is the process in which torch
/// is imported: what that has loaded before is there for all.
pub fn check(
    loader: &Loader<'_>,
    by_path: &LoadedByPath<'_>,
    process: &Process,
    torch: &Process,
    contents: &Contents,
) -> Vec<Finding> {
    let mut out = Vec::new();
    for (at, loaded) in process.loaded.iter().enumerate() {
        let Some(library) = loader.library(loaded.library) else { continue };
        if library.opens.is_empty() || names::alternative(library.name()).is_some() {
            continue;
        }
        // Of several versions of one library any one does.
        let mut families: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for name in library.opens.iter().filter(|name| !is_needed(library, name)) {
            families.entry(names::stem(name)).or_default().push(name);
        }
        for names in families.into_values() {
            let found = names.iter().any(|name| {
                process.get(name).or_else(|| torch.get(name)).is_some()
                    || loader.find(process, at, name).is_some()
                    || loader.comes_from_outside(name)
                    || by_path.has(&library.path, name)
                    || by_path.is_spare(&library.path, name)
            });
            if !found {
                out.extend(absent(loader, library, &names, torch, contents));
            }
        }
    }
    out
}

/// Whether one of this family is among the NEEDED: then its absence is told of already.
fn is_needed(library: &Library, name: &str) -> bool {
    let stem = names::stem(name);
    let needed = library.dynamic.iter().flat_map(|dynamic| &dynamic.needed);
    needed.into_iter().any(|needed| names::stem(needed) == stem)
}

fn absent(
    loader: &Loader<'_>,
    library: &Library,
    names: &[&str],
    torch: &Process,
    contents: &Contents,
) -> Option<Finding> {
    let name = *names.first()?;
    if names::is_spare(name) {
        return None;
    }
    let known = names::plugins(library.soname());
    let known = known
        .filter(|row| names.iter().any(|name| row.names.iter().any(|n| names::is_like(n, name))));
    let place = names.iter().flat_map(|name| loader.named(name)).find_map(|at| loader.library(*at));
    // Where no row says that nothing works without it, it may be opened by a part of the library only.
    let severity = match torch.loaded.is_empty() && place.is_none() && known.is_some() {
        true => Severity::Error,
        false => Severity::Warning,
    };
    let (what, fix) = match place.and_then(|place| place.path.rsplit_once('/')) {
        Some((folder, _)) => (
            "is not where the loader looks",
            format!("import torch first, or put {folder} into LD_LIBRARY_PATH"),
        ),
        None => (
            "is nowhere",
            names::how_to_get(name, drivers::major(library).or_else(|| contents.cuda_major()))
                .unwrap_or_else(|| format!("install what brings {name}")),
        ),
    };
    let kind = if place.is_none() { Kind::PluginMissing } else { Kind::LibraryUnreachable };
    let message = format!("opens {} when it runs, which {what}", names.join(" or "));
    Some(
        Finding::new(severity, kind, library.path.clone(), message)
            .evidence(known.map(|row| format!("seen as: {}", row.fails)))
            .fix(fix)
            .gpu(true),
    )
}
