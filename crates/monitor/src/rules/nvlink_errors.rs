//! NVLinks have errors.

use super::{Rule, each, seconds};
use crate::metric::Metric;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "nvlink-errors",
    title: "NVLinks have errors",
    why: "Links recover from errors or have many within two minutes (more than 100 checksum errors a second on average, or one replay or recovery): a collective over them is slow, and may fail soon",
    action: "nvidia-smi nvlink -e shows which; if they come again have board or cables replaced",
    source: "NVIDIA/DCGM DcgmGPUHardwareLimits.h: CRC errors above 100/s, replays or recoveries of 1 or more",
    severity: Severity::Warning,
    hold: seconds(0),
    clear: seconds(300),
    apart: None,
    alert: Some(
        "increase(sconce_gpu_nvlink_crc_errors_total[5m]) > 30000 or increase(sconce_gpu_nvlink_replays_total[5m]) >= 1 or increase(sconce_gpu_nvlink_recoveries_total[5m]) >= 1",
    ),
    check,
};

/// Seconds that are looked at: the counters are read once a minute.
const OVER: u64 = 120;
/// Checksum errors each second.
const CRC: f64 = 100.0;

fn check(window: &Window) -> Vec<Seen> {
    each(window, |gpu| {
        let recent = window.counted(gpu, OVER)?;
        let growth = |metric| recent.growth(metric).unwrap_or(0.0);
        let (crc, replays) = (growth(Metric::NvlinkCrc), growth(Metric::NvlinkReplays));
        let recoveries = growth(Metric::NvlinkRecoveries);
        (crc > CRC * recent.seconds().max(OVER as f64) || replays >= 1.0 || recoveries >= 1.0).then(|| {
            let span = if recent.seconds() > OVER as f64 { recent.span() } else { "two minutes".to_owned() };
            format!("in {span} {crc:.0} checksum errors, {replays:.0} replays, {recoveries:.0} recoveries")
        })
    })
}
