//! Locked memory for InfiniBand.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "memlock",
    title: "The limit of locked memory is low",
    why: "InfiniBand registers memory with the card and needs it locked; NCCL then falls back or fails with `ibv_reg_mr … Cannot allocate memory`",
    fix: "`ulimit -l unlimited`: a line `* - memlock unlimited` in /etc/security/limits.conf, `LimitMEMLOCK=infinity` in the unit",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    /// What distributions give by default is 64 KiB or 8 MiB; registering buffers takes more.
    const ENOUGH: u64 = 1 << 30;
    let Some(bytes) = snapshot.memlock_bytes.filter(|bytes| *bytes < ENOUGH) else {
        return Vec::new();
    };
    if !snapshot.infiniband {
        return Vec::new();
    }
    let summary =
        format!("InfiniBand is here and only {} KiB of memory may be locked", bytes >> 10);
    vec![Finding::new(&RULE, Severity::Warns, summary)]
}
