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

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let (Some(reason), Some(_)) = (&snapshot.driver.nvml_silence, &snapshot.driver.module) else {
        return Vec::new();
    };
    // Causes that have a rule of their own.
    let denied = snapshot.devices().iter().any(|device| device.trouble == Some(Trouble::Denied));
    if denied || snapshot.driver.module != snapshot.driver.libraries {
        return Vec::new();
    }
    let finding = Finding::new(&RULE, Severity::Warns, "NVML does not answer");
    vec![finding.seen(reason.clone())]
}
