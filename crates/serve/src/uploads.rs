//! Blobs that clients send: in one piece or several, into the store's scratch until all of it is there and has its digest.
//!
//! Nothing of an upload is to be seen before that, and what is left of one that broke off goes when it has been idle for
//! [`IDLE`] (for [`IDLE_EMPTY`] where nothing of it ever came), when the disk is full, or with this process. A client has so many at most; where all
//! together have as many as there may be, who has fewer than another takes the place of the one that the other has left idle longest.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use sconce_blob::Digest;
use sconce_store::{BlobWriter, Error as StoreError, Store};

use crate::clients::Client;
use crate::error::Refusal;

/// The most uploads that have begun, and how many of them one client may have.
const MOST: usize = 512;
const MOST_OF_ONE: usize = 64;
/// How long one that nothing more comes of is kept.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// The same of one of which nothing has come.
const IDLE_EMPTY: Duration = Duration::from_secs(2 * 60);
/// The largest blob, bytes.
const LARGEST: u64 = 64 << 30;
/// How long what was pushed stays although no image needs it yet.
const KEPT: Duration = Duration::from_secs(60 * 60);
/// How much comes between two looks at the disk.
const LOOK: u64 = 64 << 20;

/// All that have begun.
#[derive(Default)]
pub(crate) struct Uploads {
    begun: Mutex<HashMap<String, Begun>>,
    /// Open stores in which blobs are pinned.
    kept: Mutex<Vec<(Instant, Store)>>,
    ids: RandomState,
}

/// One of them, and whose it is.
struct Begun {
    who: Client,
    upload: Arc<Mutex<Upload>>,
}

/// Which upload a request is about, and who sent that.
#[derive(Clone, Copy)]
pub(crate) struct Which<'a> {
    pub(crate) repository: &'a str,
    pub(crate) id: &'a str,
    pub(crate) who: &'a Client,
}

impl<'a> Which<'a> {
    pub(crate) fn new(repository: &'a str, id: &'a str, who: &'a Client) -> Self {
        Self { repository, id, who }
    }
}

/// A blob that is coming.
pub(crate) struct Upload {
    repository: String,
    blob: Option<BlobWriter>,
    touched: Instant,
}

impl Uploads {
    /// Begins one: its name.
    pub(crate) fn begin(
        &self,
        store: &Store,
        repository: &str,
        who: &Client,
    ) -> Result<String, Fault> {
        let blob = Some(store.create_blob()?);
        let mut begun = lock(&self.begun);
        forget_idle(&mut begun);
        make_room(&mut begun, who)?;
        let now = Instant::now();
        let half = |number: u8| self.ids.hash_one((now, begun.len(), number, repository));
        let id = format!("{:016x}{:016x}", half(0), half(1));
        let upload = Upload { repository: repository.to_owned(), blob, touched: now };
        let upload = Arc::new(Mutex::new(upload));
        begun.insert(id.clone(), Begun { who: who.clone(), upload });
        Ok(id)
    }

    /// Gives up those that have been idle for too long.
    pub(crate) fn sweep(&self) {
        forget_idle(&mut lock(&self.begun));
        lock(&self.kept).retain(|(since, _)| since.elapsed() < KEPT);
    }

