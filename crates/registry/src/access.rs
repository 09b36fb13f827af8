//! How registries are reached: with which certificates and logins, with TLS or without.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sconce_fetch::http::{Client, Options};
use sconce_fetch::peers::Peers;
use sconce_fetch::{Certificates, Netrc};

use crate::error::{Error, in_shell};
use crate::logins::Logins;
use crate::reference::{HUB, is_loopback};

/// Folders with a folder for each registry (Docker's "certs.d", containers-certs.d(5)).
const CERTIFICATES: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// Blobs up to this size are sent in one request, and larger ones in chunks of it, bytes.
const CHUNK: u64 = 64 << 20;

/// The way to all registries. Connections are shared by whoever asks the same one.
pub struct Access {
    options: Options,
    logins: Logins,
    folders: Vec<PathBuf>,
    ca: Option<PathBuf>,
    plain_http: bool,
    chunk: u64,
    hosts: Mutex<BTreeMap<String, Host>>,
}

/// The way to one registry.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) client: Arc<Client>,
    /// Scheme and host: `https://registry-1.docker.io`.
    pub(crate) base: String,
}

impl Access {
    /// With these logins. Those of `options` are for package indexes, and not used.
    #[must_use]
    pub fn new(options: Options, logins: Logins) -> Self {
        let options = Options { netrc: Netrc::default(), ..options };
        Self {
            options,
            logins,
            folders: CERTIFICATES.iter().map(PathBuf::from).collect(),
            ca: None,
            plain_http: false,
            chunk: CHUNK,
            hosts: Mutex::default(),
        }
    }

    /// With the logins and certificates that the environment names, and the user's own.
    #[must_use]
    pub fn of_environment(options: Options, env: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let mut access = Self::new(options, Logins::of_environment(env));
        if let Some(home) = env("HOME").map(PathBuf::from) {
            access.folders.insert(0, home.join(".docker/certs.d"));
            access.folders.insert(0, home.join(".config/containers/certs.d"));
        }
        access
    }

    /// Trusts the authorities in this file too.
    #[must_use]
    pub fn with_ca(mut self, ca: Option<PathBuf>) -> Self {
        self.ca = ca;
        self
    }

    /// Speaks HTTP without TLS with every registry, passwords included.
    #[must_use]
    pub fn with_plain_http(mut self, plain_http: bool) -> Self {
        self.plain_http = plain_http;
        self
    }

    /// Sends blobs of more than so many bytes in chunks of that size.
    #[must_use]
    pub fn with_chunk(mut self, bytes: u64) -> Self {
        self.chunk = bytes;
        self
    }

    pub(crate) fn chunk(&self) -> u64 {
        self.chunk
    }

    /// Other machines that may be asked for blobs first.
    #[must_use]
    pub fn peers(&self) -> &Peers {
        &self.options.peers
    }

    /// The logins.
    #[must_use]
    pub fn logins(&self) -> &Logins {
        &self.logins
    }

    /// The way to one. Without TLS only where that was asked for, or on the machine itself if no
    /// certificates are named for it.
    pub(crate) fn host(&self, host: &str) -> Result<Host, Error> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = hosts.get(host) {
            return Ok(known.clone());
        }
        let certificates = self.certificates(host)?;
        let plain = self.plain_http || (is_loopback(host) && certificates.is_empty());
        let name = if host == HUB.0 { HUB.1 } else { host };
        let scheme = if plain { "http" } else { "https" };
        let plain_http = self.plain_http;
        let options = Options { certificates, plain_http, ..self.options.clone() };
        let made =
            Host { client: Arc::new(Client::new(options)), base: format!("{scheme}://{name}") };
        hosts.insert(host.to_owned(), made.clone());
        Ok(made)
    }

    /// The command that logs in to one as it is reached here.
    pub(crate) fn login_command(&self, host: &str) -> String {
        let mut command = "sconce login ".to_owned();
        if let Some(ca) = &self.ca {
            command += &format!("--ca {} ", in_shell(&ca.display().to_string()));
        }
        if self.plain_http {
            command += "--plain-http ";
        }
        command + host
    }

    fn certificates(&self, host: &str) -> Result<Certificates, Error> {
        let mut authorities: Vec<PathBuf> = self.ca.iter().cloned().collect();
        let mut client = None;
        for folder in self.folders.iter().map(|folder| folder.join(host)) {
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            files.sort();
            for file in files {
                match file.extension().and_then(|end| end.to_str()) {
                    Some("crt") => authorities.push(file),
                    Some("cert") if client.is_none() => {
                        let key = file.with_extension("key");
                        client = Some((file, key));
                    }
                    _ => {}
                }
            }
            break;
        }
        let client: Option<(&Path, &Path)> =
            client.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
        Ok(Certificates::read(&authorities, client)?)
    }
}
