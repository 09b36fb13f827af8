//! OCI registries: what a reference names, and its blobs as they come over the network.
//!
//! Nothing here stores what it reads, and nothing is believed: every document and blob is compared
//! with the digest it was asked for by. Source: OCI distribution-spec 1.1, image-spec 1.1.

mod auth;
mod blob;
mod client;
mod error;
mod image;
mod reference;

pub use auth::Logins;
pub use blob::BlobReader;
pub use client::Registry;
pub use error::Error;
pub use image::{Descriptor, Image};
pub use reference::Reference;
