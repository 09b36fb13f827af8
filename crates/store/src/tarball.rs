//! The entries of a tar read as a stream: POSIX ustar and pax (IEEE Std 1003.1, pax), and GNU's long
//! names, numbers and sparse files.
//!
//! Sizes of PAX records count, so a file may have 8 GiB and more; extended headers are bounded before
//! they are read.

use std::io::{self, BufRead, Read};

use tar::{EntryType, Header};

use crate::sparse::{Records, Sparse};

const BLOCK: usize = 512;

/// The largest extended header (a long name, PAX records) that is read, bytes.
const MAX_EXTENDED: u64 = 1 << 20;

/// The attributes of files that are kept: what programs need to work, and what users set. Overlayfs'
/// own would change what a layer shows.
fn is_kept(attribute: &str) -> bool {
    attribute == "security.capability"
        || (attribute.starts_with("user.") && !attribute.starts_with("user.overlay."))
}

/// An entry. Its bytes are read from [`Entries`].
pub(crate) struct Entry {
    pub(crate) header: Header,
    /// Bytes of a regular file; of a sparse one with its holes, which [`Entries`] does not give.
    pub(crate) size: u64,
    /// Where the bytes of a sparse file belong.
    pub(crate) sparse: Option<Sparse>,
    pub(crate) extended: Extended,
}

/// What extended headers said of the entry after them.
#[derive(Default)]
pub(crate) struct Extended {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    size: Option<u64>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) attributes: Vec<(String, Vec<u8>)>,
    sparse: Records,
}

/// The number of an owner. The largest is none: to chown(2) it means "as it is".
pub(crate) fn owner(number: Option<u64>) -> io::Result<u32> {
    match number.and_then(|number| u32::try_from(number).ok()) {
        Some(number) if number != u32::MAX => Ok(number),
        _ => Err(io::Error::other("the number of an owner is not from 0 to 4294967294")),
    }
}

/// The entries of a tar, one after the other.
pub(crate) struct Entries<R> {
    source: R,
    /// Bytes of the current entry that were not read yet, and its padding.
    left: u64,
    padding: u64,
}

impl<R: Read> Entries<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, left: 0, padding: 0 }
    }

    /// The next entry; what is left of the one before is passed over.
    pub(crate) fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut extended = Extended::default();
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header.entry_type();
            let said = header.entry_size()?;
            if is_extended(kind) {
                if said > MAX_EXTENDED {
                    return Err(io::Error::other("an extended header is too large"));
                }
                self.body(said);
                let mut bytes = Vec::new();
                self.read_to_end(&mut bytes)?;
                if (bytes.len() as u64) < said {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                extended.take(kind, bytes)?;
                continue;
            }
            // What is not a file has no bytes, whatever its header says, as Go's archive/tar has it.
            let has_bytes = kind.is_file() || kind.is_contiguous() || !is_known(kind);
            let size = if has_bytes { extended.size.unwrap_or(said) } else { 0 };
            let sparse = match kind.is_gnu_sparse() {
                true => Some(Sparse::old(&header, size, &mut self.source)?),
                false => None,
            };
            self.body(size);
            let records = std::mem::take(&mut extended.sparse);
            let sparse = match sparse {
                Some(sparse) => Some(sparse),
                None => records.finish(size, self.by_ref())?,
            };
            if let Some(name) = records.name {
                extended.path = Some(name);
            }
            if sparse.is_some() && !(kind.is_file() || kind.is_gnu_sparse()) {
                return Err(io::Error::other("something else than a file is said to be sparse"));
            }
            let size = sparse.as_ref().map_or(size, |sparse| sparse.size);
            return Ok(Some(Entry { header, size, sparse, extended }));
        }
    }

    fn body(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    /// The next header; `None` at the end, which two empty blocks or the end of the stream mark.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let rest = self.left.saturating_add(self.padding);
        let read = io::copy(&mut self.source.by_ref().take(rest), &mut io::sink())?;
        match read {
            _ if read < self.left => return Err(io::ErrorKind::UnexpectedEof.into()),
            // Some (umoci's `insert`) write no padding behind the last entry; Go's archive/tar, which engines read with, takes that.
            _ if read < rest => return Ok(None),
            _ => {}
        }
        self.body(0);
        for _ in 0..2 {
            let mut block = [0; BLOCK];
            let mut filled = 0;
            while filled < BLOCK {
                match self.source.read(&mut block[filled..])? {
                    0 if filled == 0 => return Ok(None),
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    n => filled += n,
                }
            }
            if block == [0; BLOCK] {
                continue;
            }
            let header = Header::from_byte_slice(&block).clone();
            // The field itself counts as blanks.
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum::<u32>()
                - block[148..156].iter().map(|byte| u32::from(*byte)).sum::<u32>()
                + 8 * u32::from(b' ');
            if header.cksum()? != sum {
                return Err(io::Error::other("the checksum of a header is wrong"));
            }
            return Ok(Some(header));
        }
        Ok(None)
    }
}

