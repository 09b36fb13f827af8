//! An HTTP/1.1 server on 127.0.0.1 that serves bytes from memory, and misbehaves when told to.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How one request goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection closes after so many bytes of the body.
    CutAfter(usize),
    /// Nothing more comes after so many bytes of the body; the connection stays open.
    StallAfter(usize),
    /// This status with no body; `Retry-After` in seconds where given.
    Status(u16, Option<u64>),
    /// `Content-Length` says so much more than the body has.
    LengthTooLarge(usize),
    /// The whole file comes with status 200, whatever range was asked for.
    IgnoreRange,
    /// The answer to a range has this first byte in `Content-Range`.
    WrongRange(u64),
    /// The answer to a range has this for the size of the whole in `Content-Range`.
    WrongTotal(u64),
    /// 302 to this address or path.
    Redirect(String),
    /// So many bytes, then a pause, again and again.
    Slow(usize, Duration),
    /// This body instead, with status 200 and the range ignored.
    Other(Vec<u8>),
    /// The connection closes without an answer.
    HangUp,
    /// These bytes instead of an HTTP answer.
    Raw(Vec<u8>),
    /// A body without `Content-Length` that never ends.
    Endless,
}

/// What was asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method, such as `GET`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers, names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// The value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct World {
    files: HashMap<String, (String, Arc<[u8]>)>,
    once: HashMap<String, VecDeque<Fault>>,
    always: HashMap<String, Fault>,
    guards: Vec<Guard>,
    requests: Vec<Request>,
    connections: usize,
}

/// Who may see the paths that begin with `prefix`.
struct Guard {
    prefix: String,
    authorization: String,
    challenge: String,
}

/// The server; it stops when dropped.
pub struct Server {
    address: SocketAddr,
    world: Arc<Mutex<World>>,
    stopped: Arc<AtomicBool>,
}

impl Server {
    /// Starts one on a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on the loopback interface");
        let address = listener.local_addr().expect("its address");
        let world = Arc::new(Mutex::new(World::default()));
        let stopped = Arc::new(AtomicBool::new(false));
        let (shared, stop) = (world.clone(), stopped.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let (world, stop) = (shared.clone(), stop.clone());
                world.lock().unwrap_or_else(PoisonError::into_inner).connections += 1;
                // A client that goes away in the middle is part of many tests.
                std::thread::spawn(move || stream.and_then(|s| converse(s, &world, &stop)));
            }
        });
        Self { address, world, stopped }
    }

    /// The address of a path: `http://127.0.0.1:PORT/path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Serves `bytes` at `path` as `application/octet-stream`.
    pub fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.put_as(path, "application/octet-stream", bytes);
    }

    /// Serves `bytes` at `path` with a content type.
    pub fn put_as(&self, path: &str, content_type: &str, bytes: impl Into<Vec<u8>>) {
        let file = (content_type.to_owned(), bytes.into().into());
        self.world().files.insert(path.to_owned(), file);
    }

    /// The next request for `path` that has no fault yet goes wrong in this way.
    pub fn once(&self, path: &str, fault: Fault) {
        self.world().once.entry(path.to_owned()).or_default().push_back(fault);
    }

    /// Every request for `path` goes wrong in this way, once those of [`Server::once`] are used up.
    pub fn always(&self, path: &str, fault: Fault) {
        self.world().always.insert(path.to_owned(), fault);
    }

    /// Paths that begin with `prefix` are shown only to who sends this `Authorization`; others get
    /// 401 with this `WWW-Authenticate`.
    pub fn guard(&self, prefix: &str, authorization: &str, challenge: &str) {
        self.world().guards.push(Guard {
            prefix: prefix.to_owned(),
            authorization: authorization.to_owned(),
            challenge: challenge.to_owned(),
        });
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.world().requests.clone()
    }

    /// The requests for one path so far.
    pub fn requests_for(&self, path: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.path == path).collect()
    }

    /// How many connections were opened so far.
    pub fn connections(&self) -> usize {
        self.world().connections
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // Wakes the listening thread; it may be gone already.
        let _ = TcpStream::connect(self.address);
    }
}

/// Answers the requests of one connection.
fn converse(stream: TcpStream, world: &Mutex<World>, stop: &AtomicBool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    while let Some(request) = read_request(&mut reader)? {
        let (fault, file, refused) = {
            let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
            let path = request.path.clone();
            let once = world.once.get_mut(&path).and_then(VecDeque::pop_front);
            let fault = once.or_else(|| world.always.get(&path).cloned());
            let bare = path.split('?').next().unwrap_or_default();
            let file = world.files.get(&path).or_else(|| world.files.get(bare)).cloned();
            let guard = world.guards.iter().find(|guard| path.starts_with(&guard.prefix));
            let refused = guard
                .filter(|guard| request.header("authorization") != Some(&guard.authorization))
                .map(|guard| guard.challenge.clone());
            world.requests.push(request.clone());
            (fault, file, refused)
        };
        if let Some(challenge) = refused {
            write!(
                out,
                "HTTP/1.1 401 No\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\n\r\n"
            )?;
            continue;
        }
        if !answer(&mut out, &request, fault, file, stop)? {
            break;
        }
    }
    out.shutdown(Shutdown::Both)
}

