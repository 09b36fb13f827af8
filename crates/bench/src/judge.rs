//! What a figure should have been, and what held it back.
//!
//! A verdict is "as expected", "low" with what is known of the cause, or "can't tell" with the reason: nothing public is
//! there to compare with, or no bound is known that the figure could have passed. Pure functions of what was measured.

use sconce_facts::{Compared, Gpu as Product, beyond, floor_figure, least, public_figure};
use serde::{Serialize, Serializer};

use crate::answer::{Figure, Gpu};
use crate::bound::{limit, link, peak, product};
use crate::contradiction::contradiction;
use crate::doubt::{apart, too_good, unheld, unsteady};
use crate::figures::{Group, Row, figure};
use crate::sentence::Sentence;
use crate::siblings::{below, two_kinds};

/// A reason counts as a cause if it was there in this share of the samples.
pub(crate) const HELD: f64 = 0.1;
/// A clock from this share of the highest on was held by nothing: the power limit's steps go below it.
pub(crate) const HIGHEST: f64 = 0.98;

/// `nvmlClocksEventReasons` that hold a clock down (nvml.h), in words.
pub(crate) const REASONS: &[(u64, &str, &str)] = &[
    (
        0x2,
        "its clocks are set below the highest (application clocks)",
        "时钟被设在最高值以下（应用时钟）",
    ),
    (0x4, "the power limit holds its clock down", "功率上限压低了时钟"),
    (0x8, "a hardware slowdown: heat, or the power supply", "硬件降速：过热或供电"),
    (
        0x10,
        "it is held to the clock of another GPU (sync boost)",
        "时钟与另一块 GPU 同步（sync boost）",
    ),
    (
        0x20,
        "heat holds its clock down (software thermal slowdown)",
        "过热压低了时钟（软件温控降速）",
    ),
    (
        0x40,
        "heat holds its clock down (hardware thermal slowdown)",
        "过热压低了时钟（硬件温控降速）",
    ),
    (0x80, "the power supply asks for less (power brake)", "电源要求降低功耗（power brake）"),
];

/// Why a figure has nothing to be compared with.
pub(crate) const NO_GPU: &str = "it is of no GPU";
pub(crate) const NO_PRODUCT: &str = "the product is not known";
pub(crate) const NO_INSTANCE: &str = "of a MIG instance only products are compared";
pub(crate) const NO_FIGURE: &str = "nothing is known to compare it with";

/// What is known of a figure's worth.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Verdict {
    /// It is what others have published.
    AsExpected {
        /// What it was compared with.
        with: Expected,
    },
    /// It is more than NVIDIA's own test asks for, and what it should be is not known.
    AboveFloor {
        /// That floor.
        with: Expected,
    },
    /// It is less.
    Low {
        /// What it was compared with.
        with: Expected,
        /// What is known to hold it back; without an entry nothing is.
        #[serde(serialize_with = "in_english")]
        causes: Vec<Sentence>,
    },
    /// It can't be told.
    Unknown {
        /// Why not.
        #[serde(serialize_with = "one_in_english")]
        because: Sentence,
    },
}

impl Verdict {
    /// It was compared with something.
    pub fn is_known(&self) -> bool {
        !matches!(self, Self::Unknown { .. })
    }

    fn unknown(en: impl Into<String>, zh: impl Into<String>) -> Self {
        Self::Unknown { because: Sentence::new(en, zh) }
    }
}

fn in_english<S: Serializer>(causes: &[Sentence], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(causes.iter().map(|one| &one.en))
}

fn one_in_english<S: Serializer>(because: &Sentence, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&because.en)
}

/// What a figure is compared with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Expected {
    /// The figure.
    pub value: f64,
    /// `best known`, `DCGM's floor`, `16/132 of the best known`.
    pub what: String,
    /// Where it stands.
    pub source: &'static str,
}

/// A figure with what is to be made of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// What was measured.
    #[serde(flatten)]
    pub figure: Figure,
    /// Its unit.
    pub unit: &'static str,
    /// What its multiprocessors could do at the clock that they held, and its share of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_at_clock: Option<(f64, f64)>,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// How far it is below the median of the other GPUs, as a share of it, where that is much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below_siblings: Option<f64>,
}

/// Judges all figures of a run.
pub fn judge(gpus: &[Gpu], figures: Vec<Figure>) -> Vec<Judged> {
    let below = below(gpus, &figures);
    let judged = figures.into_iter().zip(below).filter_map(|(one, below_siblings)| {
        let row = figure(&one.figure)?;
        let gpu = one.gpus.first().and_then(|number| gpus.iter().find(|gpu| gpu.gpu == *number));
        let verdict = match gpu {
            Some(gpu) => verdict(row, gpu, gpus, &one),
            None => Verdict::unknown(NO_GPU, "它不属于任何 GPU"),
        };
        let peak_at_clock = gpu.and_then(|gpu| peak_at_clock(gpu, &one));
        Some(Judged { unit: row.unit, peak_at_clock, verdict, below_siblings, figure: one })
    });
    judged.collect()
}

