//! Errors that the driver reports.

use std::collections::BTreeMap;

use sconce_facts::Action;

use super::{Rule, seconds};
use crate::sample::{Event, EventKind, SAME_MS};
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "xid",
    title: "The driver reports a GPU error",
    why: "An Xid by NVML's events or in the kernel's log. NVIDIA's catalogue says of each number whether the program is at fault, or what has to be reset or replaced; one that comes in five bursts within a day on one GPU is no longer the program's. It is told of for a quarter of an hour",
    action: "what the catalogue says of the number: start the program again; or reset the GPU, restart the machine, or have the card replaced",
    source: "NVIDIA Xid catalogue (crates/facts/data/xid.toml); bursts: NVSentinel health-events-analyzer, values.yaml (5 bursts of 3 minutes within 24 h; 31 and 45 excluded)",
    severity: Severity::Warning,
    hold: seconds(0),
    clear: seconds(30),
    apart: None,
    alert: None,
    check,
};

/// For how long an error is told of, seconds.
const TOLD: u64 = 900;
const DAY: u64 = 86_400;
const BURST_MS: u64 = 180_000;

/// What is to be done about an error: by its line, where that decides.
fn action_of(event: &Event) -> Action {
    let Some(row) = event.code.and_then(sconce_facts::xid) else { return Action::ContactSupport };
    let action = sconce_facts::xid_action(row, &event.line).unwrap_or(row.action);
    // The catalogue's bits and the line's own word disagree: which is right can't be known.
    let disputed = row.action == Action::ByLink && event.line.contains(" Nonfatal ");
    if disputed && severity(action) == Severity::Critical { Action::CheckLink } else { action }
}

/// Errors, those that NVML's event and the kernel's line both tell of as their line alone: it says more.
fn told_once<'a>(events: impl Iterator<Item = &'a Event>) -> Vec<&'a Event> {
    let all: Vec<&Event> = events.filter(|event| event.kind == EventKind::Xid).collect();
    let mut lines: BTreeMap<(&str, Option<u32>), Vec<u64>> = BTreeMap::new();
    for event in all.iter().filter(|event| !event.line.is_empty()) {
        lines.entry((&event.uuid, event.code)).or_default().push(event.at_ms);
    }
    lines.values_mut().for_each(|times| times.sort_unstable());
    let has_line = |event: &&Event| {
        let times = lines.get(&(event.uuid.as_str(), event.code));
        let from = event.at_ms.saturating_sub(SAME_MS);
        let next = times.and_then(|times| times.get(times.partition_point(|at| *at < from)));
        event.line.is_empty() && next.is_some_and(|at| at.abs_diff(event.at_ms) <= SAME_MS)
    };
    all.iter().copied().filter(|event| !has_line(event)).collect()
}

fn check(window: &Window) -> Vec<Seen> {
    let mut all: Vec<Seen> = Vec::new();
    let events = told_once(window.events(DAY));
    let since = window.now().map_or(0, |now| now.at_ms).saturating_sub(TOLD * 1000);
    let lately = || events.iter().copied().filter(|event| event.at_ms >= since);
    for first in lately() {
        let key = first.code.map_or("unknown".to_owned(), |code| code.to_string());
        if all.iter().any(|seen| seen.uuid == first.uuid && seen.key == key) {
            continue;
        }
        let same = |other: &&Event| other.uuid == first.uuid && other.code == first.code;
        // A recovery that is asked for takes the place of the one before; of other errors the worst counts.
        let asks =
            first.code.and_then(sconce_facts::xid).map(|row| row.action) == Some(Action::ByLine);
        let mut known = lately().filter(same);
        let event = match asks {
            true => known.next_back(),
            false => known.max_by_key(|event| severity(action_of(event))),
        };
        let event = event.unwrap_or(first);
        let row = event.code.and_then(sconce_facts::xid);
        let what = row.map_or("an error that the catalogue does not list", |row| &row.what);
        let action = action_of(event);
        let count = lately().filter(same).count();
        let mut bursts = 0;
        let mut last = None;
        for other in events.iter().copied().filter(|other| same(other)) {
            bursts +=
                usize::from(last.is_none_or(|last| other.at_ms.saturating_sub(last) > BURST_MS));
            last = Some(other.at_ms);
        }
        let again = bursts >= 5 && !matches!(event.code, Some(31 | 45)) && action != Action::Ignore;
        let times = match (again, count > 1) {
            (true, _) => format!(" ({bursts} bursts within a day)"),
            (false, true) => format!(" ({count} times)"),
            (false, false) => String::new(),
        };
        let line = if event.line.is_empty() { String::new() } else { format!(": {}", event.line) };
        let gpu = window.gpus().iter().find(|gpu| gpu.uuid == event.uuid);
        all.push(Seen {
            gpu: gpu.map(|gpu| gpu.index),
            uuid: event.uuid.clone(),
            evidence: format!("Xid {key}, {what}{times}{line}"),
            key,
            // What the catalogue does not list can't be judged.
            severity: Some(match (again, row) {
                (true, _) => Severity::Critical,
                (false, None) => Severity::Warning,
                (false, Some(_)) => severity(action),
            }),
            action: Some(match again {
                true => "it comes again and again on one GPU: have it tested with nothing else running (dcgmi diag -r 3)".to_owned(),
                false => words(action).to_owned(),
            }),
        });
    }
    all
}

pub(super) fn severity(action: Action) -> Severity {
    match action {
        Action::Ignore | Action::RestartApp | Action::SeeOther => Severity::Note,
        Action::RestartAppResetLater
        | Action::ResetLater
        | Action::CheckPower
        | Action::CheckCooling
        | Action::CheckLink
        | Action::ByLink
        | Action::UpdateSoftware => Severity::Warning,
        Action::ResetGpu
        | Action::ResetFabric
        | Action::RestartHost
        | Action::ContactSupport
        | Action::ByLine => Severity::Critical,
    }
}

/// What to do.
pub(super) fn words(action: Action) -> &'static str {
    match action {
        Action::Ignore => "nothing: it was dealt with",
        Action::RestartApp => {
            "start the program again; if it comes with one program alone look for it there (compute-sanitizer finds bad addresses)"
        }
        Action::RestartAppResetLater => {
            "start the program again, and reset the GPU when nothing uses it: a failing memory row is replaced then"
        }
        Action::ResetLater => "reset the GPU when nothing uses it: failing memory is replaced then",
        Action::ResetGpu => "end what uses the GPU and reset it: nvidia-smi --gpu-reset -i INDEX",
        Action::ResetFabric => {
            "end what uses the GPUs and reset all of them with their switches: nvidia-smi --gpu-reset"
        }
        Action::RestartHost => "restart the machine; in a virtual machine that may take the host",
        Action::CheckPower => "look at the power cables of the card",
        Action::CheckCooling => "look at fans, air filters and inlet temperature",
        Action::CheckLink | Action::ByLink => {
            "nvidia-smi nvlink -e shows which link; reset all GPUs; if it comes again look at connectors, bridges and cables"
        }
        Action::UpdateSoftware => "update driver, firmware and, with vGPU, the host's software",
        Action::ContactSupport => {
            "ask the machine's vendor, with the report of nvidia-bug-report.sh"
        }
        Action::SeeOther => "nothing by itself: the error that came with it says what to do",
        Action::ByLine => {
            "do what the kernel's line names: reset the GPU, restart the machine, or drain it"
        }
    }
}
