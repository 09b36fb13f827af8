//! Sending: blobs in one request or in chunks, taken up again where a connection broke off, and
//! manifests.
//!
//! Source: distribution-spec 1.1, "Push". An upload is a session at an address that each answer may
//! change. What a session has is its own word, asked for after each failure; where it is gone, the
//! upload begins anew.

use std::cell::RefCell;
use std::io::{self, Read};

use sconce_blob::{Digest, Hasher};
use sconce_fetch::http::{Method, Stream, Tries, shown};
use sconce_oci::Descriptor;
use url::Url;

use crate::client::Registry;
use crate::error::Error;

/// A blob that can be read from the start as often as need be.
pub trait Outgoing: Sync {
    /// Opens it.
    ///
    /// # Errors
    /// It is not there, or can't be read.
    fn open(&self) -> io::Result<Box<dyn Read + '_>>;
    /// Told of bytes as they are sent.
    fn sent(&self, bytes: u64);
}

/// How a blob came to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The registry took it from another repository of its own.
    Mounted,
    /// All of it was sent.
    Uploaded,
}

/// How often an upload begins anew because the registry does not know the one that it began.
const MOST_UNKNOWN: u32 = 1;

/// An upload under way.
struct Session {
    url: Url,
    /// What the registry has, bytes.
    at: u64,
    /// The smallest chunk it takes, bytes.
    chunk: u64,
    /// It takes no chunks.
    whole: bool,
}

/// What became of one request.
enum Step {
    /// The blob is there.
    Done,
    /// The session has more.
    On,
    /// The session is gone, or takes things otherwise.
    Anew,
    /// There is no such session, says the registry (distribution-spec 1.1, code 404 of an upload).
    Unknown,
}

impl Registry {
    /// Whether the repository has a blob.
    ///
    /// # Errors
    /// [`Error::Denied`], and those of the network.
    pub fn has_blob(&self, digest: Digest) -> Result<bool, Error> {
        let url = self.url(&format!("blobs/{digest}"))?;
        self.patiently(|| {
            let stream = self.ask(Method::Head, &url, &[], &mut || Ok(None))?;
            match stream.status {
                404 | 405 => Ok(false),
                _ => Ok(stream.accepted(&[200]).map(|_| true)?),
            }
        })
    }

    /// Whether the registry answers and lets this login write: an upload is begun and given up. Called
    /// before work is done for a push.
    ///
    /// # Errors
    /// [`Error::Denied`], and those of the network.
    pub fn check_push(&self) -> Result<(), Error> {
        let url = self.url("blobs/uploads/")?;
        let begun = self.patiently(|| {
            let stream = self.ask(Method::Post, &url, &[], &mut || Ok(None))?;
            Ok(stream.accepted(&[202])?)
        })?;
        if let Ok(session) = self.location(&begun, &begun.url) {
            // Not every registry knows how to give an upload up; those forget it in time.
            let _ = self.ask(Method::Delete, &session, &[], &mut || Ok(None));
        }
        Ok(())
    }

