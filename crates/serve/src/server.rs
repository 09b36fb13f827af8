//! Connections: a thread each, so many at a time, and none that waits for a client without end.

use std::io::{self, Read};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::answer::Answer;
use crate::error::Refusal;
use crate::registry::Registry;
use crate::request::{Request, Unreadable};

/// Bytes of the stack of a connection's thread.
const STACK: usize = 512 << 10;
/// How long to wait when no connection can be taken (no descriptors left, no thread).
const PAUSE: Duration = Duration::from_millis(100);
/// What is read of a body that nobody asked for, so that the answer to it arrives: bytes and time.
const LINGER: (usize, Duration) = (256 << 10, Duration::from_secs(1));

/// What a client is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; further ones wait until one is free.
    pub connections: usize,
    /// From a request's first byte, or the connection's beginning, to the end of its headers.
    pub head: Duration,
    /// Between two requests of a connection.
    pub idle: Duration,
    /// For 256 KiB of an answer to be taken.
    pub send: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            send: Duration::from_secs(60),
        }
    }
}

/// Answers whoever connects, for as long as the process lives.
pub fn serve(listener: &TcpListener, registry: &Registry<'_>, limits: &Limits) -> ! {
    raise_descriptors();
    let slots = Slots::new(limits.connections);
    thread::scope(|scope| {
        loop {
            let slot = slots.take();
            let Ok((stream, client)) = listener.accept() else {
                thread::sleep(PAUSE);
                continue;
            };
            let builder = thread::Builder::new().name("connection".to_owned()).stack_size(STACK);
            let begun = builder.spawn_scoped(scope, move || {
                // A client that goes away, or is too slow, is no fault of anybody's here.
                let _ = converse(&stream, client.ip(), registry, limits);
                drop(slot);
            });
            if begun.is_err() {
                thread::sleep(PAUSE);
            }
        }
    })
}

/// Lets this process have as many open files as it may: a layer of many wheels reads from them all.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // What can't be raised stays: connections wait for descriptors then.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Answers the requests of one connection.
fn converse(
    stream: &TcpStream,
    client: IpAddr,
    registry: &Registry<'_>,
    limits: &Limits,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    let mut patience = limits.head;
    loop {
        let request = match next_request(stream, &mut buffer, patience, limits.head)? {
            Next::Request(request) => request,
            Next::Closed => return Ok(()),
            Next::Refused(refusal) => {
                Answer::from(refusal).send(stream, false, false, limits.send)?;
                return linger(stream);
            }
        };
        let keep_alive = request.keep_alive && !request.has_body;
        let head_only = request.method == "HEAD";
        let answer = registry.answer(&request, client);
        answer.send(stream, head_only, keep_alive, limits.send)?;
        if !keep_alive {
            return linger(stream);
        }
        patience = limits.idle;
    }
}

/// What came over a connection.
enum Next {
    Request(Request),
    Closed,
    Refused(Refusal),
}

/// Reads up to the end of the next request's headers. `buffer` has what came and was not used yet.
fn next_request(
    mut stream: &TcpStream,
    buffer: &mut Vec<u8>,
    patience: Duration,
    head: Duration,
) -> io::Result<Next> {
    let mut end = Instant::now() + if buffer.is_empty() { patience } else { head };
    loop {
        match Request::parse(buffer) {
            Ok(Some((request, length))) => {
                buffer.drain(..length);
                return Ok(Next::Request(request));
            }
            Ok(None) => {}
            Err(why) => {
                let status = if why == Unreadable::TooLarge { 431 } else { 400 };
                return Ok(Next::Refused(Refusal::new(status, "UNSUPPORTED", why.to_string())));
            }
        }
        let left = end.saturating_duration_since(Instant::now());
        let mut piece = [0; 4096];
        let read = match left.is_zero() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut piece)),
        };
        match read {
            Ok(0) => return Ok(Next::Closed),
            Ok(n) => {
                if buffer.is_empty() {
                    end = Instant::now() + head;
                }
                buffer.extend_from_slice(&piece[..n]);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock if buffer.is_empty() => {
                    return Ok(Next::Closed);
                }
                io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                    let why = "the request took too long";
                    return Ok(Next::Refused(Refusal::new(408, "UNSUPPORTED", why)));
                }
                _ => return Err(error),
            },
        }
    }
}

/// Ends a connection so that the last answer arrives: closed over unread bytes, the client would see a
/// reset instead.
fn linger(mut stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    let (most, time) = LINGER;
    let end = Instant::now() + time;
    let (mut piece, mut seen) = ([0; 4096], 0);
    while seen < most {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece)? {
            0 => break,
            n => seen += n,
        }
    }
    Ok(())
}

/// Counts connections.
struct Slots {
    free: Mutex<usize>,
    changed: Condvar,
}

/// The right to one connection.
struct Slot<'a>(&'a Slots);

impl Slots {
    fn new(count: usize) -> Self {
        Self { free: Mutex::new(count.max(1)), changed: Condvar::new() }
    }

    /// Waits until there is one.
    fn take(&self) -> Slot<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.changed.wait_while(free, |free| *free == 0);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.changed.notify_one();
    }
}
