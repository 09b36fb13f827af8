//! A small HTTP server for many short answers: one thread, no connection that waits for ever, no request of any
//! size. A stream of events (text/event-stream) is an answer that goes on.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sconce_listen::{Hosts, Strange};

/// Bytes of a request's head.
const MAX_HEAD: usize = 16 << 10;
/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// What is read at a time.
pub(crate) const PIECE: usize = 4096;
/// How often old connections are looked for.
const TICK: Duration = Duration::from_millis(250);

/// What a client is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; further ones wait, or take the place of one that only waits.
    pub connections: usize,
    /// Streams of events at a time.
    pub streams: usize,
    /// For a request's head to come.
    pub head: Duration,
    /// Between two requests of a connection.
    pub idle: Duration,
    /// For an answer to be taken.
    pub send: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            streams: 64,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            send: Duration::from_secs(30),
        }
    }
}

/// What is served.
pub trait Site {
    /// Answers a request: its method, its target with what stands behind `?`, and what it accepts.
    fn answer(&self, method: &str, target: &str, accept: &str) -> Answer;

    /// The names of hosts that it answers to, where it looks at them.
    fn hosts(&self) -> Option<&Hosts>;

    /// For streams: what is newer than a number, and its own.
    fn news(&self, after: u64) -> Option<(u64, Arc<str>)>;
}

/// The content type of an answer that goes on: its body is empty, and what it says is [`Site::news`].
pub const STREAM: &str = "text/event-stream";

/// An answer.
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its content type.
    pub kind: &'static str,
    /// What it says.
    pub body: Vec<u8>,
}

/// What a page may do: nothing but ask this address.
const PROTECTION: &str = "X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n\
Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'\r\n";

/// A connection that was not used for this long gives its place to a new one.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

struct Client {
    socket: TcpStream,
    since: Instant,
    stage: Stage,
    buffer: Vec<u8>,
}

enum Stage {
    /// Between requests, or within a head.
    Reads,
    /// Bytes to send, how many are gone, whether the connection goes on.
    Writes(Vec<u8>, usize, bool),
    /// A stream: the number of what it had last, bytes to send, how many are gone.
    Streams(u64, Arc<str>, usize),
    /// All is said: what still comes is thrown away for a moment, so that the answer is not lost with a reset.
    Drains(usize),
}

