//! Certificates of one's own, beside those of the system: authorities, and what a client shows.

use std::fmt;
use std::path::{Path, PathBuf};

use ureq::tls::{Certificate, ClientCert, PemItem, RootCerts, parse_pem};

use crate::error::Error;

/// The largest file of certificates that is read, bytes.
const MAX_FILE: u64 = 8 << 20;

/// Certificates beside the system's. [`Certificates::default`] has none.
#[derive(Clone, Default)]
pub struct Certificates {
    authorities: Vec<Certificate<'static>>,
    client: Option<ClientCert>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, client) = (self.authorities.len(), self.client.is_some());
        write!(f, "Certificates({count} authorities, a client's: {client})")
    }
}

impl Certificates {
    /// Reads files in PEM: those of authorities, and what the client shows, a certificate with its
    /// chain and its key.
    ///
    /// # Errors
    /// [`Error::Certificates`] for a file that can't be read or holds none. No key stands in it.
    pub fn read(authorities: &[PathBuf], client: Option<(&Path, &Path)>) -> Result<Self, Error> {
        let mut out = Self::default();
        for path in authorities {
            out.authorities.extend(certificates(path)?);
        }
        if let Some((certificate, key)) = client {
            let chain = certificates(certificate)?;
            let bytes = read(key)?;
            let keys = parse_pem(&bytes).filter_map(|item| match item {
                Ok(PemItem::PrivateKey(key)) => Some(key),
                _ => None,
            });
            let none = || Error::Certificates { path: key.to_owned(), why: "no key in PEM" };
            let key = { keys }.next().ok_or_else(none)?;
            out.client = Some(ClientCert::new_with_certs(&chain, key));
        }
        Ok(out)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.authorities.is_empty() && self.client.is_none()
    }

    pub(crate) fn roots(&self) -> RootCerts {
        if self.authorities.is_empty() {
            return RootCerts::PlatformVerifier;
        }
        // What can't be read of the system's is no reason to refuse one's own.
        let system = rustls_native_certs::load_native_certs().certs;
        let system = system.iter().map(|der| Certificate::from_der(der.as_ref()).to_owned());
        let all: Vec<_> = self.authorities.iter().cloned().chain(system).collect();
        RootCerts::new_with_certs(&all)
    }

    pub(crate) fn client(&self) -> Option<ClientCert> {
        self.client.clone()
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let bytes = read(path)?;
    let found: Vec<_> = parse_pem(&bytes)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    match found.is_empty() {
        true => Err(Error::Certificates { path: path.to_owned(), why: "no certificate in PEM" }),
        false => Ok(found),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    sconce_open::read(path, MAX_FILE).map_err(|source| Error::File {
        action: "read",
        path: path.to_owned(),
        source,
    })
}
