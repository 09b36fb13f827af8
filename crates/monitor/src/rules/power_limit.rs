//! A lowered power limit holds the clocks down.

use super::{Rule, each, percent, seconds};
use crate::metric::Metric;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "power-limit-lowered",
    title: "A lowered power limit holds the clocks down",
    why: "The power limit is below the one that the board comes with, and work runs into it",
    action: "raise it where power and cooling allow: nvidia-smi -pl WATTS",
    source: "nvml.h, nvmlClocksEventReasonSwPowerCap 0x4; GetPowerManagementDefaultLimit",
    severity: Severity::Note,
    hold: seconds(60),
    clear: seconds(60),
    apart: Some(seconds(60)),
    alert: Some(
        r#"sconce_gpu_power_limit_watts < 0.99 * sconce_gpu_power_limit_default_watts and on (gpu, UUID) avg_over_time(sconce_gpu_clocks_held{reason="sw_power_cap"}[5m]) >= 0.5"#,
    ),
    check,
};

fn check(window: &Window) -> Vec<Seen> {
    each(window, |gpu| {
        let (limit, usual) =
            (gpu.values.get(Metric::PowerLimit)?, gpu.values.get(Metric::PowerDefault)?);
        let recent = window.recent(gpu, 30)?;
        let (share, span) = (recent.held_by(0x4), recent.span());
        (limit < usual * 0.99 && share >= 0.5).then(|| {
            format!("{limit:.0} W of {usual:.0} W, {} of the last {span} at it", percent(share))
        })
    })
}
