//! The HTTP client: retries, redirects, logins, time limits. Everything sconce fetches goes
//! through it.
//!
//! Certificates are the system's (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured), proxies those of the
//! environment ([`proxies`]). A login comes from the address
//! itself, from another address of its scheme, host and port ([`Client::remember`]) or from netrc, goes nowhere else,
//! and stands in no error.

mod address;
mod known;
mod proxies;
mod spoken;
mod stream;
mod tls;
mod tries;

use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::DefaultConnector;
use url::Url;

use crate::certificates::Certificates;
use crate::dns::Cached;
use crate::error::Error;
use crate::netrc::{Login, Netrc};
use crate::peers::Peers;
use address::{bare, login_in};
use known::Known;
use proxies::{Proxies, is_here};
use stream::{Pace, Waits, failed};

pub(crate) use address::local_path;
pub use address::{parse, shown, to_be_kept, without_secrets};
pub use stream::Stream;
pub use tls::TlsFault;
pub use tries::Tries;

/// The fewest bytes a second that a connection must bring: less than any that people use.
pub const SLOWEST: u64 = 1 << 10;

/// How many times [`Options::stall`] is waited for the answer to what was sent.
const PATIENCE: u32 = 12;

/// How a [`Client`] behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time for a connection to come about, TLS included.
    pub connect: Duration,
    /// Time without a byte after which a connection counts as dead.
    pub stall: Duration,
    /// Time for a request and all of its answer, redirects included; `None` is as long as bytes come.
    pub whole: Option<Duration>,
    /// Fewer bytes than [`Options::slowest`] a second over so long a time count as dead too.
    pub slow: Duration,
    /// The fewest bytes a second.
    pub slowest: u64,
    /// How often a thing is tried when it fails in a passing way.
    pub tries: u32,
    /// Pause before the second try; doubled before each further one.
    pub backoff: Duration,
    /// Fetch nothing: whatever would be fetched is an error.
    pub offline: bool,
    /// Set to true from anywhere, it stops everything soon.
    pub cancel: Arc<AtomicBool>,
    /// Logins for hosts.
    pub netrc: Netrc,
    /// Certificates beside the system's.
    pub certificates: Certificates,
    /// Other machines that are asked for files first.
    pub peers: Peers,
    /// Whether redirects are followed.
    pub follow: bool,
    /// Whether somebody wanted plain HTTP by name; for the words of errors alone.
    pub plain_http: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            stall: Duration::from_secs(25),
            whole: None,
            slow: Duration::from_secs(25),
            slowest: SLOWEST,
            tries: 5,
            backoff: Duration::from_millis(500),
            offline: false,
            cancel: Arc::default(),
            netrc: Netrc::default(),
            certificates: Certificates::default(),
            peers: Peers::default(),
            follow: true,
            plain_http: false,
        }
    }
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Reads what may have to be made first: the answer may take as long as that to what was sent.
    Await,
    /// Reads the head of an answer.
    Head,
    /// Begins something.
    Post,
    /// Adds to something.
    Patch,
    /// Makes or completes something.
    Put,
    /// Takes something away.
    Delete,
}

/// What a request carries.
pub enum Body<'a> {
    /// Nothing.
    None,
    /// So many bytes of a stream.
    Stream {
        /// Where they come from.
        from: &'a mut dyn Read,
        /// How many there are.
        len: u64,
    },
}

/// Fetches things. Cheap to share between threads by reference; connections are reused.
#[derive(Debug)]
pub struct Client {
    agent: ureq::Agent,
    options: Options,
    known: Arc<Mutex<Known>>,
    proxies: Proxies,
    beside: bool,
}

/// A small answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The body.
    pub bytes: Vec<u8>,
    /// `Content-Type` without its parameters, lower case.
    pub content_type: String,
    /// Where it came from after redirects.
    pub url: Url,
}

