//! Ends of support, from the facts.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "driver-dropped-gpu",
    title: "The driver no longer supports this GPU",
    why: "Driver branches end support for old generations: the module loads and leaves the card alone",
    fix: "install the last driver branch that supports the card",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let Some(driver) = snapshot.driver_version() else { return Vec::new() };
    let mut findings = Vec::new();
    for pci in &snapshot.pci {
        let Some(gpu) = sconce_facts::gpu_by_pci(&pci.device) else { continue };
        let Some(last) = gpu.capability.row().and_then(|row| row.last_driver.as_ref()) else {
            continue;
        };
        let Ok(branch) = last.trim_start_matches('R').parse::<u32>() else { continue };
        if driver.branch() > branch {
            let summary = format!(
                "{} at {} is supported up to {last}, the driver is {driver}",
                gpu.name, pci.bus_id
            );
            // The others may still do.
            let severity = if snapshot.gpus.is_empty() { Severity::Stops } else { Severity::Warns };
            findings.push(Finding::new(&RULE, severity, summary));
        }
    }
    findings
}
