//! The body of a request (RFC 9112, section 6): read by whoever takes it, bounded in time.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use sconce_listen::Connection;

use crate::clients::Client;
use crate::error::Refusal;
use crate::request::Framing;
use crate::server::{Receiving, Slot};

/// The most bytes that a client may take its time for.
const PIECE: u64 = 256 << 10;
/// The longest line of a chunk's size or of a trailer, and the most trailers.
const MAX_LINE: usize = 1 << 10;
const MAX_TRAILERS: usize = 16;

/// What follows a request's head.
pub(crate) struct Incoming<'a, 'b> {
    stream: &'a mut Connection<'b>,
    /// What came with the head.
    buffer: &'a mut Vec<u8>,
    slot: &'a Slot<'a>,
    /// For each [`PIECE`].
    patience: Duration,
    left: Left,
    /// The client waits for a word before it sends anything.
    asks: bool,
    /// What is left of the piece at hand, and how long its client has let it be waited for.
    piece: (u64, Duration),
}

/// What is still to come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    Bytes(u64),
    /// Of a chunk, and more chunks behind it.
    Chunk(u64),
    /// The first chunk.
    FirstChunk,
}

impl<'a, 'b> Incoming<'a, 'b> {
    pub(crate) fn new(
        stream: &'a mut Connection<'b>,
        buffer: &'a mut Vec<u8>,
        framing: Framing,
        asks: bool,
        (slot, patience): (&'a Slot<'a>, Duration),
    ) -> Self {
        let left = match framing {
            Framing::Length(bytes) => Left::Bytes(bytes),
            Framing::Chunked => Left::FirstChunk,
        };
        let piece = (PIECE, Duration::ZERO);
        Self { stream, buffer, slot, patience, left, asks, piece }
    }

    /// Whether the client has closed its connection.
    pub(crate) fn has_left(&self) -> bool {
        self.slot.has_left()
    }

    /// The right to read it, while it is held.
    ///
    /// # Errors
    /// Too much is coming already.
    pub(crate) fn receive(&self, who: &Client) -> Result<Receiving<'a>, Refusal> {
        self.slot.receive(who)
    }

    /// All of it was read: another request may follow.
    pub(crate) fn is_done(&self) -> bool {
        self.left == Left::Bytes(0)
    }

    /// Bytes of the connection, as they come.
    fn wire(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if std::mem::take(&mut self.asks) {
            self.stream.until(Instant::now() + self.patience);
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            self.stream.flush()?;
        }
        if self.buffer.is_empty() {
            if self.piece.0 == 0 {
                self.piece = (PIECE, Duration::ZERO);
            }
            let mut read = [0; 64 << 10];
            // Not what this side does between two reads: only the client's time counts.
            let (now, waited) = (Instant::now(), self.piece.1);
            self.slot.receives(now.checked_sub(waited).unwrap_or(now));
            self.stream.until(now + self.patience.saturating_sub(waited));
            let n = loop {
                match self.stream.read(&mut read) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read,
                }
            };
            self.slot.works();
            let n = n?;
            self.piece = (self.piece.0.saturating_sub(n as u64), waited + now.elapsed());
            self.buffer.extend_from_slice(&read[..n]);
        }
        let n = out.len().min(self.buffer.len());
        out[..n].copy_from_slice(&self.buffer[..n]);
        self.buffer.drain(..n);
        match n {
            0 if !out.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            n => Ok(n),
        }
    }

    /// A line without its end.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            self.wire(&mut byte)?;
            match byte[0] {
                b'\n' if line.last() == Some(&b'\r') => {
                    line.pop();
                    return Ok(line);
                }
                _ if line.len() >= MAX_LINE => return Err(bad()),
                byte => line.push(byte),
            }
        }
    }

    /// The size of the next chunk; after the last the trailers are read.
    fn next_chunk(&mut self) -> io::Result<u64> {
        let line = self.line()?;
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
        let digits = str::from_utf8(digits).ok().filter(|text| plain && text.len() <= 15);
        let size = digits.and_then(|text| u64::from_str_radix(text, 16).ok()).ok_or_else(bad)?;
        if size == 0 {
            for _ in 0..=MAX_TRAILERS {
                if self.line()?.is_empty() {
                    return Ok(0);
                }
            }
            return Err(bad());
        }
        Ok(size)
    }
}

fn bad() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the chunks of the body can't be read")
}

impl Read for Incoming<'_, '_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        let left = match self.left {
            Left::Bytes(left) => left,
            Left::Chunk(0) => {
                if !self.line()?.is_empty() {
                    return Err(bad());
                }
                self.next_chunk()?
            }
            Left::Chunk(left) => left,
            Left::FirstChunk => self.next_chunk()?,
        };
        let chunked = !matches!(self.left, Left::Bytes(_));
        if left == 0 {
            self.left = Left::Bytes(0);
            return Ok(0);
        }
        let most = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        // Before it is read: what is broken off is never taken for the end.
        self.left = if chunked { Left::Chunk(left) } else { Left::Bytes(left) };
        let n = self.wire(&mut out[..most])?;
        let left = left - n as u64;
        self.left = if chunked { Left::Chunk(left) } else { Left::Bytes(left) };
        Ok(n)
    }
}
