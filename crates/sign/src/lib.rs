//! Signatures of images and what is signed about them: the forms that cosign writes and reads.
//!
//! A signature is a file in a registry next to the image. Two forms are in use: a *bundle*, which refers
//! to the image as OCI's referrers do (cosign 3), and a layer of the tag `sha256-HEX.sig` (all older
//! ones). Both are read and written here, from bytes to bytes: no network, no files, no clock.
//!
//! All that is read comes from a registry, which anybody may have written to. Only two things are
//! believed: a key that the caller names, and the bytes that this key has signed.

mod bundle;
mod error;
mod json;
mod key;
mod pem;
mod secret;
mod simple;
mod statement;
mod verdict;

pub use bundle::{BUNDLE, CONTENT, PREDICATE_TYPE};
pub use error::Error;
pub use key::{PrivateKey, PublicKey};
pub use simple::{SIGNATURE, SIMPLE_SIGNING};
pub use statement::{LOCK, PROVENANCE, SBOM, SIGNED, Statement};
pub use verdict::{Claim, Evidence, Finding, Verdict, judge};

/// The longest bundle or payload that is read, bytes. One with the SBOM of a large image has some
/// hundred KiB.
pub const MAX_DOCUMENT: u64 = 8 << 20;
/// The longest file of a key, bytes.
pub const MAX_KEY: u64 = 64 << 10;
