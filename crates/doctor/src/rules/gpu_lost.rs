//! Fallen off the bus, with or without an Xid.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "gpu-lost",
    title: "A GPU is on the bus and the driver does not show it",
    why: "The GPU failed to start or has fallen off the bus (power, heat, a loose riser); not always is there an Xid line. Then nvidia-smi says `No devices were found` or leaves it out",
    fix: "power the machine off and on, not just reboot; then reseat the card, look at its power and its PCIe errors, and replace it if it comes again",
    references: &["NVIDIA/open-gpu-kernel-modules#507", "NVIDIA/NVSentinel#155"],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    if snapshot.driver.module.is_none() || snapshot.container {
        return Vec::new();
    }
    let shown = |bus_id: &str| snapshot.gpus.iter().any(|gpu| gpu.bus_id == bus_id);
    let lost = snapshot.pci.iter().filter(|pci| !shown(&pci.bus_id));
    let finding = |pci: &crate::Pci| {
        let known = sconce_facts::gpu_by_pci(&pci.device);
        let name = known.map_or("a GPU", |gpu| gpu.name.as_str());
        let summary =
            format!("{name} at {} is on the bus and the driver does not show it", pci.bus_id);
        // The others may still do.
        let severity = if snapshot.gpus.is_empty() { Severity::Stops } else { Severity::Warns };
        let finding = Finding::new(&RULE, severity, summary);
        let log = snapshot.kernel_log.iter().flatten();
        let lines =
            log.rev().filter(|line| line.contains(pci.bus_id.trim_end_matches(".0"))).take(3);
        lines.fold(finding, |finding, line| finding.seen(line.clone()))
    };
    lost.map(finding).collect()
}
