//! A GPU is lost.

use super::{Rule, seconds, seen};
use crate::sample::EventKind;
use crate::sampler::say;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "gpu-lost",
    title: "A GPU is lost",
    why: "NVML answers that the GPU is lost or waits for a reset, no longer lists it, or the kernel says that it has fallen off the bus. What ran on it has ended, or hangs",
    action: "restart the machine (a reset cannot reach a GPU that left the bus); if it comes again look at power cables and seating, and have the card replaced. sconce doctor has the steps for this machine",
    source: "nvml.h: GPU_IS_LOST 15, RESET_REQUIRED 16; NVIDIA Xid catalogue, 79: RESTART_BM",
    severity: Severity::Critical,
    hold: seconds(0),
    clear: seconds(5),
    check,
};

/// For how long the kernel's line counts, seconds.
const LINE: u64 = 600;

fn check(window: &Window) -> Vec<Seen> {
    let mut all = Vec::new();
    for gpu in window.gpus() {
        let place = gpu.bus_id.as_str();
        let left = window.events(LINE).find(|event| {
            event.kind == EventKind::LeftTheBus
                && !event.bus_id.is_empty()
                && place.starts_with(event.bus_id.as_str())
        });
        match (gpu.lost, left) {
            (Some(code), _) => all.push(seen(gpu, say(code))),
            (None, Some(event)) => all.push(seen(gpu, event.line.clone())),
            (None, None) => {}
        }
    }
    all
}
