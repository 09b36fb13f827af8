//! The head of a request, read strictly (RFC 9112): what is odd is refused, not guessed at.

use std::fmt;

/// The most bytes of a request line with all headers.
pub(crate) const MAX_HEAD: usize = 16 << 10;
/// The most headers.
const MAX_HEADERS: usize = 64;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`.
    pub method: String,
    /// The path: `/v2/`.
    pub path: String,
    /// What stands behind the `?`.
    pub query: String,
    /// `Host`, as it stands there.
    pub host: Option<String>,
    /// `Authorization`.
    pub authorization: Option<Secret>,
    /// `Range`, as it stands there.
    pub range: Option<String>,
    /// `If-Range`.
    pub if_range: Option<String>,
    /// `If-None-Match`.
    pub if_none_match: Option<String>,
    /// Whether the connection may serve another request.
    pub keep_alive: bool,
    /// Whether a body follows.
    pub has_body: bool,
    /// How it ends.
    pub framing: Framing,
    /// Whether the client waits to be told to go on before it sends it (`Expect: 100-continue`).
    pub asks: bool,
    /// `Content-Range`, as it stands there.
    pub content_range: Option<String>,
    /// `Content-Type`, as it stands there.
    pub content_type: Option<String>,
    /// Whether a browser sends it, for any page that somebody has open there: no engine does what one does.
    pub of_browser: bool,
}

/// How the body of a request ends (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked,
}

/// What nobody is to see.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret")
    }
}

/// A request that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is no HTTP/1.1.
    Malformed,
    /// It is HTTP/1.1 and names no host.
    NoHost,
    /// Its head has more bytes or headers than are read.
    TooLarge,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Malformed => "this is no HTTP/1.1 request",
            Self::NoHost => "a request of HTTP/1.1 must have a Host header (RFC 9112, section 3.2)",
            Self::TooLarge => "the request's headers are too large",
        })
    }
}

impl Request {
    /// Reads a head from the start of `bytes`: it, and how many bytes it has; nothing where its end is
    /// still to come.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Unreadable> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let length = match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
            Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Unreadable::TooLarge),
            Err(_) => return Err(Unreadable::Malformed),
        };
        let (Some(method), Some(target), Some(version)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(Unreadable::Malformed);
        };
        if !target.starts_with('/') || target.contains('#') {
            return Err(Unreadable::Malformed);
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let header = |name: &str| -> Result<Option<String>, Unreadable> {
            let mut found = parsed.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name));
            let Some(first) = found.next() else { return Ok(None) };
            // Two lengths are how requests are smuggled past whoever stands in front.
            if found.next().is_some() {
                return Err(Unreadable::Malformed);
            }
            let value = str::from_utf8(first.value).map_err(|_| Unreadable::Malformed)?;
            Ok(Some(value.trim().to_owned()))
        };
        let host = header("host")?;
        if version == 1 && host.is_none() {
            return Err(Unreadable::NoHost);
        }
        let connection = header("connection")?.unwrap_or_default().to_ascii_lowercase();
        let says = |word: &str| connection.split(',').any(|part| part.trim() == word);
        let framing = match (header("content-length")?, header("transfer-encoding")?) {
            (None, None) => Framing::Length(0),
            (Some(length), None) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
                Framing::Length(length.parse().map_err(|_| Unreadable::Malformed)?)
            }
            (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") => Framing::Chunked,
            // Both, or one that is none: whoever stands in front may have read it otherwise.
            _ => return Err(Unreadable::Malformed),
        };
        let has_body = framing != Framing::Length(0);
        let request = Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            host,
            authorization: header("authorization")?.map(Secret::new),
            range: header("range")?,
            if_range: header("if-range")?,
            if_none_match: header("if-none-match")?,
            keep_alive: if version == 1 { !says("close") } else { says("keep-alive") },
            has_body,
            framing,
            asks: header("expect")?.is_some_and(|what| what.eq_ignore_ascii_case("100-continue")),
            content_range: header("content-range")?,
            content_type: header("content-type")?,
            of_browser: header("origin")?.is_some()
                || header("sec-fetch-site")?.is_some()
                || header("user-agent")?.is_some_and(|agent| agent.starts_with("Mozilla/")),
        };
        Ok(Some((request, length)))
    }

    /// The value of a parameter of the query.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = url::form_urlencoded::parse(self.query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Request>, Unreadable> {
        Request::parse(text.as_bytes()).map(|found| found.map(|(request, _)| request))
    }

    #[test]
    fn what_clients_send() {
        let request = parse(
            "GET /v2/a/tags/list?n=5&last=b%2Fc HTTP/1.1\r\nHost: x\r\nrange: bytes=0-1 \r\n\r\nGET",
        );
        let request = request.unwrap().unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/v2/a/tags/list"));
        assert_eq!(request.parameter("n").as_deref(), Some("5"));
        assert_eq!(request.parameter("last").as_deref(), Some("b/c"));
        assert_eq!(request.range.as_deref(), Some("bytes=0-1"));
        assert!(request.keep_alive && !request.has_body);
        for (text, keep, body) in [
            ("GET / HTTP/1.0\r\n\r\n", false, false),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true, false),
            (
                "PUT / HTTP/1.1\r\nHost: x\r\nConnection: TE, close\r\nContent-Length: 7\r\n\r\n",
                false,
                true,
            ),
            ("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", true, true),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", true, false),
        ] {
            let request = parse(text).unwrap().unwrap();
            assert_eq!((request.keep_alive, request.has_body), (keep, body), "{text}");
        }
        assert_eq!(parse("GET /v2/ HTTP/1.1\r\nHos"), Ok(None));
        assert_eq!(parse("GET /v2/ HTTP/1.1\r\n\r\n"), Err(Unreadable::NoHost));
    }

    #[test]
    fn what_is_no_request() {
        for text in [
            "GET http://h/v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /v2/\r\n\r\n",
            "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}",
            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nRange : bytes=0-1\r\n\r\n",
        ] {
            assert_eq!(parse(text), Err(Unreadable::Malformed), "{text}");
        }
        let many = "a: b\r\n".repeat(MAX_HEADERS + 1);
        let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n", "a".repeat(MAX_HEAD));
        for text in
            [format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n"), format!("{long}\r\n"), long]
        {
            assert_eq!(parse(&text), Err(Unreadable::TooLarge), "{text}");
        }
    }
}
