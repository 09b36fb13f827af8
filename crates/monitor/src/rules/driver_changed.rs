//! The driver changed under a container that runs.

use super::{Rule, seconds, seen};
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "driver-changed",
    title: "The driver changed under a container that runs",
    why: "A container has the driver's libraries of its start, and they fit that driver's kernel module alone: each new CUDA program in it fails with `driver/library version mismatch`",
    action: "start the container again: it then gets the libraries of the driver that runs",
    source: "NVIDIA's user-space libraries and kernel module must be of one release (docs.nvidia.com/deploy/cuda-compatibility)",
    severity: Severity::Warning,
    hold: seconds(0),
    clear: seconds(60),
    apart: None,
    alert: None,
    check,
};

fn check(window: &Window) -> Vec<Seen> {
    let (Some(now), Some(before)) = (window.now(), window.oldest()) else { return Vec::new() };
    let (Some(driver), Some(old)) = (&now.driver, &before.driver) else { return Vec::new() };
    if driver == old {
        return Vec::new();
    }
    let mut all = Vec::new();
    for gpu in &now.gpus {
        let Some(then) = before.gpus.iter().find(|then| then.uuid == gpu.uuid) else { continue };
        for holder in gpu.holders.iter().filter(|holder| then.holders.contains(holder)) {
            let name = holder.pod_name().unwrap_or_else(|| holder.name.clone());
            let evidence = format!("{name}: from {old} to {driver}");
            let key = holder.pod_name().unwrap_or_else(|| holder.container.clone());
            all.push(Seen { key, ..seen(gpu, evidence) });
        }
    }
    all
}
