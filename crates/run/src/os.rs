//! The calls that Rust cannot check: fork, signals, exec, and the namespaces' few.
//!
//! All `unsafe` of this crate is here, each with the reason why it holds.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::process::Pid;

/// Signals that are passed on to the container's command.
pub(crate) const FORWARDED: [i32; 6] =
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Runs `child` in a new process, which ends with the status it returns and never comes
/// back into the caller's code, not even by a panic.
pub(crate) fn fork(child: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the child is single-threaded; glibc's fork leaves its allocator usable there,
    // and the child touches no lock that another thread of the caller may have held: it
    // prints nothing and reads the environment only.
    let pid = check(unsafe { libc::fork() })?;
    match Pid::from_raw(pid) {
        Some(pid) => Ok(pid),
        None => {
            let status = catch_unwind(AssertUnwindSafe(child)).unwrap_or(125);
            exit_now(status)
        }
    }
}

/// Ends this process without running what the caller registered to run at its own exit.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` takes any number and does not return.
    unsafe { libc::_exit(status) }
}

fn set_of(signals: Option<&[i32]>) -> libc::sigset_t {
    // SAFETY: a sigset_t is plain data, and both calls only write to the one they are given.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        match signals {
            None => {
                libc::sigfillset(&mut set);
            }
            Some(signals) => {
                libc::sigemptyset(&mut set);
                for signal in signals {
                    libc::sigaddset(&mut set, *signal);
                }
            }
        }
        set
    }
}

/// Holds back every signal that can be held back. Children inherit this.
pub(crate) fn block_signals() {
    let all = set_of(None);
    // SAFETY: `all` is initialised, and the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut()) };
}

/// Waits for any signal that [`block_signals`] holds back.
pub(crate) fn wait_for_signal() -> i32 {
    let all = set_of(None);
    loop {
        // SAFETY: `all` is initialised; no details of the signal are asked for.
        let signal = unsafe { libc::sigwaitinfo(&all, std::ptr::null_mut()) };
        if signal > 0 {
            return signal;
        }
    }
}

/// Gives every signal its first meaning and lets all through: what a fresh command expects.
pub(crate) fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is a valid action for any signal; those that refuse keep theirs.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let none = set_of(Some(&[]));
    // SAFETY: `none` is initialised, and the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()) };
}

/// Where [`note`] writes; -1 while nobody listens.
static SIGNAL_PIPE: AtomicI32 = AtomicI32::new(-1);

/// Writes the signal's number to the pipe. Only async-signal-safe calls.
extern "C" fn note(signal: libc::c_int) {
    let fd = SIGNAL_PIPE.load(Ordering::Relaxed);
    if fd >= 0 {
        let byte = signal as u8;
        // SAFETY: errno belongs to the interrupted code and is put back; write takes one
        // byte from a live local. A full or closed pipe loses the signal and nothing else.
        unsafe {
            let errno = *libc::__errno_location();
            libc::write(fd, (&raw const byte).cast(), 1);
            *libc::__errno_location() = errno;
        }
    }
}

/// While it lives, signals to this process arrive as bytes on a pipe instead.
pub(crate) struct SignalPipe {
    read: OwnedFd,
    _write: OwnedFd,
    previous: Vec<(i32, libc::sigaction)>,
}

impl SignalPipe {
    /// Listens for [`FORWARDED`] and changes of the window; `None` if another container of
    /// this process has the signals already.
    pub(crate) fn new() -> io::Result<Option<Self>> {
        let flags = rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK;
        let (read, write) = rustix::pipe::pipe_with(flags)?;
        let fd = write.as_raw_fd();
        if SIGNAL_PIPE.compare_exchange(-1, fd, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return Ok(None);
        }
        let mut pipe = Self { read, _write: write, previous: Vec::new() };
        for signal in FORWARDED.into_iter().chain([libc::SIGWINCH]) {
            // SAFETY: both actions are plain data, zeroed is a valid start, and `note` is an
            // async-signal-safe function of the type a handler must have.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                let mut previous: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
                action.sa_flags = libc::SA_RESTART;
                check(libc::sigaction(signal, &action, &mut previous))?;
                pipe.previous.push((signal, previous));
            }
        }
        Ok(Some(pipe))
    }

    /// The end to read signal numbers from, a byte each.
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.read
    }
}

impl Drop for SignalPipe {
    fn drop(&mut self) {
        for (signal, previous) in &self.previous {
            // SAFETY: `previous` was filled by the kernel for this very signal.
            unsafe { libc::sigaction(*signal, previous, std::ptr::null_mut()) };
        }
        SIGNAL_PIPE.store(-1, Ordering::SeqCst);
    }
}

/// A descriptor that this process is known to hold open for all its life.
pub(crate) fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: called by the container's first process for the descriptor that its keeper
    // opened for it and that nothing there closes before it ends.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Puts `fd` at number `at`, open across exec; the descriptor it came from stays open.
pub(crate) fn place(fd: BorrowedFd<'_>, at: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == at {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
        return Ok(());
    }
    // SAFETY: `fd` is open; whatever had the number `at` is this process's to replace, as it
    // was just forked and owns nothing there.
    check(unsafe { libc::dup2(fd.as_raw_fd(), at) }).map(|_| ())
}

/// Closes every descriptor from `first` on. For a forked child that never drops what it
/// inherited.
pub(crate) fn close_from(first: u32) {
    // SAFETY: close_range takes numbers only; the child's own owners of these descriptors
    // are leaked on purpose, as it leaves by `_exit`.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// Leaves the namespaces that `flags` names.
pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: the calling process is single-threaded and just forked; no descriptor or lock
    // depends on the namespaces it leaves.
    check(unsafe { libc::unshare(flags) }).map(|_| ())
}

/// Becomes `uid` and `gid` in all three ways, for good.
pub(crate) fn become_root() -> io::Result<()> {
    // SAFETY: both take plain numbers; the process is single-threaded.
    check(unsafe { libc::setresgid(0, 0, 0) })?;
    // SAFETY: as above.
    check(unsafe { libc::setresuid(0, 0, 0) }).map(|_| ())
}

/// Makes the loopback device of this network namespace usable (netdevice(7)).
pub(crate) fn raise_loopback() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: an ifreq is plain data; the name is shorter than its field and ends in NUL, and
    // both requests read and write this one request only.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &mut request))?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &mut request))?;
    }
    Ok(())
}

/// A command ready to be executed: nothing is allocated between fork and exec.
pub(crate) struct Image {
    candidates: Vec<CString>,
    _arguments: Vec<CString>,
    _environment: Vec<CString>,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
}

impl Image {
    /// `candidates` are the paths to try, in order.
    pub(crate) fn new(
        candidates: Vec<CString>,
        arguments: Vec<CString>,
        environment: Vec<CString>,
    ) -> Self {
        let pointers = |strings: &[CString]| {
            strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
        };
        let (argv, envp) = (pointers(&arguments), pointers(&environment));
        Self { candidates, _arguments: arguments, _environment: environment, argv, envp }
    }

    /// Becomes the first candidate that exists. Returns only if none can be executed: a
    /// file that exists and is refused counts for more than one that does not.
    pub(crate) fn execute(&self) -> io::Error {
        let mut worst = io::Error::from_raw_os_error(libc::ENOENT);
        for candidate in &self.candidates {
            let path: &CStr = candidate;
            // SAFETY: path, argv and envp are NUL-terminated and live in `self`; argv and envp
            // end in a null pointer.
            unsafe { libc::execve(path.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr()) };
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                Some(libc::EACCES) => worst = error,
                _ => return error,
            }
        }
        worst
    }
}
