//! Whether a server that gave no answer speaks TLS and was asked without, or the other way round. Many say nothing of it: OpenSSL's
//! hang up on who begins with `GET`, others answer with an alert, and some servers of plain HTTP wait for the end of a line or
//! hang up when a handshake comes. So it is asked once the other way, without a login and for nothing: `/`. What speaks neither may
//! say what it is when a connection comes about, as servers of SSH and of mail do.

use std::io::{ErrorKind, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use url::Url;

use super::Client;
use super::stream::{Waits, failed};
use crate::error::Error;

/// How long the other way may take: it is only for better words.
const PATIENCE: Duration = Duration::from_secs(5);

/// What servers of TLS answer who asks without, if they answer in words.
const BAD_REQUEST: u16 = 400;

/// How long a greeting is waited for.
const GREETING: Duration = Duration::from_secs(1);

/// How servers greet that speak first: RFC 4253, 4.2; RFC 5321, 3.1 and RFC 959, 5.4; RFC 3501, 7.1.5; RFC 1939, 4; RFC 6143,
/// 7.1.1.
const GREETINGS: [(&[u8], &str); 5] = [
    (b"SSH-", "a server of SSH"),
    (b"220", "a server of mail or FTP"),
    (b"* OK", "a server of IMAP"),
    (b"+OK", "a server of POP3"),
    (b"RFB ", "a server of VNC"),
];

impl Client {
    /// The failure of a request, or that its server speaks the other way, where that is so. `direct` says that no redirect led
    /// there.
    pub(super) fn spoken_otherwise(&self, asked: &Url, direct: bool, failure: Error) -> Error {
        let url = match &failure {
            Error::Unreachable { url, source } if may_be(source, asked.scheme()) => url.clone(),
            Error::BadAnswer { url, .. } if asked.scheme() == "http" => url.clone(),
            Error::NoTls { url } | Error::Status { url, .. } => url.clone(),
            _ => return failure,
        };
        let is_no_tls = matches!(failure, Error::NoTls { .. });
        let is_certain = is_no_tls || matches!(failure, Error::Status { .. });
        // A server that has answered once speaks as it was asked. Each is asked at most once, but by those who all heard at the same time
        // that it speaks no TLS, or were refused without a word.
        if !self.known().meet(asked) && !is_certain {
            return failure;
        }
        let Some(other) = other_way(asked) else { return failure };
        let Ok(proxy) = self.proxies.of(&other) else { return failure };
        let request = self.agent.get(other.as_str()).config();
        let request = request.proxy(proxy.cloned()).timeout_global(Some(PATIENCE)).build();
        let waits = Waits { stall: PATIENCE, whole: Some(PATIENCE) };
        let answer = request.call().map_err(|error| failed(error, &url, waits));
        let wanted_plain = self.options.plain_http;
        match (answer, other.scheme()) {
            (Ok(_), "https") => Error::OnlyTls { url, wanted_plain },
            (Ok(answer), _) if is_no_tls || answer.status().as_u16() != BAD_REQUEST => {
                Error::PlainHttp { url, may_be_asked: direct && !wanted_plain }
            }
            // Certificates that are not trusted, or an alert, are TLS.
            (Err(Error::Tls { .. }), "https") => Error::OnlyTls { url, wanted_plain },
            // It answers, and neither way.
            (Err(Error::NoTls { .. }), "https") if matches!(failure, Error::BadAnswer { .. }) => {
                Error::NoHttp { url, what: proxy.is_none().then(|| greeting(asked)).flatten() }
            }
            (Err(Error::BadAnswer { .. }), "http") if is_no_tls => {
                Error::NoHttp { url, what: proxy.is_none().then(|| greeting(asked)).flatten() }
            }
            _ => failure,
        }
    }
}

/// What a server is that speaks first, as it greets.
fn greeting(asked: &Url) -> Option<&'static str> {
    let host = asked.host_str()?.trim_matches(['[', ']']);
    let address = (host, asked.port_or_known_default()?).to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&address, GREETING).ok()?;
    stream.set_read_timeout(Some(GREETING)).ok()?;
    let mut bytes = [0; 16];
    let count = stream.read(&mut bytes).ok()?;
    let known = GREETINGS.iter().find(|(start, _)| bytes[..count].starts_with(start));
    known.map(|(_, what)| *what)
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
