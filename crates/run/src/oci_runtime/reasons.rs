//! What libcontainer logs in its processes, for the error of the command that started them.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::pipe::PipeFlags;

use crate::{os, trace};

/// The end of the pipe that errors are written to; processes that are forked have it too.
static PIPE: AtomicI32 = AtomicI32::new(-1);
/// How many lines say why; the rest says the same again.
const FIRST: usize = 2;
/// The most of one line.
const LONGEST: usize = 1024;

/// A pipe with what libcontainer logs as errors from now on.
pub(super) struct Reasons {
    read: OwnedFd,
    _write: OwnedFd,
}

impl Reasons {
    pub(super) fn listen() -> io::Result<Self> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        PIPE.store(write.as_raw_fd(), Ordering::Relaxed);
        trace::listen(|line| {
            let fd = PIPE.load(Ordering::Relaxed);
            if fd >= 0 {
                let mut line: String =
                    line.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
                line.push('\n');
                // A full pipe has reasons enough.
                let _ = rustix::io::write(os::borrow(fd), line.as_bytes());
            }
        });
        Ok(Self { read, _write: write })
    }

    /// What was logged first, which is the closest to the cause, and an error's own words.
    pub(super) fn before(&self, words: String) -> String {
        let mut bytes = vec![0; 8 << 10];
        let length = rustix::io::read(&self.read, &mut bytes).unwrap_or(0);
        let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
        let mut all: Vec<&str> = Vec::new();
        for line in text.lines().take(FIRST).chain([words.as_str()]) {
            if !all.iter().any(|known| known.contains(line)) {
                all.push(line);
            }
        }
        all.join("; ")
    }
}

impl Drop for Reasons {
    fn drop(&mut self) {
        PIPE.store(-1, Ordering::Relaxed);
    }
}
