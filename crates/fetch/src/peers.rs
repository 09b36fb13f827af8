//! Peers: other machines whose `sconce serve` may have a file already, asked for it by its digest before
//! the internet is.
//!
//! A peer is not trusted: only bytes with the wanted digest get into the store, no login goes to it, and
//! what it sends is dropped unless it is all of it. One that can't be reached, hangs, drips or lies costs
//! a few seconds and is not asked again.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sconce_blob::{Digest, Hasher};
use sconce_store::Store;
use url::Url;

use crate::downloads::DownloadProgress;
use crate::error::Error;
use crate::http::{Client, Options, parse, shown};

/// Time for a connection to a peer.
const CONNECT: Duration = Duration::from_secs(2);
/// Time without a byte after which a peer counts as dead.
const STALL: Duration = Duration::from_secs(5);
/// The fewest bytes a second that a peer must bring over that time: the internet has more.
const SLOWEST: u64 = 256 << 10;
/// Failures after which a peer is not asked again.
const MAX_FAILURES: u32 = 2;
/// The repository that blobs are asked for in; a store has them in all.
const REPOSITORY: &str = "sconce";
const CHUNK: usize = 256 << 10;

/// A file that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// File name, for people.
    pub name: String,
    /// Its SHA-256.
    pub digest: Digest,
    /// Its length, bytes: no peer may send more.
    pub size: u64,
}

/// Other machines to ask first. Clones share what they know of them.
#[derive(Clone, Default)]
pub struct Peers(Option<Arc<Inner>>);

struct Inner {
    client: Client,
    peers: Vec<Peer>,
}

struct Peer {
    url: Url,
    failures: AtomicU32,
}

impl Peers {
    /// From addresses as people write them: `node1:5000`, `https://node1:5000`. A bare one is spoken to
    /// over plain HTTP, which digests make up for.
    ///
    /// # Errors
    /// [`Error::BadUrl`]
    pub fn new(addresses: &[String]) -> Result<Self, Error> {
        if addresses.is_empty() {
            return Ok(Self::default());
        }
        let peer = |address: &String| {
            let whole = match address.contains("://") {
                true => address.clone(),
                false => format!("http://{address}"),
            };
            let url = parse(&whole)?;
            let plain = matches!(url.scheme(), "http" | "https")
                && url.path() == "/"
                && url.query().is_none()
                && url.username().is_empty();
            match plain && url.host_str().is_some() {
                true => Ok(Peer { url, failures: AtomicU32::new(0) }),
                false => {
                    let why = "a peer is HOST:PORT, with http:// or https:// before it or not";
                    Err(Error::BadUrl { url: shown(&url), why: why.to_owned() })
                }
            }
        };
        let peers = addresses.iter().map(peer).collect::<Result<_, Error>>()?;
        let client = Client::new(Options {
            connect: CONNECT,
            stall: STALL,
            slow: STALL,
            slowest: SLOWEST,
            tries: 1,
            // A peer has a file or it has not. Where it would send its clients, such as to services of their own
            // machines and networks, is not its to say.
            follow: false,
            ..Options::default()
        });
        Ok(Self(Some(Arc::new(Inner { client, peers }))))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether one of them is at `HOST:PORT`.
    #[must_use]
    pub fn has(&self, host: &str) -> bool {
        let at = |peer: &Peer| peer.url.authority() == host;
        self.0.iter().flat_map(|inner| &inner.peers).any(at)
    }

    /// Puts those of the files into the store that a peer has, `parallel` at a time. The others are for
    /// the caller to find elsewhere: no trouble with a peer is an error.
    ///
    /// # Errors
    /// The store does not say what it has.
    pub fn take(
        &self,
        store: &Store,
        needed: &[Needed],
        parallel: usize,
        progress: &dyn DownloadProgress,
    ) -> Result<(), Error> {
        let Some(inner) = &self.0 else { return Ok(()) };
        let mut queue: Vec<&Needed> = store.missing(needed, |file| file.digest)?;
        queue.sort_by_key(|file| std::cmp::Reverse(file.size));
        let threads = parallel.clamp(1, queue.len().max(1));
        let queue = Mutex::new(VecDeque::from(queue));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        let Some(file) = next.filter(|_| !progress.is_cancelled()) else { return };
                        inner.take_one(store, file, progress);
                    }
                });
            }
        });
        Ok(())
    }
}

