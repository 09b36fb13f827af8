//! An earlier result that this run is compared with: read strictly, before anything is measured.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use crate::answer::{Board, Figure as Measured, Gpu as Now, plain, senseless};
use crate::bound::impossible;
use crate::doubt::doubtful;
use crate::figures::figure;
use crate::report::{Report, VERSION};
use crate::sentence::Sentence;

/// Digits of one number: more is no measurement.
const MOST_DIGITS: usize = 64;
/// Figures of one result.
const MOST_FIGURES: usize = 8 << 10;
/// How far the two clocks can be apart: a figure is none long before.
const MOST_APART: f64 = 1.0;
/// What a figure can be, in any unit.
const SIZES: std::ops::Range<f64> = 1e-6..1e15;

/// An earlier result.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    interrupted: bool,
    effort: Option<String>,
    image: Option<String>,
    torch: Option<String>,
    gpus: Vec<Gpu>,
    figures: Vec<(String, Vec<u32>, f64)>,
    /// Why some of them are not known to be what was reached.
    doubts: Vec<(String, Vec<u32>, Sentence)>,
    /// What it says was computed wrongly.
    wrong: Vec<Wrong>,
}

/// What is read of the document; it may say more.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    interrupted: bool,
    effort: Option<String>,
    image: Option<String>,
    torch: Option<String>,
    gpus: Vec<Gpu>,
    figures: Vec<Figure>,
    #[serde(default)]
    wrong: Vec<Wrong>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Gpu {
    gpu: u32,
    name: String,
    sm_count: Option<u32>,
    driver: Option<String>,
    board: Option<Board>,
}

