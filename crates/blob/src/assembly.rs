//! A blob described as pieces of other blobs and literal bytes between them.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The next bytes of a virtual blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Segment {
    /// The next `len` bytes of [`Assembly::literals`].
    Literal {
        /// Bytes.
        len: u64,
    },
    /// A piece of another blob.
    Blob {
        /// Which blob.
        digest: Digest,
        /// Where in it the piece starts, bytes.
        offset: u64,
        /// Its length, bytes.
        len: u64,
    },
}

/// A virtual blob: the bytes of its segments one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assembly {
    /// In the order of the bytes.
    pub segments: Vec<Segment>,
    /// The bytes of all literal segments, one after the other.
    pub literals: Vec<u8>,
}

impl Assembly {
    /// Appends literal bytes; neighbouring literals become one segment.
    pub fn literal(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.literals.extend_from_slice(bytes);
        match self.segments.last_mut() {
            Some(Segment::Literal { len }) => *len += bytes.len() as u64,
            _ => self.segments.push(Segment::Literal { len: bytes.len() as u64 }),
        }
    }

    /// Appends a piece of another blob.
    pub fn blob(&mut self, digest: Digest, offset: u64, len: u64) {
        if len > 0 {
            self.segments.push(Segment::Blob { digest, offset, len });
        }
    }

    /// The virtual blob's length in bytes.
    pub fn len(&self) -> u64 {
        self.segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal { len } | Segment::Blob { len, .. } => *len,
            })
            .sum()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }
}
