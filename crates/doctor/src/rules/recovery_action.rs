//! What the driver itself asks for.

use super::Rule;
use crate::fix;
use crate::state::Trouble;
use crate::{Finding, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "recovery-action",
    title: "The driver asks for a reset or a restart",
    why: "Xid 154 says what the driver wants done about an earlier error before the GPU is used again: a reset, a restart of the machine, or that its peers stop first. Until it is done CUDA fails on that GPU",
    fix: "what it asks for: `nvidia-smi --gpu-reset -i <index>` or a restart",
    references: &[],
    check,
};

/// Words of the action, and what it takes (`nvmlDeviceGpuRecoveryAction_t`: none, GPU reset, node reboot, drain
/// P2P, drain and reset).
fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let devices = snapshot.devices().into_iter();
    let asked = devices.filter(|device| device.trouble == Some(Trouble::Recovery));
    let findings = asked.filter_map(|device| {
        let gpu = device.gpu?;
        let said = gpu.silence.as_deref().map(|words| format!("NVML: {words}"));
        let (action, line) = snapshot.recovery(device.bus_id).unwrap_or(("reset required", ""));
        let seen = said.into_iter().chain((!line.is_empty()).then(|| line.to_owned()));
        let lower = action.to_lowercase();
        let steps =
            match (lower.contains("reboot"), lower.contains("reset"), lower.contains("drain")) {
                (true, ..) => fix::reboot(snapshot),
                (_, true, _) => fix::reset(snapshot, &[gpu]),
                (_, _, true) => vec![Step::host(
                    "stop every program that uses this GPU or its NVLink peers",
                    &[],
                )],
                _ => fix::reboot(snapshot),
            };
        let summary = format!("{}: {action}", device.name());
        let finding = Finding::new(&RULE, snapshot.loss(), summary);
        Some(seen.fold(finding, Finding::seen).fix(steps))
    });
    findings.collect()
}
