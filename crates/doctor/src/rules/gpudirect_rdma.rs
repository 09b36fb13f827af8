//! InfiniBand that goes through the processor's memory.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "gpudirect-rdma",
    title: "InfiniBand can't reach the GPUs' memory",
    why: "Between machines NCCL writes straight into GPU memory, through the module nvidia_peermem, or through DMA-BUF with the open kernel module (CUDA's GPUDirect RDMA guide; Linux 5.12). Without either every byte is copied through the processor's memory: a part of the speed",
    fix: "`modprobe nvidia-peermem`, and at each boot a line `nvidia-peermem` in /etc/modules-load.d; or the open kernel module (`nvidia-open`)",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let peer = ["nvidia_peermem", "nv_peer_mem"];
    let loaded = snapshot.modules.iter().any(|name| peer.contains(&name.as_str()));
    if !snapshot.infiniband || loaded || snapshot.driver.open != Some(false) {
        return Vec::new();
    }
    let summary = "InfiniBand is here, and nothing lets it reach the GPUs' memory";
    let finding = Finding::new(&RULE, Severity::Warns, summary);
    let finding = finding.seen("neither nvidia_peermem nor the open kernel module is loaded");
    let load = Step::host(
        "load it, now and at each start",
        &[
            "modprobe nvidia_peermem",
            "sh -c 'echo nvidia-peermem > /etc/modules-load.d/nvidia-peermem.conf'",
        ],
    );
    vec![finding.fix(vec![load])]
}
