//! Xid lines of the kernel log.

use sconce_facts::{Action, Catalogue};

use super::Rule;
use super::gpu_lost::left_the_bus;
use crate::actions::{self, newest, times};
use crate::log;
use crate::state::Trouble;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "xid",
    title: "The kernel log has GPU errors",
    why: "The driver reports GPU errors as Xid lines. Some are the program (an illegal address), some the hardware; NVIDIA's catalogue says of each number what to do",
    fix: "what the catalogue says: start the program again; or reset the GPU (`nvidia-smi --gpu-reset -i <index>`), restart the machine, or have the card replaced",
    references: &["NVIDIA/open-gpu-kernel-modules#507"],
    check,
};

/// None stops: the log also tells of what a reset has cured since. With one that asks for a reset on each GPU whether CUDA
/// works is not known. A GPU that is gone, or waits for what Xid 154 asked,
/// is found by rules of its own; its errors that led there are their evidence and not told twice.
fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let devices = snapshot.devices();
    let left = left_the_bus(snapshot);
    let gone = |bus: &str| {
        left.contains(&bus)
            || devices.iter().any(|device| {
                !matches!(device.trouble, None | Some(Trouble::Unloaded))
                    && device.bus_id.starts_with(bus)
            })
    };
    // A container that sees the host's log is not told of GPUs that it was not given.
    let foreign = |bus: &str| {
        let mut gpus = snapshot.gpus.iter().filter(|gpu| gpu.bus_id.starts_with(bus));
        snapshot.container && gpus.any(|gpu| !snapshot.given(gpu))
    };
    let mut kinds: Vec<Kind<'_>> = Vec::new();
    for entry in log::entries(snapshot) {
        let told = entry.code == RECOVERY && log::recovery(&entry).is_some();
        if entry.switch || told || foreign(entry.bus) {
            continue;
        }
        let Judged { action, what, unit } = judge(&entry);
        if gone(entry.bus) && action.is_none_or(|action| severity(action) != Severity::Notes) {
            continue;
        }
        match kinds.iter_mut().find(|kind| (kind.code, kind.unit) == (entry.code, unit)) {
            Some(kind) => kind.entries.push(entry),
            None => kinds.push(Kind { code: entry.code, unit, action, what, entries: vec![entry] }),
        }
    }
    kinds.into_iter().map(|kind| finding(snapshot, kind)).collect()
}

/// Errors of one number, and with NVLink 5 of one unit.
struct Kind<'a> {
    code: u32,
    unit: &'a str,
    action: Option<Action>,
    what: String,
    entries: Vec<log::Entry<'a>>,
}

/// The driver asks for a recovery, which the line names.
const RECOVERY: u32 = 154;

/// What is known of a line: what to do, where that is, and the unit that it names.
struct Judged<'a> {
    action: Option<Action>,
    what: String,
    unit: &'a str,
}

/// What the catalogue says about a line.
fn judge<'a>(entry: &log::Entry<'a>) -> Judged<'a> {
    let unknown = |what: String| Judged { action: None, what, unit: "" };
    let Some(row) = sconce_facts::xid(entry.code) else {
        let Catalogue { date, last, .. } = sconce_facts::xid_catalogue();
        return unknown(match entry.code > last {
            true => format!("not in NVIDIA's catalogue of {date}: can't tell what it means"),
            false => {
                format!("NVIDIA's catalogue of {date} calls it unused: can't tell what it means")
            }
        });
    };
    let known = |action, unit| Judged { action: Some(action), what: row.what.clone(), unit };
    if row.waits.as_deref().is_some_and(|words| entry.rest.contains(words)) {
        return known(Action::ResetLater, "");
    }
    if row.action == Action::ByLine {
        return unknown(format!("{}, and the line does not say to what: can't tell", row.what));
    }
    if row.action != Action::ByLink {
        return known(row.action, "");
    }
    // `NETIR_LINK_EVT Fatal XC0 i0 Link 09 (0x004505c6 0x00000000 …)`, after pid and name where they are known.
    let Some((said, words)) = entry.rest.split_once(" (0x") else {
        return known(Action::CheckLink, "");
    };
    let said = said.rsplit_once(", ").map_or(said, |(_, said)| said);
    let (unit, rest) = said.split_once(' ').unwrap_or((said, ""));
    let mut words = words
        .trim_end_matches(')')
        .split(' ')
        .map(|word| u32::from_str_radix(word.trim_start_matches("0x"), 16).ok());
    let kind = match (words.next().flatten(), words.next().flatten()) {
        (Some(info), Some(status)) => sconce_facts::nvlink(entry.code, unit, info, status),
        _ => None,
    };
    let action = match kind {
        Some(row) if row.action == Action::ByLine => Action::ResetGpu,
        Some(row) => row.action,
        None if rest.starts_with("Fatal") => Action::ResetGpu,
        None => Action::Ignore,
    };
    known(action, unit)
}

