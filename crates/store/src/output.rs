//! An image on its way out of the store, into a folder that others may be able to write to.
//!
//! It is written under a name of its own beside its place and renamed when it is whole. Both folders are
//! held open and whatever is made is made in them, following no link: whoever exchanges a folder for a link
//! meanwhile does not lead the writing elsewhere. While it is written it is locked (flock(2)): one that nobody
//! has locked was left by a process that was killed, and is removed by the next that writes to the same place.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, flock, fstat, mkdirat, openat,
    renameat, renameat_with, statat,
};
use rustix::io::Errno;

use crate::error::{Error, at};
use crate::remove::remove_below;

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What the names end with, before the number of the process.
const PARTIAL: &str = ".partial-";

/// How often something is made that others take for left over, and how long between.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// Is told of bytes that were written; a break ends the writing with [`Error::Interrupted`].
pub type Written<'a> = dyn Fn(u64) -> ControlFlow<()> + Sync + 'a;

/// Something that is being written beside its place; removed unless it gets there.
pub(crate) struct Partial {
    /// Its place, as it was named.
    to: PathBuf,
    /// The folder of its place.
    beside: OwnedFd,
    /// Its name there until it is whole.
    name: CString,
    /// Whether it takes the place of a file that is there.
    replaces: bool,
}

impl Partial {
    /// Nothing, or an empty folder, may be at `to`. The folder that it is in is named without links.
    pub(crate) fn beside(to: &Path) -> Result<Self, Error> {
        let exists = || Error::Exists(to.to_owned());
        let name = to.file_name().ok_or_else(exists)?;
        let beside = open_parent(to)?;
        match openat(&beside, name, FOLDER, Mode::empty()) {
            Ok(there) if is_empty(&there).map_err(at("list", to))? => {}
            Err(Errno::NOENT) => {}
            _ => return Err(exists()),
        }
        Self::named(to, name, beside, false)
    }

    /// As [`Partial::beside`], for a file that takes the place of the one at `to`.
    pub(crate) fn over(to: &Path) -> Result<Self, Error> {
        let name = to.file_name().ok_or_else(|| Error::Exists(to.to_owned()))?;
        Self::named(to, name, open_parent(to)?, true)
    }

    fn named(to: &Path, name: &OsStr, beside: OwnedFd, replaces: bool) -> Result<Self, Error> {
        let mut own = OsString::from(".");
        own.push(name);
        own.push(PARTIAL);
        remove_left_over(&beside, own.as_bytes(), to)?;
        own.push(std::process::id().to_string());
        let name = c_name(&own).map_err(at("create", to))?;
        Ok(Self { to: to.to_owned(), beside, name, replaces })
    }

    /// Makes it a folder.
    pub(crate) fn folder(&self) -> Result<OutputFolder, Error> {
        self.made(|| {
            let mode = Mode::RWXU | Mode::RWXG | Mode::RWXO;
            mkdirat(&self.beside, &self.name, mode)?;
            openat(&self.beside, &self.name, FOLDER, Mode::empty())
        })
        .map(|open| OutputFolder { open, path: self.path() })
    }

    /// Makes it a file.
    pub(crate) fn file(&self) -> Result<File, Error> {
        self.made(|| make_file(&self.beside, &self.name))
    }

