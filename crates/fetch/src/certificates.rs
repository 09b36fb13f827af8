//! Certificates of one's own, beside those of the system: authorities, and what a client shows.
//!
//! All of it is checked before it goes to ureq, which panics at a client's certificate that rustls refuses.

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use sconce_store::shell;
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

/// What is wrong with a file of certificates or a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing of the kind stands in it in PEM, but this.
    #[error("no certificate in PEM: {0}")]
    NoCertificate(Held),
    /// Nothing of the kind stands in it in PEM, but this.
    #[error("no private key in PEM: {0}")]
    NoKey(Held),
    /// It has a password.
    #[error("its key is encrypted, and no password is asked for")]
    Encrypted,
    /// What stands between the lines of PEM is none, or of X.509 version 1, as `openssl x509 -req` makes it without extensions.
    #[error("its certificate is damaged, or not of X.509 version 3")]
    BadCertificate,
    /// What stands between the lines of PEM is none, or of a kind that is not known.
    #[error("its key is damaged, or neither RSA, ECDSA (P-256, P-384) nor Ed25519")]
    BadKey,
    /// The key is that of another certificate.
    #[error("its key is not that of the certificate beside it")]
    OtherKey,
}

/// What stands in a file in the place of what was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Not a byte.
    Nothing,
    /// An object of ASN.1 as it is.
    Der,
    /// This, in PEM.
    Pem(&'static str),
    /// Something else.
    Other,
}

/// The words of PEM (RFC 7468; OpenSSL's PEM_read(3); OpenSSH's PROTOCOL.key), and what they stand for.
const LABELS: [(&str, &str); 11] = [
    ("CERTIFICATE", "a certificate"),
    ("TRUSTED CERTIFICATE", "a certificate in OpenSSL's own form"),
    ("CERTIFICATE REQUEST", "a request for a certificate"),
    ("NEW CERTIFICATE REQUEST", "a request for a certificate"),
    ("X509 CRL", "a list of revoked certificates"),
    ("PUBLIC KEY", "a public key"),
    ("PRIVATE KEY", "a private key"),
    ("RSA PRIVATE KEY", "a private key"),
    ("EC PRIVATE KEY", "a private key"),
    ("ENCRYPTED PRIVATE KEY", "an encrypted private key"),
    ("OPENSSH PRIVATE KEY", "a private key of OpenSSH"),
];

impl Held {
    fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        match text.split_once("-----BEGIN ").and_then(|(_, rest)| rest.split_once("-----")) {
            Some((label, _)) => {
                let known = LABELS.iter().find(|(known, _)| *known == label);
                Self::Pem(known.map_or("something else", |(_, words)| words))
            }
            None if bytes.trim_ascii().is_empty() => Self::Nothing,
            // A SEQUENCE whose length takes one byte or two (X.690, 8.1.3).
            None if matches!(bytes, [0x30, 0x81 | 0x82, ..]) => Self::Der,
            None => Self::Other,
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => out.write_str("the file is empty"),
            Self::Der => out.write_str("the file is in DER"),
            Self::Pem(what) => write!(out, "the file holds {what}"),
            Self::Other => out.write_str("the file has no `-----BEGIN` in it"),
        }
    }
}

