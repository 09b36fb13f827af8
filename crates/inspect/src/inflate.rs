//! Compressed streams that can be read at any offset.
//!
//! A deflate stream (RFC 1951) alone, as in a zip file, or gzip members in a row (RFC 1952), as in
//! a layer. One pass from the start keeps the decoder's state every few megabytes; a read goes on
//! from the nearest state before it. Nothing is written to disk, and memory does not grow with the
//! stream. A zstd stream has no such states to keep and goes through a temporary file instead.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::read::{OnDisk, ReadAt};

/// Bytes kept of what was last inflated; a power of two, at least deflate's window.
const RING: usize = 1 << 16;
const INPUT: usize = 1 << 14;
/// At least so much lies between two kept states, bytes.
const SPACING: u64 = 1 << 20;
/// Decoders kept for readers that go on where they stopped.
const CURSORS: usize = 4;
/// No layer is larger than this when unpacked; more is a bomb.
pub const MAX_STREAM: u64 = 64 << 30;

/// How a stream is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One deflate stream.
    Raw,
    /// Gzip members, one after the other.
    Gzip,
}

fn broken(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A decoder somewhere in the stream.
#[derive(Clone)]
struct Cursor {
    decoder: Box<DecompressorOxide>,
    /// The last [`RING`] bytes inflated: byte `n` of the output is at `n % RING`.
    ring: Box<[u8]>,
    /// Output so far.
    out: u64,
    /// Output from which the ring is filled.
    filled_from: u64,
    /// Input used so far.
    used: u64,
    /// Whether the stream (of a gzip file: the last member) has ended.
    ended: bool,
    /// Whether a gzip member's header comes next.
    header_next: bool,
}

/// A compressed stream.
pub struct Inflated<R> {
    inner: R,
    framing: Framing,
    size: u64,
    states: Mutex<Vec<Cursor>>,
    cursors: Mutex<Vec<Cursor>>,
    spacing: Mutex<u64>,
    max_states: usize,
}

impl<R: ReadAt> Inflated<R> {
    /// A deflate stream that gives `size` bytes; never more are made of it. Nothing is read yet.
    pub fn raw(inner: R, size: u64) -> Self {
        Self::new(inner, Framing::Raw, size, 256)
    }

    /// Gzip members. All of them are inflated once, to learn the size; at most `max_states` states
    /// of 76 KiB are kept.
    ///
    /// # Errors
    /// Those of the source, and [`io::ErrorKind::InvalidData`] for a broken stream or one of more
    /// than `limit` bytes.
    pub fn gzip(inner: R, limit: u64, max_states: usize) -> io::Result<Self> {
        let mut stream = Self::new(inner, Framing::Gzip, limit, max_states);
        let mut cursor = stream.start();
        while !cursor.ended {
            stream.step(&mut cursor)?;
            if cursor.out > limit {
                return Err(broken(format!("more than {limit} bytes come out of it")));
            }
        }
        stream.size = cursor.out;
        Ok(stream)
    }

    fn new(inner: R, framing: Framing, size: u64, max_states: usize) -> Self {
        Self {
            inner,
            framing,
            size,
            states: Mutex::default(),
            cursors: Mutex::default(),
            spacing: Mutex::new(SPACING),
            max_states: max_states.max(2),
        }
    }

    fn start(&self) -> Cursor {
        Cursor {
            decoder: Box::default(),
            ring: vec![0; RING].into_boxed_slice(),
            out: 0,
            filled_from: 0,
            used: 0,
            ended: false,
            header_next: self.framing == Framing::Gzip,
        }
    }

    /// Inflates the next piece.
    fn step(&self, cursor: &mut Cursor) -> io::Result<()> {
        if cursor.header_next {
            cursor.used = self.member(cursor.used)?;
            cursor.header_next = false;
            *cursor.decoder = DecompressorOxide::new();
        }
        self.keep(cursor);
        let mut input = vec![0; INPUT];
        let n = self.inner.read_at(&mut input, cursor.used)?;
        let last = cursor.used + n as u64 >= self.inner.size();
        let flags = if last { 0 } else { TINFL_FLAG_HAS_MORE_INPUT };
        let place = (cursor.out % RING as u64) as usize;
        let input = input.get(..n).unwrap_or_default();
        let (status, read, written) =
            decompress(&mut cursor.decoder, input, &mut cursor.ring, place, flags);
        cursor.used += read as u64;
        cursor.out += written as u64;
        cursor.filled_from = cursor.filled_from.max(cursor.out.saturating_sub(RING as u64));
        match status {
            // The ring is full to its end: the caller takes what it wants first.
            TINFLStatus::HasMoreOutput => Ok(()),
            TINFLStatus::NeedsMoreInput if !last && read > 0 => Ok(()),
            TINFLStatus::Done => self.end(cursor),
            _ => Err(broken(format!("broken deflate stream, {} bytes into it", cursor.used))),
        }
    }

    /// Behind the end of a deflate stream: is there another member?
    fn end(&self, cursor: &mut Cursor) -> io::Result<()> {
        if self.framing == Framing::Raw {
            cursor.ended = true;
            return Ok(());
        }
        // CRC-32 and size; whoever trusts the bytes has checked the blob's digest.
        cursor.used = cursor.used.saturating_add(8);
        if cursor.used > self.inner.size() {
            return Err(broken("the last gzip member is cut off"));
        }
        // Zero padding may follow the last member.
        let mut magic = [0; 2];
        let n = self.inner.read_at(&mut magic, cursor.used)?;
        if n == 2 && magic == [0x1f, 0x8b] {
            cursor.header_next = true;
        } else {
            cursor.ended = true;
        }
        Ok(())
    }

    /// Where the deflate stream starts behind the gzip header at `at` (RFC 1952, 2.3).
    fn member(&self, at: u64) -> io::Result<u64> {
        const HEADER: usize = 4096;
        let mut head = vec![0; HEADER];
        let n = self.inner.read_at(&mut head, at)?;
        let head = head.get(..n).unwrap_or_default();
        if n < 18 || head[..3] != [0x1f, 0x8b, 8] {
            return Err(broken(format!("no gzip header at {at}")));
        }
        let flags = head[3];
        let mut place = 10;
        if flags & 4 != 0 {
            let len = crate::read::Fields(head).u16(place);
            place += 2 + usize::from(len);
        }
        for flag in [8, 16] {
            if flags & flag != 0 {
                let text = head.get(place..).unwrap_or_default();
                let end = text.iter().position(|byte| *byte == 0);
                place += 1 + end.ok_or_else(|| broken(format!("endless gzip header at {at}")))?;
            }
        }
        place += if flags & 2 != 0 { 2 } else { 0 };
        Ok(at + place as u64)
    }

    /// Keeps the state if the last one kept is far enough behind.
    fn keep(&self, cursor: &Cursor) {
        let mut spacing = lock(&self.spacing);
        let mut states = lock(&self.states);
        let last = states.last().map_or(0, |state| state.out);
        if cursor.out < last.saturating_add(*spacing) {
            return;
        }
        states.push(cursor.clone());
        if states.len() >= self.max_states {
            *spacing = spacing.saturating_mul(2);
            let mut odd = false;
            states.retain(|_| {
                odd = !odd;
                !odd
            });
        }
    }

    /// The decoder from which `offset` is reached soonest.
    fn nearest(&self, offset: u64) -> Cursor {
        let usable = |cursor: &Cursor| cursor.filled_from <= offset;
        let mut cursors = lock(&self.cursors);
        let best = cursors
            .iter()
            .enumerate()
            .filter(|(_, cursor)| usable(cursor))
            .max_by_key(|(_, cursor)| cursor.out)
            .map(|(at, cursor)| (at, cursor.out));
        let states = lock(&self.states);
        let state = states.iter().rfind(|state| state.out <= offset);
        match (best, state) {
            (Some((at, out)), state) if state.is_none_or(|state| out >= state.out) => {
                cursors.swap_remove(at)
            }
            (_, Some(state)) => Cursor { filled_from: state.out, ..state.clone() },
            _ => self.start(),
        }
    }
}

impl<R: ReadAt> ReadAt for Inflated<R> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let wanted = self.size.saturating_sub(offset).min(buf.len() as u64) as usize;
        if wanted == 0 {
            return Ok(0);
        }
        let mut cursor = self.nearest(offset);
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..wanted).filter(|rest| !rest.is_empty()) {
            let at = offset + filled as u64;
            if cursor.out > at {
                let place = (at % RING as u64) as usize;
                let n =
                    (cursor.out - at).min((RING - place) as u64).min(rest.len() as u64) as usize;
                rest[..n].copy_from_slice(&cursor.ring[place..place + n]);
                filled += n;
            } else if cursor.ended {
                break;
            } else {
                self.step(&mut cursor)?;
            }
        }
        let mut cursors = lock(&self.cursors);
        if cursors.len() >= CURSORS {
            cursors.remove(0);
        }
        cursors.push(cursor);
        Ok(filled)
    }
}

