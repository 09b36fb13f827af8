//! A folder of each process under `tmp/`, locked for as long as the process lives.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::access::Sharing;
use crate::error::{Error, at};
use crate::files::list;
use crate::lock::{attempt, still_there};
use crate::own::{self, open_folder};
use crate::remove::remove_own;

/// The folder; removed when dropped, or by the next process when this one was killed.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    folder: File,
    stays: bool,
}

impl Scratch {
    /// Makes one in `tmp`.
    pub(crate) fn create(tmp: &Path, sharing: Sharing) -> Result<Self, Error> {
        for number in 0_u32.. {
            let path = tmp.join(format!("{}-{number}", std::process::id()));
            // Until it is locked somebody may take the new folder for a dead process's one.
            let made = own::new_folder(&path, sharing.scratch());
            let folder = match made {
                Ok(folder) => folder,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(at("create", &path)(error)),
            };
            if attempt(&folder).map_err(at("lock", &path))? && still_there(&folder, &path)? {
                return Ok(Self { path, folder, stays: false });
            }
        }
        Err(Error::Busy(tmp.to_owned()))
    }

    /// Takes over the folder at `path` from whoever passed its lock on as `lock`.
    pub(crate) fn adopt(path: PathBuf, lock: OwnedFd) -> Result<Self, Error> {
        let folder = File::from(lock);
        match still_there(&folder, &path)? {
            true => Ok(Self { path, folder, stays: false }),
            false => Err(Error::Corrupt { path, why: "its lock is another file's".to_owned() }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The lock, for another process to hold; the folder stays until nobody does.
    pub(crate) fn into_lock(mut self) -> Result<OwnedFd, Error> {
        // A duplicate holds the same lock (flock(2)).
        let lock = self.folder.try_clone().map_err(at("pass on the lock of", &self.path))?;
        self.stays = true;
        Ok(lock.into())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.stays {
            // What can't be removed now, the next process removes or says.
            let _ = remove_own(&self.path);
        }
    }
}

/// Calls `remove` for each folder in `tmp` of this user whose process is dead, while its lock is
/// held. A folder that can't be examined is passed to `fault`: it must not stop anybody's work.
pub(crate) fn for_each_dead(
    tmp: &Path,
    mut remove: impl FnMut(&Path),
    mut fault: impl FnMut(Error),
) -> Result<(), Error> {
    let you = rustix::process::geteuid().as_raw();
    for path in list(tmp)? {
        let Ok(Some(about)) = own::look(&path) else { continue };
        // In a store shared by a group, everyone cleans up after themselves.
        if you != 0 && about.st_uid != you {
            continue;
        }
        if FileType::from_raw_mode(about.st_mode) != FileType::Directory {
            remove(&path);
            continue;
        }
        let opened = match open_folder(&path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                own::set_folder_mode(&path, 0o700).and_then(|()| open_folder(&path))
            }
            result => result,
        };
        let folder = match opened {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                fault(at("open", &path)(error));
                continue;
            }
        };
        match attempt(&folder)
            .map_err(at("lock", &path))
            .and_then(|free| Ok(free && still_there(&folder, &path)?))
        {
            Ok(true) => remove(&path),
            Ok(false) => {}
            Err(error) => fault(error),
        }
    }
    Ok(())
}

/// The folders in `tmp` of live processes, except `own`.
pub(crate) fn live(tmp: &Path, own: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut live = list(tmp)?;
    live.retain(|path| {
        path != own
            && open_folder(path).is_ok_and(|folder| attempt(&folder).is_ok_and(|free| !free))
    });
    Ok(live)
}
