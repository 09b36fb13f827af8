//! SHA-256 of one run of bytes into two sums at once.
//!
//! A file's bytes go into the DiffID and into the sum that RECORD has. SHA-256 waits for its own
//! last step; with the block function called for one sum and then the other, the processor works
//! on both at the same time: 0.90 s instead of 1.26 s a gibibyte [measured, with SHA-NI].

use sconce_blob::Digest;
use sha2::block_api::compress256;

/// The bytes of a block of SHA-256.
const BLOCK: usize = 64;

/// FIPS 180-4, 5.3.3.
const START: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// A SHA-256 under way. The work on blocks is that of the `sha2` crate.
#[derive(Clone)]
pub struct Sha256 {
    state: [u32; 8],
    /// Bytes taken so far.
    len: u64,
    /// The last bytes, fewer than a block: `len % 64` of them.
    tail: [u8; BLOCK],
}

impl Sha256 {
    /// Nothing taken yet.
    pub const fn new() -> Self {
        Self { state: START, len: 0, tail: [0; BLOCK] }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let bytes = self.complete(bytes);
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        compress256(&mut self.state, blocks);
        self.keep(rest, blocks.len());
    }

    /// Takes the next bytes of both, which are the same.
    pub fn update_both(&mut self, other: &mut Self, bytes: &[u8]) {
        if self.held() != 0 || other.held() != 0 {
            // Files start at a block of the tar, so this is for callers that feed odd pieces.
            self.update(bytes);
            other.update(bytes);
            return;
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        for block in blocks {
            compress256(&mut self.state, std::slice::from_ref(block));
            compress256(&mut other.state, std::slice::from_ref(block));
        }
        self.keep(rest, blocks.len());
        other.keep(rest, blocks.len());
    }

    /// The digest of all bytes taken (FIPS 180-4, 5.1.1).
    pub fn finish(mut self) -> Digest {
        let bits = self.len.wrapping_mul(8).to_be_bytes();
        let zeros = (2 * BLOCK - 1 - bits.len() - self.held()) % BLOCK;
        let mut padding = [0; 2 * BLOCK];
        padding[0] = 0x80;
        padding[1 + zeros..1 + zeros + bits.len()].copy_from_slice(&bits);
        self.update(&padding[..1 + zeros + bits.len()]);
        let mut digest = [0; 32];
        for (four, word) in digest.chunks_exact_mut(4).zip(self.state) {
            four.copy_from_slice(&word.to_be_bytes());
        }
        Digest::from_bytes(digest)
    }

    /// How many bytes it has taken.
    pub fn len(&self) -> u64 {
        self.len
    }

    fn held(&self) -> usize {
        (self.len % BLOCK as u64) as usize
    }

    /// Completes the block begun, as far as the bytes go. Returns those left.
    fn complete<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let held = self.held();
        if held == 0 {
            return bytes;
        }
        let (now, later) = bytes.split_at(bytes.len().min(BLOCK - held));
        self.tail[held..held + now.len()].copy_from_slice(now);
        self.len = self.len.wrapping_add(now.len() as u64);
        if self.held() == 0 && !now.is_empty() {
            compress256(&mut self.state, std::slice::from_ref(&self.tail));
        }
        later
    }

    /// Counts whole blocks and keeps what follows them. A block begun is complete by now, or
    /// there is nothing to keep.
    fn keep(&mut self, rest: &[u8], blocks: usize) {
        if !rest.is_empty() {
            self.tail[..rest.len()].copy_from_slice(rest);
        }
        self.len = self.len.wrapping_add((blocks * BLOCK + rest.len()) as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_library_at_every_length_and_split() {
        let bytes: Vec<u8> = (0..400u32).map(|n| (n * 7) as u8).collect();
        for len in 0..bytes.len() {
            let bytes = &bytes[..len];
            for split in [0, 1, 63, 64, 65, 128, 200] {
                let (first, second) = bytes.split_at(split.min(len));
                let (mut one, mut two) = (Sha256::new(), Sha256::new());
                one.update(first);
                one.update(second);
                assert_eq!(one.finish(), Digest::of(bytes), "{len} at {split}");
                let mut other = Sha256::new();
                other.update(&[9; 64]);
                two.update_both(&mut other, first);
                two.update_both(&mut other, second);
                assert_eq!(two.finish(), Digest::of(bytes), "{len} at {split}");
                assert_eq!(other.finish(), Digest::of(&[&[9; 64], bytes].concat()));
            }
        }
    }
}
