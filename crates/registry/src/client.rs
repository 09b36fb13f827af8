//! Asking a registry: logins, manifests, the image for a processor.

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sconce_blob::{Digest, Hasher};
use sconce_fetch::http::{Body, Client, Method, Stream, Tries, parse, shown, without_secrets};
use sconce_oci::{Config, Descriptor, Document, MAX_CONFIG, MAX_MANIFEST, MAX_NESTING, Manifest};
use url::Url;

use crate::access::Access;
use crate::blob::BlobReader;
use crate::challenge::{Challenge, NoWay, Token};
use crate::error::Error;
use crate::logins::Login;
use crate::reference::{Reference, is_loopback};

/// Media types that are asked for.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";
const MAX_TOKEN: u64 = 1 << 20;

/// What is to be done with a repository: what a token is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rights {
    /// To read it.
    Pull,
    /// To write to it, and to read these others of the same registry, whose blobs it may be given.
    Push(Vec<String>),
    /// Nothing: only the login is tried.
    Login,
}

/// One repository of a registry.
pub struct Registry {
    pub(crate) client: Arc<Client>,
    pub(crate) reference: Reference,
    /// The address of the API, ending in `/v2/`.
    pub(crate) api: Url,
    pub(crate) chunk: u64,
    login: Option<Login>,
    /// What logs in to it.
    login_command: String,
    scopes: Vec<String>,
    /// What goes into `Authorization`, once the registry has asked for it.
    authorization: Mutex<Option<String>>,
    moved: AtomicU64,
}

/// An image whose layers are still in the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The digest of its manifest.
    pub digest: Digest,
    /// Its manifest, the bytes of the document.
    pub manifest: Vec<u8>,
    /// Its configuration, the bytes of the document.
    pub config: Vec<u8>,
    /// Where its configuration is.
    pub config_blob: Descriptor,
    /// Its layers, the base first.
    pub layers: Vec<Descriptor>,
    /// The DiffID of each.
    pub diff_ids: Vec<Digest>,
    /// The indexes that led to it, the first that of the name, the bytes of the documents. Each names the
    /// next one, the last names the manifest, by digest.
    pub indexes: Vec<Vec<u8>>,
}

impl Registry {
    /// The repository that `reference` names; nothing is asked yet.
    ///
    /// # Errors
    /// Certificates that can't be read, a credential helper that fails.
    pub fn new(access: &Access, reference: Reference, rights: &Rights) -> Result<Self, Error> {
        let host = access.host(&reference.host)?;
        let api = parse(&format!("{}/v2/", host.base))?;
        let login = access.logins().get(api.scheme(), &reference.host, &reference.repository)?;
        Ok(Self::with(access, host, api, reference, rights, login))
    }

    /// Tries a login for a registry. Says whether it asked for one.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::NotOne`], and those of the network.
    pub fn try_login(access: &Access, host: &str, login: Login) -> Result<bool, Error> {
        let reference =
            Reference { host: host.to_owned(), repository: String::new(), tag: None, digest: None };
        let host = access.host(host)?;
        let api = parse(&format!("{}/v2/", host.base))?;
        let registry = Self::with(access, host, api, reference, &Rights::Login, Some(login));
        let answer = registry.ask(Method::Get, &registry.api, &[], &mut || Ok(None))?;
        if matches!(answer.status, 404 | 410) {
            return Err(Error::NotOne {
                host: registry.reference.host.clone(),
                url: shown(&registry.api),
                to: Some(shown(&answer.url)).filter(|_| answer.url != registry.api),
                status: answer.status,
            });
        }
        answer.accepted(&[200])?;
        let asked = registry.authorization().is_some();
        Ok(asked)
    }

    fn with(
        access: &Access,
        host: crate::access::Host,
        api: Url,
        reference: Reference,
        rights: &Rights,
        login: Option<Login>,
    ) -> Self {
        let of = |name: &str, what: &str| format!("repository:{name}:{what}");
        let scopes = match rights {
            Rights::Login => Vec::new(),
            Rights::Pull => vec![of(&reference.repository, "pull")],
            Rights::Push(others) => {
                let own = of(&reference.repository, "pull,push");
                std::iter::once(own).chain(others.iter().map(|name| of(name, "pull"))).collect()
            }
        };
        Self {
            client: host.client,
            chunk: access.chunk(),
            login_command: access.login_command(&reference.host),
            reference,
            api,
            login,
            scopes,
            authorization: Mutex::default(),
            moved: AtomicU64::new(0),
        }
    }

