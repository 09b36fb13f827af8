//! A folder for each run, and the removal of what killed runs left behind.
//!
//! A run holds a lock on its folder for as long as its process lives. A folder that nobody
//! holds is left over from a run that was killed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::error::{Doing, Error};

/// What the folders' names begin with; others in the same place are not touched.
const PREFIX: &str = "run-";

/// This run's folder. Whatever is left of it goes when this is dropped.
pub(crate) struct Scratch {
    pub(crate) path: PathBuf,
    /// Folders that killed runs left, ours to remove.
    pub(crate) left: Vec<PathBuf>,
    _locks: Vec<File>,
}

impl Scratch {
    /// Makes a folder in `parent`, which is made if missing.
    pub(crate) fn new(parent: &Path) -> Result<Self, Error> {
        fs::create_dir_all(parent).doing_to("creating", parent)?;
        let parent = fs::canonicalize(parent).doing_to("finding", parent)?;
        // While this is held no other run is between making its folder and locking it.
        let door = File::open(&parent).doing_to("opening", &parent)?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&door, FlockOperation::LockExclusive))
            .doing_to("locking", &parent)?;
        let mut left = Vec::new();
        let mut locks = Vec::new();
        let mut next = 0u64;
        for entry in fs::read_dir(&parent).doing_to("reading", &parent)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(number) = name.strip_prefix(PREFIX).and_then(|n| n.parse::<u64>().ok()) else {
                continue;
            };
            next = next.max(number.saturating_add(1));
            // Another user's folder cannot be opened, and is not ours to remove.
            let Ok(folder) = File::open(entry.path()) else { continue };
            if rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
                left.push(entry.path());
                locks.push(folder);
            }
        }
        let path = parent.join(format!("{PREFIX}{next}"));
        fs::create_dir(&path).doing_to("creating", &path)?;
        let folder = File::open(&path).doing_to("opening", &path)?;
        rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive)
            .doing_to("locking", &path)?;
        locks.push(folder);
        Ok(Self { path, left, _locks: locks })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The keeper has removed it already, unless it was killed or never got that far.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_holds_is_left_over() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["run-7", "run-x", "other"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let first = Scratch::new(folder.path()).expect("a run");
        assert_eq!(first.left, [fs::canonicalize(folder.path()).expect("path").join("run-7")]);
        assert!(first.path.ends_with("run-8"));
        let second = Scratch::new(folder.path()).expect("another run");
        assert!(second.path.ends_with("run-9"));
        assert!(second.left.is_empty(), "the first holds run-7 and run-8: {:?}", second.left);
        drop(first);
        assert!(!folder.path().join("run-8").exists());
        assert!(folder.path().join("run-9").exists());
        assert!(folder.path().join("run-x").exists());
    }
}
