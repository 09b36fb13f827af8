//! Wheels and other zip files, read by range: the central directory, then single entries.
//!
//! Source: PKWARE APPNOTE 6.3.10 (4.3.7 local header, 4.3.12 central directory, 4.3.14 to 4.3.16
//! ends, zip64). Stored and deflated entries only, which is all a wheel may have. Sizes are the
//! central directory's; local headers are read for their length alone.

use std::sync::Arc;

use crate::Error;
use crate::inflate::Inflated;
use crate::read::{Fields, Named, ReadAt, Slice};
use crate::tree::{Opener, Tree};

const END: u32 = 0x0605_4b50;
const END64_LOCATOR: u32 = 0x0706_4b50;
const END64: u32 = 0x0606_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;
/// The end record and the longest comment behind it.
const TAIL: u64 = 22 + 0xffff;
/// A million files; the largest wheels have some 2 MiB.
const MAX_DIRECTORY: u64 = 96 << 20;
/// Deflate's best is 1032 to 1; an entry that claims more lies.
const MAX_RATIO: u64 = 1032;

/// One file of a zip archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, with `/` between parts.
    pub name: String,
    /// Bytes in the archive.
    pub packed: u64,
    /// Bytes when unpacked.
    pub size: u64,
    /// CRC-32 of the unpacked bytes, as the directory has it.
    pub crc: u32,
    /// Offset of its local header.
    pub header: u64,
    /// Whether it is deflated, else stored.
    pub deflated: bool,
    /// External file attributes (4.4.15): of archives made on Unix the mode is in the upper half.
    pub attributes: u32,
}

/// Whether a file that starts with these bytes is a zip archive.
pub fn sniff(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06")
}

/// The files of the archive, directories left out, in the order of the central directory.
///
/// # Errors
/// [`Error::Malformed`] or [`Error::Truncated`] with the offset: no end record, a directory that
/// does not fit, an entry twice, an unknown method, encryption, sizes that can't be.
pub fn entries(file: Named<'_>) -> Result<Vec<Entry>, Error> {
    const WHAT: &str = "zip central directory";
    let (start, len, count) = directory(file)?;
    let bytes = file.range(start, len, MAX_DIRECTORY, WHAT)?;
    let mut out = Vec::new();
    let mut at = 0usize;
    for _ in 0..count {
        let place = start + at as u64;
        let bad = |why: &str| file.malformed(place, WHAT, why);
        let row =
            bytes.get(at..at.saturating_add(46)).ok_or_else(|| bad("ends inside an entry"))?;
        let row = Fields(row);
        if row.u32(0) != CENTRAL {
            return Err(bad("no entry where one should be"));
        }
        let (name_len, extra_len, comment_len) =
            (usize::from(row.u16(28)), usize::from(row.u16(30)), usize::from(row.u16(32)));
        let name_at = at + 46;
        let extra_at = name_at + name_len;
        let next = extra_at + extra_len + comment_len;
        if next > bytes.len() {
            return Err(bad("ends inside an entry"));
        }
        let name = std::str::from_utf8(&bytes[name_at..extra_at])
            .map_err(|_| bad("a name that is no UTF-8"))?;
        let wide = Wide::read(&bytes[extra_at..extra_at + extra_len], row);
        at = next;
        if name.ends_with('/') {
            continue;
        }
        let method = row.u16(10);
        if row.u16(8) & 1 != 0 {
            return Err(bad("an encrypted entry"));
        }
        if !matches!(method, 0 | 8) {
            return Err(bad(&format!(
                "`{name}` is packed by method {method}, which no wheel may use"
            )));
        }
        let fits = wide.header.checked_add(wide.packed).is_some_and(|end| end <= start);
        if !fits {
            return Err(bad(&format!("`{name}` reaches beyond the files' part of the archive")));
        }
        let possible = if method == 0 {
            wide.size == wide.packed
        } else {
            wide.size / MAX_RATIO <= wide.packed
        };
        if !possible {
            return Err(bad(&format!(
                "`{name}` claims {} bytes from {} packed ones",
                wide.size, wide.packed
            )));
        }
        out.push(Entry {
            name: name.to_owned(),
            packed: wide.packed,
            size: wide.size,
            crc: row.u32(16),
            header: wide.header,
            deflated: method == 8,
            attributes: row.u32(38),
        });
    }
    let mut names: Vec<(&str, u64)> =
        out.iter().map(|entry| (entry.name.as_str(), entry.header)).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let why = format!("`{}` stands there twice", twice[1].0);
        return Err(file.malformed(twice[1].1, WHAT, why));
    }
    Ok(out)
}

