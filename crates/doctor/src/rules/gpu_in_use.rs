//! Memory that others have.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "gpu-in-use",
    title: "Much of a GPU's memory is in use",
    why: "What other processes hold is not there for yours: `CUDA out of memory` at a size that fits the card. A process that died badly, or one in another container, can hold it unseen",
    fix: "`nvidia-smi` or `fuser -v /dev/nvidia*` as root lists who has it; `--gpus 1` takes a GPU that nobody computes on",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    /// Above this part a job meant for the whole card does not fit; the driver itself takes 1%.
    const MUCH: f64 = 0.2;
    let used = snapshot.gpus.iter().filter_map(|gpu| {
        let (used, all) = (gpu.used_bytes?, gpu.memory_bytes.filter(|all| *all > 0)?);
        (used as f64 / all as f64 > MUCH).then(|| {
            let summary =
                format!("{} of {} GiB of GPU {} are in use", used >> 30, all >> 30, gpu.index);
            let finding = Finding::new(&RULE, Severity::Notes, summary);
            match gpu.processes {
                Some(0) => finding.seen("no process that can be seen from here computes on it"),
                Some(count) => finding.seen(format!("{count} process(es) compute on it")),
                None => finding,
            }
        })
    });
    used.collect()
}
