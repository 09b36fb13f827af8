//! The central directory of a zip (PKWARE APPNOTE 6.3.10), read as if its author meant harm.
//!
//! A wheel that two readers could read differently is refused: the directory must stand right
//! before its end record, each local header must say what the directory says, entries must not
//! overlap, and names must be plain UTF-8 paths without duplicates. Sizes and CRC come from the
//! central directory (a local header with bit 3 set has none).

use std::collections::HashSet;

use crate::entry::{PathFault, ReadAt, check_path};

/// The most entries: torch has 15,000.
pub const MAX_ENTRIES: u64 = 1 << 18;
/// The largest central directory, bytes.
pub const MAX_DIRECTORY: u64 = 64 << 20;
/// Deflate can't expand more than this (258 bytes from 2 bits, RFC 1951, and rounding).
const MAX_RATIO: u64 = 1032;
/// An archive may unpack to this much and [`BOMB_RATIO`] times its size.
const BOMB_FLOOR: u64 = 1 << 30;
/// GPU libraries unpack to twice their size, sources to five times.
const BOMB_RATIO: u64 = 100;

const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;
const END_LEN: u64 = 22;
const END64_LEN: u64 = 56;
const LOCATOR64_LEN: u64 = 20;
const LOCAL_LEN: usize = 30;

const FLAG_ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
const FLAG_DESCRIPTOR: u16 = 1 << 3;
const FLAG_PATCH: u16 = 1 << 5;
const FLAG_UTF8: u16 = 1 << 11;

/// How an entry's bytes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// As they are.
    Stored,
    /// As a raw deflate stream.
    Deflate,
}

/// One file of an archive.
#[derive(Clone, Debug)]
pub struct ZipEntry {
    /// Its name, a path that [`check_path`] accepts.
    pub name: String,
    /// Where its local header starts.
    pub header: u64,
    /// Where its bytes start.
    pub data: u64,
    /// How they are kept.
    pub method: Method,
    /// How many there are in the archive.
    pub compressed: u64,
    /// How many they unpack to.
    pub size: u64,
    /// CRC-32 of the unpacked bytes.
    pub crc: u32,
    /// Whether it is a program: a Unix mode of a regular file with an x bit.
    pub executable: bool,
}

/// Where and why an archive was refused.
#[derive(Debug)]
pub struct ZipError {
    /// The entry's name as far as it is known, escaped.
    pub entry: Option<String>,
    /// Byte offset of the structure that is wrong.
    pub offset: u64,
    /// What is wrong.
    pub fault: ZipFault,
}

/// What can be wrong with an archive.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ZipFault {
    #[error("it has no end record where a zip ends: cut off, no zip, or something follows it")]
    NoEnd,
    #[error("the zip64 end record is missing, broken, or contradicts the plain one")]
    End64,
    #[error("the archive is split over several disks")]
    Split,
    #[error("{0} entries are more than the {MAX_ENTRIES} that are read")]
    Entries(u64),
    #[error("a directory of {0} bytes is larger than the {MAX_DIRECTORY} that are read")]
    DirectorySize(u64),
    #[error("the directory does not stand right before its end record, or its length is wrong")]
    Directory,
    #[error("the header is cut off or does not start with its signature")]
    Header,
    #[error("it is encrypted")]
    Encrypted,
    #[error("it is compressed with method {0}; wheels use stored (0) and deflate (8)")]
    Method(u16),
    #[error("the name is not UTF-8, or is not marked as UTF-8 though it is not ASCII")]
    Encoding,
    #[error("{0}")]
    Name(PathFault),
    #[error("the name holds a backslash")]
    Backslash,
    #[error("the name comes twice")]
    Duplicate,
    #[error("it is a symbolic link, device or other special file (Unix mode {0:o})")]
    Special(u32),
    #[error("it is a directory but has content")]
    DirectoryContent,
    #[error("its zip64 or Unicode-name extra field is broken")]
    Extra,
    #[error("its local header says something else than the directory")]
    Disagreement,
    #[error("its bytes overlap another entry or the directory")]
    Overlap,
    #[error("{compressed} bytes can't unpack to {size}: a zip bomb")]
    Ratio {
        /// In the archive.
        compressed: u64,
        /// Declared.
        size: u64,
    },
    #[error("the whole archive would unpack to {0} bytes: a zip bomb")]
    Bomb(u64),
    #[error("reading failed: {0}")]
    Read(std::io::Error),
}

/// All files of the archive, in the order of its central directory. Directories are checked and
/// left out: a wheel's directories follow from its files.
pub fn read(source: &dyn ReadAt) -> Result<Vec<ZipEntry>, ZipError> {
    let archive = Source { source, len: source.size().map_err(|e| at(0, ZipFault::Read(e)))? };
    let end = archive.end()?;
    let mut entries = archive.central(&end)?;
    archive.local(&mut entries, end.directory)?;
    names(&entries)?;
    Ok(entries)
}

