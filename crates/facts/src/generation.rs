//! Generations of GPUs before Turing, by PCI device id.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::table;

/// A generation that only proprietary kernel modules serve, and whose support has ended.
#[derive(Debug, Deserialize)]
pub struct Generation {
    from: String,
    to: String,
    /// `Pascal`.
    pub name: String,
    /// The last driver branch that supports it: `R580`.
    pub last_driver: String,
}

#[derive(Deserialize)]
struct Table {
    generation: Vec<Generation>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| table::read(table::GENERATIONS));

/// The generation of a PCI device id of NVIDIA's (`1b80`, `0x1b80`); none from Turing on.
pub fn generation_by_pci(id: &str) -> Option<&'static Generation> {
    let number = |text: &str| u16::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let id = number(id)?;
    TABLE.generation.iter().find(|row| {
        number(&row.from).zip(number(&row.to)).is_some_and(|(from, to)| (from..=to).contains(&id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_by_their_chips() {
        for (id, name) in
            [("1b06", "Pascal"), ("0x1DB6", "Volta"), ("102d", "Kepler"), ("1402", "Maxwell")]
        {
            assert_eq!(generation_by_pci(id).unwrap().name, name, "{id}");
        }
        for turing in ["1e02", "2182", "2330", "2b85", "", "xyz", "12345"] {
            assert!(generation_by_pci(turing).is_none(), "{turing}");
        }
    }

    /// The rows of single GPUs say the same.
    #[test]
    fn gpus_have_the_last_driver_of_their_generation() {
        for gpu in crate::gpus() {
            for id in &gpu.pci {
                let last = gpu.capability.row().and_then(|row| row.last_driver.as_deref());
                let generation = generation_by_pci(id).map(|row| &*row.last_driver);
                assert_eq!(generation, last, "{} ({id})", gpu.name);
            }
        }
    }
}
