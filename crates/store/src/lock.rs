//! Locks between processes and threads: flock(2) on files under `locks/`, on the records of images
//! and on scratch folders.
//!
//! The kernel drops a lock when its holder dies, however it dies, so none is ever stale. A file
//! needs only to be readable to be locked, so the images of a store that is read-only here can be
//! kept from being pruned as well.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::Store;
use crate::error::{Error, at, shell};
use crate::files::{not_opened, open_regular};
use crate::own::{self, remove_file};

/// How long to wait for prunes and processes that can't write their pins.
const GC_PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait for the record of an image, which a prune holds only while it removes it.
const RECORD_PATIENCE: Duration = Duration::from_secs(2);

/// How long to wait for any lock without a word.
const IN_SILENCE: Duration = Duration::from_secs(1);

/// How long to sleep between two attempts at such a lock.
const PAUSE: Duration = Duration::from_millis(5);

/// The same of one that has been waited for in vain for [`IN_SILENCE`].
const LONG_PAUSE: Duration = Duration::from_millis(50);

/// How long to wait for a lock whose holder does not run, where nothing else is said: as long as uv does
/// (`UV_LOCK_TIMEOUT`).
const PATIENCE: Duration = Duration::from_secs(300);

/// The variable that says how long to wait for a lock, whoever holds it.
pub(crate) const TIMEOUT: &str = "SCONCE_LOCK_TIMEOUT";

/// How long to wait for a lock, as the environment has it: seconds in `SCONCE_LOCK_TIMEOUT`. Without it a holder that is at work is waited for as
/// long as it takes, and one that is stopped, or that is not seen from here, for 300 seconds.
///
/// # Errors
/// It is no number of seconds.
pub fn lock_timeout(env: impl Fn(&str) -> Option<OsString>) -> Result<Option<Duration>, Error> {
    let Some(given) = env(TIMEOUT).filter(|given| !given.is_empty()) else { return Ok(None) };
    let text = given.to_string_lossy();
    match text.parse() {
        Ok(seconds) => Ok(Some(Duration::from_secs(seconds))),
        Err(_) => Err(Error::BadTimeout(text.into_owned())),
    }
}

/// The exclusive right to make one object; given up when dropped.
#[derive(Debug)]
pub struct ObjectLock {
    path: PathBuf,
    _file: File,
}

impl Store {
    /// Waits for the exclusive right to make the object called `kind` and `name`, so that two
    /// processes (or threads) don't do the same work: look whether it is there once you hold it.
    pub fn lock(&self, kind: &str, name: sconce_blob::Digest) -> Result<ObjectLock, Error> {
        self.wait_for(self.place().lock(kind, name))
    }

    /// As [`Store::lock`], but `None` when another holds it.
    pub fn try_lock(
        &self,
        kind: &str,
        name: sconce_blob::Digest,
    ) -> Result<Option<ObjectLock>, Error> {
        let path = self.place().lock(kind, name);
        loop {
            let file = self.lock_file(&path)?;
            if !attempt(&file).map_err(at("lock", &path))? {
                return Ok(None);
            }
            if still_there(&file, &path)? {
                return Ok(Some(ObjectLock { path, _file: file }));
            }
        }
    }

    /// Keeps an image of a store below from being pruned for as long as this store is open. Says
    /// whether it is there.
    pub(crate) fn hold(&self, record: &Path) -> Result<bool, Error> {
        let mut held = self.held();
        if held.contains_key(record) {
            return Ok(true);
        }
        match self.lock_below(record)? {
            None => Ok(false),
            Some(lock) => {
                held.insert(record.to_owned(), lock);
                Ok(true)
            }
        }
    }

    /// Locks the record of an image in a store below, which other users may lock too: one who does
    /// so exclusively must not stop anybody.
    pub(crate) fn lock_below(&self, record: &Path) -> Result<Option<Option<File>>, Error> {
        match lock_shared(record) {
            Err(Error::Busy(_)) => {
                self.note(&format!(
                    "another user locks {}, so its owner could prune the image while it is used",
                    record.display()
                ));
                Ok(Some(None))
            }
            lock => Ok(lock?.map(Some)),
        }
    }

