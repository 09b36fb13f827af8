//! GPUs without nodes.

use std::path::Path;

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "node-missing",
    title: "The device node of a GPU is missing",
    why: "The driver shows the GPU in /proc and there is no /dev/nvidia<minor>: nobody can open it. In a container: the GPU was not given to it",
    fix: "`nvidia-modprobe -c <minor>` or one call of `nvidia-smi` as root makes the nodes",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let has = |path: &str| snapshot.nodes.iter().any(|node| node.path == Path::new(path));
    if snapshot.driver.module.is_none() {
        return Vec::new();
    }
    let gpus = snapshot.gpus.iter().map(|gpu| format!("/dev/nvidia{}", gpu.minor));
    let missing: Vec<String> =
        gpus.chain(["/dev/nvidiactl".to_owned()]).filter(|path| !has(path)).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let summary = format!("missing device nodes: {}", missing.join(", "));
    vec![Finding::new(&RULE, Severity::Stops, summary)]
}
