//! MIG mode without instances.

use super::Rule;
use crate::{Finding, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "mig-empty",
    title: "A GPU in MIG mode has no instance",
    why: "In MIG mode a GPU computes through its instances only; without one CUDA sees no device",
    fix: "`nvidia-smi mig -i <index> -cgi 0 -C` makes one instance of the whole GPU; `nvidia-smi -i <index> -mig 0` leaves MIG mode",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let devices = snapshot.devices().into_iter();
    let empty = devices.filter_map(|device| device.gpu).filter(|gpu| gpu.lacks_instance());
    let finding = |gpu: &crate::Gpu| {
        let summary =
            format!("GPU {} ({}) is in MIG mode and has no instance", gpu.index, gpu.model);
        let make = format!("nvidia-smi mig -i {} -cgi 0 -C", gpu.index);
        let leave = format!("nvidia-smi -i {} -mig 0", gpu.index);
        let steps = vec![
            Step::host("make one instance of the whole GPU", &[&make]),
            Step::host("or leave MIG mode", &[&leave]),
        ];
        Finding::new(&RULE, snapshot.loss(), summary).fix(steps)
    };
    empty.map(finding).collect()
}
