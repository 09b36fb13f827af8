//! A run as a document, and as lines for people.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::advice::advice;
use crate::answer::{Figure, Gpu, Line, Unavailable};
use crate::baseline::Baseline;
use crate::bound::impossible;
use crate::comparison::Comparison;
use crate::doubt::doubtful;
use crate::judge::{Judged, NO_FIGURE, NO_GPU, NO_INSTANCE, NO_PRODUCT, Verdict, judge};
use crate::sentence::Sentence;

/// The version of the document (docs/format/bench.md).
pub const VERSION: u64 = 1;

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u64,
    /// What was measured in, as it was named.
    pub target: String,
    /// The image's digest, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The version of its torch, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub torch: Option<String>,
    /// This program's version.
    pub sconce: String,
    /// Seconds since 1970 at the end.
    pub time: u64,
    /// The seed of the random numbers.
    pub seed: u64,
    /// `quick`, `usual`, `full`.
    pub effort: &'static str,
    /// It was interrupted: what was measured until then is not all that was asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// The GPUs.
    pub gpus: Vec<Gpu>,
    /// What was measured.
    pub figures: Vec<Judged>,
    /// What could not be.
    pub unavailable: Vec<Unavailable>,
    /// What a GPU got wrong.
    pub wrong: Vec<Unavailable>,
    /// What came from inside and was no answer.
    pub remarks: Vec<String>,
    /// What the figures say to somebody who trains here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<Sentence>,
    /// The earlier run that it is compared with, and what changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
}

/// What a run was of.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// As it was named.
    pub target: String,
    /// Its digest.
    pub image: Option<String>,
    /// This program's version.
    pub sconce: String,
    /// Seconds since 1970.
    pub time: u64,
    /// The seed.
    pub seed: u64,
    /// `quick`, `usual`, `full`.
    pub effort: &'static str,
}

impl Report {
    /// Judges what was measured.
    pub fn new(subject: Subject, lines: Vec<Line>, remarks: Vec<String>) -> Self {
        let (mut gpus, mut figures) = (Vec::new(), Vec::new());
        let (mut unavailable, mut wrong, mut torch) = (Vec::new(), Vec::new(), None);
        for line in lines {
            match line {
                Line::Gpu(gpu) => gpus.push(gpu),
                Line::Torch(its) => torch = its.version,
                Line::Figure(figure) => figures.push(figure),
                Line::Unavailable(one) => unavailable.push(one),
                Line::Wrong(one) => wrong.push(one),
                // It was of use while it came.
                Line::Moment(_) => {}
            }
        }
        // What can't be is no speed to be judged.
        figures.retain(|one: &Figure| match impossible(&gpus, one) {
            Some(reason) => {
                let (figure, gpus) = (one.figure.clone(), one.gpus.clone());
                wrong.push(Unavailable { figure, gpus, reason });
                false
            }
            None => true,
        });
        // A ratio of what nobody believes says nothing.
        let believed = figures.iter().filter(|one| doubtful(&gpus, one).is_none());
        let advice = advice(&believed.collect::<Vec<_>>(), &unavailable);
        let figures = judge(&gpus, figures);
        let Subject { target, image, sconce, time, seed, effort } = subject;
        Self {
            version: VERSION,
            target,
            image,
            torch,
            sconce,
            time,
            seed,
            effort,
            interrupted: false,
            gpus,
            figures,
            unavailable,
            wrong,
            remarks,
            advice,
            comparison: None,
        }
    }

    /// Compares it with an earlier run of that name.
    pub fn compare(&mut self, since: &str, earlier: &Baseline) {
        self.comparison = Some(Comparison::new(since, earlier, self));
    }

    /// Nothing is wrong, nothing is low, and something was measured.
    pub fn holds(&self) -> bool {
        let low = |one: &Judged| is_low(one);
        self.wrong.is_empty() && !self.figures.is_empty() && !self.figures.iter().any(low)
    }