fn at(offset: u64, fault: ZipFault) -> ZipError {
    ZipError { entry: None, offset, fault }
}

fn within(entry: &ZipEntry, offset: u64, fault: ZipFault) -> ZipError {
    ZipError { entry: Some(shown(entry.name.as_bytes())), offset, fault }
}

/// A name from the archive, fit to be printed.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(200).flat_map(char::escape_debug).collect()
}

/// Little-endian numbers from the front of a slice.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    fn number(&mut self, n: usize) -> Option<u64> {
        Some(self.take(n)?.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    }

    fn u16(&mut self) -> Option<u16> {
        self.number(2).map(|n| n as u16)
    }

    fn u32(&mut self) -> Option<u32> {
        self.number(4).map(|n| n as u32)
    }
}

/// Where the central directory is.
struct End {
    directory: u64,
    directory_len: u64,
    entries: u64,
}

struct Source<'a> {
    source: &'a dyn ReadAt,
    len: u64,
}

impl Source<'_> {
    fn bytes(&self, offset: u64, len: u64) -> Result<Vec<u8>, ZipError> {
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| at(offset, ZipFault::Header))?];
        self.source.read_exact_at(&mut bytes, offset).map_err(|e| at(offset, ZipFault::Read(e)))?;
        Ok(bytes)
    }

    /// 4.3.16, and 4.3.14 and 4.3.15 where there are any.
    fn end(&self) -> Result<End, ZipError> {
        let tail_len = self.len.min(END_LEN + 0xffff);
        let tail_start = self.len - tail_len;
        let tail = self.bytes(tail_start, tail_len)?;
        // The last record whose comment ends with the file: nothing may follow an archive.
        let found = (0..=tail.len().saturating_sub(END_LEN as usize)).rev().find(|&start| {
            let mut record = Fields(tail.get(start..).unwrap_or_default());
            record.u32() == Some(END)
                && record.take(16).is_some()
                && record.u16().map(usize::from) == Some(record.0.len())
        });
        let start = found.ok_or_else(|| at(tail_start, ZipFault::NoEnd))?;
        let offset = tail_start + start as u64;
        let plain = parse_end(&tail[start..]).ok_or_else(|| at(offset, ZipFault::NoEnd))?;
        let [disk, directory_disk, here, entries, directory_len, directory] = plain;

        let locator = match offset.checked_sub(LOCATOR64_LEN) {
            Some(before) => self.bytes(before, LOCATOR64_LEN)?,
            None => Vec::new(),
        };
        let mut locator = Fields(&locator);
        if locator.u32() != Some(LOCATOR64) {
            if disk != 0 || directory_disk != 0 || here != entries {
                return Err(at(offset, ZipFault::Split));
            }
            if directory.checked_add(directory_len) != Some(offset) {
                return Err(at(offset, ZipFault::Directory));
            }
            return Ok(End { directory, directory_len, entries });
        }

        let bad = || at(offset, ZipFault::End64);
        let (first_disk, record, disks) =
            (locator.u32(), locator.number(8).ok_or_else(bad)?, locator.u32());
        if first_disk != Some(0) || disks.is_none_or(|n| n > 1) {
            return Err(at(offset, ZipFault::Split));
        }
        // Without the extensible data sector, which nothing uses, the record ends at the locator.
        if record.checked_add(END64_LEN + LOCATOR64_LEN) != Some(offset) {
            return Err(bad());
        }
        let bytes = self.bytes(record, END64_LEN)?;
        let wide = parse_end64(&bytes).ok_or_else(bad)?;
        let limits = [0xffff, 0xffff, 0xffff, 0xffff, 0xffff_ffff, 0xffff_ffff];
        for ((plain, wide), limit) in plain.iter().zip(wide).zip(limits) {
            if *plain != limit && *plain != wide {
                return Err(bad());
            }
        }
        let [disk, directory_disk, here, entries, directory_len, directory] = wide;
        if disk != 0 || directory_disk != 0 || here != entries {
            return Err(at(record, ZipFault::Split));
        }
        if directory.checked_add(directory_len) != Some(record) {
            return Err(at(record, ZipFault::Directory));
        }
        Ok(End { directory, directory_len, entries })
    }

    /// 4.3.12. The bytes of the entries are not known yet: that takes the local headers.
    fn central(&self, end: &End) -> Result<Vec<ZipEntry>, ZipError> {
        if end.entries > MAX_ENTRIES {
            return Err(at(end.directory, ZipFault::Entries(end.entries)));
        }
        if end.directory_len > MAX_DIRECTORY {
            return Err(at(end.directory, ZipFault::DirectorySize(end.directory_len)));
        }
        let bytes = self.bytes(end.directory, end.directory_len)?;
        let mut rest = Fields(&bytes);
        let mut entries = Vec::new();
        let mut unpacked = 0u64;
        for _ in 0..end.entries {
            let offset = end.directory + (bytes.len() - rest.0.len()) as u64;
            if let Some(entry) = central_entry(&mut rest, offset)? {
                unpacked = unpacked.saturating_add(entry.size);
                entries.push(entry);
            }
        }
        if !rest.0.is_empty() {
            return Err(at(end.directory, ZipFault::Directory));
        }
        if unpacked > BOMB_FLOOR.saturating_add(self.len.saturating_mul(BOMB_RATIO)) {
            return Err(at(end.directory, ZipFault::Bomb(unpacked)));
        }
        Ok(entries)
    }

    /// 4.3.7: finds where the bytes start, and that nothing overlaps.
    fn local(&self, entries: &mut [ZipEntry], directory: u64) -> Result<(), ZipError> {
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_by_key(|&n| entries[n].header);
        let mut free = 0;
        for n in order {
            let entry = &mut entries[n];
            let offset = entry.header;
            if offset < free || offset >= directory {
                return Err(within(entry, offset, ZipFault::Overlap));
            }
            let len = (LOCAL_LEN + entry.name.len()) as u64;
            if offset.checked_add(len).is_none_or(|end| end > directory) {
                return Err(within(entry, offset, ZipFault::Header));
            }
            let bytes = self.bytes(offset, len)?;
            let extra = check_local(entry, &bytes).map_err(|fault| within(entry, offset, fault))?;
            entry.data = offset + len + u64::from(extra);
            free = entry
                .data
                .checked_add(entry.compressed)
                .filter(|&end| end <= directory)
                .ok_or_else(|| within(entry, offset, ZipFault::Overlap))?;
        }
        Ok(())
    }
}

