//! Whether libraries run on a GPU, and on which drivers.
//!
//! Rules (CUDA C++ Programming Guide, "Binary Compatibility" and "PTX Compatibility"; CUDA
//! Compatibility, "Minor Version Compatibility"): a cubin runs on its generation from its own step
//! on, with suffix `a` on exactly its capability; PTX is compiled by the driver for its capability
//! and later ones, if the driver knows its ISA.

use std::collections::BTreeSet;

use sconce_facts::{Capability, DriverVersion, Sm, SmKind};
use serde::Serialize;

use crate::fatbin::{Code, Fatbin, Form, Target, Variant};
use crate::names;
use crate::scan::{Library, Scan};

/// A library is built with one list of GPUs when one of them has code in at least this share of its
/// containers, in percent. Libraries like cuBLASLt choose among kernels made for single GPUs
/// instead and stay far below (61% in 13.4.1.3).
const UNIFORM: u64 = 90;
/// In such a library a GPU with code in less than this share of the containers is left out of most
/// of it. torch 2.15.0's libtorch_cuda_linalg: 3% for sm_75, 100% for the others.
const GAP: u64 = 25;

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

/// A target as the facts name it; `None` for a number that is no capability.
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

/// How the GPU code `gpu_code` serves `gpu`; `None` when there is no GPU code.
pub fn service(gpu_code: &Fatbin, gpu: Capability) -> Option<Service> {
    let all: u64 = gpu_code.sets.values().sum();
    if all == 0 || gpu_code.codes.is_empty() {
        return None;
    }
    let served = |gpu: Capability, only: Option<Form>| -> u64 {
        let fits = |code: &Code| only.is_none_or(|form| code.form == form) && usable(*code, gpu);
        gpu_code.sets.iter().filter(|(set, _)| set.iter().any(fits)).map(|(_, n)| n).sum()
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
    if best * 100 >= all * UNIFORM && here * 100 < all * GAP {
        return Some(Service::Partial { served: here, of: all });
    }
    if served(gpu, Some(Form::Cubin)) > 0 {
        return Some(Service::Native);
    }
    let isa = gpu_code
        .codes
        .iter()
        .filter(|(code, _)| code.form == Form::Ptx && usable(**code, gpu))
        .filter_map(|(_, tally)| tally.ptx_isa)
        .max();
    Some(isa.map_or(Service::Native, |isa| Service::Jit { isa }))
}

/// How a library serves `gpu`: by the code the runtime loads, else by what it loads itself.
fn library_service(library: &Library, gpu: Capability) -> Option<Service> {
    match service(&library.gpu, gpu) {
        None | Some(Service::Nothing) if !library.embedded.is_empty() => {
            service(&library.embedded, gpu)
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
    /// Libraries the driver compiles code for, with the newest PTX ISA among it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jit: Vec<(String, (u16, u16))>,
    /// Libraries with nothing, or with nothing in most of their parts, and what is there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// The lowest driver, where one is known: the CUDA runtime's floor, or what JIT needs.
    pub driver: Option<String>,
}

impl Verdict {
    /// The gap that matters most: of torch's own library if it has one, else the first.
    pub fn core_gap(&self) -> Option<&Gap> {
        let core = |gap: &&Gap| gap.library.rsplit('/').next().is_some_and(names::is_core);
        self.gaps.iter().find(core).or(self.gaps.first())
    }
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
}

/// The verdict on GPUs of one capability; `floor` is the driver the CUDA runtime needs.
pub fn verdict(scan: &Scan, capability: Capability, floor: Option<&DriverVersion>) -> Verdict {
    let gpu_libraries = || {
        scan.libraries
            .iter()
            .filter_map(|library| Some((library, library_service(library, capability)?)))
    };
    let mut jit = Vec::new();
    let mut gaps = Vec::new();
    for (library, service) in gpu_libraries() {
        match service {
            Service::Native => {}
            Service::Jit { isa } => jit.push((library.path.clone(), isa)),
            Service::Partial { served, of } => gaps.push(gap(library, served, of)),
            Service::Nothing => {
                gaps.push(gap(library, 0, library.gpu.containers + library.embedded.containers));
            }
        }
    }
    let core = || gpu_libraries().filter(|(library, _)| names::is_core(library.name()));
    let dead = |mut libraries: Box<dyn Iterator<Item = (&Library, Service)> + '_>| {
        libraries.all(|(_, service)| service == Service::Nothing)
    };
    let outcome = if gpu_libraries().next().is_none() {
        Outcome::NoGpuCode
    } else if core().any(|(_, service)| service == Service::Nothing)
        || dead(Box::new(gpu_libraries()))
    {
        Outcome::Not
    } else if !gaps.is_empty() {
        Outcome::Partial
    } else if !jit.is_empty() {
        Outcome::Jit
    } else {
        Outcome::Native
    };
    let needed = jit.iter().filter_map(|(_, isa)| names::ptx_driver(*isa)).chain(floor).max();
    Verdict {
        capability,
        gpus: sconce_facts::gpus()
            .iter()
            .filter(|gpu| gpu.capability == capability)
            .map(|gpu| gpu.name.as_str())
            .collect(),
        outcome,
        jit,
        gaps,
        driver: needed.map(|driver| driver.as_str().to_owned()),
    }
}

fn gap(library: &Library, served: u64, of: u64) -> Gap {
    let has: BTreeSet<Code> = library
        .codes()
        .map(|(code, _)| *code)
        .filter(|code| !matches!(code.form, Form::Unknown(_)))
        .collect();
    Gap { library: library.path.clone(), served, of, has: has.into_iter().collect() }
}

/// Verdicts on every known capability, oldest first.
pub fn verdicts(scan: &Scan, floor: Option<&DriverVersion>) -> Vec<Verdict> {
    let mut capabilities: Vec<Capability> =
        sconce_facts::capabilities().iter().map(|row| row.cc).collect();
    capabilities.sort();
    capabilities.dedup();
    capabilities.into_iter().map(|capability| verdict(scan, capability, floor)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forge::{self, cubin, fatbin, ptx};
    use crate::read::Named;

    fn code(fatbins: &[Vec<u8>]) -> Fatbin {
        let bytes = fatbins.concat();
        let mut found = Fatbin::default();
        found.walk(Named::new("lib", &bytes), 0, bytes.len() as u64).unwrap();
        found
    }

    fn on(code: &Fatbin, capability: &str) -> Option<Service> {
        service(code, capability.parse().unwrap())
    }

    #[test]
    fn cubins_serve_their_generation_and_ptx_what_comes_later() {
        let specific = forge::Code { flags: 0x10_0000, ..cubin(90) };
        let code = code(&[fatbin(&[cubin(80), specific, ptx(80, (8, 2))])]);
        assert_eq!(on(&code, "8.0"), Some(Service::Native));
        assert_eq!(on(&code, "8.9"), Some(Service::Native));
        assert_eq!(on(&code, "9.0"), Some(Service::Native));
        assert_eq!(on(&code, "10.3"), Some(Service::Jit { isa: (8, 2) }));
        assert_eq!(on(&code, "7.5"), Some(Service::Nothing));
        assert_eq!(on(&Fatbin::default(), "8.0"), None);
    }

    #[test]
    fn the_linalg_gap_on_turing() {
        // libtorch_cuda_linalg.so of torch 2.15.0: 32 containers without sm_75, one with.
        let list: Vec<_> = [80, 86, 90, 100, 120].map(cubin).into();
        let mut all = vec![fatbin(&list); 32];
        all.push(fatbin(&[vec![cubin(75)], list].concat()));
        let linalg = code(&all);
        assert_eq!(on(&linalg, "7.5"), Some(Service::Partial { served: 1, of: 33 }));
        assert_eq!(on(&linalg, "12.1"), Some(Service::Native));
    }

    #[test]
    fn kernels_chosen_per_gpu_are_no_gap() {
        // Like cuBLASLt: most containers are made for one GPU.
        let mut all = vec![fatbin(&[cubin(90)]); 6];
        all.extend(vec![fatbin(&[cubin(100)]); 6]);
        all.push(fatbin(&[cubin(75)]));
        assert_eq!(on(&code(&all), "7.5"), Some(Service::Native));
    }

    #[test]
    fn a_number_that_is_no_capability_serves_nobody() {
        let lies = code(&[fatbin(&[cubin(0), cubin(5), cubin(u32::MAX)])]);
        assert_eq!(on(&lies, "8.0"), Some(Service::Nothing));
    }
}
