//! The rules: one file each, pure functions of a window of samples and events.
//!
//! A rule's constant is its page in the manual (`docs/monitor-rules.md` is generated from it). To add one, write its file and
//! name it below. `hold` is for how long it must be seen before it is a finding, `clear` for how long not, until it is
//! none any more.

mod data_starved;
mod driver_changed;
mod ecc;
mod ecc_corrected;
mod fabric;
mod fp32;
mod gpu_lost;
mod gpu_silent;
mod hardware_slowdown;
mod held_idle;
mod infiniband_down;
mod infiniband_errors;
mod launch_bound;
mod memory_held;
mod nccl_hang;
mod nvlink_down;
mod nvlink_errors;
mod other_image;
mod pcie_narrow;
mod pcie_replays;
mod power_limit;
mod row_remap;
mod straggler;
mod sxid;
mod thermal;
mod xid;

use std::time::Duration;

use crate::manual::in_words;
use crate::ports::Port;
use crate::sample::Gpu;
use crate::watch::{Seen, Severity};
use crate::window::{Window, name_of};

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name.
    pub id: &'static str,
    /// What is wrong.
    pub title: &'static str,
    /// How it is seen, and why it matters; no full stop at the end.
    pub why: &'static str,
    /// What to do; no full stop at the end.
    pub action: &'static str,
    /// Where its thresholds are from.
    pub source: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// How long it must be seen.
    pub hold: Duration,
    /// How long it must not be seen.
    pub clear: Duration,
    /// The furthest that samples may be apart: where that is exceeded it is not looked for. Nothing where two looks show it,
    /// however far they are apart: states, and what the driver counts or reports.
    pub apart: Option<Duration>,
    /// The same for Prometheus, where it can be asked of the metrics: what [`crate::alerts`] writes.
    pub alert: Option<&'static str>,
    /// What it sees.
    pub check: fn(&Window) -> Vec<Seen>,
}

/// All of them, the worst first.
pub const RULES: &[&Rule] = &[
    &gpu_lost::RULE,
    &xid::RULE,
    &sxid::RULE,
    &gpu_silent::RULE,
    &ecc::RULE,
    &ecc_corrected::RULE,
    &row_remap::RULE,
    &fabric::RULE,
    &nvlink_down::RULE,
    &nvlink_errors::RULE,
    &infiniband_down::RULE,
    &infiniband_errors::RULE,
    &pcie_narrow::RULE,
    &pcie_replays::RULE,
    &hardware_slowdown::RULE,
    &thermal::RULE,
    &power_limit::RULE,
    &nccl_hang::RULE,
    &driver_changed::RULE,
    &other_image::RULE,
    &straggler::RULE,
    &fp32::RULE,
    &launch_bound::RULE,
    &data_starved::RULE,
    &held_idle::RULE,
    &memory_held::RULE,
];

/// Those that look at events alone: they are asked when one comes, however far samples are apart.
pub const OF_EVENTS: &[&Rule] = &[&xid::RULE, &sxid::RULE];

/// What known loads look like: NVML and GPM on an H100 (driver 580), thirteen loads.
const LOADS: &str =
    "medians of known loads on an H100 80GB HBM3, driver 580.159.04, 2026-11-25 (docs/monitor.md)";
/// Seconds over which a load is judged.
const LOAD: u64 = 5;
/// The share of samples that has to be exceeded for most of the time: of two samples both, so that one alone tells of nothing.
const HALF: f64 = 0.5;
/// Memory that an empty GPU may show as used.
const EMPTY: f64 = 512.0 * 1_048_576.0;

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

impl Rule {
    /// Whether it can be told of where samples are so far apart, give or take a tenth.
    pub fn bears(&self, step: Duration) -> bool {
        self.apart.is_none_or(|most| step <= most + most / 10)
    }
}

/// What can't be told where samples are so far apart; nothing where all can.
pub fn unseen(step: Duration) -> Option<String> {
    let mut most: Vec<Duration> = RULES.iter().filter_map(|rule| rule.apart).collect();
    most.sort_unstable();
    most.dedup();
    let of = |most: Duration| {
        let rules = RULES.iter().filter(|rule| rule.apart == Some(most) && !rule.bears(step));
        let names: Vec<&str> = rules.map(|rule| rule.id).collect();
        (!names.is_empty())
            .then(|| format!("{} (at most {} apart)", names.join(", "), in_words(most)))
    };
    let all: Vec<String> = most.into_iter().filter_map(of).collect();
    let apart = in_words(step);
    (!all.is_empty()).then(|| {
        format!("samples are {apart} apart, and these need them closer: {}", all.join("; "))
    })
}

/// Asks each GPU that answers.
fn each(window: &Window, see: impl Fn(&Gpu) -> Option<String>) -> Vec<Seen> {
    let fresh = window.gpus().iter().filter(|gpu| gpu.lost.is_none() && gpu.age_ms < 10_000);
    fresh.filter_map(|gpu| Some(seen(gpu, see(gpu)?))).collect()
}

fn seen(gpu: &Gpu, evidence: String) -> Seen {
    Seen {
        gpu: Some(gpu.index),
        uuid: gpu.uuid.clone(),
        key: String::new(),
        severity: None,
        evidence,
        action: None,
    }
}

/// Of a port, which is named in what was seen.
fn of_port(port: &Port, evidence: String) -> Seen {
    let key = name_of(port);
    let evidence = format!("{key}: {evidence}");
    Seen { gpu: None, uuid: String::new(), key, severity: None, evidence, action: None }
}

/// `12%`, `0.04%`.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 10.0 || percent == 0.0 {
        format!("{percent:.0}%")
    } else {
        format!("{percent:.2}%")
    }
}

/// `1.4 GiB`, as nvidia-smi's MiB.
fn gibibytes(bytes: f64) -> String {
    format!("{:.1} GiB", bytes / 1_073_741_824.0)
}
