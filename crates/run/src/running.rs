//! A running container as its shim has it: who is connected, what they ask for, and what comes of it.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};

use crate::cgroup::Groups;
use crate::command::{Command, MOST_LAST_WORDS};
use crate::control::{self, Message};
use crate::error::{Doing, Error};
use crate::output::Output;
use crate::setup::Started;
use crate::spawn::CONTROL;
use crate::{Container, Exit, join, os, signals};

/// A container that runs.
pub(crate) struct Running<'a> {
    container: &'a Container,
    pub(crate) started: Started,
    groups: &'a Groups,
    /// A pidfd of the first process.
    life: OwnedFd,
    /// The control socket to the first process, until that closes it.
    init: Option<OwnedFd>,
    listener: &'a OwnedFd,
    pub(crate) output: Output,
    pub(crate) clients: Vec<Client>,
    /// Commands that `exec` started.
    commands: Vec<Command>,
    /// The caller is still connected.
    listening: bool,
    /// The command's status as the first process reported it.
    ended: Option<i32>,
    refused: Option<Error>,
    /// When what the start, or a request since, has read of this program is given back.
    settles: Option<Instant>,
}

/// A connection to the socket.
pub(crate) struct Client {
    pub(crate) socket: OwnedFd,
    /// Gets a message when the container ends.
    pub(crate) waits: bool,
    /// The command it asked for: signals are for that one.
    command: Option<Pid>,
    gone: bool,
}

/// A descriptor that is ready.
#[derive(Clone, Copy)]
enum Source {
    Life,
    Init,
    Caller,
    Listener,
    Client(usize),
    Command(usize),
    Says(usize),
    Output(usize),
    Input,
}

impl<'a> Running<'a> {
    /// One that was just started; `init` is the control socket to its first process.
    pub(crate) fn new(
        container: &'a Container,
        started: Started,
        groups: &'a Groups,
        init: OwnedFd,
        listener: &'a OwnedFd,
        output: Output,
    ) -> Result<Self, Error> {
        Ok(Self {
            container,
            life: rustix::process::pidfd_open(started.init, PidfdFlags::empty())
                .doing("watching the container's first process")?,
            started,
            groups,
            init: Some(init),
            listener,
            output,
            clients: Vec::new(),
            commands: Vec::new(),
            listening: true,
            ended: None,
            refused: None,
            settles: Some(Instant::now() + os::KEPT),
        })
    }

    /// Serves the caller, clients and output until the first process ends.
    pub(crate) fn serve(&mut self) -> Result<(), Error> {
        loop {
            for source in self.wait()? {
                // The command's output needs little of the program, and may never stop.
                if !matches!(source, Source::Output(_) | Source::Input) {
                    self.settles = Some(Instant::now() + os::KEPT);
                }
                match source {
                    Source::Life => {
                        for _ in 0..MOST_LAST_WORDS {
                            if !self.read_init() {
                                break;
                            }
                        }
                        self.end_commands();
                        return self.output.drain().doing("reading the container's output");
                    }
                    Source::Init => drop(self.read_init()),
                    Source::Caller => match control::receive(os::borrow(CONTROL)) {
                        Ok(Some(Message::Signal(number))) => self.signal(number),
                        Ok(Some(_)) => {}
                        _ => {
                            self.listening = false;
                            // An attached container ends with its caller, whatever ended that.
                            if !self.container.detach {
                                let _ =
                                    rustix::process::pidfd_send_signal(&self.life, Signal::KILL);
                            }
                        }
                    },
                    Source::Listener => {
                        let flags = rustix::net::SocketFlags::CLOEXEC;
                        if let Ok(socket) = rustix::net::accept_with(self.listener, flags) {
                            self.clients.push(Client {
                                socket,
                                waits: false,
                                command: None,
                                gone: false,
                            });
                        }
                    }
                    Source::Client(at) => self.serve_client(at),
                    Source::Command(at) => self.end_command(at),
                    Source::Says(at) => {
                        if let Some(command) = self.commands.get_mut(at) {
                            command.hand_on();
                        }
                    }
                    Source::Output(at) => self.output.read(at).doing("reading the output")?,
                    Source::Input => self.output.write_input(),
                }
            }
            self.output.let_go();
            self.clients.retain(|client| !client.gone);
            self.commands.retain(|command| command.pid != Pid::INIT);
        }
    }

