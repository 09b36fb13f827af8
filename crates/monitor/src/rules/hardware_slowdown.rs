//! The hardware holds the clocks down.

use super::{Rule, each, percent, seconds};
use crate::metric::Metric;
use crate::sample::Gpu;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "hardware-slowdown",
    title: "The hardware holds the clocks down",
    why: "The board lowers its clocks to half or less: its power supply asks for it (power brake), or it protects itself. It is seen while it goes on, or where it came again within ten seconds and took a fifth of the last minute: ten seconds on end are told of, and moments that come again and again, one moment is not",
    action: "look at the power supplies, their cables and limits, and at the cooling; the machine's own log (ipmitool sel list) often names it",
    source: "leptonai/gpud hw-slowdown counts moments too (0.6 a minute over ten minutes); a fifth of a minute is our own threshold; nvml.h: HwSlowdown 0x8, HwPowerBrakeSlowdown 0x80",
    severity: Severity::Critical,
    hold: seconds(10),
    clear: seconds(300),
    apart: Some(seconds(60)),
    // Prometheus sees a moment of each quarter or half minute, and can't tell seconds from a minute; this rule sees each sample.
    alert: None,
    check,
};

/// The share of a minute from which on moments that come again are told of: more than the ten seconds that are told of on end.
const OFTEN: f64 = 0.2;

fn check(window: &Window) -> Vec<Seen> {
    each(window, |gpu| {
        // Heat alone has a rule of its own.
        let slowed = |gpu: &Gpu| {
            let bits = gpu.values.get(Metric::ClockReasons).unwrap_or(0.0) as u64;
            bits & 0x80 != 0 || (bits & 0x8 != 0 && bits & 0x40 == 0)
        };
        let minute = window.recent(gpu, 60).map(|recent| recent.share(slowed));
        let lately = window.so_far(gpu, 10).map_or(0.0, |recent| recent.share(slowed));
        // A share outlives what it is of: alone it would hold a moment for as long as a minute.
        let again = lately > 0.0 && minute.is_some_and(|share| share >= OFTEN);
        (slowed(gpu) || again).then(|| match minute {
            Some(share) => format!("{} of the last minute", percent(share)),
            None => format!("{} of the last 10 s", percent(lately)),
        })
    })
}
