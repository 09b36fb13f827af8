//! A run beside an earlier one: what differs about them, and what became of each figure. What can't be compared has no verdict.

use serde::{Serialize, Serializer};

use crate::answer::{Gpu, Unavailable};
use crate::baseline::Baseline;
use crate::contradiction::contradiction;
use crate::doubt::doubtful;
use crate::figures::figure;
use crate::judge::Judged;
use crate::report::{Report, named, number};
use crate::sentence::Sentence;

/// A change of this share between two runs is one: two runs of one GPU differ by less.
const CHANGED: f64 = 0.03;

/// A run beside an earlier one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The earlier one, as it was named.
    pub since: String,
    /// What is not as it was, the figures apart.
    pub differences: Vec<Sentence>,
    /// The figures that both have.
    pub figures: Vec<Change>,
}

/// A figure then and now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Its name.
    pub figure: String,
    /// The GPUs it belongs to.
    pub gpus: Vec<u32>,
    /// Its unit.
    pub unit: &'static str,
    /// What it was.
    pub before: f64,
    /// What it is.
    pub now: f64,
    /// What became of it.
    #[serde(flatten)]
    pub verdict: Changed,
    /// As people name it.
    #[serde(skip)]
    named: String,
}

/// What became of a figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Changed {
    /// It differs by less than two runs of one GPU do, or than the repeats of one of them.
    Same,
    /// It is better.
    Better,
    /// It is worse.
    Worse,
    /// Two things that are not the same were measured.
    Unknown {
        /// Why it can't be told.
        #[serde(serialize_with = "in_english")]
        because: Sentence,
    },
}

fn in_english<S: Serializer>(because: &Sentence, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&because.en)
}

impl Changed {
    /// The verdict in both languages.
    pub fn words(&self) -> Sentence {
        match self {
            Self::Same => Sentence::new("the same", "不变"),
            Self::Better => Sentence::new("better", "变好"),
            Self::Worse => Sentence::new("worse", "变差"),
            Self::Unknown { because } => Sentence::new(
                format!("can't tell because {}", because.en),
                format!("无法判断：{}", because.zh),
            ),
        }
    }
}

impl Change {
    /// `+16.1 %`; nothing where it can't be told.
    pub fn percent(&self) -> Option<String> {
        let known = !matches!(self.verdict, Changed::Unknown { .. });
        known.then(|| format!("{:+.1} %", (self.now / self.before - 1.0) * 100.0))
    }

    /// `bf16 gpu 0`.
    pub fn named(&self) -> &str {
        &self.named
    }
}

/// A figure in a line.
impl std::fmt::Display for Change {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (before, now) = (number(self.before), number(self.now));
        write!(out, "{:<24} {before:>10} to {now:>10} {}  ", self.named, self.unit)?;
        if let Some(percent) = self.percent() {
            write!(out, "{percent}  ")?;
        }
        out.write_str(&self.verdict.words().en)
    }
}

impl Comparison {
    /// Of a run with an earlier one of that name; figures that only one of them has are left out.
    pub(crate) fn new(since: &str, earlier: &Baseline, report: &Report) -> Self {
        let mut differences = Vec::new();
        differences.extend(earlier.lacks(&report.gpus));
        differences.extend(earlier.other_effort(report.effort));
        report.image.iter().for_each(|image| differences.extend(earlier.other_image(image)));
        report.gpus.iter().for_each(|gpu| differences.extend(earlier.other_gpu(gpu)));
        report.gpus.iter().for_each(|gpu| differences.extend(earlier.was_wrong(gpu.gpu)));
        differences.extend(earlier.other_torch(report.torch.as_deref()));
        let figures = report.figures.iter().filter_map(|one| change(earlier, report, one));
        let figures: Vec<Change> = figures.collect();
        if figures.is_empty() {
            differences.push(nothing(earlier, report));
        }
        Self { since: since.to_owned(), differences: once(differences), figures }
    }
}

/// That nothing is compared, and why.
fn nothing(earlier: &Baseline, report: &Report) -> Sentence {
    let both = |all: &[Unavailable]| -> Vec<String> {
        let both = all.iter().filter(|one| earlier.value(&one.figure, &one.gpus).is_some());
        both.map(Unavailable::named).collect()
    };
    let (wrong, missing) = (both(&report.wrong), both(&report.unavailable));
    let (mut en, mut zh) = (Vec::new(), Vec::new());
    if !wrong.is_empty() {
        en.push(format!("{} gave a wrong result now", wrong.join(", ")));
        zh.push(format!("{} 现在的结果有误", wrong.join("、")));
    }
    if !missing.is_empty() {
        en.push(format!("{} could not be measured now", missing.join(", ")));
        zh.push(format!("{} 现在无法测量", missing.join("、")));
    }
    if en.is_empty() && report.figures.is_empty() {
        en.push("nothing was measured now".to_owned());
        zh.push("现在没有测得任何数值".to_owned());
    }
    if en.is_empty() {
        en.push("it has none of the figures that were measured now, of these GPUs".to_owned());
        zh.push("它没有这些 GPU 上现在测得的任何数值".to_owned());
    }
    Sentence::new(
        format!("nothing is compared: {}", en.join("; ")),
        format!("没有可比较的内容：{}", zh.join("；")),
    )
}

/// Each of them once: a driver is that of all GPUs.
fn once(all: Vec<Sentence>) -> Vec<Sentence> {
    let mut found: Vec<Sentence> = Vec::new();
    for one in all {
        if !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

fn change(earlier: &Baseline, report: &Report, one: &Judged) -> Option<Change> {
    let (name, gpus) = (&one.figure.figure, &one.figure.gpus);
    let before = earlier.value(name, gpus)?;
    let (now, row) = (one.figure.value, figure(name)?);
    let share = now / before - 1.0;
    // Nor is one that the repeats of either run have among themselves.
    let spread = one.figure.spread.max(earlier.spread(name, gpus).unwrap_or_default());
    let verdict = match why_not(earlier, report, one) {
        Some(because) => Changed::Unknown { because },
        None if share.abs() < CHANGED.max(spread) => Changed::Same,
        None if (share > 0.0) == row.more => Changed::Better,
        None => Changed::Worse,
    };
    let (figure, gpus, named) = (name.clone(), gpus.clone(), named(one));
    Some(Change { figure, gpus, unit: row.unit, before, now, verdict, named })
}

/// Why two values are not of the same thing. Another driver, image or torch is what a comparison may be about: it is said, and
/// the figures are compared.
fn why_not(earlier: &Baseline, report: &Report, one: &Judged) -> Option<Sentence> {
    let of = |number: &u32| report.gpus.iter().find(|gpu| gpu.gpu == *number);
    let its: Vec<&Gpu> = one.figure.gpus.iter().filter_map(of).collect();
    let other = || its.iter().find_map(|gpu| earlier.other_product(gpu));
    earlier
        .marked(&one.figure.figure, &one.figure.gpus)
        .or_else(other)
        .or_else(|| earlier.doubt(&one.figure.figure, &one.figure.gpus))
        .or_else(|| contradiction(&report.gpus, &one.figure))
        .or_else(|| doubtful(&report.gpus, &one.figure))
        .or_else(|| earlier.other_effort(report.effort))
}