    /// Ends what waits beside commands that ended with the container, and copies: none of them is one of the container's
    /// processes.
    fn end_commands(&mut self) {
        for command in self.commands.drain(..) {
            let _ = rustix::process::pidfd_send_signal(&command.life, Signal::KILL);
            let _ = rustix::io::retry_on_intr(|| {
                rustix::process::waitpid(Some(command.pid), rustix::process::WaitOptions::empty())
            });
        }
    }

    fn wait(&mut self) -> Result<Vec<Source>, Error> {
        let caller = os::borrow(CONTROL);
        let mut sources = vec![Source::Listener];
        let mut fds = vec![PollFd::new(self.listener, PollFlags::IN)];
        if let Some(init) = &self.init {
            sources.push(Source::Init);
            fds.push(PollFd::new(init, PollFlags::IN));
        }
        if self.listening {
            sources.push(Source::Caller);
            fds.push(PollFd::new(&caller, PollFlags::IN));
        }
        for (at, client) in self.clients.iter().enumerate() {
            sources.push(Source::Client(at));
            fds.push(PollFd::new(&client.socket, PollFlags::IN));
        }
        for (at, command) in self.commands.iter().enumerate() {
            if let Some(says) = &command.says {
                sources.push(Source::Says(at));
                fds.push(PollFd::new(says, PollFlags::IN));
            }
            sources.push(Source::Command(at));
            fds.push(PollFd::new(&command.life, PollFlags::IN));
        }
        for (at, fd) in self.output.readable() {
            sources.push(Source::Output(at));
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        if let Some(input) = self.output.writable() {
            sources.push(Source::Input);
            fds.push(PollFd::from_borrowed_fd(input, PollFlags::OUT));
        }
        // Last, so that messages sent before the end are read before it.
        sources.push(Source::Life);
        fds.push(PollFd::new(&self.life, PollFlags::IN));
        let left = self.settles.map(|at| at.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).doing("waiting for the container"),
        }
        if self.settles.is_some_and(|at| Instant::now() >= at) {
            os::give_back_program();
            self.settles = None;
        }
        let ready = sources.into_iter().zip(&fds);
        Ok(ready.filter(|(_, fd)| !fd.revents().is_empty()).map(|(source, _)| source).collect())
    }

    /// Takes one message of the first process; false where there is none.
    fn read_init(&mut self) -> bool {
        let Some(init) = self.init.as_ref().filter(|init| os::readable(init)) else { return false };
        let heard = match control::receive(init) {
            Ok(heard) => heard,
            // Root inside that traces the first process may send anything in its place.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => return true,
            Err(_) => None,
        };
        let caller = os::borrow(CONTROL);
        match heard {
            None => {
                self.init = None;
                return false;
            }
            Some(Message::Terminal(master)) if self.container.detach => {
                self.output.show_terminal(master);
                drop(control::send(caller, &Message::Started));
            }
            Some(Message::Ended(status)) => self.ended = Some(status),
            Some(message) => {
                match &message {
                    Message::ExecFailed(errno) => {
                        let command = self.container.command.first().cloned().unwrap_or_default();
                        self.refused = Some(Error::of_exec(command, *errno));
                    }
                    Message::Failed { message, hint } => {
                        self.refused =
                            Some(Error::Shim { message: message.clone(), hint: hint.clone() });
                    }
                    _ => {}
                }
                // The caller may be gone.
                drop(control::send(caller, &message));
            }
        }
        true
    }

    /// Signals the container's first process, which passes it on.
    fn signal(&self, number: i32) {
        // STOP would stop the first process, and not what it started.
        let number = if number == libc::SIGSTOP { libc::SIGTSTP } else { number };
        if let Some(signal) = signals::numbered(number) {
            let _ = rustix::process::pidfd_send_signal(&self.life, signal);
        }
    }

    /// Signals a command that `exec` started, if it still runs.
    fn signal_command(&self, pid: Pid, number: i32) {
        let command = self.commands.iter().find(|command| command.pid == pid);
        if let (Some(command), Some(signal)) = (command, signals::numbered(number)) {
            let _ = rustix::process::pidfd_send_signal(&command.life, signal);
        }
    }

