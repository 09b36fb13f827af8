//! The Python resolver that sconce drives.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::table;

/// Which uv is used.
#[derive(Debug, Clone, Deserialize)]
pub struct UvRow {
    /// The version installed when none is found.
    pub pinned: String,
    /// The oldest one that does what is asked of it.
    pub minimum: String,
}

#[derive(Deserialize)]
struct Table {
    uv: [UvRow; 1],
}

/// Which uv is used.
pub fn uv() -> &'static UvRow {
    static ROWS: LazyLock<Table> = LazyLock::new(|| table::read(table::UV));
    &ROWS.uv[0]
}
