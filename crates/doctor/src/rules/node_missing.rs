//! GPUs without nodes.

use std::path::Path;

use super::Rule;
use crate::fix;
use crate::place::CONTROL_MINOR;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "node-missing",
    title: "The device node of a GPU is missing",
    why: "The driver shows the GPU in /proc and there is no /dev/nvidia<minor>: nobody can open it. In a container: the GPU was not given to it",
    fix: "`nvidia-modprobe -c <minor>` (255 for /dev/nvidiactl) or one call of `nvidia-smi` as root makes the nodes",
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
    let given = snapshot.nodes.iter().any(|node| node.of_gpu().is_some());
    if snapshot.container && has("/dev/nvidiactl") && given {
        return Vec::new();
    }
    let missing = gone.iter().map(|gpu| format!("/dev/nvidia{}", gpu.minor));
    let missing: Vec<String> = missing
        .chain(["/dev/nvidiactl".to_owned()].into_iter().filter(|path| !has(path)))
        .collect();
    if snapshot.container && (!given || !missing.is_empty()) {
        let finding = Finding::new(&RULE, Severity::Stops, "this container was given no GPU");
        let start = fix::give_gpus(snapshot, "start it with GPUs");
        let seen = match missing.is_empty() {
            true => "there is no /dev/nvidia<minor>".to_owned(),
            false => format!("missing: {}", missing.join(", ")),
        };
        return vec![finding.seen(seen).fix(vec![start])];
    }
    if missing.is_empty() {
        return Vec::new();
    }
    let severity = match has("/dev/nvidiactl") && gone.len() < snapshot.gpus.len() {
        true => Severity::Warns,
        false => Severity::Stops,
    };
    // It makes the nodes that it is told, one each (nvidia-modprobe(1)).
    let control = (!has("/dev/nvidiactl")).then_some(CONTROL_MINOR);
    let minors = gone.iter().map(|gpu| gpu.minor).chain(control);
    let make: Vec<String> = minors.map(|minor| format!("nvidia-modprobe -c {minor}")).collect();
    let make: Vec<&str> = make.iter().map(String::as_str).collect();
    let summary = format!("missing device nodes: {}", missing.join(", "));
    vec![Finding::new(&RULE, severity, summary).fix(vec![Step::host("make them", &make)])]
}
