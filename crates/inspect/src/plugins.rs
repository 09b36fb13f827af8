//! Libraries that a loaded one opens by a name that rows of `data/names.toml` know: there, and from its own set?

use std::collections::BTreeMap;

use crate::drivers;
use crate::finding::{Finding, Kind, Severity};
use crate::loader::{Found, Loader, Process};
use crate::names::{self, Plugin, is_like};
use crate::scan::Library;

/// What the libraries of `process` will open and not find, or find in another copy. `torch` is the process in which
/// torch is imported: what that has loaded before is there for all.
pub fn check(loader: &Loader<'_>, process: &Process, torch: &Process) -> Vec<Finding> {
    // A row is of several libraries where releases differ in which of them opens the rest.
    let mut openers: BTreeMap<&[String], (&'static Plugin, Vec<usize>)> = BTreeMap::new();
    for (at, loaded) in process.loaded.iter().enumerate() {
        let Some(library) = loader.library(loaded.library) else { continue };
        let Some(row) = names::plugins(library.soname()) else { continue };
        let needless = row.if_there.as_ref().is_some_and(|name| loader.named(name).is_empty());
        if !needless && (!row.of_gpu_builds || library.has_gpu_code()) {
            openers.entry(&row.of).or_insert_with(|| (row, Vec::new())).1.push(at);
        }
    }
    openers
        .into_values()
        .flat_map(|(row, openers)| of_row(loader, process, torch, row, &openers))
        .collect()
}

fn of_row(
    loader: &Loader<'_>,
    process: &Process,
    torch: &Process,
    row: &Plugin,
    openers: &[usize],
) -> Vec<Finding> {
    let library = |at: &usize| loader.library(process.loaded.get(*at)?.library);
    let libraries = || openers.iter().filter_map(library);
    let Some(first) = libraries().next() else { return Vec::new() };
    let cuda = libraries().find_map(drivers::major);
    let mut absent = Vec::new();
    let mut foreign: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    // What stands in their data is looked for with all that they open by name.
    let opened =
        |name: &str| libraries().flat_map(|library| &library.opens).any(|own| is_like(name, own));
    for name in row.names.iter().filter(|name| !opened(name)) {
        let wanted: Vec<&str> = loader
            .sonames()
            .map(|(soname, _)| soname)
            .filter(|soname| is_like(name, soname) && is_of(soname, name, cuda))
            .collect();
        let find = |at: usize| -> Option<(usize, Found)> {
            wanted.iter().find_map(|soname| {
                process
                    .get(soname)
                    .or_else(|| torch.get(soname))
                    .map(|loaded| (loaded.library, loaded.found))
                    .or_else(|| loader.find(process, at, soname).map(|(l, _, found)| (l, found)))
            })
        };
        let found = openers.iter().find_map(|at| Some((*at, find(*at)?)));
        let Some((at, (plugin, found))) = found else {
            absent.push(name.clone());
            continue;
        };
        let (Some(opener), Some(plugin)) = (library(&at), loader.library(plugin)) else { continue };
        if folder(&plugin.path) != folder(&opener.path)
            && plugin.soname().starts_with(&names::stem(opener.soname()))
        {
            let of = foreign.entry(&opener.path).or_default();
            of.push(format!("{} ({})", plugin.path, found.words()));
        }
    }
    let mut out: Vec<Finding> = missing(first, row, &absent).into_iter().collect();
    out.extend(foreign.into_iter().map(|(path, parts)| mixed(path, parts)));
    out
}

/// Whether `soname` may be of the CUDA that the one who asks for `name` is of. A name with a version says it itself.
fn is_of(soname: &str, name: &str, cuda: Option<u16>) -> bool {
    let own = names::cuda_major(soname);
    !name.ends_with(".so.*") || own.is_none() || cuda.is_none() || own == cuda
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn missing(library: &Library, row: &Plugin, absent: &[String]) -> Option<Finding> {
    let first = absent.first()?;
    let message =
        format!("{} opens {} at run time and will not find it", library.name(), absent.join(", "));
    let fix = row
        .fix
        .clone()
        .or_else(|| names::how_to_get(first, names::cuda_major(first)))
        .unwrap_or_else(|| "install the whole package again".to_owned());
    let severity = if row.part { Severity::Warning } else { Severity::Error };
    Some(
        Finding::new(severity, Kind::PluginMissing, library.path.clone(), message)
            .evidence([format!("seen as: {}", row.fails)])
            .fix(fix)
            .gpu(true),
    )
}

fn mixed(path: &str, parts: Vec<String>) -> Finding {
    let name = path.rsplit('/').next().unwrap_or(path);
    let message = format!("{name} would get parts of itself from another copy");
    Finding::new(Severity::Error, Kind::MixedCudnn, path, message)
        .evidence(parts)
        .evidence(["seen as: CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH".to_owned()])
        .fix("remove one of the two, or take its folder out of LD_LIBRARY_PATH")
}
