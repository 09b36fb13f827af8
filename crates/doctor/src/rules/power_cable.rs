//! A GPU without power.

use super::Rule;
use crate::causes::{Cause, findings};
use crate::{Finding, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "power-cable",
    title: "A power cable of the GPU is missing",
    why: "A GPU whose auxiliary power connectors are not all plugged in does not start: `GPU does not have the necessary power cables connected`, Xid 54",
    fix: "switch the machine off, plug in every power connector of the card, and switch it on",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let says = "lacks a power cable";
    findings(&RULE, snapshot, Cause::PowerCable, says, |_| {
        let what = "switch the machine off and plug in every power connector of the card";
        vec![Step::host(what, &["systemctl poweroff"])]
    })
}
