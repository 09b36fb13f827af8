//! GPUs that the driver does not know yet.

use super::Rule;
use crate::causes::{Cause, findings};
use crate::fix;
use crate::state::Device;
use crate::{Finding, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "driver-older-than-gpu",
    title: "The driver is older than the GPU",
    why: "A driver branch knows the GPUs of its day: with a newer one the module loads and leaves it alone (`is not supported by the NVIDIA … driver release`)",
    fix: "install a driver branch that knows the GPU and restart",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let driver = snapshot.driver_text().unwrap_or_default();
    let says = format!("is newer than the driver {driver}, which does not know it");
    findings(&RULE, snapshot, Cause::DriverOlder, &says, |devices| {
        let first = devices.iter().filter_map(Device::first_driver);
        let branch = first.map(|first| first.branch()).max().unwrap_or_default();
        let branch = branch.max(sconce_facts::driver_branch());
        let words = "install driver {branch} or newer";
        let flavour = "driver-open";
        let mut steps: Vec<_> = fix::price(snapshot, flavour, Some(branch)).into_iter().collect();
        steps.push(fix::install(snapshot, flavour, Some(branch), words));
        steps.extend(fix::reboot(snapshot));
        steps
    })
}
