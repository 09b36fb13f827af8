//! The container's side of `cp`: a tar stream of files, or files of a tar stream.
//!
//! Called in a process that has joined the container's mounts, so that its root is the container's
//! and no link leads out of it.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::archive::{self, LeftOut};
use crate::error::{Doing, Error};
use crate::put;
use crate::signals::Interrupts;

/// What the name begins with of the folder that holds files until all of them have come.
pub(crate) const APART: &str = ".sconce-cp-";

/// Writes `path` and what is below it to `stream`, under its own name: what was left out.
pub(crate) fn read(path: &Path, stream: File) -> Result<LeftOut, Error> {
    // `/` has no name; what is below it is put below one.
    let name = path.file_name().map_or(Path::new("root"), Path::new);
    let mut tar = tar::Builder::new(stream);
    let failed = |error| archive::failed("reading", path, error);
    let left_out = archive::add(&mut tar, path, path, name).map_err(failed)?;
    tar.finish().map_err(failed)?;
    Ok(left_out)
}

/// Unpacks `stream` in the folder `path`: apart from what is there until all of it has come, then in its place.
/// A file or link that is there is replaced; a folder that is there gets what comes beside what it has.
pub(crate) fn write(path: &Path, stream: File) -> Result<(), Error> {
    if !path.is_dir() {
        return Err(Error::Invalid {
            option: "cp",
            given: path.display().to_string(),
            why: "there is no such folder in the container".to_owned(),
        });
    }
    let apart = Apart::in_folder(path)?;
    let put = unpack(stream, &apart.0, path).and_then(|()| place(&apart.0, path));
    match (put, apart.remove()) {
        (Err(error), Err(left)) => Err(Error::Lost(format!("{}; and {left}", error.chain()))),
        (Ok(()), left) => left.map_err(Error::Store),
        (put, Ok(())) => put,
    }
}

/// A folder of its own beside the place where files go.
struct Apart(PathBuf);

impl Apart {
    fn in_folder(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(format!("{APART}{}-{:08x}", std::process::id(), put::unique()));
        fs::DirBuilder::new().mode(0o700).create(&path).doing_to("writing to", folder)?;
        Ok(Self(path))
    }

    fn remove(&self) -> Result<(), sconce_store::Error> {
        sconce_store::remove_tree(&self.0)
    }
}

/// A stream that remembers whether its end was met: that of an archive that is whole is not read that far.
struct Ends<'a> {
    stream: File,
    met: &'a std::cell::Cell<bool>,
}

impl Read for Ends<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.met.set(count == 0 && !buffer.is_empty());
        Ok(count)
    }
}

/// Unpacks all of `stream` in the folder `apart`; `shown` is where it will be.
fn unpack(stream: File, apart: &Path, shown: &Path) -> Result<(), Error> {
    let met = std::cell::Cell::new(false);
    let mut tar = tar::Archive::new(Ends { stream, met: &met });
    tar.set_preserve_mtime(true);
    let failed = |error| match met.get() {
        true => Error::CutShort,
        false => archive::failed("writing to", shown, error),
    };
    let mut folders = Vec::new();
    for entry in tar.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        match entry.header().entry_type().is_dir() {
            true => folders.push(entry),
            false => drop(entry.unpack_in(apart).map_err(failed)?),
        }
    }
    if met.get() {
        return Err(Error::CutShort);
    }
    // At the end, the deepest first: one that may not be written to would take no files.
    folders.sort_by(|a, b| b.path_bytes().cmp(&a.path_bytes()));
    for mut folder in folders {
        folder.unpack_in(apart).map_err(|error| archive::failed("writing to", shown, error))?;
    }
    // What fills up the archive's last block: whoever writes it must not find the stream closed.
    io::copy(&mut tar.into_inner(), &mut io::sink()).doing_to("writing to", shown)?;
    Ok(())
}

/// Moves what is in the folder `from` into the folder `to`.
fn place(from: &Path, to: &Path) -> Result<(), Error> {
    let mut waiting = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = waiting.pop() {
        for entry in fs::read_dir(&from).doing_to("reading", &from)? {
            let entry = entry.doing_to("reading", &from)?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            let is_folder = entry.file_type().doing_to("reading", &from)?.is_dir();
            // A link to a folder is the container's own, and leads to nothing that it does not have.
            match is_folder && to.is_dir() {
                true => waiting.push((from, to)),
                false => place_one(&from, &to)?,
            }
        }
    }
    Ok(())
}

/// Moves a file, or a folder to where there is none.
fn place_one(from: &Path, to: &Path) -> Result<(), Error> {
    let refused = |why: &str| Error::Invalid {
        option: "cp",
        given: to.display().to_string(),
        why: why.to_owned(),
    };
    if let Ok(about) = to.symlink_metadata()
        && !(about.is_file() || about.is_dir() || about.is_symlink())
    {
        return Err(refused("it is a device, a socket or a FIFO of the container"));
    }
    let moved = match fs::rename(from, to) {
        // Without CAP_DAC_OVERRIDE a folder is moved only by who may write to it (rename(2)).
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let about = from.symlink_metadata().doing_to("writing", to)?;
            let mode = |mode| fs::set_permissions(from, Permissions::from_mode(mode));
            match about.is_dir() && mode(about.permissions().mode() | 0o700).is_ok() {
                true => {
                    fs::rename(from, to).and_then(|()| fs::set_permissions(to, about.permissions()))
                }
                false => Err(error),
            }
        }
        moved => moved,
    };
    match moved {
        Ok(()) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::EBUSY) => {
                let why =
                    "something is mounted there; `sconce exec` can write into it: `cat >FILE`";
                Err(refused(why))
            }
            // A folder on the way is another file system's.
            Some(libc::EXDEV) => {
                let name = to.file_name().unwrap_or_default();
                let folder = to.parent().unwrap_or(Path::new("/"));
                put::put(from, folder, name, to, &Interrupts::none())
            }
            _ => Err(error).doing_to("writing", to),
        },
    }
}
