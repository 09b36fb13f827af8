//! cuInit fails with error 3.

use super::Rule;
use crate::fix;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "hmm",
    title: "Unified memory may not start on this kernel",
    why: "On kernels of RHEL 9 and 10 and their like, nvidia_uvm of the open modules fails to set up heterogeneous memory management (HMM): nvidia-smi works, cuInit fails with `initialization error` (3)",
    fix: "if CUDA fails so: `options nvidia_uvm uvm_disable_hmm=1` in a file below /etc/modprobe.d, and load the modules again",
    references: &[
        "NVIDIA/open-gpu-kernel-modules#901",
        "NVIDIA/open-gpu-kernel-modules#947",
        "NVIDIA/open-gpu-kernel-modules#797",
    ],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let kernel = snapshot.kernel.as_deref().unwrap_or_default();
    let met = kernel.contains(".el9") || kernel.contains(".el10");
    if snapshot.driver.hmm != Some(true) || snapshot.driver.open != Some(true) || !met {
        return Vec::new();
    }
    let summary = "if cuInit fails with error 3 here, HMM is the cause: it is on, with the open modules on this kernel";
    let finding = Finding::new(&RULE, Severity::Notes, summary).seen(format!("kernel {kernel}"));
    let off =
        "sh -c 'echo options nvidia_uvm uvm_disable_hmm=1 > /etc/modprobe.d/nvidia-uvm-hmm.conf'";
    vec![finding.fix(vec![Step::host("only then: switch it off", &[off]), fix::reload(snapshot)])]
}
