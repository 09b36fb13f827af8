//! A rank waits for others that do not come.

use super::{LOAD, LOADS, Rule, each, percent, seconds};
use crate::metric::Metric;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "nccl-hang",
    title: "A rank waits for others that do not come",
    why: "Utilisation is 100% and some multiprocessors spin, but nothing is computed and nothing moves: tensor cores, memory, NVLink and PCIe rest, and the power is near idle. That is a collective of NCCL whose other ranks never arrived; a healthy one moves data. Needs GPM (Hopper and later)",
    action: "look at the ranks whose GPU is idle: they died, sleep, or wait for something else (py-spy dump --pid); NCCL's watchdog ends the job only after ten minutes (TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC)",
    source: LOADS,
    severity: Severity::Critical,
    hold: seconds(120),
    clear: seconds(15),
    apart: Some(seconds(60)),
    alert: Some(
        "sconce_gpu_graphics_active_ratio > 0.95 and sconce_gpu_sm_active_ratio < 0.5 and sconce_gpu_sm_active_ratio > 0.005 and sconce_gpu_tensor_active_ratio < 0.005 and sconce_gpu_dram_active_ratio < 0.01 and sconce_gpu_power_watts < 0.4 * (sconce_gpu_power_limit_default_watts or sconce_gpu_power_limit_watts)",
    ),
    check,
};

fn check(window: &Window) -> Vec<Seen> {
    each(window, |gpu| {
        let recent = window.recent(gpu, LOAD)?;
        let mean = |metric| recent.mean(metric);
        let (busy, sm) = (mean(Metric::Graphics)?, mean(Metric::SmActive)?);
        let (tensor, dram) = (mean(Metric::Tensor)?, mean(Metric::Dram)?);
        let math = [Metric::Fp32, Metric::Fp16, Metric::Fp64].into_iter().filter_map(mean);
        let math: f64 = math.sum();
        let moved = [Metric::NvlinkTx, Metric::NvlinkRx, Metric::PcieTx, Metric::PcieRx];
        let moved: f64 = moved.into_iter().filter_map(mean).sum();
        // The limit in force may be lowered, to little more than a GPU takes at rest.
        let limit = [Metric::PowerDefault, Metric::PowerLimit].into_iter();
        let limit = limit.filter_map(|metric| gpu.values.get(metric)).next().unwrap_or(f64::MAX);
        let power = mean(Metric::Power)? / limit;
        let spins = busy > 0.95 && (0.005..0.5).contains(&sm);
        let rests = tensor < 0.005 && dram < 0.01 && math < 0.01 && moved < 100e6 && power < 0.4;
        (spins && rests).then(|| {
            format!(
                "busy {}, multiprocessors {}, tensor {}, memory {}, {:.0} MB/s over NVLink and PCIe, {:.0} W",
                percent(busy),
                percent(sm),
                percent(tensor),
                percent(dram),
                moved / 1e6,
                mean(Metric::Power).unwrap_or(0.0)
            )
        })
    })
}
