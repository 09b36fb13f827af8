//! The content-addressed store: blobs, virtual layers, extracted trees, images, OCI layouts.

mod blobs;
mod docker_archive;
mod durable;
mod error;
mod extract;
mod images;
mod layers;
mod lock;
mod oci;
mod prune;
mod reader;
mod remove;
mod store;
mod tree;
mod virtuals;

pub use blobs::BlobWriter;
pub use error::Error;
pub use images::{Image, Lease};
pub use layers::Layer;
pub use lock::ObjectLock;
pub use prune::{Policy, Pruned, Which};
pub use reader::BlobReader;
pub use store::{Store, default_root};
pub use tree::{Meta, TreeBuilder, TreeFile, Twice};
