//! The GPU waits most of the time for its program.

use super::{LOAD, LOADS, Rule, each, percent, seconds};
use crate::metric::Metric;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "starved",
    title: "The GPU waits most of the time for its program",
    why: "What runs fills the multiprocessors, but it runs less than half of the time: the program is busy elsewhere, mostly with its data. Needs GPM",
    action: "load data in more processes (DataLoader num_workers, pin_memory, prefetch_factor), decode on the GPU, write checkpoints in the background; torch.profiler shows what it waits for",
    source: LOADS,
    severity: Severity::Note,
    hold: seconds(300),
    clear: seconds(60),
    apart: Some(seconds(120)),
    alert: Some(
        "sconce_gpu_graphics_active_ratio > 0.03 and sconce_gpu_graphics_active_ratio < 0.5 and sconce_gpu_sm_active_ratio > 0.4 * sconce_gpu_graphics_active_ratio",
    ),
    check,
};

fn check(window: &Window) -> Vec<Seen> {
    each(window, |gpu| {
        let recent = window.recent(gpu, LOAD)?;
        let (busy, sm) = (recent.mean(Metric::Graphics)?, recent.mean(Metric::SmActive)?);
        let starved = (0.03..0.5).contains(&busy) && sm > busy * 0.4;
        starved.then(|| format!("busy {}, multiprocessors {}", percent(busy), percent(sm)))
    })
}
