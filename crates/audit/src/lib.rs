//! What is in an image and what changed: the difference of two locks or images, the SBOM, provenance.
//!
//! All are functions of what they are handed: no clock, no network, no random number is in them.

mod bill;
mod contents;
mod cyclonedx;
mod difference;
mod gpus;
mod markdown;
mod outdated;
mod page;
mod purl;
mod spdx;
mod statements;

pub use bill::{Bill, BillError, Said};
pub use contents::{Contents, Kind, LayerSize};
pub use difference::{Change, Difference, FactChange, How, LayerChange, PackageChange, difference};
pub use gpus::{Gpus, Served};
pub use outdated::{Outdated, Row as OutdatedRow, Torch as OutdatedTorch, outdated};
pub use statements::{
    Attachment, LOCK_FILE, PROVENANCE_FILE, SBOM_FILE, attachments, bom, provenance,
};
