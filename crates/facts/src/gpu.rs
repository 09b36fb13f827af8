//! GPUs by the names people and drivers give them.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::{Capability, DriverVersion, Machine, UnknownName, table};

/// One product. Figures are data-sheet peaks per GPU, dense; missing where the sources read had none.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// The product: "H100 SXM5 80GB".
    pub name: String,
    /// Other names, as people write them.
    pub aliases: Vec<String>,
    /// PCI device ids under vendor 10de, four hexadecimal digits.
    pub pci: Vec<String>,
    /// Its compute capability.
    pub capability: Capability,
    /// Whether it is a data-centre product.
    #[serde(default)]
    pub datacenter: bool,
    /// How it plugs in: "SXM5", "PCIe".
    pub form: Option<String>,
    /// Where that is from, if not from `source`.
    pub form_source: Option<String>,
    /// The host processor, where the product has one kind only.
    pub host: Option<Machine>,
    /// The first driver whose list of GPUs has it: below, a warning is due.
    pub first_driver: Option<DriverVersion>,
    /// The first ones of later branches, where a branch has releases that lack it still.
    #[serde(default)]
    pub first_in_branches: Vec<DriverVersion>,
    /// Where these come from, if not from what the table names.
    pub first_driver_source: Option<String>,
    /// Why no first driver is known.
    pub first_driver_unknown: Option<String>,
    /// Whether it is a board whose system brings the driver.
    #[serde(default)]
    pub with_driver: bool,
    /// Memory, GB.
    pub memory_gb: Option<f64>,
    /// Memory bandwidth, GB/s.
    pub memory_bandwidth_gb_s: Option<f64>,
    /// Streaming multiprocessors.
    pub sm_count: Option<u32>,
    /// The highest clock of its multiprocessors, MHz.
    pub sm_max_mhz: Option<u32>,
    /// How that is known.
    pub sm_max_basis: Option<Basis>,
    /// Where it stands.
    pub sm_max_source: Option<String>,
    /// The best generation of PCIe that it has.
    pub pcie_generation: Option<u32>,
    /// The most lanes of PCIe that it has.
    pub pcie_lanes: Option<u32>,
    /// FP64 without tensor cores, TFLOPS.
    pub fp64_tflops: Option<f64>,
    /// FP32 without tensor cores, TFLOPS.
    pub fp32_tflops: Option<f64>,
    /// TF32 tensor cores, TFLOPS.
    pub tf32_tflops: Option<f64>,
    /// BF16 tensor cores, TFLOPS.
    pub bf16_tflops: Option<f64>,
    /// FP16 tensor cores, TFLOPS.
    pub fp16_tflops: Option<f64>,
    /// FP8 tensor cores, TFLOPS.
    pub fp8_tflops: Option<f64>,
    /// FP4 tensor cores, TFLOPS.
    pub fp4_tflops: Option<f64>,
    /// NVLink, both directions together, GB/s.
    pub nvlink_gb_s: Option<f64>,
    /// Board power, W.
    pub tdp_w: Option<f64>,
    /// MIG instances at most; 0 is none.
    pub mig_instances: Option<u32>,
    /// Where the row comes from.
    pub source: String,
}

/// How a number is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// NVIDIA published it.
    Published,
    /// This project saw it on a GPU.
    Measured,
    /// Somebody else says so.
    Secondary,
}

impl Gpu {
    /// Whether a driver's list of GPUs has this one, as far as is known.
    pub fn listed_by(&self, driver: &DriverVersion) -> Listed<'_> {
        if self.with_driver {
            return Listed::Yes;
        }
        let firsts = || self.first_driver.iter().chain(&self.first_in_branches);
        let Some(last) = firsts().last() else { return Listed::Unknown };
        // A branch without a first one of its own never got it, unless it is younger than the last that has one.
        let reached = firsts().take_while(|first| *first <= driver).last();
        match reached {
            Some(first) if first == last || first.branch() == driver.branch() => Listed::Yes,
            _ => firsts().find(|first| *first > driver).map_or(Listed::Yes, Listed::Since),
        }
    }
}

/// Whether a driver knows a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed<'a> {
    /// Its list has it.
    Yes,
    /// This is the next driver whose list has it.
    Since(&'a DriverVersion),
    /// No list that has it is known.
    Unknown,
}

#[derive(Deserialize)]
struct Table {
    gpu: Vec<Gpu>,
    model: Vec<Model>,
}

