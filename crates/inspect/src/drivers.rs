//! Which CUDA an environment uses, and which drivers that runs on.
//!
//! torch says it itself. Elsewhere the CUDA runtime is a library of its own, or it is linked
//! statically: then the names of other CUDA libraries, the notes of the tools that made the GPU code
//! and the PTX say it.

use std::collections::{BTreeMap, BTreeSet};

use sconce_facts::{CudaVersion, Floor};
use serde::Serialize;

use crate::by_cuda::{ByCuda, number};
use crate::libcuda::Libcuda;
use crate::names;
use crate::packages::Contents;
use crate::scan::Library;
use crate::tree::Tree;

/// Which drivers it runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Drivers {
    /// The CUDA it uses: torch's own word, else what its libraries show.
    pub cuda: Option<String>,
    /// Its major version.
    pub cuda_major: Option<u16>,
    /// The lowest driver any code for this CUDA major starts on.
    pub floor: Option<String>,
    /// The newest PTX ISA in any library, which a driver must know to compile it.
    pub newest_ptx: Option<(u16, u16)>,
    /// The first driver that knows it.
    pub newest_ptx_driver: Option<String>,
    /// Directories with libraries for forward compatibility.
    pub compat: Vec<String>,
    /// Libraries of a newer CUDA major than `cuda_major`, which need a newer driver than the rest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub newer: Vec<Newer>,
    /// Builds for several CUDAs, of which the environment takes one. Empty where torch says which.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub builds: Vec<BuildFloor>,
    /// A libcuda that LD_LIBRARY_PATH brings before the driver's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub libcuda: Option<Libcuda>,
}

/// The floor of one build of a library that is there for several CUDAs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BuildFloor {
    /// What the names of the builds have in common: `libbitsandbytes_cuda*`.
    pub names: String,
    /// Its CUDA: `11.8`, or the major alone.
    pub cuda: String,
    /// The lowest driver that starts it, where it is known.
    pub floor: Option<String>,
}

impl BuildFloor {
    /// `the build for CUDA 13.0 (libx_cuda*) runs from driver 580.65.06 on`.
    pub fn words(&self) -> String {
        let Self { names, cuda, floor } = self;
        let build = format!("the build for CUDA {cuda} ({names})");
        match floor {
            Some(floor) => format!("{build} runs from driver {floor} on"),
            None => format!("{build}: no driver floor is known"),
        }
    }
}

/// A library of a newer CUDA major than the environment's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Newer {
    /// Its path.
    pub library: String,
    /// The major version of its CUDA.
    pub cuda_major: u16,
    /// The lowest driver that starts it.
    pub floor: String,
}

impl Newer {
    /// `x/libx.so is of CUDA 13, which needs driver 580.65.06 or newer`.
    pub fn words(&self) -> String {
        let Self { library, cuda_major, floor } = self;
        format!("{library} is of CUDA {cuda_major}, which needs driver {floor} or newer")
    }
}

/// What the libraries of an environment say of its CUDA.
pub fn of(tree: &Tree, libraries: &[Library], contents: &Contents) -> Drivers {
    let by_cuda = ByCuda::new(libraries);
    let newest_ptx =
        libraries.iter().flat_map(Library::codes).filter_map(|(_, tally)| tally.ptx_isa).max();
    let mut compat: Vec<String> = tree
        .files()
        .filter(|(path, _)| path.contains("/compat/") && path.contains("/libcuda.so"))
        .filter_map(|(path, _)| path.rsplit_once('/'))
        .map(|(folder, _)| folder.to_owned())
        .collect();
    compat.dedup();
    let said = contents.torch.as_ref().and_then(|torch| torch.cuda.clone());
    let builds = if said.is_some() { Vec::new() } else { builds(libraries, &by_cuda) };
    let (cuda, major) = match said.as_deref().and_then(|text| text.parse::<CudaVersion>().ok()) {
        Some(built) => (said, Some(built.major)),
        None => match shown(libraries, &by_cuda) {
            Some((major, Some(release))) => (Some(release.to_string()), Some(major)),
            Some((major, None)) => (Some(major.to_string()), Some(major)),
            None => (said, None),
        },
    };
    Drivers {
        cuda,
        cuda_major: major,
        floor: major
            .and_then(sconce_facts::floor)
            .map(|Floor { driver, .. }| driver.as_str().to_owned()),
        newest_ptx,
        newest_ptx_driver: newest_ptx
            .and_then(names::ptx_driver)
            .map(|driver| driver.as_str().to_owned()),
        compat,
        newer: major.map(|major| newer(libraries, &by_cuda, major)).unwrap_or_default(),
        builds,
        libcuda: None,
    }
}

/// The builds with code for GPUs, where there are several of one: by their names, the oldest CUDA first.
fn builds(libraries: &[Library], by_cuda: &ByCuda) -> Vec<BuildFloor> {
    let mut found: BTreeMap<String, BTreeMap<Vec<u16>, BuildFloor>> = BTreeMap::new();
    let own = |library: &&Library| library.has_gpu_code() && !library.outside;
    for build in libraries.iter().filter(own).filter_map(|library| by_cuda.build(library)) {
        let floor = build.floor().map(|floor| floor.as_str().to_owned());
        let names = build.shown().to_owned();
        let own = BuildFloor { names, cuda: build.cuda.clone(), floor };
        found.entry(build.group.clone()).or_default().entry(number(&build.cuda)).or_insert(own);
    }
    let several = found.into_values().filter(|builds| builds.len() > 1);
    several.flat_map(BTreeMap::into_values).collect()
}

