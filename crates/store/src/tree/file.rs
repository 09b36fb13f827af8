//! One file of a tree that is being made, written in pieces.

use std::fs::File;
use std::io::{self, Write};
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
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("more than the {} bytes announced", self.size),
            ));
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
