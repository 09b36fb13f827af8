//! What can go wrong while fetching, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use sconce_blob::Digest;

use crate::certificates::Fault;
use crate::http::TlsFault;

/// A failure of a look-up or download. Addresses in it carry no passwords.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address that can't be asked.
    #[error("`{url}` can't be fetched: {why}")]
    BadUrl {
        /// The address.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing may be fetched, and these are missing.
    #[error("offline, and {} not here: {}", count(missing), missing.join(", "))]
    Offline {
        /// Names of files, or addresses.
        missing: Vec<String>,
    },
    /// A project names a file that it is not trusted to read.
    #[error("{file} is outside the project, which is not trusted to read it: {}", path.display())]
    Untrusted {
        /// Its name.
        file: String,
        /// Where it lies, links followed.
        path: std::path::PathBuf,
    },
    /// The environment names a proxy that can't be used.
    #[error("{variable} names `{value}` as the proxy, which can't be used: {why}")]
    BadProxy {
        /// The variable.
        variable: String,
        /// Its value without a login.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// No connection came about.
    #[error("can't reach {url}: {source}")]
    Unreachable {
        /// The address.
        url: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The other side went silent.
    #[error("{url} sent nothing for {} s", waited.as_secs_f32().round())]
    Stalled {
        /// The address.
        url: String,
        /// How long it was waited.
        waited: Duration,
    },
    /// The answer was not whole in the time that it may take.
    #[error("{url} did not send all of its answer within {} s", waited.as_secs_f32().round())]
    Late {
        /// The address.
        url: String,
        /// How long it was waited.
        waited: Duration,
    },
    /// The other side sends so little that it is of no use.
    #[error("{url} sent only {bytes} bytes in {} s", waited.as_secs_f32().round())]
    Slow {
        /// The address.
        url: String,
        /// What came.
        bytes: u64,
        /// In which time.
        waited: Duration,
    },
    /// The server refused.
    #[error("{url} answered {status}{}", said.as_deref().map(|s| format!(": {s}")).unwrap_or_default())]
    Status {
        /// The address.
        url: String,
        /// HTTP status code.
        status: u16,
        /// The first line of its answer, where it is text.
        said: Option<String>,
        /// `Retry-After`, where it was given.
        retry_after: Option<Duration>,
    },
    /// The connection ended before the file did.
    #[error("{url} was cut off after {got} bytes{}", of(*expected))]
    CutOff {
        /// The address.
        url: String,
        /// Bytes that came, those of earlier connections included.
        got: u64,
        /// Bytes that should have come.
        expected: Option<u64>,
    },
    /// The answer makes no sense as HTTP.
    #[error("{url} answers wrongly: {why}")]
    BadAnswer {
        /// The address.
        url: String,
        /// What is wrong with the answer.
        why: String,
    },
    /// A redirect that is not followed.
    #[error("{url} redirects to `{to}`, which is refused: {why}")]
    Redirect {
        /// The address that sends there.
        url: String,
        /// Where to.
        to: String,
        /// Why it is not asked.
        why: String,
    },
    /// The two sides of TLS don't agree.
    #[error("{url}: {fault}")]
    Tls {
        /// The address.
        url: String,
        /// On what.
        fault: TlsFault,
    },
    /// TLS was begun with a server that has none.
    #[error("{url}: the server speaks plain HTTP there, and was asked over TLS")]
    PlainHttp {
        /// The address.
        url: String,
        /// Whether it may be asked so instead: nobody has, and no redirect led there.
        may_be_asked: bool,
    },
    /// A server of TLS was asked without.
    #[error("{url}: the server speaks TLS there, and was asked over plain HTTP")]
    OnlyTls {
        /// The address.
        url: String,
        /// Whether somebody wanted plain HTTP by name ([`Options::plain_http`](crate::http::Options)).
        wanted_plain: bool,
    },
    /// What answers to a handshake is no TLS.
    #[error("{url}: what answers there speaks no TLS")]
    NoTls {
        /// The address.
        url: String,
    },
    /// It is no server of HTTP, neither with TLS nor without.
    #[error("{url}: {}", no_http(*what))]
    NoHttp {
        /// The address.
        url: String,
        /// What it is, where it says so.
        what: Option<&'static str>,
    },
    /// More bytes than anything sensible.
    #[error("{url} sends more than the {limit} bytes allowed")]
    TooLarge {
        /// The address.
        url: String,
        /// The limit, bytes.
        limit: u64,
    },
    /// The file that came is not the one that is locked.
    #[error("{file} from {url} has SHA-256 {actual}, but {expected} is wanted")]
    WrongDigest {
        /// File name.
        file: String,
        /// The address.
        url: String,
        /// What is wanted.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The index has a file of this name with another digest, or none at all.
    #[error("{index} has no {file} with SHA-256 {digest}{}", other.map(|d| format!("; its own has {d}")).unwrap_or_default())]
    NotInIndex {
        /// The project's page in the index.
        index: String,
        /// File name.
        file: String,
        /// What is wanted.
        digest: Digest,
        /// The digest of the file that has this name there.
        other: Option<Digest>,
    },
    /// A configuration file that can't be used.
    #[error("{}: {why}", path.display())]
    BadConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file of certificates or a key that can't be used.
    #[error("{}: {why}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: Fault,
    },
    /// A list of builds of Python that can't be used.
    #[error("{list}: {why}")]
    PythonList {
        /// Its address or path.
        list: String,
        /// What is wrong with it.
        why: String,
    },
    /// No package index is configured, and neither pip nor uv could be asked for theirs.
    #[error("no package index: none is configured, and pip could not be asked for its own ({why})")]
    NoIndex {
        /// What pip said.
        why: String,
    },
    /// A local file can't be read or written.
    #[error("can't {action} {}: {source}", path.display())]
    File {
        /// What was tried, a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] sconce_store::Error),
    /// The same failure came again and again.
    #[error("{source} (tried {tries} times)")]
    GaveUp {
        /// How often it was tried.
        tries: u32,
        /// The last failure.
        #[source]
        source: Box<Error>,
    },
    /// The person or program stopped it.
    #[error("stopped")]
    Cancelled,
}

/// The words of a failure, with the name of the file before them where they don't begin with it.
#[must_use]
pub fn about(name: &str, why: &Error) -> String {
    let words = why.to_string();
    if words.starts_with(name) { words } else { format!("{name}: {words}") }
}

/// Where the login of an index can stand.
pub(crate) const LOGIN: &str = "the index wants a login, or another one: put it into ~/.netrc (machine, login, password), into \
     UV_INDEX_<NAME>_USERNAME and UV_INDEX_<NAME>_PASSWORD for the index of that name, or into the \
     address of the index in uv.toml or pip.conf";

impl Error {
    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::BadUrl { .. } => return None,
            Self::Untrusted { .. } => {
                "`sconce trust` lists what the project reaches for, and accepts it; if this file is not listed, a folder was replaced by a link while sconce ran".into()
            }
            Self::Offline { .. } => "run it once without --offline, where there is a network".into(),
            Self::BadProxy { variable, .. } => format!(
                "a proxy is one of HTTP: `http://HOST:PORT` or `https://HOST:PORT`, with `USER:PASSWORD@` before HOST where it wants a login; NO_PROXY names hosts that are asked without it, and with an empty {variable} there is none"
            ),
            Self::Unreachable { .. } => "check the network, the proxy (HTTPS_PROXY) and the index or mirror that is configured".into(),
            Self::Stalled { .. } | Self::Slow { .. } | Self::CutOff { .. } => {
                "run it again: what has come is kept, and it goes on from there".into()
            }
            Self::Late { .. } => "the network or the server is slow: try again later".into(),
            Self::Status { status: 401 | 403, .. } => {
                LOGIN.into()
            }
            Self::Status { status: 404 | 410, .. } => {
                "the index or mirror doesn't have it (any more): use another, or lock again".into()
            }
            Self::Status { status: 429, .. } => {
                "it limits requests: wait a little, or use a mirror".into()
            }
            Self::Status { .. } | Self::BadAnswer { .. } => {
                "the fault is on the server's or a proxy's side: try later, or another mirror".into()
            }
            Self::Tls { fault, .. } => match fault.hint() {
                Some(hint) => hint,
                None => "is a proxy with its own certificate in between? Name its certificates with SSL_CERT_FILE; without system certificates, install ca-certificates".into(),
            },
            Self::Redirect { .. } | Self::PlainHttp { may_be_asked: false, .. } => {
                "the fault is on the side of the server that sends there".into()
            }
            Self::PlainHttp { .. } => {
                "write http:// in its address, if you trust the network in between".into()
            }
            Self::OnlyTls { .. } => "write https:// in its address".into(),
            Self::NoTls { .. } | Self::NoHttp { .. } => "look at the host and the port".into(),
            Self::TooLarge { .. } => return None,
            Self::WrongDigest { .. } => "the bytes were thrown away. The mirror is stale or the file was changed: use another mirror, or lock again if you trust the new file".into(),
            Self::NotInIndex { .. } => "name the index that the lock was made with, or lock again".into(),
            Self::BadConfig { .. } => "correct the file, or name the index with UV_DEFAULT_INDEX".into(),
            Self::Certificates { path, why } => why.hint(path),
            Self::PythonList { .. } => "UV_PYTHON_DOWNLOADS_JSON_URL (or uv's `python-downloads-json-url`) names that list; without it the builds that sconce knows are taken".into(),
            Self::NoIndex { .. } => "name one with UV_DEFAULT_INDEX or in pip's configuration, or install pip (python3-pip)".into(),
            Self::File { .. } => return None,
            Self::Store(error) => return error.hint(),
            Self::GaveUp { source, .. } => return source.hint(),
            Self::Cancelled => "run it again: what has come is kept, and it goes on from there".into(),
        })
    }

    /// Whether the next try may go better.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500 | 502..=504),
            Self::Unreachable { source, .. } => matches!(
                &**source,
                ureq::Error::Io(_)
                    | ureq::Error::Timeout(_)
                    | ureq::Error::HostNotFound
                    | ureq::Error::ConnectionFailed
            ),
            Self::Stalled { .. } | Self::Late { .. } | Self::Slow { .. } | Self::CutOff { .. } => {
                true
            }
            _ => false,
        }
    }
}

fn no_http(what: Option<&str>) -> String {
    match what {
        Some(what) => format!("{what} answers there, not one of HTTP"),
        None => "what answers there speaks neither TLS nor HTTP".to_owned(),
    }
}

fn count(missing: &[String]) -> String {
    match missing.len() {
        1 => "this is".to_owned(),
        n => format!("{n} files are"),
    }
}

fn of(expected: Option<u64>) -> String {
    expected.map(|n| format!(" of {n}")).unwrap_or_default()
}
