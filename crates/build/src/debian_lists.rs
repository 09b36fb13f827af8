//! Debian's signed lists of packages, for a resolution: begun before they are asked for.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, SystemTime};

use sconce_blob::Digest;
use sconce_debian::{Fetch, FetchError, Lists, Mirrors, Target};
use sconce_fetch::apt;
use sconce_fetch::http::Client;
use sconce_store::Store;

use crate::builder::Builder;
use crate::error::Error;

/// The memo of what was read of a list, by the list's SHA-256.
const MEMO: &str = "packages";
/// The largest such memo, bytes; that of trixie has 10 MB.
const MEMO_LIMIT: usize = 15 << 20;
/// How long to wait for a read that is cancelled: it stops between two reads.
const GRACE: Duration = Duration::from_secs(1);

/// Which lists are read, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// The release, by codename.
    pub release: String,
    /// Debian's name of the architecture.
    pub arch: String,
    /// The mirror the user named, if any.
    pub mirror: Option<String>,
    /// Suites of fixes that a mirror may lack.
    pub allow_missing: Vec<String>,
}

/// Reads them.
///
/// # Errors
/// No mirror is known, or none serves them, signed.
pub(crate) fn load(client: &Client, store: &Store, question: &Question) -> Result<Lists, Error> {
    let target = Target::new(&question.release, &question.arch)?;
    let mirrors = apt::mirrors(question.mirror.as_deref(), Path::new("/"))?;
    let mirrors = Mirrors { allow_missing: question.allow_missing.clone(), ..mirrors };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |time| time.as_secs());
    Ok(mirrors.load(target, now, &Archive { client, store })?)
}

/// The archive, with what the store keeps of its lists.
struct Archive<'a> {
    client: &'a Client,
    store: &'a Store,
}

impl Fetch for Archive<'_> {
    fn get(&self, url: &str, limit: u64) -> Result<Option<Vec<u8>>, FetchError> {
        Fetch::get(self.client, url, limit)
    }

    fn kept(&self, list: Digest) -> Option<Vec<u8>> {
        // A store that can't be read fails where something must be written. The list's digest stands in
        // front of what was read of it: of another list it would give other versions.
        let kept = self.store.memo(MEMO, list).ok().flatten()?;
        Some(kept.strip_prefix(list.as_bytes())?.to_vec())
    }

    fn keep(&self, list: Digest, brief: &[u8]) -> Result<(), FetchError> {
        match brief.len() <= MEMO_LIMIT {
            true => Ok(self.store.put_memo(MEMO, list, &[list.as_bytes(), brief].concat())?),
            false => Ok(()),
        }
    }

    fn is_cancelled(&self) -> bool {
        self.client.check_cancelled().is_err()
    }
}

/// Lists that are being read by a thread of their own, which stops when this is dropped.
pub(crate) struct Ahead {
    question: Question,
    lists: Receiver<Result<Lists, Error>>,
    cancel: Arc<AtomicBool>,
}

impl Ahead {
    /// Begins to read; nothing where no thread can be had.
    pub(crate) fn begin(builder: &Builder<'_>, question: Question) -> Option<Self> {
        let cancel = Arc::new(AtomicBool::new(false));
        let client = builder.client.beside(Arc::clone(&cancel));
        let (store, asked) = (builder.store.clone(), question.clone());
        let (sender, lists) = sync_channel(1);
        let thread = std::thread::Builder::new().name("debian lists".to_owned());
        let work = move || {
            let lists = load(&client, &store, &asked);
            // What holds the store is gone before whoever waits goes on.
            drop((client, store));
            // Nobody may want them any more.
            let _ = sender.send(lists);
        };
        thread.spawn(work).ok()?;
        Some(Self { question, lists, cancel })
    }

    /// Whether these are the lists of a question.
    pub(crate) fn answers(&self, question: &Question) -> bool {
        self.question == *question
    }

    /// The lists; nothing if their thread panicked.
    ///
    /// # Errors
    /// Those of [`load`], and that the whole work was stopped.
    pub(crate) fn wait(&self, client: &Client) -> Result<Option<Lists>, Error> {
        loop {
            client.check_cancelled()?;
            match self.lists.recv_timeout(Duration::from_millis(50)) {
                Ok(lists) => return lists.map(Some),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
        // A connection that hangs is not waited for: its thread holds nothing that another one needs.
        let _ = self.lists.recv_timeout(GRACE);
    }
}
