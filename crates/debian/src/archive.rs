//! An archive over the network: its signed `InRelease`, and the lists it vouches for.
//!
//! The chain of trust: a trusted key signs `InRelease`; it states the SHA-256 of each `Packages`;
//! that states the SHA-256 of each .deb. Source: Debian wiki, "DebianRepository/Format"; apt's
//! `apt-secure(8)`.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sconce_blob::Digest;

use crate::brief::{self, Brief};
use crate::compression::{Bounded, Compression};
use crate::control::{Stanza, Stanzas};
use crate::openpgp::{Keyring, MAX_SIGNED};
use crate::packages::{self, Origin};
use crate::{Error, Packages, Target, date};

/// The largest list, compressed, bytes. Trixie's has 10 million.
const MAX_LIST: u64 = 256 << 20;
/// The largest list, plain, bytes. Trixie's has 57 million.
const MAX_PLAIN_LIST: u64 = 1 << 30;
/// Bytes of a list that are unpacked at a time.
const PIECE: usize = 256 << 10;
/// The most pieces that wait to be read.
const PIECES: usize = 8;
/// Compressions asked for, the best first.
const ENDINGS: [&str; 4] = [".xz", ".gz", ".bz2", ""];

/// Gets files from an archive. `fetch` implements it over HTTP, tests from memory.
pub trait Fetch {
    /// The file at `url`, or nothing if the server says that there is none. More than `limit`
    /// bytes are an error.
    fn get(&self, url: &str, limit: u64) -> Result<Option<Vec<u8>>, FetchError>;

    /// What [`Fetch::keep`] was given for a list of this SHA-256, if it is still there.
    fn kept(&self, list: Digest) -> Option<Vec<u8>> {
        let _ = list;
        None
    }

    /// Keeps what was read of a list: an opaque text, in place of a download.
    ///
    /// # Errors
    /// It can't be kept, which stops nobody.
    fn keep(&self, list: Digest, brief: &[u8]) -> Result<(), FetchError> {
        let _ = (list, brief);
        Ok(())
    }

    /// Whether nobody waits for the lists any more.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// What [`Fetch`] fails with.
pub type FetchError = Box<dyn std::error::Error + Send + Sync>;

/// One suite of one archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The archive's address; `dists/` is below it.
    pub url: String,
    /// The suite, such as `trixie-updates`.
    pub suite: String,
    /// Whether an old `Valid-Until` is an error. Off only for dated snapshots.
    pub check_valid_until: bool,
}

/// `InRelease`, with its signature found good.
#[derive(Debug)]
pub struct InRelease {
    /// Its address.
    pub url: String,
    /// Fingerprint of the key that signed it.
    pub signer: String,
    /// `Origin`, such as `Debian`.
    pub origin: String,
    /// `Version`, such as `13.8`; updates and security have shorter ones.
    pub version: String,
    /// `Date`, as written.
    pub date: String,
    stanza: Stanza,
}

impl InRelease {
    /// Fetches and checks the `InRelease` of a suite; nothing if there is none. `now` is in
    /// seconds since 1970.
    pub fn fetch(
        source: &Source,
        keyring: &Keyring,
        now: u64,
        fetch: &dyn Fetch,
    ) -> Result<Option<Self>, Error> {
        let url = format!("{}/dists/{}/InRelease", source.url.trim_end_matches('/'), source.suite);
        let Some(bytes) = get(fetch, &url, MAX_SIGNED as u64)? else { return Ok(None) };
        Self::check(source, url, &bytes, keyring, now).map(Some)
    }

    fn check(
        source: &Source,
        url: String,
        bytes: &[u8],
        keyring: &Keyring,
        now: u64,
    ) -> Result<Self, Error> {
        let signed = keyring
            .verify(bytes, now)
            .map_err(|source| Error::Signature { url: url.clone(), source })?;
        let mut stanzas = Stanzas::new(signed.text.as_bytes());
        let control = |source| Error::Control { what: url.clone(), source };
        let stanza = stanzas.next_stanza().map_err(control)?.unwrap_or_default();
        let field = |name: &str| stanza.get(name).unwrap_or("").to_owned();
        let (codename, suite) = (field("Codename"), field("Suite"));
        // The codename alone: `Suite` says `stable`, which moves from release to release.
        if codename != source.suite {
            let found = if codename.is_empty() { suite } else { codename };
            return Err(Error::WrongSuite { url, asked: source.suite.clone(), found });
        }
        let time = |name: &str| match stanza.get(name) {
            None => Ok(None),
            Some(text) => date::parse(text).map(Some).ok_or_else(|| Error::Release {
                url: url.clone(),
                reason: format!("`{name}: {text}` is not a date"),
            }),
        };
        let Some(dated) = time("Date")? else {
            return Err(Error::Release { url, reason: "no `Date`".into() });
        };
        // As apt does, a clock that is a little behind is forgiven.
        if dated > now.saturating_add(24 * 3600) {
            return Err(Error::FromTheFuture { url, date: field("Date") });
        }
        if let Some(until) = time("Valid-Until")?
            && source.check_valid_until
            && until < now
        {
            return Err(Error::Expired { url, until: field("Valid-Until") });
        }
        let (origin, version, date) = (field("Origin"), field("Version"), field("Date"));
        Ok(Self { url, signer: signed.signer, origin, version, date, stanza })
    }

