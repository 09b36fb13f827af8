//! No address space for a GPU.

use super::Rule;
use crate::causes::{Cause, findings};
use crate::{Finding, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "bar-space",
    title: "The firmware gave the GPU no address space",
    why: "A GPU's memory is seen through windows (BARs) of many gigabytes. Without `Above 4G decoding` in the firmware, or with a virtual machine's address space too small, they get no address: `This PCI I/O region assigned to your NVIDIA device is invalid`, `BAR1 is 0M`",
    fix: "switch on `Above 4G decoding` (and `Resizable BAR`) in the firmware; in a virtual machine give the guest UEFI firmware and a larger 64-bit PCI window; where the firmware can't, boot with `pci=realloc`",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let says = "got no room in the address space from the firmware (BAR)";
    findings(&RULE, snapshot, Cause::BarSpace, says, |_| {
        vec![
            Step::host("switch on `Above 4G decoding` in the firmware's setup and restart", &[]),
            Step::host(
                "in a virtual machine: UEFI firmware and a larger 64-bit PCI window for the guest; where the firmware has no such switch, the kernel parameter `pci=realloc`",
                &[],
            ),
        ]
    })
}
