//! What NVIDIA's catalogue says to do, as steps on this machine; and how error lines are shown.

use sconce_facts::Action;

use crate::fix::{self, Step};
use crate::log::Entry;
use crate::snapshot::{Gpu, Snapshot};

/// The steps of an action for these GPUs.
pub(crate) fn steps(snapshot: &Snapshot, action: Action, gpus: &[&Gpu]) -> Vec<Step> {
    let words = |what: &str| vec![Step::host(what, &[])];
    match action {
        Action::Ignore => {
            words("nothing: it was dealt with; if it comes often, ask the machine's vendor")
        }
        Action::RestartApp => words(
            "start the program again; if the error comes with one program alone, look for it there (`compute-sanitizer` finds bad addresses)",
        ),
        Action::RestartAppResetLater => {
            let again =
                "start the program again: memory failed under it, and the failure went no further";
            let mut steps = words(again);
            steps.extend(fix::reset(snapshot, gpus).into_iter().map(|step| Step {
                what: format!("when it suits: {}: the failing row is replaced then", step.what),
                ..step
            }));
            steps
        }
        Action::ResetLater => {
            let steps = fix::reset(snapshot, gpus).into_iter().map(|step| Step {
                what: format!("when it suits: {}: the failing memory is replaced then", step.what),
                ..step
            });
            steps.collect()
        }
        Action::SeeOther => words("nothing by itself: the error that came with it says what to do"),
        Action::ResetGpu => fix::reset(snapshot, gpus),
        Action::ResetFabric => fix::reset(snapshot, &[]),
        Action::RestartHost => fix::reboot(snapshot),
        Action::CheckPower => {
            words("switch the machine off and look at the card's power connectors")
        }
        Action::CheckCooling => words("look at fans, air filters and inlet temperature"),
        Action::CheckLink | Action::ByLink => {
            let see = Step::host("see which links have errors", &["nvidia-smi nvlink -e"]);
            let mut steps = vec![see];
            steps.extend(fix::reset(snapshot, gpus));
            steps.push(Step::host(
                "if they come again: look at connectors, bridges and cables",
                &[],
            ));
            steps
        }
        Action::UpdateSoftware => {
            words("update driver, firmware and, with vGPU, the host's software")
        }
        Action::ContactSupport | Action::ByLine => vec![Step::host(
            "ask the machine's vendor, with the driver's report",
            &["nvidia-bug-report.sh"],
        )],
    }
}

/// To look something up in NVIDIA's catalogue of errors, which may be newer than the one here.
pub(crate) fn look_up(what: &str) -> Step {
    let page = sconce_facts::xid_catalogue().page;
    let what = format!(
        "look up {what} in {page}; where it is not there, ask the machine's vendor, with the driver's report"
    );
    Step::host(what, &["nvidia-bug-report.sh"])
}

/// The newest three lines, with their age where it is known.
pub(crate) fn newest(snapshot: &Snapshot, entries: &[Entry<'_>]) -> impl Iterator<Item = String> {
    let first = entries.len().saturating_sub(3);
    let lines: Vec<String> = entries
        .iter()
        .skip(first)
        .map(|entry| match (snapshot.uptime_seconds, entry.seconds) {
            (Some(now), Some(then)) => {
                format!("{} ago: {}", duration(now.saturating_sub(then)), entry.line)
            }
            _ => entry.line.to_owned(),
        })
        .collect();
    lines.into_iter()
}

/// ` (5 times)` of more than one.
pub(crate) fn times(count: usize) -> String {
    if count > 1 { format!(" ({count} times)") } else { String::new() }
}

/// `40 s`, `12 min`, `5 h`, `3 d`.
pub(crate) fn duration(seconds: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "d"), (3600, "h"), (60, "min")];
    let unit = UNITS.iter().find(|(length, _)| seconds >= 2 * length);
    unit.map_or_else(
        || format!("{seconds} s"),
        |(length, name)| format!("{} {name}", seconds / length),
    )
}
