//! Xid lines of the kernel log.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "xid",
    title: "The kernel log has GPU errors",
    why: "The driver reports GPU errors as Xid lines. Some are the program (an illegal address), some the hardware",
    fix: "look the number up in NVIDIA's Xid catalogue; for hardware reset the GPU (`nvidia-smi -r`) or reboot, and replace it if it comes again",
    references: &["NVIDIA/open-gpu-kernel-modules#507"],
    check,
};

/// None stops: the log also tells of what a reset has cured since; a GPU that is still gone is
/// `gpu-lost`'s to find. Xids worth a word of their own: number, severity, meaning (NVIDIA's "XID Errors" catalogue).
const XIDS: &[(u32, Severity, &str)] = &[
    (
        13,
        Severity::Notes,
        "a kernel made an error (out of range, illegal instruction): mostly the program",
    ),
    (31, Severity::Notes, "a kernel touched memory that is not mapped: mostly the program"),
    (43, Severity::Notes, "a program's channel was stopped after its own error"),
    (45, Severity::Notes, "channels were cleaned up after an earlier error or a kill"),
    (48, Severity::Warns, "a double-bit memory error: reset the GPU"),
    (61, Severity::Warns, "the GPU's own controller stopped: reset the GPU"),
    (62, Severity::Warns, "the GPU's own controller halted: reset the GPU"),
    (63, Severity::Warns, "a memory row was remapped or a page retired: reset when idle"),
    (64, Severity::Warns, "remapping a memory row failed: reset, then replace"),
    (74, Severity::Warns, "an NVLink error: check links and bridges"),
    (79, Severity::Warns, "the GPU has fallen off the bus: power, heat or PCIe"),
    (92, Severity::Warns, "many single-bit memory errors"),
    (94, Severity::Warns, "a contained memory error: the program died, reset when idle"),
    (95, Severity::Warns, "an uncontained memory error: reset the GPU before using it"),
    (119, Severity::Warns, "the GPU's system processor (GSP) does not answer: reset the GPU"),
    (120, Severity::Warns, "the GPU's system processor (GSP) failed: reset the GPU"),
];

/// `NVRM: Xid (PCI:0000:04:00): 79, pid=…` -> 79.
fn number(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once("Xid (")?;
    let (_, rest) = rest.split_once("): ")?;
    let digits = rest.split(|char: char| !char.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    let lines = snapshot.kernel_log.iter().flatten();
    for (number, line) in lines.filter_map(|line| Some((number(line)?, line))) {
        let row = XIDS.iter().find(|(known, ..)| *known == number);
        let (severity, what) =
            row.map_or((Severity::Notes, "see the catalogue"), |row| (row.1, row.2));
        let start = format!("Xid {number}:");
        match findings.iter_mut().find(|finding| finding.summary.starts_with(&start)) {
            // The newest three of a kind are enough.
            Some(finding) => {
                if finding.evidence.len() >= 3 {
                    finding.evidence.remove(0);
                }
                finding.evidence.push(line.clone());
            }
            None => {
                let summary = format!("Xid {number}: {what}");
                findings.push(Finding::new(&RULE, severity, summary).seen(line.clone()));
            }
        }
    }
    findings
}