    /// The verdict in a sentence.
    pub fn verdict(&self) -> String {
        let is_low = |one: &&Judged| matches!(one.verdict, Verdict::Low { .. });
        let low = self.figures.iter().filter(is_low).map(|one| self.named(one));
        let low: Vec<String> = low.collect();
        let far: Vec<String> =
            self.figures.iter().filter(|one| is_far_below(one)).map(named).collect();
        let compared = self.figures.iter().filter(|one| one.verdict.is_known()).count();
        let all = self.figures.len();
        let missing: Vec<&str> = self.unavailable.iter().map(|one| one.figure.as_str()).collect();
        let missing = match missing.as_slice() {
            [] => String::new(),
            _ => format!("; not measured: {}", once(missing).join(", ")),
        };
        let said = match (self.wrong.is_empty(), low.is_empty() && far.is_empty()) {
            (false, _) => {
                let gpus: Vec<String> =
                    self.wrong_gpus().iter().map(|gpu| format!("GPU {gpu}")).collect();
                format!(
                    "{} wrong: do not compute on {}",
                    counted(self.wrong.len(), "result"),
                    if gpus.is_empty() { "this machine".to_owned() } else { gpus.join(", ") }
                )
            }
            (true, false) => {
                let low = (!low.is_empty()).then(|| format!("low: {}", low.join(", ")));
                let far =
                    (!far.is_empty()).then(|| format!("far below the others: {}", far.join(", ")));
                low.into_iter().chain(far).collect::<Vec<_>>().join("; ")
            }
            (true, true) if all == 0 && self.interrupted => "nothing was measured".to_owned(),
            (true, true) if all == 0 => return "nothing could be measured".to_owned(),
            (true, true) if compared == 0 && self.figures.iter().any(is_open) => format!(
                "{} measured, and it can't be told whether any is low: beside each is why",
                counted(all, "figure")
            ),
            (true, true) if compared == 0 => {
                format!("{} measured, with no known figure to compare with", counted(all, "figure"))
            }
            (true, true) => format!(
                "{} measured; of the {compared} with a known figure to compare with none is low",
                counted(all, "figure")
            ),
        };
        let open = match self.open().as_slice() {
            open if open.is_empty() || compared == 0 => String::new(),
            open => format!("; can't tell: {}", open.join(", ")),
        };
        let part = if self.interrupted { "interrupted, and not whole: " } else { "" };
        format!("{part}{said}{open}{missing}")
    }

    /// A figure's name; of several GPUs with those that it is of.
    pub(crate) fn named(&self, one: &Judged) -> String {
        if self.gpus.len() > 1 { named(one) } else { one.figure.figure.clone() }
    }

    /// The figures that could be compared with something, and of which it can't be told what they are.
    pub(crate) fn open(&self) -> Vec<String> {
        self.figures.iter().filter(|one| is_open(one)).map(|one| self.named(one)).collect()
    }

    /// The GPUs that got something wrong.
    pub(crate) fn wrong_gpus(&self) -> BTreeSet<u32> {
        self.wrong.iter().flat_map(|one| one.gpus.iter().copied()).collect()
    }

    /// Part of what was asked for could not be measured, or what came was no answer.
    pub fn in_part(&self) -> bool {
        !self.unavailable.is_empty() || !self.remarks.is_empty()
    }
}

/// It is less than it should be, by what is known of it or by what the others have.
pub(crate) fn is_low(one: &Judged) -> bool {
    matches!(one.verdict, Verdict::Low { .. }) || is_far_below(one)
}

/// Why a figure is not judged is more than that there is nothing to compare it with.
pub fn says_nothing(because: &str) -> bool {
    ![NO_PRODUCT, NO_FIGURE, NO_GPU, NO_INSTANCE].contains(&because)
}

/// There is something to compare it with, and that says nothing.
pub(crate) fn is_open(one: &Judged) -> bool {
    let Verdict::Unknown { because } = &one.verdict else { return false };
    says_nothing(&because.en)
}

/// A pair of GPUs that passes much less than the other pairs: of one kind of link all are the same. Where there is more than one kind
/// (pairs on one board, and across sockets) they differ by this much, too, and the figures say it.
fn is_far_below(one: &Judged) -> bool {
    const FAR: f64 = 0.5;
    one.figure.gpus.len() == 2
        && one.figure.figure.starts_with("peer")
        && !matches!(one.verdict, Verdict::Low { .. })
        && one.below_siblings.is_some_and(|share| share >= FAR)
}

