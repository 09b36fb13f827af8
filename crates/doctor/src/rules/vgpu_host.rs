//! Hosts of virtual GPUs.

use super::Rule;
use crate::causes::{Cause, findings};
use crate::fix;
use crate::{Finding, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "vgpu-host",
    title: "The driver of a vGPU host does not serve this GPU",
    why: "NVIDIA's vGPU software has a driver of its own for hosts, which hands GPUs to virtual machines. It serves some GPUs with the open and some with the proprietary kernel modules only, and says `installed in this vGPU host system is not supported by`",
    fix: "for containers: install NVIDIA's ordinary driver in its place; for a vGPU host: the other kind of its kernel modules (vGPU software documentation, \"Open Linux Kernel Modules\")",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let (kind, other) = match snapshot.driver.open {
        Some(true) => ("open", "proprietary"),
        Some(false) => ("proprietary", "open"),
        None => ("installed", "other"),
    };
    let says = format!("is not served by the {kind} kernel modules of the vGPU host driver");
    findings(&RULE, snapshot, Cause::VgpuHost, &says, |devices| {
        let old = devices.iter().any(|device| device.needs_open() == Some(false));
        let flavour = if old { "driver-proprietary" } else { "driver-open" };
        let words = "for containers on this machine: install NVIDIA's ordinary driver {branch} in place of the vGPU host's";
        let mut steps = vec![fix::install(snapshot, flavour, None, words)];
        steps.extend(fix::reboot(snapshot));
        let host = format!(
            "to stay a vGPU host instead: install the {other} kernel modules of its driver, from NVIDIA's vGPU software"
        );
        steps.push(Step::host(host, &[]));
        steps
    })
}
