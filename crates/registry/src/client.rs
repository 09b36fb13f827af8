//! Asking a registry: logins, manifests, the image for a processor.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use sconce_blob::Digest;
use sconce_fetch::http::{Client, Stream, Tries, parse, shown};
use url::Url;

use crate::auth::{Challenge, Logins, Token};
use crate::blob::BlobReader;
use crate::error::Error;
use crate::image::{self, ACCEPT, Descriptor, Document, Image, Next};
use crate::reference::{Reference, is_loopback};

/// A manifest has at most 4 MiB (distribution-spec, "Pushing Manifests").
const MAX_MANIFEST: u64 = 4 << 20;
const MAX_CONFIG: u64 = 16 << 20;
const MAX_TOKEN: u64 = 1 << 20;
/// Indexes point to indexes only so often.
const MAX_NESTING: usize = 4;

/// One repository of a registry.
pub struct Registry<'a> {
    pub(crate) client: &'a Client,
    reference: Reference,
    login: Option<String>,
    /// What goes into `Authorization`, once the registry has asked for it.
    authorization: Mutex<Option<String>>,
    moved: AtomicU64,
}

impl<'a> Registry<'a> {
    /// The repository that `reference` names; nothing is asked yet.
    pub fn new(client: &'a Client, reference: Reference, logins: &Logins) -> Self {
        Self {
            client,
            login: logins.get(&reference.host).map(str::to_owned),
            reference,
            authorization: Mutex::default(),
            moved: AtomicU64::new(0),
        }
    }

