//! Small files and folders: opened without waiting or following links, made with their exact modes.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, openat, openat2, unlinkat};
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

/// Opens a folder of a store from which something is to be removed, or in which a lock is made. A link in its path counts where root or the caller
/// made it, to have a folder on another disk; one of another member of the store's group may lead anywhere, and is an error. What is made, renamed or set aside still goes by its
/// path (docs/security.md, "Members of a group").
fn open_own(path: &Path) -> io::Result<OwnedFd> {
    /// Somebody may change the path all the time.
    const TRIES: u32 = 64;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let you = rustix::process::geteuid().as_raw();
    for _ in 0..TRIES {
        match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
            Err(Errno::LOOP) => {}
            opened => return Ok(opened?),
        }
        let links = path.ancestors().filter_map(|part| {
            let meta = fs::symlink_metadata(part).ok().filter(Metadata::is_symlink)?;
            Some((part, meta.uid()))
        });
        let (own, others): (Vec<_>, Vec<_>) =
            links.partition(|(_, owner)| *owner == 0 || *owner == you);
        match (others.first(), own.is_empty()) {
            (Some((link, owner)), _) => {
                let link = link.display();
                return Err(io::Error::other(format!(
                    "{link} is a link that uid {owner} made, and may lead anywhere"
                )));
            }
            (None, false) => return Ok(openat(CWD, path, flags, Mode::empty())?),
            // It is gone again.
            (None, true) => {}
        }
    }
    Err(io::Error::other("somebody exchanges folders of the store for links"))
}

/// The folder of a path below a store, opened as [`open_own`], and the name in it.
pub(crate) fn open_parent(path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    Ok((open_own(parent)?, name))
}

/// Reads a small file; `None` when there is none.
pub(crate) fn read_small(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let file = match open_regular(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at("open", path)(error)),
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

/// Makes a folder with exactly this mode, whatever the umask; one that is there stays as it is.
pub(crate) fn make_folder(path: &Path, mode: u32) -> Result<(), Error> {
    match DirBuilder::new().mode(mode & 0o700).create(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(at("set the mode of", path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(at("create", path)(error)),
    }
}

/// The paths of what is in a folder; none where there is no folder.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry.map_err(at("list", folder))?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(at("list", folder)(error)),
    }
}

/// Removes a file; nothing there is fine.
pub(crate) fn remove_file(path: &Path) -> Result<bool, Error> {
    let removed =
        open_parent(path).and_then(|(folder, name)| Ok(unlinkat(folder, name, AtFlags::empty())?));
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at("remove", path)(error)),
    }
}

/// Makes the name of `path` survive a power cut.
pub(crate) fn sync_parent(path: &Path) -> Result<(), Error> {
    let Some(folder) = path.parent() else { return Ok(()) };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at("sync", folder))
}
