//! Blobs that clients send: in one piece or several, into the store's scratch until all of it is there and has its digest.
//!
//! Nothing of an upload is to be seen before that, and what is left of one that broke off goes when it has been idle for
//! [`IDLE`], or with this process.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use sconce_blob::Digest;
use sconce_store::{BlobWriter, Error as StoreError, Store};

use crate::error::Refusal;

/// The most uploads that have begun.
const MOST: usize = 256;
/// How long one that nothing comes of is kept.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// The largest blob, bytes.
const LARGEST: u64 = 64 << 30;
/// How long what was pushed stays although no image needs it yet.
const KEPT: Duration = Duration::from_secs(60 * 60);
/// How much comes between two looks at the disk.
const LOOK: u64 = 64 << 20;

/// All that have begun.
#[derive(Default)]
pub(crate) struct Uploads {
    begun: Mutex<HashMap<String, Arc<Mutex<Upload>>>>,
    /// Open stores in which blobs are pinned.
    kept: Mutex<Vec<(Instant, Store)>>,
    ids: RandomState,
}

/// A blob that is coming.
pub(crate) struct Upload {
    repository: String,
    blob: Option<BlobWriter>,
    touched: Instant,
}

impl Uploads {
    /// Begins one: its name.
    pub(crate) fn begin(&self, store: &Store, repository: &str) -> Result<String, Fault> {
        let blob = Some(store.create_blob()?);
        let mut begun = lock(&self.begun);
        let now = Instant::now();
        // One that is at work is touched all the time.
        begun.retain(|_, upload| {
            upload.try_lock().map_or(true, |upload| upload.touched.elapsed() < IDLE)
        });
        if begun.len() >= MOST {
            return Err(Refusal::too_many("too many uploads have begun").into());
        }
        let half = |number: u8| self.ids.hash_one((now, begun.len(), number, repository));
        let id = format!("{:016x}{:016x}", half(0), half(1));
        let upload = Upload { repository: repository.to_owned(), blob, touched: now };
        begun.insert(id.clone(), Arc::new(Mutex::new(upload)));
        Ok(id)
    }

    /// Does `work` with one that is nobody else's at the moment.
    pub(crate) fn with<T>(
        &self,
        repository: &str,
        id: &str,
        work: impl FnOnce(&mut Upload) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let unknown = || Refusal::new(404, "BLOB_UPLOAD_UNKNOWN", "there is no such upload");
        let upload = lock(&self.begun).get(id).cloned().ok_or_else(unknown)?;
        let mut upload = match upload.try_lock() {
            Ok(upload) => upload,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let busy = "another request is at work with this upload";
                return Err(Refusal::new(409, "BLOB_UPLOAD_INVALID", busy).into());
            }
        };
        if upload.repository != repository || upload.blob.is_none() {
            return Err(unknown().into());
        }
        let done = work(&mut upload);
        upload.touched = Instant::now();
        if upload.blob.is_none() {
            lock(&self.begun).remove(id);
        }
        done
    }

    /// Keeps what is pinned in an open store for a while: until its manifest comes.
    pub(crate) fn keep(&self, store: &Store) {
        let mut kept = lock(&self.kept);
        kept.retain(|(since, _)| since.elapsed() < KEPT);
        if kept.last().is_none_or(|(since, _)| since.elapsed() > KEPT / 60) {
            kept.push((Instant::now(), store.clone()));
        }
    }
}

impl Upload {
    pub(crate) fn len(&self) -> u64 {
        self.blob.as_ref().map_or(0, BlobWriter::len)
    }

    /// Adds what comes. What was there before a client broke off is kept, so that it can go on.
    pub(crate) fn add(
        &mut self,
        store: &Store,
        from: &mut impl Read,
        min_free: u64,
    ) -> Result<(), Fault> {
        let Some(blob) = &mut self.blob else { return Ok(()) };
        let mut piece = vec![0; 256 << 10];
        let mut look = 0;
        loop {
            let n = from.read(&mut piece).map_err(|error| Fault::Client(error.to_string()))?;
            if n == 0 {
                return Ok(());
            }
            if blob.len() >= look {
                look = blob.len() + LOOK;
                check_room(store, min_free)?;
            }
            if blob.len() + n as u64 > LARGEST {
                let why = format!("a blob of more than {} GiB is not taken", LARGEST >> 30);
                return Err(Refusal::new(413, "SIZE_INVALID", why).into());
            }
            let written = blob.write_all(&piece[..n]);
            written.map_err(|error| Fault::Here(error.to_string()))?;
        }
    }

    /// Puts it into the store, if it is what it is said to be. It is over in any case.
    pub(crate) fn finish(&mut self, digest: Digest) -> Result<(), Fault> {
        let Some(blob) = self.blob.take() else { return Ok(()) };
        match blob.commit(Some((digest, "what was sent"))) {
            Ok(_) => Ok(()),
            Err(StoreError::WrongDigest { actual, .. }) => {
                let why = format!("what was sent has the digest {actual}, not {digest}");
                Err(Refusal::new(400, "DIGEST_INVALID", why).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gives it up.
    pub(crate) fn cancel(&mut self) {
        self.blob = None;
    }
}

/// That the store's disk has room for more.
pub(crate) fn check_room(store: &Store, min_free: u64) -> Result<(), Fault> {
    let disk = rustix::fs::statvfs(store.root()).map_err(|error| Fault::Here(error.to_string()))?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < min_free {
        let why = "the registry's disk is too full to take more";
        return Err(Refusal::new(507, "DENIED", why).into());
    }
    Ok(())
}

/// Why something was not taken.
pub(crate) enum Fault {
    /// For who asks.
    Refused(Refusal),
    /// For who runs this.
    Here(String),
    /// The client broke off, or sends what can't be read.
    Client(String),
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        let mut text = error.to_string();
        if let Some(cause) = std::error::Error::source(&error) {
            text = format!("{text}: {cause}");
        }
        Self::Here(text)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
