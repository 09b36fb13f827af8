//! A libcuda that takes the driver's place: one for forward compatibility, one that a package brings, or a stub to link
//! with.
//!
//! Source: CUDA Compatibility, "Forward Compatibility": the compat package's libcuda.so.1 is for data-centre GPUs and for
//! drivers older than itself (errors 804 and 803). A stub has every function, and each fails (`CUDA driver is a stub
//! library`). ld.so(8): RPATH, LD_LIBRARY_PATH and RUNPATH come before ld.so.cache, where the driver's is. What puts the
//! driver's libraries into a container runs ldconfig there, so an image's own may be found first or last.

use std::collections::BTreeSet;

use sconce_facts::DriverVersion;
use serde::Serialize;

use crate::closure::Closure;
use crate::finding::{Finding, Kind, Severity};
use crate::loader::{Found, Loader, Process};
use crate::names;

/// What everything opens.
pub(crate) const NAME: &str = "libcuda.so.1";

/// A libcuda that comes, or may come, before the driver's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Libcuda {
    /// Its path.
    pub library: String,
    /// The driver it is of, as its file's name says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// What brings it: `by LD_LIBRARY_PATH`.
    pub by: String,
    /// Whether it is certain that it wins.
    pub wins: bool,
}

impl Libcuda {
    /// The driver it is of.
    pub fn version(&self) -> Option<DriverVersion> {
        self.driver.as_deref()?.parse().ok()
    }
}

/// Whether a file of this name is a libcuda, auditwheel's copies included.
pub fn is_one(name: &str) -> bool {
    names::unmangled(name).starts_with("libcuda.so")
}

/// The one that wins or may win; a stub that does is a finding instead.
pub fn check(loader: &Loader<'_>, closure: &Closure) -> (Option<Libcuda>, Option<Finding>) {
    if let Some((at, opened)) = loader.by_library_path(NAME) {
        return brought(loader, at, &opened, "by LD_LIBRARY_PATH".to_owned(), true);
    }
    // Of what torch loads it is certain; another package may not be imported at all, or later.
    let mut all: Vec<&Brought> = closure.libcuda.iter().collect();
    all.sort_by_key(|brought| !brought.certain);
    if let Some(first) = all.first() {
        let by = match first.found {
            Found::Rpath => format!("by the RPATH of {}", first.by),
            Found::Runpath => format!("by the RUNPATH of {}", first.by),
            found => format!("{} ({})", found.words(), first.by),
        };
        return brought(loader, first.library, &first.opened, by, first.certain);
    }
    let system = loader.by_system(NAME);
    let libraries: BTreeSet<usize> = system.iter().map(|(at, _)| *at).collect();
    let Some((at, opened)) = system.first() else { return (None, None) };
    let by = "by the image's ld.so.cache or its folders of libraries".to_owned();
    let (libcuda, stub) = brought(loader, *at, opened, by, false);
    // Of several nobody knows which one is found first.
    let libcuda = libcuda.map(|libcuda| match libraries.len() {
        1 => libcuda,
        _ => Libcuda { driver: None, ..libcuda },
    });
    (libcuda, stub)
}

fn brought(
    loader: &Loader<'_>,
    at: usize,
    opened: &str,
    by: String,
    wins: bool,
) -> (Option<Libcuda>, Option<Finding>) {
    let Some(library) = loader.library(at).map(|library| library.path.clone()) else {
        return (None, None);
    };
    let stub = [opened, library.as_str()].iter().any(|path| path.contains("/stubs/"));
    if stub && wins {
        let message = match by.as_str() {
            "by LD_LIBRARY_PATH" => "is a stub to link with, and LD_LIBRARY_PATH brings it before the driver's: CUDA does not start".to_owned(),
            by => format!("is a stub to link with, and comes before the driver's {by}: CUDA does not start"),
        };
        let finding = Finding::new(Severity::Error, Kind::DriverLibrary, library, message)
            .evidence(["seen as: CUDA driver is a stub library"])
            .fix("take its folder out of LD_LIBRARY_PATH, RPATH and RUNPATH");
        return (None, Some(finding));
    }
    let name = library.rsplit('/').next().unwrap_or(&library);
    let version = names::unmangled(name).strip_prefix("libcuda.so.").map(str::to_owned);
    let driver = version.filter(|version| version.contains('.'));
    (Some(Libcuda { library, driver, by, wins }), None)
}

/// A copy of libcuda that something loads before the driver's.
pub struct Brought {
    /// Its number.
    pub library: usize,
    /// The path it is opened by.
    pub opened: String,
    /// How it was found.
    pub found: Found,
    /// The path of who needs it.
    pub by: String,
    /// Whether what there is to run loads it: torch, or anything where there is no torch.
    pub certain: bool,
}

/// The copies of libcuda in the tree that `process` loads, but for the system's, of which there may be another then.
pub fn copies(loader: &Loader<'_>, process: &Process, certain: bool, out: &mut Vec<Brought>) {
    for loaded in &process.loaded {
        let Some(by) = loaded.by.and_then(|by| process.loaded.get(by)) else { continue };
        let found = !matches!(loaded.found, Found::Cache | Found::Default | Found::Environment);
        let (Some(library), Some(by)) =
            (loader.library(loaded.library), loader.library(by.library))
        else {
            continue;
        };
        let known =
            out.iter().any(|known| known.library == loaded.library && known.certain >= certain);
        if found && !known && !library.outside && is_one(library.name()) {
            let (opened, by) = (loaded.opened.clone(), by.path.clone());
            out.push(Brought { library: loaded.library, opened, found: loaded.found, by, certain });
        }
    }
}
