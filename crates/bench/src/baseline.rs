//! An earlier result that this run is compared with: read strictly, before anything is measured.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use crate::answer::plain;
use crate::figures::figure;
use crate::report::{Report, VERSION};

/// Digits of one number: more is no measurement.
const MOST_DIGITS: usize = 64;
/// Figures of one result.
const MOST_FIGURES: usize = 8 << 10;
/// What a figure can be, in any unit.
const SIZES: std::ops::Range<f64> = 1e-6..1e15;

/// An earlier result.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    interrupted: bool,
    effort: Option<String>,
    image: Option<String>,
    gpus: Vec<(u32, String)>,
    figures: Vec<(String, Vec<u32>, f64)>,
}

/// What is read of the document; it may say more.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    interrupted: bool,
    effort: Option<String>,
    image: Option<String>,
    gpus: Vec<Gpu>,
    figures: Vec<Figure>,
}

#[derive(Deserialize)]
struct Gpu {
    gpu: u32,
    name: String,
}

#[derive(Deserialize)]
struct Figure {
    figure: String,
    gpus: Vec<u32>,
    value: f64,
    unit: String,
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
        let named = |gpu: Gpu| {
            let mut name = gpu.name;
            plain(&mut name);
            (gpu.gpu, name)
        };
        let gpus: Vec<(u32, String)> = document.gpus.into_iter().map(named).collect();
        let (mut seen, mut figures) = (BTreeSet::new(), Vec::new());
        for one in document.figures {
            let Figure { figure: name, gpus: of, value, unit } = one;
            let shown: String = name.escape_debug().take(64).collect();
            // A newer sconce of the same version of the document may have more figures.
            let Some(row) = figure(&name) else { continue };
            if unit != row.unit {
                let unit: String = unit.escape_debug().take(32).collect();
                return Err(format!(
                    "its `{shown}` is in `{unit}`, and is measured in {}",
                    row.unit
                ));
            }
            if !SIZES.contains(&value) {
                return Err(format!("its `{shown}` is {value:e}, which can't be"));
            }
            if let Some(gpu) = of.iter().find(|gpu| gpus.iter().all(|(known, _)| known != *gpu)) {
                return Err(format!("its `{shown}` is of GPU {gpu}, which it does not list"));
            }
            if !seen.insert((name.clone(), of.clone())) {
                return Err(format!("it has `{shown}` twice for the same GPUs"));
            }
            figures.push((name, of, value));
        }
        let words = |mut text: String| {
            plain(&mut text);
            text
        };
        let (effort, image) = (document.effort.map(words), document.image.map(words));
        Ok(Self { interrupted: document.interrupted, effort, image, gpus, figures })
    }

    /// `quick`, `usual`, `full`, where it says so.
    pub fn effort(&self) -> Option<&str> {
        self.effort.as_deref()
    }

    /// It was interrupted, and has not all of what it was to have.
    pub fn is_part(&self) -> bool {
        self.interrupted
    }

    /// The names of its figures, each once.
    pub fn names(&self) -> BTreeSet<&str> {
        self.figures.iter().map(|(name, _, _)| name.as_str()).collect()
    }

    /// The image that it was measured in, where that of a run is another: then, now.
    pub(crate) fn other_image<'a>(&'a self, report: &'a Report) -> Option<(&'a str, &'a str)> {
        let both = self.image.as_deref().zip(report.image.as_deref());
        both.filter(|(then, now)| then != now)
    }

    /// The value of a figure of these GPUs.
    pub(crate) fn value(&self, figure: &str, gpus: &[u32]) -> Option<f64> {
        let same = |one: &&(String, Vec<u32>, f64)| one.0 == figure && one.1 == gpus;
        self.figures.iter().find(same).map(|(_, _, value)| *value)
    }

    /// The GPUs that are others than those of a run: number, then, now.
    pub(crate) fn others<'a>(&'a self, report: &'a Report) -> Vec<(u32, &'a str, &'a str)> {
        let now = |number: u32| report.gpus.iter().find(|gpu| gpu.gpu == number);
        let both = self.gpus.iter().filter_map(|(number, then)| {
            let now = now(*number)?;
            (now.name != *then).then_some((*number, then.as_str(), now.name.as_str()))
        });
        both.collect()
    }
}

impl From<&Report> for Baseline {
    fn from(report: &Report) -> Self {
        let figures = report.figures.iter().map(|one| &one.figure);
        Self {
            interrupted: report.interrupted,
            effort: Some(report.effort.to_owned()),
            // Two images are what is compared.
            image: None,
            gpus: report.gpus.iter().map(|gpu| (gpu.gpu, gpu.name.clone())).collect(),
            figures: figures.map(|one| (one.figure.clone(), one.gpus.clone(), one.value)).collect(),
        }
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
mod tests {
    use super::*;

    fn refused(text: &str, why: &str) {
        let said = Baseline::read(text.as_bytes()).expect_err(text);
        assert!(said.contains(why), "{text}: {said}");
    }

    fn of(figure: &str) -> String {
        format!(r#"{{"version": 1, "gpus": [{{"gpu": 0, "name": "H"}}], "figures": [{figure}]}}"#)
    }

    fn one(value: &str, unit: &str) -> String {
        of(&format!(
            r#"{{"figure": "host-to-device", "gpus": [0], "value": {value}, "unit": "{unit}"}}"#
        ))
    }

    #[test]
    fn a_result_is_read() {
        let read = Baseline::read(one("51.5", "GB/s").as_bytes()).expect("a result");
        assert_eq!(read.value("host-to-device", &[0]), Some(51.5));
        assert_eq!(read.value("host-to-device", &[1]), None);
        let array = format!("[{}]", one("51.5", "GB/s"));
        assert_eq!(Baseline::read(array.as_bytes()), Ok(read));
        // One that this sconce does not know is left alone.
        let other = of(r#"{"figure": "speed", "gpus": [], "value": 1, "unit": "m/s"}"#);
        assert!(Baseline::read(other.as_bytes()).is_ok());
    }

    #[test]
    fn what_is_none_is_said() {
        refused("", "EOF");
        refused("[]", "no result");
        refused("{}", "no result of `sconce bench --json`");
        refused(&format!("[{0}, {0}]", one("1", "GB/s")), "2 results");
        refused(r#"{"version": 2}"#, "it has version 2, and this sconce reads 1");
        refused(r#"{"version": "1"}"#, "no result");
        refused(r#"{"version": -1}"#, "no result");
        refused(r#"{"version": 1, "figures": []}"#, "missing field `gpus`");
        refused(&one("51", "us"), "its `host-to-device` is in `us`, and is measured in GB/s");
        refused(&one("51", r"\u001b[31m"), r"is in `\u{1b}[31m`");
        for value in ["0", "-5", "5e-324", "1e300"] {
            refused(&one(value, "GB/s"), "which can't be");
        }
        refused(&one("1e999", "GB/s"), "number out of range");
        refused(&one("NaN", "GB/s"), "expected value");
        refused(&one("\"x\"", "GB/s"), "invalid type: string");
        refused(&one(&"1".repeat(65), "GB/s"), "more than 64 digits at byte");
        refused(&"[".repeat(10_000), "recursion limit");
        let foreign = one("51", "GB/s").replace(r#""gpus": [0]"#, r#""gpus": [3]"#);
        refused(&foreign, "is of GPU 3, which it does not list");
        let figure = r#"{"figure": "launch", "gpus": [0], "value": 3, "unit": "us"}"#;
        refused(&of(&format!("{figure}, {figure}")), "it has `launch` twice");
    }
}
