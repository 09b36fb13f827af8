//! Libraries without a module.

use super::{Rule, gpu_held, module_not_built, secure_boot};
use crate::{Finding, Severity, Snapshot, Step, Subject};
use crate::{causes, fix};

/// The rule.
pub const RULE: Rule = Rule {
    id: "driver-not-loaded",
    title: "The driver is installed and its kernel module is not loaded",
    why: "The libraries alone reach no GPU. The module may have failed to build for a new kernel, be blocked by Secure Boot, or be kept out by nouveau",
    fix: "`modprobe nvidia`, then `dmesg --level err,warn` for the reason; after a kernel upgrade the module must be built again (dkms)",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let (None, Some(version)) = (&snapshot.driver.module, &snapshot.driver.libraries) else {
        return Vec::new();
    };
    // Causes that have a rule of their own.
    let explained = secure_boot::refused(snapshot).is_some()
        || module_not_built::not_built(snapshot).is_some()
        || gpu_held::keep_the_module_out(snapshot)
        || causes::explain_all(snapshot);
    if snapshot.wsl || explained {
        return Vec::new();
    }
    let summary = format!("the driver {version} is installed, but its kernel module is not loaded");
    let mut finding = Finding::new(&RULE, Severity::Stops, summary);
    if let Some(kernel) = &snapshot.kernel {
        finding = finding.seen(format!("kernel {kernel}"));
    }
    let nouveau = snapshot.modules.iter().any(|name| name == "nouveau")
        || snapshot.pci.iter().any(|pci| pci.driver.as_deref() == Some("nouveau"));
    if nouveau {
        let finding = finding.seen("the nouveau module is loaded and has the GPUs");
        return vec![finding.fix(fix::without(snapshot, &["nouveau"]))];
    }
    // What the module said before it went.
    let said = snapshot.kernel_log.iter().flatten().rev().filter(|line| line.contains("NVRM"));
    let mut said: Vec<&String> = said.take(3).collect();
    said.reverse();
    let finding = said.into_iter().cloned().fold(finding, Finding::seen);
    let load = Step::host(
        "load it, and see what the kernel says",
        &["modprobe -a nvidia nvidia_uvm", "dmesg --level err,warn"],
    );
    if snapshot.secure_boot == Some(true) {
        let finding = finding.seen(
            "Secure Boot is on: the kernel takes only a module that a key it knows has signed",
        );
        let signer = Step::host(
            "see who has signed it, and which keys the kernel knows",
            &["modinfo -F signer nvidia", "mokutil --list-enrolled"],
        );
        return vec![finding.fix(vec![load, signer])];
    }
    vec![finding.fix(vec![load])]
}
