//! Files with holes: what they hold between them, and copies that have them too.
//!
//! A tar stream of `cp` has such a file as GNU tar writes it (its manual, "Storing Sparse Files", the old form, entries of type `S`):
//! `tar` and every sconce read that.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader};

/// What stays a hole has so many bytes at least: smaller ones are written out, which costs less than their rows in a map.
const SMALLEST: u64 = 64 << 10;
/// The most parts of a file between its holes: of one that has more, larger holes are written out too.
const MOST: usize = 1 << 16;
/// What tar counts in.
const BLOCK: u64 = 512;
/// Bytes that are read or written at once.
const AT_ONCE: usize = 256 << 10;

/// The parts of a file of `size` bytes that hold something, in their order; each begins and ends (but for the file's end) with a block
/// of tar's. All of it where the file system can't tell (lseek(2), `SEEK_DATA`).
pub(crate) fn parts(file: &File, size: u64) -> io::Result<Vec<Range<u64>>> {
    let mut parts: Vec<Range<u64>> = Vec::new();
    let mut smallest = SMALLEST;
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => return Ok(std::iter::once(0..size).collect()),
            Err(errno) => return Err(errno.into()),
        };
        let end = match seek(file, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            // It has become shorter meanwhile.
            Err(Errno::NXIO) => size,
            Err(errno) => return Err(errno.into()),
        };
        let start = start - start % BLOCK;
        if start >= size {
            break;
        }
        add(&mut parts, start..end.next_multiple_of(BLOCK).min(size), smallest);
        if parts.len() > MOST {
            smallest *= 2;
            let all = std::mem::take(&mut parts);
            all.into_iter().for_each(|part| add(&mut parts, part, smallest));
        }
        at = end.max(at + 1);
    }
    Ok(parts)
}

/// Adds a part, to the one before it where less than `smallest` lies between them.
fn add(parts: &mut Vec<Range<u64>>, part: Range<u64>, smallest: u64) {
    match parts.last_mut() {
        Some(last) if part.start < last.end + smallest => last.end = last.end.max(part.end),
        None if part.start < smallest => parts.push(0..part.end),
        _ => parts.push(part),
    }
}

/// Adds a regular file, which `header` describes, with its holes.
pub(crate) fn append(
    tar: &mut tar::Builder<impl Write>,
    header: &mut tar::Header,
    name: &Path,
    file: &File,
    size: u64,
) -> io::Result<()> {
    let parts = parts(file, size)?;
    let whole = Whole { file, parts: parts.iter().cloned().collect() };
    if size == 0 || (parts.len() == 1 && parts[0] == (0..size)) {
        header.set_size(size);
        return tar.append_data(header, name, whole);
    }
    // The last row ends where the file does, and has nothing where that is a hole.
    let end = (parts.last().is_none_or(|part| part.end < size)).then_some(size..size);
    let mut rows = parts.iter().cloned().chain(end);
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(parts.iter().map(|part| part.end - part.start).sum());
    let mut blocks = Vec::new();
    let gnu = header.as_gnu_mut().ok_or_else(|| io::Error::other("no header of GNU's"))?;
    gnu.set_real_size(size);
    fill(&mut gnu.sparse, &mut rows);
    let mut rows = rows.peekable();
    gnu.set_is_extended(rows.peek().is_some());
    while rows.peek().is_some() {
        let mut block = GnuExtSparseHeader::new();
        fill(&mut block.sparse, &mut rows);
        block.set_is_extended(rows.peek().is_some());
        blocks.extend_from_slice(block.as_bytes());
    }
    tar.append_data(header, name, blocks.as_slice().chain(whole))
}

fn fill(places: &mut [GnuSparseHeader], rows: &mut impl Iterator<Item = Range<u64>>) {
    for (place, row) in places.iter_mut().zip(rows) {
        place.set_offset(row.start);
        place.set_length(row.end - row.start);
    }
}

