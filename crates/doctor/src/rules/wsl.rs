//! Windows with WSL: refused politely.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "wsl",
    title: "The machine is Windows with WSL",
    why: "WSL has no NVIDIA kernel module: the GPU is reached through /dev/dxg and Windows' own libraries in /usr/lib/wsl. sconce injects the Linux driver only",
    fix: "run on the processor with --gpus none, or use a Linux machine",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let wsl = snapshot.wsl.then(|| {
        Finding::new(&RULE, Severity::Stops, "this is WSL, whose GPUs sconce does not inject")
            .seen("/dev/dxg or /usr/lib/wsl, and no NVIDIA kernel module")
    });
    wsl.into_iter().collect()
}
