//! Packages whose files are to replace those of another.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::table;

/// A package over another.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlay {
    /// The package whose files are taken, normalised.
    pub package: String,
    /// The one that has others at the same paths.
    pub over: String,
    #[serde(rename = "source")]
    _source: String,
}

#[derive(Deserialize)]
struct Table {
    overlay: Vec<Overlay>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| table::read(table::OVERLAYS));

/// All of them.
pub fn overlays() -> &'static [Overlay] {
    &TABLE.overlay
}
