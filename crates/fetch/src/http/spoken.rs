//! Whether a server that gave no answer speaks TLS and was asked without, or the other way round. Many say nothing of it: OpenSSL's
//! hang up on who begins with `GET`, others answer with an alert, and some servers of plain HTTP wait for the end of a line or
//! hang up when a handshake comes. So it is asked once the other way, without a login and for nothing: `/`.

use std::io::ErrorKind;
use std::time::Duration;

use url::Url;

use super::Client;
use super::stream::failed;
use crate::error::Error;

/// How long the other way may take: it is only for better words.
const PATIENCE: Duration = Duration::from_secs(5);

/// What servers of TLS answer who asks without, if they answer in words.
const BAD_REQUEST: u16 = 400;

impl Client {
    /// The failure of a request, or that its server speaks the other way, where that is so.
    pub(super) fn spoken_otherwise(&self, asked: &Url, failure: Error) -> Error {
        let url = match &failure {
            Error::Unreachable { url, source } if may_be(source, asked.scheme()) => url.clone(),
            Error::BadAnswer { url, .. } if asked.scheme() == "http" => url.clone(),
            _ => return failure,
        };
        // A server that has answered once speaks as it was asked. Each is asked at most once.
        if !self.known().meet(asked) {
            return failure;
        }
        let Some(other) = other_way(asked) else { return failure };
        let Ok(proxy) = self.proxies.of(&other) else { return failure };
        let request = self.agent.get(other.as_str()).config();
        let request = request.proxy(proxy.cloned()).timeout_global(Some(PATIENCE)).build();
        let answer = request.call().map_err(|error| failed(error, &url, PATIENCE));
        match (answer, other.scheme()) {
            (Ok(_), "https") => Error::OnlyTls { url },
            (Ok(answer), _) if answer.status().as_u16() != BAD_REQUEST => Error::PlainHttp { url },
            // Certificates that are not trusted, or an alert, are TLS.
            (Err(error), "https") if error.is_of_tls() => Error::OnlyTls { url },
            _ => failure,
        }
    }
}

/// Whether a connection came about, and no answer.
fn may_be(error: &ureq::Error, scheme: &str) -> bool {
    match error {
        ureq::Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::UnexpectedEof
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
        ),
        // The handshake is a part of the time for a connection.
        ureq::Error::Timeout(ureq::Timeout::Connect) => scheme == "https",
        _ => false,
    }
}

/// The same server, asked the other way.
fn other_way(asked: &Url) -> Option<Url> {
    let mut other = asked.clone();
    let port = asked.port_or_known_default();
    other.set_scheme(if asked.scheme() == "https" { "http" } else { "https" }).ok()?;
    other.set_port(port).ok()?;
    other.set_path("/");
    other.set_query(None);
    Some(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_stays() {
        for (asked, expected) in [
            ("http://h.invalid/v2/?a=b", "https://h.invalid:80/"),
            ("https://h.invalid/v2/", "http://h.invalid:443/"),
            ("http://h.invalid:5000/v2/", "https://h.invalid:5000/"),
        ] {
            let other = other_way(&Url::parse(asked).unwrap()).unwrap();
            assert_eq!(other.as_str(), expected);
        }
    }
}