    /// Makes and locks it. Until it is locked, one who looks for what killed processes have left takes it for that: then it is
    /// made once more.
    fn made<T: AsFd>(&self, make: impl Fn() -> Result<T, Errno>) -> Result<T, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            match make() {
                Ok(made) if self.holds(&made) => return Ok(made),
                Ok(_) | Err(Errno::NOENT | Errno::EXIST) if tries < TRIES => {}
                Ok(_) => return Err(at("create", &self.path())(Errno::BUSY)),
                Err(errno) => return Err(at("create", &self.path())(errno)),
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Locks what was made, and says whether it is still there. A file system without such locks (NFS, some) loses only the
    /// removal of what a killed process leaves.
    fn holds(&self, made: impl AsFd) -> bool {
        if flock(&made, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return false;
        }
        let there = statat(&self.beside, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        fstat(&made).is_ok_and(|made| {
            there.is_ok_and(|there| (made.st_dev, made.st_ino) == (there.st_dev, there.st_ino))
        })
    }

    /// Where it is until it is whole, for messages.
    pub(crate) fn path(&self) -> PathBuf {
        self.to.with_file_name(OsStr::from_bytes(self.name.to_bytes()))
    }

    /// Gives `made`, which is open, its place.
    pub(crate) fn into_place(self, made: impl AsFd) -> Result<(), Error> {
        self.place(made)
    }

    /// As [`Partial::into_place`]; where that fails it stays what it is while this lives.
    pub(crate) fn place(&self, made: impl AsFd) -> Result<(), Error> {
        let fault = || at("rename into place", &self.to);
        let name = c_name(self.to.file_name().unwrap_or_default()).map_err(fault())?;
        let renamed = match self.replaces {
            true => renameat(&self.beside, &self.name, &self.beside, &name),
            false => rename(&self.beside, &self.name, &name),
        };
        renamed.map_err(|errno| match errno {
            // Somebody was quicker.
            Errno::EXIST | Errno::NOTEMPTY => Error::Exists(self.to.clone()),
            errno => fault()(errno),
        })?;
        let (made, there) = (fstat(made), statat(&self.beside, &name, AtFlags::SYMLINK_NOFOLLOW));
        let (made, there) = (made.map_err(fault())?, there.map_err(fault())?);
        if (made.st_dev, made.st_ino) != (there.st_dev, there.st_ino) {
            return Err(Error::Exchanged(self.to.clone()));
        }
        // Whoever exchanged the folder above has it whole now, and not where it was asked for.
        let above = fstat(open_parent(&self.to)?).map_err(fault())?;
        let held = fstat(&self.beside).map_err(fault())?;
        if (above.st_dev, above.st_ino) != (held.st_dev, held.st_ino) {
            return Err(Error::Exchanged(self.to.clone()));
        }
        rustix::fs::fsync(&self.beside).map_err(at("sync the folder of", &self.to))
    }

    fn remove(&self) -> Result<(), Error> {
        remove_below(&self.beside, &self.name, &self.path())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already when it got to its place.
        let _ = self.remove();
    }
}

/// A folder of what is being written, open.
pub(crate) struct OutputFolder {
    open: OwnedFd,
    path: PathBuf,
}

impl AsFd for OutputFolder {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.open.as_fd()
    }
}

impl OutputFolder {
    /// A new folder in it.
    pub(crate) fn folder(&self, name: &str) -> Result<Self, Error> {
        let path = self.path.join(name);
        let name = c_name(OsStr::new(name)).map_err(at("create", &path))?;
        make_folder(&self.open, &name, path)
    }

    /// A new file in it.
    pub(crate) fn file(&self, name: &str) -> Result<(File, PathBuf), Error> {
        let path = self.path.join(name);
        let made = c_name(OsStr::new(name)).and_then(|name| make_file(&self.open, &name));
        Ok((made.map_err(at("create", &path))?, path))
    }
}

/// Renames, and replaces an empty folder at most.
fn rename(folder: &OwnedFd, from: &CString, to: &CString) -> Result<(), Errno> {
    let is_folder = |name| {
        let about = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
        about.is_ok_and(|about| FileType::from_raw_mode(about.st_mode) == FileType::Directory)
    };
    if is_folder(from) {
        return renameat(folder, from, folder, to);
    }
    match renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
        // A file system that can't tell (NFS).
        Err(Errno::INVAL) => renameat(folder, from, folder, to),
        renamed => renamed,
    }
}

/// The folder of a place, through no link.
pub(crate) fn open_parent(to: &Path) -> Result<OwnedFd, Error> {
    let folder = match to.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let found = sconce_open::Folder::open_unfollowed(folder).map_err(at("open", folder))?;
    // What it found can't be listed or synced.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(found, ".", flags, Mode::empty()).map_err(at("open", folder))
}

/// Removes what processes that were killed have left under such names. It may be that nothing may be removed
/// here: what is to be written decides that.
fn remove_left_over(beside: &OwnedFd, start: &[u8], to: &Path) -> Result<(), Error> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(beside).map_err(at("list the folder of", to))? {
        let entry = entry.map_err(at("list the folder of", to))?;
        let number = entry.file_name().to_bytes().strip_prefix(start);
        if number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
        {
            names.push(entry.file_name().to_owned());
        }
    }
    for name in names {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(there) = openat(beside, &name, flags, Mode::empty()) else { continue };
        if flock(&there, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ =
                remove_below(beside, &name, &to.with_file_name(OsStr::from_bytes(name.to_bytes())));
        }
    }
    Ok(())
}

fn make_folder(above: &OwnedFd, name: &CString, path: PathBuf) -> Result<OutputFolder, Error> {
    let mode = Mode::RWXU | Mode::RWXG | Mode::RWXO;
    mkdirat(above, name, mode).map_err(at("create", &path))?;
    let open = openat(above, name, FOLDER, Mode::empty()).map_err(at("open", &path))?;
    Ok(OutputFolder { open, path })
}

fn make_file(above: &OwnedFd, name: &CString) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
    openat(above, name, flags, mode).map(File::from)
}

fn is_empty(folder: &OwnedFd) -> Result<bool, Errno> {
    for entry in rustix::fs::Dir::read_from(folder)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn c_name(name: &OsStr) -> Result<CString, Errno> {
    CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)
}
