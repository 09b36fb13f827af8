//! One instance a process.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "mig-several",
    title: "Several MIG instances, of which CUDA takes one",
    why: "A CUDA process uses one MIG instance, the first it sees: the others stay idle, and torch.cuda.device_count() is 1",
    fix: "start one process for each instance, each with `--gpus MIG-…` or CUDA_VISIBLE_DEVICES=MIG-…",
    references: &["pytorch/pytorch#102715"],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let count: u32 = snapshot.gpus.iter().map(|gpu| gpu.instances).sum();
    if count < 2 {
        return Vec::new();
    }
    let named = snapshot.environment.get("CUDA_VISIBLE_DEVICES");
    if named.is_some_and(|value| value.starts_with("MIG-")) {
        return Vec::new();
    }
    let summary = format!("{count} MIG instances are here; each CUDA process uses one of them");
    vec![Finding::new(&RULE, Severity::Notes, summary)]
}
