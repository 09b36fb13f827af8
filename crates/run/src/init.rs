//! The container's first process: starts the command, passes signals on, collects the dead.
//!
//! A command that is process 1 itself has no default signal actions (SIGTERM would do
//! nothing to Python) and inherits every orphan, so DataLoader workers would stay as
//! zombies. So process 1 is a small loop, always: what `docker run --init` does. It never
//! returns to the runtime library that called it, has no privilege beyond the command's, and is
//! not dumpable, so the container cannot reach this program through `/proc/1`.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, WaitOptions};

use crate::control::{self, Message};
use crate::privileges::Privileges;
use crate::process::{Patience, Process, Refused, Terminal};
use crate::{os, signals};

/// What the first process needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Init {
    pub(crate) process: Process,
    /// The socket to the shim.
    pub(crate) control: RawFd,
    /// A pidfd of the shim, which this process can't see by its number.
    pub(crate) shim: RawFd,
    /// `cgroup.procs` of the container's cgroups.
    pub(crate) groups: Vec<RawFd>,
}

impl Executor for Init {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let status = self.run().unwrap_or_else(|error| {
            let message = format!("the command could not be prepared: {error}");
            let failed = Message::Failed { message, hint: None };
            drop(control::send(os::borrow(self.control), &failed));
            125
        });
        os::exit_now(status)
    }

    /// Runs before libcontainer's parent process learns that all is ready: from here on this process
    /// dies with the shim. One that is gone already would never tell it to start.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        let failed = |error: String| ExecutorValidationError::ArgValidationError(error);
        die_with_parent().map_err(|error| failed(error.to_string()))?;
        match os::readable(os::borrow(self.shim)) {
            true => Err(failed("the shim is gone".to_owned())),
            false => Ok(()),
        }
    }

    /// The command gets its environment at exec; this process has none.
    fn setup_envs(
        &self,
        _: std::collections::HashMap<String, String>,
    ) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

fn die_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}

impl Init {
    /// Starts the command and stays until it ends. The status to exit with.
    fn run(&self) -> io::Result<i32> {
        let control = os::borrow(self.control);
        for group in &self.groups {
            rustix::io::write(os::borrow(*group), b"0")?;
        }
        // A cgroup namespace begins where the process is that makes it.
        os::unshare(libc::CLONE_NEWCGROUP)?;
        // The shim's descriptors are the host's folders, locks and cgroups: none may be within reach of
        // the container, be it by `/proc/1/fd`.
        os::close_all_but(&[self.control]);
        let terminal = self.process.terminal.map(Terminal::open).transpose()?;
        if let Some(terminal) = &terminal {
            // The terminal belongs to the command's user, as a login's does.
            terminal.give_to(self.process.privileges.uid)?;
        }
        let alone = rustix::process::getpid() == Pid::INIT;
        if !alone {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        }
        // Before the command is there, which may put anything in its place.
        let null = null()?;
        if terminal.is_none() {
            make_null_writable(&null)?;
        }
        let step_down = |_| step_down(&self.process.privileges, c"sconce-init");
        let main = match self.process.start(terminal.as_ref(), step_down, Patience::Endless) {
            Ok(main) => main,
            Err(Refused::Execute(error)) => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                control::send(control, &Message::ExecFailed(errno))?;
                return Ok(127);
            }
            Err(Refused::Prepare(error)) => return Err(error),
            // With endless patience none of these comes.
            Err(Refused::Interrupted(_) | Refused::Stopped | Refused::Late) => {
                return Err(io::ErrorKind::TimedOut.into());
            }
        };
        // The command's pipes and terminal must see their end when the command closes them.
        match terminal {
            Some(terminal) => control::send(control, &Message::Terminal(terminal.into_master()))?,
            None => control::send(control, &Message::Started)?,
        }
        for fd in 0..=2 {
            os::place(null.as_fd(), fd)?;
        }
        drop(null);
        let status = watch(main, alone);
        let (said, code) = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => (code, code),
            (None, Some(signal)) => (-signal, 128 + signal),
            (None, None) => (125, 125),
        };
        if !alone {
            end_children();
        }
        control::send(control, &Message::Ended(said))?;
        Ok(code)
    }
}