/// Libraries of a CUDA newer than `major`. Of what NVIDIA brings the name says it, where it does: `libnccl.so.2` is of the CUDA
/// whose tools made it, and has that one's runtime linked in.
fn newer(libraries: &[Library], by_cuda: &ByCuda, major: u16) -> Vec<Newer> {
    // A build for a newer CUDA is not the one that is taken; one that is called a build for this one is what it is made with.
    let own = |library: &&Library| {
        !library.outside
            && match by_cuda.build(library) {
                Some(build) => build.major <= major,
                None => !by_cuda.is_one_of_several(library),
            }
    };
    let asked: BTreeSet<&str> = libraries.iter().flat_map(asks).collect();
    let of_this: BTreeSet<String> = libraries
        .iter()
        .map(|library| library.soname())
        .filter(|soname| names::cuda_major(soname) == Some(major))
        .map(names::stem)
        .collect();
    // One that nobody asks for, beside the one of this CUDA that they do: a package that is left over.
    let is_left_over =
        |soname: &str| !asked.contains(soname) && of_this.contains(&names::stem(soname));
    let found = libraries.iter().filter(own).filter_map(|library| {
        // Under another name it is some package's own copy.
        let is_nvidias = [library.soname(), library.name()].into_iter().all(names::is_of_nvidia);
        if is_nvidias && is_left_over(library.soname()) {
            return None;
        }
        let own = match is_nvidias {
            true => names::cuda_major(library.soname())
                .or_else(|| release(library).map(|release| release.major))?,
            false => self::major(library)?,
        };
        let floor = sconce_facts::floor(own).filter(|_| own > major)?;
        let floor = floor.driver.as_str().to_owned();
        let newer = Newer { library: library.path.clone(), cuda_major: own, floor };
        Some((is_nvidias, newer))
    });
    let mut found: Vec<(bool, Newer)> = found.collect();
    // What uses NVIDIA's says more than they do.
    found.sort_by(|(a, one), (b, two)| {
        (a, two.cuda_major, &one.library).cmp(&(b, one.cuda_major, &two.library))
    });
    found.into_iter().map(|(_, newer)| newer).collect()
}

/// The names that it is linked with or opens.
fn asks(library: &Library) -> impl Iterator<Item = &str> {
    let needed = library.dynamic.iter().flat_map(|dynamic| &dynamic.needed);
    needed.chain(&library.opens).map(String::as_str)
}

/// The CUDA major that a library shows: by what it is linked with, the tools that made its GPU code, or the names that it
/// opens.
pub(crate) fn major(library: &Library) -> Option<u16> {
    let made_by = || release(library).map(|release| release.major);
    needed(library).or_else(made_by).or_else(|| opened(library))
}

/// The CUDA major of the libraries that it is linked with.
fn needed(library: &Library) -> Option<u16> {
    let needed = library.dynamic.iter().flat_map(|dynamic| &dynamic.needed);
    needed.filter_map(|name| names::cuda_major(name)).max()
}

/// The CUDA major of the libraries that it opens by name. It may try names one after the other, so they say it only
/// when they agree.
fn opened(library: &Library) -> Option<u16> {
    let mut majors = library.opens.iter().filter_map(|name| names::cuda_major(name));
    let first = majors.next()?;
    majors.all(|major| major == first).then_some(first)
}

/// The release of CUDA whose tools made its GPU code.
fn release(library: &Library) -> Option<CudaVersion> {
    let isas = library.codes().filter_map(|(_, tally)| tally.ptx_isa);
    library.toolkit.max(isas.filter_map(names::ptx_cuda).max())
}

/// The CUDA that libraries show: its major, and the release where the code itself says it.
fn shown(libraries: &[Library], by_cuda: &ByCuda) -> Option<(u16, Option<CudaVersion>)> {
    let gpu = || libraries.iter().filter(|library| library.has_gpu_code());
    // Of builds for several CUDAs a program takes one that the machine has: the oldest is the floor.
    let plain = || gpu().filter(|library| !by_cuda.is_one_of_several(library));
    let runtime = || {
        libraries
            .iter()
            .map(|library| library.soname())
            .filter(|soname| names::unmangled(soname).starts_with("libcudart.so."))
            .filter_map(names::cuda_major)
            .max()
    };
    let release = || plain().filter_map(release).max();
    let major = runtime()
        .or_else(|| plain().filter_map(needed).max())
        .or_else(|| release().map(|release| release.major))
        .or_else(|| plain().filter_map(opened).max())
        .or_else(|| {
            let own = |library: &Library| by_cuda.build(library).map(|build| build.major);
            let shown = |library| needed(library).or_else(|| opened(library));
            gpu().filter_map(|library| shown(library).or_else(|| own(library))).min()
        })?;
    Some((major, release().filter(|release| release.major == major)))
}
