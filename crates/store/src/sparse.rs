//! Sparse files of GNU tar: an archive has the bytes of such a file without its holes, and a map of where they belong.
//!
//! Source: GNU tar's manual, "Storing Sparse Files": the old form (entries of type `S`), and PAX records of the versions 0.0, 0.1 and
//! 1.0. All four are read, as by Go's archive/tar, which Docker, containerd and podman unpack layers with. A map is held to the size of its file
//! and to the bytes that the archive has, and is bounded itself.

use std::io::{self, Read};

use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

/// The most bytes of a map, whatever its form: what an extended header may have, too.
const MAX_MAP: u64 = 1 << 20;
/// Maps of version 1.0 are filled up to whole blocks.
const BLOCK: usize = 512;

/// What a file has between its holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// A file with holes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sparse {
    /// Bytes of the file, holes and all.
    pub(crate) size: u64,
    /// In their order, none in another; a hole is what no segment has.
    pub(crate) segments: Vec<Segment>,
}

impl Sparse {
    /// One whose segments lie in the file and are all that the archive has of it: `stored` bytes.
    fn checked(size: u64, segments: Vec<Segment>, stored: u64) -> io::Result<Self> {
        let (mut end, mut sum) = (0, 0_u64);
        for Segment { offset, len } in &segments {
            if *offset < end {
                return Err(bad("the parts of a sparse file lie in one another"));
            }
            end = offset
                .checked_add(*len)
                .filter(|end| *end <= size)
                .ok_or_else(|| bad("a part of a sparse file lies beyond the file's end"))?;
            sum = sum.saturating_add(*len);
        }
        match sum == stored {
            true => Ok(Self { size, segments }),
            false => Err(bad("the map of a sparse file is not that of its bytes")),
        }
    }

    /// The old form: the first four segments are in the header, more in blocks behind it. Those are read from `source`.
    pub(crate) fn old(header: &Header, stored: u64, mut source: impl Read) -> io::Result<Self> {
        let gnu = header.as_gnu().ok_or_else(|| bad("a sparse file without GNU's header"))?;
        let mut segments = Vec::new();
        // A place that is empty ends the map, as in GNU tar.
        let take = |rows: &[GnuSparseHeader], segments: &mut Vec<Segment>| -> io::Result<()> {
            for row in rows.iter().take_while(|row| !row.is_empty()) {
                segments.push(Segment { offset: row.offset()?, len: row.length()? });
            }
            Ok(())
        };
        take(&gnu.sparse, &mut segments)?;
        let mut more = gnu.is_extended();
        let mut read = 0;
        while more {
            read += BLOCK as u64;
            if read > MAX_MAP {
                return Err(bad("the map of a sparse file is too large"));
            }
            let mut block = GnuExtSparseHeader::new();
            source.read_exact(block.as_mut_bytes())?;
            take(&block.sparse, &mut segments)?;
            more = block.is_extended();
        }
        Self::checked(gnu.real_size()?, segments, stored)
    }
}

/// What the PAX records of an entry say of its holes.
#[derive(Default)]
pub(crate) struct Records {
    any: bool,
    version: (Option<u64>, Option<u64>),
    /// The file's name; what stands in the header is one for programs that can't read this.
    pub(crate) name: Option<Vec<u8>>,
    size: Option<u64>,
    /// How many segments the map has by its own word: of the versions before 1.0, in which it is a record.
    count: Option<u64>,
    /// Offsets and lengths in turns.
    map: Vec<u64>,
}

impl Records {
    /// Takes the record `GNU.sparse.KEY`.
    pub(crate) fn take(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let number = || number(value).ok_or_else(|| bad("a number of a sparse file is none"));
        self.any = true;
        match key {
            b"major" => self.version.0 = Some(number()?),
            b"minor" => self.version.1 = Some(number()?),
            b"name" => self.name = Some(value.to_owned()),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"numblocks" => self.count = Some(number()?),
            // Version 0.0 has the segments one after the other.
            b"offset" | b"numbytes" if (key == b"offset") == self.map.len().is_multiple_of(2) => {
                self.map.push(number()?);
            }
            b"map" => {
                let parts = value.split(|byte| *byte == b',').filter(|part| !part.is_empty());
                let map: Option<Vec<u64>> = parts.map(self::number).collect();
                self.map = map.ok_or_else(|| bad("the map of a sparse file has no numbers"))?;
            }
            _ => return Err(bad("a sparse file has records that are not known")),
        }
        Ok(())
    }

    /// The file of an entry of `stored` bytes; nothing where no record says that it has holes. The map of version 1.0 is the beginning of
    /// those bytes and is read from `body`.
    pub(crate) fn finish(&self, stored: u64, body: impl Read) -> io::Result<Option<Sparse>> {
        if !self.any {
            return Ok(None);
        }
        let size = self.size.ok_or_else(|| bad("a sparse file does not say its size"))?;
        let (map, stored) = match self.version {
            (Some(1), Some(0)) => {
                let (map, read) = leading_map(body)?;
                (map, stored.checked_sub(read).ok_or(io::ErrorKind::UnexpectedEof)?)
            }
            // Before 1.0 they need not say a version.
            (None, None) | (Some(0), Some(0 | 1)) => {
                let count = self.map.len() as u64 / 2;
                if self.count.is_some_and(|said| said != count) {
                    return Err(bad("the map of a sparse file has not as many parts as it says"));
                }
                (self.map.clone(), stored)
            }
            _ => return Err(bad("a sparse file is of a version that is not known")),
        };
        if !map.len().is_multiple_of(2) {
            return Err(bad("the map of a sparse file is cut off"));
        }
        let pairs = map.chunks_exact(2).map(|pair| Segment { offset: pair[0], len: pair[1] });
        Sparse::checked(size, pairs.collect(), stored).map(Some)
    }
}

