//! Removing whole folders, also those an image made unwritable or deeper than any path.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat, unlinkat};
use rustix::io::Errno;

use crate::error::{Error, at};
use crate::own;
use crate::walk::{Cursor, Entering};

/// How many leftovers are named in an error.
const NAMED: usize = 16;

/// How often folders are emptied anew that fill up again, or whose listing skipped something.
const AGAIN: u32 = 1000;

/// Removes the file or folder at `path` and all below it; nothing there is fine.
///
/// Symbolic links are not followed and mounts not entered, whoever changes the tree meanwhile;
/// names may be any bytes, folders any depth and mode. What can't be removed stays, all else goes,
/// and [`Error::Unremovable`] lists it. Such are files of other users, as a rootless container
/// with a range of ids leaves them: the same call in a user namespace with the same maps removes
/// them.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    let fault = || at("remove", path);
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
        return Err(fault()(Errno::INVAL));
    };
    let name = CString::new(name.as_bytes()).map_err(|_| fault()(Errno::INVAL))?;
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match openat(CWD, parent, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        result => result.map_err(fault())?,
    };
    remove_below(&parent, &name, path)
}

/// As [`remove_tree`], of what lies in a store: no link that another user put there is followed.
pub(crate) fn remove_own(path: &Path) -> Result<(), Error> {
    let (parent, name) = match own::parent(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(at("remove", path))?,
    };
    let name = CString::new(name.as_bytes()).map_err(|_| at("remove", path)(Errno::INVAL))?;
    remove_below(&parent, &name, path)
}

/// As [`remove_tree`], of `name` in a folder that is held open; `path` is for messages.
pub(crate) fn remove_below(parent: impl AsFd, name: &CStr, path: &Path) -> Result<(), Error> {
    match unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(at("remove", path)(errno)),
    }
    let mut removal = Removal::default();
    removal.tree(&parent, name);
    match removal.cause {
        None => Ok(()),
        Some(cause) => Err(Error::Unremovable {
            path: path.to_owned(),
            left: removal.left.iter().map(|below| under(path, below)).collect(),
            more: removal.more,
            owners: removal.owners.into_iter().collect(),
            source: cause.into(),
        }),
    }
}

/// `root.join(below)`, without a slash at the end where there is nothing below.
pub(crate) fn under(root: &Path, below: &Path) -> PathBuf {
    match below.as_os_str().is_empty() {
        true => root.to_owned(),
        false => root.join(below),
    }
}

/// What was left, and why the first of it was.
#[derive(Default)]
struct Removal {
    left: Vec<PathBuf>,
    more: usize,
    owners: BTreeSet<u32>,
    cause: Option<Errno>,
    again: u32,
}

/// A folder that is being emptied.
struct Level {
    /// The folders in it that are still to be removed.
    folders: Vec<CString>,
    /// How much had been left when it was entered.
    left: usize,
}

impl Removal {
    /// Removes the folder `root` of `parent`.
    fn tree(&mut self, parent: impl AsFd, root: &CStr) {
        let mut cursor = match Cursor::open(&parent, root, Entering::OpenUp) {
            Ok(cursor) => cursor,
            // An empty one of somebody else goes without being opened.
            Err(errno) => match unlinkat(&parent, root, AtFlags::REMOVEDIR) {
                Ok(()) => return,
                Err(_) => return self.leave(&parent, root, PathBuf::new(), errno),
            },
        };
        let mut levels = vec![self.files(&cursor)];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.folders.pop() else {
                let left = level.left;
                levels.pop();
                match cursor.up() {
                    Ok(Some(name)) => {
                        let again =
                            self.folder(cursor.folder(), &name, left, || cursor.path_of(&name));
                        if let (true, Some(level)) = (again, levels.last_mut()) {
                            level.folders.push(name);
                        }
                    }
                    Ok(None) => {
                        if self.folder(&parent, root, left, PathBuf::new) {
                            levels.push(self.files(&cursor));
                        }
                    }
                    // Moved away while it was emptied: what it stood in is out of reach.
                    Err(errno) => return self.leave(&parent, root, PathBuf::new(), errno),
                }
                continue;
            };
            match cursor.down(&name) {
                Ok(()) => levels.push(self.files(&cursor)),
                Err(Errno::NOENT) => {}
                Err(errno) => {
                    if unlinkat(cursor.folder(), &name, AtFlags::REMOVEDIR).is_err() {
                        self.leave(cursor.folder(), &name, cursor.path_of(&name), errno);
                    }
                }
            }
        }
    }

    /// Removes all but the folders in the folder at hand.
    fn files(&mut self, cursor: &Cursor) -> Level {
        let mut level = Level { folders: Vec::new(), left: self.count() };
        let listed = cursor.entries(|name, kind| {
            if kind == FileType::Directory {
                level.folders.push(name.to_owned());
                return;
            }
            match unlinkat(cursor.folder(), name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR) => level.folders.push(name.to_owned()),
                Err(errno) => self.leave(cursor.folder(), name, cursor.path_of(name), errno),
            }
        });
        if let Err(errno) = listed {
            self.leave(cursor.folder(), c".", cursor.path_of(c"."), errno);
        }
        level
    }

    /// Removes a folder that was emptied, but for what came to be left since `left` things were.
    /// Says whether it must be emptied again.
    fn folder(
        &mut self,
        parent: impl AsFd,
        name: &CStr,
        left: usize,
        path: impl FnOnce() -> PathBuf,
    ) -> bool {
        match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => false,
            Err(Errno::NOTEMPTY | Errno::EXIST) if self.count() > left => false,
            Err(Errno::NOTEMPTY | Errno::EXIST) if self.again < AGAIN => {
                self.again += 1;
                true
            }
            Err(errno) => {
                self.leave(parent, name, path(), errno);
                false
            }
        }
    }

    fn leave(&mut self, parent: impl AsFd, name: &CStr, path: PathBuf, cause: Errno) {
        if let Ok(meta) = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            self.owners.insert(meta.st_uid);
        }
        match self.left.len() < NAMED {
            true => self.left.push(path),
            false => self.more += 1,
        }
        self.cause.get_or_insert(cause);
    }

    fn count(&self) -> usize {
        self.left.len() + self.more
    }
}