#[derive(Deserialize)]
struct Figure {
    figure: String,
    gpus: Vec<u32>,
    value: f64,
    best: Option<f64>,
    error: Option<(f64, f64)>,
    spread: Option<f64>,
    repeats: Option<u32>,
    timer_within: Option<f64>,
    #[serde(default)]
    timer_longer: bool,
    unit: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Wrong {
    figure: String,
    gpus: Vec<u32>,
    reason: String,
}

impl Baseline {
    /// Reads what `--json` wrote.
    ///
    /// # Errors
    /// It is no such document, one of another version, or one that says what can't be; in words.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        if let Some(at) = long_number(bytes) {
            return Err(format!("a number of more than {MOST_DIGITS} digits at byte {at}"));
        }
        let mut value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        // `--json` writes several results as an array.
        if let Value::Array(all) = &mut value {
            value = match (all.pop(), all.len()) {
                (Some(one), 0) => one,
                (None, _) => return Err("it holds no result".to_owned()),
                (_, others) => {
                    let count = others + 1;
                    return Err(format!("it holds {count} results, and one is compared with"));
                }
            };
        }
        match value.get("version").and_then(Value::as_u64) {
            Some(VERSION) => {}
            Some(version) => {
                return Err(format!("it has version {version}, and this sconce reads {VERSION}"));
            }
            None => return Err("it is no result of `sconce bench --json`".to_owned()),
        }
        let document: Document =
            serde_json::from_value(value).map_err(|error| error.to_string())?;
        Self::of_document(document)
    }

    fn of_document(document: Document) -> Result<Self, String> {
        if document.figures.len() > MOST_FIGURES {
            return Err(format!("it has more than {MOST_FIGURES} figures"));
        }
        let mut gpus = document.gpus;
        let mut numbers = BTreeSet::new();
        for gpu in &mut gpus {
            plain(&mut gpu.name);
            gpu.driver.iter_mut().for_each(plain);
            if !numbers.insert(gpu.gpu) {
                return Err(format!("it lists GPU {} twice", gpu.gpu));
            }
        }
        let listed: Vec<Now> = gpus.iter().map(Gpu::as_measured).collect();
        let (mut seen, mut figures, mut doubts) = (BTreeSet::new(), Vec::new(), Vec::new());
        for one in document.figures {
            let one = one.into_measured();
            let (Measured { figure: name, gpus: of, value, best, .. }, unit) = &one;
            let shown: String = name.escape_debug().take(64).collect();
            // A newer sconce of the same version of the document may have more figures.
            let Some(row) = figure(name) else { continue };
            if *unit != row.unit {
                let unit: String = unit.escape_debug().take(32).collect();
                return Err(format!(
                    "its `{shown}` is in `{unit}`, and is measured in {}",
                    row.unit
                ));
            }
            if let Some(value) = [*value, *best].into_iter().find(|value| !SIZES.contains(value)) {
                return Err(format!("its `{shown}` is {value:e}, which can't be"));
            }
            if let Some(gpu) = of.iter().find(|gpu| !numbers.contains(gpu)) {
                return Err(format!("its `{shown}` is of GPU {gpu}, which it does not list"));
            }
            let distinct: BTreeSet<&u32> = of.iter().collect();
            if distinct.len() < of.len() {
                return Err(format!("its `{shown}` is of one GPU twice"));
            }
            if of.is_empty() && !row.group.without_gpu() {
                return Err(format!("its `{shown}` is of no GPU"));
            }
            if let Some(what) = senseless(&one.0) {
                return Err(format!("its `{shown}` has {what}, which can't be"));
            }
            if let Some(share) = one.0.timer_within.filter(|share| *share > MOST_APART) {
                return Err(format!(
                    "the clocks of its `{shown}` are {share:e} apart, which can't be"
                ));
            }
            if !seen.insert((name.clone(), of.clone())) {
                return Err(format!("it has `{shown}` twice for the same GPUs"));
            }
            if let Some(why) = impossible(&listed, &one.0) {
                return Err(format!("its `{shown}` can't be: {why}"));
            }
            if let Some(doubt) = doubtful(&listed, &one.0) {
                doubts.push((name.clone(), of.clone(), doubt));
            }
            figures.push((name.clone(), of.clone(), *value));
        }
        let mut wrong = document.wrong;
        for one in &mut wrong {
            plain(&mut one.figure);
            plain(&mut one.reason);
        }
        let words = |mut text: String| {
            plain(&mut text);
            text
        };
        let (effort, image) = (document.effort.map(words), document.image.map(words));
        let torch = document.torch.map(words);
        let interrupted = document.interrupted;
        Ok(Self { interrupted, effort, image, torch, gpus, figures, doubts, wrong })
    }

    /// It was interrupted, and has not all of what it was to have.
    pub fn is_part(&self) -> bool {
        self.interrupted
    }

    /// The names of its figures, each once.
    pub fn names(&self) -> BTreeSet<&str> {
        self.figures.iter().map(|(name, _, _)| name.as_str()).collect()
    }

    /// The value of a figure of these GPUs.
    pub(crate) fn value(&self, figure: &str, gpus: &[u32]) -> Option<f64> {
        let same = |one: &&(String, Vec<u32>, f64)| one.0 == figure && one.1 == gpus;
        self.figures.iter().find(same).map(|(_, _, value)| *value)
    }

    /// It has none of these GPUs, or not all of them.
    pub fn lacks(&self, now: &[Now]) -> Option<Sentence> {
        let all = |numbers: &mut dyn Iterator<Item = u32>| {
            let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
            if numbers.is_empty() { "none".to_owned() } else { numbers.join(", ") }
        };
        let same = |now: &Now| self.gpus.iter().any(|then| then.gpu == now.gpu);
        let then = all(&mut self.gpus.iter().map(|gpu| gpu.gpu));
        if now.is_empty() || now.iter().all(same) {
            return None;
        }
        if now.iter().any(same) {
            let new = all(&mut now.iter().filter(|now| !same(now)).map(|gpu| gpu.gpu));
            return Some(Sentence::new(
                format!(
                    "it does not have GPU {new}, it is of GPU {then}: nothing of GPU {new} is compared"
                ),
                format!("它没有 GPU {new}，它是 GPU {then} 的：GPU {new} 不作比较"),
            ));
        }
        let now = all(&mut now.iter().map(|gpu| gpu.gpu));
        Some(Sentence::new(
            format!(
                "it has no GPU that is measured (GPU {now}), it is of GPU {then}: nothing of a GPU is compared"
            ),
            format!("它没有现在测量的 GPU（GPU {now}），它是 GPU {then} 的：无法比较"),
        ))
    }

    /// What it says was wrong on these GPUs, of any figure: a line each.
    pub fn was_wrong(&self, gpu: u32) -> Vec<Sentence> {
        let its = self.wrong.iter().filter(|one| one.gpus.contains(&gpu));
        let said = its.map(|one| {
            let (name, reason) = (&one.figure, &one.reason);
            Sentence::new(
                format!("GPU {gpu} was wrong then: {name}: {reason}"),
                format!("GPU {gpu} 当时的结果有误：{name}：{reason}"),
            )
        });
        said.collect()
    }

    /// That it marks this figure as wrong.
    pub(crate) fn marked(&self, name: &str, gpus: &[u32]) -> Option<Sentence> {
        let one = self.wrong.iter().find(|one| one.figure == name && one.gpus == gpus)?;
        let reason = &one.reason;
        Some(Sentence::new(
            format!("the earlier one was wrong ({reason})"),
            format!("先前的结果有误（{reason}）"),
        ))
    }

    /// Why this figure is not known to be what was reached then.
    pub(crate) fn doubt(&self, name: &str, gpus: &[u32]) -> Option<Sentence> {
        let same = |one: &&(String, Vec<u32>, Sentence)| one.0 == name && one.1 == gpus;
        let Sentence { en, zh } = &self.doubts.iter().find(same)?.2;
        Some(Sentence::new(
            format!("the earlier one was \"can't tell\": {en}"),
            format!("先前的结果无法判断：{zh}"),
        ))
    }

    /// It was measured with other repeats and shapes.
    pub fn other_effort(&self, now: &str) -> Option<Sentence> {
        let then = self.effort.as_deref().filter(|then| *then != now)?;
        Some(Sentence::new(
            format!("the effort was `{then}`, and is `{now}`: other repeats and shapes"),
            format!("当时的测量档位是 `{then}`，现在是 `{now}`：重复次数和形状不同"),
        ))
    }

    /// It was measured in another image.
    pub fn other_image(&self, now: &str) -> Option<Sentence> {
        let then = self.image.as_deref().filter(|then| *then != now)?;
        Some(Sentence::new(
            format!("the image was {then}, and is {now}"),
            format!("当时的镜像是 {then}，现在是 {now}"),
        ))
    }

    /// It was measured with another torch, or one of the two does not say.
    pub fn other_torch(&self, now: Option<&str>) -> Option<Sentence> {
        match (self.torch.as_deref(), now) {
            (then, now) if then == now => None,
            (Some(then), Some(now)) => Some(Sentence::new(
                format!("torch was {then}, and is {now}"),
                format!("当时的 torch 是 {then}，现在是 {now}"),
            )),
            (Some(then), None) => Some(Sentence::new(
                format!("torch was {then}, and none is found now"),
                format!("当时的 torch 是 {then}，现在没有找到 torch"),
            )),
            (None, now) => Some(Sentence::new(
                format!(
                    "torch is {}, and the earlier result does not say which it had",
                    now.unwrap_or_default()
                ),
                format!("现在的 torch 是 {}，而先前的结果没有说明", now.unwrap_or_default()),
            )),
        }
    }

    /// What a GPU of that number was, where it is another product now or has another driver.
    pub fn other_gpu(&self, now: &Now) -> Vec<Sentence> {
        let driver = || {
            let then = self.gpus.iter().find(|then| then.gpu == now.gpu)?;
            match (then.driver.as_deref(), now.driver.as_deref()) {
                (then, now) if then == now => None,
                (Some(then), Some(now)) => Some(Sentence::new(
                    format!("the driver was {then}, and is {now}"),
                    format!("当时的驱动是 {then}，现在是 {now}"),
                )),
                (Some(then), None) => Some(Sentence::new(
                    format!("the driver was {then}, and NVML does not say now which it is"),
                    format!("当时的驱动是 {then}，现在 NVML 没有说明"),
                )),
                (None, now) => Some(Sentence::new(
                    format!(
                        "the driver is {}, and the earlier result does not say which it had",
                        now.unwrap_or_default()
                    ),
                    format!("现在的驱动是 {}，而先前的结果没有说明", now.unwrap_or_default()),
                )),
            }
        };
        self.other_product(now).into_iter().chain(driver()).collect()
    }

    /// What a GPU of that number was, where it is another product now, or shows another part of it.
    pub(crate) fn other_product(&self, now: &Now) -> Option<Sentence> {
        let then = self.gpus.iter().find(|then| then.gpu == now.gpu)?;
        let (number, name) = (now.gpu, &now.name);
        if then.name != *name {
            let then = &then.name;
            return Some(Sentence::new(
                format!("GPU {number} was {then}, and is {name}: two kinds of GPU are compared"),
                format!("GPU {number} 当时是 {then}，现在是 {name}：比较的是两种 GPU"),
            ));
        }
        let (had, has) = (then.sm_count.filter(|had| *had != now.sm_count)?, now.sm_count);
        Some(Sentence::new(
            format!("GPU {number} had {had} multiprocessors, and has {has}"),
            format!("GPU {number} 当时有 {had} 个多处理器，现在有 {has} 个"),
        ))
    }
}

