//! Blackwell without the open modules.

use super::Rule;
use crate::causes::{Cause, findings};
use crate::fix;
use crate::{Finding, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "needs-open-module",
    title: "The GPU needs the open kernel modules",
    why: "From Blackwell on GPUs work with NVIDIA's open kernel modules only; with the proprietary ones the driver loads, says `requires use of the NVIDIA open kernel modules` and leaves the GPU alone (`No devices were found`)",
    fix: "install the open kernel modules of the same driver and restart",
    references: &["NVIDIA/open-gpu-kernel-modules#815"],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let says = "needs the open kernel modules, and the proprietary ones are installed";
    findings(&RULE, snapshot, Cause::NeedsOpenModule, says, |_| {
        let words =
            "install the open kernel modules of driver {branch} in place of the proprietary";
        let branch = snapshot.branch();
        let mut steps: Vec<_> = fix::price(snapshot, "driver-open", branch).into_iter().collect();
        steps.push(fix::install(snapshot, "driver-open", None, words));
        steps.extend(fix::reboot(snapshot));
        steps
    })
}