    /// Puts a blob, which the registry may take from its own repository `from`.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Damaged`], [`Error::Source`], [`Error::NoUpload`], and those of the network.
    pub fn put_blob(
        &self,
        blob: &Descriptor,
        from: Option<&str>,
        source: &dyn Outgoing,
    ) -> Result<Sent, Error> {
        let mut tries = Tries::new(self.client.options());
        let mut whole = blob.size <= self.chunk;
        // The most that the registry ever had: only more than that is progress.
        let mut most = 0;
        let mut is_first = true;
        // Sessions in a row that the registry knew nothing of, although it had begun them.
        let mut unknown = 0;
        loop {
            // What broke off may have been the answer alone.
            if !is_first && self.has_blob(blob.digest)? {
                return Ok(Sent::Uploaded);
            }
            is_first = false;
            let begun = self.begin(blob.digest, from);
            let mut session = match begun {
                Ok(None) => return Ok(Sent::Mounted),
                Ok(Some(session)) => Session { whole, ..session },
                Err(Error::Fetch(error)) => {
                    tries.after(error)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            loop {
                let before = session.at;
                match self.step(&mut session, blob, source) {
                    Ok(Step::Done) => return Ok(Sent::Uploaded),
                    Ok(Step::On) if session.at > most => {
                        unknown = 0;
                        tries.came(session.at - most);
                        most = session.at;
                    }
                    Ok(Step::On) => tries.after(cut_off(&session, before, blob))?,
                    Ok(Step::Anew) => {
                        whole = session.whole;
                        tries.after(cut_off(&session, before, blob))?;
                        break;
                    }
                    Ok(Step::Unknown) => {
                        unknown += 1;
                        if unknown > MOST_UNKNOWN {
                            return Err(Error::NoUpload { url: shown(&session.url) });
                        }
                        tries.after(cut_off(&session, before, blob))?;
                        break;
                    }
                    Err(Error::Fetch(error)) if error.is_passing() => {
                        // A registry that has more than before is on the way, however often it is cut off.
                        let there = self.progress(&session)?.filter(|(_, at)| *at <= blob.size);
                        let at = there.as_ref().map_or(0, |(_, at)| *at);
                        tries.came(at.saturating_sub(most));
                        most = most.max(at);
                        tries.after(error)?;
                        match there {
                            Some((url, at)) => {
                                session.url = url;
                                session.at = at;
                            }
                            None => break,
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Begins an upload; `None` where the registry had the blob in `from`.
    fn begin(&self, digest: Digest, from: Option<&str>) -> Result<Option<Session>, Error> {
        let mut url = self.url("blobs/uploads/")?;
        if let Some(from) = from {
            url.query_pairs_mut()
                .append_pair("mount", &digest.to_string())
                .append_pair("from", from);
        }
        let stream = match self.ask(Method::Post, &url, &[], &mut || Ok(None)) {
            // Not allowed to look into the other one.
            Err(Error::Denied { .. }) if from.is_some() => return self.begin(digest, None),
            other => other?,
        };
        if stream.status == 201 && from.is_some() {
            return Ok(None);
        }
        let stream = stream.accepted(&[202])?;
        let chunk = stream.header("oci-chunk-min-length").and_then(|text| text.trim().parse().ok());
        let url = self.location(&stream, &url)?;
        let chunk = self.chunk.max(chunk.unwrap_or(0));
        Ok(Some(Session { url, at: 0, chunk, whole: false }))
    }

    /// Sends the next piece.
    fn step(
        &self,
        session: &mut Session,
        blob: &Descriptor,
        source: &dyn Outgoing,
    ) -> Result<Step, Error> {
        let (start, all) = (session.at, blob.size);
        let binary = ("Content-Type", "application/octet-stream");
        let at_once = (session.whole && start == 0) || start == all;
        let end = if at_once { all } else { all.min(start.saturating_add(session.chunk)) };
        let failure = RefCell::new(None);
        let range = format!("{start}-{}", end.saturating_sub(1));
        let mut url = session.url.clone();
        let mut headers = vec![binary];
        if at_once {
            url.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        } else {
            headers.push(("Content-Range", &range));
        }
        let method = if at_once { Method::Put } else { Method::Patch };
        let stream = self.ask(method, &url, &headers, &mut || {
            if start == end {
                return Ok(None);
            }
            let piece = Piece::open(source, blob, start, end, &failure)?;
            Ok(Some((Box::new(piece) as Box<dyn Read>, end - start)))
        });
        // What could not be read here is not a fault of the network's.
        if let Some(failure) = failure.into_inner() {
            return Err(failure);
        }
        let answer = stream?;
        self.count(end - start);
        match (answer.status, at_once) {
            (200 | 201 | 204, true) => Ok(Step::Done),
            (202, false) => {
                session.at = answer.header("range").and_then(last_byte).unwrap_or(end).min(end);
                session.url = self.location(&answer, &session.url)?;
                Ok(Step::On)
            }
            // The session is not where it was thought to be.
            (416, _) => match self.progress(session)? {
                Some((url, at)) if at <= all && at != start => {
                    session.url = url;
                    session.at = at;
                    Ok(Step::On)
                }
                _ => Ok(Step::Anew),
            },
            (404, _) => Ok(Step::Unknown),
            (405 | 501, false) => {
                session.whole = true;
                Ok(Step::Anew)
            }
            _ => match answer.accepted(&[]) {
                Err(error) => Err(error.into()),
                Ok(_) => Ok(Step::Anew),
            },
        }
    }

    /// What a session has by its own word, and where it goes on; `None` where it is gone.
    fn progress(&self, session: &Session) -> Result<Option<(Url, u64)>, Error> {
        let mut tries = Tries::new(self.client.options());
        loop {
            let asked = self.ask(Method::Get, &session.url, &[], &mut || Ok(None));
            let stream = match asked {
                Err(Error::Fetch(error)) => {
                    tries.after(error)?;
                    continue;
                }
                other => other?,
            };
            return match stream.status {
                200 | 202 | 204 => {
                    let at = stream.header("range").and_then(last_byte).unwrap_or(0);
                    let url = match stream.header("location") {
                        Some(_) => self.location(&stream, &session.url)?,
                        None => session.url.clone(),
                    };
                    Ok(Some((url, at)))
                }
                // Some registries keep nothing of an upload that broke off.
                400..=499 => Ok(None),
                _ => match stream.accepted(&[204]) {
                    Err(error) => {
                        tries.after(error)?;
                        continue;
                    }
                    Ok(_) => Ok(None),
                },
            };
        }
    }

    /// Where an upload goes on: relative, or on another host.
    fn location(&self, stream: &Stream, at: &Url) -> Result<Url, Error> {
        let to = stream.header("location").ok_or_else(|| self.wrong(at, "no Location"))?;
        let to = at.join(to).map_err(|_| self.wrong(at, "a Location that is not an address"))?;
        match (at.scheme(), to.scheme()) {
            (_, "https") | ("http", "http") => Ok(to),
            ("https", "http") => {
                let why = format!("it leads an upload to {}, where there is no TLS", shown(&to));
                Err(self.wrong(at, &why))
            }
            (_, other) => {
                let why = format!("it leads an upload to `{}`: `{other}:` is not HTTP", shown(&to));
                Err(self.wrong(at, &why))
            }
        }
    }

    /// Puts a manifest or an index by the tag or digest of the reference. Its blobs must be there.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::WrongDigest`], and those of the network.
    pub fn put_manifest(&self, media_type: &str, bytes: &[u8]) -> Result<(), Error> {
        let name = match &self.reference.tag {
            Some(tag) => tag.clone(),
            None => Digest::of(bytes).to_string(),
        };
        self.put_document(&name, media_type, bytes).map(drop)
    }

    /// Puts a manifest or an index under a tag or its digest; the answer.
    pub(crate) fn put_document(
        &self,
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Stream, Error> {
        let digest = Digest::of(bytes);
        let url = self.url(&format!("manifests/{name}"))?;
        self.patiently(|| {
            let headers = [("Content-Type", media_type)];
            let mut body = || {
                let body: Box<dyn Read> = Box::new(bytes);
                Ok(Some((body, bytes.len() as u64)))
            };
            let stream = self.ask(Method::Put, &url, &headers, &mut body)?;
            let stream = stream.accepted(&[200, 201, 202])?;
            self.count(bytes.len() as u64);
            let said = stream.header("docker-content-digest").and_then(|text| text.parse().ok());
            match said {
                Some(actual) if actual != digest => {
                    Err(Error::WrongDigest { url: shown(&url), wanted: digest, actual })
                }
                _ => Ok(stream),
            }
        })
    }

    fn wrong(&self, url: &Url, why: &str) -> Error {
        Error::Answer { url: shown(url), why: why.to_owned() }
    }
}

fn cut_off(session: &Session, got: u64, blob: &Descriptor) -> sconce_fetch::Error {
    let (url, expected) = (shown(&session.url), Some(blob.size));
    sconce_fetch::Error::CutOff { url, got, expected }
}

/// The bytes from `start` to `end` of a blob. Those before are hashed too, so that the last piece
/// comes to an end only where the digest is right.
struct Piece<'a> {
    inner: Box<dyn Read + 'a>,
    source: &'a dyn Outgoing,
    blob: &'a Descriptor,
    hasher: Hasher,
    end: u64,
    failure: &'a RefCell<Option<Error>>,
}

impl<'a> Piece<'a> {
    fn open(
        source: &'a dyn Outgoing,
        blob: &'a Descriptor,
        start: u64,
        end: u64,
        failure: &'a RefCell<Option<Error>>,
    ) -> Result<Self, Error> {
        let unread = |error: io::Error| Error::Source { blob: blob.digest, why: error.to_string() };
        let inner = source.open().map_err(unread)?;
        let mut piece = Self { inner, source, blob, hasher: Hasher::new(), end, failure };
        let mut passed = vec![0; 256 << 10];
        while piece.hasher.len() < start {
            let most = (start - piece.hasher.len()).min(passed.len() as u64) as usize;
            match piece.inner.read(&mut passed[..most]).map_err(unread)? {
                0 => return Err(unread(io::ErrorKind::UnexpectedEof.into())),
                n => piece.hasher.update(&passed[..n]),
            }
        }
        Ok(piece)
    }

    fn fail(&self, error: Error) -> io::Error {
        let words = error.to_string();
        *self.failure.borrow_mut() = Some(error);
        io::Error::other(words)
    }
}

impl Read for Piece<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = (self.end - self.hasher.len()).min(buf.len() as u64) as usize;
        if most == 0 {
            return Ok(0);
        }
        let blob = self.blob.digest;
        let n = match self.inner.read(&mut buf[..most]) {
            Ok(0) => {
                let why = format!("it ends after {} bytes", self.hasher.len());
                return Err(self.fail(Error::Source { blob, why }));
            }
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => return Err(self.fail(Error::Source { blob, why: error.to_string() })),
        };
        self.hasher.update(&buf[..n]);
        if self.hasher.len() == self.blob.size {
            let actual = self.hasher.clone().finish();
            if actual != blob {
                return Err(self.fail(Error::Damaged { wanted: blob, actual }));
            }
        }
        self.source.sent(n as u64);
        Ok(n)
    }
}

/// How many bytes `0-99` stands for. An empty session says `0-0` (distribution), as one with a byte
/// does: sent again, that byte does no harm.
fn last_byte(header: &str) -> Option<u64> {
    let header = header.trim();
    let header = header.strip_prefix("bytes=").unwrap_or(header);
    let last: u64 = header.split_once('-')?.1.trim().parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}
