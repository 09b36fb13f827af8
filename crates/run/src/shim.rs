//! The process that owns a container: one each, no daemon.
//!
//! It makes the container, starts it, and stays until it ends: passes signals on, keeps the output
//! of one that nobody is attached to, starts what `exec` asks for, and cleans up. It has one thread,
//! runs from a sealed copy of this program, and an attached one ends when its caller does. Every mount
//! was made in a namespace of its own: killing it leaves nothing mounted, and the container's first
//! process dies with it.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};

use crate::cgroup::{Group, Groups};
use crate::control::{self, Begin, Message};
use crate::error::{Doing, Error};
use crate::folder::{self, State};
use crate::forward::Listeners;
use crate::output::Output;
use crate::setup::{self, Started};
use crate::spawn::{CONTROL, NAME};
use crate::{Container, Exit, clean, join, os, signals};

/// Takes over if this process was started as a container's shim, and then never returns. A program
/// that starts containers calls it first thing in `main`.
pub fn shim_main() {
    if std::env::args_os().next().is_none_or(|name| name != NAME) {
        return;
    }
    let ended =
        os::hide_memory().and_then(|()| container_to_keep()).doing("waiting for a container");
    let ended = ended.and_then(|order| order.map_or(Ok(()), keep));
    let status = match ended {
        Ok(()) => 0,
        Err(error) => {
            let failed = Message::Failed { message: error.chain(), hint: error.hint() };
            drop(control::send(os::borrow(CONTROL), &failed));
            1
        }
    };
    os::exit_now(status)
}

/// A container to start, with its descriptors.
struct Order {
    begin: Begin,
    descriptors: Vec<OwnedFd>,
}

/// What the caller wants started; `None` if it has gone without wanting anything.
fn container_to_keep() -> io::Result<Option<Order>> {
    let mut descriptors = Vec::new();
    loop {
        match control::receive_with(os::borrow(CONTROL))? {
            Some((Message::Take, more)) => descriptors.extend(more),
            Some((Message::Begin(begin), _)) => return Ok(Some(Order { begin, descriptors })),
            _ => return Ok(None),
        }
    }
}

/// Sends a notice to the caller, if it is still there.
pub(crate) fn notice(text: impl Into<String>) {
    drop(control::send(os::borrow(CONTROL), &Message::Notice(text.into())));
}

/// Keeps a container from start to end.
fn keep(order: Order) -> Result<(), Error> {
    let missing = || Error::Lost("its caller sent too few descriptors".to_owned());
    let Begin { folder, groups, window } = order.begin;
    let path = Path::new(&folder);
    // What ps(1) shows, and what is named as the holder of a GPU: 15 bytes at most.
    let id = path.file_name().unwrap_or_default().to_string_lossy();
    let name = CString::new(format!("sconce-{}", id.get(..8).unwrap_or_default()));
    rustix::thread::set_name(&name.unwrap_or_default()).doing("naming this process")?;
    let mut descriptors = order.descriptors.into_iter();
    for number in 0..CONTROL {
        let stream = descriptors.next().ok_or_else(missing)?;
        os::place(stream.as_fd(), number).doing("joining the container's streams")?;
    }
    os::close_at_exec_from(CONTROL as u32);
    let lock = descriptors.next().ok_or_else(missing)?;
    let container: Container =
        folder::read(path, "container.json").doing_to("reading", path.join("container.json"))?;
    let mut state: State =
        folder::read(path, "state.json").doing_to("reading", path.join("state.json"))?;
    let mut made = Vec::new();
    for path in state.cgroups.iter().take(groups) {
        let mut file = || descriptors.next().map(Into::into).ok_or_else(missing);
        made.push(Group { path: path.clone(), entrance: file()?, parent: file()? });
    }
    let groups = Groups::of(made);
    let _held: Vec<OwnedFd> = descriptors.collect();
    // Open until the process ends: a client that connects too late sees end of file and reads the state.
    let listener = listen(path)?;
    let ended = live(path, &container, &mut state, &groups, &listener, window);
    state.pid = None;
    state.finished = Some(folder::now());
    match &ended {
        Ok((exit, _)) => state.exit = Some(exit.code()),
        Err(error) => state.error = Some(error.chain()),
    }
    for group in &groups.made {
        if let Err(error) = group.remove() {
            notice(format!("the cgroup {} stays: {error}", group.path.display()));
        }
    }
    std::mem::forget(groups);
    let cleaned = if container.detach && !container.remove && state.started.is_some() {
        let _ = fs::remove_file(path.join("socket"));
        clean::keep_record(path, &state)
    } else {
        // Without it the rest is nobody's, should this process be killed here.
        let _ = fs::remove_file(path.join("container.json"));
        clean::remove(path)
    };
    let cleaned = cleaned.and(container.leased.as_deref().map_or(Ok(()), clean::remove));
    // Sent last: by then everything is cleaned up and the folder's lock is free.
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::Unlock)
        .doing("letting go of the container's folder")?;
    let (exit, clients) = ended?;
    let message = Message::Ended(exit.status());
    for client in clients.iter().filter(|client| client.waits) {
        drop(control::send(&client.socket, &message));
    }
    drop(control::send(os::borrow(CONTROL), &message));
    cleaned
}

