//! Downloads: indexes, wheels and debs, with resume, retries and verification.

pub mod downloads;
mod error;
pub mod http;
mod netrc;

pub use error::Error;
pub use netrc::{Login, Netrc};
