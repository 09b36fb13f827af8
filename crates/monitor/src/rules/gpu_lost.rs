//! A GPU is lost.

use super::{Rule, seconds, seen};
use crate::sample::{Event, EventKind};
use crate::sampler::say;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "gpu-lost",
    title: "A GPU is lost",
    why: "NVML answers that the GPU is lost or waits for a reset, no longer lists it, or the kernel says that it has fallen off the bus. What ran on it has ended, or hangs. It is seen within two samples, and told three seconds later",
    action: "restart the machine (a reset cannot reach a GPU that left the bus); if it comes again look at power cables and seating, and have the card replaced. sconce doctor has the steps for this machine",
    source: "nvml.h: GPU_IS_LOST 15, RESET_REQUIRED 16; NVIDIA Xid catalogue, 79: RESTART_BM",
    severity: Severity::Critical,
    hold: seconds(3),
    clear: seconds(5),
    apart: None,
    alert: None,
    check,
};

/// For how long the kernel's line counts, seconds.
const LINE: u64 = 600;
/// Milliseconds after which a GPU counts as one that does not answer.
const SILENT: u64 = 10_000;

fn check(window: &Window) -> Vec<Seen> {
    let left = |event: &&Event| event.kind == EventKind::LeftTheBus && !event.bus_id.is_empty();
    let mut all = Vec::new();
    for gpu in window.gpus() {
        let of_it = |event: &&Event| gpu.bus_id.starts_with(event.bus_id.as_str());
        let line = window.events(LINE).filter(left).filter(of_it).last();
        match (gpu.lost, line) {
            (Some(code), None) => all.push(seen(gpu, say(code))),
            (Some(code), Some(event)) => {
                all.push(seen(gpu, format!("{}: {}", say(code), event.line)));
            }
            // That it answers proves that it is there, whatever the log said before a reset.
            (None, Some(event)) if gpu.age_ms >= SILENT => {
                all.push(seen(gpu, format!("it does not answer: {}", event.line)));
            }
            (None, _) => {}
        }
    }
    for gpu in window.gone() {
        all.push(seen(gpu, "it is listed no more".to_owned()));
    }
    for event in window.events(LINE).filter(left) {
        let known = window.gpus().iter().any(|gpu| gpu.bus_id.starts_with(event.bus_id.as_str()));
        if !known && !all.iter().any(|seen: &Seen| seen.key == event.bus_id) {
            let (key, evidence) = (event.bus_id.clone(), event.line.clone());
            all.push(Seen {
                gpu: None,
                uuid: String::new(),
                key,
                severity: None,
                evidence,
                action: None,
            });
        }
    }
    all
}