/// The multiprocessors of a MIG instance and of the whole board.
pub(crate) fn instance(gpu: &Gpu, product: &Product) -> Option<(u32, u32)> {
    let whole = product.sm_count.filter(|whole| *whole > gpu.sm_count)?;
    (gpu.mig == Some(true) || gpu.name.contains(" MIG ")).then_some((gpu.sm_count, whole))
}

fn verdict(row: &Row, gpu: &Gpu, gpus: &[Gpu], one: &Figure) -> Verdict {
    if let Some(because) = contradiction(gpus, one) {
        return Verdict::Unknown { because };
    }
    let Some(product) = product(gpu) else {
        return Verdict::unknown(NO_PRODUCT, "不认识这个产品");
    };
    if let Some(because) = two_kinds(gpus, one) {
        return Verdict::Unknown { because };
    }
    // Sustained load is compared with what short runs reach: the difference is what power and cooling take.
    let name = one.figure.trim_end_matches("-sustained");
    let sustained = name != one.figure;
    // Of an instance, only what its multiprocessors do is in proportion.
    if instance(gpu, product).is_some() && row.group != Group::Products {
        return Verdict::unknown(NO_INSTANCE, "MIG 实例只比较矩阵乘");
    }
    let apart_by = unsteady(gpus, row, one);
    // What is low by a timer that nothing bears out is low if the host's clock says so, too.
    let low = |with: Expected, least: f64| {
        if let Some(because) = unheld(one).filter(|_| by_host(row, one, &with) >= least) {
            return Verdict::Unknown { because };
        }
        // Where repeats are far apart and the best of them is low, too, all are.
        let some = share(row, one.best, &with) >= least;
        match apart_by.clone().filter(|_| some) {
            Some(causes) if causes.is_empty() => {
                return Verdict::Unknown { because: apart(one, true) };
            }
            Some(causes) => return Verdict::Low { with, causes },
            None => {}
        }
        let loss = match row.more {
            true => 1.0 - one.value / with.value,
            false => 1.0 - with.value / one.value,
        };
        Verdict::Low { causes: causes(row, gpu, product, one, loss), with }
    };
    let reached = |with: &Expected| reached(row, one, with);
    // What could have been anything is not as expected: beyond its bound it would have been wrong.
    let bounded = |verdict: Verdict| {
        if let Some(because) = limit(gpus, one).err().or_else(|| unheld(one)) {
            return Verdict::Unknown { because };
        }
        match (apart_by.clone(), verdict) {
            (Some(causes), Verdict::AsExpected { with } | Verdict::AboveFloor { with })
                if !causes.is_empty() =>
            {
                Verdict::Low { with, causes }
            }
            (Some(_), _) => Verdict::Unknown { because: apart(one, true) },
            (None, Verdict::AsExpected { with }) if reached(&with) > beyond() => {
                Verdict::Unknown { because: too_good(row, one, &with) }
            }
            (None, verdict) => verdict,
        }
    };
    if let Some(with) = best_known(gpu, product, one) {
        let of = match row.group {
            Group::Host => Compared::Host,
            Group::Burn => Compared::Sustained,
            _ if sustained => Compared::Sustained,
            _ => Compared::Device,
        };
        return match reached(&with) >= least(of) {
            true => bounded(Verdict::AsExpected { with }),
            false => low(with, least(of)),
        };
    }
    let Some(known) = floor_figure(product, name) else {
        return Verdict::unknown(NO_FIGURE, "没有已知数据可比");
    };
    let with = expected(gpu, product, (known.value, "DCGM's floor", known.source));
    if reached(&with) >= 1.0 { bounded(Verdict::AboveFloor { with }) } else { low(with, 1.0) }
}

