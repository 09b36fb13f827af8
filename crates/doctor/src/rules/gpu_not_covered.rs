//! Architectures in the image against the GPUs.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "gpu-not-covered",
    title: "The image has no code for this GPU",
    why: "A CUDA library holds machine code for a list of architectures; on a GPU outside it the first kernel fails with `no kernel image is available`",
    fix: "take a torch release that has the architecture: `gpus = [\"host\"]` in sconce.toml makes sconce choose it",
    references: &["pytorch/pytorch#172352", "pytorch/pytorch#182849"],
    check,
};

fn check(snapshot: &Snapshot, subject: Option<&Subject>) -> Vec<Finding> {
    let Some(subject) = subject.filter(|subject| !subject.architectures.is_empty()) else {
        return Vec::new();
    };
    let list: Vec<String> = subject.architectures.iter().map(ToString::to_string).collect();
    let has = || format!("it has {}", list.join(", "));
    let mut findings = Vec::new();
    let devices = snapshot.devices();
    let given: Vec<&crate::Gpu> = devices.iter().filter_map(|device| device.gpu).collect();
    for gpu in &given {
        let Some(capability) = gpu.capability else {
            let summary = format!(
                "the compute capability of GPU {} ({}) is not known, and with it not whether {} has code for it",
                gpu.index, gpu.model, subject.name
            );
            findings.push(Finding::new(&RULE, Severity::Unknown, summary).seen(has()));
            continue;
        };
        if subject.architectures.iter().any(|sm| sm.runs_on(capability)) {
            continue;
        }
        let summary = format!(
            "{} has no code for GPU {} ({}, {})",
            subject.name,
            gpu.index,
            gpu.model,
            capability.sm()
        );
        // The others may still do.
        let some = given.iter().filter_map(|gpu| gpu.capability);
        let mut some = some.filter(|gpu| subject.architectures.iter().any(|sm| sm.runs_on(*gpu)));
        let severity = if some.next().is_some() { Severity::Warns } else { Severity::Stops };
        let finding = Finding::new(&RULE, severity, summary);
        findings.push(finding.seen(has()));
    }
    findings
}
