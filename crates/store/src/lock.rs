//! Locks between processes and threads: flock(2) on files under `locks/` and on scratch folders.
//!
//! The kernel drops a lock when its holder dies, however it dies, so none is ever stale.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{Error, at};

/// The exclusive right to make one object; given up when dropped.
#[derive(Debug)]
pub struct ObjectLock {
    path: PathBuf,
    _file: File,
}

impl ObjectLock {
    /// Waits for the lock file at `path`.
    pub(crate) fn wait(path: PathBuf) -> Result<Self, Error> {
        loop {
            let file = open(&path)?;
            retry(&file, FlockOperation::LockExclusive).map_err(at("lock", &path))?;
            if still_there(&file, &path)? {
                return Ok(Self { path, _file: file });
            }
        }
    }

    /// Takes the lock if nobody holds it.
    pub(crate) fn attempt(path: PathBuf) -> Result<Option<Self>, Error> {
        loop {
            let file = open(&path)?;
            match retry(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Ok(None),
                result => result.map_err(at("lock", &path))?,
            }
            if still_there(&file, &path)? {
                return Ok(Some(Self { path, _file: file }));
            }
        }
    }
}

impl Drop for ObjectLock {
    fn drop(&mut self) {
        // Removed while held: whoever waits on the old file sees that it is gone and starts over.
        let _ = fs::remove_file(&self.path);
    }
}

/// A lock many may hold together, or one alone. Its file stays.
#[derive(Debug)]
pub(crate) struct SharedLock {
    path: PathBuf,
    file: File,
}

impl SharedLock {
    /// Waits while somebody holds it alone.
    pub(crate) fn shared(path: PathBuf) -> Result<Self, Error> {
        let file = open(&path)?;
        retry(&file, FlockOperation::LockShared).map_err(at("lock", &path))?;
        Ok(Self { path, file })
    }

    /// Makes a shared lock one's own for the time of `work`; `None` when others hold it.
    pub(crate) fn alone<T>(&self, work: impl FnOnce() -> T) -> Result<Option<T>, Error> {
        match retry(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let result = work();
                self.share()?;
                Ok(Some(result))
            }
            Err(Errno::WOULDBLOCK) => {
                // A failed conversion may have dropped what was held (flock(2)).
                self.share()?;
                Ok(None)
            }
            Err(error) => Err(at("lock", &self.path)(error)),
        }
    }

    fn share(&self) -> Result<(), Error> {
        retry(&self.file, FlockOperation::LockShared).map_err(at("lock", &self.path))
    }
}

/// Whether some process holds the lock at `path`; nobody holds one that is not there.
pub(crate) fn is_held(path: &Path) -> Result<bool, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(at("open", path)(error)),
    };
    match retry(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(at("lock", path)(error)),
    }
}

/// A folder of this process under `tmp/`, removed when dropped, or by the next process when this
/// one was killed.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) path: PathBuf,
    _folder: File,
}

impl Scratch {
    /// Makes one in `tmp`.
    pub(crate) fn create(tmp: &Path) -> Result<Self, Error> {
        for attempt in 0_u32.. {
            let path = tmp.join(format!("{}-{attempt}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(at("create", &path)(error)),
            }
            // Between the two steps somebody may take the new folder for a dead process's one.
            let folder = match File::open(&path) {
                Ok(folder) => folder,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(at("open", &path)(error)),
            };
            match retry(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if still_there(&folder, &path)? => {
                    return Ok(Self { path, _folder: folder });
                }
                Ok(()) | Err(Errno::WOULDBLOCK) => {}
                Err(error) => return Err(at("lock", &path)(error)),
            }
        }
        Err(Error::Busy(tmp.to_owned()))
    }

    /// Removes the folders of dead processes.
    pub(crate) fn clean(tmp: &Path) -> Result<(), Error> {
        for entry in fs::read_dir(tmp).map_err(at("list", tmp))? {
            let path = entry.map_err(at("list", tmp))?.path();
            let folder = match File::open(&path) {
                Ok(folder) => folder,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(at("open", &path)(error)),
            };
            match retry(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if still_there(&folder, &path)? => crate::remove::all(&path)?,
                Ok(()) | Err(Errno::WOULDBLOCK) => {}
                Err(error) => return Err(at("lock", &path)(error)),
            }
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed now, the next process removes.
        let _ = crate::remove::all(&self.path);
    }
}

fn open(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(at("open", path))
}

fn retry(file: &File, operation: FlockOperation) -> rustix::io::Result<()> {
    rustix::io::retry_on_intr(|| flock(file, operation))
}

/// Whether `path` still names the locked file: its last holder may have removed it.
fn still_there(file: &File, path: &Path) -> Result<bool, Error> {
    let ours = file.metadata().map_err(at("look at", path))?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok(there.ino() == ours.ino() && there.dev() == ours.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at("look at", path)(error)),
    }
}
