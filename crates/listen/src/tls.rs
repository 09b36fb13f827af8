//! A certificate and its key, and connections that are encrypted with them.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use crate::error::Error;

/// What a server shows of itself, and proves.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

impl Tls {
    /// From files in PEM: a certificate with its chain, and its private key (PKCS#8, SEC 1 or PKCS#1).
    ///
    /// # Errors
    /// [`Error::Tls`]: they are none, or don't belong together. Nothing of the key stands in it.
    pub fn new(certificate: &[u8], key: &[u8]) -> Result<Self, Error> {
        Self::with(certificate, key, Wants::default())
    }

    /// The same, where clients must have more than TLS of any version that is spoken here (1.2 and 1.3).
    ///
    /// # Errors
    /// As [`Tls::new`], and for the authorities.
    pub fn with(certificate: &[u8], key: &[u8], wants: Wants<'_>) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Tls { why: why.to_owned() };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.map_err(|_| wrong("the certificate is no PEM file"))?;
        if chain.is_empty() {
            return Err(wrong("there is no certificate in PEM in the file for it"));
        }
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| wrong("there is no private key in PEM, or it is encrypted"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let unfit =
            |error: rustls::Error| wrong(&format!("certificate and key can't be used: {error}"));
        let versions = if wants.newest { &[&TLS13][..] } else { rustls::DEFAULT_VERSIONS };
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let config = config.with_protocol_versions(versions).map_err(unfit)?;
        let config = match wants.clients {
            None => config.with_no_client_auth(),
            Some((authorities, must)) => {
                let mut roots = RootCertStore::empty();
                for found in CertificateDer::pem_slice_iter(authorities) {
                    let added = found.ok().and_then(|found| roots.add(found).ok());
                    added.ok_or_else(|| wrong("an authority of clients can't be read"))?;
                }
                if roots.is_empty() {
                    return Err(wrong(
                        "there is no certificate in PEM in the file of clients' authorities",
                    ));
                }
                let checks = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let checks = if must { checks } else { checks.allow_unauthenticated() };
                let checks = checks.build().map_err(|error| {
                    wrong(&format!("the authorities of clients can't be used: {error}"))
                })?;
                config.with_client_cert_verifier(checks)
            }
        };
        Ok(Self(Arc::new(config.with_single_cert(chain, key).map_err(unfit)?)))
    }
}

/// What a client must have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wants<'a> {
    /// The authorities of clients' certificates, PEM, and whether a client without a certificate is refused.
    pub clients: Option<(&'a [u8], bool)>,
    /// TLS 1.3.
    pub newest: bool,
}

/// A connection, in the clear or encrypted, that waits for nobody past a moment.
pub struct Connection<'a> {
    wire: Wire<'a>,
    tls: Option<Box<ServerConnection>>,
}

/// The socket. However its bytes drip, no read or write goes on after `end`.
struct Wire<'a> {
    socket: &'a TcpStream,
    end: Cell<Instant>,
}

impl<'a> Connection<'a> {
    /// Over a socket, encrypted where `tls` is given.
    ///
    /// # Errors
    /// No session can be begun.
    pub fn new(socket: &'a TcpStream, tls: Option<&Tls>) -> io::Result<Self> {
        let session = |tls: &Tls| ServerConnection::new(Arc::clone(&tls.0)).map(Box::new);
        let tls = tls.map(session).transpose().map_err(io::Error::other)?;
        Ok(Self { wire: Wire { socket, end: Cell::new(Instant::now()) }, tls })
    }

    /// Until when reads and writes wait.
    pub fn until(&self, end: Instant) {
        self.wire.end.set(end);
    }

    /// Says that nothing more will be sent.
    ///
    /// # Errors
    /// The other side is gone, or takes nothing.
    pub fn finish(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            while tls.wants_write() {
                tls.write_tls(&mut self.wire)?;
            }
        }
        self.wire.socket.shutdown(Shutdown::Write)
    }
}

impl Read for Connection<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.wire).read(buf),
            None => self.wire.read(buf),
        }
    }
}

impl Write for Connection<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.wire).write(buf),
            None => self.wire.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.wire).flush(),
            None => Ok(()),
        }
    }
}

impl Wire<'_> {
    fn left(&self) -> io::Result<std::time::Duration> {
        match self.end.get().saturating_duration_since(Instant::now()) {
            left if left.is_zero() => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(left),
        }
    }
}

impl Read for Wire<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.left()?))?;
        self.socket.read(buf)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        self.socket.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
