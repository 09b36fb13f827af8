//! The command's standard streams.
//!
//! A container never gets a file of its caller's: with a terminal it could read what is typed to
//! others and leave it raw, with a file it could truncate it or make it setuid. Pipes that have no
//! name are handed on as they are, but for output that the caller can leave; all else is joined to a pipe by a thread that copies.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::error::{Doing, Error};
use crate::signals::{self, SignalPipe};
use crate::{Exit, Stdio};

/// The file system of pipes without names (linux/magic.h).
const PIPEFS_MAGIC: u64 = 0x5049_5045;
/// How much a pipe may hold; 1 MiB is what users may ask for (pipe(7)).
const PIPE_SIZE: usize = 1 << 20;

/// How long output may wait for its reader once its command has ended and this process was told to end.
pub(crate) const UNREAD: Duration = Duration::from_secs(1);
/// Most bytes that are written at a time: how a slow reader is told from none.
const PORTION: usize = 64 << 10;

/// The three descriptors for the command, and what is to be copied between them and the caller's.
pub(crate) struct Streams {
    pub(crate) inner: [OwnedFd; 3],
    pub(crate) copies: Copies,
}

/// Copies between the caller's streams and the command's.
#[derive(Default)]
pub(crate) struct Copies {
    input: Option<(OwnedFd, OwnedFd)>,
    out: Option<(OwnedFd, OwnedFd)>,
    err: Option<(OwnedFd, OwnedFd)>,
}

impl Copies {
    /// Starts a thread for each, once the command has its ends.
    pub(crate) fn start(self) -> io::Result<Copying> {
        let (ends, held) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let moved = Arc::new(AtomicU64::new(0));
        let spawn = |(from, to): (OwnedFd, OwnedFd), held: Option<OwnedFd>| {
            let moved = Arc::clone(&moved);
            std::thread::Builder::new().name("copy".to_owned()).spawn(move || {
                crate::signals::leave_to_others();
                let copied = copy(&from, &to, &moved);
                drop(held);
                copied
            })
        };
        self.input.map(|input| spawn(input, None)).transpose()?;
        let of_out = Some(held.try_clone()?);
        let out = self.out.map(|out| spawn(out, of_out)).transpose()?;
        let err = self.err.map(|err| spawn(err, Some(held))).transpose()?;
        Ok(Copying { out, err, ends, moved })
    }
}

/// The copies of a command's output that are under way.
pub(crate) struct Copying {
    out: Option<JoinHandle<Result<(), Errno>>>,
    err: Option<JoinHandle<Result<(), Errno>>>,
    /// Hangs up when both have ended.
    ends: OwnedFd,
    /// How many portions have been written.
    moved: Arc<AtomicU64>,
}

impl Copying {
    /// Waits for all output, and says how the command ended. Input is not waited for: nobody needs
    /// more of it.
    ///
    /// # Errors
    /// A command that succeeded, and whose standard output could not be written: a full disk must
    /// not look like a success. One that failed keeps its own status, with a notice. A reader
    /// that went away wanted no more; and for errors that are lost no program stops, nor is there
    /// a place left to say it. [`Error::Interrupted`] where a signal ends the wait for output that nobody reads.
    pub(crate) fn finish(
        self,
        exit: Exit,
        signals: Option<&SignalPipe>,
        notices: &mut dyn FnMut(&str),
    ) -> Result<Exit, Error> {
        self.wait(exit, signals)?;
        let join = |copy: Option<JoinHandle<Result<(), Errno>>>| match copy.map(JoinHandle::join) {
            Some(Ok(Err(Errno::PIPE))) | None => Ok(()),
            Some(copied) => copied.unwrap_or(Err(Errno::IO)),
        };
        let (out, _) = (join(self.out), join(self.err));
        match out.map_err(|why| Error::Output(why.into())) {
            Err(lost) if exit != Exit::Code(0) => notices(&lost.to_string()),
            lost => lost?,
        }
        Ok(exit)
    }

