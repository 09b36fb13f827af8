//! ustar headers (POSIX.1-2001 "pax"), written so that equal entries give equal bytes anywhere.
//!
//! Ids are numeric, the names of user and group empty, the prefix field unused. What the header
//! has no room for goes into an extended header before it, always in the order of [`header`].

use crate::Meta;

/// A tar is made of blocks of this many bytes.
pub const BLOCK: u64 = 512;

/// Two empty blocks end a tar.
pub const END: [u8; 1024] = [0; 1024];

const NAME: usize = 100;
/// The largest number in an eight-byte and a twelve-byte octal field that ends with NUL.
const MAX_SHORT: u64 = 0o777_7777;
const MAX_LONG: u64 = 0o777_7777_7777;

/// What follows a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type<'a> {
    /// A regular file of this many bytes.
    File(u64),
    /// A directory; the path gets a `/` at its end.
    Directory,
    /// A symbolic link to this.
    Symlink(&'a str),
    /// Another name of this file, which stands earlier in the tar.
    Hardlink(&'a str),
}

/// How many zero bytes follow a file of `size` bytes.
pub fn padding(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK) as usize
}

/// Appends the header of one entry, with an extended header before it where it needs one.
pub fn header(out: &mut Vec<u8>, path: &str, kind: Type<'_>, meta: &Meta) {
    let (flag, size, link) = match kind {
        Type::File(size) => (b'0', size, ""),
        Type::Hardlink(target) => (b'1', 0, target),
        Type::Symlink(target) => (b'2', 0, target),
        Type::Directory => (b'5', 0, ""),
    };
    let mut name = path.to_owned();
    if kind == Type::Directory {
        name.push('/');
    }

    let mut records = Vec::new();
    if !fits(&name) {
        record(&mut records, "path", &name);
    }
    if !fits(link) {
        record(&mut records, "linkpath", link);
    }
    for (key, value, most) in [
        ("size", size, MAX_LONG),
        ("uid", meta.uid.into(), MAX_SHORT),
        ("gid", meta.gid.into(), MAX_SHORT),
        ("mtime", meta.mtime, MAX_LONG),
    ] {
        if value > most {
            record(&mut records, key, &value.to_string());
        }
    }
    if !records.is_empty() {
        let size = records.len() as u64;
        block(out, b'x', "././@PaxHeader", "", size, &Meta::FILE);
        out.extend_from_slice(&records);
        out.resize(out.len() + padding(size), 0);
    }
    block(out, flag, &name, link, size, meta);
}

/// Whether a name can stand in the header itself: ASCII of at most 100 bytes.
fn fits(name: &str) -> bool {
    name.len() <= NAME && name.is_ascii()
}

/// One record of an extended header: its own length in decimal, a space, `key=value`, a line end.
fn record(out: &mut Vec<u8>, key: &str, value: &str) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    out.extend_from_slice(format!("{len} {key}={value}\n").as_bytes());
}

/// One header block. A number that has no room is written as 0 and a name that has none is cut,
/// with `_` for each byte that is not ASCII: the extended header before it says the truth.
fn block(out: &mut Vec<u8>, flag: u8, name: &str, link: &str, size: u64, meta: &Meta) {
    let mut block = [0u8; BLOCK as usize];
    text(&mut block[0..100], name);
    octal(&mut block[100..108], u64::from(meta.mode & 0o7777));
    octal(&mut block[108..116], meta.uid.into());
    octal(&mut block[116..124], meta.gid.into());
    octal(&mut block[124..136], size);
    octal(&mut block[136..148], meta.mtime);
    block[148..156].fill(b' ');
    block[156] = flag;
    text(&mut block[157..257], link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut block[329..337], 0);
    octal(&mut block[337..345], 0);
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    // The checksum alone is six digits, NUL, space (POSIX leaves it open; all writers do this).
    octal(&mut block[148..155], sum);
    out.extend_from_slice(&block);
}

fn text(field: &mut [u8], text: &str) {
    for (to, byte) in field.iter_mut().zip(text.bytes()) {
        *to = if byte.is_ascii() { byte } else { b'_' };
    }
}

/// Octal digits to the width of the field less one, then NUL; 0 where the number has no room.
fn octal(field: &mut [u8], number: u64) {
    let digits = field.len() - 1;
    let number = if number >> (3 * digits) == 0 { number } else { 0 };
    for (at, digit) in field[..digits].iter_mut().rev().enumerate() {
        *digit = b'0' + (number >> (3 * at) & 7) as u8;
    }
    field[digits] = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(path: &str, kind: Type<'_>, meta: &Meta) -> Vec<u8> {
        let mut out = Vec::new();
        header(&mut out, path, kind, meta);
        out
    }

    #[test]
    fn plain_header_byte_for_byte() {
        let block = one("a/b", Type::File(0o1234), &Meta::FILE);
        let mut want = [0u8; 512];
        want[..3].copy_from_slice(b"a/b");
        want[100..156].copy_from_slice(
            b"0000644\x000000000\x000000000\x0000000001234\x0000000000000\x00007571\0 ",
        );
        want[156] = b'0';
        want[257..265].copy_from_slice(b"ustar\x0000");
        want[329..345].copy_from_slice(b"0000000\x000000000\x00");
        assert_eq!(block, want);
    }

    #[test]
    fn a_name_of_101_bytes_or_beyond_ascii_gets_an_extended_header() {
        assert_eq!(one(&"n".repeat(100), Type::File(1), &Meta::FILE).len(), 512);
        assert_eq!(one(&"n".repeat(99), Type::Directory, &Meta::DIRECTORY).len(), 512);
        assert_eq!(one(&"n".repeat(100), Type::Directory, &Meta::DIRECTORY).len(), 1536);
        let long = one(&"n".repeat(101), Type::File(1), &Meta::FILE);
        assert_eq!(long.len(), 1536);
        assert_eq!(&long[512..523], b"111 path=nn");
        let umlaut = one("ä", Type::File(1), &Meta::FILE);
        assert_eq!(&umlaut[512..523], "11 path=ä\n".as_bytes());
        assert_eq!(&umlaut[1024..1027], b"__\0");
    }

    #[test]
    fn the_length_of_a_record_counts_its_own_digits() {
        for n in 80..120 {
            let mut out = Vec::new();
            record(&mut out, "path", &"x".repeat(n));
            let said: usize =
                std::str::from_utf8(&out).unwrap().split(' ').next().unwrap().parse().unwrap();
            assert_eq!(said, out.len());
        }
    }

    #[test]
    fn numbers_without_room_move_to_the_extended_header() {
        let meta = Meta { mode: 0o644, uid: 3_000_000, gid: 0, mtime: 1 << 40 };
        let out = one("big", Type::File(9 << 30), &meta);
        let records = std::str::from_utf8(&out[512..1024]).unwrap().trim_end_matches('\0');
        assert_eq!(records, "19 size=9663676416\n15 uid=3000000\n23 mtime=1099511627776\n");
        assert_eq!(&out[1024 + 124..1024 + 136], b"00000000000\0");
    }

    #[test]
    fn padding_completes_a_block() {
        for (size, pad) in [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511), (u64::MAX, 1)] {
            assert_eq!(padding(size), pad, "{size}");
        }
    }
}
