//! A file of which only the parts that matter are kept.
//!
//! What is to be known of a library of a gigabyte stands in its headers and symbol tables. Where a
//! file passes by only once (a layer that comes over the network, a wheel being built), those
//! parts are kept, and everything that takes a [`ReadAt`] reads the skeleton like the file itself.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::read::ReadAt;

/// Parts with no more than this between them are kept as one, bytes: a part costs 24 bytes.
const GAP: u64 = 64;

/// Where the kept parts of many files lie one after the other: a file without a name.
pub struct Scraps {
    file: File,
    end: Mutex<u64>,
}

impl Scraps {
    /// An empty one, in the folder for temporary files.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile()?, end: Mutex::new(0) })
    }

    /// Adds bytes and says where they lie.
    ///
    /// # Errors
    /// The system's: a full disk.
    pub fn append(&self, bytes: &[u8]) -> io::Result<u64> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let at = *end;
        self.file.write_all_at(bytes, at)?;
        *end += bytes.len() as u64;
        Ok(at)
    }
}

impl ReadAt for Scraps {
    fn size(&self) -> u64 {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_exact_at(buf, offset)?;
        Ok(buf.len())
    }
}

/// What a read of a part that was not kept gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holes {
    /// An error: nobody should need it.
    Error,
    /// Zeros, as in a sparse file: what matters there is known to be kept.
    Zeros,
}

/// A kept part: `len` bytes of the file from `offset` on, which lie at `at`.
#[derive(Clone, Copy)]
struct Part {
    offset: u64,
    len: u64,
    at: u64,
}

/// The kept parts of a file.
pub struct Skeleton {
    size: u64,
    /// In the order of the file, apart from each other.
    parts: Box<[Part]>,
    kept: Arc<dyn ReadAt>,
    holes: Holes,
}

impl Skeleton {
    /// A file of `size` bytes whose `parts` (offset and length, in order, not overlapping) lie one
    /// after the other in `kept` from `at` on.
    pub fn new(
        size: u64,
        parts: impl IntoIterator<Item = (u64, u64)>,
        kept: Arc<dyn ReadAt>,
        mut at: u64,
        holes: Holes,
    ) -> Self {
        let place = |(offset, len)| {
            let part = Part { offset, len, at };
            at += len;
            part
        };
        Self { size, parts: parts.into_iter().map(place).collect(), kept, holes }
    }

    /// Offset and length of each kept part, in order.
    pub fn parts(&self) -> impl Iterator<Item = (u64, u64)> {
        self.parts.iter().map(|part| (part.offset, part.len))
    }

    /// The part at `offset`, or how far it is to the next one.
    fn part(&self, offset: u64) -> Result<Part, u64> {
        let next = self.parts.partition_point(|part| part.offset + part.len <= offset);
        match self.parts.get(next) {
            Some(part) if part.offset <= offset => Ok(*part),
            Some(part) => Err(part.offset - offset),
            None => Err(u64::MAX),
        }
    }
}

impl ReadAt for Skeleton {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.fill(buf, offset, self.holes)
    }

    fn skim_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.fill(buf, offset, Holes::Zeros)
    }
}

impl Skeleton {
    fn fill(&self, buf: &mut [u8], offset: u64, holes: Holes) -> io::Result<usize> {
        let wanted = self.size.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut filled = 0;
        while filled < wanted {
            let at = offset + filled as u64;
            let left = (wanted - filled) as u64;
            filled += match (self.part(at), holes) {
                (Ok(part), _) => {
                    let skip = at - part.offset;
                    let n = (part.len - skip).min(left) as usize;
                    self.kept.read_at(&mut buf[filled..filled + n], part.at + skip)?
                }
                (Err(gap), Holes::Zeros) => {
                    let n = gap.min(left) as usize;
                    buf[filled..filled + n].fill(0);
                    n
                }
                (Err(_), Holes::Error) => {
                    return Err(io::Error::other(format!("the bytes at {at} were not kept")));
                }
            };
        }
        Ok(filled)
    }
}

