//! Errors of NVSwitches.

use super::{Rule, seconds, xid};
use crate::sample::EventKind;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "sxid",
    title: "An NVSwitch reports an error",
    why: "An SXid in the kernel's log. A fatal one ends collectives over the switch, and GPUs may have to be reset together",
    action: "what NVIDIA's guide says of the number",
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
        let what = row.map_or("an error that is not listed", |row| &row.name);
        all.push(Seen {
            gpu: None,
            uuid: String::new(),
            evidence: format!("SXid {code}, {what}: {}", event.line),
            key,
            severity: Some(if fatal { Severity::Critical } else { Severity::Note }),
            action: row.filter(|_| fatal).map(|row| xid::words(row.action).to_owned()),
        });
    }
    all
}
