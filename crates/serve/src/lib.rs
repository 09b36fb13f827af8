//! The store as a registry: what OCI's distribution-spec 1.1 asks of one for pulls, over HTTP/1.1, and for pushes
//! where whoever runs it says so ([`Pushes`]).
//!
//! An image has the names that `sconce images` shows. A tag that people know (`torch:2.15.0`) is locked
//! and built when it is first asked for. Blobs go out as they lie, layers of wheels straight from the
//! wheels; any blob of the store can be had by its digest, so that other machines take wheels and layers
//! from here. What is about an image (signatures, its lock, SBOM and provenance) is listed as its referrers.
//!
//! Connections are encrypted ([`sconce_listen::Tls`]) and logins asked for ([`sconce_listen::Logins`]) where whoever runs it says so.
//!
//! Whoever asks is a stranger: a request for a host that is not this one is refused ([`sconce_listen::Hosts`]), requests are
//! bounded in size and time, connections in number, and nothing of a request ever becomes a path.

mod answer;
mod beside;
mod body;
mod clients;
mod error;
mod fields;
mod images;
mod pushes;
mod range;
mod registry;
mod request;
mod route;
mod server;
mod specifications;
mod stores;
mod uploads;

pub use error::Error;
pub use pushes::Pushes;
pub use registry::Registry;
pub use request::{Framing, Request, Secret, Unreadable};
pub use route::{Route, route};
pub use server::{Limits, serve};
pub use specifications::{Allowed, Specifications};
pub use stores::{OpenStore, Stores};
