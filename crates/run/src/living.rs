//! Running containers: exec, attach, kill, stop, wait and rm.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::attend::{self, Attended, Signalled};
use crate::control::{self, Exec, Message};
use crate::error::{Doing, Error};
use crate::folder::{self, Listed, State};
use crate::pulse::{self, Pulse};
use crate::streams::{Copying, Streams};
use crate::terminal;
use crate::{Exit, Stdio, clean, signals, usage};

/// How long a shim may take to say how its container ended: after KILL, a process that the kernel is still working
/// for ends later, and on a machine with more work than processors the shim takes its turn.
const AFTER_KILL: Duration = Duration::from_secs(30);

impl Listed {
    /// Runs another command in it; `stdio` says what its streams are.
    pub fn exec(
        &self,
        mut exec: Exec,
        stdio: Stdio,
        notices: &mut dyn FnMut(&str),
    ) -> Result<Exit, Error> {
        if stdio == Stdio::Terminal {
            exec.terminal = Some(terminal::size()?);
        }
        let signals = signals::SignalPipe::new().doing("listening for signals")?;
        let socket = self.connect()?;
        let Streams { inner, copies } = Streams::join_apart(stdio).doing("joining streams")?;
        let fds = [inner[0].as_fd(), inner[1].as_fd(), inner[2].as_fd()];
        control::send_with(&socket, &Message::Exec(exec.clone()), &fds)
            .doing("asking for the command")?;
        drop(inner);
        let copies = copies.start().doing("copying the command's output")?;
        let mut ended = None;
        let mut refused = None;
        let to = Attended {
            control: &socket,
            signals: signals.as_ref(),
            pulse: self.pulse_of(&socket),
            starts: true,
            outlives: Some(self.called()),
            signalled: Signalled::Passed,
        };
        attend::attend(to, Vec::new(), 0, &mut |message| {
            match message {
                Message::Notice(text) => notices(&text),
                Message::Failed { message, hint } => refused = Some(Error::Shim { message, hint }),
                Message::ExecFailed(errno) => {
                    let command = exec.command.first().cloned().unwrap_or_default();
                    refused = Some(Error::of_exec(command, errno));
                }
                Message::Ended(status) => ended = Some(status),
                _ => {}
            }
            Ok(ended.is_none())
        })?;
        match (refused, ended) {
            (Some(error), _) => Err(error),
            (None, Some(status)) => copies.finish(Exit::of(status), signals.as_ref(), notices),
            // The container's end is that of its commands.
            (None, None) => copies.finish(Exit::Signal(libc::SIGKILL), signals.as_ref(), notices),
        }
    }

    /// Joins the caller's streams to those of a detached container until it ends: how it did.
    /// Nothing when the user left it running, by Ctrl-P, Ctrl-Q on its terminal; [`Error::Detached`] where the caller's
    /// terminal was closed, or where there is a terminal and this process was told to end.
    pub fn attach(&self, notices: &mut dyn FnMut(&str)) -> Result<Option<Exit>, Error> {
        let signals = signals::SignalPipe::new().doing("listening for signals")?;
        let exit = |ended: Option<Exit>| ended.map_or_else(|| self.ended(), Ok);
        if self.container.stdio == Stdio::Terminal {
            let end = self.attach_terminal(signals.as_ref(), notices)?;
            return end.map(|end| exit(end.result()?)).transpose();
        }
        let (ended, copies) = self.attach_streams(signals.as_ref(), notices)?;
        copies.finish(exit(ended)?, signals.as_ref(), notices).map(Some)
    }

    fn attach_streams(
        &self,
        signals: Option<&signals::SignalPipe>,
        notices: &mut dyn FnMut(&str),
    ) -> Result<(Option<Exit>, Copying), Error> {
        let socket = self.connect()?;
        let Streams { inner: [input, out, err], copies } =
            Streams::join_apart(Stdio::Inherit).doing("joining streams")?;
        let fds = [input.as_fd(), out.as_fd(), err.as_fd()];
        control::send_with(&socket, &Message::Attach, &fds).doing("attaching")?;
        drop((input, out, err));
        let copies = copies.start().doing("copying the container's output")?;
        Ok((self.wait_for_end(&socket, signals, notices)?, copies))
    }

