//! Ends of support.

use super::Rule;
use crate::causes::{Cause, findings};
use crate::fix;
use crate::state::Device;
use crate::{Finding, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "driver-dropped-gpu",
    title: "The driver no longer supports this GPU",
    why: "Driver branches end support for old generations: the module loads and leaves the card alone. 580 is the last for Maxwell, Pascal and Volta, 470 for Kepler",
    fix: "install the last driver branch that supports the card, with its proprietary kernel modules, and restart",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let driver = snapshot.driver_text().unwrap_or_default();
    let says = format!("is no longer supported by the driver {driver}");
    findings(&RULE, snapshot, Cause::DriverNewer, &says, |devices| {
        let last = devices.iter().filter_map(Device::last_branch).min();
        let mut steps = match last {
            Some(last) => {
                let words = "install driver {branch}, the last that supports it";
                let flavour = "driver-proprietary";
                let price = fix::price(snapshot, flavour, Some(last));
                // Package managers keep what is newer unless they are told.
                let older = fix::install(snapshot, "driver-downgrade", Some(last), words);
                let install = match older.commands.is_empty() {
                    true => fix::install(snapshot, flavour, Some(last), words),
                    false => older,
                };
                price.into_iter().chain([install]).collect()
            }
            None => vec![Step::host(
                "install the legacy driver that the kernel log names, or take the GPU out",
                &[],
            )],
        };
        steps.extend(fix::reboot(snapshot));
        steps
    })
}
