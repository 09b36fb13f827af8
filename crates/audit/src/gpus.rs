//! Which GPUs one environment serves and another does not.

use sconce_facts::{Capability, DriverVersion, Sm};
use serde::Serialize;

use crate::contents::Contents;

/// GPUs of one compute capability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Served {
    /// The capability.
    pub capability: Capability,
    /// Those that are known by name.
    pub gpus: Vec<&'static str>,
}

/// What the second serves and the first does not, and the reverse.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Gpus {
    /// No longer served.
    pub lost: Vec<Served>,
    /// Served from now on.
    pub gained: Vec<Served>,
    /// Why that can't be told.
    pub unknown: Option<String>,
}

/// By what torch's GPU code is compiled for, and by the drivers that still run a GPU.
pub(crate) fn compare(before: &Contents, after: &Contents) -> Gpus {
    let unknown = [before, after].into_iter().find(|one| one.architectures.is_none());
    if let Some(one) = unknown {
        let why = format!("it is not known what torch in {} has GPU code for", one.name);
        return Gpus { unknown: Some(why), ..Gpus::default() };
    }
    let mut gpus = Gpus::default();
    for row in sconce_facts::capabilities() {
        let served = || Served {
            capability: row.cc,
            gpus: sconce_facts::gpus()
                .iter()
                .filter(|gpu| gpu.capability == row.cc)
                .map(|gpu| gpu.name.as_str())
                .collect(),
        };
        match (serves(before, row.cc), serves(after, row.cc)) {
            (true, false) => gpus.lost.push(served()),
            (false, true) => gpus.gained.push(served()),
            _ => {}
        }
    }
    gpus
}

fn serves(contents: &Contents, gpu: Capability) -> bool {
    let code = contents.architectures.as_deref().unwrap_or_default();
    // The newest driver that runs the GPU may be older than the oldest that CUDA runs on.
    let floor: Option<DriverVersion> =
        contents.fact("driver").flatten().and_then(|text| text.parse().ok());
    let last = gpu.row().and_then(sconce_facts::CapabilityRow::last_branch);
    let driven = floor.zip(last).is_none_or(|(floor, last)| floor.branch() <= last);
    driven && code.iter().any(|sm: &Sm| sm.runs_on(gpu))
}
