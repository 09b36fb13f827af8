//! Driver half upgraded.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "driver-mismatch",
    title: "Module and libraries are of different releases",
    why: "The driver was upgraded while its old module stayed loaded: NVML says `Driver/library version mismatch`, CUDA says error 803. A container that ran through the upgrade keeps the old libraries",
    fix: "on the host: reboot; or stop every GPU program and `rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia && modprobe nvidia`",
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
        finding = finding
            .seen("from inside a container: its libraries are those of its start, start it anew");
    }
    vec![finding]
}