/// From the start of the container to its end: how it ended, and who is connected.
fn live(
    path: &Path,
    container: &Container,
    state: &mut State,
    groups: &Groups,
    listener: &OwnedFd,
    window: Option<(u16, u16)>,
) -> Result<(Exit, Vec<Client>), Error> {
    let scratch = path.join("scratch");
    let ports = Listeners::open(container)?;
    let output = Output::of(container, path)?;
    let (ours, theirs) = control::pair().doing("making a pair of sockets")?;
    let started = setup::start(container, &scratch, groups, window, theirs);
    let started = match started {
        Ok(started) => started,
        Err(error) => {
            setup::unmount(&scratch);
            return Err(error);
        }
    };
    output.started().doing("letting go of the command's streams")?;
    state.pid = Some(started.init.as_raw_nonzero().get());
    state.started = Some(folder::now());
    folder::write(path, "state.json", state)?;
    ports.serve().doing("starting to forward ports")?;
    let mut running = Running {
        container,
        life: rustix::process::pidfd_open(started.init, PidfdFlags::empty())
            .doing("watching the container's first process")?,
        started,
        groups,
        init: ours,
        listener,
        output,
        clients: Vec::new(),
        commands: Vec::new(),
        listening: true,
        ended: None,
        refused: None,
        settled: false,
    };
    let ended = running.serve();
    if groups.memory_kills() > 0 {
        state.out_of_memory = true;
        drop(control::send(os::borrow(CONTROL), &Message::OutOfMemory));
    }
    state.output_lost = running.output.lost();
    let ended = ended.and_then(|()| running.end());
    setup::tidy(container, &scratch, &running.started.overlay, ended.is_ok())?;
    ended.map(|exit| (exit, running.clients))
}

/// Listens where others find this container.
fn listen(path: &Path) -> Result<OwnedFd, Error> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen};
    // A socket's path may have 107 bytes: from within the folder it is short.
    std::env::set_current_dir(path).doing_to("entering", path)?;
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .doing("making a socket")?;
    let address = SocketAddrUnix::new("socket").doing("naming a socket")?;
    bind(&socket, &address).doing_to("listening in", path)?;
    listen(&socket, 16).doing_to("listening in", path)?;
    Ok(socket)
}

/// A container that runs.
struct Running<'a> {
    container: &'a Container,
    started: Started,
    groups: &'a Groups,
    /// A pidfd of the first process.
    life: OwnedFd,
    /// The control socket to the first process.
    init: OwnedFd,
    listener: &'a OwnedFd,
    output: Output,
    clients: Vec<Client>,
    /// Commands that `exec` started.
    commands: Vec<Command>,
    /// The caller is still connected.
    listening: bool,
    /// The command's status as the first process reported it.
    ended: Option<i32>,
    refused: Option<Error>,
    /// Nothing happened for a second: what only the start needed was given back.
    settled: bool,
}

