//! Error 804.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "forward-compat",
    title: "Another libcuda comes before the driver's",
    why: "CUDA's compatibility package (cuda-compat) brings a newer libcuda for data-centre GPUs. On others, or when the driver is newer than it, cuInit fails with error 804 or picks the wrong one",
    fix: "take its folder out of LD_LIBRARY_PATH and of /etc/ld.so.conf.d, or upgrade the driver and remove the package",
    references: &["NVIDIA/nvidia-docker#1294"],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let found = snapshot.compat_libcuda.as_ref().map(|path| {
        let summary = "a libcuda that is not the driver's comes first";
        let finding = Finding::new(&RULE, Severity::Warns, summary);
        finding.seen(format!("{}", path.display()))
    });
    found.into_iter().collect()
}
