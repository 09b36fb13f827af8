//! Files into the store: several at a time, each resumed where it was cut off, hashed as it comes.
//!
//! What has come of a file lies in the store under its digest, also after a kill; the next run
//! hashes it again and asks for the rest (RFC 9110, range requests). Only bytes with the wanted
//! digest become a blob.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use sconce_blob::{Digest, Hasher};
use sconce_store::Store;
use url::Url;

use crate::error::Error;
use crate::http::{Client, Stream, Tries, local_path, parse, shown};

/// Bytes read at a time.
const CHUNK: usize = 256 << 10;

/// The largest file whose size nobody knows, bytes.
const UNKNOWN_SIZE_LIMIT: u64 = 64 << 30;

/// A file that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// File name, for people.
    pub name: String,
    /// Where it is. `http:`, `https:` or `file:`.
    pub url: String,
    /// Where else it is: asked in this order when the first fails.
    pub others: Vec<String>,
    /// Its SHA-256.
    pub digest: Digest,
    /// Its length in bytes, where it is known.
    pub size: Option<u64>,
    /// Where a file of this machine must be, links followed; nothing if it may be anywhere.
    pub within: Option<Vec<PathBuf>>,
}

/// Told how downloads go, from several threads at once. `name` is [`Wanted::name`].
pub trait DownloadProgress: Sync {
    /// A file begins; `have` bytes of it are here from an earlier run.
    fn started(&self, name: &str, have: u64, total: Option<u64>);
    /// More bytes of it have come.
    fn advanced(&self, name: &str, bytes: u64);
    /// So many bytes that had come are of no use and come again.
    fn restarted(&self, name: &str, bytes: u64);
    /// It is in the store.
    fn finished(&self, name: &str);
    /// A try failed, and another follows.
    fn retrying(&self, name: &str, why: &Error);
    /// Whether the download is cancelled: no other file is begun, and those under way stop.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl DownloadProgress for Silent {
    fn started(&self, _: &str, _: u64, _: Option<u64>) {}
    fn advanced(&self, _: &str, _: u64) {}
    fn restarted(&self, _: &str, _: u64) {}
    fn finished(&self, _: &str) {}
    fn retrying(&self, _: &str, _: &Error) {}
}

/// Puts all `wanted` files into the store, `parallel` at a time, the largest first. After the
/// first failure no other file is begun, those under way stop, and that failure is returned.
pub fn download_all(
    client: &Client,
    store: &Store,
    wanted: &[Wanted],
    parallel: usize,
    progress: &dyn DownloadProgress,
) -> Result<(), Error> {
    let mut queue: Vec<&Wanted> = store.missing(wanted, |file| file.digest)?;
    if client.options().offline {
        let remote = queue.iter().filter(|file| !file.url.starts_with("file:"));
        let missing: Vec<_> = remote.map(|file| file.name.clone()).collect();
        if !missing.is_empty() {
            return Err(Error::Offline { missing });
        }
    }
    queue.sort_by_key(|file| (std::cmp::Reverse(file.size), &file.name));
    let threads = parallel.clamp(1, queue.len().max(1));
    let queue = Mutex::new(VecDeque::from(queue));
    let failure = Mutex::new(None);
    let failed = || failure.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(file) = next.filter(|_| failed().is_none()) else { return };
                    if progress.is_cancelled() {
                        failed().get_or_insert(Error::Cancelled);
                        return;
                    }
                    let stop = || failed().is_some() || progress.is_cancelled();
                    if let Err(error) = download_unless(client, store, file, progress, &stop) {
                        failed().get_or_insert(error);
                    }
                }
            });
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Puts one file into the store.
pub fn download(
    client: &Client,
    store: &Store,
    wanted: &Wanted,
    progress: &dyn DownloadProgress,
) -> Result<(), Error> {
    download_unless(client, store, wanted, progress, &|| false)
}

