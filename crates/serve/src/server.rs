//! Connections: a thread each, so many at a time, and none that waits for a client without end.
//!
//! Half of them at most take in what clients send, and an eighth for one client: however many upload, and however slowly, the
//! other half is for those who pull.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use sconce_listen::Connection;

use crate::answer::Answer;
use crate::body::Incoming;
use crate::clients::{Client, Full, Shares};
use crate::error::Refusal;
use crate::registry::Registry;
use crate::request::{Request, Unreadable};

/// Bytes of the stack of a connection's thread.
const STACK: usize = 512 << 10;
/// How long a client may let a connection wait for its request, though others wait for a connection.
const GRACE: Duration = Duration::from_secs(1);
/// How long to wait when no connection can be taken (no descriptors left, no thread).
const PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked for what nothing comes of any more.
const SWEEP: Duration = Duration::from_secs(30);
/// What is read of a body that nobody asked for, so that the answer to it arrives: bytes and time.
const LINGER: (usize, Duration) = (256 << 10, Duration::from_secs(1));

/// What a client is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; for further ones those go that wait for a request, then those whose clients send or take
    /// slowly; else they wait until one is free. Half of them may be uploads, an eighth those of one client.
    pub connections: usize,
    /// From a request's first byte, or the connection's beginning, to the end of its headers.
    pub head: Duration,
    /// Between two requests of a connection.
    pub idle: Duration,
    /// For 256 KiB to be taken of an answer, or to come of an upload.
    pub send: Duration,
    /// The same where others wait for a connection, or for an upload of theirs.
    pub slow: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            send: Duration::from_secs(60),
            slow: Duration::from_secs(5),
        }
    }
}

