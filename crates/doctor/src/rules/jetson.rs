//! Jetson: refused politely.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "jetson",
    title: "The machine is a Jetson",
    why: "The GPU of a Jetson is part of its processor: it is on no PCI bus, the kernel's nvgpu drives it, and its CUDA libraries come with JetPack. sconce injects the driver of PCI GPUs only",
    fix: "run on the processor with --gpus none, or use NVIDIA's containers for Jetson (JetPack)",
    references: &[],
    check,
};

/// Whether its GPU is a Jetson's. One that NVIDIA's driver shows as it does others is none of these.
pub(crate) fn is_one(snapshot: &Snapshot) -> bool {
    let tegra = snapshot.kernel.as_deref().is_some_and(|kernel| kernel.ends_with("-tegra"));
    let nvgpu = snapshot.modules.iter().any(|name| name == "nvgpu");
    (tegra || nvgpu) && snapshot.gpus.is_empty() && snapshot.pci.is_empty()
}

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let jetson = is_one(snapshot).then(|| {
        let summary = "this is a Jetson; sconce does not serve its GPU";
        let finding = Finding::new(&RULE, Severity::Stops, summary);
        finding.seen(format!("kernel {}", snapshot.kernel.as_deref().unwrap_or("unknown")))
    });
    jetson.into_iter().collect()
}
