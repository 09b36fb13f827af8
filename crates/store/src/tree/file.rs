//! One file of a tree that is being made, written in pieces.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::atomic::Ordering;

use super::TreeBuilder;
use crate::meta::Meta;

/// Takes the bytes of one file, exactly as many as were announced.
#[derive(Debug)]
pub struct TreeFile<'a> {
    pub(super) builder: &'a TreeBuilder,
    pub(super) file: File,
    pub(super) meta: Meta,
    pub(super) size: u64,
    pub(super) left: u64,
}

impl TreeFile<'_> {
    /// Leaves the next `n` bytes out: a hole, which reads as zeros.
    pub(crate) fn skip(&mut self, n: u64) -> io::Result<()> {
        if n > self.left {
            return Err(self.too_many());
        }
        if n > 0 {
            let offset = i64::try_from(n).map_err(|_| io::ErrorKind::FileTooLarge)?;
            self.file.seek(SeekFrom::Current(offset))?;
            self.left -= n;
            if self.left == 0 {
                self.file.set_len(self.size)?;
                self.complete()?;
            }
        }
        Ok(())
    }

    fn too_many(&self) -> io::Error {
        let why = format!("more than the {} bytes announced", self.size);
        io::Error::new(io::ErrorKind::InvalidData, why)
    }

    /// Everything is written: the metadata comes last, so that the time stays what it is.
    pub(super) fn complete(&self) -> io::Result<()> {
        self.builder.rules.apply(&self.file, self.meta, false)?;
        self.builder.unfinished.fetch_sub(1, Ordering::Release);
        Ok(())
    }
}

impl Write for TreeFile<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.len() as u64 > self.left {
            return Err(self.too_many());
        }
        let n = self.file.write(buf)?;
        self.left -= n as u64;
        if n > 0 && self.left == 0 {
            self.complete()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
