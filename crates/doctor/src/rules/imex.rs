//! Memory shared between machines.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "imex",
    title: "IMEX channels are here and its daemon is not running",
    why: "On GB200 and GB300 racks NCCL shares memory between machines through IMEX channels, which work only while nvidia-imex runs on each of them: else NCCL's multi-node NVLink fails with `unhandled system error` or falls back to the network",
    fix: "list the machines in /etc/nvidia-imex/nodes_config.cfg and `systemctl enable --now nvidia-imex`",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let Some(imex) = snapshot.imex.as_ref().filter(|imex| !imex.service) else { return Vec::new() };
    if snapshot.container {
        return Vec::new();
    }
    let summary =
        format!("{} IMEX channel(s) are here and nvidia-imex is not running", imex.channels);
    let start = Step::host(
        "list the rack's machines in /etc/nvidia-imex/nodes_config.cfg, then start it",
        &["systemctl enable --now nvidia-imex"],
    );
    vec![Finding::new(&RULE, Severity::Notes, summary).fix(vec![start])]
}
