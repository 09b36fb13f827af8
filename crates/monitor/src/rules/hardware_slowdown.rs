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
    why: "The board lowers its clocks to half or less: its power supply asks for it (power brake), or it protects itself",
    action: "look at the power supplies, their cables and limits, and at the cooling; the machine's own log (ipmitool sel list) often names it",
    source: "leptonai/gpud hw-slowdown: 0.6 a minute over ten minutes; nvml.h: HwSlowdown 0x8, HwPowerBrakeSlowdown 0x80",
    severity: Severity::Critical,
    hold: seconds(10),
    clear: seconds(300),
    alert: Some(
        r#"avg_over_time(sconce_gpu_clocks_held{reason="hw_power_brake_slowdown"}[5m]) > 0 or (avg_over_time(sconce_gpu_clocks_held{reason="hw_slowdown"}[5m]) > 0 unless on (gpu, UUID) avg_over_time(sconce_gpu_clocks_held{reason="hw_thermal_slowdown"}[5m]) > 0)"#,
    ),
    check,
};

/// The share of a minute from which on it is more than a moment.
const OFTEN: f64 = 0.1;

fn check(window: &Window) -> Vec<Seen> {
    each(window, |gpu| {
        // Heat alone has a rule of its own.
        let slowed = |gpu: &Gpu| {
            let bits = gpu.values.get(Metric::ClockReasons).unwrap_or(0.0) as u64;
            bits & 0x80 != 0 || (bits & 0x8 != 0 && bits & 0x40 == 0)
        };
        let minute = window.recent(gpu, 60).map(|recent| recent.share(slowed));
        if let Some(share) = minute.filter(|share| *share >= OFTEN) {
            return Some(format!("{} of the last minute", percent(share)));
        }
        let share = window.so_far(gpu, 10)?.share(slowed);
        (share >= 0.5).then(|| format!("{} of the last 10 s", percent(share)))
    })
}