    /// Does `work` with one that is at no other work at the moment.
    pub(crate) fn with<T>(
        &self,
        Which { repository, id, who }: Which<'_>,
        work: impl FnOnce(&mut Upload) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let unknown = || Refusal::new(404, "BLOB_UPLOAD_UNKNOWN", "there is no such upload");
        // Of another login there is none. Without logins an address is nobody: a client may have several.
        let own = |begun: &&Begun| match (&begun.who, who) {
            (Client::At(_), Client::At(_)) => true,
            (begun, who) => begun == who,
        };
        let upload = lock(&self.begun).get(id).filter(own).map(|begun| Arc::clone(&begun.upload));
        let upload = upload.ok_or_else(unknown)?;
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

/// How long an upload has been idle; nothing of one that is at work, or is touched at this moment.
fn idle(begun: &Begun) -> Option<(Duration, bool)> {
    let upload = begun.upload.try_lock().ok()?;
    Some((upload.touched.elapsed(), upload.len() == 0))
}

fn forget_idle(begun: &mut HashMap<String, Begun>) {
    begun.retain(|_, upload| {
        idle(upload).is_none_or(|(time, is_empty)| time < if is_empty { IDLE_EMPTY } else { IDLE })
    });
}

/// Sees to it that one more may begin.
fn make_room(begun: &mut HashMap<String, Begun>, who: &Client) -> Result<(), Refusal> {
    let mut counts: HashMap<&Client, usize> = HashMap::new();
    begun.values().for_each(|upload| *counts.entry(&upload.who).or_default() += 1);
    let own = counts.get(who).copied().unwrap_or(0);
    if own >= MOST_OF_ONE {
        return Err(Refusal::too_many("you have begun too many uploads"));
    }
    if begun.len() < MOST {
        return Ok(());
    }
    let most = counts.iter().max_by_key(|(_, count)| **count);
    let other = most.filter(|(_, count)| **count > own + 1).map(|(other, _)| *other);
    let of_other = begun.iter().filter(|(_, upload)| Some(&upload.who) == other);
    let longest = of_other
        .filter_map(|(id, upload)| Some((idle(upload)?.0, id.clone())))
        .max_by_key(|(time, _)| *time);
    match longest {
        Some((_, id)) => {
            begun.remove(&id);
            Ok(())
        }
        None => Err(Refusal::too_many("too many uploads have begun")),
    }
}

impl Upload {
    pub(crate) fn len(&self) -> u64 {
        self.blob.as_ref().map_or(0, BlobWriter::len)
    }

    /// Adds what comes. What was there before a client broke off is kept, so that it can go on; where the disk is full nothing is.
    pub(crate) fn add(
        &mut self,
        store: &Store,
        from: &mut impl Read,
        min_free: u64,
    ) -> Result<(), Fault> {
        let added = self.take(store, from, min_free);
        if added.as_ref().is_err_and(Fault::is_full) {
            self.cancel();
        }
        added
    }

    fn take(&mut self, store: &Store, from: &mut impl Read, min_free: u64) -> Result<(), Fault> {
        let Some(blob) = &mut self.blob else { return Ok(()) };
        let mut piece = vec![0; 256 << 10];
        let mut look = 0;
        loop {
            let n = from.read(&mut piece).map_err(|error| Fault::of_client(&error))?;
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
            written.map_err(|error| StoreError::of_io("write to", store.root(), error))?;
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
    // A file system that counts no inodes says that it has none.
    let no_inodes = disk.f_files > 0 && disk.f_favail == 0;
    let why = match disk.f_bavail.saturating_mul(disk.f_frsize) {
        _ if no_inodes => "the registry's disk has no inodes left: it can hold no more files",
        free if free < min_free => "the registry's disk is too full to take more",
        _ => return Ok(()),
    };
    Err(Refusal::new(507, "DENIED", why).into())
}

/// Why something was not taken.
pub(crate) enum Fault {
    /// For who asks.
    Refused(Refusal),
    /// For who runs this.
    Here(String),
    /// The same: there is no space left.
    Full(String),
    /// The client lets it wait for too long.
    Slow,
    /// The client broke off, or sends what can't be read.
    Client(String),
}

impl Fault {
    /// What went wrong with reading what a client sends.
    pub(crate) fn of_client(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Slow,
            _ => Self::Client(error.to_string()),
        }
    }

    fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
            || matches!(self, Self::Refused(refusal) if refusal.status == 507)
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        if matches!(error, StoreError::NoSpace { .. }) {
            return Self::Full(text);
        }
        match std::error::Error::source(&error) {
            Some(cause) if !text.contains(&cause.to_string()) => {
                Self::Here(format!("{text}: {cause}"))
            }
            _ => Self::Here(text),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Client {
        Client::Named(name.to_owned())
    }

    fn world() -> (tempfile::TempDir, Store, Uploads) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        (folder, store, Uploads::default())
    }

    fn of(id: &str) -> Which<'_> {
        static USER: std::sync::LazyLock<Client> = std::sync::LazyLock::new(|| named("u"));
        Which { repository: "a", id, who: &USER }
    }

    fn status(begun: Result<String, Fault>) -> u16 {
        match begun {
            Ok(_) => 202,
            Err(Fault::Refused(refusal)) => {
                assert!(refusal.retry_after.is_some());
                refusal.status
            }
            Err(_) => 500,
        }
    }

    #[test]
    fn each_has_a_share() {
        let (_folder, store, uploads) = world();
        let begin = |who: &str| status(uploads.begin(&store, "a", &named(who)));
        for who in 0..MOST / MOST_OF_ONE {
            for _ in 0..MOST_OF_ONE {
                assert_eq!(begin(&format!("{who}")), 202);
            }
            assert_eq!(begin(&format!("{who}")), 429);
        }
        // All are taken: others take the places of those who have most, until they have as many.
        for _ in 0..MOST_OF_ONE / 2 {
            assert_eq!(begin("late"), 202);
        }
        assert_eq!(lock(&uploads.begun).len(), MOST);
        let own =
            || lock(&uploads.begun).values().filter(|begun| begun.who == named("late")).count();
        assert_eq!(own(), MOST_OF_ONE / 2);
        // None that is at work goes.
        let all: Vec<_> = lock(&uploads.begun).values().map(|b| Arc::clone(&b.upload)).collect();
        let busy: Vec<_> = all.iter().map(|upload| upload.lock().unwrap()).collect();
        assert_eq!(begin("late"), 429);
        drop(busy);
    }

    #[test]
    fn idle_ones_go() {
        let (_folder, store, uploads) = world();
        let files = || {
            std::fs::read_dir(store.root().join("tmp"))
                .unwrap()
                .flatten()
                .fold(0, |sum, of| sum + std::fs::read_dir(of.path()).unwrap().count())
        };
        let before = files();
        let empty = uploads.begin(&store, "a", &named("u")).ok().unwrap();
        let begun = uploads.begin(&store, "a", &named("u")).ok().unwrap();
        let added = uploads.with(of(&begun), |upload| upload.add(&store, &mut &b"some"[..], 0));
        assert!(added.is_ok());
        assert_eq!(files(), before + 2);
        let ago = |time: Duration| {
            for begun in lock(&uploads.begun).values() {
                let mut upload = begun.upload.lock().unwrap();
                upload.touched = upload.touched.checked_sub(time).unwrap();
            }
            uploads.sweep();
        };
        let there = |id: &str| uploads.with(of(id), |_| Ok(())).is_ok();
        ago(IDLE_EMPTY - Duration::from_secs(10));
        assert!(lock(&uploads.begun).len() == 2);
        ago(Duration::from_secs(20));
        assert!(!there(&empty) && there(&begun));
        ago(IDLE);
        assert!(!there(&begun));
        assert_eq!(files(), before, "and their files");
    }

    #[test]
    fn an_upload_is_of_who_began_it() {
        let (_folder, store, uploads) = world();
        let begun = uploads.begin(&store, "a", &named("u")).ok().unwrap();
        let works = |who: &Client, id: &str| {
            uploads.with(Which { repository: "a", id, who }, |_| Ok(())).is_ok()
        };
        let at = |last| Client::at(std::net::IpAddr::from([127, 0, 0, last]));
        assert!(works(&named("u"), &begun));
        assert!(!works(&named("v"), &begun) && !works(&at(1), &begun));
        let begun = uploads.begin(&store, "a", &at(1)).ok().unwrap();
        assert!(works(&at(1), &begun) && works(&at(2), &begun) && !works(&named("u"), &begun));
    }

    /// A writer that is full stands for the disk.
    #[test]
    fn a_full_disk_is_said_and_leaves_nothing() {
        let (_folder, store, uploads) = world();
        let begun = uploads.begin(&store, "a", &named("u")).ok().unwrap();
        let added =
            uploads.with(of(&begun), |upload| upload.add(&store, &mut &b"some"[..], u64::MAX));
        assert!(matches!(added, Err(Fault::Refused(refusal)) if refusal.status == 507));
        assert!(uploads.with(of(&begun), |_| Ok(())).is_err(), "nothing is left of it");
        let full = StoreError::of_io("write to", store.root(), io::Error::from_raw_os_error(28));
        assert!(Fault::from(full).is_full());
    }
}
