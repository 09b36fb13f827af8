//! The caller's side of a running command: messages of its shim, signals, and the terminal.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::control::{self, Message};
use crate::error::{Doing, Error};
use crate::pulse::{self, Pulse};
use crate::signals::{self, SignalPipe};
use crate::streams;
use crate::terminal::Joined;

/// How long a shim may take to end a command that has not started, after a signal asked for it.
const AFTER_SIGNAL: Duration = Duration::from_secs(5);

/// So many signals that end processes, within so long, and the caller wants to leave, as with Docker's client.
const INSISTED: usize = 3;
const INSISTED_WITHIN: Duration = Duration::from_secs(5);
/// How long a command may take to end after the last of them.
const AFTER_INSISTED: Duration = Duration::from_secs(1);

/// What is attended to.
pub(crate) struct Attended<'a> {
    /// The socket to the shim.
    pub(crate) control: &'a OwnedFd,
    /// Signals that are passed on.
    pub(crate) signals: Option<&'a SignalPipe>,
    /// The shim: where it is stopped, that comes as a notice.
    pub(crate) pulse: Option<Pulse>,
    /// A command was asked for and has yet to start. Until it has, a signal that ends processes ends the wait for
    /// it as well.
    pub(crate) starts: bool,
    /// What is attended to outlives this process, in the container that is called so: who sends a third signal leaves it.
    pub(crate) outlives: Option<&'a str>,
    /// What signals to this process mean.
    pub(crate) signalled: Signalled,
}

/// What becomes of signals to the caller.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signalled {
    /// They are for the command.
    Passed,
    /// The same, but for the end of the caller's terminal: what was started elsewhere goes on without it.
    PassedButHangup,
    /// They are for this process, as with Docker's client where there is a terminal: keys make the command's.
    Kept,
}

impl Signalled {
    /// Who attends leaves at this one.
    fn leaves(self, number: i32) -> bool {
        match self {
            Self::Passed => false,
            Self::PassedButHangup => number == libc::SIGHUP,
            Self::Kept => signals::ends_a_process(number),
        }
    }
}

impl<'a> Attended<'a> {
    /// What a shim has to say, and no signals.
    pub(crate) fn to(control: &'a OwnedFd, pulse: Option<Pulse>) -> Self {
        Self {
            control,
            signals: None,
            pulse,
            starts: false,
            outlives: None,
            signalled: Signalled::Passed,
        }
    }
}

/// Serves until the other end of `control` is closed or `hear` answers false. `captured` are pipes
/// to read to their end, of which `most` bytes are kept each and answered.
pub(crate) fn attend(
    to: Attended<'_>,
    captured: Vec<OwnedFd>,
    most: usize,
    hear: &mut dyn FnMut(Message) -> Result<bool, Error>,
) -> Result<Vec<Vec<u8>>, Error> {
    let pipes = captured.into_iter().map(|fd| Pipe { fd: Some(fd), kept: Vec::new() }).collect();
    let mut attendance = Attendance::new(to, pipes, None);
    attendance.run(most, hear)?;
    Ok(attendance.pipes.into_iter().map(|pipe| pipe.kept).collect())
}

/// The same for a container whose terminal is with its shim. False when the user left it.
pub(crate) fn attend_terminal(
    to: Attended<'_>,
    terminal: Joined,
    hear: &mut dyn FnMut(Message) -> Result<bool, Error>,
) -> Result<bool, Error> {
    let mut attendance = Attendance::new(to, Vec::new(), Some(terminal));
    attendance.pass_on(libc::SIGWINCH);
    attendance.run(0, hear)?;
    Ok(!attendance.left())
}

struct Attendance<'a> {
    to: Attended<'a>,
    pipes: Vec<Pipe>,
    terminal: Option<Joined>,
    listening: bool,
    /// A signal came before the command started, and until when an answer is waited for.
    given_up: Option<(i32, Instant)>,
    /// When signals came that end processes, after the command started.
    insisted: Vec<Instant>,
    /// The last signal of those that end processes, and when it came.
    told: Option<(i32, Instant)>,
    /// When nothing more was to be heard of the command.
    ended: Option<Instant>,
    /// The last of too many, and until when an end is waited for.
    leaves: Option<(i32, Instant)>,
    /// The command's process, as the container counts.
    process: Option<i32>,
}

impl<'a> Attendance<'a> {
    fn new(to: Attended<'a>, pipes: Vec<Pipe>, terminal: Option<Joined>) -> Self {
        let (insisted, given_up, leaves, process) = (Vec::new(), None, None, None);
        let (told, ended, listening) = (None, None, true);
        Self { to, pipes, terminal, listening, given_up, insisted, told, ended, leaves, process }
    }
}

