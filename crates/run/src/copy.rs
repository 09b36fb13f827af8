//! The container's side of `cp`: a tar stream of files, or files of a tar stream.
//!
//! Called in a process that has joined the container's mounts, so that its root is the container's
//! and no link leads out of it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::archive::{self, LeftOut};
use crate::error::{Doing, Error};

/// Writes `path` and what is below it to `stream`, under its own name: what was left out.
pub(crate) fn read(path: &Path, stream: File) -> Result<LeftOut, Error> {
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
    let mut folders = Vec::new();
    for entry in tar.entries().doing_to("writing to", path)? {
        let entry = entry.doing_to("writing to", path)?;
        match entry.header().entry_type().is_dir() {
            true => folders.push(entry),
            false => write_one(entry, path)?,
        }
    }
    // At the end, the deepest first: one that may not be written to would take no files.
    folders.sort_by(|a, b| b.path_bytes().cmp(&a.path_bytes()));
    folders.into_iter().try_for_each(|folder| write_one(folder, path))
}

fn write_one(mut entry: tar::Entry<'_, impl Read>, path: &Path) -> Result<(), Error> {
    let place = path.join(entry.path().doing_to("writing to", path)?);
    let refused = |why: &str| Error::Invalid {
        option: "cp",
        given: place.display().to_string(),
        why: why.to_owned(),
    };
    if let Ok(about) = place.symlink_metadata()
        && !(about.is_file() || about.is_dir() || about.is_symlink())
    {
        return Err(refused("it is a device, a socket or a FIFO of the container"));
    }
    let Err(error) = entry.unpack_in(path) else { return Ok(()) };
    // The library says each place twice before it comes to the kernel's answer.
    let mut cause: &(dyn std::error::Error + 'static) = &error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let answer = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    match answer {
        Some(libc::EBUSY) => {
            let why = "something is mounted there; `sconce exec` can write into it: `cat >FILE`";
            Err(refused(why))
        }
        Some(number) => Err(io::Error::from_raw_os_error(number)).doing_to("writing", place),
        None => Err(io::Error::other(cause.to_string())).doing_to("writing", place),
    }
}
