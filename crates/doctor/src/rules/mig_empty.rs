//! MIG mode without instances.

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
    // The first two are for the configuration and the monitoring of all of them (ibid., /proc/driver/nvidia-caps/mig-minors).
    let of_instance = |node: &&crate::Node| {
        let name = node.path.to_str().and_then(|path| path.strip_prefix(CAPABILITY));
        name.and_then(|number| number.parse::<u32>().ok()).is_some_and(|number| number > 2)
    };
    let opens = |node: &crate::Node| node.open == sconce_gpu::Opening::Fine;
    if snapshot.root || snapshot.nodes.iter().filter(of_instance).any(opens) {
        return Vec::new();
    }
    let given = || snapshot.gpus.iter().filter(|gpu| snapshot.given(gpu));
    let has_instance = |gpu: &&crate::Gpu| gpu.mig_mode && !gpu.lacks_instance();
    let severity = match given().all(|gpu| gpu.mig_mode) {
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
                Step::host("let everybody open them", &["chmod a+r /dev/nvidia-caps/nvidia-cap*"])
            }
        };
        Finding::new(&RULE, severity, summary).fix(vec![step])
    };
    given().filter(has_instance).map(finding).collect()
}

/// What the nodes of MIG's capabilities are called, before their number.
const CAPABILITY: &str = "/dev/nvidia-caps/nvidia-cap";
