//! A rank waits for others that do not come.

use super::{LOAD, LOADS, Rule, each, percent, seconds, straggler};
use crate::metric::Metric;
use crate::sample::Gpu;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "nccl-hang",
    title: "A rank waits for others that do not come",
    why: "Utilisation is 100% and some multiprocessors spin, but nothing is computed and nothing moves: tensor cores, memory, NVLink and PCIe rest, and the power is near idle. That is a collective of NCCL whose other ranks never arrived; a healthy one moves data. Where another GPU of the same job works on, as in an evaluation or a checkpoint of rank 0, they wait for that one and do not hang. Needs GPM (Hopper and later)",
    action: "look at the ranks whose GPU is idle: they died, sleep, or wait for something else (py-spy dump --pid); NCCL's watchdog ends the job only after ten minutes (TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC)",
    source: LOADS,
    severity: Severity::Critical,
    hold: seconds(120),
    clear: seconds(15),
    apart: Some(seconds(60)),
    // Which GPUs are of one job only the rule knows.
    alert: None,
    check,
};

/// Busy for more than this share of the time a GPU works, or waits in a collective.
const WORKS: f64 = 0.05;

fn check(window: &Window) -> Vec<Seen> {
    let jobs = straggler::jobs(window);
    let works = |gpu: &Gpu| {
        let busy = window.recent(gpu, LOAD).and_then(|recent| recent.mean(Metric::Graphics));
        busy.is_some_and(|busy| busy > WORKS) && waits(window, gpu).is_none()
    };
    each(window, |gpu| {
        let evidence = waits(window, gpu)?;
        let job = jobs.iter().find(|job| job.iter().any(|one| one.uuid == gpu.uuid));
        let goes_on = job.is_some_and(|job| job.iter().any(|other| works(other)));
        (!goes_on).then_some(evidence)
    })
}

/// What shows that a GPU does nothing but wait in a collective.
fn waits(window: &Window, gpu: &Gpu) -> Option<String> {
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
}
