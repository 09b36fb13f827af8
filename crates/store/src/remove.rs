//! Removing whole folders, also those an image made unwritable.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::{Error, at};

/// Removes the file or folder at `path`; nothing there is fine.
pub(crate) fn all(path: &Path) -> Result<(), Error> {
    let missing_is_fine = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    };
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at("look at", path)(error)),
    };
    if !meta.is_dir() {
        return missing_is_fine(fs::remove_file(path)).map_err(at("remove", path));
    }
    match missing_is_fine(fs::remove_dir_all(path)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path).map_err(at("open up", path))?;
            missing_is_fine(fs::remove_dir_all(path)).map_err(at("remove", path))
        }
        result => result.map_err(at("remove", path)),
    }
}

/// Makes every folder below `path` writable for its owner. Symbolic links are not followed.
fn open_up(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}