/// Each of them once, in their order.
pub(crate) fn once(names: Vec<&str>) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// `bf16 gpu 0`, `peer 0 to 1`, `all-reduce`.
pub(crate) fn named(one: &Judged) -> String {
    with_gpus(&one.figure.figure, &one.figure.gpus)
}

fn with_gpus(figure: &str, gpus: &[u32]) -> String {
    match gpus {
        [gpu] => format!("{figure} gpu {gpu}"),
        [from, to] if figure.starts_with("peer") => format!("{figure} {from} to {to}"),
        _ => figure.to_owned(),
    }
}

impl Judged {
    /// Its figure, with the GPUs that it is of.
    pub fn named(&self) -> String {
        named(self)
    }
}

impl Unavailable {
    /// Its figure, with the GPUs that it is of.
    pub fn named(&self) -> String {
        with_gpus(&self.figure, &self.gpus)
    }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Three digits that count.
pub(crate) fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// A GPU in a line.
pub fn about(gpu: &Gpu) -> String {
    let (major, minor) = gpu.capability;
    let mut text = format!(
        "GPU {}: {} ({major}.{minor}, {} multiprocessors, {} GiB)",
        gpu.gpu,
        gpu.name,
        gpu.sm_count,
        gpu.memory_bytes >> 30
    );
    if let Some(driver) = &gpu.driver {
        text.push_str(&format!(", driver {driver}"));
    }
    if let Some(limit) = gpu.board.and_then(|board| board.power_limit_w) {
        text.push_str(&format!(", {limit:.0} W"));
    }
    if let Some((generation, lanes)) =
        gpu.board.and_then(|board| Some((board.pcie_generation?.1, board.pcie_lanes?.0)))
    {
        text.push_str(&format!(", PCIe {generation} x{lanes}"));
    }
    text
}

pub(crate) fn cells(one: &Judged) -> Vec<String> {
    let evidence = one.figure.evidence.as_ref();
    let clock = evidence.and_then(|evidence| evidence.sm_mhz);
    let gpus: Vec<String> = one.figure.gpus.iter().map(u32::to_string).collect();
    let none = || "-".to_owned();
    let (with, verdict) = match &one.verdict {
        Verdict::AsExpected { with } => {
            (format!("{} ({})", number(with.value), with.what), "as expected".to_owned())
        }
        Verdict::AboveFloor { with } => {
            (format!("{} ({})", number(with.value), with.what), "above it".to_owned())
        }
        Verdict::Low { with, causes } if causes.is_empty() => (
            format!("{} ({})", number(with.value), with.what),
            "LOW, without a known cause".to_owned(),
        ),
        Verdict::Low { with, causes } => (
            format!("{} ({})", number(with.value), with.what),
            format!("LOW: {}", causes.iter().map(|one| &*one.en).collect::<Vec<_>>().join("; ")),
        ),
        Verdict::Unknown { because } => (none(), format!("can't tell: {}", because.en)),
    };
    let verdict = match one.below_siblings {
        Some(share) => format!("{verdict}; {:.0} % below the others", share * 100.0),
        None => verdict,
    };
    vec![
        one.figure.figure.clone(),
        gpus.join(", "),
        format!("{} {}", number(one.figure.value), one.unit),
        format!("{:.1} %", one.figure.spread * 100.0),
        clock.map_or_else(none, |(_, median, _)| format!("{median:.0} MHz")),
        one.peak_at_clock.map_or_else(none, |(_, share)| format!("{:.0} %", share * 100.0)),
        with,
        verdict,
    ]
}

/// A figure in a line, as it comes; judged when all is known.
impl std::fmt::Display for Judged {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cells = cells(self);
        let cell = |index: usize| cells.get(index).map_or("", String::as_str);
        write!(out, "{:<26} {:>14}  ±{:>6}", named(self), cell(2), cell(3))?;
        if cell(4) != "-" {
            write!(out, "  at {}", cell(4))?;
        }
        if cell(5) != "-" {
            write!(out, ", {} of its peak there", cell(5))?;
        }
        match cell(6) {
            "-" => write!(out, "; {}", cell(7)),
            with => write!(out, "; {with}: {}", cell(7)),
        }
    }
}