    fn serve_client(&mut self, at: usize) {
        let Some(client) = self.clients.get_mut(at) else { return };
        let (message, mut fds) = match control::receive_with(&client.socket) {
            Ok(Some(received)) => received,
            _ => {
                client.gone = true;
                return;
            }
        };
        let answer = match message {
            Message::Wait => {
                client.waits = true;
                Ok(())
            }
            Message::Signal(number) => {
                let asked = client.command;
                match asked {
                    Some(pid) => self.signal_command(pid, number),
                    None => self.signal(number),
                }
                Ok(())
            }
            Message::Which => {
                let asked = client.command;
                let command = self.commands.iter().find(|command| Some(command.pid) == asked);
                if let Some(number) = command.and_then(Command::number) {
                    drop(control::send(&client.socket, &Message::Process(number)));
                }
                Ok(())
            }
            Message::Attach => {
                client.waits = true;
                match client.socket.try_clone().doing("keeping the client") {
                    Ok(client) => self.output.attach(fds, client),
                    Err(error) => Err(error),
                }
            }
            Message::Resize { rows, columns } => {
                self.output.resize(rows, columns);
                Ok(())
            }
            Message::Exec(exec) => match fds.len() {
                3 => self.exec(at, &exec, &fds),
                _ => Err(Error::Lost("a command came without its streams".to_owned())),
            },
            Message::Copy { path, into } => match fds.pop() {
                Some(stream) => self.copy(at, &path, into, stream),
                None => Err(Error::Lost("a copy came without its stream".to_owned())),
            },
            _ => Ok(()),
        };
        if let (Err(error), Some(client)) = (answer, self.clients.get(at)) {
            let failed = Message::Failed { message: error.chain(), hint: error.hint() };
            drop(control::send(&client.socket, &failed));
        }
    }

    fn exec(&mut self, at: usize, exec: &control::Exec, fds: &[OwnedFd]) -> Result<(), Error> {
        let target = join::Target {
            life: &self.life,
            process: &self.started.process,
            host_pids: self.container.host_pids,
            groups: self.groups,
        };
        let (ours, theirs) = control::pair_of_nobody().doing("making a pair of sockets")?;
        let pid = target.exec(exec, fds, &theirs)?;
        self.remember(at, pid, Some(ours))
    }

    fn copy(&mut self, at: usize, path: &str, into: bool, stream: OwnedFd) -> Result<(), Error> {
        let Some(client) = self.clients.get(at) else { return Ok(()) };
        let target = join::Target {
            life: &self.life,
            process: &self.started.process,
            host_pids: self.container.host_pids,
            groups: self.groups,
        };
        let pid = target.copy(Path::new(path), into, stream, &client.socket)?;
        self.remember(at, pid, None)
    }

    /// Watches a process for a client.
    fn remember(&mut self, at: usize, pid: Pid, says: Option<OwnedFd>) -> Result<(), Error> {
        let Some(client) = self.clients.get_mut(at) else { return Ok(()) };
        client.command = Some(pid);
        let life =
            rustix::process::pidfd_open(pid, PidfdFlags::empty()).doing("watching the command")?;
        let client = client.socket.try_clone().doing("keeping the client")?;
        self.commands.push(Command { pid, life, client, says, own: None });
        Ok(())
    }

    fn end_command(&mut self, at: usize) {
        let Some(command) = self.commands.get_mut(at) else { return };
        let status = rustix::process::waitpid(Some(command.pid), WaitOptions::empty());
        let ended = status.ok().flatten().map_or(125, |(_, status)| status_of(status));
        command.hand_on_the_rest();
        command.end_own();
        drop(control::send(&command.client, &Message::Ended(ended)));
        // No command is the host's process 1: this marks it for removal.
        command.pid = Pid::INIT;
    }

    /// How the container ended.
    pub(crate) fn end(&mut self) -> Result<Exit, Error> {
        let status = rustix::process::waitpid(Some(self.started.init), WaitOptions::empty())
            .doing("collecting the container's first process")?;
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        match (self.ended, status.and_then(|(_, status)| status.terminating_signal())) {
            (Some(status), _) => Ok(Exit::of(status)),
            // It reports the command's status itself, unless it was killed: by `sconce kill`, or by the
            // kernel's out-of-memory killer.
            (None, Some(signal)) => Ok(Exit::Signal(signal)),
            (None, None) => Err(Error::Lost("its first process ended without a word".to_owned())),
        }
    }
}

/// The status of a process as [`Message::Ended`] has it.
fn status_of(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => -signal,
        (None, None) => 125,
    }
}