    pub(crate) fn wait_for(&self, path: PathBuf) -> Result<ObjectLock, Error> {
        loop {
            let file = self.lock_file(&path)?;
            patiently(&file, Wanted::Alone, &path, self.lock_timeout(), &|text| self.note(text))?;
            if still_there(&file, &path)? {
                return Ok(ObjectLock { path, _file: file });
            }
        }
    }

    /// Opens a lock file, making it where there is none.
    fn lock_file(&self, path: &Path) -> Result<File, Error> {
        // It must appear with the mode it keeps: another user may be waiting to open it.
        loop {
            match own::open_lock(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => return result.map_err(|error| not_opened(path, error)),
            }
            if self.sharing().is_private() {
                match own::create(path, self.sharing().files()) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                    result => return result.map_err(at("create", path)),
                }
            }
            let fresh = self.scratch_path();
            self.create(&fresh)?;
            let linked = own::link(&fresh, path);
            remove_file(&fresh)?;
            match linked {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(at("create", path)(error));
                }
                _ => {}
            }
        }
    }
}

impl Drop for ObjectLock {
    fn drop(&mut self) {
        // Removed while held: whoever waits on the old file sees that it is gone and starts over.
        let _ = remove_file(&self.path);
    }
}

/// What became of an attempt to hold a file alone.
#[derive(Debug)]
pub(crate) enum TryLock {
    /// Nobody else holds it, for as long as this lives.
    Held(File),
    /// Somebody holds it.
    Busy,
    /// There is no such file.
    Gone,
}

/// Locks the file at `path` against being removed; `None` when it isn't there (any more).
/// [`Error::Busy`] when somebody holds it exclusively for longer than a prune does.
pub(crate) fn lock_shared(path: &Path) -> Result<Option<File>, Error> {
    let begun = Instant::now();
    loop {
        let file = match open_regular(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(not_opened(path, error)),
        };
        match retry(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) if still_read(&file, path)? => return Ok(Some(file)),
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) if begun.elapsed() < RECORD_PATIENCE => {
                std::thread::sleep(PAUSE)
            }
            Err(Errno::WOULDBLOCK) => return Err(Error::Busy(path.to_owned())),
            Err(error) => return Err(at("lock", path)(error)),
        }
    }
}

/// Tries to hold the file at `path` alone.
pub(crate) fn try_exclusive(path: &Path) -> Result<TryLock, Error> {
    let file = match open_regular(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(TryLock::Gone),
        Err(error) => return Err(not_opened(path, error)),
    };
    match attempt(&file).map_err(at("lock", path))? {
        false => Ok(TryLock::Busy),
        true if still_there(&file, path)? => Ok(TryLock::Held(file)),
        true => Ok(TryLock::Gone),
    }
}

/// Takes an exclusive lock unless others hold one.
pub(crate) fn attempt(file: impl AsFd) -> rustix::io::Result<bool> {
    match retry(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Ok(false),
        result => result.map(|()| true),
    }
}

/// Waits for the lock of garbage collection; `false` when others keep it.
pub(crate) fn wait_for_gc(file: impl AsFd) -> rustix::io::Result<bool> {
    let begun = Instant::now();
    while !attempt(&file)? {
        if begun.elapsed() >= GC_PATIENCE {
            return Ok(false);
        }
        std::thread::sleep(PAUSE);
    }
    Ok(true)
}

/// How a file is to be locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Nobody else holds it.
    Alone,
    /// Nobody else holds it alone.
    Shared,
}

