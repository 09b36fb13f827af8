//! Where a layer is unpacked to, in the same pass that hashes it.

use std::io::{self, Write};

use crate::Meta;

/// Receives the entries of a layer, parents before what is in them. A layer of wheels gives its
/// directories first, and its files in any order, several at a time.
///
/// Paths have passed [`check_path`](crate::check_path), each comes once, and no entry stands
/// under a path that was given as something other than a directory.
pub trait Unpack: Send + Sync {
    /// A directory.
    fn directory(&self, path: &str, meta: &Meta) -> io::Result<()>;

    /// A regular file of `size` bytes. The bytes are written in order, possibly by another
    /// thread than the caller's; after the last one `flush` is called once, and a file whose
    /// writer is dropped without it is not whole.
    fn file(&self, path: &str, meta: &Meta, size: u64) -> io::Result<Box<dyn Write + Send + '_>>;

    /// A symbolic link.
    fn symlink(&self, path: &str, target: &str, meta: &Meta) -> io::Result<()>;

    /// Another name of a file that has been given before.
    fn hardlink(&self, path: &str, target: &str) -> io::Result<()>;
}
