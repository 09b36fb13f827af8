//! Memory is held by no process.

use super::{EMPTY, LOAD, Rule, each, gibibytes, seconds};
use crate::metric::Metric;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "memory-without-process",
    title: "Memory is held by no process",
    why: "Memory of the GPU is in use though no process is on it: one that could not end holds it, or one in a container whose processes the driver does not list. The next job finds less memory than it needs. Only judged where all processes of the machine are seen",
    action: "find who has the device open (fuser -v /dev/nvidia*), end it; if there is none, reset the GPU when nothing uses it (nvidia-smi --gpu-reset)",
    source: "facebookresearch/gcm: memory used without a job; its 15 MiB raised to 512 MiB, as drivers keep some",
    severity: Severity::Warning,
    hold: seconds(300),
    clear: seconds(30),
    apart: Some(seconds(120)),
    alert: None,
    check,
};

fn check(window: &Window) -> Vec<Seen> {
    if !window.now().is_some_and(|now| now.sees_processes) {
        return Vec::new();
    }
    each(window, |gpu| {
        let recent = window.recent(gpu, LOAD)?;
        let held = recent.least(Metric::MemoryUsed)?;
        let nobody = gpu.processes.as_ref()?.is_empty();
        let idle = recent.most(Metric::Utilization) == Some(0.0);
        (nobody && idle && held > EMPTY && !gpu.mig)
            .then(|| format!("{} in use, no process", gibibytes(held)))
    })
}
