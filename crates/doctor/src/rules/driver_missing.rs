//! A GPU and no driver.

use super::{Rule, gpu_held, module_not_built};
use crate::fix;
use crate::state::Device;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "driver-missing",
    title: "A GPU is on the bus and no driver is installed",
    why: "Without the kernel module there is no /dev/nvidia*, and CUDA says that there is no device",
    fix: "install NVIDIA's driver from your distribution or from NVIDIA's repository, and restart",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let driver = &snapshot.driver;
    if snapshot.wsl
        || snapshot.pci.is_empty()
        || driver.module.is_some()
        || driver.libraries.is_some()
        || module_not_built::not_built(snapshot).is_some()
        || gpu_held::keep_the_module_out(snapshot)
        || snapshot.container
    {
        return Vec::new();
    }
    let count = snapshot.pci.len();
    let summary = format!("{count} NVIDIA GPU(s) are on the PCI bus and no driver is installed");
    let mut finding = Finding::new(&RULE, Severity::Stops, summary);
    for pci in &snapshot.pci {
        let known = sconce_facts::gpu_by_pci(&pci.device);
        let generation = sconce_facts::generation_by_pci(&pci.device).map(|row| row.name.as_str());
        let name = known.map(|gpu| gpu.name.as_str()).or(generation);
        let name = name.unwrap_or("unknown to the facts");
        finding = finding.seen(format!("{}: 10de:{} ({name})", pci.bus_id, pci.device));
    }
    if snapshot.modules.iter().any(|name| name == "nouveau") {
        finding = finding.seen("the nouveau module is loaded");
    }
    let known = snapshot.pci.iter().filter_map(|pci| sconce_facts::gpu_by_pci(&pci.device));
    let devices = snapshot.devices();
    let last = devices.iter().filter_map(Device::last_branch).min();
    let first = known.filter_map(|gpu| Some(gpu.first_driver.as_ref()?.branch())).max();
    let branch = sconce_facts::driver_branch().max(first.unwrap_or_default());
    let branch = branch.min(last.unwrap_or(u32::MAX));
    let flavour = if last.is_some() { "driver-proprietary" } else { "driver-open" };
    let mut steps: Vec<_> = fix::price(snapshot, flavour, Some(branch)).into_iter().collect();
    steps.push(fix::install(snapshot, flavour, Some(branch), "install NVIDIA's driver {branch}"));
    steps.extend(fix::reboot(snapshot));
    vec![finding.fix(steps)]
}
