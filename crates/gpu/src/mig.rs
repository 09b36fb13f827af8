//! MIG instances: their capability nodes from /proc, their UUIDs from NVML.
//!
//! The driver writes `/proc/driver/nvidia/capabilities/gpu<minor>/mig/gi<g>/access` and
//! `…/gi<g>/ci<c>/access`, each with a `DeviceFileMinor: <n>`; the node is `/dev/nvidia-caps/nvidia-cap<n>`
//! (NVIDIA's MIG user guide, "Device nodes and capabilities").

use std::path::{Path, PathBuf};

use crate::machine::{Machine, Node};
use crate::nvml::MigAnswers;

/// One MIG instance: a compute instance of a GPU instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its place on its GPU, in the order of GPU instance and compute instance.
    pub index: u32,
    /// GPU instance.
    pub gpu_instance: u32,
    /// Compute instance within it.
    pub compute_instance: u32,
    /// `MIG-…`; only NVML knows it.
    pub uuid: Option<String>,
    /// The capabilities that open it: the GPU instance's, the compute instance's.
    pub capabilities: [Capability; 2],
}

/// A capability: who can open its node may use the instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// `/dev/nvidia-caps/nvidia-cap<n>`.
    pub path: PathBuf,
    /// The node, when it has been made.
    pub node: Option<Node>,
}

/// The instances of the GPU with this minor number.
pub(crate) fn instances(machine: &Machine, minor: u32) -> Vec<Instance> {
    let folder = PathBuf::from(format!("/proc/driver/nvidia/capabilities/gpu{minor}/mig"));
    let mut found = Vec::new();
    for (gpu_instance, folder) in numbered(machine, &folder, "gi") {
        let Some(outer) = capability(machine, &folder) else { continue };
        for (compute_instance, folder) in numbered(machine, &folder, "ci") {
            let Some(inner) = capability(machine, &folder) else { continue };
            let capabilities = [outer.clone(), inner];
            found.push(Instance {
                index: 0,
                gpu_instance,
                compute_instance,
                uuid: None,
                capabilities,
            });
        }
    }
    found.sort_by_key(|instance| (instance.gpu_instance, instance.compute_instance));
    for (index, instance) in found.iter_mut().enumerate() {
        instance.index = index as u32;
    }
    found
}

/// Gives the instances NVML's UUIDs, and NVML's order, by which `nvidia-smi` counts them.
pub(crate) fn name(instances: &mut [Instance], told: &[MigAnswers]) {
    for instance in instances.iter_mut() {
        let place = told.iter().position(|answer| {
            answer.gpu_instance == Some(instance.gpu_instance)
                && answer.compute_instance.unwrap_or(0) == instance.compute_instance
        });
        if let Some(place) = place {
            instance.index = place as u32;
            instance.uuid = told.get(place).and_then(|answer| answer.uuid.clone());
        }
    }
    instances.sort_by_key(|instance| instance.index);
}

/// Sub-folders `<prefix><number>`.
fn numbered(machine: &Machine, folder: &Path, prefix: &str) -> Vec<(u32, PathBuf)> {
    let names = machine.names(folder).into_iter().take(256);
    names
        .filter_map(|name| Some((name.strip_prefix(prefix)?.parse().ok()?, folder.join(&name))))
        .collect()
}

/// The node that an `access` file names.
fn capability(machine: &Machine, folder: &Path) -> Option<Capability> {
    let text = machine.text(folder.join("access").to_str()?)?;
    let minor = text.lines().find_map(|line| line.strip_prefix("DeviceFileMinor:"))?;
    let minor: u32 = minor.trim().parse().ok()?;
    let path = PathBuf::from(format!("/dev/nvidia-caps/nvidia-cap{minor}"));
    Some(Capability { node: machine.node(&path), path })
}
