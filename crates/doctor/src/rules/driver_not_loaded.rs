//! Libraries without a module.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "driver-not-loaded",
    title: "The driver is installed and its kernel module is not loaded",
    why: "The libraries alone reach no GPU. The module may have failed to build for a new kernel, be blocked by Secure Boot, or be kept out by nouveau",
    fix: "`modprobe nvidia`, then `dmesg | grep -i nvidia` for the reason; after a kernel upgrade the module must be built again (dkms)",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let (None, Some(version)) = (&snapshot.driver.module, &snapshot.driver.libraries) else {
        return Vec::new();
    };
    if snapshot.wsl {
        return Vec::new();
    }
    let summary = format!("the driver {version} is installed, but its kernel module is not loaded");
    let mut finding = Finding::new(&RULE, Severity::Stops, summary);
    if let Some(kernel) = &snapshot.kernel {
        finding = finding.seen(format!("kernel {kernel}"));
    }
    if snapshot.modules.iter().any(|name| name == "nouveau") {
        finding = finding.seen("the nouveau module is loaded");
    }
    vec![finding]
}
