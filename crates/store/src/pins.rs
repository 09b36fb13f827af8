//! Pins: what each process has looked up or put stays in the store until the process closes it.
//!
//! Before a process looks for an object in its store, or puts one there, it appends the object's
//! digest to the file `pins` in its scratch folder, holding a shared lock on `locks/gc`. A prune
//! takes that lock exclusively, reads the pins of all live processes, and moves away what neither a
//! pin nor a remaining image needs. It deletes after it has released the lock, so nobody waits
//! longer than its renames take. (Nix calls these temporary roots.)
//!
//! A lease has such a file too, in a scratch folder of its own: whatever becomes of the image's record, what its
//! container is made of stays.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::FlockOperation;
use sconce_blob::Digest;

use crate::error::{Error, at};
use crate::files::read_small;
use crate::lock::{Wanted, patiently, retry, wait_for_gc};
use crate::own;
use crate::scratch::live;

/// The name of the file in a scratch folder: digests of 32 bytes each.
const FILE: &str = "pins";

/// The pins of this process.
#[derive(Debug)]
pub(crate) struct Pins {
    folder: PathBuf,
    /// Where the lock file lies, for messages.
    lock: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    gc: File,
    file: Option<File>,
    pinned: HashSet<Digest>,
    /// A pin could not be written (the disk is full): the shared lock is kept instead, so that no
    /// prune begins until this process is done.
    holds_gc: bool,
    /// The lock was waited for in vain.
    gave_up: bool,
}

impl Pins {
    /// Keeps pins in the scratch folder `folder`; `gc` is the open lock file, which lies at `lock`.
    pub(crate) fn new(folder: PathBuf, gc: File, lock: PathBuf) -> Self {
        let state =
            State { gc, file: None, pinned: HashSet::new(), holds_gc: false, gave_up: false };
        Self { folder, lock, state: Mutex::new(state) }
    }

    /// Pins an object. Look for it, or put it, afterwards. `note` hears of a wait.
    ///
    /// # Errors
    /// [`Error::Locked`], at once where it was waited for in vain before.
    pub(crate) fn pin(
        &self,
        digest: Digest,
        timeout: Option<Duration>,
        note: &dyn Fn(&str),
    ) -> Result<(), Error> {
        let mut state = self.state();
        if state.pinned.contains(&digest) {
            return Ok(());
        }
        let timeout = if state.gave_up { Some(Duration::ZERO) } else { timeout };
        match patiently(&state.gc, Wanted::Shared, &self.lock, timeout, note) {
            Err(error @ Error::Locked { .. }) => {
                state.gave_up = true;
                return Err(error);
            }
            // A file system without locks made opening the store fail already.
            _ => state.gave_up = false,
        }
        match state.write(&self.folder, digest) {
            Ok(()) => drop(state.pinned.insert(digest)),
            Err(_) => state.holds_gc = true,
        }
        if !state.holds_gc {
            let _ = retry(&state.gc, FlockOperation::Unlock);
        }
        Ok(())
    }

    /// Pins objects for whoever holds the scratch folder `folder`, which is another than this process's.
    ///
    /// # Errors
    /// [`Error::Locked`], or the pins can't be written.
    pub(crate) fn pin_in(
        &self,
        folder: &Path,
        digests: &HashSet<Digest>,
        timeout: Option<Duration>,
        note: &dyn Fn(&str),
    ) -> Result<(), Error> {
        let state = self.state();
        patiently(&state.gc, Wanted::Shared, &self.lock, timeout, note)?;
        let written = begin(folder).and_then(|mut file| {
            let bytes: Vec<u8> = digests.iter().flat_map(|d| *d.as_bytes()).collect();
            file.write_all(&bytes)
        });
        if !state.holds_gc {
            let _ = retry(&state.gc, FlockOperation::Unlock);
        }
        written.map_err(at("write", &folder.join(FILE)))
    }

    /// Does `work` while no other process or thread can pin anything, then drops the pins of this
    /// process. `None` when others keep the lock. `work` must not pin: that would deadlock.
    pub(crate) fn exclusively<T>(&self, work: impl FnOnce() -> T) -> Result<Option<T>, Error> {
        let mut state = self.state();
        let fault = || at("lock the garbage collection of", &self.folder);
        if !wait_for_gc(&state.gc).map_err(fault())? {
            return Ok(None);
        }
        let result = work();
        state.pinned.clear();
        state.holds_gc = false;
        let emptied = state.file.as_ref().map_or(Ok(()), |file| file.set_len(0));
        retry(&state.gc, FlockOperation::Unlock).map_err(fault())?;
        emptied.map_err(at("empty", &self.folder.join(FILE)))?;
        Ok(Some(result))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, folder: &Path, digest: Digest) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(begin(folder)?),
        };
        file.write_all(digest.as_bytes())
    }
}

/// Makes the file of pins in a scratch folder.
fn begin(folder: &Path) -> std::io::Result<File> {
    let fresh = folder.join("pins.new");
    // Other members of a group read it when they prune, also without the lock when they only look: it appears with its
    // mode.
    let file = own::create(&fresh, 0o640)?;
    own::rename(&fresh, &folder.join(FILE))?;
    Ok(file)
}

/// The pins of all other live processes. Call it with the lock held exclusively.
pub(crate) fn of_others(tmp: &Path, own: &Path) -> Result<HashSet<Digest>, Error> {
    let mut digests = HashSet::new();
    for folder in live(tmp, own)? {
        let path = folder.join(FILE);
        let bytes = read_small(&path)?.unwrap_or_default();
        digests.extend(bytes.as_chunks::<32>().0.iter().map(|c| Digest::from_bytes(*c)));
    }
    Ok(digests)
}
