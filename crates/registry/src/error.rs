//! What can go wrong between a reference and its bytes.

use std::path::PathBuf;

use sconce_blob::Digest;
use sconce_fetch::http::TlsFault;

use crate::challenge::NoWay;
use crate::reference::is_loopback;

/// Why an image in a registry can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was given is not a reference.
    #[error("`{text}` names no image in a registry: {why}")]
    Reference {
        /// As it was given.
        text: String,
        /// Which part is wrong.
        why: String,
    },
    /// The registry wants a login, or refuses the one it was given.
    #[error("{host} refuses {}{}{}", refused(repository, *writes), if *known { " with this login" } else { " without a login" }, words(said.as_deref()))]
    Denied {
        /// The registry.
        host: String,
        /// The repository; empty where only the login was tried.
        repository: String,
        /// Whether it was to be written to.
        writes: bool,
        /// Whether a login was sent.
        known: bool,
        /// The command that logs in as the registry was reached.
        login: String,
        /// What it says of it, where that is more than that a login is wanted.
        said: Option<String>,
    },
    /// The registry wants a token from where none can be had.
    #[error("{host} wants a token from `{realm}`, which is no address of a token server: {why}")]
    Realm {
        /// The registry.
        host: String,
        /// The address that it names.
        realm: String,
        /// What is wrong with it.
        why: String,
    },
    /// The registry asks for a login in no way that is known here.
    #[error("{host} {way}")]
    NoWay {
        /// The registry.
        host: String,
        /// What it asks for.
        way: NoWay,
    },
    /// What answers there has no registry's API.
    #[error("{host} answers as no registry does: {url} {}answered {status}", to.as_deref().map(|to| format!("redirects to {to}, and that ")).unwrap_or_default())]
    NotOne {
        /// What was asked.
        host: String,
        /// The address of the API.
        url: String,
        /// Where a redirect led.
        to: Option<String>,
        /// What was answered.
        status: u16,
    },
    /// The registry has no such image, or says so to who may not see it.
    #[error("{host} has no {repository}{}{wanted}{}", before(wanted), words(said.as_deref()))]
    NotFound {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
        /// The tag or digest.
        wanted: String,
        /// What it says of it.
        said: Option<String>,
    },
    /// The image is not for this processor.
    #[error("{reference} is not for {wanted}; it is for {}", there.join(", "))]
    NoPlatform {
        /// The image.
        reference: String,
        /// OCI's name of the processor.
        wanted: String,
        /// Those there are.
        there: Vec<String>,
    },
    /// It is no image.
    #[error("{reference} is an artifact of type `{kind}`, and no image")]
    Artifact {
        /// What was asked for.
        reference: String,
        /// What kind of thing it is.
        kind: String,
        /// Its digest.
        digest: Digest,
        /// Its manifest.
        manifest: Vec<u8>,
    },
    /// An answer that makes no sense.
    #[error("{url} answers wrongly: {why}")]
    Answer {
        /// The address.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// Other bytes than those asked for.
    #[error("{url} sends bytes of SHA-256 {actual}, but {wanted} was asked for")]
    WrongDigest {
        /// The address.
        url: String,
        /// What was asked for.
        wanted: Digest,
        /// What came.
        actual: Digest,
    },
    /// The registry begins an upload and knows nothing of it.
    #[error("{url}: the registry does not know the upload that it began (404)")]
    NoUpload {
        /// Where the upload was to go on.
        url: String,
    },
    /// What was to be sent is damaged here.
    #[error("blob {wanted} is damaged here: its bytes have SHA-256 {actual}")]
    Damaged {
        /// What it should be.
        wanted: Digest,
        /// What it is.
        actual: Digest,
    },
    /// What was to be sent can't be read.
    #[error("can't read blob {blob}: {why}")]
    Source {
        /// Which one.
        blob: Digest,
        /// Why.
        why: String,
    },
    /// A credential helper failed.
    #[error("the credential helper `{name}` failed: {why}")]
    Helper {
        /// Its name, behind `docker-credential-`.
        name: String,
        /// What went wrong.
        why: String,
    },
    /// A file of logins that can't be read or written.
    #[error("{}: {why}", path.display())]
    Logins {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// It can be read, and is no such file.
        is_other: bool,
    },
    /// The network or the server.
    #[error(transparent)]
    Fetch(#[from] sconce_fetch::Error),
}

impl Error {
    /// Nothing may be fetched.
    pub fn is_offline(&self) -> bool {
        matches!(self, Self::Fetch(sconce_fetch::Error::Offline { .. }))
    }

    /// What to do about it, where something can be said.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Reference { .. } => "write HOST/NAME:TAG, as for `docker pull`".to_owned(),
            Self::Denied { repository, .. } if repository.is_empty() => {
                "check the user name and the password; many registries want a token in its place"
                    .to_owned()
            }
            Self::Denied { login, said: Some(_), .. } => format!(
                "if it is for the login, `{login}` takes another one; otherwise what it says is the reason"
            ),
            Self::Denied { login, known: false, .. } => format!("`{login}`"),
            Self::Denied { login, writes: true, .. } => {
                format!("log in as somebody who may write there: `{login}`")
            }
            Self::Denied { login, .. } => format!("log in anew: `{login}`"),
            Self::Realm { .. } => {
                "whoever runs the registry names the whole address of its token server there, as `https://HOST/token`"
                    .to_owned()
            }
            Self::NoWay { way: NoWay::NoRealm, .. } => {
                "whoever runs the registry names its token server there, as `Bearer realm=\"https://HOST/token\"`"
                    .to_owned()
            }
            Self::NoWay { .. } => {
                "registries take `Basic` or `Bearer`: whoever runs it, or the proxy before it, has to offer one of them"
                    .to_owned()
            }
            Self::NotOne { .. } => {
                "look at the name of the registry and its port; 443 if none is given".to_owned()
            }
            Self::Artifact { reference, .. } => {
                format!("`sconce show {reference}` lists what it holds")
            }
            Self::NotFound { .. } => {
                "look at the name and the tag; some registries say this to who is not logged in"
                    .to_owned()
            }
            // One for another system (`windows/amd64`) is of no use here.
            Self::NoPlatform { there, .. } => match there.iter().find(|is_for| !is_for.contains('/')) {
                Some(first) => format!(
                    "`--platform linux/{first}` has `sconce pull`, `copy`, `show` and others take that one; only machines of that kind run it"
                ),
                None => return None,
            },
            Self::Answer { .. } | Self::WrongDigest { .. } => {
                "the fault is the registry's or a proxy's: try again later, or another registry"
                    .to_owned()
            }
            Self::NoUpload { .. } => {
                "it is for whoever runs it: several servers behind one address have to share uploads, and a proxy has to leave their paths as they are"
                    .to_owned()
            }
            Self::Damaged { .. } | Self::Source { .. } => {
                "build or pull the image again: what is missing is made or fetched anew".to_owned()
            }
            Self::Helper { .. } => {
                "run it by hand, or remove it from credHelpers and credsStore of config.json and `sconce login` again"
                    .to_owned()
            }
            // `sconce login` reads it too.
            Self::Logins { path, is_other: true, .. } => {
                let file = path.display().to_string();
                format!(
                    "mend it, or move it away and log in again: `mv {} {}`",
                    in_shell(&file),
                    in_shell(&format!("{file}.broken"))
                )
            }
            Self::Logins { path, .. } => {
                format!("`ls -ld {}` shows whose it is", in_shell(&path.display().to_string()))
            }
            Self::Fetch(sconce_fetch::Error::Tls { fault, .. }) => match fault {
                TlsFault::Client(_) => {
                    "NAME.cert and NAME.key in certs.d/HOST[:PORT] are the certificate that it is shown (docs/registry.md)"
                        .to_owned()
                }
                TlsFault::Untrusted | TlsFault::Other(_) => {
                    "trust the authority of its certificate: --ca FILE, or a ca.crt in certs.d (docs/registry.md); a certificate must not be an authority's own"
                        .to_owned()
                }
                fault => return fault.hint(),
            },
            Self::Fetch(sconce_fetch::Error::PlainHttp { may_be_asked: true, .. }) => {
                "`--plain-http` asks it without TLS, and sends passwords so".to_owned()
            }
            Self::Fetch(sconce_fetch::Error::OnlyTls { url, wanted_plain }) => {
                with_tls(url, *wanted_plain)
            }
            Self::Fetch(sconce_fetch::Error::NoTls { .. } | sconce_fetch::Error::NoHttp { .. }) => {
                "look at the name of the registry and its port; 443 if none is given".to_owned()
            }
            // So do servers of TLS that don't say it: with a status alone, or an alert in place of HTTP.
            Self::Fetch(
                sconce_fetch::Error::Status { url, status: 400, said: None, .. }
                | sconce_fetch::Error::BadAnswer { url, .. },
            ) if url.starts_with("http://") => {
                "does it speak TLS? Name the authority of its certificate then: --ca FILE, or a ca.crt in certs.d (docs/registry.md)"
                    .to_owned()
            }
            Self::Fetch(sconce_fetch::Error::Status { status: 405, .. }) => {
                "it takes nothing: a `sconce serve` takes images with --writable, else it only gives them out"
                    .to_owned()
            }
            // It says the reason itself, and to ask again would change nothing.
            Self::Fetch(sconce_fetch::Error::Status { status: 400..=499, said: Some(_), .. }) => {
                return None;
            }
            Self::Fetch(sconce_fetch::Error::Status { status: 404 | 410, .. }) => {
                "look at the name; it may not be a registry".to_owned()
            }
            Self::Fetch(error) if is_unreachable(error) => {
                "check the name of the registry, the network and the proxy (HTTPS_PROXY)".to_owned()
            }
            Self::Fetch(error) => return error.hint(),
        })
    }
}

