//! A lowered power limit holds the clocks down.

use super::{HALF, Rule, each, percent, seconds};
use crate::metric::Metric;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "power-limit-lowered",
    title: "A lowered power limit holds the clocks down",
    why: "The power limit is below the one that the board comes with, and work runs into it. What rests runs into nothing, whatever the driver says of its clocks: the GPU must be busy for a tenth of the time, or, where it does not say, draw nearly as much as it may",
    action: "raise it where power and cooling allow: nvidia-smi -pl WATTS",
    source: "nvml.h, nvmlClocksEventReasonSwPowerCap 0x4; GetPowerManagementDefaultLimit",
    severity: Severity::Note,
    hold: seconds(60),
    clear: seconds(60),
    apart: Some(seconds(60)),
    // Prometheus sees a moment of each quarter or half minute, this rule each sample.
    alert: None,
    check,
};

/// The share of the time that a GPU is busy at least where it works.
const BUSY: f64 = 0.1;
/// The share of its limit that one draws which runs into it.
const NEAR: f64 = 0.8;

fn check(window: &Window) -> Vec<Seen> {
    each(window, |gpu| {
        let (limit, usual) =
            (gpu.values.get(Metric::PowerLimit)?, gpu.values.get(Metric::PowerDefault)?);
        let recent = window.recent(gpu, 30)?;
        let (share, span) = (recent.held_by(0x4), recent.span());
        let works = match recent.mean(Metric::Utilization) {
            Some(busy) => busy >= BUSY,
            None => recent.mean(Metric::Power)? >= limit * NEAR,
        };
        (limit < usual * 0.99 && share > HALF && works).then(|| {
            format!("{limit:.0} W of {usual:.0} W, {} of the last {span} at it", percent(share))
        })
    })
}
