//! A virtual GPU without a licence.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "vgpu-license",
    title: "A virtual GPU has no licence",
    why: "A guest of vGPU software needs a licence from a server. Without one it works for some minutes after the start, then slows down step by step, and CUDA may be refused",
    fix: "put the client token below /etc/nvidia/ClientConfigToken, and `FeatureType` in /etc/nvidia/gridd.conf, then `systemctl restart nvidia-gridd`",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let unlicensed =
        |gpu: &&crate::Gpu| gpu.health.vgpu.is_some_and(|vgpu| vgpu.licensed == Some(false));
    let without = snapshot.gpus.iter().filter(unlicensed);
    let without = without.map(|gpu| format!("GPU {} ({})", gpu.index, gpu.model));
    let without: Vec<String> = without.collect();
    if without.is_empty() {
        return Vec::new();
    }
    let summary = format!("{} is a virtual GPU without a licence", without.join(", "));
    vec![Finding::new(&RULE, Severity::Warns, summary).fix(vec![
        Step::host(
            "put the licence server's client token below /etc/nvidia/ClientConfigToken",
            &[],
        ),
        Step::host(
            "ask for the licence, and see the answer",
            &["systemctl restart nvidia-gridd", "journalctl -u nvidia-gridd -n 20"],
        ),
    ])]
}
