//! Error 802.

use sconce_gpu::nvml::Fabric;

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "fabric-manager",
    title: "NVSwitch is here and the fabric is not up",
    why: "On machines with NVSwitch every GPU waits for fabric manager, of exactly the version of the driver: until then cuInit fails with error 802, `system not yet initialized`",
    fix: "install `nvidia-fabricmanager` in the driver's version, then `systemctl enable --now nvidia-fabricmanager` (`journalctl -u nvidia-fabricmanager` says why it stopped)",
    references: &["pytorch/pytorch#35710", "wilicc/gpu-burn#92", "NVIDIA/gpu-operator#544"],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let switches = snapshot.nodes.iter().filter(|node| {
        let name = node.path.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix("nvidia-nvswitch").is_some_and(|rest| rest.parse::<u32>().is_ok())
    });
    let switches = switches.count();
    let not_up: Vec<String> = snapshot
        .gpus
        .iter()
        .filter_map(|gpu| Some((gpu.index, gpu.fabric?)))
        .filter(|(_, state)| *state != Fabric::Completed)
        .map(|(index, state)| format!("GPU {index}: {state:?}"))
        .collect();
    let mut findings = Vec::new();
    if switches > 0 && !snapshot.fabric_manager && !snapshot.container {
        let summary = format!("{switches} NVSwitches are here and fabric manager is not running");
        findings.push(Finding::new(&RULE, Severity::Stops, summary));
    }
    // It refuses to start: `fabric manager NVIDIA GPU driver interface version … don't match`.
    if let (Some(version), Some(module), true) =
        (&snapshot.fabric_manager_version, &snapshot.driver.module, switches > 0)
        && version != module
    {
        let summary = format!("fabric manager is of version {version}, the driver is {module}");
        findings.push(Finding::new(&RULE, Severity::Stops, summary));
    }
    if !not_up.is_empty() {
        let summary = format!("the NVLink fabric of {} GPU(s) is not up", not_up.len());
        let finding = Finding::new(&RULE, Severity::Stops, summary);
        findings.push(finding.seen(not_up.join(", ")));
    }
    findings
}
