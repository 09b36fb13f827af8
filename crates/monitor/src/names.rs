//! The names under which metrics are given out: dcgm-exporter's, as rows of `data/dcgm.toml`.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::metric::{METRICS, Metric};

/// Which of dcgm-exporter's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Those up to 4.8, which public dashboards ask for.
    Dcgm,
    /// Those of 4.9, as far as they are known.
    Dcgm49,
    /// Both.
    Both,
    /// None: only our own.
    None,
}

impl Names {
    /// Whether there are those up to 4.8, and those of 4.9.
    pub(crate) fn both(self) -> [bool; 2] {
        [matches!(self, Self::Dcgm | Self::Both), matches!(self, Self::Dcgm49 | Self::Both)]
    }
}

/// The last error of a GPU, up to 4.8 and since 4.9.
pub(crate) const XID: [&str; 2] = ["DCGM_FI_DEV_XID_ERRORS", "DCGM_FI_DEV_XID_ERROR"];
/// The label with the driver's version, up to 4.8 and since 4.9.
pub(crate) const DRIVER_VERSION: [&str; 2] =
    ["DCGM_FI_DRIVER_VERSION", "DCGM_FI_SYSTEM_DRIVER_VERSION"];

/// A metric of dcgm-exporter.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// `DCGM_FI_DEV_GPU_TEMP`.
    pub name: String,
    /// `gauge` or `counter`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HELP line.
    pub help: String,
    /// The key of our metric.
    pub from: String,
    /// What our value is multiplied by.
    pub times: f64,
    /// It counts in whole units.
    #[serde(default)]
    pub whole: bool,
    /// It is not among the defaults there: for who reads the table.
    #[serde(default, rename = "optional")]
    pub _optional: bool,
    /// Its name since 4.9.
    pub v4_9: Option<String>,
    /// What our value is multiplied by since 4.9, where that is another number.
    pub v4_9_times: Option<f64>,
}

#[derive(Deserialize)]
struct Table {
    metric: Vec<Row>,
}

/// The rows, each with its metric.
pub(crate) static ROWS: LazyLock<Vec<(Row, Metric)>> = LazyLock::new(|| {
    // The table is part of the program: a test reads it.
    let table: Table = toml::from_str(include_str!("../data/dcgm.toml"))
        .unwrap_or_else(|_| Table { metric: Vec::new() });
    let rows = table.metric.into_iter().filter_map(|row| {
        let metric = METRICS.iter().find(|metric| metric.key() == row.from)?;
        Some((row, *metric))
    });
    rows.collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_metric_and_a_source() {
        let text = include_str!("../data/dcgm.toml");
        let table: Table = toml::from_str(text).unwrap();
        assert_eq!(table.metric.len(), ROWS.len(), "a row whose `from` is no metric");
        let head: toml::Table = toml::from_str(text).unwrap();
        assert!(head["source"].is_str() && head["date"].is_str());
        for (row, _) in ROWS.iter() {
            assert!(row.name.starts_with("DCGM_FI_") && !row.help.is_empty());
            assert!(["gauge", "counter"].contains(&row.kind.as_str()), "{}", row.name);
        }
        let mut names: Vec<_> = ROWS.iter().map(|(row, _)| &row.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), ROWS.len());
    }
}
