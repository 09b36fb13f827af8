//! Driver half upgraded.

use super::Rule;
use crate::fix;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "driver-mismatch",
    title: "Module and libraries are of different releases",
    why: "The driver was upgraded while its old module stayed loaded: NVML says `Driver/library version mismatch`, CUDA says error 803. A container that ran through the upgrade keeps the old libraries",
    fix: "restart the machine, or stop every GPU program and load the modules again; a container only needs a new start",
    references: &["NVIDIA/nvidia-container-toolkit#394"],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let driver = &snapshot.driver;
    let (Some(module), Some(libraries)) = (&driver.module, &driver.libraries) else {
        return Vec::new();
    };
    if module == libraries {
        return Vec::new();
    }
    let summary = format!(
        "Driver/library version mismatch: the loaded module is {module}, the libraries are {libraries}"
    );
    let mut finding = Finding::new(&RULE, Severity::Stops, summary);
    if let Some(folder) = &driver.folder {
        finding = finding.seen(format!("libraries in {}", folder.display()));
    }
    if snapshot.container {
        let what = "start it again: it has the driver's libraries of the day it was started";
        let restart = fix::restart(snapshot, what);
        return vec![finding.fix(vec![restart])];
    }
    let mut steps = fix::reboot(snapshot);
    let mut reload = fix::reload();
    reload.what = format!("or {}", reload.what);
    steps.push(reload);
    vec![finding.fix(steps)]
}
