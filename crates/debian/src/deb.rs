//! A .deb, read by range and as a stream: its control data and the files it brings.
//!
//! Source: deb(5): an ar of `debian-binary`, `control.tar*` and `data.tar*`, in this order.

use std::io::{self, BufReader, Read};

use sconce_layer::ReadAt;

use crate::compression::{Bounded, Compression};
use crate::control::{Stanza, Stanzas};
use crate::tar::{EntryKind, Tar};

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER: u64 = 60;
/// The most bytes `control.tar` unpacks to. The largest in trixie is about 4 million (md5sums).
const MAX_CONTROL: u64 = 64 << 20;
/// The most bytes of one file of `control.tar` that is read.
const MAX_CONTROL_FILE: u64 = 8 << 20;
/// How much more than the .deb itself `data.tar` may be: a text compresses to a thirtieth.
const MAX_RATIO: u64 = 128;
/// What any `data.tar` may unpack to, bytes, be it compressed as well as it may.
const FREE_SIZE: u64 = 256 << 20;

/// Why a .deb is refused. Offsets are in the member named, after decompression.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// The bytes below could not be read: cut off, or badly compressed.
    #[error("{member}, byte {offset}: {source}")]
    Read {
        /// `ar`, `control.tar` or `data.tar`.
        member: &'static str,
        /// Where.
        offset: u64,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The bytes break a rule.
    #[error("{member}, byte {offset}: {reason}")]
    Format {
        /// `ar`, `control.tar` or `data.tar`.
        member: &'static str,
        /// Where.
        offset: u64,
        /// Which rule.
        reason: String,
    },
}

impl DebError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(
            "the file is damaged or not one of Debian's: fetch it again from another mirror".into(),
        )
    }
}

/// Control data of a package.
#[derive(Debug, Clone)]
pub struct Control {
    /// The stanza of `control`.
    pub stanza: Stanza,
}

/// An open .deb.
pub struct Deb<'a> {
    source: &'a dyn ReadAt,
    control: Member,
    data: Member,
    size: u64,
}

#[derive(Clone, Copy)]
struct Member {
    offset: u64,
    len: u64,
    compression: Compression,
}

impl<'a> Deb<'a> {
    /// Finds the members of a .deb.
    pub fn open(source: &'a dyn ReadAt) -> Result<Self, DebError> {
        let size = source.size().map_err(|source| broken(0, source))?;
        let mut magic = [0; 8];
        source.read_exact_at(&mut magic, 0).map_err(|source| broken(0, source))?;
        if &magic != MAGIC {
            return Err(fault(0, "no ar archive"));
        }
        let mut at = MAGIC.len() as u64;
        let (name, version) = member(source, &mut at, size)?;
        let mut text = [0; 4];
        source.read_exact_at(&mut text, version.0).map_err(|source| broken(version.0, source))?;
        if name != "debian-binary" || version.1 > 64 || !text.starts_with(b"2.") {
            return Err(fault(8, "no .deb of format 2"));
        }
        let control = tar_member("control.tar", source, &mut at, size)?;
        let data = tar_member("data.tar", source, &mut at, size)?;
        Ok(Self { source, control, data, size })
    }

    /// Reads `control`.
    pub fn control(&self) -> Result<Control, DebError> {
        const NAME: &str = "control.tar";
        let mut tar = Tar::new(self.member(self.control, NAME, MAX_CONTROL)?, NAME);
        let mut control = None;
        while let Some(entry) = tar.next_entry()? {
            if entry.path != "control" || entry.kind != EntryKind::File {
                continue;
            }
            if entry.size > MAX_CONTROL_FILE {
                let reason = "`control` is larger than 8 MiB".into();
                return Err(DebError::Format { member: NAME, offset: 0, reason });
            }
            let mut bytes = vec![0; entry.size as usize];
            let mut done = 0;
            while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
                done += tar.read(rest)?;
            }
            control.get_or_insert(bytes);
        }
        let wrong = |reason: String| DebError::Format { member: NAME, offset: 0, reason };
        let control = control.ok_or_else(|| wrong("no `control`".into()))?;
        let stanza = Stanzas::new(control.as_slice())
            .next_stanza()
            .map_err(|error| wrong(format!("`control`: {error}")))?
            .ok_or_else(|| wrong("`control` is empty".into()))?;
        Ok(Control { stanza })
    }

    /// The files the package brings, as a stream.
    pub fn data(&self) -> Result<Tar<impl Read + use<'a>>, DebError> {
        let limit = FREE_SIZE.saturating_add(self.size.saturating_mul(MAX_RATIO));
        Ok(Tar::new(self.member(self.data, "data.tar", limit)?, "data.tar"))
    }

    fn member(
        &self,
        member: Member,
        name: &'static str,
        limit: u64,
    ) -> Result<impl Read + use<'a>, DebError> {
        let window = Window { source: self.source, at: member.offset, left: member.len };
        let reader = member
            .compression
            .reader(BufReader::with_capacity(64 << 10, window))
            .map_err(|source| DebError::Read { member: name, offset: 0, source })?;
        Ok(Bounded::new(reader, limit))
    }
}

/// The next member of this name; members whose names begin with `_` are passed over (deb(5)).
fn tar_member(
    wanted: &str,
    source: &dyn ReadAt,
    at: &mut u64,
    size: u64,
) -> Result<Member, DebError> {
    loop {
        let start = *at;
        let (name, (offset, len)) = member(source, at, size)?;
        if name.starts_with('_') {
            continue;
        }
        let ending = name.strip_prefix(wanted);
        let Some(ending) = ending else {
            return Err(fault(start, format!("`{name}` where {wanted} must stand")));
        };
        let compression = Compression::of_ending(ending)
            .ok_or_else(|| fault(start, format!("`{name}` has an unknown compression")))?;
        return Ok(Member { offset, len, compression });
    }
}

/// Name, offset and length of the member whose header is at `at`, which moves behind it.
fn member(source: &dyn ReadAt, at: &mut u64, size: u64) -> Result<(String, (u64, u64)), DebError> {
    let start = *at;
    let mut header = [0; HEADER as usize];
    source.read_exact_at(&mut header, start).map_err(|source| broken(start, source))?;
    if &header[58..60] != b"`\n" {
        return Err(fault(start, "a malformed member header"));
    }
    let field = |range: std::ops::Range<usize>| {
        std::str::from_utf8(&header[range]).ok().map(str::trim_ascii_end)
    };
    let name = field(0..16).ok_or_else(|| fault(start, "a member's name is not ASCII"))?;
    let len = field(48..58).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let len: u64 = len
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| fault(start, "a malformed member size"))?;
    // Sizes have ten digits, so none of this comes near an overflow.
    let offset = start + HEADER;
    if offset + len > size {
        return Err(fault(start, format!("a member of {len} bytes, more than the file has left")));
    }
    *at = offset + len + len % 2;
    Ok((name.trim_end_matches('/').to_owned(), (offset, len)))
}

fn broken(offset: u64, source: io::Error) -> DebError {
    DebError::Read { member: "ar", offset, source }
}

fn fault(offset: u64, reason: impl Into<String>) -> DebError {
    DebError::Format { member: "ar", offset, reason: reason.into() }
}

/// A piece of a source, as a reader.
struct Window<'a> {
    source: &'a dyn ReadAt,
    at: u64,
    left: u64,
}

impl Read for Window<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.source.read_at(buf.get_mut(..want).unwrap_or_default(), self.at)?;
        if n == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}
