//! MIG mode without instances.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "mig-empty",
    title: "A GPU in MIG mode has no instance",
    why: "In MIG mode a GPU computes through its instances only; without one CUDA sees no device",
    fix: "`nvidia-smi mig -cgi 0 -C` makes one instance of the whole GPU; `nvidia-smi -i <index> -mig 0` leaves MIG mode",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let empty = snapshot.gpus.iter().filter(|gpu| gpu.mig_mode && gpu.instances == 0);
    let finding = |gpu: &crate::Gpu| {
        let summary =
            format!("GPU {} ({}) is in MIG mode and has no instance", gpu.index, gpu.model);
        Finding::new(&RULE, Severity::Stops, summary)
    };
    empty.map(finding).collect()
}
