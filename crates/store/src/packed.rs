//! An archive as it comes, packed or not.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use sconce_oci::Packing;

use crate::blobs::CHUNK;
use crate::error::{Error, at};
use crate::extract::{FREE, MAX_RATIO};

/// Writes what is in an archive, packed or not, into `to`.
pub(crate) fn unpack(
    from: impl Read + Send,
    what: &Path,
    to: &mut File,
    path: &Path,
) -> Result<(), Error> {
    let came = AtomicU64::new(0);
    let mut from = Counted { from, came: &came };
    // A pipe may bring a byte at a time.
    let mut head = Vec::new();
    let wanted = Packing::HEAD as u64;
    (&mut from).take(wanted).read_to_end(&mut head).map_err(at("read", what))?;
    let packing = Packing::of(&head);
    if let Some(Packing::Unread(program)) = packing {
        return Err(Error::Packed { what: what.to_owned(), program });
    }
    let packed = BufReader::with_capacity(CHUNK, io::Cursor::new(head).chain(from));
    let mut plain = sconce_oci::unpacked(packed).map_err(at("read", what))?;
    let mut buffer = vec![0; CHUNK];
    let mut size = 0_u64;
    loop {
        let n = match plain.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if packing.is_some() => {
                let why = format!("it can't be unpacked: {error}");
                return Err(Error::Corrupt { path: what.to_owned(), why });
            }
            Err(error) => return Err(at("read", what)(error)),
        };
        size += n as u64;
        let most = came.load(Ordering::Relaxed).saturating_mul(MAX_RATIO).max(FREE);
        if packing.is_some() && size > most {
            let why = format!("it unpacks to more than {MAX_RATIO} times its size");
            return Err(Error::Corrupt { path: what.to_owned(), why });
        }
        to.write_all(&buffer[..n]).map_err(at("write", path))?;
    }
}

/// Counts what is read.
struct Counted<'a, R> {
    from: R,
    came: &'a AtomicU64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buf)?;
        self.came.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}
