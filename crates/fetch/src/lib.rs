//! Downloads: indexes, wheels and debs, with resume, retries and verification.

pub mod apt;
mod certificates;
mod dns;
pub mod downloads;
mod error;
pub mod http;
pub mod indexes;
mod netrc;
pub mod peers;
pub mod pypi;
pub mod pythons;
pub mod range;
pub mod uv;

pub use certificates::{Certificates, Fault as CertificateFault, Held as CertificateHeld};
pub use error::{Error, about};
pub use netrc::{Login, Netrc};

/// The path that a `file:` address names on this machine.
pub fn local_path(url: &str) -> Option<std::path::PathBuf> {
    http::parse(url).ok().and_then(|url| http::local_path(&url).ok().flatten())
}
