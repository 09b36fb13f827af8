//! Wheels, debs and plain files to deterministic layers, image configuration and manifest.

mod entry;
mod unpack;

pub use entry::{Content, Entry, Kind, MAX_PART, MAX_PATH, Meta, PathFault, ReadAt, check_path};
pub use unpack::Unpack;
