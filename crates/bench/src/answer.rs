//! What a measurement answers: a line of JSON each, written inside a container and read outside.
//!
//! The lines are bytes from a container: bounded in number and length, read strictly.

use serde::{Deserialize, Serialize};

/// Bytes of one line.
pub const MOST_LINE: usize = 64 << 10;
/// Lines of one run: figures of 16 GPUs and their pairs.
pub const MOST_LINES: usize = 8 << 10;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Line {
    /// A GPU, before anything is measured on it.
    Gpu(Gpu),
    /// The torch that is there, before anything is measured.
    Torch(Torch),
    /// Something measured.
    Figure(Figure),
    /// Something that can't be measured here.
    Unavailable(Unavailable),
    /// The GPU computed something wrong.
    Wrong(Unavailable),
    /// How a long measurement goes on.
    Moment(Moment),
}

/// A GPU as CUDA and NVML show it; what NVML does not say is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// CUDA's number for it, inside.
    pub gpu: u32,
    /// `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Compute capability: major, minor.
    pub capability: (u32, u32),
    /// Streaming multiprocessors; of a MIG instance its own.
    pub sm_count: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of the second-level cache.
    pub l2_bytes: u64,
    /// The driver.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub driver: Option<String>,
    /// The newest CUDA that the driver serves: 13000 is 13.0.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cuda: Option<u32>,
    /// What NVML knows of its board.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub board: Option<Board>,
    /// Processes on it beside this one's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub others: Option<u32>,
    /// It is an instance of MIG, or its board is split into some.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mig: Option<bool>,
    /// What NVML calls the GPU that it has at this one's place on the bus.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nvml_name: Option<String>,
    /// Another GPU that CUDA or NVML gives the same UUID.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub twin: Option<u32>,
    /// CUDA's UUID of it, without `GPU-` or `MIG-`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uuid: Option<String>,
    /// The one that NVML gives the GPU that it has at this one's place on the bus, in the same form.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nvml_uuid: Option<String>,
    /// Its place on the bus, as CUDA says it: `0000:1B:00.0`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bus_id: Option<String>,
}

/// The torch where something is measured, as its package says it: nothing of it is run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Torch {
    /// `2.15.0+cu130`; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
}

/// A board's limits and links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Board {
    /// The power limit in force, watts.
    pub power_limit_w: Option<f64>,
    /// The one it comes with, watts.
    pub power_default_w: Option<f64>,
    /// The highest clock of its multiprocessors, MHz.
    pub sm_max_mhz: Option<u32>,
    /// PCIe generation now, and the best that board and slot have.
    pub pcie_generation: Option<(u32, u32)>,
    /// PCIe lanes now, and the most that board and slot have.
    pub pcie_lanes: Option<(u32, u32)>,
}

/// One figure of one GPU, of a pair, or of all together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// Its name: a row of [`crate::FIGURES`].
    pub figure: String,
    /// The GPUs it belongs to, by CUDA's numbers inside: one; two for a way from one to another; all.
    pub gpus: Vec<u32>,
    /// The median, in the figure's unit.
    pub value: f64,
    /// The best of the repeats.
    pub best: f64,
    /// How far the middle half of the repeats lies apart, as a share of the median.
    pub spread: f64,
    /// How many repeats.
    pub repeats: u32,
    /// Shape, size, algorithm: what exactly was done.
    pub method: String,
    /// What the result was held to, where there is one: the worst error, and the one that was allowed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<(f64, f64)>,
    /// What NVML saw while it was measured.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub evidence: Option<Evidence>,
    /// More points of the same figure: size in bytes, and value.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub curve: Vec<(f64, f64)>,
    /// How far the host's clock was from CUDA's timer while that took the time, as a share: what the timer is known to be right to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timer_within: Option<f64>,
    /// CUDA's timer said more than the host's clock: by that, the figure would be better.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub timer_longer: bool,
}

/// What NVML saw, on the GPU that was measured (the first, of several).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Evidence {
    /// How often it was asked.
    pub samples: u32,
    /// Clock of the multiprocessors, MHz: least, median, most.
    pub sm_mhz: Option<(f64, f64, f64)>,
    /// Clock of the memory, MHz: median.
    pub memory_mhz: Option<f64>,
    /// Power, watts: median, most.
    pub power_w: Option<(f64, f64)>,
    /// Temperature, degrees Celsius: most.
    pub temperature_c: Option<f64>,
    /// Bits of `nvmlClocksEventReasons`, with the share of the samples that had each.
    pub reasons: Vec<(u64, f64)>,
    /// PCIe generation and lanes: the most of each. An idle GPU lowers the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pcie: Option<(u32, u32)>,
}

/// A figure that there is not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unavailable {
    /// A figure, or a group of them.
    pub figure: String,
    /// The GPUs.
    pub gpus: Vec<u32>,
    /// Why.
    pub reason: String,
}

