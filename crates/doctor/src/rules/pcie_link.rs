//! Narrow PCIe.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "pcie-link",
    title: "A GPU has fewer PCIe lanes than it could",
    why: "Each lane less is bandwidth less between host and GPU: data loading, and NCCL without NVLink, at a half or a quarter. The slot has fewer lanes wired, a riser or a contact is bad, or another card took them",
    fix: "look into the mainboard's manual for a slot with all lanes; reseat the card and its riser",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    /// `nvmlClocksEventReasonGpuIdle`: an idle GPU lets its link fall to an older generation, some to fewer lanes.
    const IDLE: u64 = 1;
    let narrow = snapshot.devices().into_iter().filter_map(|device| {
        let link = device.pci?.link?;
        let datacenter = device.facts().is_some_and(|facts| facts.datacenter);
        let idle = device
            .gpu
            .is_some_and(|gpu| gpu.health.clock_reasons.is_some_and(|reasons| reasons & IDLE != 0));
        let used = device
            .gpu
            .is_some_and(|gpu| gpu.health.clock_reasons.is_some() && gpu.processes != Some(0));
        let lower = link.generation < link.generation_max;
        // A link that sleeps may have fewer lanes as well: only one at its best says what it has.
        let lanes = link.width < link.width_max && !(idle && lower);
        let slow = used && !idle && lower;
        if !lanes && !slow {
            return None;
        }
        let summary = format!(
            "{} has {} PCIe lanes of generation {}, of {} of generation {}",
            device.name(),
            link.width,
            link.generation,
            link.width_max,
            link.generation_max
        );
        // Desktop boards and laptops often wire eight of sixteen.
        let severity = if datacenter && lanes { Severity::Warns } else { Severity::Notes };
        Some(Finding::new(&RULE, severity, summary))
    });
    narrow.collect()
}
