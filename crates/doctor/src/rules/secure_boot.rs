//! Unsigned modules.

use super::Rule;
use crate::fix;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "secure-boot",
    title: "The kernel refuses the driver's module: its signature",
    why: "With Secure Boot, or locked down, the kernel loads only modules that a key it knows has signed: `Key was rejected by service`, `Loading of module with unavailable key is rejected`",
    fix: "enrol the key with which dkms signs (`mokutil --import`), or take the distribution's signed modules, or switch Secure Boot off in the firmware",
    references: &[],
    check,
};

/// What the kernel says (kernel/module/signing.c, security/lockdown/lockdown.c).
const REFUSED: &[&str] =
    &["unavailable key is rejected", "unsigned module", "Key was rejected by service"];

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    refused(snapshot).into_iter().collect()
}

/// The finding, for those who ask whether it is the cause.
pub(super) fn refused(snapshot: &Snapshot) -> Option<Finding> {
    if snapshot.driver.module.is_some() || snapshot.pci.is_empty() || snapshot.wsl {
        return None;
    }
    // The kernel's line names no module: where there is none of the driver's for this kernel, it was another.
    let built = snapshot.driver.built_for.as_ref();
    if built.zip(snapshot.kernel.as_ref()).is_some_and(|(built, kernel)| !built.contains(kernel)) {
        return None;
    }
    let log = snapshot.kernel_log.iter().flatten();
    let lines: Vec<&String> =
        log.filter(|line| REFUSED.iter().any(|words| line.contains(words))).collect();
    let last = lines.last()?;
    let finding = Finding::new(
        &RULE,
        Severity::Stops,
        "the kernel refuses the driver's module: it is not signed by a key that it knows",
    );
    let mut finding = finding.seen(last.as_str());
    if snapshot.secure_boot == Some(true) {
        finding = finding.seen("Secure Boot is on");
    }
    if let Some(mode) = snapshot.lockdown.as_ref().filter(|mode| *mode != "none") {
        finding = finding.seen(format!("the kernel is locked down: {mode}"));
    }
    let ubuntu = snapshot
        .os
        .as_ref()
        .is_some_and(|os| os.id == "ubuntu" || os.like.iter().any(|like| like == "ubuntu"));
    // Where dkms keeps its key: dkms(8), and Ubuntu's shim-signed.
    let key = match ubuntu {
        true => "mokutil --import /var/lib/shim-signed/mok/MOK.der",
        false => "mokutil --import /var/lib/dkms/mok.pub",
    };
    let suse = snapshot.os.as_ref().is_some_and(|os| {
        os.id.starts_with("sle") || os.like.iter().any(|like| like.contains("suse"))
    });
    if suse {
        // Kernel module packages bring the key that they are signed with (openSUSE, SDB:NVIDIA drivers, "Secure Boot").
        return Some(finding.fix(vec![
            Step::host(
                "enrol the key of the package with the driver's module: it asks for a password, which the firmware asks again at the next start (`Enroll MOK`)",
                &["sh -c 'mokutil --import /usr/share/nvidia-pubkeys/MOK-nvidia-*.der'"],
            ),
            Step::host("restart the machine and confirm the key", &["systemctl reboot"]),
            Step::host("or switch Secure Boot off in the firmware's setup", &[]),
        ]));
    }
    // Systems on which dkms does not sign it.
    let own = fix::install(snapshot, "module-key", None, "");
    if !own.what.is_empty() {
        return Some(finding.fix(vec![
            own,
            Step::host("restart the machine", &["systemctl reboot"]),
            Step::host("or switch Secure Boot off in the firmware's setup", &[]),
        ]));
    }
    Some(finding.fix(vec![
        Step::host(
            "enrol the key with which dkms signs: it asks for a password, which the firmware asks again at the next start (`Enroll MOK`)",
            &[key],
        ),
        Step::host("restart the machine and confirm the key", &["systemctl reboot"]),
        Step::host("or switch Secure Boot off in the firmware's setup", &[]),
    ]))
}