/// The form of what the driver calls so.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    name: String,
    form: String,
    #[serde(rename = "source")]
    _source: String,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| table::read(table::GPUS));
static ROWS: LazyLock<&[Gpu]> = LazyLock::new(|| &TABLE.gpu);
/// Cards: their NVLinks lead to bridges.
const CARDS: &str = "PCIe";

/// All GPUs.
pub fn gpus() -> &'static [Gpu] {
    &ROWS
}

/// The GPU of that name: `h100`, `RTX 4090`, `NVIDIA A100-SXM4-80GB`. Case, blanks, dashes and the makers' words
/// do not count.
///
/// # Errors
/// No row has the name; the error carries the nearest one.
pub fn gpu(name: &str) -> Result<&'static Gpu, UnknownName> {
    let wanted = fold(name);
    let has = |gpu: &&Gpu| {
        fold(&gpu.name) == wanted || gpu.aliases.iter().any(|alias| fold(alias) == wanted)
    };
    ROWS.iter().find(has).ok_or_else(|| {
        let names = ROWS.iter().flat_map(|gpu| gpu.aliases.iter().map(String::as_str));
        UnknownName::new("GPU", name, names)
    })
}

/// The GPU with that PCI device id (vendor 10de): `0x2330` or `2330`.
pub fn gpu_by_pci(id: &str) -> Option<&'static Gpu> {
    let id = id.trim_start_matches("0x").to_lowercase();
    ROWS.iter().find(|gpu| gpu.pci.contains(&id))
}

/// Whether all NVLinks of a GPU that the driver calls so are wired, as on a board: those of a card lead to bridges, which may
/// be absent. Nothing where its form is not known.
pub fn links_are_wired(model: &str) -> Option<bool> {
    let wanted = fold(model);
    let named = TABLE.model.iter().find(|row| fold(&row.name) == wanted);
    let form = named.map(|row| row.form.as_str());
    let form = form.or_else(|| gpu(model).ok()?.form.as_deref())?;
    Some(form != CARDS)
}

