//! GPUs without a GSP under the open modules.

use super::Rule;
use crate::causes::{Cause, findings};
use crate::fix;
use crate::state::Device;
use crate::{Finding, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "needs-proprietary-module",
    title: "The GPU needs the proprietary kernel modules",
    why: "The open kernel modules need a GPU with a system processor (GSP), so Turing or newer; a Maxwell, Pascal or Volta is left alone (`is not supported by open nvidia.ko`)",
    fix: "install the proprietary kernel modules, of driver 580 or older, and restart",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let says = "is older than Turing and needs the proprietary kernel modules; the open ones are installed";
    findings(&RULE, snapshot, Cause::NeedsProprietaryModule, says, |devices| {
        let last = devices.iter().filter_map(Device::last_branch).min();
        let words =
            "install the proprietary kernel modules of driver {branch} in place of the open";
        let flavour = "driver-proprietary";
        let mut steps: Vec<_> = fix::price(snapshot, flavour, last).into_iter().collect();
        steps.push(fix::install(snapshot, flavour, last, words));
        steps.extend(fix::reboot(snapshot));
        steps
    })
}
