//! GPUs that are shut down while nobody uses them.

use sconce_gpu::nvml::ComputeMode;

use super::{Rule, power_limit};
use crate::state::Device;
use crate::{Finding, Gpu, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "persistence",
    title: "Persistence mode is off on a data-centre GPU",
    why: "Without a display nothing keeps such a GPU open: when the last program ends the driver shuts it down. The next one waits one to three seconds a GPU until it is up again, and what was set with nvidia-smi until then (power limit, compute mode, clocks) is gone (NVIDIA, Driver Persistence)",
    fix: "`nvidia-smi -pm 1` until the next restart; for good: have nvidia-persistenced run, without `--no-persistence-mode`",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    // It is the host's to set.
    if snapshot.container || snapshot.wsl {
        return Vec::new();
    }
    let datacenter = |device: &Device<'_>| device.facts().is_some_and(|facts| facts.datacenter);
    let devices = snapshot.devices().into_iter();
    let off: Vec<&Gpu> = devices
        .filter(|device| device.trouble.is_none() && datacenter(device) && !device.is_virtual())
        .filter_map(|device| device.gpu)
        .filter(|gpu| gpu.health.persistence == Some(false))
        .collect();
    if off.is_empty() {
        return Vec::new();
    }
    let indices: Vec<String> = off.iter().map(|gpu| gpu.index.to_string()).collect();
    let summary = format!(
        "persistence mode is off on GPU {}: it is shut down between programs",
        indices.join(", ")
    );
    let mut finding = Finding::new(&RULE, Severity::Notes, summary);
    for gpu in off {
        let mut set = Vec::new();
        if let Some(watts) = power_limit::lowered(gpu) {
            set.push(format!("power limit {watts} W"));
        }
        if let Some(mode) = gpu.compute_mode.filter(|mode| *mode != ComputeMode::Default) {
            set.push(format!("compute mode {mode:?}"));
        }
        if !set.is_empty() {
            let set = set.join(", ");
            finding =
                finding.seen(format!("lost when its last program ends: GPU {}: {set}", gpu.index));
        }
    }
    let now = format!("nvidia-smi -i {} -pm 1", indices.join(","));
    vec![finding.fix(vec![
        Step::host("switch it on until the next restart", &[&now]),
        Step::host(
            "for good: have nvidia-persistenced run at each start, and see that its unit does not say `--no-persistence-mode`",
            &["systemctl cat nvidia-persistenced"],
        ),
    ])]
}
