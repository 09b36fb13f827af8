//! Where the runtime keeps what it knows of a container.
//!
//! ```text
//! <root>/<id>/state.json    how it goes (`Record`), replaced by rename
//!             config.json   the bundle's at the time of `create`
//!             notify.sock   where its first process waits for `start`
//! ```
//!
//! The folder's lock is held while a command changes it.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::error::{Doing, Error};
use super::record::Record;

/// What the OCI specification's tools take for an id: never a path, never an option.
const LONGEST: usize = 255;

/// The folder of all containers of a root, made if missing: the caller's own, closed to others.
pub(super) fn root(path: &Path) -> Result<PathBuf, Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.doing(format!("creating {}", path.display()))?;
    let path = fs::canonicalize(path).doing(format!("finding {}", path.display()))?;
    let about = fs::metadata(&path).doing(format!("looking at {}", path.display()))?;
    owned(&path, about.uid())?;
    match about.mode() & 0o022 {
        0 => Ok(path),
        _ => Err(Error::Open { path, mode: about.mode() & 0o7777 }),
    }
}

fn owned(path: &Path, owner: u32) -> Result<(), Error> {
    let me = sconce_open::effective_user();
    match owner == me {
        true => Ok(()),
        false => Err(Error::NotOurs { path: path.to_owned(), owner, me }),
    }
}

/// The id, if it is one.
pub(super) fn id(given: &str) -> Result<&str, Error> {
    let first =
        given.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let rest = given.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte));
    match first && rest && given.len() <= LONGEST {
        true => Ok(given),
        false => Err(Error::Id(given.chars().take(LONGEST).collect())),
    }
}

/// A container's folder, locked.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    lock: OwnedFd,
}

impl Folder {
    /// Makes it; the id must be free.
    pub(super) fn new(root: &Path, id: &str) -> Result<Self, Error> {
        let path = root.join(id);
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists(id.to_owned()));
            }
            other => other.doing(format!("creating {}", path.display()))?,
        }
        Self::lock(path)
    }

    /// The folder of one that is there, whatever is in it.
    pub(super) fn find(root: &Path, id: &str) -> Result<Self, Error> {
        let path = place(root, id)?;
        Self::lock(path)
    }

    fn lock(path: PathBuf) -> Result<Self, Error> {
        let lock = File::open(&path).doing(format!("opening {}", path.display()))?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive))
            .doing(format!("locking {}", path.display()))?;
        Ok(Self { path, lock: lock.into() })
    }

    pub(super) fn record(&self) -> Result<Record, Error> {
        Record::read(&self.path)
    }

    pub(super) fn remove(&self) -> Result<(), Error> {
        // The record first: what is left of a removal that was killed is no container.
        let _ = fs::remove_file(self.path.join(super::record::NAME));
        fs::remove_dir_all(&self.path).doing(format!("removing {}", self.path.display()))
    }
}

/// Processes that were forked meanwhile have the lock too: it is given up for all of them.
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.lock, FlockOperation::Unlock);
    }
}

/// The path of a container that is there.
pub(super) fn place(root: &Path, id: &str) -> Result<PathBuf, Error> {
    let path = root.join(self::id(id)?);
    match fs::symlink_metadata(&path) {
        Ok(about) if about.is_dir() => owned(&path, about.uid()).map(|()| path),
        _ => Err(Error::NoContainer { id: id.to_owned(), root: root.to_owned() }),
    }
}

/// The names of what is there.
pub(super) fn names(root: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.doing(format!("reading {}", root.display()))?,
    };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_no_path() {
        for good in ["a", "0f3c", "my_job-1.2+x", "_x"] {
            assert_eq!(id(good).expect("an id"), good);
        }
        for bad in
            ["", ".", "..", "../x", "a/b", "-rf", ".hidden", "a b", "ä", "a\n", &"x".repeat(256)]
        {
            assert!(id(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_root_is_the_callers_own_and_closed() {
        use std::os::unix::fs::PermissionsExt;
        let world = tempfile::tempdir().expect("a folder");
        let path = root(&world.path().join("a/b")).expect("made");
        assert_eq!(fs::metadata(&path).expect("metadata").mode() & 0o777, 0o700);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("chmod");
        assert!(matches!(root(&path), Err(Error::Open { .. })));
    }
}
