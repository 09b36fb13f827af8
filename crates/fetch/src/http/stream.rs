//! An answer as it comes: its status, what it says of a failure, its body at the pace it has.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use url::Url;

use super::tls::{TlsFault, is_no_tls};
use super::tries::{now, retry_after};
use crate::error::Error;

/// How much of an answer is read for what it says of a failure, bytes.
const MAX_SAID: u64 = 4096;

/// An answer whose body is still to be read.
pub struct Stream {
    /// The status of the last answer, redirects followed.
    pub status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    /// Where it came from after redirects.
    pub url: Url,
    pub(super) body: ureq::BodyReader<'static>,
    pub(super) shown: String,
    /// [`Options::plain_http`](super::Options).
    pub(super) wanted_plain: bool,
    pub(super) waits: Waits,
    pub(super) pace: Pace,
}

impl Stream {
    /// Makes any other status an error.
    pub fn accepted(mut self, statuses: &[u16]) -> Result<Self, Error> {
        if statuses.contains(&self.status) {
            return Ok(self);
        }
        let retry_after = self.header("retry-after").and_then(|text| retry_after(text, now()));
        let mut start = Vec::new();
        // The status says enough; the body is only to add to it.
        let read = (&mut self.body).take(MAX_SAID).read_to_end(&mut start);
        if self.status == 400 && self.shown.starts_with("http://") && asks_for_tls(&start) {
            return Err(Error::OnlyTls { url: self.shown, wanted_plain: self.wanted_plain });
        }
        let kind = self.header("content-type").unwrap_or_default();
        let said =
            read.ok().and_then(|_| match kind.split(';').next().unwrap_or_default().trim() {
                "text/plain" => str::from_utf8(&start).ok()?.lines().next().map(str::to_owned),
                "application/json" => message(&start),
                _ => None,
            });
        let plain = |text: &String| !text.is_empty() && !text.contains(char::is_control);
        let said = said.map(|text| text.trim().chars().take(200).collect()).filter(plain);
        Err(Error::Status { url: self.shown, status: self.status, said, retry_after })
    }

    /// The value of a header, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The values of a header that may stand there several times.
    pub fn each(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// Reads some of the body; `before` bytes of the whole came earlier (for the error).
    pub fn read(&mut self, buf: &mut [u8], before: u64) -> Result<usize, Error> {
        loop {
            let begun = Instant::now();
            match self.body.read(buf) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(n) => {
                    if n > 0
                        && let Some((bytes, waited)) = self.pace.took(n as u64, begun.elapsed())
                    {
                        return Err(Error::Slow { url: self.shown.clone(), bytes, waited });
                    }
                    return Ok(n);
                }
                Err(error) => {
                    return Err(match failed(error.into(), &self.shown, self.waits) {
                        Error::Unreachable { url, source } => match *source {
                            ureq::Error::Io(_) | ureq::Error::Protocol(_) => {
                                Error::CutOff { url, got: before, expected: None }
                            }
                            source => Error::BadAnswer { url, why: source.to_string() },
                        },
                        error => error,
                    });
                }
            }
        }
    }
}

/// How long is waited for an answer: without a byte, and for all of it.
#[derive(Clone, Copy)]
pub(super) struct Waits {
    pub(super) stall: Duration,
    pub(super) whole: Option<Duration>,
}

/// What a registry says in its answer (distribution-spec, "Error Codes").
fn message(json: &[u8]) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(json).ok()?;
    answer["errors"][0]["message"].as_str().map(str::to_owned)
}

/// What servers of TLS say with status 400 to who asks without, wherever it stands in their page.
const WITHOUT_TLS: [&str; 3] = [
    // Go's net/http: distribution, Harbor's registry.
    "Client sent an HTTP request to an HTTPS server",
    // nginx.
    "The plain HTTP request was sent to HTTPS port",
    // Apache httpd.
    "speaking plain HTTP to an SSL-enabled server port",
];

fn asks_for_tls(page: &[u8]) -> bool {
    let page = String::from_utf8_lossy(page);
    WITHOUT_TLS.iter().any(|words| page.contains(words))
}

/// How much a connection brings in the time that is waited for it.
pub(super) struct Pace {
    limit: Duration,
    /// Bytes a second.
    slowest: u64,
    bytes: u64,
    waited: Duration,
}

impl Pace {
    pub(super) fn new(limit: Duration, slowest: u64) -> Self {
        Self { limit, slowest, bytes: 0, waited: Duration::ZERO }
    }

    /// Counts one read; bytes and time where they are too few. Time between reads is ours, not the server's.
    fn took(&mut self, bytes: u64, waited: Duration) -> Option<(u64, Duration)> {
        self.bytes += bytes;
        self.waited += waited;
        if self.waited < self.limit {
            return None;
        }
        let (bytes, waited) = (self.bytes, self.waited);
        *self = Self::new(self.limit, self.slowest);
        let least = waited.as_millis().saturating_mul(u128::from(self.slowest)) / 1000;
        (u128::from(bytes) < least).then_some((bytes, waited))
    }
}

/// A failure of the client library, as one of ours.
pub(super) fn failed(error: ureq::Error, url: &str, waits: Waits) -> Error {
    let url = url.to_owned();
    match error {
        ureq::Error::Timeout(
            ureq::Timeout::PerRead
            | ureq::Timeout::PerWrite
            | ureq::Timeout::RecvResponse
            | ureq::Timeout::RecvBody,
        ) => Error::Stalled { url, waited: waits.stall },
        ureq::Error::Timeout(ureq::Timeout::Global) => {
            Error::Late { url, waited: waits.whole.unwrap_or_default() }
        }
        ureq::Error::TooManyRedirects | ureq::Error::RedirectFailed => {
            Error::BadAnswer { url, why: "it redirects without end".to_owned() }
        }
        ureq::Error::Protocol(error) => Error::BadAnswer { url, why: error.to_string() },
        error if is_no_tls(&error) => Error::NoTls { url },
        ureq::Error::BadUri(_) => Error::BadAnswer { url, why: "a bad redirect".to_owned() },
        error => match TlsFault::of(&error) {
            Some(fault) => Error::Tls { url, fault },
            None => Error::Unreachable { url, source: Box::new(error) },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::SLOWEST;
    use super::*;

    #[test]
    fn a_pace_is_counted_by_the_time_that_is_waited() {
        let mut pace = Pace::new(Duration::from_secs(10), SLOWEST);
        assert_eq!(pace.took(1, Duration::from_secs(9)), None);
        let slow = (2, Duration::from_secs(10));
        assert_eq!(pace.took(1, Duration::from_secs(1)), Some(slow));
        // It is counted anew after each stretch.
        assert_eq!(pace.took(1 << 20, Duration::from_secs(10)), None);
        assert_eq!(pace.took(100, Duration::from_secs(9)), None);
        assert_eq!(pace.took(20 << 10, Duration::from_secs(1)), None);
    }
}
