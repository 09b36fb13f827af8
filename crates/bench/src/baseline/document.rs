//! Reading an earlier result: strictly, before anything is measured.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use super::{Baseline, Earlier, Gpu, Wrong, why_not_believed};
use crate::answer::{Evidence, Figure as Measured, Gpu as Now, plain, senseless};
use crate::bound::impossible;
use crate::figures::figure;
use crate::report::VERSION;

/// Digits of one number: more is no measurement.
const MOST_DIGITS: usize = 64;
/// Figures of one result.
const MOST_FIGURES: usize = 8 << 10;
/// How far the two clocks can be apart: a figure is none long before.
const MOST_APART: f64 = 1.0;
/// What a figure can be, in any unit.
const SIZES: std::ops::Range<f64> = 1e-6..1e15;

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
    evidence: Option<Seen>,
    unit: String,
}

/// What NVML saw, as far as a figure can contradict it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Seen {
    samples: u32,
    sm_mhz: Option<(f64, f64, f64)>,
    reasons: Vec<(u64, f64)>,
    pcie: Option<(u32, u32)>,
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
            gpu.words().for_each(plain);
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
            if let Some(doubt) = why_not_believed(&listed, &one.0) {
                doubts.push((name.clone(), of.clone(), doubt));
            }
            figures.push(Earlier::of(&one.0));
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
}

impl Figure {
    /// As it was measured, and its unit: what holds for one that is measured now holds for it.
    fn into_measured(self) -> (Measured, String) {
        let Self { figure, gpus, value, best, error, spread, repeats, .. } = self;
        let Self { timer_within, timer_longer, evidence, unit, .. } = self;
        let measured = Measured {
            figure,
            gpus,
            value,
            best: best.unwrap_or(value),
            spread: spread.unwrap_or_default(),
            repeats: repeats.unwrap_or(1),
            method: String::new(),
            error,
            evidence: evidence.map(|seen| {
                let Seen { samples, sm_mhz, reasons, pcie } = seen;
                Evidence { samples, sm_mhz, reasons, pcie, ..Evidence::default() }
            }),
            curve: Vec::new(),
            timer_within,
            timer_longer,
        };
        (measured, unit)
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