/// A name without case, separators and the words that every card has.
fn fold(name: &str) -> String {
    name.to_lowercase()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !matches!(*word, "nvidia" | "geforce" | "tesla" | "quadro"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, cc) in [
            ("h100", "9.0"),
            ("A100", "8.0"),
            ("v100", "7.0"),
            ("t4", "7.5"),
            ("gh200", "9.0"),
            ("b200", "10.0"),
            ("b300", "10.3"),
            ("l40s", "8.9"),
            ("rtx 4090", "8.9"),
            ("RTX4090", "8.9"),
            ("NVIDIA GeForce RTX 4090", "8.9"),
            ("NVIDIA H100 80GB HBM3", "9.0"),
            ("NVIDIA A100-SXM4-80GB", "8.0"),
            ("Tesla T4", "7.5"),
            ("5080", "12.0"),
            ("RTX 3090 Ti", "8.6"),
            ("3090ti", "8.6"),
            ("GeForce GTX 1080 Ti", "6.1"),
            ("1080ti", "6.1"),
            ("L20", "8.9"),
            ("A800", "8.0"),
            ("H20", "9.0"),
            ("H800", "9.0"),
            ("B200 NVL", "10.0"),
        ] {
            assert_eq!(gpu(name).unwrap().capability.to_string(), cc, "{name}");
        }
        assert_eq!(gpu("gh200").unwrap().host, Some(Machine::Aarch64));
        assert_eq!(gpu_by_pci("0x2330").unwrap().name, "H100 SXM5 80GB");
        assert_eq!(gpu("h10").unwrap_err().to_string(), "unknown GPU `h10`; did you mean `h100`?");
        assert_eq!(gpu("banana").unwrap_err().to_string(), "unknown GPU `banana`");
    }

    #[test]
    fn no_name_stands_for_two() {
        let mut names: Vec<String> = ROWS
            .iter()
            .flat_map(|gpu| {
                let mut own: Vec<_> = gpu.aliases.iter().map(|a| fold(a)).collect();
                own.push(fold(&gpu.name));
                own.sort();
                own.dedup();
                own
            })
            .collect();
        let all = names.len();
        names.sort();
        let before = names.clone();
        names.dedup();
        assert_eq!(names.len(), all, "{before:?}");
        let mut ids: Vec<_> = ROWS.iter().flat_map(|gpu| &gpu.pci).collect();
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all);
    }

    #[test]
    fn every_gpu_has_a_first_driver_or_the_reason_why_not() {
        for gpu in gpus() {
            let (known, why) = (gpu.first_driver.is_some(), gpu.first_driver_unknown.is_some());
            let said = [known, why, gpu.with_driver].into_iter().filter(|said| *said).count();
            assert_eq!(said, 1, "{}", gpu.name);
            let firsts: Vec<_> = gpu.first_driver.iter().chain(&gpu.first_in_branches).collect();
            let branches: Vec<u32> = firsts.iter().map(|first| first.branch()).collect();
            assert!(firsts.is_sorted() && branches.is_sorted_by(|a, b| a < b), "{}", gpu.name);
            let last = gpu.capability.row().and_then(crate::CapabilityRow::last_branch);
            assert!(branches.iter().all(|branch| last.is_none_or(|last| *branch <= last)));
        }
        let unknown: Vec<&str> = gpus()
            .iter()
            .filter(|gpu| gpu.first_driver_unknown.is_some())
            .map(|gpu| gpu.name.as_str())
            .collect();
        assert_eq!(unknown, ["B100", "M10"]);
    }

    #[test]
    fn a_driver_lists_a_gpu_from_its_own_branchs_first_on() {
        let says =
            |name: &str, driver: &str| match gpu(name).unwrap().listed_by(&driver.parse().unwrap())
            {
                Listed::Yes => "yes".to_owned(),
                Listed::Since(first) => first.to_string(),
                Listed::Unknown => "unknown".to_owned(),
            };
        // 545.29.06 has a higher number than 535.154.05 and is older.
        for (name, driver, wanted) in [
            ("4090 D", "535.104.05", "535.154.05"),
            ("4090 D", "535.183.01", "yes"),
            ("4090 D", "545.29.06", "550.40.07"),
            ("4090 D", "560.35.03", "yes"),
            ("5060 Ti", "570.133.07", "570.148.08"),
            ("5060 Ti", "580.95.05", "yes"),
            ("rtx pro 2000", "575.64.05", "580.76.05"),
            ("rtx pro 2000", "570.195.03", "yes"),
            ("t4", "418.67", "yes"),
            ("b100", "580.95.05", "unknown"),
            ("orin", "540.4.0", "yes"),
        ] {
            assert_eq!(says(name, driver), wanted, "{name} with {driver}");
        }
    }

    /// A bound rests on it: nobody's word alone, unnamed.
    #[test]
    fn every_highest_clock_says_whose_it_is() {
        for gpu in gpus() {
            let (clock, basis) = (gpu.sm_max_mhz.is_some(), gpu.sm_max_basis.is_some());
            let source = gpu.sm_max_source.as_deref().unwrap_or_default();
            assert!(clock == basis && clock != source.is_empty(), "{}", gpu.name);
            let measured = gpu.sm_max_basis == Some(Basis::Measured);
            assert!(!measured || source.starts_with("benches/runs/"), "{}", gpu.name);
        }
    }

    #[test]
    fn boards_and_cards() {
        for (name, wired) in [
            ("NVIDIA H100 80GB HBM3", Some(true)),
            ("NVIDIA H200", Some(true)),
            ("NVIDIA A800-SXM4-80GB", Some(true)),
            ("NVIDIA H800", Some(true)),
            ("NVIDIA H20", Some(true)),
            ("NVIDIA GB300", Some(true)),
            ("NVIDIA B300 SXM6 AC", Some(true)),
            ("NVIDIA H100 NVL", Some(false)),
            ("NVIDIA A800 40GB Active", Some(false)),
            ("NVIDIA A100-PCIE-40GB", Some(false)),
            ("NVIDIA A100 80GB PCIe", Some(false)),
            // A product of several forms, and one that nobody knows.
            ("A800", None),
            ("NVIDIA Z9", None),
        ] {
            assert_eq!(links_are_wired(name), wired, "{name}");
        }
        let known = ["PCIe", "SXM2", "SXM3", "SXM4", "SXM5", "SXM6", "NVL72", "Superchip"];
        let forms = TABLE.gpu.iter().filter_map(|gpu| gpu.form.as_deref());
        for form in forms.chain(TABLE.model.iter().map(|row| row.form.as_str())) {
            assert!(known.contains(&form), "{form}");
        }
        for gpu in gpus() {
            assert!(gpu.form_source.is_none() || gpu.form.is_some(), "{}", gpu.name);
        }
    }

    #[test]
    fn every_capability_has_a_row() {
        for gpu in gpus() {
            assert!(gpu.capability.row().is_some(), "{}: {}", gpu.name, gpu.capability);
        }
    }
}