/// A word as a shell takes it.
pub(crate) fn in_shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    match text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// What a registry says, behind what it comes to. That there is no such thing it need not repeat.
fn words(said: Option<&str>) -> String {
    const SAME: [&str; 4] = ["manifest unknown", "blob unknown", "not found", "unauthorized"];
    let said = said.filter(|said| !SAME.iter().any(|same| said.eq_ignore_ascii_case(same)));
    said.map_or(String::new(), |said| format!("; it says: {said}"))
}

/// What stands between a name and its tag or digest.
fn before(wanted: &str) -> char {
    if wanted.contains(':') { '@' } else { ':' }
}

/// What lets a registry be asked over TLS: this machine itself is not without a certificate for it.
/// `wanted_plain` says that `--plain-http` was given.
fn with_tls(url: &str, wanted_plain: bool) -> String {
    const NAME: &str = "name the authority of its certificate: --ca FILE, or a ca.crt in certs.d (docs/registry.md); without one this machine itself is asked over plain HTTP";
    let host = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next();
    match (host.is_some_and(is_loopback), wanted_plain) {
        (true, true) => format!("leave --plain-http away, and {NAME}"),
        (true, false) => NAME.to_owned(),
        (false, true) => "leave --plain-http away".to_owned(),
        // A redirect led there.
        (false, false) => "the fault is on the side of the server that sends there".to_owned(),
    }
}

/// What was refused, in words.
fn refused(repository: &str, writes: bool) -> String {
    match (repository, writes) {
        ("", _) => "to log in".to_owned(),
        (name, true) => format!("to take anything for {name}"),
        (name, false) => format!("to show {name}"),
    }
}

fn is_unreachable(error: &sconce_fetch::Error) -> bool {
    match error {
        sconce_fetch::Error::Unreachable { .. } => true,
        sconce_fetch::Error::GaveUp { source, .. } => is_unreachable(source),
        _ => false,
    }
}