/// A source that remembers what was read of it.
pub struct Recorder<'a> {
    inner: &'a dyn ReadAt,
    read: Mutex<Vec<Range<u64>>>,
}

impl<'a> Recorder<'a> {
    /// Reads from `inner`.
    pub fn new(inner: &'a dyn ReadAt) -> Self {
        Self { inner, read: Mutex::default() }
    }

    /// A skeleton of what was read, its bytes in `scraps`.
    ///
    /// # Errors
    /// Those of the source and of the disk.
    pub fn keep(self, scraps: &Arc<Scraps>) -> io::Result<Skeleton> {
        let read = self.read.into_inner().unwrap_or_else(PoisonError::into_inner);
        let parts = merged(read, self.inner.size());
        let mut bytes = Vec::new();
        for part in &parts {
            let start = bytes.len();
            bytes.resize(start + (part.end - part.start) as usize, 0);
            let n = self.inner.read_at(&mut bytes[start..], part.start)?;
            if start + n < bytes.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let at = scraps.append(&bytes)?;
        let parts = parts.into_iter().map(|part| (part.start, part.end - part.start));
        let kept = Arc::clone(scraps) as Arc<dyn ReadAt>;
        Ok(Skeleton::new(self.inner.size(), parts, kept, at, Holes::Error))
    }
}

impl ReadAt for Recorder<'_> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let n = self.inner.read_at(buf, offset)?;
        let end = offset + n as u64;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match read.last_mut() {
            // Walks go forward in small steps.
            Some(last) if last.start <= offset && offset <= last.end + GAP => {
                last.end = last.end.max(end);
            }
            _ => read.push(offset..end),
        }
        Ok(n)
    }

    fn skim_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.skim_at(buf, offset)
    }
}

/// Ranges in order, those that touch or nearly do made one, cut off at `size`.
fn merged(mut ranges: Vec<Range<u64>>, size: u64) -> Vec<Range<u64>> {
    ranges.retain(|range| range.start < range.end);
    ranges.sort_by_key(|range| range.start);
    let mut out: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start <= last.end + GAP => last.end = last.end.max(range.end),
            _ => out.push(range),
        }
    }
    for range in &mut out {
        range.end = range.end.min(size);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skeleton_has_what_was_read_and_nothing_else() {
        let bytes: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
        let recorder = Recorder::new(&bytes);
        let mut buf = [0; 100];
        for at in [9_950, 0, 50, 5_000, 5_090, 5_200, 20_000] {
            let _ = recorder.read_at(&mut buf, at).unwrap();
        }
        let scraps = Arc::new(Scraps::new().unwrap());
        scraps.append(b"another file's").unwrap();
        let skeleton = recorder.keep(&scraps).unwrap();
        assert_eq!(skeleton.size(), 10_000);
        assert_eq!(scraps.size(), 14 + 150 + 300 + 50);
        for at in [0, 50, 5_000, 5_150, 5_200, 9_950] {
            let n = skeleton.read_at(&mut buf, at).unwrap();
            assert_eq!(&buf[..n], &bytes[at as usize..at as usize + n], "at {at}");
        }
        assert_eq!(skeleton.read_at(&mut buf, 9_990).unwrap(), 10);
        for at in [51, 4_999, 5_201, 9_000] {
            assert!(skeleton.read_at(&mut buf, at).is_err(), "at {at}");
        }
        // Who only searches sees nothing there.
        assert_eq!(skeleton.skim_at(&mut buf, 4_950).unwrap(), 100);
        assert_eq!((&buf[..50], &buf[50..]), (&[0; 50][..], &bytes[5_000..5_050]));
    }

    #[test]
    fn holes_may_be_zeros() {
        let kept: Arc<dyn ReadAt> = Arc::new(b"abcdef".to_vec());
        let skeleton = Skeleton::new(20, [(2, 3), (10, 3)], kept, 0, Holes::Zeros);
        let mut buf = [9; 32];
        assert_eq!(skeleton.read_at(&mut buf, 0).unwrap(), 20);
        assert_eq!(&buf[..20], b"\0\0abc\0\0\0\0\0def\0\0\0\0\0\0\0");
    }
}
