//! Whether libraries run on a GPU, and on which drivers.
//!
//! Rules (CUDA C++ Programming Guide, "Binary Compatibility" and "PTX Compatibility"; CUDA
//! Compatibility, "Minor Version Compatibility"): a cubin runs on its generation from its own step
//! on, with suffix `a` on exactly its capability; PTX is compiled by the driver for its capability
//! and later ones, if the driver knows its ISA. NVVM IR becomes code only in the device linker.

mod builds;

use std::collections::{BTreeMap, BTreeSet};

use sconce_facts::{Capability, DriverVersion, Gpu, Sm, SmKind};
use serde::Serialize;

use crate::by_cuda::ByCuda;
use crate::elf::Machine;
use crate::fatbin::{Code, Fatbin, Form, Target, Variant};
use crate::names;
use crate::scan::{Library, Scan};

pub use builds::{Builds, Serving};

/// A GPU with code in less than this share of the containers that the best served GPU has code in is
/// left out of most of the library, in percent. torch 2.15.0's libtorch_cuda_linalg: 3% for sm_75,
/// 100% for the others.
const GAP: u64 = 25;
/// The same of a library of NVIDIA's that chooses among kernels made for single GPUs, as cuBLASLt does: what it has no kernel of
/// its own for it does with others. cuBLASLt 12.6.4.1: 10% for sm_75, 5% for sm_50 (all of which CUDA 12 is for), 0.06% for
/// sm_72, which it is not for.
const GAP_PER_GPU: u64 = 2;
/// And only where one GPU has code in at least this share of all containers, in percent: else it has no one list of GPUs.
const UNIFORM: u64 = 90;

/// How one library serves one GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum Service {
    /// Machine code is there.
    Native,
    /// The driver compiles PTX of this ISA when the library is loaded.
    Jit {
        /// PTX ISA version.
        isa: (u16, u16),
    },
    /// Most of the library has nothing for this GPU.
    Partial {
        /// Containers with code for it.
        served: u64,
        /// All containers.
        of: u64,
    },
    /// There is GPU code, but none for this GPU.
    Nothing,
}

/// Whether code for `target` is something GPU `gpu` can use.
pub fn usable(code: Code, gpu: Capability) -> bool {
    let Some(sm) = sm(code.target) else { return false };
    match code.form {
        Form::Cubin => sm.runs_on(gpu),
        Form::Ptx | Form::Nvvm => match sm.kind {
            SmKind::Plain => sm.capability <= gpu,
            SmKind::Family | SmKind::Exact => sm.runs_on(gpu),
        },
        Form::Unknown(_) => false,
    }
}

/// A target as the facts name it; `None` for a number that is not a capability.
pub fn sm(target: Target) -> Option<Sm> {
    let capability = Capability {
        major: u8::try_from(target.major()).ok().filter(|major| *major > 0)?,
        minor: u8::try_from(target.minor()).ok()?,
    };
    let kind = match target.variant {
        Variant::Plain => SmKind::Plain,
        Variant::Family => SmKind::Family,
        Variant::Specific => SmKind::Exact,
    };
    Some(Sm { capability, kind })
}

/// Whether the driver can load this code for `gpu`: NVVM IR needs the device linker first.
fn loadable(code: Code, gpu: Capability) -> bool {
    code.form != Form::Nvvm && usable(code, gpu)
}

