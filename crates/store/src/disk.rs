//! How much of the disk a tree takes.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;

use crate::error::{Error, at};
use crate::own;
use crate::walk::{Cursor, Entering};

/// Bytes that `path` and all below it take on the disk, files with several names once. What can't
/// be looked into counts nothing.
pub(crate) fn bytes_below(path: &Path) -> Result<u64, Error> {
    let (parent, name) = own::parent(path).map_err(at("look at", path))?;
    let name = CString::new(name.as_bytes()).map_err(|_| at("look at", path)(Errno::INVAL))?;
    let mut usage = Usage::default();
    if !usage.add(&parent, &name) {
        return Ok(usage.bytes);
    }
    let Ok(mut cursor) = Cursor::open(&parent, &name, Entering::AsIs) else {
        return Ok(usage.bytes);
    };
    let mut levels = vec![usage.files(&cursor)];
    while let Some(folders) = levels.last_mut() {
        match folders.pop() {
            Some(name) => {
                if cursor.down(&name).is_ok() {
                    levels.push(usage.files(&cursor));
                }
            }
            None => {
                levels.pop();
                cursor.up().map_err(at("look at", path))?;
            }
        }
    }
    Ok(usage.bytes)
}

#[derive(Default)]
struct Usage {
    bytes: u64,
    /// Files with several names, by device and inode.
    counted: HashSet<(u64, u64)>,
}

impl Usage {
    /// Counts what is in the folder at hand; returns the folders in it.
    fn files(&mut self, cursor: &Cursor) -> Vec<CString> {
        let mut folders = Vec::new();
        let _ = cursor.entries(|name, _| {
            if self.add(cursor.folder(), name) {
                folders.push(name.to_owned());
            }
        });
        folders
    }

    /// Counts one thing and says whether it is a folder.
    fn add(&mut self, parent: impl AsFd, name: &CStr) -> bool {
        let Ok(meta) = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
        let is_folder = FileType::from_raw_mode(meta.st_mode) == FileType::Directory;
        if is_folder || meta.st_nlink == 1 || self.counted.insert((meta.st_dev, meta.st_ino)) {
            self.bytes += meta.st_blocks as u64 * 512;
        }
        is_folder
    }
}
