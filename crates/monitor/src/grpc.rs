//! One unary call of gRPC over a Unix socket, as a client of HTTP/2 that knows no more than that takes.
//!
//! Sources: RFC 9113 (HTTP/2), RFC 7541 (HPACK), grpc/grpc `doc/PROTOCOL-HTTP2.md`. The peer is told that we have no
//! dynamic table for headers, so that no state is kept; of its headers only `:status`, `grpc-status` and
//! `grpc-message` are wanted. Time, bytes and frames are bounded.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::hpack;

/// The largest message that is read.
const LARGEST: usize = 16 << 20;
/// The most bytes of all frames: a message may be padded.
const MOST_BYTES: usize = 2 * LARGEST;
/// The most frames.
const MOST_FRAMES: usize = 1 << 16;
/// The largest frame, as no SETTINGS of ours allow more (RFC 9113, 6.5.2).
const LARGEST_FRAME: usize = 16_384;
/// The most bytes of one block of headers.
const MOST_HEADERS: usize = 64 << 10;
/// More than [`MOST_BYTES`], so that no window of ours ever closes.
const WINDOW: u32 = 64 << 20;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// The socket is not there, or can't be connected to.
    #[error("{0}")]
    Connect(Errno),
    /// It did not answer in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Late(Duration),
    /// The connection ended or broke.
    #[error("the connection ended before the answer did")]
    Ended,
    /// A status of gRPC other than OK.
    #[error("gRPC status {0}{name}{words}", name = code(*.0), words = said(.1))]
    Status(u32, String),
    /// HTTP/2 said no.
    #[error("{0}")]
    Refused(String),
    /// What came is no HTTP/2, or more than is read.
    #[error("what it answers is not understood: {0}")]
    Malformed(String),
}

fn malformed<T>(why: impl Into<String>) -> Result<T, Failed> {
    Err(Failed::Malformed(why.into()))
}

/// Names of the statuses that a server of this kind gives (grpc/grpc `doc/statuscodes.md`).
fn code(status: u32) -> &'static str {
    match status {
        4 => " (deadline exceeded)",
        7 => " (permission denied)",
        8 => " (resource exhausted)",
        12 => " (unimplemented)",
        13 => " (internal)",
        14 => " (unavailable)",
        16 => " (unauthenticated)",
        _ => "",
    }
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

/// The peer's words, short and without what a terminal would obey.
pub(crate) fn tame(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text.get(..400).unwrap_or(text)).into_owned();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

/// Calls a method with an empty message, and returns the one that is answered.
pub(crate) fn call(socket: &Path, method: &str, patience: Duration) -> Result<Vec<u8>, Failed> {
    over(connect(socket).map_err(Failed::Connect)?, method, patience)
}

/// The same over a connection.
pub(crate) fn over(
    stream: UnixStream,
    method: &str,
    patience: Duration,
) -> Result<Vec<u8>, Failed> {
    let end = Instant::now() + patience;
    Call { stream, end, patience, bytes: 0, frames: 0 }.run(method)
}

/// Without waiting: a socket whose queue is full would hold up a connection for as long as it likes.
fn connect(socket: &Path) -> Result<UnixStream, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&fd, &SocketAddrUnix::new(socket)?)?;
    let stream = UnixStream::from(fd);
    stream.set_nonblocking(false).map_err(|_| Errno::IO)?;
    Ok(stream)
}

struct Call {
    stream: UnixStream,
    end: Instant,
    patience: Duration,
    bytes: usize,
    frames: usize,
}