/// The container's `/dev/null`, if it is that.
fn null() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?;
    match is_null(&null)? {
        true => Ok(null),
        false => Err(io::Error::other("/dev/null of the container is another file")),
    }
}

/// Whether it is the kernel's null device (Documentation/admin-guide/devices.txt).
pub(crate) fn is_null(open: impl AsFd) -> io::Result<bool> {
    let about = rustix::fs::fstat(open)?;
    let kind = rustix::fs::FileType::from_raw_mode(about.st_mode);
    let number = rustix::fs::makedev(1, 3);
    Ok(kind == rustix::fs::FileType::CharacterDevice && about.st_rdev == number)
}

/// libcontainer opens the container's own `/dev/null` in place of the host's, for reading only:
/// output that is thrown away would be an error to write.
fn make_null_writable(null: &OwnedFd) -> io::Result<()> {
    for fd in 0..=2 {
        if is_null(os::borrow(fd)).unwrap_or_default() {
            os::place(null.as_fd(), fd)?;
        }
    }
    Ok(())
}

/// Becomes a process that waits beside a command: with no more privileges than it, closed to it, and
/// gone when the parent is.
pub(crate) fn step_down(privileges: &Privileges, name: &CStr) -> io::Result<()> {
    privileges.of_waiting().take()?;
    // Changing ids resets the dumpable flag to the machine's default (prctl(2), PR_SET_DUMPABLE), and
    // what is sent when the parent dies.
    os::hide_memory()?;
    die_with_parent()?;
    os::hide_arguments(name);
    Ok(rustix::thread::set_name(name)?)
}

/// Waits for a command that `exec` added; the status to exit with.
pub(crate) fn stay_with(main: Pid) -> i32 {
    let status = watch(main, false);
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 125,
    }
}

/// Passes signals to `main` until it ends, collecting every child that ends before.
fn watch(main: Pid, alone: bool) -> rustix::process::WaitStatus {
    let mut settles = Some(Instant::now() + os::KEPT);
    loop {
        let left = settles.map(|at| at.saturating_duration_since(Instant::now()));
        let number = match left {
            None => signals::wait_for_signal(),
            Some(Duration::ZERO) => {
                os::give_back_program();
                settles = None;
                continue;
            }
            Some(left) => match signals::wait_for_signal_within(left) {
                Some(number) => number,
                None => continue,
            },
        };
        if number == libc::SIGCHLD {
            // Signals of one kind may fold into one: collect all there are.
            while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
                if pid == main {
                    return status;
                }
            }
            continue;
        }
        let Some(signal) = signals::numbered(number) else { continue };
        // What a keyboard sends goes to the whole group, as from a terminal; the rest is
        // for the command to hand down. A command that just ended gets nothing.
        let everyone = |signal| match alone {
            true => os::signal_all_others(signal),
            false => rustix::process::kill_process_group(main, signal).map_err(Into::into),
        };
        let _ = match signal {
            // STOP cannot be blocked: the shim sends TSTP instead.
            Signal::TSTP => everyone(Signal::STOP),
            Signal::CONT => everyone(Signal::CONT),
            Signal::INT | Signal::QUIT => {
                rustix::process::kill_process_group(main, signal).map_err(Into::into)
            }
            _ => rustix::process::kill_process(main, signal).map_err(io::Error::from),
        };
    }
}

/// Ends what the command left behind in the host's pid namespace, where the kernel does not do it
/// when process 1 ends. Orphans become children of this process, a generation at a time.
fn end_children() {
    loop {
        let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        for pid in children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        if rustix::process::wait(WaitOptions::empty()).is_err() {
            return;
        }
    }
}
