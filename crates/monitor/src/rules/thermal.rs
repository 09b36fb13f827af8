//! Heat holds the clocks down.

use super::{HALF, Rule, each, percent, seconds};
use crate::metric::Metric;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "thermal-throttle",
    title: "Heat holds the clocks down",
    why: "The driver or the hardware lowers the clocks because chip or memory are too hot: work is slower, unevenly, and one such GPU slows all ranks of a job. It must be so for more than half of the last 30 s, and in three samples on end where they are that far apart",
    action: "look at fans, air filters, inlet temperature and the cards beside it; nvidia-smi -q -d TEMPERATURE,PERFORMANCE",
    source: "nvml.h, nvmlClocksEventReasons: SwThermalSlowdown 0x20, HwThermalSlowdown 0x40",
    severity: Severity::Warning,
    hold: seconds(30),
    clear: seconds(60),
    apart: Some(seconds(60)),
    // Prometheus sees a moment of each quarter or half minute, this rule each sample.
    alert: None,
    check,
};

fn check(window: &Window) -> Vec<Seen> {
    each(window, |gpu| {
        let recent = window.recent(gpu, 30)?;
        let share = recent.held_by(0x60);
        (share > HALF).then(|| {
            let hot = recent.most(Metric::Temperature).unwrap_or(0.0);
            let clock = recent.mean(Metric::SmClock).unwrap_or(0.0) / 1e6;
            format!("{} of the last {}, {hot:.0} C, {clock:.0} MHz", percent(share), recent.span())
        })
    })
}
