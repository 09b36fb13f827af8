//! SXid lines of the kernel log.

use sconce_facts::Action;

use super::Rule;
use crate::actions::{self, newest, times};
use crate::log;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "sxid",
    title: "The kernel log has errors of NVSwitches",
    why: "NVSwitches report errors as SXid lines. A fatal one takes down a link or the whole fabric: NCCL hangs, CUDA says 802; one that is not fatal was mended by the switch itself",
    fix: "reset all GPUs and switches together (`nvidia-smi --gpu-reset` with nothing running), or restart the machine, as the catalogue says for the number",
    references: &[],
    check,
};

/// How the lines of data after an error begin (NVIDIA/open-gpu-kernel-modules src/common/nvswitch/kernel/inc/common_nvswitch.h,
/// the lines of NVSWITCH_REPORT_FATAL and its like).
const DATA: [&str; 2] = ["Data {", "Severity "];

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let mut kinds: Vec<(u32, Option<bool>, Vec<log::Entry<'_>>)> = Vec::new();
    for entry in log::entries(snapshot).into_iter().filter(|entry| entry.switch) {
        // Each error has more lines, of data; the first says which it is, and mostly how bad. One of the switch itself
        // (`SOE init Failed(0)`, `Thermal Slowdown Engaged`) does not.
        if DATA.iter().any(|start| entry.rest.starts_with(start)) {
            continue;
        }
        let fatal = match entry.rest.split(',').next() {
            Some("Fatal") => Some(true),
            Some("Non-fatal") => Some(false),
            _ => sconce_facts::sxid(entry.code).map(|row| row.fatal),
        };
        match kinds.iter_mut().find(|kind| kind.0 == entry.code && kind.1 == fatal) {
            Some(kind) => kind.2.push(entry),
            None => kinds.push((entry.code, fatal, vec![entry])),
        }
    }
    let findings = kinds.into_iter().map(|(code, fatal, entries)| {
        let row = sconce_facts::sxid(code);
        let what = row.map_or("see the Fabric Manager user guide", |row| row.name.as_str());
        let word = match fatal {
            Some(true) => "fatal",
            Some(false) => "not fatal",
            None => "of which the line does not say whether it is fatal",
        };
        let fatal = fatal.unwrap_or(true);
        let summary = format!("SXid {code}, {word}: {what}{}", times(entries.len()));
        let severity = if fatal { Severity::Warns } else { Severity::Notes };
        let finding = Finding::new(&RULE, severity, summary);
        let finding = newest(snapshot, &entries).fold(finding, Finding::seen);
        match fatal {
            true => {
                // The line knows better than the guide's table that this one was fatal.
                let action = row.map(|row| row.action).filter(|action| *action != Action::Ignore);
                let action = action.unwrap_or(Action::ResetFabric);
                finding.fix(actions::steps(snapshot, action, &[]))
            }
            false => finding.fix(vec![Step::host("nothing, unless it comes again and again", &[])]),
        }
    });
    findings.collect()
}
