//! What the kernel said of GPUs that answer now.

use super::Rule;
use crate::log;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "kernel-words",
    title: "The kernel has complained of a GPU that answers now",
    why: "A GPU that once failed to start (`RmInitAdapter failed!`) or was gone for a while (`fallen off the bus`), and a program with libraries of another driver (`API mismatch`), leave their line in the kernel's log and no Xid. What comes once may come again",
    fix: "nothing now; if it comes again: look at the GPU's power, its cooling and its PCIe errors; for `API mismatch`, find the container or folder with libraries of another driver",
    references: &[],
    check,
};

/// What the driver says (NVIDIA/open-gpu-kernel-modules kernel-open/nvidia/nv.c and
/// src/nvidia/arch/nvalloc/unix/src/osinit.c, osapi.c).
const SAYS: [&str; 3] = ["fallen off the bus", "RmInitAdapter failed!", "API mismatch"];

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    // Of a GPU that does not answer other rules tell.
    let devices = snapshot.devices();
    if devices.is_empty() || snapshot.driver.module.is_none() {
        return Vec::new();
    }
    let told = |line: &str| {
        line.contains("Xid (")
            || devices
                .iter()
                .any(|device| device.trouble.is_some() && log::names(line, device.bus_id))
            || devices.iter().all(|device| device.trouble.is_some())
    };
    let lines = snapshot.kernel_log.iter().flatten().map(String::as_str);
    let lines = lines.filter(|line| SAYS.iter().any(|words| line.contains(words)) && !told(line));
    let mut seen: Vec<&str> = lines.collect();
    if seen.is_empty() || log::entries(snapshot).iter().any(|entry| entry.code == 79) {
        return Vec::new();
    }
    let newest = seen.split_off(seen.len().saturating_sub(3));
    let summary = "the kernel's log has complaints of GPUs that answer now";
    let finding = Finding::new(&RULE, Severity::Notes, summary);
    let finding = newest.into_iter().fold(finding, Finding::seen);
    let what = "nothing now; if it comes again, see what else the kernel says";
    vec![finding.fix(vec![Step::host(what, &["dmesg --level err,warn"])])]
}