    /// Digest and size that the release states for a file below it.
    fn listed(&self, path: &str) -> Result<Option<(Digest, u64)>, Error> {
        for line in self.stanza.get("SHA256").unwrap_or("").lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(hex), Some(size), Some(name)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            if name == path {
                let fault = || Error::Release {
                    url: self.url.clone(),
                    reason: format!("`{line}` is not a digest and size"),
                };
                let digest = hex.parse().map_err(|_| fault())?;
                return Ok(Some((digest, size.parse().map_err(|_| fault())?)));
            }
        }
        Ok(None)
    }

    /// Fetches the suite's list of packages of component `main` and adds it to `packages`. Says why what was
    /// read of it can't be kept for another time, where that is so.
    pub fn add_packages(
        &self,
        source: &Source,
        target: Target,
        fetch: &dyn Fetch,
        packages: &mut Packages,
    ) -> Result<Option<FetchError>, Error> {
        let folder = format!("main/binary-{}", target.arch);
        let plain = format!("{folder}/Packages");
        for ending in ENDINGS {
            let path = format!("{plain}{ending}");
            let Some((expected, expected_size)) = self.listed(&path)? else { continue };
            let base = self.url.trim_end_matches("InRelease");
            let kept = fetch.kept(expected);
            let origin = Origin { url: &format!("{base}{path}"), suite: &source.suite };
            if let Some(list) = kept.and_then(|kept| brief::read(&kept, origin, target.arch)) {
                return packages.merge(list, origin).map(|()| None);
            }
            let (bytes, url) = self.get_list(base, &folder, &path, expected, fetch)?;
            let (found, found_size) = (Digest::of(&bytes), bytes.len() as u64);
            if found != expected || found_size != expected_size {
                return Err(Error::IndexMismatch {
                    url,
                    expected,
                    expected_size,
                    found,
                    found_size,
                });
            }
            let origin = Origin { url: &url, suite: &source.suite };
            let mut brief = Brief::new();
            let compression = Compression::of_ending(ending).unwrap_or(Compression::None);
            let list = unpacked((compression, &bytes), &url, fetch, |reader| {
                packages::read(reader, origin, target.arch, Some(&mut brief))
            })?;
            packages.merge(list, origin)?;
            let kept = brief.finish().map_err(FetchError::from);
            return Ok(kept.and_then(|kept| fetch.keep(expected, &kept)).err());
        }
        Err(Error::NotListed { url: self.url.clone(), path: plain })
    }

    /// A list, by its digest where the archive offers that: then a mirror that is being updated
    /// still has the one the release means.
    fn get_list(
        &self,
        base: &str,
        folder: &str,
        path: &str,
        digest: Digest,
        fetch: &dyn Fetch,
    ) -> Result<(Vec<u8>, String), Error> {
        if self.stanza.get("Acquire-By-Hash") == Some("yes") {
            let url = format!("{base}{folder}/by-hash/SHA256/{}", digest.hex());
            if let Some(bytes) = get(fetch, &url, MAX_LIST)? {
                return Ok((bytes, url));
            }
        }
        let url = format!("{base}{path}");
        match get(fetch, &url, MAX_LIST)? {
            Some(bytes) => Ok((bytes, url)),
            None => Err(Error::Missing { url }),
        }
    }
}

/// Hands the plain bytes of a list to `read`. They are unpacked beside it, by a thread of their own.
fn unpacked<T>(
    (compression, bytes): (Compression, &[u8]),
    url: &str,
    fetch: &dyn Fetch,
    read: impl FnOnce(&mut dyn BufRead) -> Result<T, Error>,
) -> Result<T, Error> {
    let (sender, pieces) = sync_channel(PIECES);
    let mut pieces = Pieces { pieces, piece: Vec::new(), at: 0, ended: false, fetch };
    let unpack = move || {
        let result = unpack(compression, bytes, &sender);
        // Where nobody waits any more there is nobody to tell.
        let _ = sender.send(result.map(|()| Vec::new()));
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("unpack list".to_owned());
        let thread = thread.spawn_scoped(scope, unpack).map_err(|error| Error::Release {
            url: url.to_owned(),
            reason: format!("can't be decompressed: {error}"),
        })?;
        let result = read(&mut pieces);
        // The thread ends when nobody takes its pieces.
        drop(pieces);
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
        result
    })
}

/// Sends the plain bytes of a list, piece by piece.
fn unpack(
    compression: Compression,
    bytes: &[u8],
    to: &SyncSender<io::Result<Vec<u8>>>,
) -> io::Result<()> {
    let mut reader = Bounded::new(compression.reader(bytes)?, MAX_PLAIN_LIST);
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let result = (&mut reader).take(PIECE as u64).read_to_end(&mut piece);
        let end = piece.is_empty();
        // What came before an error is good.
        if end || to.send(Ok(piece)).is_err() {
            return result.map(drop);
        }
        result?;
    }
}

/// What another thread unpacks, piece by piece.
struct Pieces<'a> {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    /// How much of the piece was read.
    at: usize,
    ended: bool,
    fetch: &'a dyn Fetch,
}

impl BufRead for Pieces<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.piece.len() && !self.ended {
            if self.fetch.is_cancelled() {
                return Err(io::Error::other("cancelled"));
            }
            // An empty piece is the end, which a thread that panicked never sends.
            let next = self.pieces.recv();
            self.piece = next.map_err(|_| io::ErrorKind::UnexpectedEof)??;
            self.ended = self.piece.is_empty();
            self.at = 0;
        }
        Ok(&self.piece[self.at..])
    }

    fn consume(&mut self, read: usize) {
        self.at += read;
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buf)?;
        self.consume(read);
        Ok(read)
    }
}

fn get(fetch: &dyn Fetch, url: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    fetch.get(url, limit).map_err(|source| Error::Fetch { url: url.to_owned(), source })
}
