//! PCIe packets are sent again and again.

use super::{Rule, each, seconds};
use crate::metric::Metric;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "pcie-replays",
    title: "PCIe packets are sent again and again",
    why: "The link to the host has errors that it repairs by sending packets again, ten times in ten minutes: a bad contact, riser or slot, that gets worse",
    action: "seat the card or its riser anew; if it comes again have slot and card tested",
    source: "NVIDIA/DCGM DcgmGPUHardwareLimits.h takes PCIe replays as a sign of failing hardware; ten in ten minutes is our own threshold",
    severity: Severity::Warning,
    hold: seconds(0),
    clear: seconds(600),
    apart: Some(seconds(300)),
    alert: Some("increase(sconce_gpu_pcie_replays_total[10m]) >= 10"),
    check,
};

fn check(window: &Window) -> Vec<Seen> {
    each(window, |gpu| {
        let count = window.counted(gpu, 590)?.growth(Metric::PcieReplays)?;
        (count >= 10.0).then(|| format!("{count:.0} in ten minutes"))
    })
}
