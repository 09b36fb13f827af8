//! Single files of a wheel that is not downloaded: its modules, unpacked as far as they are read.

use sconce_fetch::range::Remote;
use sconce_inspect::inflate::Inflated;
use sconce_inspect::read::{Named, OnDisk, ReadAt, Slice};
use sconce_inspect::zip::{self, Entry};
use sconce_lock::Wheel;

use crate::builder::Builder;
use crate::contents::on_disk;
use crate::error::{Error, at};
use crate::native::Bytes;

/// The bytes of a wheel: the store's own copy, a file, or as much as is asked for of one on a server. Not more than
/// `limit` bytes are fetched.
///
/// # Errors
/// It can't be opened, or its server can't be asked.
pub(crate) fn archive<'b>(
    builder: &'b Builder<'_>,
    wheel: &Wheel,
    url: &str,
    limit: u64,
) -> Result<Box<dyn ReadAt + 'b>, Error> {
    if let Some(path) = builder.store.blob_path(wheel.sha256)? {
        return Ok(Box::new(OnDisk::open(&path).map_err(at("open", &path))?));
    }
    Ok(match on_disk(url)? {
        Some(file) => Box::new(file),
        None => Box::new(Bytes(Remote::open(builder.client, url, limit)?)),
    })
}

/// A file of an archive, unpacked where it is read. Of its packed bytes only the first `packed` are there.
///
/// # Errors
/// It is not in the archive.
pub(crate) fn unpacked<'a>(
    archive: &'a dyn ReadAt,
    entry: &Entry,
    packed: u64,
) -> Result<Box<dyn ReadAt + 'a>, Error> {
    let start = zip::start(Named::new("the wheel", archive), entry)?;
    let slice = Slice::new(archive, start, entry.packed.min(packed));
    Ok(match entry.deflated {
        true => Box::new(Inflated::raw(slice, entry.size)),
        false => Box::new(slice),
    })
}

/// The first bytes of a file, at most `limit`; those before the first that can't be read.
pub(crate) fn head(file: &dyn ReadAt, limit: usize) -> Vec<u8> {
    const PIECE: usize = 16 << 10;
    let mut bytes = Vec::new();
    let mut piece = vec![0; PIECE];
    while bytes.len() < limit {
        match file.read_at(&mut piece, bytes.len() as u64) {
            Ok(0) | Err(_) => break,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
        }
    }
    bytes
}

/// A file's name without its folders.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
