//! A GPU and no driver.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "driver-missing",
    title: "A GPU is on the bus and no driver is installed",
    why: "Without the kernel module there is no /dev/nvidia*, and CUDA says that there is no device",
    fix: "install NVIDIA's driver from your distribution (`nvidia-open` or `nvidia-driver`); if nouveau holds the card, blacklist it and reboot",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let driver = &snapshot.driver;
    if snapshot.wsl
        || snapshot.pci.is_empty()
        || driver.module.is_some()
        || driver.libraries.is_some()
    {
        return Vec::new();
    }
    let count = snapshot.pci.len();
    let summary = format!("{count} NVIDIA GPU(s) are on the PCI bus and no driver is installed");
    let mut finding = Finding::new(&RULE, Severity::Stops, summary);
    for pci in &snapshot.pci {
        let known = sconce_facts::gpu_by_pci(&pci.device);
        let name = known.map_or("unknown to the facts", |gpu| gpu.name.as_str());
        finding = finding.seen(format!("{}: 10de:{} ({name})", pci.bus_id, pci.device));
    }
    if snapshot.modules.iter().any(|name| name == "nouveau") {
        finding = finding.seen("the nouveau module is loaded");
    }
    vec![finding]
}
