//! A toolkit before the wheel.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "library-path",
    title: "LD_LIBRARY_PATH leads to other CUDA libraries",
    why: "PyTorch finds its libraries beside itself. A CUDA toolkit in LD_LIBRARY_PATH can come before them: `undefined symbol: __nvJitLinkComplete…`, `CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH`. sconce never passes it into a container",
    fix: "unset LD_LIBRARY_PATH for PyTorch",
    references: &["pytorch/pytorch#111469", "pytorch/pytorch#134929", "pytorch/pytorch#188892"],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let Some(value) = snapshot.environment.get("LD_LIBRARY_PATH") else { return Vec::new() };
    let names = ["cuda", "cudnn", "nvjitlink", "nccl"];
    let folders: Vec<&str> = value
        .split(':')
        .filter(|folder| names.iter().any(|name| folder.to_lowercase().contains(name)))
        .collect();
    if folders.is_empty() {
        return Vec::new();
    }
    let finding =
        Finding::new(&RULE, Severity::Notes, "LD_LIBRARY_PATH leads to other CUDA libraries");
    vec![finding.seen(folders.join(":"))]
}
