//! Bytes that nobody reads soon, kept out of the page cache.
//!
//! Beside its tree the blob of a layer is for other machines. Its gigabytes would push out what is read next; and in a
//! virtual machine memory that is new costs more than the write: 6 GB took 12.5 s, and 3.4 s like this [measured, two
//! cores, Linux 6.18].

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, ReadWriteFlags, pwritev2};

/// `RWF_DONTCACHE` of linux/fs.h: since Linux 6.14, where the file system can.
const DONT_CACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);
/// The offset that stands for the file's own position (pwritev2(2)).
const HERE: u64 = u64::MAX;

/// Writes at the file's position; the pages go as soon as they are on the disk, where the system can do that.
pub fn write_uncached(mut file: &File, mut bytes: &[u8]) -> io::Result<()> {
    static REFUSED: AtomicBool = AtomicBool::new(false);
    while !bytes.is_empty() && !REFUSED.load(Ordering::Relaxed) {
        match pwritev2(file, &[IoSlice::new(bytes)], HERE, DONT_CACHE) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                REFUSED.store(true, Ordering::Relaxed);
            }
            Err(error) => return Err(error.into()),
        }
    }
    file.write_all(bytes)
}