impl Attendance<'_> {
    fn run(
        &mut self,
        most: usize,
        hear: &mut dyn FnMut(Message) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        while self.goes_on() {
            for source in self.wait()? {
                self.serve(source, most, hear)?;
            }
            if self.terminal.as_ref().is_some_and(|joined| joined.gone) {
                return Err(self.hung_up());
            }
            if !self.listening {
                self.ended.get_or_insert_with(Instant::now);
            }
            if let Some(text) = self.to.pulse.as_mut().and_then(Pulse::word) {
                hear(Message::Notice(text))?;
            }
            if let Some((signal, until)) = self.given_up
                && self.to.starts
                && Instant::now() > until
            {
                return Err(Error::Interrupted(signal));
            }
            if let Some((signal, until)) = self.leaves
                && Instant::now() > until
            {
                let container = self.to.outlives.unwrap_or_default().to_owned();
                return Err(Error::Left { signal, container, process: self.process });
            }
            if let Some((signal, until)) = self.gives_up_output()
                && Instant::now() > until
            {
                return Err(Error::Interrupted(signal));
            }
        }
        Ok(())
    }

    /// The caller's terminal is closed.
    fn hung_up(&self) -> Error {
        let signal = signals::hung_up();
        match self.to.outlives.map(str::to_owned) {
            None => Error::Interrupted(signal),
            Some(container) if self.to.signalled.leaves(signal) => {
                Error::Detached { signal, container }
            }
            Some(container) => Error::Left { signal, container, process: self.process },
        }
    }

    fn left(&self) -> bool {
        self.terminal.as_ref().is_some_and(|joined| joined.left)
    }

    fn goes_on(&self) -> bool {
        if self.left() {
            return false;
        }
        self.listening || self.terminal.is_some() || self.pipes.iter().any(|pipe| pipe.fd.is_some())
    }

    fn serve(
        &mut self,
        source: Source,
        most: usize,
        hear: &mut dyn FnMut(Message) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        match source {
            Source::Control => match control::receive(self.to.control) {
                Ok(Some(Message::Terminal(master))) => {
                    self.terminal = Some(Joined::new(master)?);
                    self.to.starts = false;
                    self.listening = hear(Message::Started)?;
                }
                Ok(Some(Message::Process(process))) => self.process = Some(process),
                Ok(Some(message)) => {
                    self.to.starts &= !matches!(message, Message::Started);
                    self.listening = hear(message)?;
                    // Its shim has let go of it.
                    let is_let_go = |joined: &Joined| !self.listening && joined.is_attached();
                    if self.terminal.as_ref().is_some_and(is_let_go) {
                        self.terminal = None;
                    }
                }
                Ok(None) => self.listening = false,
                Err(error) => return Err(error).doing("listening to the container"),
            },
            Source::Signals => {
                let mut numbers = [0; 64];
                let count = self
                    .to
                    .signals
                    .map_or(Ok(0), |pipe| rustix::io::read(pipe.fd(), &mut numbers))
                    .unwrap_or(0);
                for number in numbers.iter().take(count).map(|byte| i32::from(*byte)) {
                    if self.to.signalled.leaves(number) {
                        let container = self.to.outlives.unwrap_or_default().to_owned();
                        return Err(Error::Detached { signal: number, container });
                    }
                    self.pass_on(number);
                    if signals::ends_a_process(number) {
                        self.told = Some((number, Instant::now()));
                    }
                    match signals::ends_a_process(number) {
                        true if self.to.starts => {
                            self.given_up.get_or_insert((number, Instant::now() + AFTER_SIGNAL));
                        }
                        true if self.to.outlives.is_some() => self.insist(number),
                        _ => {}
                    }
                }
            }
            Source::Pipe(index) => {
                if let Some(pipe) = self.pipes.get_mut(index) {
                    pipe.read(most)?;
                }
            }
            Source::Keyboard => {
                if let Some(joined) = &mut self.terminal {
                    joined.read_keys()?;
                }
            }
            Source::Terminal => {
                if let Some(joined) = &mut self.terminal {
                    joined.write_keys()?;
                    if !joined.take_output()? {
                        self.terminal = None;
                    }
                }
            }
            Source::Screen => {
                if let Some(joined) = &mut self.terminal {
                    joined.show()?;
                }
            }
        }
        Ok(())
    }

    /// Until when the last output is waited for that nobody reads, where the command has ended and this process was told to
    /// end: shortly before, or since.
    fn gives_up_output(&self) -> Option<(i32, Instant)> {
        let joined = self.terminal.as_ref().filter(|joined| joined.blocked().is_some())?;
        let (signal, came) = self.told?;
        let ended = self.ended?;
        let late = ended.saturating_duration_since(came) > INSISTED_WITHIN;
        let from = came.max(ended).max(joined.moved);
        (!late).then_some((signal, from + streams::UNREAD))
    }

    /// Counts a signal that ends processes.
    fn insist(&mut self, number: i32) {
        self.insisted.retain(|came| came.elapsed() < INSISTED_WITHIN);
        self.insisted.push(Instant::now());
        if self.insisted.len() >= INSISTED && self.leaves.is_none() {
            self.leaves = Some((number, Instant::now() + AFTER_INSISTED));
            // Who leaves should be told what is left.
            drop(control::send(self.to.control, &Message::Which));
        }
    }

    /// Passes a signal to the command, if it still runs.
    fn pass_on(&self, number: i32) {
        let send = || drop(control::send(self.to.control, &Message::Signal(number)));
        match (number, &self.terminal) {
            (libc::SIGWINCH, Some(joined)) => {
                if let Some((rows, columns)) = joined.resize() {
                    drop(control::send(self.to.control, &Message::Resize { rows, columns }));
                }
            }
            // Ctrl-Z: the container stops, then this process, as a job of the shell.
            (libc::SIGTSTP, _) => {
                if self.to.signalled != Signalled::Kept {
                    send();
                }
                signals::stop_myself();
            }
            _ if self.to.signalled == Signalled::Kept => {}
            _ => send(),
        }
    }

    /// Waits until something can be read: what.
    fn wait(&self) -> Result<Vec<Source>, Error> {
        let stdin = io::stdin();
        let mut sources = Vec::new();
        let mut fds = Vec::new();
        if self.listening {
            sources.push(Source::Control);
            fds.push(PollFd::new(self.to.control, PollFlags::IN));
        }
        if let Some(signals) = self.to.signals {
            sources.push(Source::Signals);
            fds.push(PollFd::new(signals.fd(), PollFlags::IN));
        }
        for (index, pipe) in self.pipes.iter().enumerate() {
            if let Some(fd) = &pipe.fd {
                sources.push(Source::Pipe(index));
                fds.push(PollFd::new(fd, PollFlags::IN));
            }
        }
        if let Some(joined) = &self.terminal {
            let keys = if joined.has_keys() { PollFlags::OUT } else { PollFlags::empty() };
            let blocked = joined.blocked();
            let output = if blocked.is_some() { PollFlags::empty() } else { PollFlags::IN };
            // Without either it would report its end, again and again.
            if !(keys | output).is_empty() {
                sources.push(Source::Terminal);
                fds.push(PollFd::new(&joined.master, output | keys));
            }
            if let Some(screen) = blocked {
                sources.push(Source::Screen);
                fds.push(PollFd::from_borrowed_fd(screen, PollFlags::OUT));
            }
            if joined.wants_keys() {
                sources.push(Source::Keyboard);
                fds.push(PollFd::new(&stdin, PollFlags::IN));
            }
        }
        let leaves = self.leaves.is_some() || self.gives_up_output().is_some();
        let looks = self.to.pulse.is_some() || self.given_up.is_some() || leaves;
        let look = if leaves { AFTER_INSISTED / 4 } else { pulse::LOOK };
        let look =
            Timespec { tv_sec: look.as_secs().cast_signed(), tv_nsec: look.subsec_nanos().into() };
        match poll(&mut fds, looks.then_some(&look)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error).doing("waiting for the container"),
        }
        let ready = sources.into_iter().zip(&fds);
        Ok(ready.filter(|(_, fd)| !fd.revents().is_empty()).map(|(source, _)| source).collect())
    }
}

/// A descriptor that is ready.
#[derive(Clone, Copy)]
enum Source {
    Control,
    Signals,
    Pipe(usize),
    Terminal,
    /// The caller's terminal takes output.
    Screen,
    Keyboard,
}

/// One captured output.
struct Pipe {
    fd: Option<OwnedFd>,
    kept: Vec<u8>,
}

impl Pipe {
    /// Reads some more, keeping no more than `most` bytes in all.
    fn read(&mut self, most: usize) -> Result<(), Error> {
        let Some(fd) = &self.fd else { return Ok(()) };
        let mut buffer = [0; 16 << 10];
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => self.fd = None,
            Ok(length) => {
                let room = most.saturating_sub(self.kept.len()).min(length);
                self.kept.extend_from_slice(buffer.get(..room).unwrap_or_default());
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).doing("reading the container's output"),
        }
        Ok(())
    }
}