fn download_unless(
    client: &Client,
    store: &Store,
    wanted: &Wanted,
    progress: &dyn DownloadProgress,
    stop: &dyn Fn() -> bool,
) -> Result<(), Error> {
    let mut first = match download_from(client, store, wanted, &wanted.url, progress, stop) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    for other in &wanted.others {
        if stop() || !elsewhere(&first) {
            break;
        }
        progress.retrying(&wanted.name, &first);
        match download_from(client, store, wanted, other, progress, stop) {
            Ok(()) => return Ok(()),
            // What the best address said counts, but for what ends the work.
            Err(error) if !elsewhere(&error) => first = error,
            Err(_) => {}
        }
    }
    Err(first)
}

/// Whether another address may do better.
fn elsewhere(error: &Error) -> bool {
    match error {
        // What is not in a mirror on this disk may be in another.
        Error::File { action, .. } => *action == "open",
        Error::Cancelled | Error::Offline { .. } | Error::Store(_) => false,
        _ => true,
    }
}

fn download_from(
    client: &Client,
    store: &Store,
    wanted: &Wanted,
    address: &str,
    progress: &dyn DownloadProgress,
    stop: &dyn Fn() -> bool,
) -> Result<(), Error> {
    if store.blob_path(wanted.digest)?.is_some() {
        return Ok(());
    }
    let url = parse(address)?;
    if let Some(path) = local_path(&url)? {
        progress.started(&wanted.name, 0, wanted.size);
        // A lock may name anything: only a regular file is copied.
        let fault = |source| Error::File { action: "open", path: path.clone(), source };
        let file = sconce_open::file(&path).map_err(fault)?;
        // What is judged is what is open: the path may lead elsewhere by now.
        let real = sconce_open::real_path(&file).map_err(fault)?;
        if let Some(within) = &wanted.within
            && !within.iter().any(|place| real.starts_with(place))
        {
            return Err(Error::Untrusted { file: wanted.name.clone(), path: real });
        }
        store.put_open(file, &path.display().to_string(), Some(wanted.digest))?;
        progress.advanced(&wanted.name, wanted.size.unwrap_or_default());
        progress.finished(&wanted.name);
        return Ok(());
    }
    // Another process may be at it: wait for what it makes of it.
    let _lock = store.lock("partial", wanted.digest)?;
    if store.blob_path(wanted.digest)?.is_some() {
        return Ok(());
    }
    if client.options().offline {
        return Err(Error::Offline { missing: vec![wanted.name.clone()] });
    }
    let mut partial = Partial::open(store.open_partial(wanted.digest)?)?;
    progress.started(&wanted.name, partial.hasher.len(), wanted.size);
    let mut resumed = !partial.hasher.is_empty();
    let mut tries = Tries::new(client.options());
    loop {
        let before = partial.hasher.len();
        let transfer = Transfer { client, url: &url, wanted, progress, stop };
        let error = match transfer.rest(&mut partial) {
            Ok(()) => {
                let actual = partial.hasher.clone().finish();
                if actual == wanted.digest {
                    break;
                }
                if !resumed {
                    store.remove_partial(wanted.digest)?;
                    let (file, url) = (wanted.name.clone(), shown(&url));
                    return Err(Error::WrongDigest { file, url, expected: wanted.digest, actual });
                }
                // The beginning may be of another file: once more, all of it.
                resumed = false;
                progress.restarted(&wanted.name, partial.hasher.len());
                partial.restart()?;
                continue;
            }
            Err(error) => error,
        };
        tries.came(partial.hasher.len().saturating_sub(before));
        resumed |= !partial.hasher.is_empty();
        if error.is_passing() {
            progress.retrying(&wanted.name, &error);
        }
        tries.after(error)?;
    }
    store.adopt(&partial.path, wanted.digest, None)?;
    progress.finished(&wanted.name);
    Ok(())
}

/// What has come of a file.
struct Partial {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    /// The strong entity tag of the answer its bytes are from, in this run.
    tag: Option<String>,
}

