//! What `import torch` loads before its extension module: libtorch_global_deps.so, and by their full
//! paths libraries of NVIDIA's wheels. What is loaded then answers to its SONAME ever after.
//!
//! Source: `_load_global_deps` in `torch/__init__.py`; its releases are rows of `data/names.toml`.

use crate::loader::{Found, Loader, Missing, Process};
use crate::names::{self, Preload, When};
use crate::packages::{Contents, release};

/// Loads into `process` what torch does with the library number `deps`, its libtorch_global_deps.so.
pub fn simulate(loader: &Loader<'_>, process: &mut Process, deps: usize, contents: &Contents) {
    let at = process.loaded.len();
    loader.load(process, deps);
    let Some(torch) = &contents.torch else { return };
    let site = torch.path.strip_suffix("torch").unwrap_or("");
    let paths = Paths { loader, site, venv: is_closed(loader, site), cuda: contents.cuda_major() };
    let failed = lacking(loader, process).map(|missing| missing.name.clone());
    let rows = names::preloads().iter().filter(|row| holds(row, &torch.version));
    for row in rows {
        let wanted = || wanted(row, paths.cuda);
        if let Some(lacks) = &failed {
            // The message of the error names what lacks; torch looks whether it knows that name.
            let known = wanted().any(|library| lacks.contains(stem(library)));
            if row.when.contains(&When::Failed) && known {
                match wanted().find(|library| paths.find(row, library).is_none()) {
                    Some(absent) => {
                        let name = format!("{}.*", start(absent));
                        process.missing.push(Missing { by: at, name });
                    }
                    None => {
                        load(&paths, row, process, wanted());
                        process.retry();
                    }
                }
            }
        } else if row.when.iter().any(|when| starts(loader, process, *when)) {
            let there = |library: &&str| row.goes_on || paths.find(row, library).is_some();
            load(&paths, row, process, wanted().take_while(there));
        }
    }
}

/// The libraries whose names are there for all that `process` loads after them: torch opens libtorch_global_deps.so with
/// `RTLD_GLOBAL`, which holds for all it needs.
pub fn global(loader: &Loader<'_>, process: &Process) -> Vec<usize> {
    let is_deps = |at: &usize| {
        loader.library(*at).is_some_and(|library| library.name() == "libtorch_global_deps.so")
    };
    let mut all = process.loaded.iter().map(|loaded| loaded.library);
    all.find(is_deps).map(|deps| process.needs_of(loader, deps)).unwrap_or_default()
}

fn wanted(row: &Preload, cuda: Option<u16>) -> impl Iterator<Item = &str> {
    let later = row.from_cuda_12.iter().filter(move |_| cuda.is_some_and(|cuda| cuda >= 12));
    row.libraries.iter().chain(later).map(String::as_str)
}

fn load<'a>(
    paths: &Paths<'_>,
    row: &'a Preload,
    process: &mut Process,
    libraries: impl Iterator<Item = &'a str>,
) {
    for library in libraries.chain(row.spare.iter().map(String::as_str)) {
        if let Some(found) = paths.find(row, library) {
            paths.loader.open(process, found, Found::Preloaded);
        }
    }
}

/// `libcublas.so` of `cublas/libcublas.so`.
fn start(library: &str) -> &str {
    library.rsplit('/').next().unwrap_or(library)
}

/// `libcublas` of `cublas/libcublas.so`.
fn stem(library: &str) -> &str {
    start(library).trim_end_matches(".so")
}

/// What the process lacks first.
fn lacking<'a>(loader: &Loader<'_>, process: &'a Process) -> Option<&'a Missing> {
    process.missing.iter().find(|missing| !loader.comes_from_outside(&missing.name))
}

/// Whether the libraries of `process` make torch load more.
fn starts(loader: &Loader<'_>, process: &Process, when: When) -> bool {
    let part = match when {
        When::Failed => return false,
        When::CudartOfWheel => "nvidia/cuda_runtime/lib/libcudart.so",
        When::Cudart => "libcudart.so",
    };
    let paths = process.loaded.iter().filter_map(|loaded| loader.library(loaded.library));
    paths.into_iter().any(|library| library.path.contains(part))
}

/// Whether a row is of this release of torch: `2.6.0a0+git1234` is one of 2.6.
fn holds(row: &Preload, version: &str) -> bool {
    let release = |text: &str| release(text).unwrap_or_default();
    let own = release(version);
    let until = row.until.as_deref().is_none_or(|until| {
        let parts = until.split('.').count();
        let mut own = own.clone();
        own.truncate(parts);
        own <= release(until)
    });
    release(&row.since) <= own && until
}

/// Whether torch is in a virtual environment that does not have the system's packages.
fn is_closed(loader: &Loader<'_>, site: &str) -> bool {
    // lib/python3.12/site-packages/
    let root = site.trim_end_matches('/').rsplitn(4, '/').nth(3).map_or("", |root| root);
    let file = format!("{root}/pyvenv.cfg");
    loader.text(file.trim_start_matches('/')).is_some_and(|text| {
        !text.lines().any(|line| {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            key.trim() == "include-system-site-packages" && value.trim() == "true"
        })
    })
}

/// The folders of sys.path.
struct Paths<'a> {
    loader: &'a Loader<'a>,
    /// The one that torch lies in, with its last `/`.
    site: &'a str,
    /// Whether there is no other.
    venv: bool,
    cuda: Option<u16>,
}

impl Paths<'_> {
    /// The library that a row names as `FOLDER/START`: of torch's own folder first.
    fn find(&self, row: &Preload, library: &str) -> Option<usize> {
        let (folder, start) = library.split_once('/')?;
        let cuda = format!("cu{}", self.cuda.unwrap_or(0));
        let places: Vec<String> = row
            .places
            .iter()
            .map(|place| {
                format!("{}/{start}.", place.replace("FOLDER", folder).replace("cuMAJOR", &cuda))
            })
            .collect();
        let candidates = self.loader.all().filter(|(_, library)| {
            library.dynamic.is_some() && library.machine == self.loader.machine()
        });
        candidates
            .filter_map(|(at, library)| {
                let path = library.path.as_str();
                let folder = path.rfind('/').map_or(0, |end| end + 1);
                path.ends_with(|c: char| c.is_ascii_digit()).then_some(())?;
                places.iter().enumerate().find_map(|(number, place)| {
                    let from = path.rfind(place.as_str())?;
                    let (root, rest) = path.split_at(from);
                    let here = !rest[place.len()..].contains('/') && from + place.len() > folder;
                    (here && self.is_searched(root))
                        .then_some(((root != self.site, number, path), at))
                })
            })
            .min()
            .map(|(_, at)| at)
    }

    fn is_searched(&self, root: &str) -> bool {
        let packages = ["site-packages/", "dist-packages/"].iter().any(|end| root.ends_with(end));
        root == self.site || (packages && !self.venv)
    }
}
