//! CUDA without unified memory.

use super::Rule;
use crate::fix;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "uvm-missing",
    title: "The module nvidia_uvm is not loaded",
    why: "/dev/nvidia-uvm is how CUDA manages memory. nvidia-smi works without it, cuInit fails with `CUDA unknown error` (999)",
    fix: "`modprobe nvidia-uvm` and `nvidia-modprobe -u -c 0`; at each boot: the file /etc/modules-load.d/nvidia-uvm.conf with the line `nvidia-uvm`",
    references: &["ggml-org/llama.cpp#7218"],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let node = snapshot.nodes.iter().any(|node| node.path.ends_with("nvidia-uvm"));
    // A container without any node was given no GPU: that is the cause, and `node-missing`'s.
    let control = snapshot.nodes.iter().any(|node| node.path.ends_with("nvidiactl"));
    if snapshot.driver.module.is_none() || node || (snapshot.container && !control) {
        return Vec::new();
    }
    let finding =
        Finding::new(&RULE, Severity::Stops, "/dev/nvidia-uvm is missing: CUDA can't start");
    let loaded = snapshot.modules.iter().any(|name| name == "nvidia_uvm");
    let given = fix::restart(snapshot, "then start the container again, with GPUs");
    let finding = match (loaded, snapshot.container) {
        (true, true) => {
            let finding = finding
                .seen("the module nvidia_uvm is loaded: the container was not given its node");
            return vec![finding.fix(vec![given])];
        }
        (true, false) => finding.seen("the module nvidia_uvm is loaded, its node was not made"),
        (false, _) => finding.seen("the module nvidia_uvm is not loaded"),
    };
    let load = Step::host(
        "load it and make its nodes, now and at each start",
        &[
            "modprobe nvidia_uvm",
            "nvidia-modprobe -u -c 0",
            "sh -c 'echo nvidia-uvm > /etc/modules-load.d/nvidia-uvm.conf'",
        ],
    );
    let steps = if snapshot.container { vec![load, given] } else { vec![load] };
    vec![finding.fix(steps)]
}
