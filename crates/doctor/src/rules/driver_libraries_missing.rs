//! A module without libraries.

use super::Rule;
use crate::fix;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "driver-libraries-missing",
    title: "The kernel module is loaded and libcuda is nowhere",
    why: "CUDA programs need libcuda.so.1 of the very version of the module",
    fix: "install the driver's libraries in the module's version (`libcuda1`, `nvidia-driver-cuda`), or name their folder with --driver-root",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let (Some(version), None) = (&snapshot.driver.module, &snapshot.driver.libraries) else {
        return Vec::new();
    };
    let summary = format!("the kernel module {version} is loaded, but libcuda was found nowhere");
    let finding = Finding::new(&RULE, Severity::Stops, summary);
    if !snapshot.container {
        let words = "install the libraries of the very version of the module";
        let folder = "or, where they lie in a folder of their own: name it with --driver-root";
        let install = fix::install(snapshot, "libraries", None, words);
        return vec![finding.fix(vec![install, Step::host(folder, &[])])];
    }
    let what = "the host's driver gives a container its libraries (if the image sets NVIDIA_DRIVER_CAPABILITIES, it must have `compute` and `utility`): start it with GPUs";
    vec![finding.fix(vec![fix::give_gpus(snapshot, what)])]
}