/// How a long measurement goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// The figure.
    pub figure: String,
    /// Seconds since it began.
    pub seconds: f64,
    /// Seconds that it takes.
    pub of: f64,
    /// Each GPU that still works, and what it has reached since the last moment, in the figure's unit.
    pub values: Vec<(u32, f64)>,
}

/// A line that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Its JSON has another shape.
    #[error("a line from inside is no measurement: {0}")]
    Shape(String),
    /// It is too long, or one of too many.
    #[error("more came from inside than is read ({MOST_LINES} lines of {MOST_LINE} bytes)")]
    Flood,
    /// It names a figure that there is not, or a number that can't be.
    #[error("a line from inside says what can't be: {0}")]
    Absurd(String),
}

/// Makes lines of bytes as they come.
#[derive(Debug, Default)]
pub struct Reader {
    begun: Vec<u8>,
    lines: usize,
    flooded: bool,
}

impl Reader {
    /// The lines that are whole with these bytes.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<Result<Line, Malformed>> {
        let mut found = Vec::new();
        for byte in bytes {
            if self.flooded {
                break;
            }
            if *byte != b'\n' {
                self.begun.push(*byte);
            }
            if self.begun.len() > MOST_LINE || self.lines >= MOST_LINES {
                self.flooded = true;
                found.push(Err(Malformed::Flood));
            } else if *byte == b'\n' {
                self.lines += 1;
                found.push(line(&std::mem::take(&mut self.begun)));
            }
        }
        found
    }
}

impl Line {
    /// All words in it.
    fn texts(&mut self) -> Vec<&mut String> {
        match self {
            Self::Gpu(gpu) => std::iter::once(&mut gpu.name)
                .chain(&mut gpu.driver)
                .chain(&mut gpu.nvml_name)
                .chain(&mut gpu.uuid)
                .chain(&mut gpu.nvml_uuid)
                .chain(&mut gpu.bus_id)
                .collect(),
            Self::Torch(torch) => torch.version.iter_mut().collect(),
            Self::Figure(figure) => vec![&mut figure.figure, &mut figure.method],
            Self::Unavailable(one) | Self::Wrong(one) => vec![&mut one.figure, &mut one.reason],
            Self::Moment(moment) => vec![&mut moment.figure],
        }
    }
}

/// Takes out of words that are printed on terminals what steers them: control characters, and those that turn the direction
/// of writing (Unicode Standard Annex 9).
pub(crate) fn plain(text: &mut String) {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.contains(steers) {
        *text = text.replace(steers, "\u{fffd}");
    }
}

/// One line, without its end.
pub fn line(bytes: &[u8]) -> Result<Line, Malformed> {
    let mut line: Line =
        serde_json::from_slice(bytes).map_err(|error| Malformed::Shape(error.to_string()))?;
    line.texts().into_iter().for_each(plain);
    let absurd = |what: &str| Err(Malformed::Absurd(what.to_owned()));
    match &line {
        Line::Figure(figure) => {
            let Some(row) = crate::figure(&figure.figure) else {
                return absurd(&format!("a figure `{}`", figure.figure.escape_debug()));
            };
            if let Some(what) = senseless(figure) {
                return absurd(&format!("`{}` of {what}", figure.figure));
            }
            // What torch computes is held to something, or is no figure: fast and wrong is not fast.
            let is_held = row.group.by_torch() && !row.group.without_gpu();
            if is_held && figure.error.is_none() {
                return absurd(&format!("`{}` without the error of its results", figure.figure));
            }
        }
        Line::Gpu(gpu) if gpu.gpu > 1024 => return absurd("a GPU of that number"),
        Line::Moment(moment) => {
            let values = moment.values.iter().map(|(_, value)| *value);
            let numbers = [moment.seconds, moment.of].into_iter().chain(values);
            if crate::figure(&moment.figure).is_none() || !numbers.into_iter().all(sound) {
                return absurd("a moment of no figure, or of no size");
            }
        }
        _ => {}
    }
    Ok(line)
}

/// A number that can be measured.
fn sound(number: f64) -> bool {
    number.is_finite() && (0.0..1e15).contains(&number)
}