/// Answers whoever connects, for as long as the process lives.
pub fn serve(listener: &TcpListener, registry: &Registry<'_>, limits: &Limits) -> ! {
    raise_descriptors();
    let slots = Slots::new(limits);
    thread::scope(|scope| {
        // Nobody need ask for anything: what is left of uploads goes all the same, and what is kept from being pruned.
        let sweep = || {
            loop {
                thread::sleep(SWEEP);
                registry.sweep();
            }
        };
        // Without a thread for it, the next upload does the same.
        drop(
            thread::Builder::new()
                .name("sweep".to_owned())
                .stack_size(STACK)
                .spawn_scoped(scope, sweep),
        );
        loop {
            let Ok((stream, client)) = listener.accept() else {
                thread::sleep(PAUSE);
                continue;
            };
            let slot = slots.take(stream);
            let builder = thread::Builder::new().name("connection".to_owned()).stack_size(STACK);
            let begun = builder.spawn_scoped(scope, move || {
                // A client that goes away, or is too slow, is not a fault of anybody's here.
                let _ = converse(&slot, client.ip(), registry, limits);
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
    slot: &Slot<'_>,
    client: IpAddr,
    registry: &Registry<'_>,
    limits: &Limits,
) -> io::Result<()> {
    let socket = &*slot.socket;
    socket.set_nodelay(true)?;
    let mut stream = Connection::new(socket, registry.tls.as_ref())?;
    let stream = &mut stream;
    let mut buffer = Vec::new();
    let mut patience = limits.head;
    loop {
        slot.waits();
        let next = next_request(stream, &mut buffer, patience, limits.head);
        slot.works();
        let request = match next? {
            Next::Request(request) => request,
            Next::Closed => return Ok(()),
            Next::Refused(refusal) => {
                Answer::from(refusal).send(stream, false, false, (slot, limits.send))?;
                return linger(stream);
            }
        };
        let head_only = request.method == "HEAD";
        let after = (slot, limits.send);
        let mut body = Incoming::new(stream, &mut buffer, request.framing, request.asks, after);
        let answer = registry.answer(&request, &mut body, client);
        // What nobody has read would be taken for the next request.
        let keep_alive = request.keep_alive && body.is_done();
        answer.send(stream, head_only, keep_alive, (slot, limits.send))?;
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
    stream: &mut Connection<'_>,
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
        let mut piece = [0; 4096];
        stream.until(end);
        match stream.read(&mut piece) {
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
fn linger(stream: &mut Connection<'_>) -> io::Result<()> {
    let (most, time) = LINGER;
    stream.until(Instant::now() + time);
    stream.finish()?;
    let (mut piece, mut seen) = ([0; 4096], 0);
    while seen < most {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => seen += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Nothing more came in time, or the other end is gone.
            Err(_) => break,
        }
    }
    Ok(())
}

/// Connections, so many at a time. Where all are taken and somebody new comes, the one goes that its client
/// has let wait for a request longest, or has let wait with a piece of an upload or an answer: who only holds connections open,
/// or sends or reads a byte now and then, keeps nobody out.
pub(crate) struct Slots {
    state: Mutex<State>,
    changed: Condvar,
    slow: Duration,
}

/// The right to take in the body of a request.
pub(crate) struct Receiving<'a> {
    slots: &'a Slots,
    who: Client,
}

struct State {
    free: usize,
    next: u64,
    /// Those of which a request, or the rest of its head, is still to come.
    waiting: Since,
    /// Those of which a piece of a body is still to come.
    sending: Since,
    /// Those that have a piece of an answer to take.
    taking: Since,
    receiving: Shares<Client>,
}

/// Since when, which, its socket.
type Since = BTreeMap<(Instant, u64), Arc<TcpStream>>;

/// The right to one connection, and its socket.
pub(crate) struct Slot<'a> {
    slots: &'a Slots,
    id: u64,
    socket: Arc<TcpStream>,
    since: Cell<Option<Instant>>,
}

impl Slots {
    fn new(limits: &Limits) -> Self {
        let all = limits.connections.max(1);
        let state = State {
            free: all,
            next: 0,
            waiting: Since::new(),
            sending: Since::new(),
            taking: Since::new(),
            receiving: Shares::new((all / 2).max(1), (all / 8).max(1)),
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), slow: limits.slow }
    }

    /// Waits until there is one.
    fn take(&self, socket: TcpStream) -> Slot<'_> {
        let mut state = self.state();
        while state.free == 0 {
            let State { waiting, sending, taking, .. } = &mut *state;
            let _ = end_late(waiting, GRACE)
                || end_late(sending, self.slow)
                || end_late(taking, self.slow);
            let waited = self.changed.wait_timeout(state, PAUSE);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.free -= 1;
        state.next += 1;
        Slot { slots: self, id: state.next, socket: Arc::new(socket), since: Cell::new(None) }
    }

    fn receive(&self, who: &Client) -> Result<Receiving<'_>, Refusal> {
        let mut state = self.state();
        match state.receiving.take(who) {
            Ok(()) => Ok(Receiving { slots: self, who: who.clone() }),
            Err(Full::Own) => Err(Refusal::too_many("too many of your uploads are coming at once")),
            Err(Full::All) => {
                // Who asks again finds room.
                end_late(&mut state.sending, self.slow);
                Err(Refusal::too_many("too many uploads are coming at once"))
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the connection that is late longest, if that is so long.
fn end_late(all: &mut Since, most: Duration) -> bool {
    let late = all.first_entry().filter(|oldest| oldest.key().0.elapsed() >= most);
    let Some(late) = late else { return false };
    // Its thread finds that it is closed, and ends. It may be already.
    let _ = late.remove().shutdown(Shutdown::Both);
    true
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        self.slots.state().receiving.give_back(&self.who);
    }
}

impl<'a> Slot<'a> {
    /// The right to take in what this client sends, for as long as it is held.
    ///
    /// # Errors
    /// It sends as much at once as one may, or all together do.
    pub(crate) fn receive(&self, who: &Client) -> Result<Receiving<'a>, Refusal> {
        self.slots.receive(who)
    }

    /// Whether the client has closed its connection, or its side of it: who still wants an answer keeps both open.
    pub(crate) fn has_left(&self) -> bool {
        // Whatever it has sent before, which peek(2) would show instead.
        let mut poll = [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::RDHUP)];
        rustix::event::poll(&mut poll, Some(&Timespec::default())).is_ok_and(|count| count > 0)
    }

    /// A request is still to come.
    fn waits(&self) {
        let now = Instant::now();
        self.since.set(Some(now));
        self.slots.state().waiting.insert((now, self.id), Arc::clone(&self.socket));
    }

    /// A piece of a body is still to come, for which this side has waited since then.
    pub(crate) fn receives(&self, since: Instant) {
        self.works();
        self.since.set(Some(since));
        self.slots.state().sending.insert((since, self.id), Arc::clone(&self.socket));
    }

    /// A piece of an answer goes to the client.
    pub(crate) fn sends(&self) {
        self.works();
        let now = Instant::now();
        self.since.set(Some(now));
        self.slots.state().taking.insert((now, self.id), Arc::clone(&self.socket));
    }

    /// It is this side that has something to do.
    pub(crate) fn works(&self) {
        if let Some(since) = self.since.take() {
            let mut state = self.slots.state();
            state.waiting.remove(&(since, self.id));
            state.sending.remove(&(since, self.id));
            state.taking.remove(&(since, self.id));
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.works();
        self.slots.state().free += 1;
        self.slots.changed.notify_one();
    }
}