/// How the GPU code `gpu_code` serves `gpu`; `None` when there is none that a driver could load.
/// `per_gpu` says that each GPU uses only the kernels made for it.
pub fn service(gpu_code: &Fatbin, gpu: Capability, per_gpu: bool) -> Option<Service> {
    let loads = |set: &[Code]| set.iter().any(|code| code.form != Form::Nvvm);
    let sets = || gpu_code.sets.iter().filter(|(set, _)| loads(set));
    let all: u64 = sets().map(|(_, n)| n).sum();
    if all == 0 {
        return None;
    }
    let served = |gpu: Capability, only: Option<Form>| -> u64 {
        let fits = |code: &Code| only.is_none_or(|form| code.form == form) && loadable(*code, gpu);
        sets().filter(|(set, _)| set.iter().any(fits)).map(|(_, n)| n).sum()
    };
    let here = served(gpu, None);
    if here == 0 {
        return Some(Service::Nothing);
    }
    let best = gpu_code
        .codes
        .keys()
        .filter(|code| code.form == Form::Cubin)
        .filter_map(|code| sm(code.target))
        .map(|sm| served(sm.capability, None))
        .max()
        .unwrap_or(here);
    let left_out = match per_gpu {
        false => here * 100 < best * GAP,
        true => here * 100 < best * GAP_PER_GPU && best * 100 >= all * UNIFORM,
    };
    if left_out {
        return Some(Service::Partial { served: here, of: all });
    }
    if served(gpu, Some(Form::Cubin)) > 0 {
        return Some(Service::Native);
    }
    let isa = gpu_code
        .codes
        .iter()
        .filter(|(code, _)| code.form == Form::Ptx && loadable(**code, gpu))
        .filter_map(|(_, tally)| tally.ptx_isa)
        .max();
    Some(isa.map_or(Service::Native, |isa| Service::Jit { isa }))
}

/// How a library serves `gpu`: by the code the runtime loads, else by what it loads itself.
fn library_service(library: &Library, gpu: Capability) -> Option<Service> {
    if library.unlinked {
        return None;
    }
    let name = names::unmangled(library.soname());
    if names::from_capability(&name).is_some_and(|from| gpu < from) {
        return Some(Service::Nothing);
    }
    let per_gpu = names::is_per_gpu(&name);
    match service(&library.gpu, gpu, per_gpu) {
        None | Some(Service::Nothing) if !library.embedded.is_empty() => {
            service(&library.embedded, gpu, per_gpu)
        }
        known => known,
    }
}

/// One sentence's worth: does it run?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Everything has machine code for it.
    Native,
    /// It runs, some of it compiled by the driver first.
    Jit,
    /// It runs, but some library has nothing for it.
    Partial,
    /// torch (or, without torch, everything) has nothing for it.
    Not,
    /// All there is needs the device linker before anything can load it.
    Unlinked,
    /// There is no GPU code at all.
    NoGpuCode,
}

/// How a whole environment serves one kind of GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The compute capability.
    pub capability: Capability,
    /// GPUs that have it.
    pub gpus: Vec<&'static str>,
    /// The answer.
    pub outcome: Outcome,
    /// All there is are libraries that are loaded by their paths, if at all, and none of them has code for it.
    #[serde(skip)]
    pub by_name_alone: bool,
    /// Libraries the driver compiles code for, with the newest PTX ISA among it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jit: Vec<(String, (u16, u16))>,
    /// Libraries with nothing, or with nothing in most of their parts, and what is there; the one
    /// that matters most first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// The lowest driver, where one is known: the largest of the CUDA runtime's floor, the first
    /// driver of the capability and what JIT needs.
    pub driver: Option<String>,
    /// Libraries of which a program takes one build.
    #[serde(skip)]
    pub builds: Vec<Builds>,
    /// Whether they are all there is to run, and which is taken is open.
    #[serde(skip)]
    pub builds_alone: bool,
    /// The last driver branch that runs GPUs of this capability, where support has ended: `R580`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_driver: Option<&'static str>,
}

/// A library without code for a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Its path.
    pub library: String,
    /// Containers with code for the GPU.
    pub served: u64,
    /// All containers.
    pub of: u64,
    /// What it has code for.
    pub has: Vec<Code>,
    /// Whether it is what there is to run: torch's own code, else a package's own modules.
    #[serde(skip)]
    pub core: bool,
    /// Bytes of its GPU code.
    #[serde(skip)]
    bytes: u64,
}

impl Gap {
    /// What it has for the GPU, in words.
    pub fn words(&self) -> String {
        match self.served {
            0 => "has nothing for it".to_owned(),
            served => format!("has code for it in {served} of its {} parts only", self.of),
        }
    }
}