pub(crate) fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.take(16 << 10).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.take(16 << 10).read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Some(Request { method, path, headers }))
}

/// Where a range of a file of `len` bytes begins and ends: `bytes=5-`, `bytes=5-9`, `bytes=-5`.
fn part(range: &str, len: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) => Some((first, len.min(last.saturating_add(1)))),
        (Ok(first), Err(_)) if last.is_empty() => Some((first, len)),
        (Err(_), Ok(count)) if first.is_empty() => Some((len.saturating_sub(count), len)),
        _ => None,
    }
}

/// Sends one answer; says whether the connection can go on.
fn answer(
    out: &mut TcpStream,
    request: &Request,
    fault: Option<Fault>,
    file: Option<(String, Arc<[u8]>)>,
    stop: &AtomicBool,
) -> io::Result<bool> {
    match &fault {
        Some(Fault::Status(status, after)) => {
            let after = after.map(|s| format!("Retry-After: {s}\r\n")).unwrap_or_default();
            write!(out, "HTTP/1.1 {status} No\r\n{after}Content-Length: 0\r\n\r\n")?;
            return Ok(true);
        }
        Some(Fault::Redirect(to)) => {
            write!(out, "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")?;
            return Ok(true);
        }
        Some(Fault::HangUp) => return Ok(false),
        Some(Fault::Raw(bytes)) => {
            out.write_all(bytes)?;
            return Ok(false);
        }
        Some(Fault::Endless) => {
            write!(out, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            while !stop.load(Ordering::Acquire) {
                out.write_all(&[0; 4096])?;
            }
            return Ok(false);
        }
        _ => {}
    }
    let (content_type, whole) = match (&fault, file) {
        (Some(Fault::Other(bytes)), _) => {
            ("application/octet-stream".to_owned(), bytes.clone().into())
        }
        (_, Some(file)) => file,
        _ => {
            write!(out, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            return Ok(true);
        }
    };
    let mut body = &whole[..];
    let asked = request
        .header("range")
        .and_then(|range| part(range, whole.len()))
        .filter(|_| !matches!(fault, Some(Fault::IgnoreRange | Fault::Other(_))));
    let tag = format!("\"{}\"", sconce_blob::Digest::of(&whole).short());
    let fresh = request.header("if-range").is_none_or(|known| known == tag);
    let mut status = "200 OK".to_owned();
    let mut range = String::new();
    if let Some((start, end)) = asked.filter(|_| fresh) {
        if start >= whole.len() {
            let all = whole.len();
            write!(
                out,
                "HTTP/1.1 416 No\r\nContent-Range: bytes */{all}\r\nContent-Length: 0\r\n\r\n"
            )?;
            return Ok(true);
        }
        body = &whole[start..end];
        let said = match fault {
            Some(Fault::WrongRange(said)) => said,
            _ => start as u64,
        };
        status = "206 Partial Content".to_owned();
        let total = match fault {
            Some(Fault::WrongTotal(total)) => total,
            _ => whole.len() as u64,
        };
        range = format!("Content-Range: bytes {said}-{}/{total}\r\n", end - 1);
    }
    let length = match fault {
        Some(Fault::LengthTooLarge(more)) => body.len() + more,
        _ => body.len(),
    };
    write!(
        out,
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nETag: {tag}\r\n{range}\
         Content-Length: {length}\r\n\r\n"
    )?;
    if request.method == "HEAD" {
        return Ok(true);
    }
    match fault {
        Some(Fault::CutAfter(n)) => {
            out.write_all(&body[..n.min(body.len())])?;
            Ok(false)
        }
        Some(Fault::StallAfter(n)) => {
            out.write_all(&body[..n.min(body.len())])?;
            while !stop.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(false)
        }
        Some(Fault::Slow(step, pause)) => {
            for piece in body.chunks(step.max(1)) {
                out.write_all(piece)?;
                std::thread::sleep(pause);
            }
            Ok(true)
        }
        Some(Fault::LengthTooLarge(_)) => {
            out.write_all(body)?;
            Ok(false)
        }
        _ => {
            out.write_all(body)?;
            Ok(true)
        }
    }
}
