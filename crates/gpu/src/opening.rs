//! Opening device nodes as CUDA does, without being caught by a driver that hangs.
//!
//! The driver defers the start of a GPU when its node is opened with O_NONBLOCK and reports success
//! (`nvidia_open` in kernel-open/nvidia/nv.c): only an open that waits says whether the GPU starts. It can
//! wait for minutes, and a thread that sleeps in the kernel keeps its whole process from ending; so each node is
//! opened by a child that can be left behind.

#![allow(unsafe_code)]

use std::ffi::{CString, c_int};
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::Opening;

/// A child that opens one node.
struct Child {
    pid: Pid,
    answer: PipeReader,
}

/// Opens all paths for reading and writing (`read_only`: for reading) at once; one that has not opened within
/// `patience` is [`Opening::Hung`].
pub(crate) fn open_all(paths: &[(&Path, bool)], patience: Duration) -> Vec<Opening> {
    let end = Instant::now() + patience;
    let children: Vec<io::Result<Child>> =
        paths.iter().map(|(path, read_only)| start(path, *read_only)).collect();
    let openings = children.into_iter().map(|child| match child {
        Ok(child) => finish(child, end),
        Err(_) => Opening::Failed,
    });
    openings.collect()
}

fn start(path: &Path, read_only: bool) -> io::Result<Child> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = libc::O_CLOEXEC | if read_only { libc::O_RDONLY } else { libc::O_RDWR };
    let (answer, writer) = io::pipe()?;
    // SAFETY: the child calls only open, write and _exit, which are async-signal-safe (signal-safety(7)), on memory
    // that was made before: it is right after a fork whatever other threads were doing.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: `path` ends with NUL and outlives the call; the errno is this thread's; the buffer has four
        // bytes; _exit does not return.
        unsafe {
            let node = libc::open(path.as_ptr(), flags);
            let code: c_int = if node < 0 { *libc::__errno_location() } else { 0 };
            libc::write(writer.as_raw_fd(), (&raw const code).cast(), size_of::<c_int>());
            libc::_exit(0);
        }
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::Other)?;
    Ok(Child { pid, answer })
}

fn finish(mut child: Child, end: Instant) -> Opening {
    let left = end.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).unwrap_or_default();
    let answered = {
        let mut wait = [PollFd::from_borrowed_fd(child.answer.as_fd(), PollFlags::IN)];
        matches!(poll(&mut wait, Some(&left)), Ok(1..))
    };
    let mut code = [0; size_of::<c_int>()];
    if !answered {
        // Killed when the kernel lets go of it; nobody waits for that.
        let _ = kill_process(child.pid, Signal::KILL);
        let _ = waitpid(Some(child.pid), WaitOptions::NOHANG);
        return Opening::Hung;
    }
    let read = child.answer.read_exact(&mut code);
    let _ = waitpid(Some(child.pid), WaitOptions::empty());
    match read.map(|()| c_int::from_ne_bytes(code)) {
        Ok(0) => Opening::Fine,
        Ok(code) => Opening::of(code),
        Err(_) => Opening::Failed,
    }
}