impl Partial {
    fn open((path, mut file): (PathBuf, File)) -> Result<Self, Error> {
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; CHUNK];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => hasher.update(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(file_error("read", &path)(error)),
            }
        }
        Ok(Self { path, file, hasher, tag: None })
    }

    fn restart(&mut self) -> Result<(), Error> {
        self.hasher = Hasher::new();
        self.tag = None;
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map(drop)
            .map_err(file_error("empty", &self.path))
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|error| {
            // A piece may have been written: keep file and hash alike.
            let _ = self.file.set_len(self.hasher.len());
            file_error("write", &self.path)(error)
        })?;
        self.hasher.update(bytes);
        Ok(())
    }
}

/// One request for the rest of a file.
struct Transfer<'a> {
    client: &'a Client,
    url: &'a Url,
    wanted: &'a Wanted,
    progress: &'a dyn DownloadProgress,
    stop: &'a dyn Fn() -> bool,
}

impl Transfer<'_> {
    fn rest(&self, partial: &mut Partial) -> Result<(), Error> {
        let have = partial.hasher.len();
        if have > 0 && self.wanted.size.is_some_and(|size| have >= size) {
            // All of it came before a kill, or too much: the digest decides.
            return Ok(());
        }
        let range = format!("bytes={have}-");
        // The bytes as they are on the server: anything else could not be resumed.
        let mut headers = vec![("Accept-Encoding", "identity")];
        if have > 0 {
            headers.push(("Range", &range));
            if let Some(tag) = &partial.tag {
                headers.push(("If-Range", tag));
            }
        }
        let mut stream = self.client.open(self.url, &headers)?;
        if stream.status == 416 {
            // Nothing after what is here: either that is all, or it is not of this file.
            if self.wanted.size.is_none() {
                return Ok(());
            }
            self.restart(partial)?;
            stream = self.client.open(self.url, &[("Accept-Encoding", "identity")])?;
        }
        let mut stream = stream.accepted(&[200, 206])?;
        let start = match stream.status {
            206 => range_start(&stream).ok_or_else(|| Error::BadAnswer {
                url: shown(self.url),
                why: "it sends a part without saying which".to_owned(),
            })?,
            _ => 0,
        };
        if start != partial.hasher.len() {
            if start != 0 {
                return Err(Error::BadAnswer {
                    url: shown(self.url),
                    why: format!("it sends bytes from {start} on instead of {have}"),
                });
            }
            // The server knows no ranges, or the file has changed.
            self.restart(partial)?;
        }
        let strong = stream.header("etag").filter(|tag| tag.starts_with('"'));
        partial.tag = strong.map(str::to_owned);
        let announced = stream.header("content-length").and_then(|text| text.parse::<u64>().ok());
        let announced = announced.and_then(|len| start.checked_add(len));
        let expected = self.wanted.size.or(announced);
        let mut buffer = vec![0; CHUNK];
        loop {
            let have = partial.hasher.len();
            let n = stream.read(&mut buffer, have).map_err(|error| match error {
                Error::CutOff { url, got, .. } => Error::CutOff { url, got, expected },
                error => error,
            })?;
            if n == 0 {
                break;
            }
            let limit = self.wanted.size.unwrap_or(UNKNOWN_SIZE_LIMIT);
            if have + n as u64 > limit {
                self.restart(partial)?;
                return Err(Error::TooLarge { url: shown(self.url), limit });
            }
            partial.take(&buffer[..n])?;
            self.progress.advanced(&self.wanted.name, n as u64);
            if (self.stop)() || self.client.options().cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
        }
        match expected {
            Some(expected) if partial.hasher.len() < expected => Err(Error::CutOff {
                url: shown(self.url),
                got: partial.hasher.len(),
                expected: Some(expected),
            }),
            _ => Ok(()),
        }
    }

    fn restart(&self, partial: &mut Partial) -> Result<(), Error> {
        self.progress.restarted(&self.wanted.name, partial.hasher.len());
        partial.restart()
    }
}

/// Where the body of a 206 answer begins (RFC 9110, section 14.4: `bytes 42-1233/1234`).
fn range_start(stream: &Stream) -> Option<u64> {
    let range = stream.header("content-range")?.trim().strip_prefix("bytes ")?;
    range.split_once('-')?.0.trim().parse().ok()
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Store(sconce_store::Error::of_io(action, &path, source))
}