impl Client {
    /// A client; nothing is connected yet.
    pub fn new(options: Options) -> Self {
        let tls = ureq::tls::TlsConfig::builder()
            .root_certs(options.certificates.roots())
            .client_cert(options.certificates.client())
            .build();
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(options.connect))
            .timeout_recv_response(Some(options.stall))
            .timeout_per_read(Some(options.stall))
            .timeout_per_write(Some(options.stall))
            .max_idle_connections(64)
            .max_idle_connections_per_host(32)
            // Each is followed here, or not: see `next`.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("sconce/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            // Each request has its own.
            .proxy(None)
            .build();
        let agent = ureq::Agent::with_parts(
            config,
            DefaultConnector::default(),
            Cached::<DefaultResolver>::default(),
        );
        let proxies = Proxies::of_environment();
        Self { agent, options, known: Arc::default(), proxies, beside: false }
    }

    /// One for work beside this one's, with the same connections and logins, which `cancel` alone stops.
    #[must_use]
    pub fn beside(&self, cancel: Arc<AtomicBool>) -> Self {
        let options = Options { cancel, ..self.options.clone() };
        let (agent, known) = (self.agent.clone(), Arc::clone(&self.known));
        Self { agent, options, known, proxies: self.proxies.clone(), beside: true }
    }

    /// What stops the work of one that [`Client::beside`] made, and nothing else does.
    #[must_use]
    pub fn stop(&self) -> Option<&Arc<AtomicBool>> {
        Some(&self.options.cancel).filter(|_| self.beside)
    }

    /// How it behaves.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Remembers what stands in an address and in no lock: the login, for all requests to that scheme, host and
    /// port, and the query, for requests to the very address without one.
    pub fn remember(&self, address: &str) {
        if let Ok(url) = Url::parse(address) {
            self.known().add(&url);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches something small: at most `limit` bytes. `file:` addresses are read from disk.
    pub fn get_bytes(&self, url: &str, limit: u64) -> Result<Vec<u8>, Error> {
        Ok(self.get(url, "*/*", limit)?.bytes)
    }

    /// As [`Client::get_bytes`], saying which media types are understood, and telling what came.
    pub fn get(&self, url: &str, accept: &str, limit: u64) -> Result<Answer, Error> {
        let parsed = parse(url)?;
        if let Some(path) = local_path(&parsed)? {
            return read_local(&path, parsed, limit);
        }
        self.patiently(|| {
            let headers = [("Accept", accept)];
            let mut stream = self.open(&parsed, &headers)?.accepted(&[200])?;
            let mut bytes = Vec::new();
            let mut buffer = vec![0; 64 << 10];
            loop {
                match stream.read(&mut buffer, bytes.len() as u64)? {
                    0 => break,
                    n if (bytes.len() + n) as u64 > limit => {
                        return Err(Error::TooLarge { url: shown(&parsed), limit });
                    }
                    n => bytes.extend_from_slice(&buffer[..n]),
                }
                self.check_cancelled()?;
            }
            let content_type = stream.header("content-type").unwrap_or_default();
            let content_type = content_type.split(';').next().unwrap_or_default();
            Ok(Answer {
                bytes,
                content_type: content_type.trim().to_ascii_lowercase(),
                url: stream.url,
            })
        })
    }

    /// Tries until it goes well, a failure is not a passing one, or the tries are used up.
    pub(crate) fn patiently<T>(
        &self,
        attempt: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.trying(self.options.tries, attempt)
    }

    /// The same with so many tries: for what can be done without.
    pub(crate) fn trying<T>(
        &self,
        most: u32,
        mut attempt: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut tries = Tries::at_most(&self.options, most);
        loop {
            match attempt() {
                Err(error) => tries.after(error)?,
                done => return done,
            }
        }
    }

    /// Reads the head of the answer to a `GET`, whatever its status. A login goes with the request
    /// unless `headers` have an `Authorization` of their own.
    pub fn open(&self, url: &Url, headers: &[(&str, &str)]) -> Result<Stream, Error> {
        self.send(Method::Get, url, headers, Body::None)
    }

    /// Sends one request and reads the head of the answer, as [`Client::open`]. Redirects are followed
    /// where nothing but reading is asked.
    pub fn send(
        &self,
        method: Method,
        url: &Url,
        headers: &[(&str, &str)],
        body: Body<'_>,
    ) -> Result<Stream, Error> {
        self.check_cancelled()?;
        if self.options.offline {
            return Err(Error::Offline { missing: vec![shown(url)] });
        }
        let bare = self.known().whole(bare(url));
        let shown = shown(&bare);
        let (stall, whole) = (self.options.stall, self.options.whole);
        let begun = Instant::now();
        // No timeout at all would be the meaning of zero.
        let left = || Some(whole?.saturating_sub(begun.elapsed()).max(Duration::from_millis(1)));
        let (verb, writes) = match method {
            Method::Get | Method::Await => ("GET", false),
            Method::Head => ("HEAD", false),
            Method::Post => ("POST", true),
            Method::Patch => ("PATCH", true),
            Method::Put => ("PUT", true),
            Method::Delete => ("DELETE", true),
        };
        let is_login = |name: &str| name.eq_ignore_ascii_case("authorization");
        let own = headers.iter().any(|(name, _)| is_login(name));
        let login = self.login_for(url).filter(|_| !own).map(|login| {
            let pair = format!("{}:{}", login.user, login.password);
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
        });
        let request = |to: &Url| {
            let mut request = ureq::http::Request::builder().method(verb).uri(to.as_str());
            // A login is for this scheme, host and port, and for the same by TLS.
            let same =
                |scheme| to.scheme() == scheme && to.port().is_none() && to.host() == bare.host();
            let by_tls = bare.scheme() == "http" && bare.port().is_none() && same("https");
            let theirs = to.origin() == bare.origin() || by_tls;
            for (name, value) in headers.iter().filter(|(name, _)| theirs || !is_login(name)) {
                request = request.header(*name, *value);
            }
            match login.as_ref().filter(|_| theirs) {
                Some(login) => request.header("Authorization", login),
                None => request,
            }
        };
        let bad = |why: String| Error::BadAnswer { url: shown.clone(), why };
        let mut nothing = io::empty();
        let (body, len) = match body {
            Body::Stream { from, len } => (from, len),
            Body::None => (&mut nothing as &mut dyn Read, 0),
        };
        let mut landed = bare.clone();
        let answer = if writes {
            let request = request(&bare).header("Content-Length", len);
            let body = ureq::SendBody::from_reader(body);
            let request = request.body(body).map_err(|error| bad(error.to_string()))?;
            let request = self.agent.configure_request(request);
            let request = request.proxy(self.proxies.of(&bare)?.cloned());
            // Whoever takes something large may look at it all before it answers.
            let patience = stall.saturating_mul(PATIENCE);
            let request = request.timeout_recv_response(Some(patience)).timeout_global(left());
            self.agent.run(request.build())
        } else {
            let patience = if method == Method::Await { PATIENCE } else { 1 };
            let patience = stall.saturating_mul(patience);
            let mut redirects = 0;
            loop {
                let request = request(&landed).body(()).map_err(|error| bad(error.to_string()))?;
                let request = self.agent.configure_request(request);
                let request = request.proxy(self.proxies.of(&landed)?.cloned());
                let request = request.timeout_recv_response(Some(patience)).timeout_global(left());
                let answer = self.agent.run(request.build());
                let Ok(response) = &answer else { break answer };
                let location = location(response).filter(|_| self.options.follow);
                let Some(location) = location else { break answer };
                let next = next(&landed, location)?;
                redirects += 1;
                if redirects > MOST_REDIRECTS {
                    return Err(bad("it redirects without end".to_owned()));
                }
                landed = next;
            }
        };
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                // Of a redirect it is where it led that could not be reached.
                let failure = failed(error, &address::shown(&landed), Waits { stall, whole });
                return Err(self.spoken_otherwise(&landed, landed == bare, failure));
            }
        };
        // What a server of TLS says to who asks without stands in the body, and this answer has none.
        let is_told = method != Method::Head || landed.scheme() != "http";
        if !is_told && response.status() == 400 {
            let url = address::shown(&landed);
            let failure = Error::Status { url, status: 400, said: None, retry_after: None };
            let failure = self.spoken_otherwise(&landed, landed == bare, failure);
            if matches!(failure, Error::OnlyTls { .. }) {
                return Err(failure);
            }
        }
        self.known().meet(&landed);
        let (head, body) = response.into_parts();
        Ok(Stream {
            status: head.status.as_u16(),
            headers: head.headers,
            url: landed,
            body: body.into_reader(),
            shown,
            wanted_plain: self.options.plain_http,
            waits: Waits { stall, whole },
            pace: Pace::new(self.options.slow, self.options.slowest),
        })
    }

    /// Whether it was stopped.
    ///
    /// # Errors
    /// [`Error::Cancelled`]
    pub fn check_cancelled(&self) -> Result<(), Error> {
        match self.options.cancel.load(Ordering::Relaxed) {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }

    fn login_for(&self, url: &Url) -> Option<Login> {
        let host = url.host_str()?;
        let known = self.known().login(url);
        login_in(url).or(known).or_else(|| self.options.netrc.login(host))
    }
}

