//! Signals: blocked in a container's own processes, read as bytes from a pipe by its caller.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::error::{Doing, Error};
use crate::os::check;

/// Signals that are passed on to the container's command, as `docker run` does: all that a program
/// can be sent on purpose. Not CHLD, PIPE and URG, which are about this process, nor those that
/// mean a fault of its own; the real-time signals come on top, but for 32 and 33, which the C library
/// keeps to itself. WINCH, TSTP and CONT have meanings of their own on the way.
const FORWARDED: [i32; 16] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGWINCH,
];

/// The signal of a number, a real-time one included (signal(7)).
pub(crate) fn numbered(number: i32) -> Option<Signal> {
    let real_time = || {
        let theirs = (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number);
        // SAFETY: the number is one of those that the C library leaves to programs.
        theirs.then(|| unsafe { Signal::from_raw_unchecked(number) })
    };
    Signal::from_named_raw(number).or_else(real_time)
}

/// Lets children of this process be waited for: a parent that ignored SIGCHLD hands that on, and
/// the kernel then collects every child itself (sigaction(2)).
pub(crate) fn expect_children() {
    // SAFETY: SIG_DFL is a valid action for SIGCHLD.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Stops this process as Ctrl-Z does, until it is continued.
pub(crate) fn stop_myself() {
    // SAFETY: raise takes a number.
    unsafe { libc::raise(libc::SIGSTOP) };
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

/// The same for so long at most.
pub(crate) fn wait_for_signal_within(most: Duration) -> Option<i32> {
    let all = set_of(None);
    let seconds = most.as_secs().cast_signed();
    let most = libc::timespec { tv_sec: seconds, tv_nsec: most.subsec_nanos().into() };
    // SAFETY: `all` and `most` are initialised; no details of the signal are asked for.
    let signal = unsafe { libc::sigtimedwait(&all, std::ptr::null_mut(), &most) };
    (signal > 0).then_some(signal)
}

/// A descriptor that can be read when a signal waits that people end a process with, of those that
/// [`block_signals`] holds back; all others go on waiting (signalfd(2)).
pub(crate) fn ending() -> io::Result<OwnedFd> {
    let ending = set_of(Some(&ENDING));
    // SAFETY: `ending` is initialised, and -1 asks for a new descriptor, which is this process's alone.
    unsafe {
        let fd = check(libc::signalfd(-1, &ending, libc::SFD_CLOEXEC))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Takes the signal that can be read from [`ending`]'s descriptor.
pub(crate) fn next(signals: &OwnedFd) -> io::Result<i32> {
    // The number comes first of 128 bytes (signalfd(2)).
    let mut about = [0; size_of::<libc::signalfd_siginfo>()];
    rustix::io::retry_on_intr(|| rustix::io::read(signals, &mut about))?;
    let [a, b, c, d, ..] = about;
    Ok(i32::from_ne_bytes([a, b, c, d]))
}

/// Resets every signal to its default action and unblocks all, as a new program expects.
pub(crate) fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is a valid action for any signal; those that refuse keep theirs.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let none = set_of(Some(&[]));
    // SAFETY: `none` is initialised, and the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()) };
}

/// Where [`note`] writes; -1 without a [`SignalPipe`].
static SIGNAL_PIPE: AtomicI32 = AtomicI32::new(-1);

/// The last signal that came to a [`SignalPipe`] of those that people end a process with; 0 where none has.
static ENDED_BY: AtomicI32 = AtomicI32::new(0);

/// The signal that ended what this process did: its exit code is 128 and that number.
pub fn ended_by() -> Option<i32> {
    Some(ENDED_BY.load(Ordering::Relaxed)).filter(|number| *number != 0)
}

/// A closed terminal says what its signal would: that goes to the processes of its session alone.
pub(crate) fn hung_up() -> i32 {
    ENDED_BY.store(libc::SIGHUP, Ordering::Relaxed);
    libc::SIGHUP
}

/// Writes the signal's number to the pipe. Only async-signal-safe calls.
extern "C" fn note(signal: libc::c_int) {
    let fd = SIGNAL_PIPE.load(Ordering::Relaxed);
    if ends_a_process(signal) {
        ENDED_BY.store(signal, Ordering::Relaxed);
    }
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
    /// Listens for what is passed on; `None` if another container of this process has the signals
    /// already. A signal that is ignored stays ignored (`nohup`).
    pub(crate) fn new() -> io::Result<Option<Self>> {
        let flags = rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK;
        let (read, write) = rustix::pipe::pipe_with(flags)?;
        let fd = write.as_raw_fd();
        if SIGNAL_PIPE.compare_exchange(-1, fd, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return Ok(None);
        }
        let mut pipe = Self { read, _write: write, previous: Vec::new() };
        for signal in FORWARDED.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
            // SAFETY: both actions are plain data, zeroed is a valid start, and `note` is an
            // async-signal-safe function of the type a handler must have.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                let mut previous: libc::sigaction = std::mem::zeroed();
                check(libc::sigaction(signal, std::ptr::null(), &mut previous))?;
                if previous.sa_sigaction == libc::SIG_IGN {
                    continue;
                }
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

/// While it lives, a signal that would end this process does not: its work looks whether one came, and ends.
pub struct Interrupts {
    pipe: Option<SignalPipe>,
    came: AtomicI32,
}

impl Interrupts {
    /// Listens, unless another part of this process does; then none ever comes here.
    ///
    /// # Errors
    /// The kernel's.
    pub fn listen() -> Result<Self, Error> {
        let pipe = SignalPipe::new().doing("listening for signals")?;
        Ok(Self { pipe, came: AtomicI32::new(0) })
    }

    /// None ever comes.
    pub(crate) fn none() -> Self {
        Self { pipe: None, came: AtomicI32::new(0) }
    }

    /// The signal that came.
    pub fn came(&self) -> Option<i32> {
        let mut number = [0];
        // The pipe doesn't block.
        while let Some(pipe) = &self.pipe
            && rustix::io::read(pipe.fd(), &mut number) == Ok(1)
        {
            let number = i32::from(number[0]);
            if ends_a_process(number) {
                self.came.store(number, Ordering::Relaxed);
            }
        }
        Some(self.came.load(Ordering::Relaxed)).filter(|number| *number != 0)
    }
}

/// The signals that people end a process with.
const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// Of what a [`SignalPipe`] hears, the signals that people end a process with; others are a window's or a stopped
/// job's.
pub(crate) fn ends_a_process(signal: i32) -> bool {
    ENDING.contains(&signal)
}

/// Lets other threads of this process take its signals.
pub(crate) fn leave_to_others() {
    let all = set_of(None);
    // SAFETY: `all` is initialised, and the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &all, std::ptr::null_mut()) };
}