    fn attach_terminal(
        &self,
        signals: Option<&signals::SignalPipe>,
        notices: &mut dyn FnMut(&str),
    ) -> Result<Option<End>, Error> {
        // Before anything is asked of the shim: that there is a terminal.
        terminal::size().map_err(|error| match error {
            Error::NotATerminal(_) => Error::NoTerminal,
            error => error,
        })?;
        let socket = self.connect()?;
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .doing("making a pair of sockets")?;
        let fds = [theirs.as_fd(), theirs.as_fd(), theirs.as_fd()];
        control::send_with(&socket, &Message::Attach, &fds).doing("attaching")?;
        drop(theirs);
        let mut end = End { until_gone: true, ..End::default() };
        let joined = terminal::Joined::to_shim(ours)?;
        let pulse = self.pulse_of(&socket);
        let to = Attended {
            control: &socket,
            signals,
            pulse,
            starts: false,
            outlives: Some(self.called()),
            signalled: Signalled::Kept,
        };
        // The terminal is raw: a line ends with a return as well.
        let mut notices = |text: &str| notices(&format!("{text}\r"));
        let stayed =
            attend::attend_terminal(
                to,
                joined,
                &mut |message| Ok(end.hear(message, &mut notices)),
            )?;
        Ok(stayed.then_some(end))
    }

    /// Passes a signal to it; KILL ends all of it.
    pub fn kill(&self, signal: i32) -> Result<(), Error> {
        match tell(&self.connect()?, &Message::Signal(signal))? {
            true => Ok(()),
            false => Err(Error::NotRunning(self.id.clone())),
        }
    }

    /// Waits for its end: how it ended.
    pub fn wait(&self, notices: &mut dyn FnMut(&str)) -> Result<Exit, Error> {
        let socket = match self.connect() {
            Err(Error::NotRunning(_)) => return self.ended(),
            other => other?,
        };
        if !tell(&socket, &Message::Wait)? {
            return self.ended();
        }
        self.wait_for_end(&socket, None, notices)?.map_or_else(|| self.ended(), Ok)
    }

    /// Sends its stop signal, and KILL if it has not ended within `timeout` (its own, if not
    /// given).
    pub fn stop(&self, timeout: Option<Duration>) -> Result<Exit, Error> {
        let own = Duration::from_secs(self.container.stop_timeout.unwrap_or(10));
        let socket = self.connect()?;
        let signal = self.container.stop_signal.unwrap_or(libc::SIGTERM);
        if !(tell(&socket, &Message::Wait)? && tell(&socket, &Message::Signal(signal))?) {
            return self.ended();
        }
        let until = Instant::now() + timeout.unwrap_or(own);
        if !readable_until(&socket, until)? {
            // Where the shim is gone, that can be read.
            tell(&socket, &Message::Signal(libc::SIGKILL))?;
            if !readable_until(&socket, Instant::now() + AFTER_KILL)? {
                return Err(self.unanswered(&socket));
            }
        }
        self.wait_for_end(&socket, None, &mut |_| {})?.map_or_else(|| self.ended(), Ok)
    }