/// A zstd stream (RFC 8878) unpacked into a file that has no name any more.
///
/// # Errors
/// Those of the source and the disk, and [`io::ErrorKind::InvalidData`] for a broken stream or one
/// of more than `limit` bytes.
pub fn zstd(inner: &Arc<dyn ReadAt>, limit: u64) -> io::Result<OnDisk> {
    let mut source = Sequential { inner: Arc::clone(inner), at: 0 };
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(&mut source)
        .map_err(|error| broken(error.to_string()))?;
    let file: File = tempfile::tempfile()?;
    let mut buf = vec![0; 1 << 16];
    let mut at = 0;
    loop {
        let n = decoder.read(&mut buf).map_err(|error| broken(error.to_string()))?;
        let Some(piece) = buf.get(..n).filter(|piece| !piece.is_empty()) else { break };
        file.write_all_at(piece, at)?;
        at += n as u64;
        if at > limit {
            return Err(broken(format!("more than {limit} bytes come out of it")));
        }
    }
    OnDisk::from_file(file)
}

/// Reads a source from its start on.
struct Sequential {
    inner: Arc<dyn ReadAt>,
    at: u64,
}

impl Read for Sequential {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read_at(buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use miniz_oxide::deflate::compress_to_vec;

    use super::*;

    /// Bytes that compress, but not to nothing.
    fn sample(len: usize) -> Vec<u8> {
        let mut state = 1u32;
        (0..len)
            .map(|at| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if at % 7 < 3 { (state >> 24) as u8 } else { (at / 1000) as u8 }
            })
            .collect()
    }

