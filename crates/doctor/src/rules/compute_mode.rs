//! Error 46.

use sconce_gpu::nvml::ComputeMode;

use super::Rule;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "compute-mode",
    title: "A GPU lets no process compute, or only one",
    why: "`nvidia-smi -c` closes a GPU to all processes or to all but one. Whoever comes later meets `all CUDA-capable devices are busy or unavailable` (error 46)",
    fix: "`nvidia-smi -i <index> -c DEFAULT`",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let taken = |gpu: &crate::Gpu| {
        gpu.compute_mode == Some(ComputeMode::ExclusiveProcess) && gpu.processes > Some(0)
    };
    // Whether the process that is there is MPS's server, which computes for others, is not known.
    let all_taken = snapshot.gpus.iter().all(taken);
    let devices = snapshot.devices().into_iter();
    let closed = devices.filter_map(|device| device.gpu).filter_map(|gpu| {
        let (severity, how) = match gpu.compute_mode? {
            ComputeMode::Default => return None,
            ComputeMode::Prohibited => (snapshot.loss(), "lets no process compute"),
            ComputeMode::ExclusiveProcess if taken(gpu) => {
                let severity = if all_taken { Severity::Unknown } else { Severity::Warns };
                (
                    severity,
                    "lets one process compute at a time, and one does; only through MPS do more",
                )
            }
            ComputeMode::ExclusiveProcess => {
                (Severity::Notes, "lets one process compute at a time")
            }
        };
        let summary = format!("GPU {} ({}) {how}", gpu.index, gpu.model);
        let finding = Finding::new(&RULE, severity, summary);
        let open = format!("nvidia-smi -i {} -c DEFAULT", gpu.index);
        let step = Step::host("let all compute again, if it was not meant", &[&open]);
        Some(finding.seen(format!("compute mode {:?}", gpu.compute_mode?)).fix(vec![step]))
    });
    closed.collect()
}
