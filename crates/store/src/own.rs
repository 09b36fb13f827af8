//! What a store's owner and members make, rename and remove in it, by a folder held open and a name.
//!
//! A member of a group that shares a store may exchange any folder of it for a link at any moment. So no path of a
//! store is handed to the kernel to be changed: the folder is opened in one step that takes no link (openat2(2)), and the
//! call that follows gets that folder and one name, whose link it does not follow either.
//!
//! A link counts only where nobody but root or the caller can have put it ([`sconce_open::own_folder`]). That lets a private
//! store have a folder on another disk.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RawMode, RenameFlags, Stat, fstat, linkat, mkdirat, openat,
    renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;
use sconce_open::own_folder;

use crate::error::{Error, at};

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The folder that a path of a store is in, and the name there.
pub(crate) fn parent(path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    Ok((own_folder(parent)?, name))
}

/// Opens what is at a path, if it is no link. A pipe is not waited for.
fn open_at(path: &Path, flags: OFlags) -> io::Result<File> {
    let (folder, name) = parent(path)?;
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Opens a folder to be locked or listed.
pub(crate) fn open_folder(path: &Path) -> io::Result<File> {
    open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Opens a file to be locked for itself alone.
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    open_at(path, OFlags::RDWR)
}

/// Opens a file to be read, whoever made it.
pub(crate) fn open_read(path: &Path) -> io::Result<File> {
    open_at(path, OFlags::RDONLY)
}

/// Opens a file that this user made, and nobody else has a name of: only such a one is written to or gets another mode
/// or time. `None` where something else is at the path.
pub(crate) fn open_made(path: &Path, flags: OFlags) -> io::Result<Option<File>> {
    let file = match open_at(path, flags) {
        // A link, a folder, or a pipe that nobody reads.
        Err(error)
            if [Errno::LOOP, Errno::ISDIR, Errno::NXIO]
                .iter()
                .any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) =>
        {
            return Ok(None);
        }
        opened => opened?,
    };
    let meta = file.metadata()?;
    let yours = meta.uid() == rustix::process::geteuid().as_raw();
    Ok((meta.is_file() && meta.nlink() == 1 && yours).then_some(file))
}

/// Makes a file that was not there, for this handle alone to write, of exactly this mode, whatever the umask.
pub(crate) fn create(path: &Path, mode: u32) -> io::Result<File> {
    let file = open_at(path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

/// Makes a folder that was not there, with exactly this mode, and opens it.
pub(crate) fn new_folder(path: &Path, mode: u32) -> io::Result<File> {
    let (parent, name) = parent(path)?;
    mkdirat(&parent, name, Mode::RWXU)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = File::from(openat(&parent, name, flags, Mode::empty())?);
    folder.set_permissions(Permissions::from_mode(mode))?;
    Ok(folder)
}

/// Makes a folder with exactly this mode, whatever the umask; one that is there stays as it is.
pub(crate) fn make_folder(path: &Path, mode: u32) -> Result<(), Error> {
    let made = parent(path).and_then(|(folder, name)| {
        match mkdirat(&folder, name, Mode::from_raw_mode((mode & 0o700) as RawMode)) {
            Ok(()) => set_mode(&folder, name, mode),
            // A link that counts may lead to it.
            Err(Errno::EXIST) => own_folder(path).map(drop),
            Err(errno) => Err(errno.into()),
        }
    });
    made.map_err(|error| {
        let there = path.symlink_metadata();
        let why = match there {
            Ok(there) if there.is_symlink() && !path.is_dir() => "it is a link to no folder",
            Ok(there) if !there.is_symlink() && !there.is_dir() => "it is not a folder",
            _ => return at("create", path)(error),
        };
        Error::Corrupt { path: path.to_owned(), why: why.to_owned() }
    })
}

/// Gives a folder another mode.
pub(crate) fn set_folder_mode(path: &Path, mode: u32) -> io::Result<()> {
    let (folder, name) = parent(path)?;
    set_mode(&folder, name, mode)
}

/// Gives a folder to another user.
pub(crate) fn give_to(path: &Path, user: u32) -> io::Result<()> {
    let (folder, name) = parent(path)?;
    let user = rustix::fs::Uid::from_raw(user);
    Ok(rustix::fs::chownat(&folder, name, Some(user), None, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Gives a folder to the caller's first group.
pub(crate) fn give_to_first_group(path: &Path) -> io::Result<()> {
    let folder = open_folder(path)?;
    Ok(rustix::fs::fchown(&folder, None, Some(rustix::process::getegid()))?)
}

fn set_mode(parent: &OwnedFd, name: &OsStr, mode: u32) -> io::Result<()> {
    // As one without reading rights can't be opened otherwise: /proc leads to what a path descriptor stands for.
    let folder = openat(parent, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
    let mode = Mode::from_raw_mode(mode as RawMode);
    Ok(rustix::fs::chmodat(CWD, sconce_open::held(&folder), mode, AtFlags::empty())?)
}

/// Renames within the store.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let ((from, old), (to, new)) = (parent(from)?, parent(to)?);
    Ok(renameat(from, old, to, new)?)
}

/// As [`rename`], but never in the place of something else.
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    let ((from, old), (to, new)) = (parent(from)?, parent(to)?);
    Ok(renameat_with(from, old, to, new, RenameFlags::NOREPLACE)?)
}

/// Gives a file another name.
pub(crate) fn link(from: &Path, to: &Path) -> io::Result<()> {
    let ((from, old), (to, new)) = (parent(from)?, parent(to)?);
    Ok(linkat(from, old, to, new, AtFlags::empty())?)
}

/// Removes a file; nothing there is fine. Says whether it was there.
pub(crate) fn remove_file(path: &Path) -> Result<bool, Error> {
    unlink(path, AtFlags::empty())
}

/// Removes an empty folder; nothing there is fine.
pub(crate) fn remove_folder(path: &Path) -> Result<bool, Error> {
    unlink(path, AtFlags::REMOVEDIR)
}

fn unlink(path: &Path, flags: AtFlags) -> Result<bool, Error> {
    match parent(path).and_then(|(folder, name)| Ok(unlinkat(folder, name, flags)?)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at("remove", path)(error)),
    }
}

/// What is at a path; `None` where nothing is.
pub(crate) fn look(path: &Path) -> io::Result<Option<Stat>> {
    let found = parent(path)
        .and_then(|(folder, name)| Ok(statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?));
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether `path` still names what is open.
pub(crate) fn names(path: &Path, open: impl AsFd) -> io::Result<bool> {
    let open = fstat(open)?;
    let there = look(path)?;
    Ok(there.is_some_and(|there| (there.st_dev, there.st_ino) == (open.st_dev, open.st_ino)))
}

/// Makes the name of `path` survive a power cut.
pub(crate) fn sync_parent(path: &Path) -> Result<(), Error> {
    let synced = parent(path).and_then(|(folder, _)| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        File::from(openat(folder, ".", flags, Mode::empty())?).sync_all()
    });
    synced.map_err(at("sync the folder of", path))
}
