//! An answer, and how it goes over the wire.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use sconce_listen::Connection;
use sconce_store::BlobReader;

use crate::error::Refusal;
use crate::server::Slot;

/// Bytes sent at a time.
const PIECE: usize = 256 << 10;

/// What an answer carries.
pub(crate) enum Body {
    Bytes(Vec<u8>),
    /// So many bytes of a blob, from where it stands.
    Blob(Box<BlobReader>, u64),
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Body,
}

impl Answer {
    pub(crate) fn new(status: u16, content_type: &str, bytes: Vec<u8>) -> Self {
        let headers = vec![("Content-Type", content_type.to_owned())];
        Self { status, headers, body: Body::Bytes(bytes) }
    }

    /// One without a body.
    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Bytes(Vec::new()) }
    }

    pub(crate) fn json(value: &serde_json::Value) -> Self {
        Self::new(200, "application/json", value.to_string().into_bytes())
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn len(&self) -> u64 {
        match &self.body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Blob(_, len) => *len,
        }
    }

    /// Sends it; the head alone where that is what was asked for. Each piece must get through within the time
    /// given.
    pub(crate) fn send(
        self,
        stream: &mut Connection<'_>,
        head_only: bool,
        keep_alive: bool,
        (slot, patience): (&Slot<'_>, Duration),
    ) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        let mut header = |name: &str, value: &str| {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        };
        header("Docker-Distribution-Api-Version", "registry/2.0");
        header("X-Content-Type-Options", "nosniff");
        for (name, value) in &self.headers {
            header(name, value);
        }
        // RFC 9110, section 15.4.5: nothing follows, and no length is said of what does not follow.
        if !matches!(self.status, 204 | 304) {
            header("Content-Length", &self.len().to_string());
        }
        if !keep_alive {
            header("Connection", "close");
        }
        head.push_str("\r\n");
        let mut out = Patient { stream, slot, patience };
        match self.body {
            _ if head_only || self.status == 304 => out.write_piece(head.as_bytes()),
            Body::Bytes(bytes) => {
                let mut whole = head.into_bytes();
                whole.extend_from_slice(&bytes);
                out.write_piece(&whole)
            }
            Body::Blob(mut blob, mut left) => {
                out.write_piece(head.as_bytes())?;
                let mut piece = vec![0; PIECE];
                while left > 0 {
                    let most = left.min(PIECE as u64) as usize;
                    match blob.read(&mut piece[..most]) {
                        // Cut off: the client sees fewer bytes than were said.
                        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                        Ok(n) => {
                            out.write_piece(&piece[..n])?;
                            left -= n as u64;
                        }
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            }
        }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let mut answer = Self::new(refusal.status, "application/json", refusal.to_json());
        if refusal.status == 405 {
            answer = answer.with("Allow", "GET, HEAD");
        }
        if refusal.status == 401 {
            answer = answer.with("WWW-Authenticate", "Basic realm=\"sconce\", charset=\"UTF-8\"");
        }
        match refusal.retry_after {
            Some(seconds) => answer.with("Retry-After", seconds.to_string()),
            None => answer,
        }
    }
}

/// A connection whose other end must take what it is sent.
struct Patient<'a, 'b> {
    stream: &'a mut Connection<'b>,
    slot: &'a Slot<'a>,
    patience: Duration,
}

impl Patient<'_, '_> {
    fn write_piece(&mut self, piece: &[u8]) -> io::Result<()> {
        self.stream.until(Instant::now() + self.patience);
        self.slot.sends();
        let sent = self.stream.write_all(piece).and_then(|()| self.stream.flush());
        self.slot.works();
        sent
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        507 => "Insufficient Storage",
        _ => "Internal Server Error",
    }
}
