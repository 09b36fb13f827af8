//! Running containers: exec, attach, kill, stop, wait, cp and rm.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::archive::{self, UntilSignal};
use crate::control::{self, Exec, Message};
use crate::error::{Doing, Error};
use crate::folder::{self, Listed, State};
use crate::streams::{self, Copying, Streams};
use crate::terminal;
use crate::{Exit, Stdio, attend, clean, signals, usage};

/// How long a shim may take to say how its container ended: after KILL, a process that the kernel is still working
/// for ends later.
const AFTER_KILL: Duration = Duration::from_secs(10);

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
        let Streams { inner, copies } = Streams::join(stdio).doing("joining streams")?;
        let fds = [inner[0].as_fd(), inner[1].as_fd(), inner[2].as_fd()];
        control::send_with(&socket, &Message::Exec(exec.clone()), &fds)
            .doing("asking for the command")?;
        drop(inner);
        let copies = copies.start().doing("copying the command's output")?;
        let mut ended = None;
        let mut refused = None;
        attend::attend(&socket, signals.as_ref(), Vec::new(), 0, &mut |message| {
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
            (None, Some(status)) => copies.finish(Exit::of(status), notices),
            // The container's end is that of its commands.
            (None, None) => copies.finish(Exit::Signal(libc::SIGKILL), notices),
        }
    }

    /// Joins the caller's streams to those of a detached container until it ends: how it did.
    /// Nothing when the user left it running, by Ctrl-P, Ctrl-Q on its terminal.
    pub fn attach(&self, notices: &mut dyn FnMut(&str)) -> Result<Option<Exit>, Error> {
        let signals = signals::SignalPipe::new().doing("listening for signals")?;
        let exit = |ended: Option<Exit>| ended.map_or_else(|| self.ended(), Ok);
        if self.container.stdio == Stdio::Terminal {
            let end = self.attach_terminal(signals.as_ref())?;
            return end.map(|end| exit(end.result()?)).transpose();
        }
        let (ended, copies) = self.attach_streams(signals.as_ref())?;
        copies.finish(exit(ended)?, notices).map(Some)
    }

    fn attach_streams(
        &self,
        signals: Option<&signals::SignalPipe>,
    ) -> Result<(Option<Exit>, Copying), Error> {
        let socket = self.connect()?;
        let Streams { inner: [input, out, err], copies } =
            Streams::join(Stdio::Inherit).doing("joining streams")?;
        let fds = [input.as_fd(), out.as_fd(), err.as_fd()];
        control::send_with(&socket, &Message::Attach, &fds).doing("attaching")?;
        drop((input, out, err));
        let copies = copies.start().doing("copying the container's output")?;
        Ok((wait_for_end(&socket, signals)?, copies))
    }

    fn attach_terminal(&self, signals: Option<&signals::SignalPipe>) -> Result<Option<End>, Error> {
        // Before anything is asked of the shim: that there is a terminal.
        terminal::size()?;
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
        let stayed =
            attend::attend_terminal(
                &socket,
                signals,
                joined,
                &mut |message| Ok(end.hear(message)),
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
    pub fn wait(&self) -> Result<Exit, Error> {
        let socket = match self.connect() {
            Err(Error::NotRunning(_)) => return self.ended(),
            other => other?,
        };
        if !tell(&socket, &Message::Wait)? {
            return self.ended();
        }
        wait_for_end(&socket, None)?.map_or_else(|| self.ended(), Ok)
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
                return Err(Error::Unanswered(self.id.clone()));
            }
        }
        wait_for_end(&socket, None)?.map_or_else(|| self.ended(), Ok)
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
                    return Err(Error::Unanswered(self.id.clone()));
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

    /// Copies `path` of the container into the host's folder `to`. Files are the caller's. A signal
    /// that would end this process ends the copy: [`Error::Interrupted`].
    pub fn copy_out(
        &self,
        path: &str,
        to: &Path,
        notices: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        let signals = signals::SignalPipe::new().doing("listening for signals")?;
        let (read, write) = streams::pipe().doing("making a pipe")?;
        let socket = self.connect()?;
        let message = Message::Copy { path: path.to_owned(), into: false };
        control::send_with(&socket, &message, &[write.as_fd()]).doing("asking for the files")?;
        drop(write);
        // Names and links are the container's: the library refuses what leads out of `to`.
        let signals = signals.as_ref();
        let stream = UntilSignal { stream: File::from(read), signals, signal: None };
        let mut tar = tar::Archive::new(stream);
        let unpacked = tar.unpack(to).doing_to("writing to", to);
        let mut signal = tar.into_inner().signal;
        if let (None, Some(signals)) = (signal, signals) {
            signal =
                archive::wait(&socket, signals.fd()).doing("waiting for the end of the copy")?;
        }
        if let Some(signal) = signal {
            return Err(Error::Interrupted(signal));
        }
        let sent = copied(&socket, notices);
        // Where this side took no more, that is the reason, and not the pipe that broke.
        unpacked.and(sent)
    }

    /// Copies the host's `from` into the container's folder `path`, under the name `name`.
    pub fn copy_in(
        &self,
        from: &Path,
        name: &Path,
        path: &str,
        notices: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        let (read, write) = streams::pipe().doing("making a pipe")?;
        let socket = self.connect()?;
        let message = Message::Copy { path: path.to_owned(), into: true };
        control::send_with(&socket, &message, &[read.as_fd()]).doing("asking for the files")?;
        drop(read);
        let mut tar = tar::Builder::new(File::from(write));
        let added = archive::add(&mut tar, from, name);
        let sent = added.and_then(|left_out| tar.into_inner().map(|_| left_out));
        // Where the container refused, that is the reason.
        copied(&socket, notices)?;
        let left_out = sent.doing_to("reading", from)?;
        left_out.in_words().iter().for_each(|text| notices(text));
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

    /// The files of its log, the older one first.
    pub fn logs(&self) -> Vec<std::path::PathBuf> {
        ["log.1", "log"].iter().map(|name| self.path.join(name)).filter(|p| p.exists()).collect()
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
            (None, Some(error)) => Err(Error::Lost(error)),
            (None, None) => Err(Error::Lost("it left no word of how it ended".to_owned())),
        }
    }

    fn connect(&self) -> Result<OwnedFd, Error> {
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
            Ok(()) => match stopped(&socket) {
                Some(shim) => Err(Error::Stopped { id: self.id.clone(), shim }),
                None => Ok(socket),
            },
            Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT) => {
                Err(Error::NotRunning(self.id.clone()))
            }
            Err(error) => Err(error).doing("reaching the container's shim"),
        }
    }
}

