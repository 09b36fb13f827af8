//! A command in a container: its program, terminal and streams, from the fork to the exec.
//!
//! A command of `exec` is seen by the container as soon as it is forked, and root inside may stop it before
//! its program is executed. So that start is waited for with [`Patience`].

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitId, WaitIdOptions};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::privileges::Privileges;
use crate::{os, signals};

/// Where a command is looked for when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a failed start was at, as its process reports it.
const PREPARE: u8 = 0;
const EXECUTE: u8 = 1;

/// What a command is started with.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) command: Vec<String>,
    /// The whole environment.
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) workdir: PathBuf,
    pub(crate) privileges: Privileges,
    /// It gets a terminal of its own, of this size.
    pub(crate) terminal: Option<Winsize>,
    /// The AppArmor profile that its program enters.
    pub(crate) apparmor: Option<String>,
}

/// A terminal of the container's own `/dev/pts`: the master's side and the command's.
pub(crate) struct Terminal {
    pub(crate) master: OwnedFd,
    slave: OwnedFd,
}

impl Terminal {
    /// Opens one in this process's `/dev/pts`, so that `tty` names a file that is there and
    /// belongs to the command's user.
    pub(crate) fn open(size: Winsize) -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags)?;
        rustix::pty::unlockpt(&master)?;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
        rustix::termios::tcsetwinsize(&slave, size)?;
        Ok(Self { master, slave })
    }

    /// Makes it the terminal of this user.
    pub(crate) fn give_to(&self, uid: u32) -> io::Result<()> {
        Ok(rustix::fs::fchown(&self.slave, Some(rustix::fs::Uid::from_raw(uid)), None)?)
    }

    /// The master's side alone.
    pub(crate) fn into_master(self) -> OwnedFd {
        self.master
    }
}

/// Why a command did not start.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Something before its program was executed.
    Prepare(io::Error),
    /// `execve` itself.
    Execute(io::Error),
    /// This signal came before the program was executed.
    Interrupted(i32),
    /// The container stopped the process, and it stayed stopped.
    Stopped,
    /// The program was not executed in time.
    Late,
}

/// How long a start is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as it takes: nothing runs in the container that could keep it.
    Endless,
    /// Until a signal comes that ends a process, or the container has kept it for too long.
    Short,
}

/// How long a process may take to its program after the container stopped it.
const STOPPED: Duration = Duration::from_secs(3);
/// How long it may take otherwise: its program may come from a slow disk.
pub(crate) const LATE: Duration = Duration::from_secs(60);
/// How often is looked whether it was stopped.
const LOOK: Duration = Duration::from_millis(200);

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Prepare(error)
    }
}

impl From<rustix::io::Errno> for Refused {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Prepare(error.into())
    }
}

impl Process {
    /// Forks, takes the command's privileges and executes it in this process's namespaces. The
    /// answer comes when the program runs. Before it does, this process gives up its own privileges by
    /// `step_down`, which is told the forked process: the command must find nobody with more than its own.
    ///
    /// A start that was given up leaves the forked process to the caller: with the privileges that are left, this
    /// process may not be able to end it.
    pub(crate) fn start(
        &self,
        terminal: Option<&Terminal>,
        step_down: impl FnOnce(Pid) -> io::Result<()>,
        patience: Patience,
    ) -> Result<Pid, Refused> {
        let program = self.program()?;
        let (gate, open) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // The write end closes when the program is executed.
        let (report, failed) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let pid = os::fork(|| {
            let waited = rustix::io::retry_on_intr(|| rustix::io::read(&gate, &mut [0]));
            let prepared = waited.map_err(io::Error::from).and_then(|_| self.prepare(terminal));
            let (stage, error) = match prepared {
                Ok(()) => (EXECUTE, program.execute()),
                Err(error) => (PREPARE, error),
            };
            let [a, b, c, d] = error.raw_os_error().unwrap_or(libc::EIO).to_ne_bytes();
            let _ = rustix::io::write(&failed, &[stage, a, b, c, d]);
            127
        })?;
        drop(failed);
        let stepped_down = step_down(pid);
        if stepped_down.is_err() {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        }
        rustix::io::retry_on_intr(|| rustix::io::write(&open, &[0]))?;
        stepped_down?;
        if patience == Patience::Short {
            wait(&report, pid)?;
        }
        let mut said = [0; 5];
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&report, &mut said))?;
        if read == 0 {
            return Ok(pid);
        }
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())?;
        let [stage, a, b, c, d] = said;
        let error = io::Error::from_raw_os_error(i32::from_ne_bytes([a, b, c, d]));
        Err(if stage == EXECUTE { Refused::Execute(error) } else { Refused::Prepare(error) })
    }

    /// Makes the forked process what the command is to be.
    fn prepare(&self, terminal: Option<&Terminal>) -> io::Result<()> {
        // A session of its own: its group takes the keyboard's signals, process 1 none.
        rustix::process::setsid()?;
        if let Some(terminal) = terminal {
            rustix::process::ioctl_tiocsctty(&terminal.slave)?;
            for fd in 0..=2 {
                os::place(terminal.slave.as_fd(), fd)?;
            }
        }
        os::close_at_exec_from(3);
        if let Some(profile) = &self.apparmor {
            crate::apparmor::set_exec_profile(profile)?;
        }
        signals::reset_signals();
        self.privileges.take()
    }

    /// The command ready to be executed.
    fn program(&self) -> io::Result<os::Program> {
        let text = |s: &str| CString::new(s).map_err(io::Error::from);
        let name = self.command.first().ok_or(io::ErrorKind::InvalidInput)?;
        let path = self.environment.iter().find(|(key, _)| key == "PATH");
        let path = path.map_or(DEFAULT_PATH, |(_, value)| value);
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
        Ok(os::Program::new(candidates, arguments, environment))
    }
}

/// Waits until the process `pid` executes its program or says why it can't.
fn wait(report: &OwnedFd, pid: Pid) -> Result<(), Refused> {
    let signals = signals::ending()?;
    let begun = Instant::now();
    let mut stopped: Option<Instant> = None;
    let look = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
    loop {
        let mut fds = [PollFd::new(report, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
        match poll(&mut fds, Some(&look)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // First: where the program runs, the signal is for it.
        if !fds[0].revents().is_empty() {
            return Ok(());
        }
        if !fds[1].revents().is_empty() {
            return Err(Refused::Interrupted(signals::next(&signals)?));
        }
        // Not of one that ended: who waits for its end must still find it.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let changed = rustix::process::waitid(WaitId::Pid(pid), options);
        if changed.is_ok_and(|changed| changed.is_some_and(|status| status.stopped())) {
            stopped.get_or_insert_with(Instant::now);
        }
        if stopped.is_some_and(|since| since.elapsed() > STOPPED) {
            return Err(Refused::Stopped);
        }
        if begun.elapsed() > LATE {
            return Err(Refused::Late);
        }
    }
}