impl Figure {
    /// As it was measured, and its unit: what holds for one that is measured now holds for it.
    fn into_measured(self) -> (Measured, String) {
        let Self { figure, gpus, value, best, error, spread, repeats, .. } = self;
        let Self { timer_within, timer_longer, unit, .. } = self;
        let measured = Measured {
            figure,
            gpus,
            value,
            best: best.unwrap_or(value),
            spread: spread.unwrap_or_default(),
            repeats: repeats.unwrap_or(1),
            method: String::new(),
            error,
            evidence: None,
            curve: Vec::new(),
            timer_within,
            timer_longer,
        };
        (measured, unit)
    }
}

impl From<&Report> for Baseline {
    fn from(report: &Report) -> Self {
        let figures = report.figures.iter().map(|one| &one.figure);
        let doubts = figures.clone().filter_map(|one| {
            Some((one.figure.clone(), one.gpus.clone(), doubtful(&report.gpus, one)?))
        });
        Self {
            interrupted: report.interrupted,
            effort: Some(report.effort.to_owned()),
            // Two images are what is compared.
            image: None,
            torch: report.torch.clone(),
            gpus: report.gpus.iter().map(Gpu::of).collect(),
            figures: figures.map(|one| (one.figure.clone(), one.gpus.clone(), one.value)).collect(),
            doubts: doubts.collect(),
            // Its own report says it.
            wrong: Vec::new(),
        }
    }
}

impl Gpu {
    fn of(gpu: &Now) -> Self {
        let Now { gpu, name, sm_count, driver, board, .. } = gpu.clone();
        Self { gpu, name, sm_count: Some(sm_count), driver, board }
    }

    /// As it was measured: of a product that is known, what it does not say bounds nothing.
    fn as_measured(&self) -> Now {
        let Self { gpu, name, sm_count, driver, board } = self.clone();
        let sm_count = sm_count.unwrap_or(u32::MAX);
        Now { gpu, name, sm_count, driver, board, ..Now::default() }
    }
}

/// Where a number begins that has more digits than any that is written here. Digits in words don't count.
fn long_number(bytes: &[u8]) -> Option<usize> {
    let (mut within, mut escaped, mut digits) = (false, false, 0);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if within => escaped = true,
            b'"' => (within, digits) = (!within, 0),
            b'0'..=b'9' if !within => digits += 1,
            b'.' | b'e' | b'E' | b'+' | b'-' if !within => {}
            _ => digits = 0,
        }
        if digits > MOST_DIGITS {
            return Some(at - MOST_DIGITS);
        }
    }
    None
}

#[cfg(test)]
mod tests;