/// The libraries whose code for `gpu` counts, and how they serve it. Of builds of which a program
/// takes one, that one; files that are GPU code and nothing else only where there is nothing else,
/// since a program picks among them.
fn counting<'a>(
    scan: &'a Scan,
    by_cuda: &ByCuda,
    gpu: Capability,
    cuda: Option<&str>,
) -> Vec<(&'a Library, Service)> {
    let mut out: Vec<(&Library, Service)> = Vec::new();
    let mut builds: BTreeMap<String, Vec<(&Library, Service)>> = BTreeMap::new();
    let bare = |library: &Library| library.machine == Machine::Cuda;
    let only_bare = scan.libraries.iter().filter(|library| library.has_gpu_code()).all(bare);
    for library in scan.libraries.iter().filter(|library| only_bare || !bare(library)) {
        let Some(service) = library_service(library, gpu) else { continue };
        let row = || names::alternative(library.name()).map(|row| row.names.clone());
        match by_cuda.build(library).map(|build| build.group).or_else(row) {
            Some(group) => builds.entry(group).or_default().push((library, service)),
            None => out.push((library, service)),
        }
    }
    for libraries in builds.into_values() {
        let is_meant = |library: &Library| {
            let build = by_cuda.build(library);
            build.zip(cuda).is_some_and(|(build, cuda)| build.is_for(cuda))
        };
        let is_near = |library: &Library| {
            let build = by_cuda.build(library);
            build.zip(cuda).is_some_and(|(build, cuda)| build.is_of_major_of(cuda))
        };
        let meant = libraries.iter().find(|(library, _)| is_meant(library));
        let best = |is: &dyn Fn(&Library) -> bool| {
            let libraries = libraries.iter().filter(|(library, _)| is(library));
            libraries.min_by_key(|(_, service)| service.rank())
        };
        let taken = meant.or_else(|| best(&is_near)).or_else(|| best(&|_| true));
        out.extend(taken.copied());
    }
    out
}

impl Service {
    /// The better, the lower.
    const fn rank(self) -> u8 {
        match self {
            Self::Native => 0,
            Self::Jit { .. } => 1,
            Self::Partial { .. } => 2,
            Self::Nothing => 3,
        }
    }

    /// Whether calls into the library would mostly fail.
    const fn fails(self) -> bool {
        matches!(self, Self::Partial { .. } | Self::Nothing)
    }
}

/// Which of these libraries are what there is to run: torch's own code; without it the modules that
/// Python imports; without them all that NVIDIA does not bring. What is called like a module and can't be imported is none
/// of them: its package loads it by its path, as torchao does, and has kernels for other GPUs elsewhere.
fn core<'a>(libraries: &[(&'a Library, Service)]) -> BTreeSet<&'a str> {
    let nvidias = |library: &Library| names::is_of_nvidia(library.soname());
    let with = |is: &dyn Fn(&Library) -> bool| -> BTreeSet<&'a str> {
        let libraries = libraries.iter().filter(|(library, _)| !library.by_name && is(library));
        libraries.map(|(library, _)| library.path.as_str()).collect()
    };
    let ranks: [&dyn Fn(&Library) -> bool; 4] = [
        &|library| names::is_core(library.name()),
        &|library| names::is_module(library.name()) && !nvidias(library),
        &|library| !nvidias(library),
        &|_| true,
    ];
    ranks.iter().map(|is| with(*is)).find(|found| !found.is_empty()).unwrap_or_default()
}