/// Sizes and offset of an entry, from its zip64 field where the short ones are full.
struct Wide {
    size: u64,
    packed: u64,
    header: u64,
}

impl Wide {
    fn read(mut extra: &[u8], row: Fields<'_>) -> Self {
        let short = |at: usize| u64::from(row.u32(at));
        let mut wide = Self { size: short(24), packed: short(20), header: short(42) };
        while extra.len() >= 4 {
            let (id, len) = (Fields(extra).u16(0), usize::from(Fields(extra).u16(2)));
            let body = extra.get(4..4 + len).unwrap_or_default();
            if id == 1 {
                let mut place = 0;
                for field in [&mut wide.size, &mut wide.packed, &mut wide.header] {
                    if *field == 0xffff_ffff && place + 8 <= body.len() {
                        *field = Fields(body).u64(place);
                        place += 8;
                    }
                }
            }
            extra = extra.get(4 + len..).unwrap_or_default();
        }
        wide
    }
}

/// Where the central directory starts, its length, and how many entries it has.
fn directory(file: Named<'_>) -> Result<(u64, u64, u64), Error> {
    const WHAT: &str = "zip end record";
    let tail_len = file.size().min(TAIL);
    let tail_at = file.size() - tail_len;
    let tail = file.range(tail_at, tail_len, TAIL, WHAT)?;
    let end = (0..tail.len().saturating_sub(21))
        .rev()
        .find(|at| tail[*at..].starts_with(&END.to_le_bytes()))
        .ok_or_else(|| file.malformed(tail_at, WHAT, "there is none: no zip file, or cut off"))?;
    let record = Fields(&tail[end..]);
    let (mut count, mut len, mut start) =
        (u64::from(record.u16(10)), u64::from(record.u32(12)), u64::from(record.u32(16)));
    let end_at = tail_at + end as u64;
    if (count == 0xffff || len == 0xffff_ffff || start == 0xffff_ffff) && end_at >= 20 {
        let locator: [u8; 20] = file.array(end_at - 20, WHAT)?;
        if Fields(&locator).u32(0) == END64_LOCATOR {
            let at = Fields(&locator).u64(8);
            let record: [u8; 56] = file.array(at, WHAT)?;
            let record = Fields(&record);
            if record.u32(0) != END64 {
                return Err(file.malformed(at, WHAT, "no zip64 record where one should be"));
            }
            (count, len, start) = (record.u64(32), record.u64(40), record.u64(48));
        }
    }
    if start.checked_add(len).is_none_or(|directory_end| directory_end > end_at) {
        return Err(file.malformed(end_at, WHAT, "its directory does not lie before it"));
    }
    Ok((start, len, count))
}

/// An entry that is opened when its bytes are wanted.
struct Lazy {
    archive: Arc<dyn ReadAt>,
    name: Arc<str>,
    entry: Entry,
}

/// Where an entry's packed bytes start.
///
/// # Errors
/// [`Error::Malformed`] or [`Error::Truncated`]: there is no such entry.
pub fn start(file: Named<'_>, entry: &Entry) -> Result<u64, Error> {
    const WHAT: &str = "zip local header";
    let head: [u8; 30] = file.array(entry.header, WHAT)?;
    let head = Fields(&head);
    if head.u32(0) != LOCAL {
        return Err(file.malformed(entry.header, WHAT, "it is not there"));
    }
    Ok(entry.header + 30 + u64::from(head.u16(26)) + u64::from(head.u16(28)))
}

impl Opener for Lazy {
    fn open(&self) -> Result<Arc<dyn ReadAt>, Error> {
        let start = start(Named::new(&self.name, &*self.archive), &self.entry)?;
        let packed = Slice::new(Arc::clone(&self.archive), start, self.entry.packed);
        Ok(if self.entry.deflated {
            Arc::new(Inflated::raw(packed, self.entry.size))
        } else {
            Arc::new(packed)
        })
    }
}

