//! A tar read as a stream, with nothing in it believed.
//!
//! Source: POSIX pax, "ustar Interchange Format" and "pax Interchange Format"; GNU tar manual,
//! "GNU Extensions" (`L` and `K` records), which is what dpkg-deb writes.

use std::io::{self, Read};

use sconce_layer::{MAX_PATH, check_path};

use crate::deb::DebError;

const BLOCK: usize = 512;
/// The largest pax record, bytes.
const MAX_PAX: u64 = 64 << 10;
/// The most entries of one tar. `linux-source` has 80,000 files.
const MAX_ENTRIES: u32 = 1_000_000;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file; its bytes come from [`Tar::read`].
    File,
    /// A directory.
    Directory,
    /// A symbolic link to [`TarEntry::link`].
    Symlink,
    /// Another name of the file [`TarEntry::link`], which stands earlier in the tar.
    Hardlink,
}

/// One entry's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarEntry {
    /// Relative, checked by [`check_path`]; empty for the root itself.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Length of the file's content, bytes; 0 for all but files.
    pub size: u64,
    /// Target of a link: as it stands for symbolic ones, a checked path for hard ones.
    pub link: String,
}

/// Reads entry by entry.
pub struct Tar<R> {
    inner: R,
    member: &'static str,
    offset: u64,
    /// Content of the last entry that was not read yet, and the padding after it.
    left: u64,
    padding: u64,
    entries: u32,
}

/// What records before an entry say about it.
#[derive(Default)]
struct Overrides {
    path: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

impl<R: Read> Tar<R> {
    /// Reads from `inner`; `member` is the tar's name in messages.
    pub fn new(inner: R, member: &'static str) -> Self {
        Self { inner, member, offset: 0, left: 0, padding: 0, entries: 0 }
    }

    /// The next entry, or nothing at the end. Unread content of the last one is passed over.
    pub fn next_entry(&mut self) -> Result<Option<TarEntry>, DebError> {
        self.skip()?;
        let mut overrides = Overrides::default();
        loop {
            let start = self.offset;
            let mut header = [0; BLOCK];
            self.fill(&mut header)?;
            if header.iter().all(|&byte| byte == 0) {
                return self.end().map(|()| None);
            }
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(self.fault(start, "more than a million entries"));
            }
            let raw = Header::parse(&header).map_err(|reason| self.fault(start, reason))?;
            match raw.kind {
                b'L' => overrides.path = Some(self.long_name(start, raw.size)?),
                b'K' => overrides.link = Some(self.long_name(start, raw.size)?),
                b'x' => self.pax(start, raw.size, &mut overrides)?,
                b'g' => drop(self.record(start, raw.size, MAX_PAX)?),
                _ => return self.entry(start, raw, overrides).map(Some),
            }
        }
    }

