//! A certificate and its key, and connections that are encrypted with them.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

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
        let wrong = |why: &str| Error::Tls { why: why.to_owned() };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.map_err(|_| wrong("the certificate is no PEM file"))?;
        if chain.is_empty() {
            return Err(wrong("there is no certificate in PEM in the file for it"));
        }
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| wrong("there is no private key in PEM, or it is encrypted"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| wrong(&format!("certificate and key can't be used: {error}")))?;
        Ok(Self(Arc::new(config)))
    }
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
