//! The container's first process: starts the command, passes signals on, collects the dead.
//!
//! A command that is process 1 itself has no default signal actions (SIGTERM would do
//! nothing to Python) and inherits every orphan, so DataLoader workers would stay as
//! zombies. So process 1 is a small loop, always: what `docker run --init` does. It never
//! returns to the runtime library that called it, holds no capability beyond the command's,
//! and is not dumpable, so the container cannot reach this program through `/proc/1`.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::control::{self, Message};
use crate::os;

/// Where a command is looked for when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the first process needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Init {
    pub(crate) command: Vec<String>,
    /// The whole environment of the command.
    pub(crate) environment: Vec<(String, String)>,
    /// The socket to the caller.
    pub(crate) control: RawFd,
    /// A terminal is made, of this size.
    pub(crate) terminal: Option<Winsize>,
}

impl Executor for Init {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let status = self.run().unwrap_or_else(|error| {
            let failed = Message::ExecFailed(error.raw_os_error().unwrap_or(libc::EIO));
            drop(control::send(os::borrow(self.control), &failed));
            125
        });
        os::exit_now(status)
    }

    /// Runs before the runtime's parent is told that all is ready: from here on this process
    /// dies with its parent, and if the parent is gone already that telling fails.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(|error| ExecutorValidationError::ArgValidationError(error.to_string()))
    }

    /// The command gets its environment at exec; this process keeps its own.
    fn setup_envs(
        &self,
        _: std::collections::HashMap<String, String>,
    ) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

impl Init {
    /// Starts the command and stays until it ends. The status to exit with.
    fn run(&self) -> io::Result<i32> {
        let image = self.image()?;
        let terminal = self.terminal.map(open_terminal).transpose()?;
        let slave = match terminal {
            None => None,
            Some((master, slave)) => {
                control::send(os::borrow(self.control), &Message::Terminal(master))?;
                Some(slave)
            }
        };
        let main = os::fork(|| {
            let error = become_command(&image, slave.as_ref());
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            drop(control::send(os::borrow(self.control), &Message::ExecFailed(errno)));
            127
        })?;
        // The command's pipes and terminal must see their end when the command closes them.
        drop(slave);
        rustix::thread::set_name(c"sconce-init")?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR, rustix::fs::Mode::empty())?;
        for fd in 0..=2 {
            os::place(null.as_fd(), fd)?;
        }
        drop(null);
        let status = watch(main);
        let (said, code) = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => (code, code),
            (None, Some(signal)) => (-signal, 128 + signal),
            (None, None) => (125, 125),
        };
        control::send(os::borrow(self.control), &Message::Ended(said))?;
        Ok(code)
    }

    fn image(&self) -> io::Result<os::Image> {
        let text = |s: &str| CString::new(s).map_err(io::Error::from);
        let name = self.command.first().ok_or(io::ErrorKind::InvalidInput)?;
        let path = self
            .environment
            .iter()
            .find(|(key, _)| key == "PATH")
            .map_or(DEFAULT_PATH, |(_, value)| value);
        let candidates = if name.contains('/') {
            vec![text(name)?]
        } else {
            // An empty element of PATH is the working directory (execvp(3)).
            path.split(':')
                .map(|folder| if folder.is_empty() { "." } else { folder })
                .map(|folder| text(&format!("{folder}/{name}")))
                .collect::<io::Result<_>>()?
        };
        let arguments = self.command.iter().map(|s| text(s)).collect::<io::Result<_>>()?;
        let environment = self
            .environment
            .iter()
            .map(|(key, value)| text(&format!("{key}={value}")))
            .collect::<io::Result<_>>()?;
        Ok(os::Image::new(candidates, arguments, environment))
    }
}

/// Opens a terminal of the container's own `/dev/pts`, so that `tty` names a file that is
/// there and belongs to the command's user.
fn open_terminal(size: Winsize) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    rustix::termios::tcsetwinsize(&slave, size)?;
    Ok((master, slave))
}

/// The rest of the command's process; returns only if it cannot be executed.
fn become_command(image: &os::Image, terminal: Option<&OwnedFd>) -> io::Error {
    let prepare = || -> io::Result<()> {
        // A session of its own: its group takes the keyboard's signals, process 1 none.
        rustix::process::setsid()?;
        if let Some(terminal) = terminal {
            rustix::process::ioctl_tiocsctty(terminal)?;
            for fd in 0..=2 {
                os::place(terminal.as_fd(), fd)?;
            }
        } else {
            make_null_writable()?;
        }
        os::reset_signals();
        Ok(())
    };
    match prepare() {
        Ok(()) => image.execute(),
        Err(error) => error,
    }
}

/// libcontainer opens the container's own `/dev/null` in place of the host's, for reading only:
/// output that is thrown away would be an error to write.
fn make_null_writable() -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR, rustix::fs::Mode::empty())?;
    let device = rustix::fs::fstat(&null)?.st_rdev;
    for fd in 1..=2 {
        if rustix::fs::fstat(os::borrow(fd)).is_ok_and(|about| about.st_rdev == device) {
            os::place(null.as_fd(), fd)?;
        }
    }
    Ok(())
}

/// Passes signals to `main` until it ends, collecting every child that ends before.
fn watch(main: Pid) -> rustix::process::WaitStatus {
    loop {
        let number = os::wait_for_signal();
        if number == libc::SIGCHLD {
            // Signals of one kind may fold into one: collect all there are.
            while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
                if pid == main {
                    return status;
                }
            }
        } else if let Some(signal) = Signal::from_named_raw(number) {
            // What a keyboard sends goes to the whole group, as from a terminal; the rest is
            // for the command to hand down. A command that just ended gets nothing.
            let _ = match signal {
                Signal::INT | Signal::QUIT => rustix::process::kill_process_group(main, signal),
                _ => rustix::process::kill_process(main, signal),
            };
        }
    }
}