/// Which of a figure's numbers can't be. None is nothing, and nothing takes no time.
pub(crate) fn senseless(figure: &Figure) -> Option<&'static str> {
    let Evidence { samples: _, sm_mhz, memory_mhz, power_w, temperature_c, reasons, pcie: _ } =
        figure.evidence.as_ref().unwrap_or(&NOTHING_SEEN);
    let clocks = sm_mhz.iter().flat_map(|(least, median, most)| [*least, *median, *most]);
    let powers = power_w.iter().flat_map(|(median, most)| [*median, *most]);
    let mut seen = clocks.chain(*memory_mhz).chain(powers);
    let mut curve = figure.curve.iter().flat_map(|(size, value)| [*size, *value]);
    let mut error = figure.error.iter().flat_map(|(worst, allowed)| [*worst, *allowed]);
    match () {
        () if [figure.value, figure.best].iter().any(|one| !sound(*one) || *one == 0.0) => {
            Some("no size")
        }
        () if is_worse(figure) => Some("a best that is worse than the middle"),
        () if !sound(figure.spread) => Some("no spread"),
        () if !figure.timer_within.is_none_or(sound) => Some("clocks that are apart by nothing"),
        () if figure.repeats == 0 => Some("no repeats"),
        () if !curve.all(sound) => Some("points of no size"),
        () if !error.all(sound) => Some("an error of no size"),
        () if !seen.all(sound) => Some("a clock or power of no size"),
        // Of a machine in the cold it may be below zero.
        () if !temperature_c.is_none_or(|one| (-273.0..1000.0).contains(&one)) => {
            Some("no temperature")
        }
        () if !reasons.iter().all(|(_, share)| (0.0..=1.0).contains(share)) => {
            Some("reasons with no share")
        }
        () => None,
    }
}

/// The best of its repeats is worse than the middle one, by more than a mean of two rounds.
fn is_worse(figure: &Figure) -> bool {
    const ROUNDED: f64 = 1e-9;
    let Figure { value, best, .. } = figure;
    let more = crate::figure(&figure.figure).is_none_or(|row| row.more);
    if more { *best < value * (1.0 - ROUNDED) } else { *best > value * (1.0 + ROUNDED) }
}

/// The evidence of what NVML did not see.
static NOTHING_SEEN: Evidence = Evidence {
    samples: 0,
    sm_mhz: None,
    memory_mhz: None,
    power_w: None,
    temperature_c: None,
    reasons: Vec::new(),
    pcie: None,
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Each number of a figure, as it may come from a program that is not trusted.
    #[test]
    fn numbers_that_can_not_be_are_refused() {
        let good = serde_json::json!({
            "figure": "torch-bf16", "gpus": [0], "value": 700.0, "best": 710.0, "spread": 0.01, "repeats": 9, "method": "m",
            "error": [0.001, 0.01], "curve": [[0, 1.0]],
            "evidence": {"samples": 1, "sm_mhz": [1.0, 2.0, 3.0], "memory_mhz": 1.0, "power_w": [1.0, 2.0], "temperature_c": 30.0, "reasons": [[1, 0.5]]},
        });
        let read = |figure: &serde_json::Value| {
            line(serde_json::json!({ "figure": figure }).to_string().as_bytes())
        };
        read(&good).unwrap();
        let fields = [
            "value",
            "best",
            "spread",
            "repeats",
            "error/0",
            "error/1",
            "curve/0/0",
            "curve/0/1",
            "evidence/samples",
            "evidence/sm_mhz/0",
            "evidence/sm_mhz/1",
            "evidence/sm_mhz/2",
            "evidence/memory_mhz",
            "evidence/power_w/0",
            "evidence/power_w/1",
            "evidence/temperature_c",
            "evidence/reasons/0/0",
            "evidence/reasons/0/1",
            "gpus/0",
        ];
        for field in fields {
            let senseless: [serde_json::Value; 4] =
                [(-1000.0).into(), 1e300.into(), "7".into(), serde_json::json!([1])];
            for wrong in senseless {
                let mut figure = good.clone();
                *figure.pointer_mut(&format!("/{field}")).unwrap() = wrong.clone();
                assert!(read(&figure).is_err(), "{field}: {wrong}");
            }
        }
        for (field, wrong) in [("value", 0.0), ("best", 0.0), ("repeats", 0.0)] {
            let mut figure = good.clone();
            figure[field] = match field {
                "repeats" => 0.into(),
                _ => wrong.into(),
            };
            assert!(read(&figure).is_err(), "{field}: 0");
        }
        // As Python writes what is no number.
        for number in ["NaN", "Infinity", "-Infinity", "1e999", "null"] {
            let text = serde_json::json!({ "figure": &good }).to_string();
            let text = text.replace("\"value\":700.0", &format!("\"value\":{number}"));
            assert!(text.contains(number) && line(text.as_bytes()).is_err(), "{number}");
        }
    }

    /// A figure through torch whose results nobody held to anything is none.
    #[test]
    fn what_is_not_held_to_anything_is_no_figure() {
        for (name, gpus, expected) in [
            ("torch-bf16", "[0]", false),
            ("train-bf16", "[0]", false),
            ("small-eager", "[0]", false),
            ("loader", "[]", true),
        ] {
            let text = format!(
                r#"{{"figure":{{"figure":"{name}","gpus":{gpus},"value":1,"best":1,"spread":0,"repeats":1,"method":"m"}}}}"#
            );
            let read = line(text.as_bytes());
            assert_eq!(read.is_ok(), expected, "{name}");
            if let Err(error) = read {
                assert!(error.to_string().contains("without the error of its results"), "{error}");
            }
        }
    }
}
