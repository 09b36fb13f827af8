//! Clocks held down.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "clocks",
    title: "A GPU's clocks are held down",
    why: "Heat, the power supply or the board slow a GPU down to a part of its speed; one such GPU slows a whole job of many",
    fix: "heat: fans, filters, inlet temperature; power brake: the machine's power supplies; `nvidia-smi -q -d PERFORMANCE` shows the reasons",
    references: &[],
    check,
};

/// Bits of `nvmlClocksEventReasons` (nvml.h) that are a fault; idling, a power cap at full load and settings are
/// none.
const FAULTS: &[(u64, &str)] = &[
    (0x40, "by the hardware: too hot"),
    (0x80, "by the power supply's brake"),
    (0x20, "by the driver: too hot"),
    (0x8, "by the hardware"),
];

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let slow = snapshot.gpus.iter().filter_map(|gpu| {
        let reasons = gpu.health.clock_reasons?;
        let (_, why) = FAULTS.iter().find(|(bit, _)| reasons & bit != 0)?;
        let summary =
            format!("the clocks of GPU {} ({}) are held down {why}", gpu.index, gpu.model);
        let show = format!("nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER -i {}", gpu.index);
        let step = Step::host(
            "see reasons, temperatures and power; then look at fans, filters and power supplies",
            &[&show],
        );
        Some(Finding::new(&RULE, Severity::Warns, summary).fix(vec![step]))
    });
    slow.collect()
}
