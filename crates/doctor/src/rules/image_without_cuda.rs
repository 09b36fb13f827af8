//! A CPU build on a machine with GPUs.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "image-without-cuda",
    title: "The image has no CUDA",
    why: "A CPU build of torch uses no GPU, whatever the machine has: `Torch not compiled with CUDA enabled`, torch.cuda.is_available() is False",
    fix: "take a build with CUDA: leave `cuda = \"cpu\"` out of sconce.toml and `-cpu` out of the tag, and lock again",
    references: &["pytorch/pytorch#28111"],
    check,
};

fn check(snapshot: &Snapshot, subject: Option<&Subject>) -> Vec<Finding> {
    // Of what has no torch, or is not decided, it is not known.
    let known = |subject: &&Subject| !subject.without_torch && subject.undecided.is_none();
    let Some(subject) = subject.filter(known).filter(|subject| subject.cuda_major.is_none()) else {
        return Vec::new();
    };
    if snapshot.gpus.is_empty() {
        return Vec::new();
    }
    let summary = format!("{} has no CUDA: it leaves the GPUs alone", subject.name);
    vec![Finding::new(&RULE, Severity::Warns, summary)]
}
