//! What the driver itself asks for.

use super::Rule;
use crate::actions;
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

/// Words of the action, and what it takes (nvml.h, `nvmlDeviceGpuRecoveryAction_t`: 0 none, 1 GPU reset, 2 node reboot, 3 drain
/// P2P, 4 drain and reset). Of others, which a newer driver may have, nobody here knows what they take.
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
                (_, true, false) => fix::reset(snapshot, &[gpu]),
                (_, true, true) => {
                    std::iter::once(drain()).chain(fix::reset(snapshot, &[gpu])).collect()
                }
                (_, _, true) => vec![drain()],
                _ => vec![actions::look_up("what the driver asks for")],
            };
        let summary = format!("{}: {action}", device.name());
        let finding = Finding::new(&RULE, snapshot.loss(), summary);
        Some(seen.fold(finding, Finding::seen).fix(steps))
    });
    findings.collect()
}

/// A GPU that its peers reach over NVLink is not to be reset, or used, while they do.
fn drain() -> Step {
    Step::host("stop every program that uses this GPU or its NVLink peers", &[])
}
