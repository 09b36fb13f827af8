//! OCI registries: what a reference names, its blobs as they come over the network, and what is sent
//! there.
//!
//! Nothing here stores what it reads, and nothing is believed: every document and blob is compared
//! with the digest it was asked for by. Source: OCI distribution-spec 1.1, image-spec 1.1.

mod access;
mod blob;
mod challenge;
mod client;
mod credential_helper;
mod error;
mod logins;
mod reference;
mod referrers;
mod upload;

pub use access::Access;
pub use blob::BlobReader;
pub use challenge::NoWay;
pub use client::{Image, Registry, Rights};
pub use error::Error;
pub use logins::{Login, Logins, docker_file, forget, save};
pub use reference::Reference;
pub use referrers::{Attached, Listed, Named};
pub use upload::{Outgoing, Sent};
