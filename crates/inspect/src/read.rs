//! Bytes read by range: a file, a slice, a part of another, a compressed stream.
//!
//! Everything in this crate asks for the few ranges it needs; a library of five gigabytes is never
//! loaded. Sizes and offsets are bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::Error;

/// A source of bytes that can be read at any offset, from many threads.
pub trait ReadAt: Send + Sync {
    /// How many bytes there are.
    fn size(&self) -> u64;

    /// Fills `buf` from `offset` on; fewer bytes only at the end of the source.
    ///
    /// # Errors
    /// What the device, the archive or its compression says.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// As [`ReadAt::read_at`], in search of something that will then be read: what stands between
    /// may come as zeros, and need not be kept for another time.
    ///
    /// # Errors
    /// Those of [`ReadAt::read_at`].
    fn skim_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_at(buf, offset)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for Arc<T> {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buf, offset)
    }

    fn skim_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).skim_at(buf, offset)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buf, offset)
    }

    fn skim_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).skim_at(buf, offset)
    }
}

impl ReadAt for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).map_or(self.len(), |at| at.min(self.len()));
        let rest = self.get(start..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.as_slice().read_at(buf, offset)
    }
}

/// A file on disk, as long as it was when it was opened.
pub struct OnDisk {
    file: File,
    size: u64,
}

impl OnDisk {
    /// Opens the regular file at `path` for reading.
    ///
    /// # Errors
    /// The system's, and for what is not a regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::from_file(sconce_open::file(path)?)
    }

    /// A file that is open for reading.
    ///
    /// # Errors
    /// The system's, when it does not tell the size.
    pub fn from_file(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }
}

impl ReadAt for OnDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// A part of another source.
pub struct Slice<R> {
    inner: R,
    offset: u64,
    len: u64,
}

impl<R: ReadAt> Slice<R> {
    /// `len` bytes of `inner` from `offset` on, cut off at its end.
    pub fn new(inner: R, offset: u64, len: u64) -> Self {
        let len = len.min(inner.size().saturating_sub(offset));
        Self { inner, offset, len }
    }
}

impl<R: ReadAt> ReadAt for Slice<R> {
    fn size(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        self.inner.read_at(&mut buf[..rest], self.offset.saturating_add(offset))
    }
}

/// A named source: reads that say which file and offset they failed at.
#[derive(Clone, Copy)]
pub struct Named<'a> {
    /// How the file is called in errors and findings.
    pub name: &'a str,
    /// Its bytes.
    pub bytes: &'a dyn ReadAt,
}

impl<'a> Named<'a> {
    /// `bytes`, called `name`.
    pub const fn new(name: &'a str, bytes: &'a dyn ReadAt) -> Self {
        Self { name, bytes }
    }

    /// The file's size in bytes.
    pub fn size(&self) -> u64 {
        self.bytes.size()
    }

    /// Exactly `N` bytes at `offset`.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the file ends before, [`Error::Read`] when reading fails.
    pub fn array<const N: usize>(&self, offset: u64, what: &'static str) -> Result<[u8; N], Error> {
        let mut buf = [0; N];
        self.exact(&mut buf, offset, what)?;
        Ok(buf)
    }

    /// Exactly `len` bytes at `offset`, where the caller allows at most `limit`.
    ///
    /// # Errors
    /// [`Error::Malformed`] when `len` is over the limit, and those of [`Named::array`]. Nothing
    /// is allocated before both are checked against the file's size.
    pub fn range(
        &self,
        offset: u64,
        len: u64,
        limit: u64,
        what: &'static str,
    ) -> Result<Vec<u8>, Error> {
        if len > limit {
            return Err(self.malformed(offset, what, format!("{len} bytes; at most {limit} here")));
        }
        if offset.checked_add(len).is_none_or(|end| end > self.size()) {
            return Err(self.truncated(offset, what));
        }
        let mut buf = vec![0; len as usize];
        self.exact(&mut buf, offset, what)?;
        Ok(buf)
    }

    /// As [`Named::range`], by [`ReadAt::skim_at`].
    ///
    /// # Errors
    /// Those of [`Named::range`].
    pub fn skim(&self, offset: u64, len: usize, what: &'static str) -> Result<Vec<u8>, Error> {
        let mut buf = vec![0; len];
        self.skim_into(&mut buf, offset, what)?;
        Ok(buf)
    }

    /// As [`Named::skim`], into a buffer that is used again.
    ///
    /// # Errors
    /// Those of [`Named::range`].
    pub fn skim_into(&self, buf: &mut [u8], offset: u64, what: &'static str) -> Result<(), Error> {
        let n = self.bytes.skim_at(buf, offset).map_err(|source| Error::Read {
            file: self.name.to_owned(),
            offset,
            source,
        })?;
        if n < buf.len() { Err(self.truncated(offset, what)) } else { Ok(()) }
    }

    fn exact(&self, buf: &mut [u8], offset: u64, what: &'static str) -> Result<(), Error> {
        let n = self.bytes.read_at(buf, offset).map_err(|source| Error::Read {
            file: self.name.to_owned(),
            offset,
            source,
        })?;
        if n < buf.len() {
            return Err(self.truncated(offset, what));
        }
        Ok(())
    }

    fn truncated(&self, offset: u64, what: &'static str) -> Error {
        Error::Truncated { file: self.name.to_owned(), offset, what, size: self.size() }
    }

    /// An error about `what` at `offset` of this file.
    pub fn malformed(&self, offset: u64, what: &'static str, why: impl Into<String>) -> Error {
        Error::Malformed { file: self.name.to_owned(), offset, what, why: why.into() }
    }
}

/// Little-endian fields of a record already read; a field past its end reads as zero.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    fn le<const N: usize>(&self, at: usize) -> [u8; N] {
        at.checked_add(N)
            .and_then(|end| self.0.get(at..end))
            .and_then(|bytes| bytes.try_into().ok())
            .unwrap_or([0; N])
    }

    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.le(at))
    }

    pub fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.le(at))
    }

    pub fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.le(at))
    }
}

/// The zero-terminated text at `at` of a string table; empty when there is none.
pub(crate) fn text_at(table: &[u8], at: usize) -> &str {
    let rest = table.get(at..).unwrap_or_default();
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    std::str::from_utf8(&rest[..end]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_ends_where_its_source_ends() {
        let slice = Slice::new(b"0123456789".to_vec(), 7, 100);
        let mut buf = [0; 8];
        assert_eq!(slice.size(), 3);
        assert_eq!(slice.read_at(&mut buf, 1).unwrap(), 2);
        assert_eq!(&buf[..2], b"89");
        assert_eq!(slice.read_at(&mut buf, u64::MAX).unwrap(), 0);
    }

    #[test]
    fn a_range_beyond_the_file_allocates_nothing() {
        let bytes = b"short".to_vec();
        let named = Named::new("x", &bytes);
        let error = named.range(2, 1 << 50, u64::MAX, "table").unwrap_err();
        assert!(matches!(error, Error::Truncated { offset: 2, .. }), "{error}");
        let error = named.range(0, 5, 4, "table").unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error}");
    }
}
