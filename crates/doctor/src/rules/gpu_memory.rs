//! Memory rows that fail.

use super::Rule;
use crate::fix;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "gpu-memory",
    title: "A GPU has memory rows that wait for a reset, or can't be mended",
    why: "From Ampere on a GPU replaces a failing memory row at its next reset. Until then errors come again (Xid 63, 94, 95); when a row can't be replaced the card is worn out (Xid 64)",
    fix: "pending: stop what runs on it and `nvidia-smi --gpu-reset -i <index>`, or reboot; failed: have the card replaced",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let rows = snapshot.gpus.iter().filter_map(|gpu| {
        let remapped = gpu.remapped?;
        let what = match (remapped.failed, remapped.pending) {
            (true, _) => "could not replace a failing memory row",
            (false, true) => "replaces a failing memory row at its next reset",
            (false, false) => return None,
        };
        let summary = format!("GPU {} ({}) {what}", gpu.index, gpu.model);
        let steps = match remapped.failed {
            true => vec![Step::host(
                "have the card replaced; the driver's report goes with it",
                &["nvidia-bug-report.sh"],
            )],
            false => fix::reset(snapshot, &[gpu]),
        };
        Some(Finding::new(&RULE, Severity::Warns, summary).fix(steps))
    });
    rows.collect()
}
