//! Errors of NVSwitches.

use sconce_facts::Action;

use super::{Rule, seconds, xid};
use crate::sample::EventKind;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "sxid",
    title: "An NVSwitch reports an error",
    why: "An SXid in the kernel's log. A fatal one ends collectives over the switch, and GPUs may have to be reset together. Whether it was fatal the line says itself, whatever the guide says of the number",
    action: "nothing for now: the switch went on; if it comes again look at the cables, connectors and trays of its link, and have switch or board tested",
    source: "NVIDIA fabric manager user guide (crates/facts/data/sxid.toml)",
    severity: Severity::Warning,
    hold: seconds(0),
    clear: seconds(30),
    apart: None,
    alert: None,
    check,
};

/// For how long an error is told of, seconds.
const TOLD: u64 = 900;

fn check(window: &Window) -> Vec<Seen> {
    let mut all: Vec<Seen> = Vec::new();
    for event in window.events(TOLD).filter(|event| event.kind == EventKind::Sxid) {
        let Some(code) = event.code else { continue };
        let key = format!("{} {code}", event.bus_id);
        if all.iter().any(|seen| seen.key == key) {
            continue;
        }
        let row = sconce_facts::sxid(code);
        // The line itself says `Fatal` or `Non-fatal`.
        let fatal = event.line.contains(", Fatal");
        let guide = row.map(|row| row.action);
        let (severity, action) = match (fatal, guide) {
            // The guide's word is on the number's usual, non-fatal kind: what ended the traffic over a link was not dealt with.
            (true, None | Some(Action::Ignore)) => (Severity::Critical, Some(Action::ResetFabric)),
            (true, Some(guide)) => (Severity::Critical, Some(guide)),
            (false, None | Some(Action::Ignore)) => (Severity::Note, guide),
            (false, Some(_)) => (Severity::Note, None),
        };
        let what = row.map_or("an error that is not listed", |row| &row.name);
        all.push(Seen {
            gpu: None,
            uuid: String::new(),
            evidence: format!("SXid {code}, {what}: {}", event.line),
            key,
            severity: Some(severity),
            action: action.map(|action| xid::words(action).to_owned()),
        });
    }
    all
}
