//! gzip members (RFC 1952) around deflate streams that already exist, and around bytes that are
//! stored without compression (RFC 1951, 3.2.4): nothing here depends on a compressor.

use sconce_blob::{Assembly, Digest};

/// The first ten bytes of every member: deflate, no flags, no time, no extra flags, unknown
/// system.
pub const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// The most bytes of one stored block.
pub const STORED_MAX: u64 = 0xffff;

/// The last eight bytes of a member: CRC-32 and length of what it unpacks to, modulo 2^32.
pub fn trailer(crc: u32, size: u64) -> [u8; 8] {
    let mut out = [0; 8];
    out[..4].copy_from_slice(&crc.to_le_bytes());
    out[4..].copy_from_slice(&(size as u32).to_le_bytes());
    out
}

/// A piece of a blob that holds a file's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Which blob.
    pub blob: Digest,
    /// Where in it, bytes.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
    /// CRC-32 of the unpacked file.
    pub crc: u32,
    /// Length of the unpacked file.
    pub size: u64,
}

/// Appends a member that holds `bytes` in stored blocks.
pub fn stored(out: &mut Assembly, bytes: &[u8]) {
    out.literal(&HEADER);
    let mut rest = bytes;
    loop {
        let (block, after) = rest.split_at(rest.len().min(STORED_MAX as usize));
        out.literal(&block_header(block.len() as u16, after.is_empty()));
        out.literal(block);
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    out.literal(&trailer(crc32fast::hash(bytes), bytes.len() as u64));
}

/// Appends a member around a deflate stream that stands in a blob.
pub fn deflated(out: &mut Assembly, piece: &Piece) {
    out.literal(&HEADER);
    out.blob(piece.blob, piece.offset, piece.len);
    out.literal(&trailer(piece.crc, piece.size));
}

/// Appends a member that stores, uncompressed, bytes that stand in a blob. There must be some.
pub fn stored_piece(out: &mut Assembly, piece: &Piece) {
    out.literal(&HEADER);
    let mut at = 0;
    while at < piece.len {
        let len = (piece.len - at).min(STORED_MAX);
        out.literal(&block_header(len as u16, at + len == piece.len));
        out.blob(piece.blob, piece.offset + at, len);
        at += len;
    }
    out.literal(&trailer(piece.crc, piece.size));
}

/// The header of a stored block: the flag of the last block, its length, its length inverted.
fn block_header(len: u16, last: bool) -> [u8; 5] {
    let [low, high] = len.to_le_bytes();
    [last as u8, low, high, !low, !high]
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::MultiGzDecoder;

    use super::*;

    #[test]
    fn stored_members_read_back_at_every_block_border() {
        for len in [0usize, 1, 65534, 65535, 65536, 131070, 131071] {
            let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let mut out = Assembly::default();
            stored(&mut out, &bytes);
            stored(&mut out, b"next");
            let blocks = len.div_ceil(65535).max(1);
            assert_eq!(out.len(), (18 + 5 * blocks + len + 18 + 5 + 4) as u64, "{len}");
            let mut back = Vec::new();
            MultiGzDecoder::new(&out.literals[..]).read_to_end(&mut back).unwrap();
            assert_eq!(back, [&bytes[..], b"next"].concat(), "{len}");
        }
    }

    #[test]
    fn sizes_are_modulo_two_to_the_32() {
        assert_eq!(trailer(0x0403_0201, (1 << 32) + 5), [1, 2, 3, 4, 5, 0, 0, 0]);
    }
}