/// Types of frames (RFC 9113, 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// Flags.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
/// The stream of the call.
const STREAM: u32 = 1;

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// The payload without its padding.
    fn unpadded(&self) -> Result<&[u8], Failed> {
        if self.flags & PADDED == 0 {
            return Ok(&self.payload);
        }
        let body = self.payload.split_first();
        let body = body.and_then(|(pad, rest)| rest.get(..rest.len().checked_sub((*pad).into())?));
        body.map_or_else(|| malformed("a frame of less than its padding"), Ok)
    }

    fn number(&self, at: usize) -> u32 {
        let bytes = self.payload.get(at..at + 4).and_then(|four| <[u8; 4]>::try_from(four).ok());
        bytes.map_or(0, u32::from_be_bytes)
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes().get(1..).unwrap_or_default().to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// What we say, all at once: no server has to be waited for (RFC 9113, 3.4).
fn request(method: &str, patience: Duration) -> Vec<u8> {
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let mut settings = Vec::new();
    // HEADER_TABLE_SIZE, ENABLE_PUSH, INITIAL_WINDOW_SIZE, MAX_HEADER_LIST_SIZE.
    for (name, value) in [(1u16, 0), (2, 0), (4, WINDOW), (6, MOST_HEADERS as u32)] {
        settings.extend(name.to_be_bytes());
        settings.extend(value.to_be_bytes());
    }
    out.extend(frame(SETTINGS, 0, 0, &settings));
    // The connection's window is not set by SETTINGS (RFC 9113, 6.9.2).
    out.extend(frame(WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes()));
    let timeout = format!("{}m", patience.as_millis());
    let mut headers = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "sconce"),
        ("grpc-timeout", &timeout),
    ] {
        // A literal that is not indexed, its name spelled out, neither in Huffman's code (RFC 7541, 6.2.2).
        headers.push(0);
        for text in [name, value] {
            debug_assert!(text.len() < 127);
            headers.push(text.len() as u8);
            headers.extend(text.bytes());
        }
    }
    out.extend(frame(HEADERS, END_HEADERS, STREAM, &headers));
    // Not compressed, no bytes: an empty message of protobuf.
    out.extend(frame(DATA, END_STREAM, STREAM, &[0; 5]));
    out
}