    fn member(bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 255];
        out.extend(b"name\0");
        out.extend(compress_to_vec(bytes, 6));
        out.extend([0; 8]);
        out
    }

    fn same_everywhere(stream: &dyn ReadAt, bytes: &[u8]) {
        assert_eq!(stream.size(), bytes.len() as u64);
        let mut buf = vec![0; 70_000];
        let mut at = bytes.len() as u64 / 2;
        for round in 0..60u64 {
            let n = stream.read_at(&mut buf, at).unwrap();
            let rest = &bytes[at as usize..];
            assert_eq!(buf[..n], rest[..rest.len().min(buf.len())], "at {at}");
            at = (at * 31 + 7919 * round) % bytes.len() as u64;
        }
        assert_eq!(stream.read_at(&mut buf, u64::MAX).unwrap(), 0);
    }

    #[test]
    fn any_offset_of_a_deflate_stream() {
        let bytes = sample(9_000_000);
        let stream = Inflated::raw(compress_to_vec(&bytes, 6), bytes.len() as u64);
        same_everywhere(&stream, &bytes);
        // Few states, thinned out again and again.
        let stream = Inflated::new(compress_to_vec(&bytes, 6), Framing::Raw, bytes.len() as u64, 3);
        same_everywhere(&stream, &bytes);
        assert!(lock(&stream.states).len() < 3);
    }

    #[test]
    fn many_members_and_padding() {
        let bytes = sample(3_000_000);
        let mut packed: Vec<u8> = bytes.chunks(700_001).flat_map(member).collect();
        packed.extend([0; 512]);
        let stream = Inflated::gzip(packed, MAX_STREAM, 64).unwrap();
        same_everywhere(&stream, &bytes);
    }

    #[test]
    fn bombs_and_broken_streams_end() {
        let zeros = member(&vec![0; 50_000_000]);
        assert!(zeros.len() < 100_000);
        let error = Inflated::gzip(zeros, 1_000_000, 64).err().unwrap();
        assert_eq!(error.to_string(), "more than 1000000 bytes come out of it");

        // A deflate stream never gives more than it was said to give.
        let stream = Inflated::raw(compress_to_vec(&[7; 100_000], 6), 10);
        let mut buf = [0; 64];
        assert_eq!(stream.read_at(&mut buf, 0).unwrap(), 10);
        // One that gives less ends early.
        let stream = Inflated::raw(compress_to_vec(&[7; 10], 6), 1 << 50);
        assert_eq!(stream.read_at(&mut buf, 0).unwrap(), 10);
        assert_eq!(stream.read_at(&mut buf, 1 << 40).unwrap(), 0);

        let good = member(&sample(100_000));
        for len in [0, 1, 9, 12, 18, 100, good.len() - 9, good.len() - 1] {
            assert!(Inflated::gzip(good[..len].to_vec(), MAX_STREAM, 64).is_err(), "{len}");
        }
        for at in (0..good.len()).step_by(997) {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            let _ = Inflated::gzip(bad, MAX_STREAM, 64);
        }
    }
}