impl Fault {
    /// What to do about it in the file at `path`.
    pub(crate) fn hint(self, path: &Path) -> String {
        let more = |end: &str| {
            let mut longer = path.as_os_str().to_owned();
            longer.push(end);
            shell(Path::new(&longer))
        };
        let path = shell(path);
        match self {
            Self::NoCertificate(Held::Der) => {
                format!("`openssl x509 -inform DER -in {path} -out {}` makes one in PEM of it", more(".pem"))
            }
            Self::NoKey(Held::Der) => {
                format!("`openssl pkey -inform DER -in {path} -out {}` makes one in PEM of it", more(".pem"))
            }
            Self::NoCertificate(_) => {
                "name the authority's certificate: a file with `-----BEGIN CERTIFICATE-----` in it; `openssl x509 -inform DER -in FILE -out FILE.pem` makes one of a certificate in DER"
                    .to_owned()
            }
            Self::NoKey(_) => {
                "the key that belongs to the certificate is a file with `-----BEGIN PRIVATE KEY-----` in it".to_owned()
            }
            Self::Encrypted => format!(
                "`openssl pkey -in {path} -out {}` asks for the password and writes the key without it: put that in its place",
                more(".plain")
            ),
            Self::BadCertificate => format!(
                "`openssl x509 -noout -text -in {path}` shows what it is; with `-extfile FILE`, `openssl x509 -req` makes one of version 3"
            ),
            Self::BadKey => format!("`openssl pkey -noout -text -in {path}` shows what it is"),
            Self::OtherKey => format!(
                "`openssl x509 -noout -pubkey -in CERTIFICATE` and `openssl pkey -pubout -in {path}` show the same where they belong together"
            ),
        }
    }
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
    /// [`Error::Certificates`] for a file that can't be read or used. No key stands in it.
    pub fn read(authorities: &[PathBuf], client: Option<(&Path, &Path)>) -> Result<Self, Error> {
        let mut out = Self::default();
        for path in authorities {
            let found = certificates(path)?;
            // One in a bundle that can't be read is no reason to do without the others.
            let all = found.iter().map(|found| CertificateDer::from(found.der()));
            if RootCertStore::empty().add_parsable_certificates(all).0 == 0 {
                return Err(bad(path, Fault::BadCertificate));
            }
            out.authorities.extend(found);
        }
        if let Some((certificate, key)) = client {
            let chain = certificates(certificate)?;
            let bytes = read(key)?;
            check_pair((certificate, &chain), (key, &bytes))?;
            let keys = parse_pem(&bytes).filter_map(|item| match item {
                Ok(PemItem::PrivateKey(key)) => Some(key),
                _ => None,
            });
            let found = { keys }.next().ok_or_else(|| bad(key, no_key(&bytes)))?;
            out.client = Some(ClientCert::new_with_certs(&chain, found));
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

/// That rustls takes a certificate with its key: the check that ureq does without asking what comes of it.
fn check_pair(
    (certificate, chain): (&Path, &[Certificate<'_>]),
    (key, bytes): (&Path, &[u8]),
) -> Result<(), Error> {
    // In OpenSSL's older form it is said in the headers of a key like any other (RFC 1421, 4.6.1.1).
    if bytes.windows(PROC_TYPE.len()).any(|part| part == PROC_TYPE) {
        return Err(bad(key, Fault::Encrypted));
    }
    // The first one, as ureq takes it.
    let mut sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes).flatten();
    let der = sections.find_map(|(kind, der)| PrivateKeyDer::from_pem(kind, der));
    let der = der.ok_or_else(|| bad(key, no_key(bytes)))?;
    let chain = chain.iter().map(|one| CertificateDer::from(one.der()).into_owned()).collect();
    let provider = rustls::crypto::ring::default_provider();
    let signing = provider.key_provider.load_private_key(der);
    let signing = signing.map_err(|_| bad(key, Fault::BadKey))?;
    match CertifiedKey::new(chain, signing).keys_match() {
        Ok(()) => Ok(()),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(bad(key, Fault::OtherKey)),
        Err(_) => Err(bad(certificate, Fault::BadCertificate)),
    }
}

const PROC_TYPE: &[u8] = b"Proc-Type: 4,ENCRYPTED";

/// Why there is no key in a file.
fn no_key(bytes: &[u8]) -> Fault {
    match Held::of(bytes) {
        Held::Pem("an encrypted private key") => Fault::Encrypted,
        Held::Pem("a private key") => Fault::BadKey,
        held => Fault::NoKey(held),
    }
}

fn bad(path: &Path, why: Fault) -> Error {
    Error::Certificates { path: path.to_owned(), why }
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
        true => Err(bad(
            path,
            match Held::of(&bytes) {
                Held::Pem("a certificate") => Fault::BadCertificate,
                held => Fault::NoCertificate(held),
            },
        )),
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
