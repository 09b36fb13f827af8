//! NVML blocks or refuses.

use super::Rule;
use crate::state::Trouble;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "nvml-silent",
    title: "NVML does not answer",
    why: "nvidia-smi and every monitor ask NVML. When it blocks, a GPU is mostly hung; when it refuses, it says why",
    fix: "`nvidia-smi` shows the same; `dmesg --level err,warn` mostly says why; a hung GPU needs a restart of the machine",
    references: &[],
    check,
};

/// Refusals of NVML with which no CUDA program starts: the driver is not loaded, the GPU is lost, it wants a reset, another
/// release is loaded.
///
/// Source: nvml.h, nvmlReturn_t.
const FATAL: [u32; 4] = [9, 15, 16, 18];

/// The code at the end of `nvmlInit: GPU is lost (15)`.
fn code(reason: &str) -> Option<u32> {
    reason.rsplit_once('(')?.1.strip_suffix(')')?.parse().ok()
}

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let (Some(reason), Some(_)) = (&snapshot.driver.nvml_silence, &snapshot.driver.module) else {
        return Vec::new();
    };
    // Causes that have a rule of their own.
    let denied = snapshot.devices().iter().any(|device| device.trouble == Some(Trouble::Denied));
    if denied || snapshot.driver.module != snapshot.driver.libraries {
        return Vec::new();
    }
    let severity = match code(reason).is_some_and(|code| FATAL.contains(&code)) {
        true => Severity::Stops,
        false => Severity::Warns,
    };
    let finding = Finding::new(&RULE, severity, "NVML does not answer");
    vec![finding.seen(reason.clone())]
}