/// Disk, disk of the directory, entries here, entries, length and offset of the directory.
fn parse_end(record: &[u8]) -> Option<[u64; 6]> {
    let mut record = Fields(record);
    record.take(4)?;
    let [a, b, c, d] = [record.number(2)?, record.number(2)?, record.number(2)?, record.number(2)?];
    Some([a, b, c, d, record.number(4)?, record.number(4)?])
}

fn parse_end64(record: &[u8]) -> Option<[u64; 6]> {
    let mut record = Fields(record);
    if record.u32()? != END64 || record.number(8)? != END64_LEN - 12 {
        return None;
    }
    record.take(4)?;
    let [disk, directory_disk] = [record.number(4)?, record.number(4)?];
    let [here, entries] = [record.number(8)?, record.number(8)?];
    Some([disk, directory_disk, here, entries, record.number(8)?, record.number(8)?])
}

/// The next header of the central directory; nothing for a directory.
fn central_entry(rest: &mut Fields<'_>, offset: u64) -> Result<Option<ZipEntry>, ZipError> {
    let cut = || at(offset, ZipFault::Header);
    let mut fixed = Fields(rest.take(46).ok_or_else(cut)?);
    if fixed.u32() != Some(CENTRAL) {
        return Err(cut());
    }
    let mut short = || fixed.u16().ok_or_else(cut);
    let [_made_by, _needed, flags, method, _time, _date] =
        [short()?, short()?, short()?, short()?, short()?, short()?];
    let mut long = || fixed.u32().ok_or_else(cut);
    let [crc, compressed, size] = [long()?, long()?, long()?];
    let mut short = || fixed.u16().ok_or_else(cut);
    let [name_len, extra_len, comment_len, disk, _internal] =
        [short()?, short()?, short()?, short()?, short()?];
    let mut long = || fixed.u32().ok_or_else(cut);
    let [external, header] = [long()?, long()?];
    let raw = rest.take(name_len.into()).ok_or_else(cut)?;
    let extra = rest.take(extra_len.into()).ok_or_else(cut)?;
    rest.take(comment_len.into()).ok_or_else(cut)?;

    let bad = |fault| ZipError { entry: Some(shown(raw)), offset, fault };
    if flags & FLAG_ENCRYPTED != 0 {
        return Err(bad(ZipFault::Encrypted));
    }
    if disk != 0 {
        return Err(bad(ZipFault::Split));
    }
    let name = std::str::from_utf8(raw).map_err(|_| bad(ZipFault::Encoding))?;
    if flags & FLAG_UTF8 == 0 && !name.is_ascii() {
        return Err(bad(ZipFault::Encoding));
    }
    let wide =
        extra_fields(extra, raw, [size, compressed, header]).ok_or_else(|| bad(ZipFault::Extra))?;
    let [size, compressed, header] = wide;
    if name.contains('\\') {
        return Err(bad(ZipFault::Backslash));
    }
    let (path, directory) = match name.strip_suffix('/') {
        Some(path) => (path, true),
        None => (name, false),
    };
    check_path(path).map_err(|fault| bad(ZipFault::Name(fault)))?;
    let mode = external >> 16;
    let kind = mode & 0o170_000;
    if directory {
        // An empty deflate stream is two bytes.
        if size != 0 || compressed > 2 {
            return Err(bad(ZipFault::DirectoryContent));
        }
        return Ok(None);
    }
    if !matches!(kind, 0 | 0o100_000) {
        return Err(bad(ZipFault::Special(mode)));
    }
    let method = match method {
        0 => Method::Stored,
        8 if flags & FLAG_PATCH == 0 => Method::Deflate,
        other => return Err(bad(ZipFault::Method(other))),
    };
    let possible = match method {
        Method::Stored => size == compressed,
        Method::Deflate => size <= compressed.saturating_mul(MAX_RATIO),
    };
    if !possible {
        return Err(bad(ZipFault::Ratio { compressed, size }));
    }
    Ok(Some(ZipEntry {
        name: path.to_owned(),
        header,
        data: 0,
        method,
        compressed,
        size,
        crc,
        executable: kind == 0o100_000 && mode & 0o111 != 0,
    }))
}