/// Puts a wheel's files into `tree` where an installer would put them, `site` being the directory
/// of packages (PEP 427: `*.data/purelib` and `platlib` are spread into it; scripts, headers and
/// data go to the prefix above, which is kept as `NAME.data` here).
///
/// # Errors
/// Those of [`entries`].
pub fn add_wheel(
    tree: &mut Tree,
    name: &str,
    archive: &Arc<dyn ReadAt>,
    site: &str,
) -> Result<(), Error> {
    let name: Arc<str> = name.into();
    for entry in entries(Named::new(&name, &**archive))? {
        let inside = ["purelib/", "platlib/"].iter().find_map(|scheme| {
            let (first, rest) = entry.name.split_once('/')?;
            first.ends_with(".data").then(|| rest.strip_prefix(scheme))?
        });
        let path = inside.unwrap_or(&entry.name);
        let path = if site.is_empty() { path.to_owned() } else { format!("{site}/{path}") };
        let size = entry.size;
        let lazy = Lazy { archive: Arc::clone(archive), name: Arc::clone(&name), entry };
        tree.add_opener(&path, size, Arc::new(lazy));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use miniz_oxide::deflate::compress_to_vec;

    use super::*;

    /// An archive of these files, deflated.
    pub fn forge(files: &[(&str, &[u8])]) -> Vec<u8> {
        let (mut out, mut central) = (Vec::new(), Vec::new());
        for (name, bytes) in files {
            let packed = compress_to_vec(bytes, 6);
            let at = out.len() as u32;
            let mut fields = Vec::new();
            fields.extend([20, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            fields.extend((packed.len() as u32).to_le_bytes());
            fields.extend((bytes.len() as u32).to_le_bytes());
            fields.extend((name.len() as u16).to_le_bytes());
            fields.extend([0, 0]);
            out.extend(LOCAL.to_le_bytes());
            out.extend(&fields);
            out.extend(name.as_bytes());
            out.extend(packed);
            central.extend(CENTRAL.to_le_bytes());
            central.extend([20, 3]);
            central.extend(&fields);
            central.extend([0; 10]);
            central.extend(at.to_le_bytes());
            central.extend(name.as_bytes());
        }
        let at = out.len() as u32;
        out.extend(&central);
        out.extend(END.to_le_bytes());
        out.extend([0; 4]);
        for _ in 0..2 {
            out.extend((files.len() as u16).to_le_bytes());
        }
        out.extend((central.len() as u32).to_le_bytes());
        out.extend(at.to_le_bytes());
        out.extend([0, 0]);
        out
    }

    fn read(bytes: &[u8]) -> Result<Vec<Entry>, Error> {
        entries(Named::new("x.whl", &bytes.to_vec()))
    }

    #[test]
    fn a_wheel_becomes_a_tree() {
        let wheel: Arc<dyn ReadAt> = Arc::new(forge(&[
            ("pkg/a.py", b"print()"),
            ("pkg-1.data/purelib/pkg/b.py", b"b"),
            ("../evil", b"x"),
        ]));
        let mut tree = Tree::new();
        add_wheel(&mut tree, "pkg.whl", &wheel, "site").unwrap();
        let files: Vec<_> = tree.files().collect();
        assert_eq!(files, [("site/pkg/a.py", 7), ("site/pkg/b.py", 1)]);
        assert_eq!(tree.text("site/pkg/a.py", 100).unwrap(), "print()");
    }

    #[test]
    fn lies_are_refused_with_their_place() {
        let good = forge(&[("a", b"hello"), ("b", b"world")]);
        assert_eq!(read(&good).unwrap().len(), 2);
        let central = read(&good)
            .map(|_| good.windows(4).position(|w| w == CENTRAL.to_le_bytes()))
            .unwrap()
            .unwrap();
        // A petabyte from seven bytes, by the zip64 field's lesser sister.
        let mut bad = good.clone();
        bad[central + 24..central + 28].copy_from_slice(&0xffff_fff0u32.to_le_bytes());
        let error = read(&bad).unwrap_err();
        assert_eq!(error.offset(), Some(central as u64));
        assert!(error.to_string().contains("claims 4294967280 bytes"), "{error}");
        let error = read(&forge(&[("a", b"1"), ("a", b"2")])).unwrap_err();
        assert!(error.to_string().contains("twice"), "{error}");
        assert!(read(b"no zip").is_err() && read(b"").is_err());
    }

    #[test]
    fn cut_off_anywhere_and_any_byte_changed() {
        let good = forge(&[("pkg/lib.so", &[7; 300]), ("b", b"world")]);
        let open_all = |bytes: Vec<u8>| {
            let archive: Arc<dyn ReadAt> = Arc::new(bytes);
            let mut tree = Tree::new();
            if add_wheel(&mut tree, "x.whl", &archive, "").is_ok() {
                let paths: Vec<String> = tree.files().map(|(path, _)| path.to_owned()).collect();
                for path in paths {
                    tree.text(&path, 1 << 20);
                }
            }
        };
        for at in 0..good.len() {
            open_all(good[..at].to_vec());
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                open_all(bad);
            }
        }
    }
}