/// A connection to the socket.
struct Client {
    socket: OwnedFd,
    /// Gets a message when the container ends.
    waits: bool,
    /// The command it asked for: signals are for that one.
    command: Option<Pid>,
    gone: bool,
}

/// A command beside the container's own.
struct Command {
    pid: Pid,
    life: OwnedFd,
    /// The client that started it; gets a message when it ends.
    client: OwnedFd,
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
    Output(usize),
    Input,
}

impl Running<'_> {
    /// Serves the caller, clients and output until the first process ends.
    fn serve(&mut self) -> Result<(), Error> {
        loop {
            for source in self.wait()? {
                match source {
                    Source::Life => {
                        while self.read_init()? {}
                        self.end_commands();
                        return self.output.drain().doing("reading the container's output");
                    }
                    Source::Init => drop(self.read_init()?),
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
                    Source::Output(at) => self.output.read(at).doing("reading the output")?,
                    Source::Input => self.output.write_input(),
                }
            }
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
        let mut sources = vec![Source::Init, Source::Listener];
        let mut fds =
            vec![PollFd::new(&self.init, PollFlags::IN), PollFd::new(self.listener, PollFlags::IN)];
        if self.listening {
            sources.push(Source::Caller);
            fds.push(PollFd::new(&caller, PollFlags::IN));
        }
        for (at, client) in self.clients.iter().enumerate() {
            sources.push(Source::Client(at));
            fds.push(PollFd::new(&client.socket, PollFlags::IN));
        }
        for (at, command) in self.commands.iter().enumerate() {
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
        let second = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
        match poll(&mut fds, (!self.settled).then_some(&second)) {
            Ok(0) => {
                os::give_back_code();
                self.settled = true;
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).doing("waiting for the container"),
        }
        let ready = sources.into_iter().zip(&fds);
        Ok(ready.filter(|(_, fd)| !fd.revents().is_empty()).map(|(source, _)| source).collect())
    }

    /// Takes one message of the first process; false where there is none.
    fn read_init(&mut self) -> Result<bool, Error> {
        if !os::readable(&self.init) {
            return Ok(false);
        }
        let heard = control::receive(&self.init).doing("listening to the first process")?;
        let caller = os::borrow(CONTROL);
        match heard {
            None => return Ok(false),
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
        Ok(true)
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
            Message::Attach => {
                client.waits = true;
                self.output.attach(fds)
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
        let Some(client) = self.clients.get(at) else { return Ok(()) };
        let target = join::Target {
            life: &self.life,
            process: &self.started.process,
            host_pids: self.container.host_pids,
            groups: self.groups,
        };
        let pid = target.exec(exec, fds, &client.socket)?;
        self.remember(at, pid)
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
        self.remember(at, pid)
    }

    /// Watches a process for a client.
    fn remember(&mut self, at: usize, pid: Pid) -> Result<(), Error> {
        let Some(client) = self.clients.get_mut(at) else { return Ok(()) };
        client.command = Some(pid);
        let life =
            rustix::process::pidfd_open(pid, PidfdFlags::empty()).doing("watching the command")?;
        let client = client.socket.try_clone().doing("keeping the client")?;
        self.commands.push(Command { pid, life, client });
        Ok(())
    }

    fn end_command(&mut self, at: usize) {
        let Some(command) = self.commands.get_mut(at) else { return };
        let status = rustix::process::waitpid(Some(command.pid), WaitOptions::empty());
        let ended = status.ok().flatten().map_or(125, |(_, status)| status_of(status));
        drop(control::send(&command.client, &Message::Ended(ended)));
        // No command is the host's process 1: this marks it for removal.
        command.pid = Pid::INIT;
    }

    /// How the container ended.
    fn end(&mut self) -> Result<Exit, Error> {
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