    /// Ends it at once, and waits until its shim is gone as well. One that has ended meanwhile is as good.
    pub fn end(&self) -> Result<(), Error> {
        let until = Instant::now() + AFTER_KILL;
        match self.connect() {
            Ok(socket) => {
                if tell(&socket, &Message::Wait)?
                    && tell(&socket, &Message::Signal(libc::SIGKILL))?
                    && !readable_until(&socket, until)?
                {
                    return Err(self.unanswered(&socket));
                }
            }
            Err(Error::NotRunning(_)) => {}
            Err(error) => return Err(error),
        }
        while self.lives() {
            if Instant::now() > until {
                return Err(Error::Unanswered(self.id.clone()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Removes what is left of one that ended.
    pub fn remove(&self) -> Result<(), Error> {
        if self.alive {
            return Err(Error::Running(self.id.clone()));
        }
        match clean::ended(&self.path, &self.state) {
            // With --rm, or by somebody else, it was removed meanwhile.
            Err(_) if !self.path.exists() => Ok(()),
            other => other,
        }
    }

    /// What it uses now; nothing where no cgroup counts it.
    pub fn usage(&self) -> usage::Usage {
        usage::usage(&self.state.cgroups)
    }

    /// Its shim still lives: asked anew.
    pub fn lives(&self) -> bool {
        File::open(&self.path).is_ok_and(|folder| {
            let lock = rustix::fs::FlockOperation::NonBlockingLockShared;
            rustix::fs::flock(&folder, lock).is_err()
        })
    }

    /// The exit of a container that has ended.
    fn ended(&self) -> Result<Exit, Error> {
        // A shim takes no more questions before it writes how its container ended.
        let until = Instant::now() + AFTER_KILL;
        while self.lives() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        let state: State = match folder::read(&self.path, "state.json") {
            Ok(state) => state,
            // It removed its record (`--rm`) before this read.
            Err(_) => self.state.clone(),
        };
        match (state.exit, state.error) {
            (Some(code), _) => Ok(Exit::Code(code)),
            (None, Some(error)) => Err(Error::lost(error)),
            (None, None) => Err(Error::Lost("it left no word of how it ended".to_owned())),
        }
    }

    /// Connects to its shim, which must not be stopped: it would answer nothing.
    pub(crate) fn connect(&self) -> Result<OwnedFd, Error> {
        let socket = self.reach_shim()?;
        match pulse::shim_of(&socket).filter(|shim| pulse::is_stopped(*shim)) {
            Some(shim) => Err(Error::Stopped { id: self.id.clone(), shim }),
            None => Ok(socket),
        }
    }

    /// Connects to its shim, whatever state that is in.
    pub(crate) fn reach_shim(&self) -> Result<OwnedFd, Error> {
        let flags = SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
                .doing("making a socket")?;
        // A socket's path may have 107 bytes: through its folder's descriptor it is short.
        let folder = File::open(&self.path).doing_to("opening", &self.path)?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&folder);
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{number}/socket"))
            .doing("naming the container's socket")?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) => Ok(socket),
            Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT) => {
                Err(Error::NotRunning(self.id.clone()))
            }
            Err(error) => Err(error).doing("reaching the container's shim"),
        }
    }

    /// That its shim does not answer, and why where that can be seen.
    fn unanswered(&self, socket: &OwnedFd) -> Error {
        let id = self.id.clone();
        match pulse::shim_of(socket).filter(|shim| pulse::is_stopped(*shim)) {
            Some(shim) => Error::Stopped { id, shim },
            None => Error::Unanswered(id),
        }
    }

    /// Looks after the shim behind a socket.
    pub(crate) fn pulse_of(&self, socket: &OwnedFd) -> Option<Pulse> {
        Some(Pulse::of(self.called(), pulse::shim_of(socket)?))
    }

    /// Waits until it and its shim have ended; `None` if the shim ended without reporting an exit.
    fn wait_for_end(
        &self,
        socket: &OwnedFd,
        signals: Option<&signals::SignalPipe>,
        notices: &mut dyn FnMut(&str),
    ) -> Result<Option<Exit>, Error> {
        let mut end = End { until_gone: true, ..End::default() };
        let pulse = self.pulse_of(socket);
        let to = Attended {
            control: socket,
            signals,
            pulse,
            starts: false,
            outlives: Some(self.called()),
            // `stop` and `wait` pass nothing on: what has signals is attached.
            signalled: Signalled::PassedButHangup,
        };
        attend::attend(to, Vec::new(), 0, &mut |message| Ok(end.hear(message, notices)))?;
        end.result()
    }
}

/// Sends a message, unless the shim has ended since it was connected to: whether it was there.
fn tell(socket: &OwnedFd, message: &Message) -> Result<bool, Error> {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    match control::send(socket, message) {
        Err(error) if matches!(error.kind(), BrokenPipe | ConnectionReset) => Ok(false),
        sent => sent.map(|()| true).doing("asking the container's shim"),
    }
}

/// What a shim has reported about an end.
#[derive(Default)]
pub(crate) struct End {
    ended: Option<Exit>,
    refused: Option<Error>,
    /// The shim's own end is waited for as well.
    until_gone: bool,
}

impl End {
    /// Takes a message; false when no more is to be waited for.
    pub(crate) fn hear(&mut self, message: Message, notices: &mut dyn FnMut(&str)) -> bool {
        match message {
            Message::Notice(text) => notices(&text),
            Message::Ended(status) => self.ended = Some(Exit::of(status)),
            Message::Failed { message, hint } => self.refused = Some(Error::Shim { message, hint }),
            _ => {}
        }
        self.refused.is_none() && (self.ended.is_none() || self.until_gone)
    }

    pub(crate) fn result(self) -> Result<Option<Exit>, Error> {
        self.refused.map_or(Ok(self.ended), Err)
    }
}

pub(crate) fn readable_until(socket: &OwnedFd, until: Instant) -> Result<bool, Error> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
            Ok(count) => return Ok(count > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error)).doing("waiting for the container"),
        }
    }
}