impl Call {
    fn left(&self) -> Result<Duration, Failed> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Failed::Late(self.patience)) } else { Ok(left) }
    }

    fn failed(&self, error: &std::io::Error) -> Failed {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Failed::Late(self.patience),
            _ => Failed::Ended,
        }
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), Failed> {
        while !bytes.is_empty() {
            let left = self.left()?;
            self.stream.set_write_timeout(Some(left)).map_err(|_| Failed::Ended)?;
            match self.stream.write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Ok(())
    }

    fn read(&mut self, count: usize) -> Result<Vec<u8>, Failed> {
        let mut bytes = vec![0; count];
        let mut at = 0;
        while at < count {
            let left = self.left()?;
            self.stream.set_read_timeout(Some(left)).map_err(|_| Failed::Ended)?;
            match self.stream.read(bytes.get_mut(at..).unwrap_or_default()) {
                Ok(0) => return Err(Failed::Ended),
                Ok(read) => at += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Ok(bytes)
    }

    fn frame(&mut self) -> Result<Frame, Failed> {
        let head = self.read(9)?;
        let [a, b, c, kind, flags, rest @ ..] = head.as_slice() else { return Err(Failed::Ended) };
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let stream = rest.try_into().map_or(0, u32::from_be_bytes) & 0x7fff_ffff;
        if length > LARGEST_FRAME {
            // Servers of HTTP/1.1 begin with words.
            let words = if head.starts_with(b"HTTP/") { ": it speaks HTTP/1" } else { "" };
            return malformed(format!("a frame of {length} bytes{words}"));
        }
        self.frames += 1;
        self.bytes += length + 9;
        if self.frames > MOST_FRAMES || self.bytes > MOST_BYTES {
            return malformed("more frames than are read");
        }
        Ok(Frame { kind: *kind, flags: *flags, stream, payload: self.read(length)? })
    }

    /// A block of headers, with the frames that continue it.
    fn headers(&mut self, first: &Frame) -> Result<Vec<u8>, Failed> {
        let mut block = first.unpadded()?.to_vec();
        if first.flags & PRIORITY != 0 {
            let Some(rest) = block.get(5..) else { return malformed("a short HEADERS frame") };
            block = rest.to_vec();
        }
        let mut flags = first.flags;
        while flags & END_HEADERS == 0 {
            let next = self.frame()?;
            if (next.kind, next.stream) != (CONTINUATION, first.stream) {
                return malformed("headers that are not continued");
            }
            block.extend(&next.payload);
            flags = next.flags;
            if block.len() > MOST_HEADERS {
                return malformed("more headers than are read");
            }
        }
        Ok(block)
    }

    fn run(mut self, method: &str) -> Result<Vec<u8>, Failed> {
        self.write(&request(method, self.patience))?;
        let mut body = Vec::new();
        let mut status = None;
        loop {
            let frame = self.frame()?;
            let mine = frame.stream == STREAM;
            match frame.kind {
                HEADERS if mine => {
                    let block = self.headers(&frame)?;
                    let found = hpack::read(&block);
                    if let Some(http) = found.http.filter(|http| *http > 200) {
                        return Err(Failed::Refused(format!("HTTP status {http}")));
                    }
                    status = found.status.map(|status| (status, found.message)).or(status);
                }
                DATA if mine => {
                    body.extend(frame.unpadded()?);
                    check(&body)?;
                }
                RST_STREAM if mine => {
                    let why = reason(frame.number(0));
                    return Err(Failed::Refused(format!("it took the call back: {why}")));
                }
                HEADERS | DATA | CONTINUATION | PUSH_PROMISE => {
                    return malformed("a frame of a stream that was not asked for");
                }
                SETTINGS if frame.flags & ACK == 0 => {
                    self.write(&self::frame(SETTINGS, ACK, 0, &[]))?
                }
                PING if frame.flags & ACK == 0 => {
                    if frame.payload.len() != 8 {
                        return malformed("a PING that is not 8 bytes");
                    }
                    self.write(&self::frame(PING, ACK, 0, &frame.payload))?;
                }
                // One that lets the call end goes on (RFC 9113, 6.8).
                GOAWAY if frame.number(4) != 0 || frame.number(0) & 0x7fff_ffff < STREAM => {
                    let more = tame(frame.payload.get(8..).unwrap_or_default());
                    let why = reason(frame.number(4));
                    let words = format!("it ends the connection: {why}{}", said(&more));
                    return Err(Failed::Refused(words));
                }
                _ => {}
            }
            if mine && matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
                break;
            }
        }
        if let Some((status, message)) = status.filter(|(status, _)| *status != 0) {
            return Err(Failed::Status(status, message));
        }
        match length(&body) {
            Some(length) if body.len() == length + 5 => Ok(body.split_off(5)),
            _ => malformed("the message is not whole"),
        }
    }
}

/// The length of the message, once it is known (PROTOCOL-HTTP2.md, Length-Prefixed-Message).
fn length(body: &[u8]) -> Option<usize> {
    let bytes = body.get(1..5)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes) as usize)
}

fn check(body: &[u8]) -> Result<(), Failed> {
    if body.first().is_some_and(|compressed| *compressed != 0) {
        return malformed("a compressed message, which was not asked for");
    }
    let Some(length) = length(body) else { return Ok(()) };
    if length > LARGEST {
        return malformed(format!("a message of {length} bytes; {LARGEST} at most are read"));
    }
    if body.len() > length + 5 { malformed("more than one message") } else { Ok(()) }
}

/// Error codes of HTTP/2 (RFC 9113, 7).
fn reason(code: u32) -> String {
    let name = match code {
        0 => "NO_ERROR",
        1 => "PROTOCOL_ERROR",
        2 => "INTERNAL_ERROR",
        3 => "FLOW_CONTROL_ERROR",
        5 => "STREAM_CLOSED",
        6 => "FRAME_SIZE_ERROR",
        7 => "REFUSED_STREAM",
        8 => "CANCEL",
        9 => "COMPRESSION_ERROR",
        11 => "ENHANCE_YOUR_CALM",
        12 => "INADEQUATE_SECURITY",
        13 => "HTTP_1_1_REQUIRED",
        _ => return format!("error {code}"),
    };
    name.to_owned()
}