    /// What it was made for.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Bytes of documents and blobs that have come and gone so far.
    #[must_use]
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
        let mut size = None;
        let mut indexes = Vec::new();
        for _ in 0..MAX_NESTING {
            let url = self.url(&format!("manifests/{wanted}"))?;
            let bytes = self.document(&url, &wanted, expected, MAX_MANIFEST)?;
            let digest = expected.unwrap_or_else(|| Digest::of(&bytes));
            let wrong = |why| Error::Answer { url: shown(&url), why };
            check_size(&bytes, size).map_err(wrong)?;
            match Document::parse(&bytes).map_err(wrong)? {
                Document::Index(index) => match index.choose(architecture) {
                    Ok(row) => {
                        wanted = row.digest.to_string();
                        expected = Some(row.digest);
                        size = Some(row.size);
                        indexes.push(bytes);
                    }
                    Err(there) => return Err(self.elsewhere(architecture, there)),
                },
                Document::Manifest(manifest) => {
                    let image = self.whole(digest, bytes, manifest, architecture)?;
                    return Ok(Image { indexes, ..image });
                }
            }
        }
        let url = shown(&self.url(&format!("manifests/{wanted}"))?);
        Err(Error::Answer { url, why: "indexes that lead to indexes without end".to_owned() })
    }

    fn whole(
        &self,
        digest: Digest,
        bytes: Vec<u8>,
        manifest: Manifest,
        architecture: &str,
    ) -> Result<Image, Error> {
        if let Some(kind) = manifest.artifact() {
            let reference = self.reference.to_string();
            return Err(Error::Artifact { reference, kind, digest, manifest: bytes });
        }
        let blob = &manifest.config;
        let wanted = blob.digest.to_string();
        let url = self.url(&format!("blobs/{wanted}"))?;
        let config = self.document(&url, &wanted, Some(blob.digest), MAX_CONFIG)?;
        let wrong = |why| Error::Answer { url: shown(&url), why };
        if config.len() as u64 != blob.size {
            return Err(wrong(format!("{} bytes, where {} were named", config.len(), blob.size)));
        }
        let read = Config::parse(&config).map_err(wrong)?;
        if !read.is_for(architecture) {
            return Err(self.elsewhere(architecture, vec![read.platform()]));
        }
        read.check(&config, &manifest).map_err(wrong)?;
        Ok(Image {
            digest,
            manifest: bytes,
            config,
            diff_ids: read.diff_ids().to_vec(),
            config_blob: manifest.config,
            layers: manifest.layers,
            indexes: Vec::new(),
        })
    }

    fn elsewhere(&self, wanted: &str, there: Vec<String>) -> Error {
        let reference = self.reference.to_string();
        Error::NoPlatform { reference, wanted: wanted.to_owned(), there }
    }

    /// A blob, read once from its start; its digest is compared at its end.
    ///
    /// # Errors
    /// No address can be made of it; all others come while it is read.
    pub fn blob(&self, blob: &Descriptor) -> Result<BlobReader<'_>, Error> {
        self.blob_after(blob, Hasher::new())
    }

    /// The rest of a blob whose beginning is here: `begun` has seen it.
    ///
    /// # Errors
    /// As [`Registry::blob`].
    pub fn blob_after(&self, blob: &Descriptor, begun: Hasher) -> Result<BlobReader<'_>, Error> {
        let url = self.url(&format!("blobs/{}", blob.digest))?;
        Ok(BlobReader::new(self, url, blob, begun))
    }

    pub(crate) fn url(&self, rest: &str) -> Result<Url, Error> {
        Ok(parse(&format!("{}{}/{rest}", self.api, self.reference.repository))?)
    }

    /// A small document, whole.
    pub(crate) fn document(
        &self,
        url: &Url,
        wanted: &str,
        expected: Option<Digest>,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        let bytes = self.patiently(|| {
            let headers = [("Accept", ACCEPT), ("Accept-Encoding", "identity")];
            // What has no digest yet may have to be built first (`sconce serve`).
            let method = if expected.is_none() { Method::Await } else { Method::Get };
            let stream = self.open_with(method, url, &headers, wanted)?;
            let bytes = whole(stream, limit)?;
            self.count(bytes.len() as u64);
            Ok(bytes)
        })?;
        match Document::check(&bytes, expected) {
            Ok(_) => Ok(bytes),
            Err(actual) => Err(Error::WrongDigest {
                url: shown(url),
                wanted: expected.unwrap_or(actual),
                actual,
            }),
        }
    }

    /// Tries again what failed in a passing way.
    pub(crate) fn patiently<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut tries = Tries::new(self.client.options());
        loop {
            match attempt() {
                Err(Error::Fetch(error)) => tries.after(error)?,
                done => return done,
            }
        }
    }

    /// One answer of status 200 or 206, logged in as the registry asks.
    pub(crate) fn open(
        &self,
        url: &Url,
        headers: &[(&str, &str)],
        wanted: &str,
    ) -> Result<Stream, Error> {
        self.open_with(Method::Get, url, headers, wanted)
    }

    fn open_with(
        &self,
        method: Method,
        url: &Url,
        headers: &[(&str, &str)],
        wanted: &str,
    ) -> Result<Stream, Error> {
        let stream = self.ask(method, url, headers, &mut || Ok(None))?;
        match stream.status {
            404 => Err(Error::NotFound {
                host: self.reference.host.clone(),
                repository: self.reference.repository.clone(),
                wanted: wanted.to_owned(),
                said: said(stream),
            }),
            _ => Ok(stream.accepted(&[200, 206])?),
        }
    }

    /// One answer, whatever its status, logged in as the registry asks. `body` is asked for what goes
    /// with the request each time it is sent.
    ///
    /// The login is for the registry itself: an upload may lead to another host, which gets none.
    pub(crate) fn ask<'b>(
        &self,
        method: Method,
        url: &Url,
        headers: &[(&str, &str)],
        body: &mut Payload<'_, 'b>,
    ) -> Result<Stream, Error> {
        let ours = url.origin() == self.api.origin();
        let known = self.authorization().clone().filter(|_| ours);
        let mut stream = self.send(method, url, headers, known.as_deref(), body()?)?;
        if stream.status == 401 && ours {
            let challenge = Challenge::of(stream.each("www-authenticate"));
            let challenge = challenge.map_err(|way| self.no_way(way))?;
            let answer = match challenge {
                Some(challenge) => self.authorize(&challenge)?,
                None => None,
            };
            let Some(answer) = answer.filter(|answer| known.as_ref() != Some(answer)) else {
                return Err(self.denied());
            };
            stream = self.send(method, url, headers, Some(&answer), body()?)?;
            *self.authorization() = Some(answer);
        }
        match stream.status {
            401 => Err(self.denied()),
            // It may refuse this for another reason than the login.
            403 => {
                let mut error = self.denied();
                if let Error::Denied { said: words, .. } = &mut error {
                    *words = said(stream);
                }
                Err(error)
            }
            _ => Ok(stream),
        }
    }

    fn send(
        &self,
        method: Method,
        url: &Url,
        headers: &[(&str, &str)],
        authorization: Option<&str>,
        body: Option<(Box<dyn Read + '_>, u64)>,
    ) -> Result<Stream, Error> {
        let mut headers = headers.to_vec();
        headers.extend(authorization.map(|value| ("Authorization", value)));
        match body {
            None => Ok(self.client.send(method, url, &headers, Body::None)?),
            Some((mut from, len)) => {
                let body = Body::Stream { from: &mut *from, len };
                Ok(self.client.send(method, url, &headers, body)?)
            }
        }
    }

    /// The answer to a challenge; `None` when there is no login to answer with.
    fn authorize(&self, challenge: &Challenge) -> Result<Option<String>, Error> {
        let basic = match &self.login {
            Some(Login::Basic(coded)) => Some(format!("Basic {coded}")),
            _ => None,
        };
        let Challenge::Bearer { realm, service, scope } = challenge else { return Ok(basic) };
        let mut url = self.realm(realm)?;
        if !is_safe(&self.api, &url) {
            let host = url.host_str().unwrap_or_default();
            let why = format!("it sends for a token to {host} without TLS");
            return Err(Error::Answer { url: self.api.to_string(), why });
        }
        let asked = scope.as_deref().filter(|scope| {
            // One that grants no more than what is asked for anyway.
            !self.scopes.iter().any(|own| own.starts_with(scope))
        });
        let scopes = self.scopes.iter().map(String::as_str).chain(asked);
        let accept = ("Accept", "application/json");
        let stream = if let Some(Login::Identity(token)) = &self.login {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token").append_pair("client_id", "sconce");
            form.append_pair("refresh_token", token);
            form.append_pair("service", service.as_deref().unwrap_or_default());
            form.append_pair("scope", &scopes.collect::<Vec<_>>().join(" "));
            let form = form.finish();
            let kind = ("Content-Type", "application/x-www-form-urlencoded");
            let body: Box<dyn Read> = Box::new(form.as_bytes());
            let body = Some((body, form.len() as u64));
            self.send(Method::Post, &url, &[accept, kind], None, body)?
        } else {
            let mut query = url.query_pairs_mut();
            if let Some(service) = service {
                query.append_pair("service", service);
            }
            for scope in scopes {
                query.append_pair("scope", scope);
            }
            drop(query);
            self.send(Method::Get, &url, &[accept], basic.as_deref(), None)?
        };
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

    /// The address that a challenge sends to for a token; nothing is asked of any other than one of HTTP.
    fn realm(&self, realm: &str) -> Result<Url, Error> {
        let why = match Url::parse(realm) {
            // `https:///host/` and `https:host/` name no host (RFC 9110, section 4.2.2); a browser guesses one, and what is
            // guessed gets no login.
            Ok(url) if matches!(url.scheme(), "http" | "https") && !names_host(realm) => {
                "it has no host".to_owned()
            }
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
                return Ok(url);
            }
            Ok(url) => format!("tokens are not taken from `{}:`", url.scheme()),
            Err(url::ParseError::RelativeUrlWithoutBase) => "it has no host".to_owned(),
            Err(error) => error.to_string(),
        };
        let realm: String =
            without_secrets(realm).chars().filter(|c| !c.is_control()).take(200).collect();
        Err(Error::Realm { host: self.reference.host.clone(), realm, why })
    }

    pub(crate) fn denied(&self) -> Error {
        Error::Denied {
            host: self.reference.host.clone(),
            repository: self.reference.repository.clone(),
            writes: self.scopes.iter().any(|scope| scope.ends_with("push")),
            known: self.login.is_some(),
            login: self.login_command.clone(),
            said: None,
        }
    }

    fn no_way(&self, way: NoWay) -> Error {
        Error::NoWay { host: self.reference.host.clone(), way }
    }

    fn authorization(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an answer that is no says of it.
fn said(stream: Stream) -> Option<String> {
    match stream.accepted(&[]) {
        Err(sconce_fetch::Error::Status { said, .. }) => said,
        _ => None,
    }
}

/// Whether an address of HTTP has `//` and a host where they belong.
fn names_host(address: &str) -> bool {
    let authority = address.trim().split_once(':').and_then(|(_, rest)| rest.strip_prefix("//"));
    authority.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '\\', '?', '#']))
}

/// Whether a login may go where a registry sends for tokens: over TLS anywhere, without it only where the registry itself is
/// asked so, and from this machine to itself. A registry with TLS has nobody's login sent in the clear, not even to this
/// machine, on which others may listen.
fn is_safe(api: &Url, realm: &Url) -> bool {
    let (own, other) = (api.host_str().unwrap_or_default(), realm.host_str().unwrap_or_default());
    let is_near = own == other || (is_loopback(own) && is_loopback(other));
    realm.scheme() == "https" || (api.scheme() == "http" && is_near)
}

/// That a document has the size that the index above it says.
pub(crate) fn check_size(bytes: &[u8], named: Option<u64>) -> Result<(), String> {
    match named {
        Some(size) if size != bytes.len() as u64 => {
            Err(format!("it has {} bytes, and the index that names it says {size}", bytes.len()))
        }
        _ => Ok(()),
    }
}

/// Gives what goes with a request, and its length.
pub(crate) type Payload<'a, 'b> =
    dyn FnMut() -> Result<Option<(Box<dyn Read + 'b>, u64)>, Error> + 'a;

/// The whole body, at most `limit` bytes.
pub(crate) fn whole(mut stream: Stream, limit: u64) -> Result<Vec<u8>, Error> {
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
