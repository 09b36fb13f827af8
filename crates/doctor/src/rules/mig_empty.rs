//! MIG mode without instances.

use std::collections::BTreeSet;

use super::Rule;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "mig-empty",
    title: "A GPU in MIG mode has no instance, or none that can be opened",
    why: "In MIG mode a GPU computes through its instances only; without one CUDA sees no device. Who is not root must be able to open an instance's nodes in /dev/nvidia-caps",
    fix: "`nvidia-smi mig -i <index> -cgi 0 -C` makes one instance of the whole GPU; `nvidia-smi -i <index> -mig 0` leaves MIG mode",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let devices = snapshot.devices().into_iter();
    let empty = devices.filter_map(|device| device.gpu).filter(|gpu| gpu.lacks_instance());
    let finding = |gpu: &crate::Gpu| {
        let summary =
            format!("GPU {} ({}) is in MIG mode and has no instance", gpu.index, gpu.model);
        let make = format!("nvidia-smi mig -i {} -cgi 0 -C", gpu.index);
        let leave = format!("nvidia-smi -i {} -mig 0", gpu.index);
        let steps = vec![
            Step::host("make one instance of the whole GPU", &[&make]),
            Step::host("or leave MIG mode", &[&leave]),
        ];
        Finding::new(&RULE, snapshot.loss(), summary).fix(steps)
    };
    empty.map(finding).chain(shut(snapshot)).collect()
}

/// Instances whose capability nodes don't open: without those nobody but root (CAP_SYS_ADMIN) computes on them
/// (NVIDIA, MIG User Guide, "Device Nodes and Capabilities").
fn shut(snapshot: &Snapshot) -> Vec<Finding> {
    // Root of a machine may open all; root of a container mostly lacks CAP_SYS_ADMIN, and whether it does is not seen.
    if snapshot.root && !snapshot.container {
        return Vec::new();
    }
    let open: BTreeSet<u32> = snapshot
        .nodes
        .iter()
        .filter(|node| node.open == sconce_gpu::Opening::Fine)
        .filter_map(|node| node.path.to_str()?.strip_prefix(CAPABILITY)?.parse().ok())
        .collect();
    // Both nodes: the GPU instance's and the compute instance's. A snapshot without the layout has any for enough.
    let opens = |gpu: &crate::Gpu| match gpu.mig.is_empty() {
        true => open.iter().any(|number| *number >= FIRST_OF_INSTANCES),
        false => gpu.mig.iter().any(|instance| {
            numbers(gpu.minor, *instance)
                .is_none_or(|numbers| numbers.iter().all(|number| open.contains(number)))
        }),
    };
    let given = || snapshot.gpus.iter().filter(|gpu| snapshot.given(gpu));
    let has_instance = |gpu: &&crate::Gpu| gpu.mig_mode && !gpu.lacks_instance() && !opens(gpu);
    let severity = match given().all(|gpu| gpu.mig_mode && (gpu.lacks_instance() || !opens(gpu))) {
        true if snapshot.root => Severity::Unknown,
        true => Severity::Stops,
        false => Severity::Warns,
    };
    let finding = |gpu: &crate::Gpu| {
        let summary = format!(
            "GPU {} ({}) is in MIG mode, and no node of an instance in /dev/nvidia-caps can be opened",
            gpu.index, gpu.model
        );
        let step = match snapshot.container {
            true => crate::fix::give_gpus(snapshot, "start it with its instances"),
            false => {
                // A pattern would be taken by the shell of a user who may not list the folder: the nodes by name.
                let instances = gpu.mig.iter().filter_map(|one| numbers(gpu.minor, *one));
                let numbers: BTreeSet<u32> = instances.flatten().collect();
                let nodes: Vec<String> =
                    numbers.iter().map(|number| format!("{CAPABILITY}{number}")).collect();
                let nodes = format!("chmod a+r {}", nodes.join(" "));
                let commands: &[&str] = match numbers.is_empty() {
                    true => &["chmod -R a+rX /dev/nvidia-caps"],
                    false => &["chmod a+rx /dev/nvidia-caps", &nodes],
                };
                Step::host("let everybody open them", commands)
            }
        };
        Finding::new(&RULE, severity, summary).fix(vec![step])
    };
    given().filter(has_instance).map(finding).collect()
}

/// The first two nodes are for the configuration and the monitoring of all instances (ibid.,
/// /proc/driver/nvidia-caps/mig-minors).
const FIRST_OF_INSTANCES: u32 = 3;
/// Numbers that each GPU instance has: its own, and one for each of its compute instances.
const OF_GPU_INSTANCE: u32 = 9;
/// Numbers that each GPU has: those of 15 GPU instances.
const OF_GPU: u32 = 15 * OF_GPU_INSTANCE;

/// The numbers of an instance's nodes: the GPU instance's and the compute instance's. The driver gives them by place (ibid.:
/// `gpu0/gi0/access 3`, `gpu0/gi0/ci0/access 4` to `gpu31/gi14/ci7/access 4322`). None for a place that does not exist.
pub(super) fn numbers(minor: u32, instance: crate::MigInstance) -> Option<[u32; 2]> {
    let (gpu, compute) = (instance.gpu_instance, instance.compute_instance);
    if gpu >= OF_GPU / OF_GPU_INSTANCE || compute >= OF_GPU_INSTANCE - 1 || minor >= 32 {
        return None;
    }
    let own = FIRST_OF_INSTANCES + minor * OF_GPU + gpu * OF_GPU_INSTANCE;
    Some([own, own + 1 + compute])
}

/// The file of the driver that stands for a node of MIG's capabilities, by its path; `nvidia-modprobe -f` makes its node.
pub(super) fn access(node: &std::path::Path) -> Option<String> {
    let number: u32 = node.to_str()?.strip_prefix(CAPABILITY)?.parse().ok()?;
    let file = match number.checked_sub(FIRST_OF_INSTANCES) {
        None if number == 1 => "mig/config".to_owned(),
        None if number == 2 => "mig/monitor".to_owned(),
        None => return None,
        Some(place) => {
            let gpu = place / OF_GPU;
            let instance = place % OF_GPU / OF_GPU_INSTANCE;
            let within = match place % OF_GPU_INSTANCE {
                0 => String::new(),
                compute => format!("/ci{}", compute - 1),
            };
            format!("gpu{gpu}/mig/gi{instance}{within}/access")
        }
    };
    Some(format!("/proc/driver/nvidia/capabilities/{file}"))
}

/// What the nodes of MIG's capabilities are called, before their number.
const CAPABILITY: &str = "/dev/nvidia-caps/nvidia-cap";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_by_place() {
        let at = |minor, gpu_instance, compute_instance| {
            numbers(minor, crate::MigInstance { gpu_instance, compute_instance })
        };
        assert_eq!(at(0, 0, 0), Some([3, 4]));
        assert_eq!(at(0, 1, 0), Some([12, 13]));
        assert_eq!(at(1, 0, 7), Some([138, 146]));
        assert_eq!(at(31, 14, 7), Some([4314, 4322]));
        assert_eq!(
            (at(0, 15, 0), at(0, 0, 8), at(0, 0, u32::MAX - 1), at(32, 0, 0)),
            (None, None, None, None)
        );
    }
}
