//! The other GPUs of a job wait for one.

use std::collections::BTreeMap;

use super::{Rule, percent, seconds, seen};
use crate::metric::Metric;
use crate::sample::{Gpu, Workload};
use crate::watch::{Seen, Severity};
use crate::window::{Recent, Window};

/// The rule.
pub const RULE: Rule = Rule {
    id: "straggler",
    title: "The other GPUs of its job wait for one",
    why: "GPUs of one job that step together are as fast as the slowest. Those that wait spin in NCCL, which counts as busy; the one they wait for computes all the time, or waits for its program, or runs at a lower clock. A job is a container, a job of Slurm, or the processes of one parent; those that split a model by layers are uneven on purpose, and who has computed more than it does not wait for it. Needs GPM (Hopper and later)",
    action: "compare what its rank does with the others (batch size, length of sequences, data loading, checkpoints); `sconce bench --only bf16` says whether the GPU itself is slower than its siblings",
    source: STEPS,
    severity: Severity::Note,
    hold: seconds(120),
    clear: seconds(30),
    apart: Some(seconds(60)),
    alert: None,
    check,
};

/// What steps together look like.
const STEPS: &str = "two H200 (driver 580.159.04) in one job, one of them with five times the work, then one with a slow program (crates/monitor/tests/recorded)";
/// Seconds over which a job is judged: some steps.
const OVER: u64 = 10;
/// Whoever computes so much more than the median of the others is waited for.
const MORE: f64 = 1.5;
/// Below this share of the others' clock a GPU is slower than chips of one model differ under one power limit.
const CLOCK: f64 = 0.8;
/// Less than this tells nothing.
const WORK: f64 = 0.05;

fn check(window: &Window) -> Vec<Seen> {
    let mut found = Vec::new();
    for job in jobs(window) {
        let looked: Option<Vec<(&Gpu, Recent<'_>)>> =
            job.iter().map(|gpu| Some((*gpu, window.recent(gpu, OVER)?))).collect();
        found.extend(looked.iter().flat_map(|looked| of_job(looked)));
    }
    found
}

/// Those that wait have done no more than the one they wait for, up to `MORE` and as much as a GPU at rest may show.
const SLACK: f64 = 0.02;

fn of_job(job: &[(&Gpu, Recent<'_>)]) -> Option<Seen> {
    let values = |metric: Metric| -> Option<Vec<f64>> {
        job.iter().map(|(_, recent)| recent.mean(metric)).collect()
    };
    let others = job.len() - 1;
    // Whoever has done more than it works at something else.
    let waited_for = |at: usize| {
        let work = [Metric::Tensor, Metric::Fp32, Metric::Dram].into_iter().filter_map(&values);
        work.into_iter().all(|work| {
            let both = work.get(at).zip(median_without(&work, at));
            both.is_none_or(|(mine, others)| others <= mine * MORE + SLACK)
        })
    };
    let busy = values(Metric::Graphics)?;
    // One waits for its program, and the others, who spin, for it.
    if let Some(at) = least(&busy)
        && busy.get(at).is_some_and(|least| (WORK..0.75).contains(least))
        && busy.iter().enumerate().all(|(index, busy)| index == at || *busy > 0.95)
        && waited_for(at)
    {
        let evidence =
            format!("busy {}, the other {others} of its job always", percent(*busy.get(at)?));
        return Some(seen(job.get(at)?.0, evidence));
    }
    if busy.iter().any(|busy| *busy < 0.9) {
        return None;
    }
    for (metric, name) in
        [(Metric::Tensor, "tensor cores"), (Metric::Fp32, "FP32"), (Metric::Dram, "memory")]
    {
        let Some(work) = values(metric) else { continue };
        let Some(at) = most(&work) else { continue };
        let (mine, median) = (*work.get(at)?, median_without(&work, at)?);
        if mine < WORK {
            continue;
        }
        // Several that compute so much are a part of the job with other work.
        let alone = work.iter().filter(|work| **work * MORE > mine).count() == 1;
        if mine > median * MORE && alone && waited_for(at) {
            let evidence = format!(
                "{name} {}, the other {others} of its job {}",
                percent(mine),
                percent(median)
            );
            return Some(seen(job.get(at)?.0, evidence));
        }
        break;
    }
    let clocks = values(Metric::SmClock)?;
    let at = least(&clocks)?;
    let (mine, median) = (*clocks.get(at)?, median_without(&clocks, at)?);
    (mine < median * CLOCK && waited_for(at)).then(|| {
        let evidence =
            format!("{:.0} MHz, the other {others} of its job {:.0} MHz", mine / 1e6, median / 1e6);
        Some(seen(job.get(at)?.0, evidence))
    })?
}

/// The GPUs that answer, by what runs on them, where that is one thing on two or more.
pub(super) fn jobs(window: &Window) -> Vec<Vec<&Gpu>> {
    let mut jobs: BTreeMap<String, Vec<&Gpu>> = BTreeMap::new();
    for gpu in window.gpus().iter().filter(|gpu| gpu.lost.is_none() && gpu.age_ms < 10_000) {
        if let Some(job) = job(gpu) {
            jobs.entry(job).or_default().push(gpu);
        }
    }
    jobs.into_values().filter(|gpus| gpus.len() > 1).collect()
}

fn job(gpu: &Gpu) -> Option<String> {
    let processes = gpu.processes.as_deref().unwrap_or_default();
    let mut keys: Vec<String> = processes
        .iter()
        .filter_map(|process| {
            let workload = &process.workload;
            let id = [&workload.slurm_job, &workload.pod_uid, &workload.container];
            match id.into_iter().find(|id| !id.is_empty()) {
                Some(id) => Some(id.clone()),
                None => process.parent.map(|parent| parent.to_string()),
            }
        })
        .collect();
    if keys.is_empty() {
        let key = |holder: &Workload| holder.pod_name().unwrap_or_else(|| holder.container.clone());
        keys = gpu.holders.iter().map(key).collect();
    }
    keys.sort();
    keys.dedup();
    // Two programs on one GPU are in each other's way: another story.
    if keys.len() == 1 { keys.pop() } else { None }
}

fn least(values: &[f64]) -> Option<usize> {
    let smaller = |a: &(usize, &f64), b: &(usize, &f64)| a.1.total_cmp(b.1);
    values.iter().enumerate().min_by(smaller).map(|(at, _)| at)
}

fn most(values: &[f64]) -> Option<usize> {
    let smaller = |a: &(usize, &f64), b: &(usize, &f64)| a.1.total_cmp(b.1);
    values.iter().enumerate().max_by(smaller).map(|(at, _)| at)
}

/// The median of all but one.
fn median_without(values: &[f64], at: usize) -> Option<f64> {
    let mut rest: Vec<f64> = values
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != at)
        .map(|(_, value)| *value)
        .collect();
    rest.sort_by(f64::total_cmp);
    rest.get(rest.len() / 2).copied()
}
