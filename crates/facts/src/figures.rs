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
    /// Of what GPUs do together: over how many of them.
    ranks: Option<usize>,
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

/// More than so many times the best that is known is doubted.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Beyond {
    times: f64,
    #[allow(dead_code)]
    source: String,
}

/// What bounds a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// What the multiprocessors can do at their highest clock.
    Rate,
    /// The data sheet's memory bandwidth.
    Memory,
    /// One way between host and GPU.
    HostLink,
    /// One way between two GPUs.
    PeerLink,
    /// Less time than this it can't take.
    Least,
}

/// What a figure can't pass.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    figures: Vec<String>,
    /// What it is a multiple of.
    pub by: By,
    /// Whose rate, if not that of the figure's own name.
    #[serde(rename = "as")]
    pub like: Option<String>,
    /// The multiple; of [`By::Least`] the microseconds.
    pub times: f64,
    /// Operations of a step, of figures in steps.
    pub operations: Option<f64>,
    /// It grows with the number of GPUs: times (n - 1) / n.
    #[serde(default)]
    pub ranks: bool,
    /// Where it comes from.
    pub source: String,
}

/// What a lane of PCIe carries.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pcie {
    generation: u32,
    lane_gb_s: f64,
    #[allow(dead_code)]
    source: String,
}

/// What connects a GPU with its host where that is not PCIe.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostLink {
    gpu: String,
    gb_s: f64,
    #[allow(dead_code)]
    source: String,
}

#[derive(Deserialize)]
struct Table {
    least: Vec<Least>,
    beyond: Beyond,
    public: Vec<OfGpu>,
    floor: Vec<OfGpu>,
    rate: Vec<OfCapability>,
    bound: Vec<Bound>,
    pcie: Vec<Pcie>,
    host_link: Vec<HostLink>,
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

fn of(rows: &'static [OfGpu], gpu: &Gpu, figure: &str, ranks: usize) -> Option<Known> {
    let rows = rows.iter().filter(|row| row.gpu == gpu.name);
    let rows = rows.filter(|row| row.ranks.is_none_or(|known| known == ranks));
    rows.filter_map(|row| Some(Known { value: *row.figures.get(figure)?, source: &row.source }))
        .max_by(|a, b| a.value.total_cmp(&b.value))
}

/// The best figure that somebody published for this GPU, or for so many of it together; of those where less is better
/// there is none.
pub fn public_figure(gpu: &Gpu, figure: &str, ranks: usize) -> Option<Known> {
    of(&ROWS.public, gpu, figure, ranks)
}

/// What NVIDIA's acceptance test asks of this GPU at least.
pub fn floor_figure(gpu: &Gpu, figure: &str) -> Option<Known> {
    of(&ROWS.floor, gpu, figure, 1)
}

/// What a figure can't pass, where that is known.
pub fn bound(figure: &str) -> Option<&'static Bound> {
    ROWS.bound.iter().find(|row| row.figures.iter().any(|one| one == figure))
}

/// What a link of PCIe carries one way, GB/s.
pub fn pcie(generation: u32, lanes: u32) -> Option<f64> {
    let row = ROWS.pcie.iter().find(|row| row.generation == generation)?;
    Some(row.lane_gb_s * f64::from(lanes))
}

/// What this GPU and its host send each other one way, GB/s, where they are not connected by PCIe.
pub fn host_link(gpu: &Gpu) -> Option<f64> {
    ROWS.host_link.iter().find(|row| row.gpu == gpu.name).map(|row| row.gb_s)
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

/// How many times the best that is known a figure may be, and be as expected.
pub fn beyond() -> f64 {
    ROWS.beyond.times
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
                    "peer" | "all-gather" | "all-to-all" => gpu.nvlink_gb_s.map(|both| both / 2.0),
                    _ => None,
                };
                assert!(peak.is_none_or(|peak| *value < peak), "{} {figure}", row.gpu);
            }
        }
    }

    /// A bound that rested on the machine's word alone would let anything pass.
    #[test]
    fn what_bounds_a_figure_is_known_of_each_gpu_that_has_one() {
        for row in ROWS.public.iter().chain(&ROWS.floor) {
            let gpu = crate::gpu(&row.gpu).expect("a GPU of that name");
            for figure in row.figures.keys() {
                let known = match bound(figure).map(|bound| bound.by) {
                    Some(By::Rate) => gpu.sm_max_mhz.and(gpu.sm_count).is_some(),
                    Some(By::Memory) => gpu.memory_bandwidth_gb_s.is_some(),
                    Some(By::HostLink) => {
                        host_link(gpu).is_some()
                            || gpu.pcie_generation.and(gpu.pcie_lanes).is_some()
                    }
                    Some(By::PeerLink) => gpu.nvlink_gb_s.is_some() && gpu.pcie_lanes.is_some(),
                    Some(By::Least) | None => true,
                };
                assert!(known, "{} {figure}", row.gpu);
            }
        }
    }

    /// A data-sheet peak is the rate at one clock: the same one for all precisions of tensor cores.
    #[test]
    fn rates_give_the_peaks_of_the_data_sheets() {
        for name in ["A100 SXM4 80GB", "H100 SXM5 80GB", "H200 SXM 141GB", "B200 180GB"] {
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

    /// FP32 without tensor cores is what data sheets work out at the highest clock.
    #[test]
    fn highest_clocks_give_the_fp32_of_the_data_sheets() {
        let clocked = crate::gpus().iter().filter(|gpu| gpu.sm_max_mhz.is_some());
        for gpu in clocked {
            let each = f64::from(rate(gpu.capability, "fp32").expect("a rate"));
            let all = each * f64::from(gpu.sm_count.expect("a count"));
            let peak = all * f64::from(gpu.sm_max_mhz.expect("a clock")) / 1e6;
            let said = gpu.fp32_tflops.expect("a peak");
            assert!((peak / said - 1.0).abs() < 0.01, "{}: {peak} of {said}", gpu.name);
        }
    }

    #[test]
    fn bounds_are_of_one_figure_each_and_of_something_that_is_known() {
        let mut figures: Vec<&str> =
            ROWS.bound.iter().flat_map(|row| row.figures.iter().map(String::as_str)).collect();
        let all = figures.len();
        figures.sort_unstable();
        figures.dedup();
        assert_eq!(figures.len(), all);
        let hopper = Capability { major: 9, minor: 0 };
        for row in &ROWS.bound {
            assert!(row.times > 0.0 && !row.source.is_empty(), "{:?}", row.figures);
            let names = row.like.as_ref().map_or(row.figures.as_slice(), std::slice::from_ref);
            for name in names.iter().filter(|_| row.by == By::Rate) {
                assert!(rate(hopper, name).is_some(), "{name}");
            }
        }
        assert_eq!(pcie(5, 16).map(f64::round), Some(63.0));
        assert_eq!(pcie(9, 16), None);
        for row in &ROWS.host_link {
            assert!(crate::gpu(&row.gpu).is_ok_and(|gpu| gpu.name == row.gpu), "{}", row.gpu);
        }
    }
}