/// The shim that listens to `socket`, if it was stopped by a signal: it would answer nothing.
fn stopped(socket: &OwnedFd) -> Option<i32> {
    let shim = rustix::net::sockopt::socket_peercred(socket).ok()?.pid.as_raw_nonzero().get();
    let stat = std::fs::read_to_string(format!("/proc/{shim}/stat")).ok()?;
    // proc(5): the name in parentheses may hold anything; the state follows the last one.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.starts_with(['T', 't']).then_some(shim)
}

/// Sends a message, unless the shim has ended since it was connected to: whether it was there.
fn tell(socket: &OwnedFd, message: &Message) -> Result<bool, Error> {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    match control::send(socket, message) {
        Err(error) if matches!(error.kind(), BrokenPipe | ConnectionReset) => Ok(false),
        sent => sent.map(|()| true).doing("asking the container's shim"),
    }
}

/// Waits until a container and its shim have ended; `None` if the shim ended without reporting an exit.
fn wait_for_end(
    socket: &OwnedFd,
    signals: Option<&signals::SignalPipe>,
) -> Result<Option<Exit>, Error> {
    wait_for_word(socket, signals, true)
}

/// Waits for the message of how something ended, and with `until_gone` for the shim's own end.
fn wait_for_word(
    socket: &OwnedFd,
    signals: Option<&signals::SignalPipe>,
    until_gone: bool,
) -> Result<Option<Exit>, Error> {
    let mut end = End { until_gone, ..End::default() };
    attend::attend(socket, signals, Vec::new(), 0, &mut |message| Ok(end.hear(message)))?;
    end.result()
}

/// What a shim has reported about an end.
#[derive(Default)]
struct End {
    ended: Option<Exit>,
    refused: Option<Error>,
    /// The shim's own end is waited for as well.
    until_gone: bool,
}

impl End {
    /// Takes a message; false when no more is to be waited for.
    fn hear(&mut self, message: Message) -> bool {
        match message {
            Message::Ended(status) => self.ended = Some(Exit::of(status)),
            Message::Failed { message, hint } => self.refused = Some(Error::Shim { message, hint }),
            _ => {}
        }
        self.refused.is_none() && (self.ended.is_none() || self.until_gone)
    }

    fn result(self) -> Result<Option<Exit>, Error> {
        self.refused.map_or(Ok(self.ended), Err)
    }
}

/// Waits until a copy is done.
fn copied(socket: &OwnedFd, notices: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let mut end = End::default();
    attend::attend(socket, None, Vec::new(), 0, &mut |message| {
        if let Message::Notice(text) = &message {
            notices(text);
        }
        Ok(end.hear(message))
    })?;
    match end.result()? {
        Some(Exit::Code(0)) => Ok(()),
        _ => Err(Error::Lost("the copy ended before it was done".to_owned())),
    }
}

fn readable_until(socket: &OwnedFd, until: Instant) -> Result<bool, Error> {
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
