//! A memory row is to be replaced.

use super::{Rule, each, seconds};
use crate::metric::Metric;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "row-remap",
    title: "A memory row is to be replaced",
    why: "The GPU has a failing memory row that it replaces at its next reset; until then part of its memory is out of use. Where a replacement failed the card is worn out",
    action: "reset the GPU when nothing uses it: nvidia-smi --gpu-reset",
    source: "NVIDIA, GPU memory error management; Azure, facebookresearch/gcm and leptonai/gpud act on any",
    severity: Severity::Warning,
    hold: seconds(0),
    clear: seconds(60),
    apart: None,
    // A row that could not be replaced is worse than one that waits.
    alert: None,
    check,
};

fn check(window: &Window) -> Vec<Seen> {
    let waits =
        |gpu: &crate::sample::Gpu| gpu.values.get(Metric::RemapPending).filter(|one| *one > 0.0);
    let mut all = each(window, |gpu| waits(gpu).map(|_| "a row waits for a reset".to_owned()));
    let failed =
        |gpu: &crate::sample::Gpu| gpu.values.get(Metric::RemapFailed).filter(|one| *one > 0.0);
    for mut worn in
        each(window, |gpu| failed(gpu).map(|_| "a row could not be replaced".to_owned()))
    {
        worn.key = "failed".to_owned();
        worn.severity = Some(Severity::Critical);
        worn.action = Some("have the card replaced".to_owned());
        all.push(worn);
    }
    all
}