impl Inner {
    /// Asks one peer after the other; which is first depends on the file, so that all have work.
    fn take_one(&self, store: &Store, file: &Needed, progress: &dyn DownloadProgress) {
        let first = usize::from(file.digest.as_bytes()[0]) % self.peers.len();
        let (before, after) = self.peers.split_at(first);
        let mut begun = false;
        for peer in after.iter().chain(before) {
            if peer.failures.load(Ordering::Relaxed) >= MAX_FAILURES || progress.is_cancelled() {
                continue;
            }
            if !std::mem::replace(&mut begun, true) {
                progress.started(&file.name, 0, Some(file.size));
            }
            let mut came = 0;
            match self.fetch(store, peer, file, progress, &mut came) {
                Ok(true) => return progress.finished(&file.name),
                Ok(false) => {}
                Err(error) => {
                    progress.restarted(&file.name, came);
                    peer.failures.fetch_add(1, Ordering::Relaxed);
                    progress.retrying(&file.name, &error);
                }
            }
        }
    }

    /// Whether the peer had the file, which is in the store then.
    fn fetch(
        &self,
        store: &Store,
        peer: &Peer,
        file: &Needed,
        progress: &dyn DownloadProgress,
        came: &mut u64,
    ) -> Result<bool, Error> {
        let path = format!("/v2/{REPOSITORY}/blobs/{}", file.digest);
        let url = peer
            .url
            .join(&path)
            .map_err(|error| Error::BadUrl { url: shown(&peer.url), why: error.to_string() })?;
        // Another process may be at it: wait for what it makes of it.
        let _lock = store.lock("peer", file.digest)?;
        if store.blob_path(file.digest)?.is_some() {
            return Ok(true);
        }
        let mut stream = self.client.open(&url, &[("Accept-Encoding", "identity")])?;
        if stream.status == 404 {
            return Ok(false);
        }
        stream = stream.accepted(&[200])?;
        let partial = Partial::new(store, file)?;
        let mut out = partial.file()?;
        let fault =
            |source| Error::Store(sconce_store::Error::of_io("write", partial.path(), source));
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; CHUNK];
        loop {
            match stream.read(&mut buffer, hasher.len())? {
                0 => break,
                n if hasher.len() + n as u64 > file.size => {
                    return Err(Error::TooLarge { url: shown(&url), limit: file.size });
                }
                n => {
                    out.write_all(&buffer[..n]).map_err(fault)?;
                    hasher.update(&buffer[..n]);
                    *came += n as u64;
                    progress.advanced(&file.name, n as u64);
                }
            }
            if progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
        }
        let actual = hasher.finish();
        if actual != file.digest {
            let (name, url) = (file.name.clone(), shown(&url));
            return Err(Error::WrongDigest { file: name, url, expected: file.digest, actual });
        }
        store.adopt(partial.path(), file.digest, None)?;
        Ok(true)
    }
}

/// Where a file of a peer lies until it is whole; removed unless it was adopted.
struct Partial(std::path::PathBuf);

impl Partial {
    /// Apart from what other downloads have of the file: bytes of a peer are never built upon.
    fn new(store: &Store, file: &Needed) -> Result<Self, Error> {
        let folder = store.scratch_dir()?;
        Ok(Self(folder.join(file.digest.hex())))
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn file(&self) -> Result<File, Error> {
        let fault = |source| Error::Store(sconce_store::Error::of_io("create", &self.0, source));
        File::create_new(&self.0).map_err(fault)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Its folder goes with the process if this fails.
        let _ = fs::remove_file(&self.0);
        let _ = self.0.parent().map(fs::remove_dir);
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peers = self.0.iter().flat_map(|inner| &inner.peers);
        out.debug_list().entries(peers.map(|peer| peer.url.as_str())).finish()
    }
}
