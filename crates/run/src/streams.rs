//! The command's standard streams.
//!
//! A container never gets a file of its caller's: with a terminal it could read what is typed to
//! others and leave it raw, with a file it could truncate it or make it setuid. Pipes that have no
//! name are handed on as they are, but for output that the caller can leave; all else is joined to a pipe by a thread that copies.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::error::Error;
use crate::{Exit, Stdio};

/// The file system of pipes without names (linux/magic.h).
const PIPEFS_MAGIC: u64 = 0x5049_5045;
/// How much a pipe may hold; 1 MiB is what users may ask for (pipe(7)).
const PIPE_SIZE: usize = 1 << 20;

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
        let spawn = |(from, to): (OwnedFd, OwnedFd)| {
            std::thread::Builder::new().name("copy".to_owned()).spawn(move || {
                crate::signals::leave_to_others();
                copy(&from, &to)
            })
        };
        self.input.map(spawn).transpose()?;
        let out = self.out.map(spawn).transpose()?;
        Ok(Copying { out, err: self.err.map(spawn).transpose()? })
    }
}

/// The copies of a command's output that are under way.
pub(crate) struct Copying {
    out: Option<JoinHandle<Result<(), Errno>>>,
    err: Option<JoinHandle<Result<(), Errno>>>,
}

impl Copying {
    /// Waits for all output, and says how the command ended. Input is not waited for: nobody needs
    /// more of it.
    ///
    /// # Errors
    /// A command that succeeded, and whose standard output could not be written: a full disk must
    /// not look like a success. One that failed keeps its own status, with a notice. A reader
    /// that went away wanted no more; and for errors that are lost no program stops, nor is there
    /// a place left to say it.
    pub(crate) fn finish(self, exit: Exit, notices: &mut dyn FnMut(&str)) -> Result<Exit, Error> {
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
fn copy(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
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
        write_all(to, buffer.get(..count).unwrap_or_default())?;
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
