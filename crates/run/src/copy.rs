//! The container's side of `cp`: a tar stream of files, or files of a tar stream.
//!
//! Called in a process that has joined the container's mounts, so that its root is the container's
//! and no link leads out of it.

use std::fs::{self, File};
use std::path::Path;

use crate::error::{Doing, Error};

/// Writes `path` and what is below it to `stream`, under its own name. Links stay links.
pub(crate) fn read(path: &Path, stream: File) -> Result<(), Error> {
    let about = fs::symlink_metadata(path).doing_to("reading", path)?;
    // `/` has no name; what is below it is put below one.
    let name = path.file_name().map_or(Path::new("root"), Path::new);
    let mut tar = tar::Builder::new(stream);
    tar.follow_symlinks(false);
    tar.sparse(false);
    let added = match about.is_dir() {
        true => tar.append_dir_all(name, path),
        false => tar.append_path_with_name(path, name),
    };
    added.and_then(|()| tar.finish()).doing_to("reading", path)
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
