//! What can't be so together.

use super::Rule;
use crate::contradictions;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "contradiction",
    title: "Two things that were seen can't both be so",
    why: "No machine has both: NVML answers and the driver's module is not loaded, a driver serves a CUDA that it does not know, a GPU has another's compute capability. One of the two is wrong, and what rests on either can't be told. Mostly a snapshot was edited, or the machine changed while it was looked at",
    fix: "look again with `sconce doctor` on the machine itself; a saved snapshot says what is written in it: take it anew with `sconce doctor --save FILE`",
    references: &["docs/format/doctor.md"],
    check,
};

/// The most that one report names.
const MOST: usize = 8;

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let mut found = contradictions::all(snapshot).into_iter();
    let Some(first) = found.next() else { return Vec::new() };
    let finding = Finding::new(&RULE, Severity::Unknown, first);
    vec![found.take(MOST).fold(finding, Finding::seen)]
}
