//! A GPU does not answer.

use super::{Rule, seconds, seen};
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "gpu-silent",
    title: "A GPU does not answer",
    why: "Calls of NVML about this GPU do not come back: the driver waits for its firmware or holds a lock. Programs that begin to use the GPU hang as well",
    action: "look for Xid 119, 120 or 154 in the kernel's log; if it stays restart the machine",
    source: "NVIDIA Xid catalogue, 119: GSP RPC timeout, RESET_GPU",
    severity: Severity::Warning,
    hold: seconds(0),
    clear: seconds(5),
    apart: None,
    alert: Some("sconce_gpu_up == 0"),
    check,
};

fn check(window: &Window) -> Vec<Seen> {
    let late = window.gpus().iter().filter(|gpu| gpu.lost.is_none() && gpu.age_ms >= 10_000);
    late.map(|gpu| {
        // Whole tens, so that the words do not change with every sample.
        let age = gpu.age_ms / 10_000 * 10;
        seen(gpu, format!("no answer for more than {age} s"))
    })
    .collect()
}
