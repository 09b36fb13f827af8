//! Wheels, debs and plain files to deterministic layers, image configuration and manifest.
//!
//! Wheels are not recompressed: [`plan`] lays a wheel's own deflate streams out as gzip members
//! of a tar, and [`assemble_all`] digests, checks and unpacks them in one pass. The format is
//! written down in docs/format/wheel-layer.md.
//!
//! Nothing here looks at the clock, the environment or the network, or runs what it reads.

mod ahead;
mod assemble;
mod content;
mod entry;
mod error;
mod gzip;
pub mod image;
mod install;
mod metadata;
mod overlap;
mod pass;
mod plain;
mod plan;
mod record;
mod sha;
mod slots;
mod tar;
mod unpack;
mod wheel;
mod zip;

pub use assemble::{Assembled, Job, Layer, LayerProgress, Parts, assemble_all, assemble_parts};
pub use content::ContentFault;
pub use entry::{Content, Entry, Kind, MAX_PART, MAX_PATH, Meta, PathFault, ReadAt, check_path};
pub use error::Error;
pub use install::Venv;
pub use metadata::MetadataFault;
pub use overlap::{Listing, Overlap};
pub use plain::{compress_tar, plain, plain_tar};
pub use plan::{LayerPlan, MAX_OWN_LAYERS, OWN_LAYER, Planned, Stray, own_layer, plan, plan_own};
pub use record::RecordFault;
pub use unpack::Unpack;
pub use wheel::Wheel;
pub use zip::ZipFault;
