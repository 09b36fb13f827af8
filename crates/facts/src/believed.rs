//! What a machine can say of a GPU, and what is no answer.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::{Gpu, gpus, table};

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// The clock of the multiprocessors now, MHz.
    SmClock,
    /// The highest that they can have, MHz.
    HighestSmClock,
    /// The clock of the memory now, MHz.
    MemoryClock,
    /// What a board draws, or may draw, W.
    Power,
    /// What it is heated to, degrees Celsius.
    Temperature,
    /// Processes on it.
    Processes,
    /// Its memory, GB.
    Memory,
    /// The lanes of its link.
    PcieLanes,
}

/// A column of the GPUs' table.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Column {
    SmMaxMhz,
    TdpW,
    MemoryGb,
}

impl Column {
    fn of(self, gpu: &Gpu) -> Option<f64> {
        match self {
            Self::SmMaxMhz => gpu.sm_max_mhz.map(f64::from),
            Self::TdpW => gpu.tdp_w,
            Self::MemoryGb => gpu.memory_gb,
        }
    }

    fn largest(self) -> f64 {
        gpus().iter().filter_map(|gpu| self.of(gpu)).fold(0.0, f64::max)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    what: Said,
    #[allow(dead_code)]
    unit: String,
    of: Option<Column>,
    above: Option<f64>,
    most: Option<f64>,
    unknown: Option<f64>,
    one_of: Option<Vec<f64>>,
    #[allow(dead_code)]
    source: String,
}

#[derive(Deserialize)]
struct Table {
    believed: Vec<Row>,
}

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| table::read::<Table>(table::BELIEVED).believed);

impl Row {
    fn holds(&self, value: f64, product: Option<&Gpu>) -> bool {
        if let Some(numbers) = &self.one_of {
            return numbers.contains(&value);
        }
        let (above, most) = (self.above.unwrap_or(0.0), self.most.unwrap_or(f64::INFINITY));
        let (above, most) =
            match self.of.map(|column| (column, product.and_then(|its| column.of(its)))) {
                None => (above, most),
                Some((_, Some(has))) => (above * has, most * has),
                Some((column, None)) => (0.0, self.unknown.unwrap_or(1.0) * column.largest()),
            };
        value > above && value <= most
    }
}

/// Whether a GPU of this product, or of one that is not known, can have what is said of it.
pub fn is_believed(what: Said, value: f64, product: Option<&Gpu>) -> bool {
    ROWS.iter().filter(|row| row.what == what).all(|row| row.holds(value, product))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Said; 8] = [
        Said::SmClock,
        Said::HighestSmClock,
        Said::MemoryClock,
        Said::Power,
        Said::Temperature,
        Said::Processes,
        Said::Memory,
        Said::PcieLanes,
    ];

    #[test]
    fn everything_that_is_said_has_one_row_and_a_bound() {
        for what in ALL {
            let rows: Vec<&Row> = ROWS.iter().filter(|row| row.what == what).collect();
            let [row] = rows.as_slice() else { panic!("{what:?} has {} rows", rows.len()) };
            assert_eq!(row.one_of.is_some(), row.most.is_none(), "{what:?}");
            assert_eq!(row.of.is_some(), row.unknown.is_some(), "{what:?}");
            assert!(row.above.zip(row.most).is_none_or(|(above, most)| above < most), "{what:?}");
        }
        assert_eq!(ROWS.len(), ALL.len());
    }

    /// What NVML answers where it has no answer, and what a broken one says.
    #[test]
    fn what_no_gpu_has_is_never_believed() {
        let products = gpus().iter().map(Some).chain([None]);
        for product in products {
            for what in ALL {
                for value in [f64::from(u32::MAX), f64::from(u32::MAX) / 1e3, -1.0, f64::NAN] {
                    assert!(!is_believed(what, value, product), "{what:?} {value} {product:?}");
                }
            }
            assert!(is_believed(Said::Processes, 0.0, product));
        }
    }

    /// A row that its own product does not fulfil would hide what is right.
    #[test]
    fn every_product_is_believed_to_be_what_its_row_says() {
        for gpu in gpus() {
            for (what, value) in [
                (Said::SmClock, gpu.sm_max_mhz.map(f64::from)),
                (Said::HighestSmClock, gpu.sm_max_mhz.map(f64::from)),
                (Said::Power, gpu.tdp_w),
                (Said::Memory, gpu.memory_gb),
                (Said::PcieLanes, gpu.pcie_lanes.map(f64::from)),
            ] {
                let holds =
                    |value| is_believed(what, value, Some(gpu)) && is_believed(what, value, None);
                assert!(value.is_none_or(holds), "{} {what:?}", gpu.name);
            }
        }
        // Those that no row of the table has yet: a GeForce's clock, GDDR7, a board of the next generation.
        assert!(is_believed(Said::SmClock, 3105.0, None));
        assert!(is_believed(Said::MemoryClock, 15_001.0, None));
        assert!(is_believed(Said::Power, 2300.0, None));
        let h100 = crate::gpu("h100").unwrap();
        for (what, value, expected) in [
            (Said::SmClock, 1980.0, true),
            (Said::SmClock, 1981.0, false),
            (Said::SmClock, 0.0, false),
            (Said::HighestSmClock, 990.0, false),
            (Said::HighestSmClock, 1755.0, true),
            (Said::Power, 1400.0, true),
            (Said::Power, 1401.0, false),
            (Said::Temperature, 151.0, false),
            (Said::PcieLanes, 24.0, false),
        ] {
            assert_eq!(is_believed(what, value, Some(h100)), expected, "{what:?} {value}");
        }
    }
}