    /// Waits until all output is written, or nobody has read any for a moment and this process was told to end: by the signal
    /// that the command ended by, or by one that comes now.
    fn wait(&self, exit: Exit, signals: Option<&SignalPipe>) -> Result<(), Error> {
        let Some(signals) = signals else { return Ok(()) };
        let mut told =
            signals::ended_by().filter(|number| exit.code() == Exit::Signal(*number).code());
        let (mut moved, mut since) = (self.moved.load(Ordering::Relaxed), Instant::now());
        loop {
            let mut fds =
                [PollFd::new(&self.ends, PollFlags::IN), PollFd::new(signals.fd(), PollFlags::IN)];
            let look = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            match poll(&mut fds, told.is_some().then_some(&look)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).doing("waiting for the last output"),
            }
            let [ends, came] = fds.map(|fd| !fd.revents().is_empty());
            if ends {
                return Ok(());
            }
            let mut numbers = [0; 64];
            let count =
                if came { rustix::io::read(signals.fd(), &mut numbers).unwrap_or(0) } else { 0 };
            let mut numbers = numbers.iter().take(count).map(|byte| i32::from(*byte));
            if let Some(number) = numbers.rfind(|number| signals::ends_a_process(*number)) {
                if told.is_none() {
                    since = Instant::now();
                }
                told = Some(number);
            }
            let now = self.moved.load(Ordering::Relaxed);
            if std::mem::replace(&mut moved, now) != now {
                since = Instant::now();
            }
            if let Some(number) = told.filter(|_| since.elapsed() > UNREAD) {
                return Err(Error::Interrupted(number));
            }
        }
    }
}

impl Streams {
    /// Streams for a container whose life is the caller's.
    pub(crate) fn join(stdio: Stdio) -> io::Result<Self> {
        Self::new(stdio, true)
    }

    /// Streams for a command that may outlive the caller, who can leave it: then nobody but the caller may have the pipe that
    /// output goes to, or whatever reads it would not see its end.
    pub(crate) fn join_apart(stdio: Stdio) -> io::Result<Self> {
        Self::new(stdio, false)
    }

    fn new(stdio: Stdio, hand_on: bool) -> io::Result<Self> {
        let mut copies = Copies::default();
        let stdin = rustix::stdio::stdin();
        let input = match stdio {
            Stdio::Output | Stdio::Terminal => null()?,
            Stdio::Inherit if is_nameless_pipe(stdin) => stdin.try_clone_to_owned()?,
            Stdio::Inherit => {
                let (read, write) = pipe()?;
                copies.input = Some((stdin.try_clone_to_owned()?, write));
                read
            }
        };
        type Copy = Option<(OwnedFd, OwnedFd)>;
        let output = |fd: BorrowedFd<'static>, copy: &mut Copy| -> io::Result<OwnedFd> {
            if stdio == Stdio::Terminal {
                return null();
            }
            if hand_on && is_nameless_pipe(fd) {
                return fd.try_clone_to_owned();
            }
            let (read, write) = pipe()?;
            *copy = Some((read, fd.try_clone_to_owned()?));
            Ok(write)
        };
        let out = output(rustix::stdio::stdout(), &mut copies.out)?;
        let err = output(rustix::stdio::stderr(), &mut copies.err)?;
        Ok(Self { inner: [input, out, err], copies })
    }
}

/// `/dev/null`, opened anew.
pub(crate) fn null() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/dev/null", flags, Mode::empty())?)
}

/// A pipe as large as users may have.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    // Less is slower and no error.
    let _ = rustix::pipe::fcntl_setpipe_size(&write, PIPE_SIZE);
    Ok((read, write))
}

fn is_nameless_pipe(fd: BorrowedFd<'_>) -> bool {
    let fifo = rustix::fs::fstat(fd)
        .is_ok_and(|about| FileType::from_raw_mode(about.st_mode) == FileType::Fifo);
    fifo && rustix::fs::fstatfs(fd).is_ok_and(|about| about.f_type as u64 == PIPEFS_MAGIC)
}

/// Copies until the end, or until that can't be written. Not with splice(2): it takes a file's position when
/// it begins to wait, so that output and errors in one file (`>log 2>&1`) would overwrite each
/// other.
fn copy(from: &OwnedFd, to: &OwnedFd, moved: &AtomicU64) -> Result<(), Errno> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = match rustix::io::read(from, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => {
                // The caller's stream may be one that does not block.
                let mut fds = [rustix::event::PollFd::new(from, rustix::event::PollFlags::IN)];
                let _ = rustix::event::poll(&mut fds, None);
                continue;
            }
            Err(error) => return Err(error),
        };
        for portion in buffer.get(..count).unwrap_or_default().chunks(PORTION) {
            write_all(to, portion)?;
            moved.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes everything, waiting where the descriptor is one that does not.
pub(crate) fn write_all(to: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(&to, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut fds = [rustix::event::PollFd::new(&to, rustix::event::PollFlags::OUT)];
                let _ = rustix::event::poll(&mut fds, None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