fn read_local(path: &Path, url: Url, limit: u64) -> Result<Answer, Error> {
    let fault = |source| Error::File { action: "read", path: path.to_owned(), source };
    // A folder that is served over HTTP answers with its index page: so does one on disk.
    let page = path.join("index.html");
    let path = if path.is_dir() { &page } else { path };
    let bytes = sconce_open::read(path, limit).map_err(fault)?;
    let html = path.extension().is_some_and(|extension| extension == "html");
    let content_type = if html { "text/html" } else { "application/octet-stream" };
    Ok(Answer { bytes, content_type: content_type.to_owned(), url })
}

/// The most redirects that one request follows.
const MOST_REDIRECTS: u32 = 10;

/// What a redirect says where to go (RFC 9110, 15.4).
fn location(answer: &ureq::http::Response<ureq::Body>) -> Option<&str> {
    let redirects = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    answer.headers().get("location").filter(|_| redirects)?.to_str().ok()
}

/// Where a redirect leads. From https to plain http only this machine leads, and only to itself: what comes over the network
/// must be whose it was asked of, and no other machine has anything to ask here.
fn next(at: &Url, location: &str) -> Result<Url, Error> {
    let refused = |to: String, why: String| Error::Redirect { url: shown(at), to, why };
    let mut to = at.join(location).map_err(|_| {
        let plain = without_secrets(location);
        let plain = plain.chars().filter(|c| !c.is_control()).take(200).collect();
        refused(plain, "it is no address".to_owned())
    })?;
    let here = is_here(at) && is_here(&to);
    match (at.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => {}
        ("https", "http") if here => {}
        ("https", "http") => {
            return Err(refused(shown(&to), "it leads from https to plain http".to_owned()));
        }
        (_, other) => return Err(refused(shown(&to), format!("`{other}:` is not HTTP"))),
    }
    // Neither fails for an http or https address. A login that a server writes there is not ours.
    let _ = to.set_username("");
    let _ = to.set_password(None);
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_do_not_leave_tls() {
        let next = |at: &str, location: &str| {
            next(&Url::parse(at).expect(at), location).map(|to| to.to_string()).ok()
        };
        let (there, here) = ("https://a.invalid/v2/x", "https://localhost:5000/v2/x");
        for (at, location, to) in [
            (there, "/y", "https://a.invalid/y"),
            (there, "https://me:word@b.invalid/y", "https://b.invalid/y"),
            (here, "http://127.0.0.1:5000/y", "http://127.0.0.1:5000/y"),
            (here, "http://[::1]/y", "http://[::1]/y"),
        ] {
            assert_eq!(next(at, location).as_deref(), Some(to));
        }
        for (at, location) in [
            (there, "http://b.invalid/y"),
            (there, "http://10.9.9.9/y"),
            (there, "ftp://b.invalid/"),
            (there, "http://"),
            (there, "http://127.0.0.1:5000/y"),
            (there, "http://localhost/y"),
            (here, "http://b.invalid/y"),
        ] {
            assert_eq!(next(at, location), None, "{at}: {location}");
        }
        assert!(next("http://a.invalid/", "http://b.invalid/y").is_some());
    }
}
