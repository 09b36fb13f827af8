//! Small files and folders that are read: opened without waiting or following links.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{Error, at};

/// The largest small file (record, reference, memo) that is read, bytes.
const SMALL_LIMIT: u64 = 16 << 20;

/// Opens a regular file: a pipe would be waited for, a link could lead anywhere.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file")),
    }
}

/// Opens a folder, not a link to one.
pub(crate) fn open_folder(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
}

/// Why [`open_regular`] has failed: with something else in the place of a file, the store is damaged there.
pub(crate) fn not_opened(path: &Path, error: io::Error) -> Error {
    let damaged = |path: &Path, why: &str| Error::Corrupt { path: path.into(), why: why.into() };
    match (error.raw_os_error().map(Errno::from_raw_os_error), path.parent()) {
        (Some(Errno::NOTDIR), Some(folder)) => damaged(folder, "it is not a folder"),
        // What O_NOFOLLOW makes of it speaks of too many links (open(2)).
        (Some(Errno::LOOP), _) => damaged(path, "it is a link"),
        // To write, or of a socket.
        (Some(Errno::ISDIR | Errno::NXIO), _) => damaged(path, "it is not a regular file"),
        (None, _) if error.kind() == io::ErrorKind::InvalidData => {
            damaged(path, "it is not a regular file")
        }
        _ => at("open", path)(error),
    }
}

/// Reads a small file; `None` when there is none.
pub(crate) fn read_small(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let file = match open_regular(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(not_opened(path, error)),
    };
    let mut bytes = Vec::new();
    file.take(SMALL_LIMIT + 1).read_to_end(&mut bytes).map_err(at("read", path))?;
    if bytes.len() as u64 > SMALL_LIMIT {
        return Err(Error::Corrupt {
            path: path.to_owned(),
            why: format!("more than {SMALL_LIMIT} bytes"),
        });
    }
    Ok(Some(bytes))
}

/// The paths of what is in a folder; none where there is no folder.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry.map_err(at("list", folder))?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(at("list", folder)(error)),
    }
}
