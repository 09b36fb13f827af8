//! What GPUs were seen to deliver, and what their units can do in one clock.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::{Capability, Gpu, table};

/// Figures of a product, by name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfGpu {
    gpu: String,
    figures: BTreeMap<String, f64>,
    source: String,
}

/// Operations of a multiprocessor in a clock, by figure.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfCapability {
    capability: Capability,
    figures: BTreeMap<String, u32>,
    #[allow(dead_code)]
    source: String,
}

/// What is compared with something better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compared {
    /// A GPU alone, in short bursts, with the best that is known.
    Device,
    /// A GPU without a pause, with the best in bursts.
    Sustained,
    /// Host and GPU together, with the best that is known.
    Host,
    /// A GPU with the others of its machine.
    Siblings,
}

/// Below this share of what it is compared with, a figure is low.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Least {
    of: Compared,
    share: f64,
    #[allow(dead_code)]
    source: String,
}

#[derive(Deserialize)]
struct Table {
    least: Vec<Least>,
    public: Vec<OfGpu>,
    floor: Vec<OfGpu>,
    rate: Vec<OfCapability>,
}

static ROWS: LazyLock<Table> = LazyLock::new(|| table::read::<Table>(table::FIGURES));

/// A figure and where it stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// The value, in the figure's unit.
    pub value: f64,
    /// Where it was published.
    pub source: &'static str,
}

fn of(rows: &'static [OfGpu], gpu: &Gpu, figure: &str) -> Option<Known> {
    let rows = rows.iter().filter(|row| row.gpu == gpu.name);
    rows.filter_map(|row| Some(Known { value: *row.figures.get(figure)?, source: &row.source }))
        .max_by(|a, b| a.value.total_cmp(&b.value))
}

/// The best figure that somebody published for this GPU; of those where less is better there is none.
pub fn public_figure(gpu: &Gpu, figure: &str) -> Option<Known> {
    of(&ROWS.public, gpu, figure)
}

/// What NVIDIA's acceptance test asks of this GPU at least.
pub fn floor_figure(gpu: &Gpu, figure: &str) -> Option<Known> {
    of(&ROWS.floor, gpu, figure)
}

/// Operations of one multiprocessor in one clock, dense.
pub fn rate(capability: Capability, figure: &str) -> Option<u32> {
    let row = ROWS.rate.iter().find(|row| row.capability == capability)?;
    row.figures.get(figure).copied()
}

/// The share of what it is compared with that a figure has at least, where all is well.
pub fn least(of: Compared) -> f64 {
    ROWS.least.iter().find(|row| row.of == of).map_or(1.0, |row| row.share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_comparison_has_its_share() {
        for of in [Compared::Device, Compared::Sustained, Compared::Host, Compared::Siblings] {
            assert!((0.5..1.0).contains(&least(of)), "{of:?}");
        }
    }

    #[test]
    fn every_row_is_of_a_gpu_that_is_known_and_below_its_peak() {
        for row in ROWS.public.iter().chain(&ROWS.floor) {
            let gpu = crate::gpu(&row.gpu).expect("a GPU of that name");
            assert_eq!(gpu.name, row.gpu);
            for (figure, value) in &row.figures {
                let peak = match figure.as_str() {
                    "bf16" => gpu.bf16_tflops,
                    "fp8" => gpu.fp8_tflops,
                    "memory-read" | "memory-write" | "memory-copy" | "memory-triad" => {
                        gpu.memory_bandwidth_gb_s
                    }
                    _ => None,
                };
                assert!(peak.is_none_or(|peak| *value < peak), "{} {figure}", row.gpu);
            }
        }
    }

    /// A data-sheet peak is the rate at one clock: the same one for all precisions of tensor cores.
    #[test]
    fn rates_give_the_peaks_of_the_data_sheets() {
        for name in ["A100 SXM4 80GB", "H100 SXM5 80GB", "H200 SXM 141GB"] {
            let gpu = crate::gpu(name).expect("known");
            let clock = |figure: &str, peak: Option<f64>| {
                let rate = f64::from(rate(gpu.capability, figure).expect("a rate"));
                peak.expect("a peak") * 1e6 / (rate * f64::from(gpu.sm_count.expect("a count")))
            };
            let clocks = [
                clock("bf16", gpu.bf16_tflops),
                clock("fp16", gpu.fp16_tflops),
                clock("tf32", gpu.tf32_tflops),
            ];
            for one in clocks {
                assert!((one / clocks[0] - 1.0).abs() < 0.01, "{name}: {clocks:?}");
            }
        }
    }
}
