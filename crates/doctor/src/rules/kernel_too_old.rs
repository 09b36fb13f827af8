//! A kernel on which no container starts.

use sconce_facts::{OLDEST_KERNEL, kernel_version};

use super::Rule;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "kernel-too-old",
    title: "The kernel is too old for sconce's containers",
    why: "Every mount of a container is made by mount_setattr(2), which came with Linux 5.12. `sconce run` refuses an older kernel; Docker and podman run on older ones",
    fix: "start a newer kernel of the distribution, or build the image and run it with Docker: `sconce build --output docker-archive:FILE`",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let Some(release) = snapshot.kernel.as_deref() else { return Vec::new() };
    let (major, minor) = OLDEST_KERNEL;
    if kernel_version(release).is_none_or(|version| version >= OLDEST_KERNEL) {
        return Vec::new();
    }
    let summary =
        format!("this machine runs Linux {release}; sconce's containers need {major}.{minor}");
    let newer = Step::host("start a newer kernel of the distribution", &[]);
    let docker = Step::host("or build the image and run it with Docker (`docker load`)", &[]);
    vec![Finding::new(&RULE, Severity::Stops, summary).fix(vec![newer, docker])]
}