/// Waits for a lock, which `path` is called. After a second `note` hears what is waited for, and who holds it.
///
/// # Errors
/// [`Error::Locked`] where it is not to be had within `timeout`, or, without one, while its holder has not run for
/// [`PATIENCE`].
pub(crate) fn patiently(
    file: &File,
    wanted: Wanted,
    path: &Path,
    timeout: Option<Duration>,
    note: &dyn Fn(&str),
) -> Result<(), Error> {
    let operation = match wanted {
        Wanted::Alone => FlockOperation::NonBlockingLockExclusive,
        Wanted::Shared => FlockOperation::NonBlockingLockShared,
    };
    let begun = Instant::now();
    // When the holder was last seen at work.
    let mut at_work = begun;
    let mut next_look = IN_SILENCE;
    let mut said = false;
    loop {
        match retry(file, operation) {
            Err(Errno::WOULDBLOCK) => {}
            result => return result.map_err(at("lock", path)),
        }
        let waited = begun.elapsed();
        let mut given_up = timeout.is_some_and(|timeout| waited >= timeout);
        if waited >= next_look || given_up {
            let holder = Holder::of(file);
            if !said && !given_up {
                note(&format!(
                    "waiting for {}, which {} has locked: this goes on when that has ended, and Ctrl-C ends it before",
                    shell(path),
                    in_words(holder.as_ref())
                ));
                said = true;
            }
            if holder.as_ref().is_some_and(|holder| !holder.stopped) {
                at_work = Instant::now();
            }
            given_up |= timeout.is_none() && at_work.elapsed() >= PATIENCE;
            if given_up {
                let stopped = holder.as_ref().filter(|holder| holder.stopped);
                return Err(Error::Locked {
                    path: path.to_owned(),
                    stopped: stopped.map(|holder| holder.pid),
                    holder: in_words(holder.as_ref()),
                    seconds: waited.as_secs(),
                });
            }
            next_look = waited + IN_SILENCE;
        }
        std::thread::sleep(if said { LONG_PAUSE } else { PAUSE });
    }
}

/// A process that holds a lock.
struct Holder {
    pid: u32,
    name: String,
    uid: u32,
    /// By a signal (SIGSTOP, Ctrl-Z) or a debugger.
    stopped: bool,
}

impl Holder {
    /// Who holds a lock on a file (proc_locks(5)). Nobody where the holder is not seen from here.
    fn of(file: &File) -> Option<Self> {
        let inode = format!(":{}", file.metadata().ok()?.ino());
        let locks = fs::read_to_string("/proc/locks").ok()?;
        let pid = locks.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // Whoever waits has `->` in the second place.
            match fields.as_slice() {
                [_, "FLOCK", _, _, pid, id, ..] if id.ends_with(&inode) => pid.parse::<u32>().ok(),
                _ => None,
            }
        })?;
        let process = Path::new("/proc").join(pid.to_string());
        let uid = fs::metadata(&process).ok()?.uid();
        let name = fs::read_to_string(process.join("comm")).ok()?;
        // Anybody names their processes, and this goes to a terminal.
        let name = name.trim_end().chars().filter(|c| !c.is_control()).collect();
        let stat = fs::read_to_string(process.join("stat")).ok()?;
        // The state follows the name, which may have brackets of its own (proc_pid_stat(5)).
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        Some(Self { pid, name, uid, stopped: matches!(state, Some('T' | 't')) })
    }
}

/// `process 12 (sconce) of uid 1000`.
fn in_words(holder: Option<&Holder>) -> String {
    match holder {
        None => "another process".to_owned(),
        Some(Holder { pid, name, uid, stopped }) => {
            let stopped = if *stopped { ", which is stopped," } else { "" };
            format!("process {pid} ({name}) of uid {uid}{stopped}")
        }
    }
}

pub(crate) fn retry(file: impl AsFd, operation: FlockOperation) -> rustix::io::Result<()> {
    rustix::io::retry_on_intr(|| flock(&file, operation))
}

/// Whether `path` still names the locked file: its last holder may have removed it.
pub(crate) fn still_there(file: &File, path: &Path) -> Result<bool, Error> {
    own::names(path, file).map_err(at("look at", path))
}

/// The same of a file in any store, for which reading is enough.
fn still_read(file: &File, path: &Path) -> Result<bool, Error> {
    let ours = file.metadata().map_err(at("look at", path))?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok(there.ino() == ours.ino() && there.dev() == ours.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at("look at", path)(error)),
    }
}
