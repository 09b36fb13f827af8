//! A blob as it comes: hashed, taken up again where a connection broke off, never stored.

use std::io::{self, Read};

use sconce_blob::{Digest, Hasher};
use sconce_fetch::http::{Stream, Tries, shown};
use sconce_oci::Descriptor;
use url::Url;

use crate::client::Registry;
use crate::error::Error;

/// Reads a blob, or the rest of one, once. [`BlobReader::verify`] must be asked before what was read
/// is believed; it also has the error behind a read that failed.
pub struct BlobReader<'a> {
    registry: &'a Registry,
    url: Url,
    digest: Digest,
    size: u64,
    /// Bytes that are here.
    at: u64,
    hasher: Hasher,
    stream: Option<Stream>,
    tries: Tries<'a>,
    failure: Option<Error>,
}

impl<'a> BlobReader<'a> {
    /// `begun` has seen the bytes that are here already. Nothing is asked before the first read.
    pub(crate) fn new(registry: &'a Registry, url: Url, blob: &Descriptor, begun: Hasher) -> Self {
        Self {
            registry,
            url,
            digest: blob.digest,
            size: blob.size,
            at: begun.len(),
            hasher: begun,
            stream: None,
            tries: Tries::new(registry.client.options()),
            failure: None,
        }
    }

    /// Asks for what is still missing, until an answer begins.
    fn connect(&mut self) -> Result<(), Error> {
        loop {
            match self.ask() {
                Ok(stream) => {
                    self.stream = Some(stream);
                    return Ok(());
                }
                Err(Error::Fetch(error)) => self.tries.after(error)?,
                Err(error) => return Err(error),
            }
        }
    }

    fn ask(&self) -> Result<Stream, Error> {
        let range = format!("bytes={}-", self.at);
        let mut headers = vec![("Accept-Encoding", "identity")];
        if self.at > 0 {
            headers.push(("Range", range.as_str()));
        }
        let opened = self.registry.open(&self.url, &headers, &self.digest.to_string());
        if let Err(Error::Fetch(sconce_fetch::Error::Status { status: 416, .. })) = opened {
            let size = self.size;
            return Err(self.wrong(format!("it has fewer bytes than the {size} that were named")));
        }
        let mut stream = opened?;
        if stream.status == 206 {
            let range = stream.header("content-range").and_then(ContentRange::parse);
            return match self.check_range(range) {
                Ok(()) => Ok(stream),
                Err(why) => Err(self.wrong(why)),
            };
        }
        // The whole again: pass over what is here already.
        let mut piece = vec![0; 64 << 10];
        let mut passed = 0;
        while passed < self.at {
            let wanted = (self.at - passed).min(piece.len() as u64) as usize;
            let n = stream.read(&mut piece[..wanted], passed)?;
            if n == 0 {
                return Err(self.cut_off(passed));
            }
            self.registry.count(n as u64);
            passed += n as u64;
        }
        Ok(stream)
    }

    /// Whether what a registry says of the bytes that it sends is what it was asked for: their place in the blob is
    /// taken from it, and only the end of the blob would show that they are others.
    fn check_range(&self, range: Option<ContentRange>) -> Result<(), String> {
        let Self { at, size, .. } = self;
        let asked = format!("asked for the bytes from {at} on");
        match range {
            None => Err(format!("{asked}, it sends some and does not say which (Content-Range)")),
            Some(ContentRange { start, .. }) if start != *at => {
                Err(format!("{asked}, it sends those from {start} on (Content-Range)"))
            }
            Some(ContentRange { total: Some(total), .. }) if total != *size => Err(format!(
                "it says that the blob has {total} bytes (Content-Range), and the manifest says {size}"
            )),
            Some(ContentRange { last, .. }) if last >= *size => Err(format!(
                "it sends bytes up to {last} (Content-Range) of a blob of {size} bytes"
            )),
            Some(_) => Ok(()),
        }
    }

    fn next(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        while self.at < self.size {
            let Some(stream) = &mut self.stream else {
                self.connect()?;
                continue;
            };
            let wanted = (self.size - self.at).min(buf.len() as u64) as usize;
            match stream.read(&mut buf[..wanted], self.at) {
                Ok(n) if n > 0 => {
                    self.at += n as u64;
                    self.registry.count(n as u64);
                    self.hasher.update(&buf[..n]);
                    self.tries.came(n as u64);
                    return Ok(n);
                }
                Ok(_) => self.again(self.cut_off(self.at))?,
                Err(error) => self.again(error.into())?,
            }
        }
        Ok(0)
    }

    /// Drops the connection; the next read makes another one.
    fn again(&mut self, error: Error) -> Result<(), Error> {
        self.stream = None;
        match error {
            Error::Fetch(error) => Ok(self.tries.after(error)?),
            error => Err(error),
        }
    }

    /// Reads what is left and compares the digest.
    ///
    /// # Errors
    /// [`Error::WrongDigest`], and those of the network.
    pub fn verify(mut self) -> Result<(), Error> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let mut piece = vec![0; 64 << 10];
        while self.next(&mut piece)? > 0 {}
        let actual = self.hasher.finish();
        match actual == self.digest {
            true => Ok(()),
            false => Err(Error::WrongDigest { url: shown(&self.url), wanted: self.digest, actual }),
        }
    }

    fn cut_off(&self, got: u64) -> Error {
        let (url, expected) = (shown(&self.url), Some(self.size));
        sconce_fetch::Error::CutOff { url, got, expected }.into()
    }

    fn wrong(&self, why: String) -> Error {
        Error::Answer { url: shown(&self.url), why }
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.next(buf).map_err(|error| {
            let words = error.to_string();
            self.failure = Some(error);
            io::Error::other(words)
        })
    }
}

/// `bytes 7-99/100`, where `*` in place of the 100 says that it is not known (RFC 9110, section 14.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ContentRange {
    start: u64,
    last: u64,
    total: Option<u64>,
}

impl ContentRange {
    fn parse(header: &str) -> Option<Self> {
        let (range, total) = header.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (start, last) = range.trim().split_once('-')?;
        let total = match total.trim() {
            "*" => None,
            total => Some(total.parse().ok()?),
        };
        let (start, last) = (start.trim().parse().ok()?, last.trim().parse().ok()?);
        (start <= last).then_some(Self { start, last, total })
    }
}

#[cfg(test)]
mod tests {
    use super::ContentRange;

    #[test]
    fn content_ranges() {
        let range = |start, last, total| Some(ContentRange { start, last, total });
        for (header, expected) in [
            ("bytes 7-99/100", range(7, 99, Some(100))),
            (" bytes 7-99/* ", range(7, 99, None)),
            ("bytes 7-99", None),
            ("bytes */100", None),
            ("bytes 9-7/100", None),
            ("7-99/100", None),
        ] {
            assert_eq!(ContentRange::parse(header), expected, "{header}");
        }
    }
}