/// The bytes of the current entry.
impl<R: Read> Read for Entries<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.source.by_ref().take(self.left).read(buf)?;
        self.left -= n as u64;
        Ok(n)
    }
}

impl<R: BufRead> BufRead for Entries<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let bytes = self.source.fill_buf()?;
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        Ok(bytes.get(..most).unwrap_or_default())
    }

    fn consume(&mut self, n: usize) {
        self.source.consume(n);
        self.left -= n as u64;
    }
}

fn is_extended(kind: EntryType) -> bool {
    kind.is_gnu_longname()
        || kind.is_gnu_longlink()
        || kind.is_pax_local_extensions()
        || kind.is_pax_global_extensions()
}

fn is_known(kind: EntryType) -> bool {
    kind.is_dir()
        || kind.is_hard_link()
        || kind.is_symlink()
        || kind.is_character_special()
        || kind.is_block_special()
        || kind.is_fifo()
}

impl Extended {
    fn take(&mut self, kind: EntryType, mut bytes: Vec<u8>) -> io::Result<()> {
        if kind.is_gnu_longname() || kind.is_gnu_longlink() {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            bytes.truncate(end);
            let field = if kind.is_gnu_longname() { &mut self.path } else { &mut self.link };
            *field = Some(bytes);
            return Ok(());
        }
        // Global headers hold comments in practice (git archive).
        if !kind.is_pax_local_extensions() {
            return Ok(());
        }
        let number = |value: &[u8]| str::from_utf8(value).ok()?.parse::<u64>().ok();
        let mut rest = &bytes[..];
        while let Some((key, value)) = record(&mut rest)? {
            match key {
                // Takes back what a global header said (POSIX, pax "Extended Header").
                _ if value.is_empty() && !key.starts_with(b"SCHILY.") => {}
                b"path" => self.path = Some(value.to_owned()),
                b"linkpath" => self.link = Some(value.to_owned()),
                b"size" => {
                    let size =
                        number(value).ok_or_else(|| io::Error::other("a size is not a number"))?;
                    self.size = Some(size);
                }
                b"uid" => self.uid = Some(owner(number(value))?),
                b"gid" => self.gid = Some(owner(number(value))?),
                key => {
                    if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                        self.sparse.take(key, value)?;
                    }
                    let key = key.strip_prefix(b"SCHILY.xattr.").map(str::from_utf8);
                    if let Some(Ok(name)) = key
                        && is_kept(name)
                    {
                        self.attributes.push((name.to_owned(), value.to_owned()));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The next record of a pax header, `LENGTH KEY=VALUE\n` with the length of all of it. Values may hold
/// anything, line ends too.
fn record<'a>(rest: &mut &'a [u8]) -> io::Result<Option<(&'a [u8], &'a [u8])>> {
    if rest.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let parsed = || {
        let blank = rest.iter().take(20).position(|byte| *byte == b' ')?;
        let len: usize = str::from_utf8(&rest[..blank]).ok()?.parse().ok()?;
        let (line, after) = rest.split_at_checked(len)?;
        let pair = line.get(blank + 1..)?.strip_suffix(b"\n")?;
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        Some((&pair[..equals], &pair[equals + 1..], after))
    };
    let (key, value, after) =
        parsed().ok_or_else(|| io::Error::other("a pax record is malformed"))?;
    *rest = after;
    Ok(Some((key, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_entry_may_lack_its_padding_and_no_byte() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = Header::new_ustar();
        header.set_size(700);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, "a", &[1; 700][..]).unwrap();
        let whole = tar.into_inner().unwrap();
        let read = |length: usize| {
            let mut entries = Entries::new(&whole[..length]);
            entries.next()?.ok_or(io::ErrorKind::NotFound)?;
            entries.next().map(|next| next.is_none())
        };
        for length in [512 + 700, 512 + 701, 512 + 1024, whole.len()] {
            assert!(read(length).unwrap(), "{length}");
        }
        for length in [511, 512 + 699] {
            assert_eq!(read(length).unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{length}");
        }
    }
}