/// A map in front of a file's bytes, a number a line: how many segments there are, then each one's offset and length; and how many bytes it takes.
fn leading_map(mut body: impl Read) -> io::Result<(Vec<u64>, u64)> {
    let (mut numbers, mut digits, mut read) = (Vec::new(), Vec::new(), 0);
    let mut wanted = None;
    loop {
        let mut block = [0; BLOCK];
        body.read_exact(&mut block)?;
        read += BLOCK as u64;
        if read > MAX_MAP {
            return Err(bad("the map of a sparse file is too large"));
        }
        for byte in block {
            if byte != b'\n' {
                digits.push(byte);
                // A number of 64 bits has no more.
                if digits.len() > 20 {
                    return Err(bad("the map of a sparse file has no numbers"));
                }
                continue;
            }
            let next =
                number(&digits).ok_or_else(|| bad("the map of a sparse file has no numbers"))?;
            digits.clear();
            match wanted {
                None => {
                    // Each number takes two bytes at least.
                    let most = MAX_MAP / 4;
                    if next > most {
                        return Err(bad("the map of a sparse file is too large"));
                    }
                    wanted = Some(2 * next as usize);
                }
                Some(_) => numbers.push(next),
            }
            if wanted == Some(numbers.len()) {
                return Ok((numbers, read));
            }
        }
    }
}

fn number(text: &[u8]) -> Option<u64> {
    let plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    str::from_utf8(text).ok().filter(|_| plain)?.parse().ok()
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(all: &[(&str, &str)]) -> io::Result<Records> {
        let mut records = Records::default();
        for (key, value) in all {
            records.take(key.as_bytes(), value.as_bytes())?;
        }
        Ok(records)
    }

    fn says(all: &[(&str, &str)], stored: u64, body: &[u8]) -> String {
        match records(all).and_then(|records| records.finish(stored, body)) {
            Ok(Some(sparse)) => {
                let parts = sparse.segments.iter().map(|s| format!(" {}+{}", s.offset, s.len));
                format!("{}:{}", sparse.size, parts.collect::<String>())
            }
            Ok(None) => "dense".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn maps_of_records() {
        let filled = |text: &str| {
            let mut block = text.as_bytes().to_vec();
            block.resize(block.len().next_multiple_of(BLOCK), 0);
            block
        };
        let v1 = &[("major", "1"), ("minor", "0"), ("realsize", "100"), ("name", "x")][..];
        for (all, stored, body, expected) in [
            (&[][..], 5, "", "dense"),
            (&[("size", "10"), ("numblocks", "1"), ("map", "2,3")], 3, "", "10: 2+3"),
            (&[("size", "10"), ("map", "")], 0, "", "10:"),
            (
                &[
                    ("size", "9"),
                    ("offset", "0"),
                    ("numbytes", "1"),
                    ("offset", "8"),
                    ("numbytes", "1"),
                ],
                2,
                "",
                "9: 0+1 8+1",
            ),
            (v1, 512 + 7, "2\n0\n3\n96\n4\n", "100: 0+3 96+4"),
            (v1, 512, "0\n", "100:"),
            // What lies.
            (v1, 512 + 8, "2\n0\n3\n96\n4\n", "not that of its bytes"),
            (v1, 512 + 8, "2\n0\n4\n96\n5\n", "beyond"),
            (v1, 512 + 8, "2\n0\n4\n3\n4\n", "in one another"),
            (v1, 512 + 8, "2\n4\n18446744073709551615\n3\n4\n", "beyond"),
            (v1, 512, "99999999999\n", "too large"),
            (v1, 512, "x\n", "no numbers"),
            (v1, 512, "111111111111111111111111\n", "no numbers"),
            (v1, 512, "5\n1\n", "no numbers"),
            (v1, 512, "", "failed to fill"),
            (v1, 100, "0\n", "unexpected end"),
            (
                &[("size", "10"), ("numblocks", "2"), ("map", "2,3")],
                3,
                "",
                "as many parts as it says",
            ),
            (
                &[("size", "10"), ("numblocks", "0"), ("map", "2,3")],
                3,
                "",
                "as many parts as it says",
            ),
            (
                &[("size", "9"), ("numblocks", "18446744073709551615"), ("map", "")],
                0,
                "",
                "as many parts",
            ),
            (&[("map", "0,1")], 1, "", "does not say its size"),
            (&[("size", "1"), ("map", "0")], 1, "", "cut off"),
            (&[("size", "1"), ("map", "0,-1")], 1, "", "no numbers"),
            (&[("size", "1"), ("numbytes", "1")], 1, "", "not known"),
            (&[("size", "1"), ("major", "2"), ("minor", "0")], 1, "", "version"),
            (&[("size", "+1")], 1, "", "is none"),
        ] {
            let said = says(all, stored, &filled(body));
            assert!(
                said == expected || (said.contains(expected) && expected.len() > 4),
                "{all:?} {body:?}: {said}"
            );
        }
        // One that never ends.
        let endless = io::Read::take(io::repeat(b'\n'), 8 << 20);
        assert!(records(v1).unwrap().finish(8 << 20, endless).is_err());
        let mut long = b"200000\n".to_vec();
        long.resize(4 << 20, b'1');
        assert!(records(v1).unwrap().finish(4 << 20, &*long).is_err());
    }
}