/// What a figure is compared with; of an instance, in proportion.
fn expected(gpu: &Gpu, product: &Product, known: (f64, &str, &'static str)) -> Expected {
    let (value, what, source) = known;
    match instance(gpu, product) {
        Some((own, whole)) => Expected {
            value: value * f64::from(own) / f64::from(whole),
            what: format!("{own}/{whole} of the {what}"),
            source,
        },
        None => Expected { value, what: what.to_owned(), source },
    }
}

/// The best that is known of a figure on this GPU.
pub(crate) fn best_known(gpu: &Gpu, product: &Product, one: &Figure) -> Option<Expected> {
    let name = one.figure.trim_end_matches("-sustained");
    let known = public_figure(product, name, one.gpus.len())?;
    Some(expected(gpu, product, (known.value, "best known", known.source)))
}

/// The share of what it should be that a figure is.
pub(crate) fn reached(row: &Row, one: &Figure, with: &Expected) -> f64 {
    share(row, one.value, with)
}

fn share(row: &Row, value: f64, with: &Expected) -> f64 {
    if row.more { value / with.value } else { with.value / value }
}

/// The same by the host's clock, where that has seen less time pass than CUDA's timer; where it has seen more, which a slow host
/// does, by the timer.
fn by_host(row: &Row, one: &Figure, with: &Expected) -> f64 {
    let less = one.timer_within.filter(|_| one.timer_longer).unwrap_or_default();
    reached(row, one, with) / (1.0 - less).max(f64::MIN_POSITIVE)
}

/// A cause of which it is known how much it takes; one that takes less than half of what is missing is not the cause.
fn weighed(en: &str, zh: &str, share: Option<f64>) -> Sentence {
    match share.filter(|share| *share < 0.5) {
        None => Sentence::new(en, zh),
        Some(share) => {
            let share = (share * 100.0).max(0.0);
            Sentence::new(
                format!("without a known cause ({en}, which explains {share:.0} % of it)"),
                format!("原因不明（{zh}，但只能解释其中的 {share:.0} %）"),
            )
        }
    }
}

/// What held a figure back by `loss`, a share of what it should be, as far as it was seen.
fn causes(row: &Row, gpu: &Gpu, product: &Product, one: &Figure, loss: f64) -> Vec<Sentence> {
    let mut causes = Vec::new();
    let evidence = one.evidence.as_ref();
    let board = gpu.board.unwrap_or_default();
    // The median of the clock, and the highest that there is.
    let clock = evidence.and_then(|seen| seen.sm_mhz).map(|(_, median, _)| median);
    let clock = clock.zip(board.sm_max_mhz.map(f64::from));
    let at_most = |share: f64| clock.is_none_or(|(now, most)| now < most * share);
    let held = |bit: u64| {
        let seen = |evidence: &crate::answer::Evidence| {
            evidence.reasons.iter().any(|(known, share)| *known == bit && *share >= HELD)
        };
        evidence.is_some_and(seen)
    };
    let computes = matches!(row.group, Group::Products | Group::Sparse | Group::Convolution);
    // What products compute goes with the clock.
    let by_clock = clock.filter(|_| computes).map(|(now, most)| (1.0 - now / most) / loss);
    // A reason that was there now and then, while the clock was the highest, held nothing.
    for (bit, en, zh) in REASONS {
        if held(*bit) && at_most(HIGHEST) {
            causes.push(weighed(en, zh, by_clock));
        }
    }
    if let Some((now, most)) = clock.filter(|_| causes.is_empty() && at_most(0.9))
        && computes
    {
        causes.push(weighed(
            &format!("its clock was at {now:.0} of {most:.0} MHz, and NVML does not say why"),
            &format!("时钟是 {now:.0} MHz，最高 {most:.0} MHz，NVML 没有说明原因"),
            by_clock,
        ));
    }
    if let Some(whole) = product.sm_count.filter(|whole| *whole > gpu.sm_count)
        && instance(gpu, product).is_none()
    {
        let own = f64::from(gpu.sm_count) / f64::from(whole);
        causes.push(weighed(
            &format!("it shows {} multiprocessors of {whole}", gpu.sm_count),
            &format!("它只显示 {whole} 个多处理器中的 {} 个", gpu.sm_count),
            computes.then(|| (1.0 - own) / loss),
        ));
    }
    if let (Some(limit), Some(default)) = (board.power_limit_w, board.power_default_w)
        && limit < default - 1.0
        && at_most(HIGHEST)
    {
        causes.push(Sentence::new(
            format!("its power limit is {limit:.0} W, and {default:.0} W by default"),
            format!("功率上限是 {limit:.0} W，默认是 {default:.0} W"),
        ));
    }
    if matches!(row.group, Group::Host | Group::Peers)
        && let Some((generation, lanes)) = link(gpu, one)
    {
        if let Some((_, most)) = board.pcie_lanes.filter(|(_, most)| lanes < *most) {
            causes.push(Sentence::new(
                format!("its PCIe link has {lanes} lanes of {most}"),
                format!("PCIe 链路有 {lanes} 条通道，应有 {most} 条"),
            ));
        }
        if let Some((_, best)) = board.pcie_generation.filter(|(_, best)| generation < *best) {
            causes.push(Sentence::new(
                format!("its PCIe link is at generation {generation} under load, and board and slot have {best}"),
                format!("负载下 PCIe 链路是第 {generation} 代，板卡和插槽支持第 {best} 代"),
            ));
        }
    }
    if let Some(others) = gpu.others.filter(|others| *others > 0) {
        causes.push(Sentence::new(
            format!("{others} more processes compute on it"),
            format!("另有 {others} 个进程在上面计算"),
        ));
    }
    if gpu.mig == Some(true) && instance(gpu, product).is_none() {
        causes
            .push(Sentence::new("the board is split into MIG instances", "板卡被划分为 MIG 实例"));
    }
    causes
}

/// What a GPU's multiprocessors could do at the clock that they held, and the share that was reached. Only of
/// sustained figures: NVML is asked too seldom to see the clock within a burst.
fn peak_at_clock(gpu: &Gpu, one: &Figure) -> Option<(f64, f64)> {
    let name = one.figure.strip_suffix("-sustained")?;
    let (_, clock, _) = one.evidence.as_ref()?.sm_mhz?;
    let peak = peak(gpu, name, clock)?;
    // More than all of it is shown as well: then the clock was another than NVML says.
    Some((peak, one.value / peak))
}
