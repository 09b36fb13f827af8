//! Errors of NVSwitches.

use std::collections::BTreeMap;

use sconce_facts::Action;

use super::{Rule, seconds, xid};
use crate::sample::{Event, EventKind};
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "sxid",
    title: "An NVSwitch reports an error",
    why: "An SXid in the kernel's log. A fatal one ends collectives over the switch, and GPUs may have to be reset together. Whether it was fatal the line says itself, whatever the guide says of the number",
    action: "where its line says Fatal, end what uses the GPUs and reset all of them with their switches: nvidia-smi --gpu-reset; else nothing for now: the switch went on",
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
/// What to do about one that was not fatal and of which the guide says more than its line.
const WENT_ON: &str = "nothing for now: the switch went on; if it comes again look at the cables, connectors and trays of its link, and have switch or board tested";

/// The line itself says `Fatal` or `Non-fatal`.
fn is_fatal(event: &Event) -> bool {
    event.line.to_ascii_lowercase().contains(", fatal")
}

fn check(window: &Window) -> Vec<Seen> {
    let mut all: Vec<Seen> = Vec::new();
    // Of several with one number the last that was fatal counts, on whatever link.
    let mut worst: BTreeMap<(&str, u32), &Event> = BTreeMap::new();
    for event in window.events(TOLD).filter(|event| event.kind == EventKind::Sxid) {
        let Some(code) = event.code else { continue };
        let known = worst.entry((event.bus_id.as_str(), code)).or_insert(event);
        if is_fatal(event) || !is_fatal(known) {
            *known = event;
        }
    }
    for ((bus_id, code), event) in worst {
        let key = format!("{bus_id} {code}");
        let row = sconce_facts::sxid(code);
        let fatal = is_fatal(event);
        let guide = row.map(|row| row.action);
        let (severity, action) = match (fatal, guide) {
            // The guide's word is on the number's usual, non-fatal kind: what ended the traffic over a link was not dealt with.
            // A switch has no GPU of its own that could be reset.
            (true, None | Some(Action::Ignore | Action::ResetGpu)) => {
                (Severity::Critical, xid::words(Action::ResetFabric))
            }
            (true, Some(guide)) => (Severity::Critical, xid::words(guide)),
            (false, Some(Action::Ignore)) => (Severity::Note, xid::words(Action::Ignore)),
            (false, _) => (Severity::Note, WENT_ON),
        };
        let what = row.map_or("an error that is not listed", |row| &row.name);
        all.push(Seen {
            gpu: None,
            uuid: String::new(),
            evidence: format!("SXid {code}, {what}: {}", event.line),
            key,
            severity: Some(severity),
            action: Some(action.to_owned()),
        });
    }
    all
}
