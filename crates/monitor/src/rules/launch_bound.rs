//! The GPU waits for kernels to be launched.

use super::{LOAD, LOADS, Rule, each, percent, seconds};
use crate::metric::Metric;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "launch-bound",
    title: "The GPU waits for kernels to be launched",
    why: "Something runs much of the time, but almost no multiprocessor has work: kernels are so small that launching them takes longer than running them. Needs GPM",
    action: "launch less: torch.compile, CUDA graphs (mode=\"reduce-overhead\"), larger batches, fused optimisers",
    source: LOADS,
    severity: Severity::Note,
    hold: seconds(120),
    clear: seconds(30),
    apart: Some(seconds(60)),
    alert: None,
    check,
};

fn check(window: &Window) -> Vec<Seen> {
    each(window, |gpu| {
        let recent = window.recent(gpu, LOAD)?;
        let (busy, sm) = (recent.mean(Metric::Graphics)?, recent.mean(Metric::SmActive)?);
        let bound = (0.05..0.95).contains(&busy) && sm < busy * 0.1;
        bound.then(|| format!("busy {}, multiprocessors {}", percent(busy), percent(sm)))
    })
}
