//! Payloads of fatbin entries, unpacked: raw LZ4 blocks and zstd frames.
//!
//! Source: LZ4 "Block Format Description"; RFC 8878 for zstd; which one stands in the entry's flags.

use std::io::{self, Read};

use crate::fatbin::{Entry, Packing};
use crate::read::ReadAt;
use sconce_oci::Zstd;

/// Payloads that take more than this in the file are not unpacked, bytes.
const MAX_PACKED: u64 = 1 << 20;
/// Nor those that claim to become more than this.
const MAX_UNPACKED: u64 = 16 << 20;

/// The payload of `entry`; `None` when it is too large, cut off or not what its header says.
pub fn payload(file: &dyn ReadAt, entry: &Entry) -> Option<Vec<u8>> {
    if entry.packed > MAX_PACKED || entry.unpacked > MAX_UNPACKED {
        return None;
    }
    let mut packed = vec![0; entry.packed as usize];
    if file.read_at(&mut packed, entry.payload).ok()? < packed.len() {
        return None;
    }
    let size = entry.unpacked as usize;
    match entry.packing {
        Packing::None => Some(packed),
        Packing::Lz4 => lz4(&packed, size),
        Packing::Zstd => zstd(&packed, size).ok(),
    }
}

fn zstd(packed: &[u8], size: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    Zstd::new(packed).take(size as u64).read_to_end(&mut out)?;
    if out.len() < size { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(out) }
}

/// One raw block of `size` bytes when unpacked.
fn lz4(mut packed: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    while out.len() < size {
        let (&token, rest) = packed.split_first()?;
        packed = rest;
        let literals = length(token >> 4, &mut packed)?;
        let (bytes, rest) = packed.split_at_checked(literals)?;
        packed = rest;
        out.extend_from_slice(bytes);
        // The last sequence has literals only.
        if packed.is_empty() {
            break;
        }
        let (distance, rest) = packed.split_first_chunk::<2>()?;
        packed = rest;
        let distance = usize::from(u16::from_le_bytes(*distance));
        let count = length(token & 15, &mut packed)?.checked_add(4)?;
        let from = out.len().checked_sub(distance).filter(|_| distance > 0)?;
        if out.len().checked_add(count)? > size {
            return None;
        }
        // What is copied may reach into what the copy itself writes.
        for at in from..from + count {
            out.push(out[at]);
        }
    }
    (out.len() == size).then_some(out)
}

/// A length of which `first` is the part in the token; 15 means that more bytes follow.
fn length(first: u8, packed: &mut &[u8]) -> Option<usize> {
    let mut length = usize::from(first);
    if first == 15 {
        loop {
            let (&more, rest) = packed.split_first()?;
            *packed = rest;
            length = length.checked_add(usize::from(more))?;
            if more < 255 {
                break;
            }
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_matches_and_long_lengths() {
        // "ab", then 4 + 15 + 3 bytes from 2 back, then "c".
        let packed = [0x2f, b'a', b'b', 2, 0, 3, 0x10, b'c'];
        let whole = [b"ab".repeat(12), b"c".to_vec()].concat();
        assert_eq!(lz4(&packed, whole.len()), Some(whole.clone()));
        for len in 0..packed.len() {
            assert_eq!(lz4(&packed[..len], whole.len()), None, "{len}");
        }
        for at in 0..packed.len() {
            for value in 0..=255 {
                let mut bad = packed;
                bad[at] = value;
                assert!(lz4(&bad, 25).is_none_or(|out| out.len() == 25));
            }
        }
    }
}
