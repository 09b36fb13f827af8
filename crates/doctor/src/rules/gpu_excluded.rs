//! A GPU that the driver was told to leave alone.

use super::Rule;
use crate::causes::{Cause, findings};
use crate::fix;
use crate::{Finding, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "gpu-excluded",
    title: "The driver was told to leave a GPU alone",
    why: "A GPU named in the module option `NVreg_ExcludedGpus` (`NVreg_GpuBlacklist` before driver 465), or every GPU with `NVreg_ExcludeAllGpus=1`, is bound to the driver and can't be used: nvidia-smi leaves it out, and its node says `Operation not permitted`. Administrators exclude a GPU that fails",
    fix: "if it is to be used: take the option out of the file below /etc/modprobe.d, or off the kernel's command line, make the initial RAM disk anew and restart",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let says = "is excluded by an option of the driver's module";
    let found = findings(&RULE, snapshot, Cause::Excluded, says, |_| steps(snapshot));
    let with_option =
        |finding| snapshot.driver.excluding.iter().cloned().fold(finding, Finding::seen);
    found.into_iter().map(with_option).collect()
}

fn steps(snapshot: &Snapshot) -> Vec<Step> {
    let find = "find the option";
    let mut steps = Vec::new();
    if snapshot.driver.excluding.is_empty() {
        steps.push(Step::host(find, &["grep -r NVreg_Exclude /etc/modprobe.d /proc/cmdline"]));
    }
    steps.push(Step::host(
        "leave it so if the GPU was excluded because it fails; else take the option out",
        &[],
    ));
    steps.push(fix::install(snapshot, "initramfs", None, "make the initial RAM disk anew"));
    steps.extend(fix::reboot(snapshot));
    steps
}
