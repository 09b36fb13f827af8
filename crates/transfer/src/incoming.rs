//! The bytes of a blob on their way into the store: first those that an earlier run left, then the
//! rest from the network, which goes to the disk as it passes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use sconce_blob::Hasher;
use sconce_oci::Descriptor;
use sconce_registry::{BlobReader, Registry};

use crate::error::Error;

/// Reads a blob once, from its start. What it reads is in the file afterwards.
pub(crate) struct Incoming<'a> {
    registry: &'a Registry,
    blob: &'a Descriptor,
    path: &'a Path,
    file: File,
    /// The bytes that were in the file, until all of them were read.
    begun: Option<Hasher>,
    network: Option<BlobReader<'a>>,
    stop: &'a AtomicBool,
    tell: &'a (dyn Fn(u64) + Sync),
    failure: Option<Error>,
}

impl<'a> Incoming<'a> {
    /// `file` is open for reading and writing, at its start.
    pub(crate) fn new(
        registry: &'a Registry,
        blob: &'a Descriptor,
        (path, file): (&'a Path, File),
        stop: &'a AtomicBool,
        tell: &'a (dyn Fn(u64) + Sync),
    ) -> Self {
        let begun = Some(Hasher::new());
        Self { registry, blob, path, file, begun, network: None, stop, tell, failure: None }
    }

    /// Whether it failed by itself, which is the cause of whatever failed behind it.
    pub(crate) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Reads what is left and compares the digest.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        let mut buffer = vec![0; 256 << 10];
        while self.failure.is_none() && self.next(&mut buffer)? > 0 {}
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        match self.network {
            Some(network) => Ok(network.verify()?),
            // It failed before, and that was said.
            None => Err(Error::Stopped),
        }
    }

    fn next(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        if self.stop.load(Ordering::Acquire) {
            return Err(Error::Stopped);
        }
        let path = self.path;
        let fault = |action| move |error| sconce_store::Error::of_io(action, path, error);
        if let Some(hasher) = &mut self.begun {
            let most = (self.blob.size - hasher.len()).min(buf.len() as u64) as usize;
            let n = self.file.read(&mut buf[..most]).map_err(fault("read"))?;
            if n > 0 {
                hasher.update(&buf[..n]);
                (self.tell)(n as u64);
                return Ok(n);
            }
            let begun = self.begun.take().unwrap_or_default();
            self.network = Some(self.registry.blob_after(self.blob, begun)?);
        }
        let Some(network) = &mut self.network else { return Ok(0) };
        let n = match network.read(buf) {
            Ok(n) => n,
            Err(_) => {
                // The error behind the words.
                let network = self.network.take();
                return match network.map(BlobReader::verify) {
                    Some(Err(error)) => Err(error.into()),
                    _ => Ok(0),
                };
            }
        };
        sconce_store::write_uncached(&self.file, &buf[..n]).map_err(fault("write"))?;
        (self.tell)(n as u64);
        Ok(n)
    }
}

impl Read for Incoming<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.next(buf).map_err(|error| {
            let words = error.to_string();
            self.failure = Some(error);
            io::Error::other(words)
        })
    }
}