fn severity(action: Action) -> Severity {
    match action {
        Action::Ignore
        | Action::RestartApp
        | Action::RestartAppResetLater
        | Action::ResetLater
        | Action::SeeOther => Severity::Notes,
        _ => Severity::Warns,
    }
}

fn finding(snapshot: &Snapshot, kind: Kind<'_>) -> Finding {
    let gpus: Vec<&crate::Gpu> = snapshot
        .gpus
        .iter()
        .filter(|gpu| kind.entries.iter().any(|entry| gpu.bus_id.starts_with(entry.bus)))
        .collect();
    let indices: Vec<String> = gpus.iter().map(|gpu| gpu.index.to_string()).collect();
    let on = match indices.is_empty() {
        true => String::new(),
        false => format!(" on GPU {}", indices.join(", ")),
    };
    let unit = if kind.unit.is_empty() { String::new() } else { format!(" ({})", kind.unit) };
    let (code, what) = (kind.code, &kind.what);
    let summary = format!("Xid {code}{on}: {what}{unit}{}", times(kind.entries.len()));
    let repeated = repeats(&kind);
    let own = match kind.action {
        Some(action) if !repeated => severity(action),
        _ => Severity::Warns,
    };
    // Whether a reset has cured it, or what it means, the log does not say; what is left beside these GPUs works in any case.
    let resets = kind.action.is_none_or(|action| {
        matches!(action, Action::ResetGpu | Action::ResetFabric | Action::RestartHost)
    });
    let severity = if resets && takes_all(snapshot, &gpus) { Severity::Unknown } else { own };
    let finding = Finding::new(&RULE, severity, summary);
    let finding = newest(snapshot, &kind.entries).fold(finding, Finding::seen);
    let mut steps = match kind.action {
        Some(action) => actions::steps(snapshot, action, &gpus),
        None => vec![actions::look_up(&format!("Xid {code}"))],
    };
    if repeated {
        let what = "it comes again and again on one GPU: have it tested with nothing else running";
        steps.push(Step::host(what, &["dcgmi diag -r 3"]));
    }
    finding.fix(steps)
}

/// Whether no GPU that can be used is left beside these.
fn takes_all(snapshot: &Snapshot, gpus: &[&crate::Gpu]) -> bool {
    let usable = snapshot.devices().into_iter().filter(|device| device.trouble.is_none());
    let mut usable = usable.filter_map(|device| device.gpu).peekable();
    usable.peek().is_some() && usable.all(|gpu| gpus.iter().any(|own| own.bus_id == gpu.bus_id))
}

/// Whether a GPU has an error in five bursts within a day: no longer the program's (NVSentinel's
/// health-events-analyzer, values.yaml: bursts of 3 minutes; 31 and 45 excluded).
fn repeats(kind: &Kind<'_>) -> bool {
    const BURST: u64 = 180;
    const DAY: u64 = 86_400;
    if matches!(kind.code, 31 | 45) || kind.action == Some(Action::Ignore) {
        return false;
    }
    kind.entries.iter().any(|entry| {
        let Some(first) = entry.seconds else { return false };
        let same = kind.entries.iter().filter(|other| other.bus == entry.bus);
        let times =
            same.filter_map(|other| other.seconds).filter(|at| (first..first + DAY).contains(at));
        let mut last = None;
        let bursts = times.filter(|at| {
            let new = last.is_none_or(|last: u64| at.abs_diff(last) > BURST);
            last = Some(*at);
            new
        });
        bursts.count() >= 5
    })
}