/// Reads parts of a file, one after the other. What was announced follows, also of a file that becomes shorter.
struct Whole<'a> {
    file: &'a File,
    parts: VecDeque<Range<u64>>,
}

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(part) = self.parts.front_mut() else { return Ok(0) };
        let most = usize::try_from(part.end - part.start).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..most];
        let count = match self.file.read_at(buffer, part.start)? {
            0 => {
                buffer.fill(0);
                most
            }
            count => count,
        };
        part.start += count as u64;
        if part.start >= part.end {
            self.parts.pop_front();
        }
        Ok(count)
    }
}

/// Writes to `to`, a new file, what `from` holds, with its holes. `goes_on` is asked now and then.
pub(crate) fn copy(from: &File, to: &File, goes_on: &dyn Fn() -> bool) -> io::Result<()> {
    let size = from.metadata()?.len();
    let mut buffer = vec![0; AT_ONCE];
    for part in parts(from, size)? {
        let mut at = part.start;
        while at < part.end {
            if !goes_on() {
                return Ok(());
            }
            let most = usize::try_from(part.end - at).unwrap_or(usize::MAX).min(buffer.len());
            match from.read_at(&mut buffer[..most], at)? {
                0 => break,
                count => {
                    to.write_all_at(&buffer[..count], at)?;
                    at += count as u64;
                }
            }
        }
    }
    to.set_len(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_with_little_between_them_are_one() {
        let joined = |rows: &[(u64, u64)]| -> Vec<(u64, u64)> {
            let mut parts = Vec::new();
            rows.iter().for_each(|(start, end)| add(&mut parts, *start..*end, 10));
            parts.iter().map(|part| (part.start, part.end)).collect()
        };
        assert_eq!(joined(&[(0, 3), (12, 20)]), [(0, 20)]);
        assert_eq!(joined(&[(0, 3), (13, 20)]), [(0, 3), (13, 20)]);
        assert_eq!(joined(&[(9, 12)]), [(0, 12)]);
        assert_eq!(joined(&[(10, 12)]), [(10, 12)]);
        assert!(joined(&[]).is_empty());
    }

    #[test]
    fn a_file_comes_back_with_its_holes() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        // Each of more rows than a header has places for, than one block behind it has, and of one hole alone.
        for (name, count) in [("few", 3), ("more", 20), ("many", 60), ("none", 0)] {
            let file = File::create_new(at(name)).expect("made");
            let size = 10 << 30;
            file.set_len(size).expect("long");
            for row in 0..count {
                file.write_all_at(&[row as u8 + 1; 5000], (row << 20) + 700).expect("written");
            }
            if count == 60 {
                file.write_all_at(b"end", size - 3).expect("written");
            }
            let file = File::open(at(name)).expect("opened");
            let mut stream = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_metadata(&file.metadata().expect("there"));
            append(&mut stream, &mut header, Path::new(name), &file, size).expect("added");
            let bytes = stream.into_inner().expect("whole");
            assert!(bytes.len() < 4 << 20, "{name}: {}", bytes.len());
            std::fs::create_dir(at("to")).expect("made");
            tar::Archive::new(&bytes[..]).unpack(at("to")).expect("unpacked");
            let came = File::open(at("to").join(name)).expect("came");
            let again = File::create_new(at("again")).expect("made");
            copy(&came, &again, &|| true).expect("copied");
            let again = File::open(at("again")).expect("copied");
            for copied in [&came, &again] {
                assert_eq!(copied.metadata().expect("there").len(), size);
                assert_eq!(
                    parts(copied, size).expect("parts").len(),
                    count as usize + usize::from(count == 60),
                    "{name}"
                );
                for row in 0..count {
                    let mut read = [0; 5002];
                    copied.read_exact_at(&mut read, (row << 20) + 699).expect("read");
                    assert!(read[0] == 0 && read[5001] == 0, "{name} {row}");
                    assert_eq!(read[1..5001], [row as u8 + 1; 5000], "{name} {row}");
                }
            }
            std::fs::remove_dir_all(at("to")).expect("removed");
            std::fs::remove_file(at("again")).expect("removed");
        }
    }
}