    /// Reads content of the entry returned last; 0 at its end.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize, DebError> {
        let want = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let Some(buf) = buf.get_mut(..want).filter(|buf| !buf.is_empty()) else { return Ok(0) };
        let n = loop {
            match self.inner.read(buf) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(error)),
                Ok(0) => return Err(self.fault(self.offset, "cut off in the middle of a file")),
                Ok(n) => break n,
            }
        };
        self.left -= n as u64;
        self.offset += n as u64;
        Ok(n)
    }

    fn entry(
        &mut self,
        start: u64,
        raw: Header<'_>,
        overrides: Overrides,
    ) -> Result<TarEntry, DebError> {
        let kind = match raw.kind {
            b'0' | 0 => EntryKind::File,
            b'1' => EntryKind::Hardlink,
            b'2' => EntryKind::Symlink,
            b'5' => EntryKind::Directory,
            b'3' | b'4' | b'6' => {
                return Err(self.fault(start, "a device node or pipe, which packages don't hold"));
            }
            b'S' => return Err(self.fault(start, "a sparse file, which packages don't hold")),
            other => return Err(self.fault(start, format!("an entry of unknown kind {other}"))),
        };
        let name = match overrides.path {
            Some(path) => path,
            None => raw.name().map_err(|reason| self.fault(start, reason))?,
        };
        let path = relative(&name).map_err(|reason| self.fault(start, reason))?;
        let link = match overrides.link {
            Some(link) => link,
            None => text(raw.link).map_err(|reason| self.fault(start, reason))?,
        };
        let link = match kind {
            EntryKind::Hardlink => relative(&link).map_err(|reason| self.fault(start, reason))?,
            EntryKind::Symlink
                if link.is_empty() || link.len() > MAX_PATH || link.contains('\0') =>
            {
                return Err(self.fault(start, "a link to nowhere, or a target too long"));
            }
            _ => link,
        };
        let size = overrides.size.unwrap_or(raw.size);
        let plain = kind == EntryKind::File;
        if !plain && size != 0 {
            return Err(self.fault(start, "content in what is not a regular file"));
        }
        if path.is_empty() && kind != EntryKind::Directory {
            return Err(self.fault(start, "the root is not a directory"));
        }
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        let (mode, uid, gid) = (raw.mode & 0o7777, raw.uid, raw.gid);
        Ok(TarEntry { path, kind, mode, uid, gid, size, link })
    }

    fn skip(&mut self) -> Result<(), DebError> {
        let mut sink = [0; 8192];
        while self.left > 0 {
            self.read(&mut sink)?;
        }
        self.left = std::mem::take(&mut self.padding);
        while self.left > 0 {
            self.read(&mut sink)?;
        }
        Ok(())
    }

    /// After the first zero block there may only be more of them.
    fn end(&mut self) -> Result<(), DebError> {
        let mut sink = [0; 8192];
        loop {
            match self.inner.read(&mut sink) {
                Ok(0) => return Ok(()),
                Ok(n) if sink.iter().take(n).all(|&byte| byte == 0) => self.offset += n as u64,
                Ok(_) => return Err(self.fault(self.offset, "bytes after the end of the tar")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(error)),
            }
        }
    }

    fn long_name(&mut self, start: u64, size: u64) -> Result<String, DebError> {
        let bytes = self.record(start, size, MAX_PATH as u64 + 2)?;
        text(&bytes).map_err(|reason| self.fault(start, reason))
    }

    /// `LEN KEY=VALUE\n` records; keys other than path, linkpath and size change nothing here.
    fn pax(&mut self, start: u64, size: u64, overrides: &mut Overrides) -> Result<(), DebError> {
        let bytes = self.record(start, size, MAX_PAX)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (key, value, after) =
                pax_record(rest).ok_or_else(|| self.fault(start, "a malformed pax record"))?;
            rest = after;
            let value = text(value).map_err(|reason| self.fault(start, reason))?;
            match key {
                b"path" => overrides.path = Some(value),
                b"linkpath" => overrides.link = Some(value),
                b"size" => {
                    let size = value.parse().ok();
                    overrides.size =
                        Some(size.ok_or_else(|| self.fault(start, "a malformed pax size"))?);
                }
                key if key.starts_with(b"GNU.sparse") => {
                    return Err(self.fault(start, "a sparse file, which packages don't hold"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn record(&mut self, start: u64, size: u64, max: u64) -> Result<Vec<u8>, DebError> {
        if size > max {
            return Err(self.fault(start, format!("a record of {size} bytes")));
        }
        let padded = size.div_ceil(BLOCK as u64) * BLOCK as u64;
        let mut bytes = vec![0; padded as usize];
        self.fill(&mut bytes)?;
        bytes.truncate(size as usize);
        Ok(bytes)
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<(), DebError> {
        self.inner.read_exact(buf).map_err(|error| self.broken(error))?;
        self.offset += buf.len() as u64;
        Ok(())
    }

    fn broken(&self, source: io::Error) -> DebError {
        DebError::Read { member: self.member, offset: self.offset, source }
    }

    fn fault(&self, offset: u64, reason: impl Into<String>) -> DebError {
        DebError::Format { member: self.member, offset, reason: reason.into() }
    }
}

/// `./usr/bin/` as `usr/bin`; the root as nothing.
fn relative(name: &str) -> Result<String, String> {
    let path = name.trim_end_matches('/');
    let path = path.strip_prefix("./").unwrap_or(path);
    if path.is_empty() && name.starts_with('/') {
        return Err("an absolute path".into());
    }
    if path.is_empty() || path == "." {
        return Ok(String::new());
    }
    check_path(path).map_err(|fault| format!("{fault}: {path:.200?}"))?;
    Ok(path.to_owned())
}

/// Text up to the first NUL.
fn text(bytes: &[u8]) -> Result<String, String> {
    let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8(bytes.to_vec()).map_err(|_| "a name that is not UTF-8".into())
}

fn pax_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().position(|&byte| byte == b' ')?;
    let len: usize = std::str::from_utf8(bytes.get(..blank)?).ok()?.parse().ok()?;
    let record = bytes.get(blank + 1..len)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    Some((record.get(..equals)?, record.get(equals + 1..)?, bytes.get(len..)?))
}

/// The fields of a header block that matter here.
struct Header<'a> {
    kind: u8,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    name: &'a [u8],
    prefix: &'a [u8],
    link: &'a [u8],
}

impl<'a> Header<'a> {
    fn parse(block: &'a [u8; BLOCK]) -> Result<Self, &'static str> {
        let stated = number(&block[148..156]).ok_or("a malformed checksum")?;
        let blanked = |at: usize| if (148..156).contains(&at) { b' ' } else { block[at] };
        let sum: u64 = (0..BLOCK).map(|at| u64::from(blanked(at))).sum();
        if stated != sum {
            return Err("a header whose checksum is wrong");
        }
        let small = |field: &[u8]| number(field).and_then(|n| u32::try_from(n).ok());
        let posix = &block[257..263] == b"ustar\0";
        Ok(Self {
            kind: block[156],
            mode: small(&block[100..108]).ok_or("a malformed mode")?,
            uid: small(&block[108..116]).ok_or("a malformed owner")?,
            gid: small(&block[116..124]).ok_or("a malformed group")?,
            size: number(&block[124..136]).filter(|&n| n < 1 << 60).ok_or("a malformed size")?,
            name: &block[0..100],
            // GNU's own format (`ustar  `) has times where POSIX has the prefix.
            prefix: if posix { &block[345..500] } else { &[] },
            link: &block[157..257],
        })
    }

    fn name(&self) -> Result<String, String> {
        let (prefix, name) = (text(self.prefix)?, text(self.name)?);
        Ok(if prefix.is_empty() { name } else { format!("{prefix}/{name}") })
    }
}

/// An octal number, or GNU's base-256 form.
fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        if first & 0x40 != 0 {
            return None;
        }
        let start = u64::from(first & 0x3f);
        return rest
            .iter()
            .try_fold(start, |n, &byte| n.checked_mul(256)?.checked_add(u64::from(byte)));
    }
    let digits = field.iter().skip_while(|&&byte| byte == b' ');
    let mut digits = digits.take_while(|&&byte| byte != 0 && byte != b' ');
    digits.try_fold(0u64, |n, &byte| {
        let digit = (byte as char).to_digit(8)?;
        n.checked_mul(8)?.checked_add(u64::from(digit))
    })
}