/// Answers whoever connects, for as long as the process lives.
///
/// # Errors
/// The listener can't be made not to block.
pub fn serve(listener: &TcpListener, limits: &Limits, site: &dyn Site) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut clients: VecDeque<Client> = VecDeque::new();
    loop {
        let full = clients.len() >= limits.connections.max(1);
        let mut fds: Vec<PollFd<'_>> = clients
            .iter()
            .map(|client| {
                let flags = match &client.stage {
                    Stage::Writes(..) => PollFlags::OUT,
                    Stage::Streams(_, bytes, sent) if *sent < bytes.len() => PollFlags::OUT,
                    // What comes of its client is its end.
                    Stage::Reads | Stage::Streams(..) | Stage::Drains(_) => PollFlags::IN,
                };
                PollFd::new(&client.socket, flags)
            })
            .collect();
        fds.push(PollFd::new(listener, PollFlags::IN));
        let wait = Timespec { tv_sec: 0, tv_nsec: TICK.as_nanos() as _ };
        let ready = poll(&mut fds, Some(&wait));
        if ready.is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        let woken: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let knocks = woken.last().copied().unwrap_or(false);
        let now = Instant::now();
        let mut woken = woken.into_iter();
        let mut streams = 0;
        clients.retain_mut(|client| {
            let awake = woken.next().unwrap_or(false) || client.has_news(now, site);
            let alive = !awake || client.go_on(now, site).is_ok();
            streams += usize::from(matches!(client.stage, Stage::Streams(..)));
            let one_too_many =
                matches!(client.stage, Stage::Streams(0, ..)) && streams > limits.streams;
            alive && !one_too_many && client.in_time(now, limits)
        });
        if !knocks {
            continue;
        }
        if full && let Some(at) = idlest(&clients, now) {
            clients.remove(at);
        }
        accept(listener, &mut clients, limits);
        // Nobody could be let in: not to spin.
        if full && clients.len() >= limits.connections {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn accept(listener: &TcpListener, clients: &mut VecDeque<Client>, limits: &Limits) {
    while clients.len() < limits.connections.max(1) {
        match listener.accept() {
            Ok((socket, _)) => {
                if socket.set_nonblocking(true).is_ok() {
                    let _ = socket.set_nodelay(true);
                    let since = Instant::now();
                    clients.push_back(Client {
                        socket,
                        since,
                        stage: Stage::Reads,
                        buffer: Vec::new(),
                    });
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => {
                // No descriptors left, or the client went away again.
                std::thread::sleep(Duration::from_millis(10));
                return;
            }
        }
    }
}

/// The connection that has waited longest, of those that may be let go.
fn idlest(clients: &VecDeque<Client>, now: Instant) -> Option<usize> {
    let late = clients.iter().enumerate().filter(|(_, client)| {
        now - client.since >= GRACE && !matches!(client.stage, Stage::Streams(..))
    });
    late.min_by_key(|(_, client)| client.since).map(|(at, _)| at)
}

impl Client {
    fn in_time(&self, now: Instant, limits: &Limits) -> bool {
        let most = match &self.stage {
            Stage::Reads if self.buffer.is_empty() => limits.idle,
            Stage::Reads => limits.head,
            Stage::Writes(..) => limits.send,
            Stage::Streams(_, bytes, sent) if *sent < bytes.len() => limits.send,
            // A sampler that is held up says nothing: its pages wait with it.
            Stage::Streams(..) => limits.idle,
            Stage::Drains(_) => GRACE,
        };
        now.saturating_duration_since(self.since) < most
    }

    /// Whether a stream that has sent all has something new to send.
    fn has_news(&mut self, now: Instant, site: &dyn Site) -> bool {
        let Stage::Streams(last, bytes, sent) = &mut self.stage else { return false };
        if *sent < bytes.len() {
            return false;
        }
        let Some((number, news)) = site.news(*last) else { return false };
        (*last, *bytes, *sent) = (number, news, 0);
        self.since = now;
        true
    }

    /// Does what can be done without waiting; an error where the connection is to end.
    fn go_on(&mut self, now: Instant, site: &dyn Site) -> io::Result<()> {
        loop {
            let moved = match &mut self.stage {
                Stage::Reads => self.read(now, site),
                Stage::Writes(bytes, sent, keep) => {
                    let left = bytes.get(*sent..).unwrap_or_default();
                    match self.socket.write(left) {
                        Ok(0) => Err(ErrorKind::WriteZero.into()),
                        Ok(count) => {
                            *sent += count;
                            if *sent == bytes.len() {
                                self.since = now;
                                self.stage = if *keep {
                                    Stage::Reads
                                } else {
                                    self.socket.shutdown(Shutdown::Write)?;
                                    Stage::Drains(0)
                                };
                            }
                            Ok(())
                        }
                        Err(error) => Err(error),
                    }
                }
                Stage::Streams(_, bytes, sent) => {
                    let left = bytes.as_bytes().get(*sent..).unwrap_or_default();
                    if left.is_empty() {
                        // A client has nothing to say; when it goes, it is seen here.
                        match self.socket.read(&mut [0; PIECE]) {
                            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                            Ok(_) => Err(ErrorKind::InvalidData.into()),
                            Err(error) => Err(error),
                        }
                    } else {
                        match self.socket.write(left) {
                            Ok(0) => Err(ErrorKind::WriteZero.into()),
                            Ok(count) => {
                                *sent += count;
                                self.since = now;
                                Ok(())
                            }
                            Err(error) => Err(error),
                        }
                    }
                }
                Stage::Drains(seen) => {
                    let mut piece = [0; PIECE];
                    match self.socket.read(&mut piece) {
                        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                        Ok(count) => {
                            *seen += count;
                            if *seen > (256 << 10) {
                                Err(ErrorKind::InvalidData.into())
                            } else {
                                Ok(())
                            }
                        }
                        Err(error) => Err(error),
                    }
                }
            };
            match moved {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads on, and answers a whole head. What came behind it waits in the buffer.
    fn read(&mut self, now: Instant, site: &dyn Site) -> io::Result<()> {
        if self.reply(now, site) {
            return Ok(());
        }
        let mut piece = [0; PIECE];
        match self.socket.read(&mut piece) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                if self.buffer.is_empty() {
                    self.since = now;
                }
                self.buffer.extend_from_slice(piece.get(..count).unwrap_or_default());
                self.reply(now, site);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Answers what is in the buffer, if a whole head is.
    fn reply(&mut self, now: Instant, site: &dyn Site) -> bool {
        let (answer, head_only, keep) = match parse(&self.buffer) {
            Parsed::Partial => return false,
            Parsed::Wrong(status, words) => {
                self.buffer.clear();
                (Answer { status, kind: "text/plain", body: words.into() }, false, false)
            }
            Parsed::Request { length, method, target, host, accept, keep, .. } => {
                self.buffer.drain(..length);
                let answer = match site.hosts().map(|hosts| hosts.check(host.as_deref())) {
                    Some(Err(strange)) => strange.into(),
                    Some(Ok(())) | None => site.answer(&method, &target, &accept),
                };
                (answer, method == "HEAD", keep)
            }
        };
        self.since = now;
        if answer.kind == STREAM && !head_only {
            self.stage = Stage::Streams(0, stream_head().into(), 0);
            return true;
        }
        self.stage = Stage::Writes(answer.to_bytes(head_only, keep), 0, keep);
        true
    }
}

impl From<Strange> for Answer {
    fn from(strange: Strange) -> Self {
        let (status, words) = match strange {
            Strange::NoName => (400, "the Host header is not a host name\n".to_owned()),
            Strange::Unknown(name) => (
                421,
                format!(
                    "this monitor does not answer to `{name}`; `sconce monitor --host-name {name}` makes it\n"
                ),
            ),
        };
        Self { status, kind: "text/plain", body: words.into() }
    }
}

/// What stands before a stream of events.
pub(crate) fn stream_head() -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {STREAM}\r\nCache-Control: no-store\r\n{PROTECTION}Connection: close\r\n\r\n"
    )
}

impl Answer {
    /// As it is sent.
    pub(crate) fn to_bytes(&self, head_only: bool, keep: bool) -> Vec<u8> {
        let more = match self.status {
            401 => "WWW-Authenticate: Basic realm=\"sconce monitor\"\r\n",
            405 => "Allow: GET, HEAD\r\n",
            429 => "Retry-After: 5\r\n",
            _ => "",
        };
        let end = if keep { "" } else { "Connection: close\r\n" };
        let mut bytes = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{PROTECTION}{more}{end}\r\n",
            self.status,
            reason(self.status),
            self.kind,
            self.body.len()
        )
        .into_bytes();
        if !head_only {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

pub(crate) enum Parsed {
    Partial,
    Wrong(u16, &'static str),
    Request {
        length: usize,
        method: String,
        target: String,
        host: Option<String>,
        accept: String,
        authorization: Option<String>,
        keep: bool,
    },
}

pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let large = Parsed::Wrong(431, "the request's headers are too large\n");
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Parsed::Partial,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return large,
        Err(_) => return Parsed::Wrong(400, "this is no HTTP/1.1 request\n"),
    };
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Parsed::Wrong(400, "this is no HTTP/1.1 request\n");
    };
    let exact = |name: &str| {
        let found = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| String::from_utf8_lossy(header.value).into_owned())
    };
    let header = |name: &str| exact(name).map(|text| text.to_ascii_lowercase());
    // Two parts of a way that take one each would not agree whose request it is (RFC 9112, 3.2).
    let hosts = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host"));
    if hosts.count() > 1 {
        return Parsed::Wrong(400, "the request has more than one Host header\n");
    }
    let connection = header("connection").unwrap_or_default();
    let says = |word: &str| connection.split(',').any(|part| part.trim() == word);
    let body = header("transfer-encoding").is_some()
        || header("content-length").is_some_and(|length| length.trim() != "0");
    let keep = if version == 1 { !says("close") } else { says("keep-alive") };
    Parsed::Request {
        length,
        method: method.to_owned(),
        target: target.to_owned(),
        host: exact("host").map(|host| host.trim().to_owned()),
        accept: header("accept").unwrap_or_default(),
        authorization: exact("authorization"),
        // A body that nobody reads would pass for the next request.
        keep: keep && !body,
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}
