//! The same answers over TLS, and for who logs in: a thread for each connection, since a password takes its time to compare and a
//! handshake waits for its client. None waits without end, and there are so many at most.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sconce_listen::{Connection, Logins, No, Tls};

use crate::server::{Answer, GRACE, Limits, PIECE, Parsed, STREAM, Site, parse, stream_head};

/// The most connections at a time: each is a thread.
const MOST: usize = 256;
/// Between two looks for news of a stream.
const LOOK: Duration = Duration::from_millis(250);
/// How much is thrown away of what a client still sends when all is said.
const DRAINED: usize = 256 << 10;

/// What keeps others out.
#[derive(Default)]
pub struct Guard {
    /// What connections are encrypted with.
    pub tls: Option<Tls>,
    /// Whether each client must have a certificate.
    pub knows_clients: bool,
    /// Who may ask.
    pub logins: Option<Logins>,
}

/// Answers whoever connects and may ask, for as long as the process lives.
///
/// # Errors
/// The listener can't be made to wait.
pub fn serve_guarded(
    listener: &TcpListener,
    limits: &Limits,
    site: &(dyn Site + Sync),
    guard: &Guard,
) -> io::Result<()> {
    listener.set_nonblocking(false)?;
    let all = Connections::default();
    let streams = AtomicUsize::new(0);
    let talk = Talk { limits, site, guard, streams: &streams };
    thread::scope(|scope| {
        loop {
            let Ok((socket, from)) = listener.accept() else {
                // No descriptors left, or the client went away again.
                thread::sleep(Duration::from_millis(10));
                continue;
            };
            let Some(place) = all.enter(&socket, limits.connections.clamp(1, MOST)) else {
                continue;
            };
            let talk = &talk;
            let begun =
                thread::Builder::new().name("https".to_owned()).spawn_scoped(scope, move || {
                    let _ = socket.set_nodelay(true);
                    // Whatever ends it is the client's.
                    let _ = talk.with(&socket, from.ip(), &place);
                });
            if begun.is_err() {
                thread::sleep(Duration::from_millis(10));
            }
        }
    })
}

/// Those that are open.
#[derive(Default)]
struct Connections(Mutex<Open>);

#[derive(Default)]
struct Open {
    last_id: u64,
    /// Each with when it was used last.
    by_id: BTreeMap<u64, (TcpStream, Instant)>,
}

/// The place of one among them, until it is dropped.
struct Place<'a>(&'a Connections, u64);

impl Connections {
    /// Makes room by ending the one that was used least of late, where all places are taken; nothing where all were used a moment ago.
    fn enter(&self, socket: &TcpStream, most: usize) -> Option<Place<'_>> {
        let now = Instant::now();
        let mut open = self.lock();
        if open.by_id.len() >= most {
            let late =
                open.by_id.iter().filter(|(_, (_, used))| now.duration_since(*used) >= GRACE);
            let id = *late.min_by_key(|(_, (_, used))| *used)?.0;
            let (other, _) = open.by_id.remove(&id)?;
            let _ = other.shutdown(Shutdown::Both);
        }
        open.last_id += 1;
        let id = open.last_id;
        open.by_id.insert(id, (socket.try_clone().ok()?, now));
        Some(Place(self, id))
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    fn used(&self) {
        if let Some((_, used)) = self.0.lock().by_id.get_mut(&self.1) {
            *used = Instant::now();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.lock().by_id.remove(&self.1);
    }
}

/// What all connections have.
struct Talk<'a> {
    limits: &'a Limits,
    site: &'a (dyn Site + Sync),
    guard: &'a Guard,
    streams: &'a AtomicUsize,
}

impl Talk<'_> {
    /// One connection, to its end.
    fn with(&self, socket: &TcpStream, from: IpAddr, place: &Place<'_>) -> io::Result<()> {
        let mut stream = Connection::new(socket, self.guard.tls.as_ref())?;
        let mut buffer = Vec::new();
        // A handshake is a part of the first head.
        let mut wait = self.limits.head;
        loop {
            let Some((answer, head_only, keep)) =
                self.next(&mut stream, &mut buffer, from, wait)?
            else {
                return Ok(());
            };
            wait = self.limits.idle;
            place.used();
            stream.until(Instant::now() + self.limits.send);
            if answer.kind == STREAM && !head_only {
                return self.stream(&mut stream, place);
            }
            stream.write_all(&answer.to_bytes(head_only, keep))?;
            stream.flush()?;
            if !keep {
                return drain(&mut stream);
            }
        }
    }

    /// The answer to the next request, whether it is only its head, and whether another may follow; nothing where the client has ended it.
    fn next(
        &self,
        stream: &mut Connection<'_>,
        buffer: &mut Vec<u8>,
        from: IpAddr,
        wait: Duration,
    ) -> io::Result<Option<(Answer, bool, bool)>> {
        let plain =
            |status, words: String| Answer { status, kind: "text/plain", body: words.into_bytes() };
        let mut end = Instant::now() + wait;
        loop {
            match parse(buffer) {
                Parsed::Partial => {}
                Parsed::Wrong(status, words) => {
                    return Ok(Some((plain(status, words.to_owned()), false, false)));
                }
                Parsed::Request { length, method, target, accept, authorization, keep, .. } => {
                    buffer.drain(..length);
                    let logins = self.guard.logins.as_ref();
                    let login = logins.map(|logins| logins.check(authorization.as_deref(), from));
                    let answer = match login {
                        Some(Err(No::Busy)) => plain(429, format!("{}\n", No::Busy)),
                        Some(Err(no)) => plain(401, format!("{no}\n")),
                        Some(Ok(_)) | None => self.site.answer(&method, &target, &accept),
                    };
                    return Ok(Some((answer, method == "HEAD", keep)));
                }
            }
            stream.until(end);
            let mut piece = [0; PIECE];
            match stream.read(&mut piece)? {
                0 => return Ok(None),
                count => {
                    if buffer.is_empty() {
                        end = Instant::now() + self.limits.head;
                    }
                    buffer.extend_from_slice(piece.get(..count).unwrap_or_default());
                }
            }
        }
    }

    /// News as they come, until there are none for a while or the client is gone.
    fn stream(&self, stream: &mut Connection<'_>, place: &Place<'_>) -> io::Result<()> {
        if self.streams.fetch_add(1, Ordering::Relaxed) >= self.limits.streams {
            self.streams.fetch_sub(1, Ordering::Relaxed);
            return Ok(());
        }
        let done = self.news(stream, place);
        self.streams.fetch_sub(1, Ordering::Relaxed);
        done
    }

    fn news(&self, stream: &mut Connection<'_>, place: &Place<'_>) -> io::Result<()> {
        stream.write_all(stream_head().as_bytes())?;
        stream.flush()?;
        let (mut last, mut since) = (0, Instant::now());
        while since.elapsed() < self.limits.idle {
            let Some((number, news)) = self.site.news(last) else {
                thread::sleep(LOOK);
                continue;
            };
            (last, since) = (number, Instant::now());
            place.used();
            stream.until(Instant::now() + self.limits.send);
            stream.write_all(news.as_bytes())?;
            stream.flush()?;
        }
        Ok(())
    }
}

/// Throws away for a moment what still comes, so that the answer is not lost with a reset.
fn drain(stream: &mut Connection<'_>) -> io::Result<()> {
    stream.finish()?;
    stream.until(Instant::now() + GRACE);
    let (mut piece, mut seen) = ([0; PIECE], 0);
    while seen < DRAINED {
        match stream.read(&mut piece)? {
            0 => break,
            count => seen += count,
        }
    }
    Ok(())
}