    /// Bytes of documents and blobs that have come so far.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The image for `architecture` (OCI's name: `amd64`, `arm64`).
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Denied`], [`Error::NoPlatform`], documents that are none or
    /// have another digest, and those of the network.
    pub fn image(&self, architecture: &str) -> Result<Image, Error> {
        let mut wanted = self.reference.wanted();
        let mut expected = self.reference.digest;
        for _ in 0..MAX_NESTING {
            let url = self.url(&format!("manifests/{wanted}"))?;
            let bytes = self.document(&url, &wanted, expected, MAX_MANIFEST)?;
            let digest = expected.unwrap_or_else(|| Digest::of(&bytes));
            let wrong = |why| Error::Answer { url: shown(&url), why };
            match Document::parse(&bytes).map_err(wrong)?.next(architecture) {
                Next::Document(row) => {
                    wanted = row.digest.to_string();
                    expected = Some(row.digest);
                }
                Next::Elsewhere(there) => return Err(self.elsewhere(architecture, there)),
                Next::Image { config, layers } => {
                    return self.whole(digest, &config, layers, architecture);
                }
            }
        }
        let url = shown(&self.url(&format!("manifests/{wanted}"))?);
        Err(Error::Answer { url, why: "indexes that lead to indexes without end".to_owned() })
    }

    fn whole(
        &self,
        digest: Digest,
        config: &Descriptor,
        layers: Vec<Descriptor>,
        architecture: &str,
    ) -> Result<Image, Error> {
        let wanted = config.digest.to_string();
        let url = self.url(&format!("blobs/{wanted}"))?;
        let bytes = self.document(&url, &wanted, Some(config.digest), MAX_CONFIG)?;
        let wrong = |why| Error::Answer { url: shown(&url), why };
        let (is_for, diff_ids) = image::config(&bytes).map_err(wrong)?;
        if !is_for.is_empty() && is_for != architecture {
            return Err(self.elsewhere(architecture, vec![is_for]));
        }
        if diff_ids.len() != layers.len() {
            let why = format!("{} layers, but {} DiffIDs", layers.len(), diff_ids.len());
            return Err(wrong(why));
        }
        Ok(Image { digest, config: bytes, layers, diff_ids })
    }

    fn elsewhere(&self, wanted: &str, there: Vec<String>) -> Error {
        let reference = self.reference.to_string();
        Error::NoPlatform { reference, wanted: wanted.to_owned(), there }
    }

    /// A blob, read once from its start; its digest is compared at its end.
    ///
    /// # Errors
    /// Those of the first answer; the rest come while it is read.
    pub fn blob(&self, blob: &Descriptor) -> Result<BlobReader<'_>, Error> {
        let url = self.url(&format!("blobs/{}", blob.digest))?;
        BlobReader::open(self, url, blob)
    }

    fn url(&self, rest: &str) -> Result<Url, Error> {
        Ok(parse(&format!("{}/{rest}", self.reference.api()))?)
    }

    /// A small document, whole.
    fn document(
        &self,
        url: &Url,
        wanted: &str,
        expected: Option<Digest>,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        let mut tries = Tries::new(self.client.options());
        loop {
            let headers = [("Accept", ACCEPT), ("Accept-Encoding", "identity")];
            let read = self.open(url, &headers, wanted).and_then(|stream| {
                let bytes = whole(stream, limit)?;
                self.count(bytes.len() as u64);
                Ok(bytes)
            });
            let bytes = match read {
                Err(Error::Fetch(error)) => {
                    tries.after(error)?;
                    continue;
                }
                read => read?,
            };
            let actual = Digest::of(&bytes);
            return match expected {
                Some(wanted) if wanted != actual => {
                    Err(Error::WrongDigest { url: shown(url), wanted, actual })
                }
                _ => Ok(bytes),
            };
        }
    }

    /// One answer of status 200 or 206, logged in as the registry asks.
    pub(crate) fn open(
        &self,
        url: &Url,
        headers: &[(&str, &str)],
        wanted: &str,
    ) -> Result<Stream, Error> {
        let known = self.authorization().clone();
        let mut stream = self.send(url, headers, known.as_deref())?;
        if stream.status == 401 {
            let challenge = stream.header("www-authenticate").and_then(Challenge::parse);
            let answer = match challenge {
                Some(challenge) => self.authorize(&challenge)?,
                None => None,
            };
            let Some(answer) = answer.filter(|answer| known.as_ref() != Some(answer)) else {
                return Err(self.denied());
            };
            stream = self.send(url, headers, Some(&answer))?;
            *self.authorization() = Some(answer);
        }
        match stream.status {
            401 | 403 => Err(self.denied()),
            404 => Err(Error::NotFound {
                host: self.reference.host.clone(),
                repository: self.reference.repository.clone(),
                wanted: wanted.to_owned(),
            }),
            _ => Ok(stream.accepted(&[200, 206])?),
        }
    }

    fn send(
        &self,
        url: &Url,
        headers: &[(&str, &str)],
        authorization: Option<&str>,
    ) -> Result<Stream, Error> {
        let mut headers = headers.to_vec();
        headers.extend(authorization.map(|value| ("Authorization", value)));
        Ok(self.client.open(url, &headers)?)
    }

    /// The answer to a challenge; `None` when there is no login to answer with.
    fn authorize(&self, challenge: &Challenge) -> Result<Option<String>, Error> {
        let login = self.login.as_ref().map(|coded| format!("Basic {coded}"));
        let Challenge::Bearer { realm, service, scope } = challenge else { return Ok(login) };
        let mut url = parse(realm)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        if url.scheme() != "https" && !is_loopback(&host) {
            let why = format!("it sends for a token to {host} without TLS");
            return Err(Error::Answer { url: self.reference.api(), why });
        }
        let pull = format!("repository:{}:pull", self.reference.repository);
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", scope.as_deref().unwrap_or(&pull));
        drop(query);
        let stream = self.send(&url, &[("Accept", "application/json")], login.as_deref())?;
        if matches!(stream.status, 401 | 403) {
            return Err(self.denied());
        }
        let bytes = whole(stream.accepted(&[200])?, MAX_TOKEN)?;
        let token: Option<Token> = serde_json::from_slice(&bytes).ok();
        match token.and_then(Token::value) {
            Some(token) => Ok(Some(format!("Bearer {token}"))),
            None => Err(Error::Answer { url: shown(&url), why: "there is no token in it".into() }),
        }
    }

    fn denied(&self) -> Error {
        Error::Denied {
            host: self.reference.host.clone(),
            repository: self.reference.repository.clone(),
            known: self.login.is_some(),
        }
    }

    fn authorization(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The whole body, at most `limit` bytes.
fn whole(mut stream: Stream, limit: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer, bytes.len() as u64)? {
            0 => return Ok(bytes),
            n if (bytes.len() + n) as u64 > limit => {
                let url = shown(&stream.url);
                return Err(sconce_fetch::Error::TooLarge { url, limit }.into());
            }
            n => bytes.extend_from_slice(&buffer[..n]),
        }
    }
}
