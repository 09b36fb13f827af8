//! The container's side of `cp`: a tar stream of files, or files of a tar stream.
//!
//! Called in a process that has joined the container's mounts, so that its root is the container's
//! and no link leads out of it.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::archive;
use crate::error::{Doing, Error};

/// Writes `path` and what is below it to `stream`, under its own name: what was left out.
pub(crate) fn read(path: &Path, stream: File) -> Result<Vec<PathBuf>, Error> {
    // `/` has no name; what is below it is put below one.
    let name = path.file_name().map_or(Path::new("root"), Path::new);
    let mut tar = tar::Builder::new(stream);
    let left_out = archive::add(&mut tar, path, name).doing_to("reading", path)?;
    tar.finish().doing_to("reading", path)?;
    Ok(left_out)
}

/// Unpacks `stream` in the folder `path`.
pub(crate) fn write(path: &Path, stream: File) -> Result<(), Error> {
    if !path.is_dir() {
        return Err(Error::Invalid {
            option: "cp",
            given: path.display().to_string(),
            why: "there is no such folder in the container".to_owned(),
        });
    }
    let mut tar = tar::Archive::new(stream);
    tar.set_preserve_mtime(true);
    tar.unpack(path).doing_to("writing to", path)
}
