//! What packages of conda are here.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::table;

/// A package of conda.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conda {
    /// Its name in conda.
    pub package: String,
    /// Its name on PyPI, normalised, where that is the same software as a wheel.
    pub pypi: Option<String>,
    /// Its version is the CUDA that torch has.
    #[serde(default)]
    pub cuda: bool,
    /// It is in each image anyway, or is nothing outside conda.
    #[serde(default)]
    pub own: bool,
}

#[derive(Deserialize)]
struct Table {
    conda: Vec<Conda>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| table::read(table::CONDA));

/// What a package of conda is here; `None` where that is not known.
pub fn conda(package: &str) -> Option<&'static Conda> {
    TABLE.conda.iter().find(|row| row.package == package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_says_one_thing_and_stands_once() {
        for row in &TABLE.conda {
            let said = [row.pypi.is_some(), row.cuda, row.own];
            assert_eq!(said.into_iter().filter(|said| *said).count(), 1, "{row:?}");
            assert_eq!(conda(&row.package), Some(row));
        }
    }
}
