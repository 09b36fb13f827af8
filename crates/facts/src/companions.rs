//! Packages with native code for torch, and what must agree with the torch beside them.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::{CudaVersion, table};

/// How far a package's CUDA must be torch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Agree {
    /// Major and minor.
    Minor,
    /// The major.
    Major,
    /// Not at all: it has modules for several, or none.
    Any,
}

#[derive(Deserialize)]
struct Table {
    companion: Vec<Companion>,
    built: Vec<Built>,
}

#[derive(Deserialize)]
struct Companion {
    package: String,
    agree: Agree,
}

#[derive(Deserialize)]
struct Built {
    package: String,
    version: String,
    cuda: CudaVersion,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| table::read(table::COMPANIONS));

/// How far the CUDA of a package must be torch's; `None` for a package that the facts do not have.
pub fn companion(package: &str) -> Option<Agree> {
    TABLE.companion.iter().find(|row| row.package == package).map(|row| row.agree)
}

/// The CUDA that a release on PyPI is built for, where the facts have it.
pub fn built_for(package: &str, version: &str) -> Option<CudaVersion> {
    let is = |row: &&Built| row.package == package && row.version == version;
    TABLE.built.iter().find(is).map(|row| row.cuda)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_reached() {
        assert_eq!(companion("torchaudio"), Some(Agree::Minor));
        assert_eq!(companion("bitsandbytes"), Some(Agree::Any));
        assert_eq!(companion("numpy"), None);
        assert_eq!(built_for("torchaudio", "2.11.0"), "13.0".parse().ok());
        assert_eq!(built_for("torchaudio", "2.12.0"), None);
        for row in &TABLE.built {
            assert!(companion(&row.package).is_some(), "{} {}", row.package, row.version);
        }
    }
}
