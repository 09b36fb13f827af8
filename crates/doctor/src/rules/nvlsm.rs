//! HGX B200: the subnet manager.

use sconce_gpu::nvml::Fabric;

use super::Rule;
use crate::fix;
use crate::state::is_of_rack;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// Whether it is why the fabric is not up, for those who ask.
pub(super) fn is_missing(snapshot: &Snapshot) -> bool {
    !check(snapshot, None).is_empty()
}

/// The rule.
pub const RULE: Rule = Rule {
    id: "nvlsm",
    title: "NVLink's subnet manager is missing",
    why: "On HGX B200 and B300 the NVSwitches are network adapters: fabric manager needs the NVLink subnet manager (nvlsm) and the kernel module ib_umad, else the fabric never comes up and CUDA says 802, `system not yet initialized`",
    fix: "install `nvlsm`, load ib_umad (`modprobe ib_umad`, and a line `ib_umad` in /etc/modules-load.d) and start fabric manager again",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let down = snapshot.gpus.iter().filter(|gpu| {
        gpu.capability.is_some_and(|capability| capability.major == 10)
            && gpu.fabric.is_some_and(|state| state != Fabric::Completed)
            && !is_of_rack(gpu, &snapshot.pci)
    });
    let down = down.count();
    let umad = snapshot.modules.iter().any(|name| name == "ib_umad");
    // Before schema 2 nobody looked.
    if down == 0 || snapshot.container || snapshot.schema < 2 || (umad && snapshot.nvlsm) {
        return Vec::new();
    }
    let mut missing = Vec::new();
    if !umad {
        missing.push("the module ib_umad is not loaded");
    }
    if !snapshot.nvlsm {
        missing.push("nvlsm is not running");
    }
    let summary = format!("the NVLink fabric of {down} GPU(s) is not up: {}", missing.join(", "));
    // Fabric manager starts it.
    let has_manager = snapshot.fabric_manager || snapshot.fabric_manager_version.is_some();
    let words = "install fabric manager of the very version of the driver";
    let manager = (!has_manager).then(|| fix::install(snapshot, "fabric-manager", None, words));
    let mut steps: Vec<Step> = manager.into_iter().collect();
    steps.extend([
        Step::host(
            "install NVLink's subnet manager (package `nvlsm`, from NVIDIA's repository)",
            &[],
        ),
        Step::host(
            "load what it speaks through, now and at each start",
            &["modprobe ib_umad", "sh -c 'echo ib_umad > /etc/modules-load.d/ib_umad.conf'"],
        ),
        Step::host(
            "start fabric manager, which starts it, now and at each start",
            &["systemctl enable nvidia-fabricmanager", "systemctl restart nvidia-fabricmanager"],
        ),
    ]);
    vec![Finding::new(&RULE, Severity::Stops, summary).fix(steps)]
}
