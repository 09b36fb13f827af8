//! GPUs without nodes.

use std::path::Path;

use super::Rule;
use crate::fix;
use crate::{Finding, Severity, Snapshot, Step, Subject};

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
    let gone: Vec<&crate::Gpu> = snapshot.gpus.iter().filter(|gpu| !snapshot.given(gpu)).collect();
    // A container has the nodes of the GPUs that it was given; none at all is worth a word.
    if snapshot.container && has("/dev/nvidiactl") && gone.len() < snapshot.gpus.len() {
        return Vec::new();
    }
    let missing = gone.iter().map(|gpu| format!("/dev/nvidia{}", gpu.minor));
    let missing: Vec<String> = missing
        .chain(["/dev/nvidiactl".to_owned()].into_iter().filter(|path| !has(path)))
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    if snapshot.container {
        let finding = Finding::new(&RULE, Severity::Stops, "this container was given no GPU");
        let start = fix::give_gpus(snapshot, "start it with GPUs");
        return vec![finding.seen(format!("missing: {}", missing.join(", "))).fix(vec![start])];
    }
    let severity = match has("/dev/nvidiactl") && gone.len() < snapshot.gpus.len() {
        true => Severity::Warns,
        false => Severity::Stops,
    };
    let make: Vec<String> =
        gone.iter().map(|gpu| format!("nvidia-modprobe -c {}", gpu.minor)).collect();
    let mut make: Vec<&str> = make.iter().map(String::as_str).collect();
    if make.is_empty() {
        make.push("nvidia-modprobe");
    }
    let summary = format!("missing device nodes: {}", missing.join(", "));
    vec![Finding::new(&RULE, severity, summary).fix(vec![Step::host("make them", &make)])]
}