/// Fills in what the zip64 field holds (4.5.3: in this order, each only where the plain field is
/// full), and refuses a Unicode name (4.6.9) that is another name.
fn extra_fields(extra: &[u8], name: &[u8], plain: [u32; 3]) -> Option<[u64; 3]> {
    let mut rest = Fields(extra);
    let mut wide = plain.map(u64::from);
    let mut seen = false;
    // Some writers pad the field with fewer than four zero bytes.
    while rest.0.len() >= 4 {
        let (id, len) = (rest.u16()?, rest.u16()?);
        let mut field = Fields(rest.take(len.into())?);
        match id {
            0x0001 if seen => return None,
            0x0001 => {
                seen = true;
                for (wide, plain) in wide.iter_mut().zip(plain) {
                    if plain == u32::MAX {
                        *wide = field.number(8)?;
                    }
                }
            }
            0x7075 if field.0.get(5..) != Some(name) => return None,
            _ => {}
        }
    }
    rest.0.iter().all(|&byte| byte == 0).then_some(wide)
}

/// Whether a local header agrees with the directory. Returns the length of its extra field.
fn check_local(entry: &ZipEntry, bytes: &[u8]) -> Result<u16, ZipFault> {
    let fields = || -> Option<_> {
        let mut fields = Fields(bytes);
        let signature = fields.u32()?;
        fields.take(2)?;
        let (flags, method) = (fields.u16()?, fields.u16()?);
        fields.take(4)?;
        let numbers = [fields.u32()?, fields.u32()?, fields.u32()?];
        let (name_len, extra_len) = (fields.u16()?, fields.u16()?);
        Some((signature, flags, method, numbers, name_len, extra_len, fields.0))
    };
    let (signature, flags, method, [crc, compressed, size], name_len, extra_len, name) =
        fields().ok_or(ZipFault::Header)?;
    if signature != LOCAL {
        return Err(ZipFault::Header);
    }
    if flags & FLAG_ENCRYPTED != 0 {
        return Err(ZipFault::Encrypted);
    }
    let number = |local: u32, central: u64| {
        // Full fields stand for a zip64 field; with a descriptor they are 0 or filled in later.
        u64::from(local) == central
            || local == u32::MAX
            || (local == 0 && flags & FLAG_DESCRIPTOR != 0)
    };
    let agrees = usize::from(name_len) == entry.name.len()
        && name == entry.name.as_bytes()
        && method == if entry.method == Method::Stored { 0 } else { 8 }
        && (crc == entry.crc || crc == 0 && flags & FLAG_DESCRIPTOR != 0)
        && number(compressed, entry.compressed)
        && number(size, entry.size);
    if agrees { Ok(extra_len) } else { Err(ZipFault::Disagreement) }
}

/// No name twice. Names that differ in case alone are two files on Linux.
fn names(entries: &[ZipEntry]) -> Result<(), ZipError> {
    let mut seen: HashSet<&str> = HashSet::with_capacity(entries.len());
    for entry in entries {
        if !seen.insert(&entry.name) {
            return Err(within(entry, entry.header, ZipFault::Duplicate));
        }
    }
    Ok(())
}
