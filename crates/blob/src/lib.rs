//! What a blob is: its digest, and a blob described as pieces of other blobs.
//!
//! Everything sconce keeps is named by the SHA-256 of its bytes (OCI image-spec, "Digests").
//! A virtual blob ([`Assembly`]) has no bytes of its own beyond its literals: it says in which
//! order pieces of other blobs follow each other. A re-framed wheel layer is one.

mod assembly;
mod digest;

pub use assembly::{Assembly, Segment};
pub use digest::{Digest, Hasher, HashingReader, HashingWriter, ParseDigestError};
