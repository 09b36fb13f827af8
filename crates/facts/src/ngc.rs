//! NVIDIA's PyTorch containers, and what is in them.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::{CudaVersion, table};

/// A release of nvcr.io/nvidia/pytorch.
#[derive(Debug, Clone, Deserialize)]
pub struct NgcRelease {
    /// "24.05".
    pub name: String,
    /// Its torch, a pre-release of PyTorch's main branch: "2.4.0a0+07cecf4168".
    pub torch: String,
    /// The public release that was made of it: "2.4.0".
    pub nearest: String,
    /// Its CUDA.
    pub cuda: CudaVersion,
    /// Its Python: "3.10".
    pub python: String,
}

#[derive(Deserialize)]
struct Table {
    release: Vec<NgcRelease>,
}

static ROWS: LazyLock<Table> = LazyLock::new(|| table::read(table::NGC));

/// All that are known, oldest first.
pub fn ngc_releases() -> &'static [NgcRelease] {
    &ROWS.release
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_release_has_a_public_torch() {
        let releases = ngc_releases();
        assert!(releases.is_sorted_by(|a, b| a.name < b.name));
        for row in releases {
            assert!(crate::release(&row.nearest).is_ok(), "{}: {}", row.name, row.nearest);
            assert!(row.torch.starts_with(&format!("{}a0+", row.nearest)), "{}", row.name);
        }
    }
}
