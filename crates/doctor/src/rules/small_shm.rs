//! Bus error.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "small-shm",
    title: "/dev/shm is small",
    why: "DataLoader workers and NCCL pass data through /dev/shm. Docker's default of 64 MB ends in `Bus error` or NCCL's `No space left on device`",
    fix: "`--shm-size 8g` or `--ipc host` with Docker; sconce gives half of the memory by default",
    references: &["pytorch/pytorch#5040", "NVIDIA/nccl#290", "NVIDIA/nccl#342"],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    /// Below this a few workers with image batches fill it.
    const ENOUGH: u64 = 1 << 30;
    let found = snapshot.shm_bytes.filter(|bytes| *bytes < ENOUGH).map(|bytes| {
        let summary =
            format!("/dev/shm has {} MiB: DataLoader workers and NCCL will fill it", bytes >> 20);
        Finding::new(&RULE, Severity::Warns, summary)
    });
    found.into_iter().collect()
}
