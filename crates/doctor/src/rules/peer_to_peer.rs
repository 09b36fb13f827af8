//! ACS and IOMMU.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "peer-to-peer",
    title: "PCIe peers reach each other by a detour",
    why: "With ACS redirection or a translating IOMMU, traffic between GPUs goes through the processor: NCCL runs at a part of its speed, or hangs when direct access was promised",
    fix: "switch ACS off on the bridges (`setpci -s <bridge> ECAP_ACS+0x6.w=0000`) and boot with `iommu=pt`; in a virtual machine it is for the host to do, and NCCL_P2P_DISABLE=1 avoids the hang",
    references: &["NVIDIA/nccl#606", "NVIDIA/nccl#949"],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    if snapshot.devices().len() < 2 {
        return Vec::new();
    }
    let bridges = snapshot.acs_bridges.as_deref().unwrap_or_default();
    if bridges.is_empty() && !snapshot.iommu_translates {
        return Vec::new();
    }
    let mut finding =
        Finding::new(&RULE, Severity::Warns, "traffic between GPUs may take a detour");
    if !bridges.is_empty() {
        let few: Vec<&str> = bridges.iter().take(8).map(String::as_str).collect();
        finding = finding.seen(format!(
            "ACS redirects at {} bridge(s): {}",
            bridges.len(),
            few.join(", ")
        ));
    }
    if snapshot.iommu_translates {
        finding = finding.seen("the IOMMU translates for devices");
    }
    vec![finding]
}