/// The verdict on GPUs of one capability; `floor` is the driver the CUDA runtime needs, `cuda` the
/// CUDA that torch was built with.
pub fn verdict(
    scan: &Scan,
    capability: Capability,
    floor: Option<&DriverVersion>,
    cuda: Option<&str>,
) -> Verdict {
    let by_cuda = ByCuda::new(&scan.libraries);
    let libraries = counting(scan, &by_cuda, capability, cuda);
    let core = core(&libraries);
    let builds = builds::of(scan, &by_cuda, capability, cuda, &core);
    // Which of them is taken is open where there is no torch.
    let open = || builds.iter().filter(|builds| !builds.is_decided());
    let is_open = |path: &str| open().any(|builds| builds.has(path));
    let builds_alone = !core.is_empty() && core.iter().all(|path| is_open(path));
    let mut jit = Vec::new();
    let mut gaps = Vec::new();
    for (library, service) in &libraries {
        // What is for other GPUs alone, as cuSPARSELt is for those with sparse Tensor Cores, nobody misses on this one.
        let name = names::unmangled(library.soname());
        let is_for_others = names::from_capability(&name).is_some_and(|from| capability < from);
        if is_for_others && !core.contains(library.path.as_str()) {
            continue;
        }
        let (served, of) = match *service {
            Service::Native => continue,
            Service::Jit { isa } => {
                jit.push((library.path.clone(), isa));
                continue;
            }
            Service::Partial { served, of } => (served, of),
            Service::Nothing => (0, library.gpu.containers + library.embedded.containers),
        };
        let core = core.contains(library.path.as_str());
        gaps.push(Gap { core, ..gap(library, served, of) });
    }
    gaps.sort_by(|a, b| (b.core, b.bytes, &a.library).cmp(&(a.core, a.bytes, &b.library)));
    let is_core = |library: &&(&Library, Service)| core.contains(library.0.path.as_str());
    let of_torch = libraries.iter().any(|(library, _)| names::is_core(library.name()));
    let mut fails = libraries.iter().filter(is_core).map(|(_, service)| service.fails());
    // torch's own code is one program in several files; modules of packages are many programs.
    let dead = match of_torch {
        true => fails.any(|fails| fails),
        false => !core.is_empty() && fails.all(|fails| fails),
    };
    let outcome = if libraries.is_empty() {
        let any = scan.libraries.iter().any(Library::has_gpu_code);
        if any { Outcome::Unlinked } else { Outcome::NoGpuCode }
    } else if dead {
        Outcome::Not
    } else if !gaps.is_empty() {
        Outcome::Partial
    } else if !jit.is_empty() {
        Outcome::Jit
    } else {
        Outcome::Native
    };
    let row = capability.row();
    let first = row.and_then(|row| row.first_driver.as_ref());
    let fixed = jit.iter().filter(|(path, _)| !builds_alone || !is_open(path));
    let mut ptx: Vec<Option<&DriverVersion>> =
        fixed.map(|(_, isa)| names::ptx_driver(*isa)).collect();
    if builds_alone {
        let serving = open().filter(|builds| builds.core && builds.serving(None).is_some());
        ptx.extend(serving.map(Builds::needs));
    }
    // Of PTX that is newer than what is known, nobody can say which driver compiles it.
    let known = ptx.iter().all(Option::is_some);
    let needed = ptx.into_iter().flatten().chain(floor).chain(first).max().filter(|_| known);
    let driver = needed.map(|driver| driver.as_str().to_owned());
    Verdict {
        capability,
        gpus: of(capability).map(|gpu| gpu.name.as_str()).collect(),
        outcome,
        by_name_alone: core.is_empty() && libraries.iter().all(|(_, service)| service.fails()),
        jit,
        gaps,
        driver,
        builds,
        builds_alone,
        last_driver: row.and_then(|row| row.last_driver.as_deref()),
    }
}

/// The GPUs of one capability.
pub fn of(capability: Capability) -> impl Iterator<Item = &'static Gpu> {
    sconce_facts::gpus().iter().filter(move |gpu| gpu.capability == capability)
}

fn gap(library: &Library, served: u64, of: u64) -> Gap {
    let has: BTreeSet<Code> = library
        .codes()
        .map(|(code, _)| *code)
        .filter(|code| !matches!(code.form, Form::Unknown(_)))
        .collect();
    Gap {
        library: library.path.clone(),
        served,
        of,
        has: has.into_iter().collect(),
        core: false,
        bytes: library.gpu.bytes().saturating_add(library.embedded.bytes()),
    }
}

/// Verdicts on every known capability, oldest first, for libraries of `machine`: those whose every
/// GPU comes with another processor are left out.
pub fn verdicts(
    scan: &Scan,
    machine: &str,
    floor: Option<&DriverVersion>,
    cuda: Option<&str>,
) -> Vec<Verdict> {
    let mut capabilities: Vec<Capability> =
        sconce_facts::capabilities().iter().map(|row| row.cc).collect();
    capabilities.retain(|capability| {
        let fits = |gpu: &Gpu| gpu.host.is_none_or(|host| host.as_str() == machine);
        machine == Machine::Cuda.name()
            || of(*capability).next().is_none()
            || of(*capability).any(fits)
    });
    capabilities.sort();
    capabilities.dedup();
    capabilities.into_iter().map(|capability| verdict(scan, capability, floor, cuda)).collect()
}

#[cfg(test)]
mod tests;
