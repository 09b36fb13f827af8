//! The GPU's system processor.

use super::Rule;
use crate::causes::{Cause, findings};
use crate::fix;
use crate::state::Trouble;
use crate::{Finding, Gpu, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "gsp-firmware",
    title: "The GPU's system processor (GSP) fails",
    why: "From Turing on the driver boots a processor on the GPU with firmware of exactly its own version. It fails when the file is missing, when an earlier driver left the GPU in another state, or when the GPU's own firmware does not boot: `Cannot initialize GSP firmware RM`, `RmInitAdapter failed! (0x62:…)`. One that stops answering later says `Timeout after 45s of waiting for RPC response from GPU0 GSP!` (Xid 119)",
    fix: "switch the machine off and on (a restart does not reset the GPU); if a firmware file is missing, install the driver again; if it stays, another driver release or a newer VBIOS",
    references: &["NVIDIA/open-gpu-kernel-modules#446"],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let says = "can't be used: its system processor (GSP) fails";
    let file =
        ["RmFetchGspRmImages", "failed to load firmware nvidia/", "firmware load for nvidia/"];
    let log = snapshot.kernel_log.iter().flatten();
    let missing = log.into_iter().any(|line| file.iter().any(|words| line.contains(words)));
    findings(&RULE, snapshot, Cause::Gsp, says, |devices| {
        if missing {
            let flavour = match snapshot.driver.open {
                Some(false) => "driver-proprietary",
                _ => "driver-open",
            };
            let find =
                "install the package of the driver's firmware again: a file of it is not there";
            let mut steps = vec![fix::install(snapshot, "firmware", None, find)];
            let words = "if there is no such package: install driver {branch}";
            steps.push(fix::install(snapshot, flavour, None, words));
            steps.extend(fix::reboot(snapshot));
            return steps;
        }
        let (off, again) = (
            "switch the machine off, wait half a minute, and switch it on: a restart does not reset the GPU",
            "if it fails again: another release of the driver; then a newer VBIOS from the card's maker, or another slot; at last the card is broken",
        );
        // One that has run can be reset (Xid catalogue, 119).
        let ran: Vec<&Gpu> = devices
            .iter()
            .filter(|device| device.trouble == Some(Trouble::Silent))
            .filter_map(|device| device.gpu)
            .collect();
        let mut steps = Vec::new();
        let mut what = off.to_owned();
        if !ran.is_empty() {
            steps = fix::reset(snapshot, &ran);
            what = format!("if that fails: {off}");
        }
        steps.push(Step::host(what, &["systemctl poweroff"]));
        steps.push(Step::host(again, &[]));
        steps
    })
}
