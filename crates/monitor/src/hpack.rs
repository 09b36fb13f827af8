//! What is wanted of a server's block of headers: `:status`, `grpc-status`, `grpc-message` (RFC 7541).
//!
//! No dynamic table is kept: the server was told that ours has no bytes. What can't be read is not known, and no error.

use crate::grpc::tame;

/// What a block says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) http: Option<u32>,
    pub(crate) status: Option<u32>,
    pub(crate) message: String,
}

/// The values of `:status` in the static table, from index 8 on (RFC 7541, appendix A).
const STATUSES: [u32; 7] = [200, 204, 206, 304, 400, 404, 500];

/// Characters of Huffman's code by their bits (RFC 7541, appendix B); it is canonical, so that these make the codes.
/// Longer codes are of characters that no status has, and few messages.
const CODES: &[(u32, &[u8])] = &[
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
];

/// Reads a block, as far as it can be read.
pub(crate) fn read(block: &[u8]) -> Found {
    let mut found = Found::default();
    let mut at = block;
    while one(&mut at, &mut found).is_some() {}
    found
}

/// One field; nothing at the end, and where it is not understood.
fn one(at: &mut &[u8], found: &mut Found) -> Option<()> {
    let first = *at.first()?;
    // A field of a table.
    if first & 0x80 != 0 {
        let index = number(at, 7)?;
        if let Some(status) = index.checked_sub(8).and_then(|place| STATUSES.get(place)) {
            found.http = Some(*status);
        }
        return Some(());
    }
    // A new size of the dynamic table.
    if first & 0xe0 == 0x20 {
        number(at, 5)?;
        return Some(());
    }
    // A literal: with indexing, or without.
    let index = number(at, if first & 0x40 != 0 { 6 } else { 4 })?;
    let name = match index {
        0 => string(at)?,
        8..=14 => Some(b":status".to_vec()),
        _ => None,
    };
    let value = string(at)?;
    let (Some(name), Some(value)) = (name, value) else { return Some(()) };
    let count = || std::str::from_utf8(&value).ok()?.parse::<u32>().ok();
    match name.as_slice() {
        b":status" => found.http = count(),
        b"grpc-status" => found.status = count(),
        b"grpc-message" => found.message = tame(&value),
        _ => {}
    }
    Some(())
}

/// A number whose first byte has so many bits of it (RFC 7541, 5.1).
fn number(at: &mut &[u8], bits: u32) -> Option<usize> {
    let most = (1usize << bits) - 1;
    let mut take = || {
        let (first, rest) = at.split_first()?;
        *at = rest;
        Some(usize::from(*first))
    };
    let mut value = take()? & most;
    if value < most {
        return Some(value);
    }
    for shift in [0, 7, 14] {
        let next = take()?;
        value += (next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A string; nothing within where its code is not known here.
#[allow(clippy::option_option)]
fn string(at: &mut &[u8]) -> Option<Option<Vec<u8>>> {
    let coded = at.first()? & 0x80 != 0;
    let length = number(at, 7)?;
    let (text, rest) = at.split_at_checked(length)?;
    *at = rest;
    Some(if coded { decoded(text) } else { Some(text.to_vec()) })
}

fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut code, mut length) = (0u32, 0u32);
    let bits = text.iter().flat_map(|byte| (0..8).rev().map(move |bit| u32::from(byte >> bit & 1)));
    for bit in bits {
        code = code << 1 | bit;
        length += 1;
        if let Some(char) = character(code, length) {
            out.push(char);
            (code, length) = (0, 0);
        } else if length > 11 {
            return None;
        }
    }
    // The end is filled with ones, of less than a byte (5.2).
    (length < 8 && code == (1 << length) - 1).then_some(out)
}

fn character(code: u32, length: u32) -> Option<u8> {
    let (mut first, mut before) = (0, 0);
    for (bits, chars) in CODES {
        first <<= bits - before;
        before = *bits;
        if *bits == length {
            return chars.get(usize::try_from(code.checked_sub(first)?).ok()?).copied();
        }
        first += chars.len() as u32;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541, C.4.1 and C.6.1: strings in Huffman's code.
    #[test]
    fn codes_of_the_rfc() {
        let www = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decoded(&www).unwrap(), b"www.example.com");
        assert_eq!(decoded(&[0x64, 0x02]).unwrap(), b"302");
        assert_eq!(decoded(&[0xae, 0xc3, 0x77, 0x1a, 0x4b]).unwrap(), b"private");
        let cache = [0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf];
        assert_eq!(decoded(&cache).unwrap(), b"no-cache");
        assert_eq!(decoded(&[0xff, 0xff]), None);
        assert_eq!(decoded(&[0x00]), None);
    }

    #[test]
    fn blocks() {
        // `:status 200` of the table, a smaller table, a literal that is indexed, one that is not.
        let mut block = vec![0x88, 0x20, 0x40, 1, b'a', 1, b'b', 0, 11];
        block.extend(b"grpc-status");
        block.extend([1, b'7', 0x10, 12]);
        block.extend(b"grpc-message");
        block.extend([3, b'n', b'\n', b'o']);
        let expected = Found { http: Some(200), status: Some(7), message: "n o".into() };
        assert_eq!(read(&block), expected);
        for end in 0..block.len() {
            read(&block[..end]);
        }
        // `:status` of 503 by its name's index; a field of a dynamic table that there is not.
        assert_eq!(read(&[0xc0, 0x08, 3, b'5', b'0', b'3']).http, Some(503));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff]), Found::default());
    }
}
