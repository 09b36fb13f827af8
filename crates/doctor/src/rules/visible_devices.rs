//! A variable that hides GPUs.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "visible-devices",
    title: "CUDA_VISIBLE_DEVICES hides GPUs",
    why: "CUDA shows a program only the GPUs that CUDA_VISIBLE_DEVICES lists, up to the first that does not exist: empty or -1 hides all",
    fix: "unset it, or list GPUs that exist",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let Some(value) = snapshot.environment.get("CUDA_VISIBLE_DEVICES") else { return Vec::new() };
    let first = value.split(',').next().unwrap_or("").trim();
    let hides = match first.parse::<i64>() {
        Ok(index) => !snapshot.gpus.iter().any(|gpu| i64::from(gpu.index) == index),
        Err(_) => !first.starts_with("GPU-") && !first.starts_with("MIG-"),
    };
    if snapshot.gpus.is_empty() || !hides {
        return Vec::new();
    }
    let finding = Finding::new(&RULE, Severity::Warns, "CUDA_VISIBLE_DEVICES hides every GPU");
    vec![finding.seen(format!("CUDA_VISIBLE_DEVICES={value}"))]
}
