//! The caller's side: starts the keeper, then keeps streams, signals and terminal until the
//! command has ended.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus};

use crate::cgroup::Groups;
use crate::control::{self, Message};
use crate::error::{Doing, Error};
use crate::forward::Listeners;
use crate::keeper::{self, Plan};
use crate::scratch::Scratch;
use crate::terminal::{self, Joined};
use crate::{Captured, Container, Exit, Stdio, ids, memory, os, request};

/// Runs the container until its command ends. `notices` takes what the user should know,
/// a sentence at a time.
///
/// Signals that would end this process go to the command instead while it runs. Call it
/// from a thread that lives as long as the container: when that thread ends, so does it.
pub fn run(container: &Container, notices: &mut dyn FnMut(&str)) -> Result<Exit, Error> {
    let signals = os::SignalPipe::new().doing("listening for signals")?;
    let streams = match container.stdio {
        Stdio::Inherit => [None, None, None],
        Stdio::Output | Stdio::Terminal => [Some(null()?), None, None],
    };
    let mut session = Session::start(container, streams, notices)?;
    session.attend(signals.as_ref(), Vec::new(), 0, notices)?;
    session.finish()
}

/// Runs the container without input and keeps the first `most` bytes of each output. Signals
/// stay this process's own. Several may run at once.
pub fn run_captured(
    container: &Container,
    most: usize,
    notices: &mut dyn FnMut(&str),
) -> Result<Captured, Error> {
    let container = Container { stdio: Stdio::Output, ..container.clone() };
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).doing("making a pipe");
    let ((out, to_out), (err, to_err)) = (pipe()?, pipe()?);
    let streams = [Some(null()?), Some(to_out), Some(to_err)];
    let mut session = Session::start(&container, streams, notices)?;
    let mut kept = session.attend(None, vec![out, err], most, notices)?.into_iter();
    let exit = session.finish()?;
    let (stdout, stderr) = (kept.next().unwrap_or_default(), kept.next().unwrap_or_default());
    Ok(Captured { exit, stdout, stderr })
}

fn null() -> Result<OwnedFd, Error> {
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).doing("opening /dev/null")
}

/// A container that was started.
struct Session {
    control: OwnedFd,
    keeper: Keeper,
    command: String,
    /// The request needs more ids than root's.
    wants_ids: bool,
    outcome: Outcome,
    _groups: Groups,
    _scratch: Scratch,
}

/// What the other two processes said about the end.
#[derive(Default)]
struct Outcome {
    ended: Option<i32>,
    exec_failed: Option<i32>,
    reason: Option<String>,
    failed: Option<Error>,
}

/// The keeper's process; killed and collected if it is still there when this is dropped.
struct Keeper(Option<Pid>);

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(pid) = self.0.take() {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

impl Session {
    fn start(
        container: &Container,
        streams: [Option<OwnedFd>; 3],
        notices: &mut dyn FnMut(&str),
    ) -> Result<Self, Error> {
        check(container)?;
        let power = ids::power()?;
        let terminal = match container.stdio {
            Stdio::Terminal => Some(terminal::size()?),
            Stdio::Output | Stdio::Inherit => None,
        };
        let (container, scratch) = prepare(container, notices)?;
        let listeners = Listeners::open(&container)?;
        let uname = rustix::system::uname();
        let hostname = container
            .hostname
            .clone()
            .unwrap_or_else(|| uname.nodename().to_string_lossy().into_owned());
        let shm_bytes = container
            .shm_bytes
            .unwrap_or_else(|| memory::default_shm_bytes(container.memory_bytes));
        let (ours, theirs) = control::pair().doing("making a pair of sockets")?;
        let plan = Plan {
            container: &container,
            power,
            streams,
            terminal,
            hostname: &hostname,
            shm_bytes,
            caller: rustix::process::getpid(),
            left: &scratch.left,
        };
        let pid = os::fork(|| keeper::keep(&plan, &theirs)).doing("starting the keeper")?;
        let keeper = Keeper(Some(pid));
        drop(plan);
        drop(theirs);
        let name = format!("sconce-{}", pid.as_raw_nonzero());
        let (groups, note) = Groups::limit(pid, &name, container.memory_bytes, container.cpus);
        if let Some(note) = note {
            notices(&note);
        }
        // A keeper that is gone already has said why; that is read below.
        drop(control::send(&ours, &Message::Go));
        listeners.serve().doing("starting to forward ports")?;
        Ok(Self {
            control: ours,
            keeper,
            command: container.command.first().cloned().unwrap_or_default(),
            wants_ids: container.user.is_some(),
            outcome: Outcome::default(),
            _groups: groups,
            _scratch: scratch,
        })
    }

    /// Serves everyone until the container and the keeper have closed their ends. `captured`
    /// are pipes to read to their end, of which `most` bytes are kept each.
    fn attend(
        &mut self,
        signals: Option<&os::SignalPipe>,
        captured: Vec<OwnedFd>,
        most: usize,
        notices: &mut dyn FnMut(&str),
    ) -> Result<Vec<Vec<u8>>, Error> {
        let mut pipes: Vec<Pipe> =
            captured.into_iter().map(|fd| Pipe { fd: Some(fd), kept: Vec::new() }).collect();
        let mut terminal: Option<Joined> = None;
        let mut listening = true;
        while listening || terminal.is_some() || pipes.iter().any(|pipe| pipe.fd.is_some()) {
            let ready = self.wait(listening, signals, &pipes, terminal.as_ref())?;
            for source in ready {
                match source {
                    Source::Control => match control::receive(&self.control) {
                        Ok(Some(Message::Terminal(master))) => {
                            terminal = Some(Joined::new(master)?)
                        }
                        Ok(Some(message)) => self.hear(message, notices)?,
                        Ok(None) => listening = false,
                        Err(error) => return Err(error).doing("listening to the container"),
                    },
                    Source::Signals => {
                        let mut numbers = [0; 64];
                        let count = signals
                            .map_or(Ok(0), |pipe| rustix::io::read(pipe.fd(), &mut numbers))
                            .unwrap_or(0);
                        for number in numbers.iter().take(count).map(|byte| i32::from(*byte)) {
                            if number != libc::SIGWINCH {
                                // A keeper that is gone has ended the container already.
                                drop(control::send(&self.control, &Message::Signal(number)));
                            } else if let Some(joined) = &terminal {
                                joined.resize();
                            }
                        }
                    }
                    Source::Pipe(index) => {
                        if let Some(pipe) = pipes.get_mut(index) {
                            pipe.read(most)?;
                        }
                    }
                    Source::Keyboard => {
                        if let Some(joined) = &mut terminal {
                            joined.read_keys()?;
                        }
                    }
                    Source::Terminal => {
                        if let Some(joined) = &mut terminal {
                            joined.write_keys()?;
                            if !joined.show()? {
                                terminal = None;
                            }
                        }
                    }
                }
            }
        }
        Ok(pipes.into_iter().map(|pipe| pipe.kept).collect())
    }

    /// Waits until something can be read, and says what.
    fn wait(
        &self,
        listening: bool,
        signals: Option<&os::SignalPipe>,
        pipes: &[Pipe],
        terminal: Option<&Joined>,
    ) -> Result<Vec<Source>, Error> {
        let stdin = io::stdin();
        let mut sources = Vec::new();
        let mut fds = Vec::new();
        if listening {
            sources.push(Source::Control);
            fds.push(PollFd::new(&self.control, PollFlags::IN));
        }
        if let Some(signals) = signals {
            sources.push(Source::Signals);
            fds.push(PollFd::new(signals.fd(), PollFlags::IN));
        }
        for (index, pipe) in pipes.iter().enumerate() {
            if let Some(fd) = &pipe.fd {
                sources.push(Source::Pipe(index));
                fds.push(PollFd::new(fd, PollFlags::IN));
            }
        }
        if let Some(joined) = terminal {
            let keys = if joined.has_keys() { PollFlags::OUT } else { PollFlags::empty() };
            sources.push(Source::Terminal);
            fds.push(PollFd::new(&joined.master, PollFlags::IN | keys));
            if joined.wants_keys() {
                sources.push(Source::Keyboard);
                fds.push(PollFd::new(&stdin, PollFlags::IN));
            }
        }
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error).doing("waiting for the container"),
        }
        let ready = sources.into_iter().zip(&fds);
        Ok(ready.filter(|(_, fd)| !fd.revents().is_empty()).map(|(source, _)| source).collect())
    }

    fn hear(&mut self, message: Message, notices: &mut dyn FnMut(&str)) -> Result<(), Error> {
        match message {
            Message::MapMe => {
                if let Some(pid) = self.keeper.0
                    && let Some(note) = ids::write_maps(pid)?
                    && self.wants_ids
                {
                    notices(&note);
                }
                control::send(&self.control, &Message::Go).doing("answering the keeper")?;
            }
            Message::Notice(text) => notices(&text),
            Message::Reason(text) => {
                self.outcome.reason.get_or_insert(text);
            }
            Message::Failed { message, hint } => {
                // The first line that was logged is where it began.
                let message = match self.outcome.reason.take() {
                    Some(reason) => format!("{message} ({reason})"),
                    None => message,
                };
                self.outcome.failed = Some(Error::Keeper { message, hint });
            }
            Message::ExecFailed(errno) => self.outcome.exec_failed = Some(errno),
            Message::Ended(status) => self.outcome.ended = Some(status),
            Message::Go | Message::Signal(_) | Message::Terminal(_) => {}
        }
        Ok(())
    }

    /// Collects the keeper and tells how it went.
    fn finish(mut self) -> Result<Exit, Error> {
        let keeper = match self.keeper.0.take() {
            Some(pid) => rustix::process::waitpid(Some(pid), WaitOptions::empty())
                .doing("collecting the keeper")?
                .map(|(_, status)| status),
            None => None,
        };
        let outcome = std::mem::take(&mut self.outcome);
        if let Some(errno) = outcome.exec_failed {
            let source = io::Error::from_raw_os_error(errno);
            let command = self.command.clone();
            return Err(match errno {
                libc::ENOENT | libc::ENOTDIR => Error::NotFound(command),
                _ => Error::NotExecutable { command, source },
            });
        }
        if let Some(error) = outcome.failed {
            return Err(error);
        }
        let lost = || {
            Error::Lost(match keeper.and_then(WaitStatus::terminating_signal) {
                Some(signal) => format!("its keeper was killed by signal {signal}"),
                None => "it ended without saying how".to_owned(),
            })
        };
        match outcome.ended.ok_or_else(lost)? {
            code @ 0.. => Ok(Exit::Code(u8::try_from(code).unwrap_or(u8::MAX))),
            signal => Ok(Exit::Signal(signal.saturating_neg())),
        }
    }
}

/// What a round of waiting found.
#[derive(Clone, Copy)]
enum Source {
    Control,
    Signals,
    Pipe(usize),
    Terminal,
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

/// Refuses what cannot work before anything is made.
fn check(container: &Container) -> Result<(), Error> {
    if container.command.first().is_none_or(String::is_empty) {
        return Err(Error::NoCommand);
    }
    if container.lowers.is_empty() {
        return Err(Error::NoLayers);
    }
    if let Some(workdir) = &container.workdir {
        request::absolute("-w", &workdir.to_string_lossy(), workdir)?;
    }
    let strings = container.command.iter().chain(container.env.iter().flat_map(|(k, v)| [k, v]));
    for text in strings.chain(&container.hostname) {
        if text.contains('\0') {
            let why = "a NUL byte cannot be passed to a program".to_owned();
            return Err(Error::Invalid {
                option: "command",
                given: text.replace('\0', "\\0"),
                why,
            });
        }
    }
    // mount_setattr(2), with which libcontainer makes every mount, is of Linux 5.12.
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (5, 12) {
        return Err(Error::OldKernel { release });
    }
    Ok(())
}

/// Makes the scratch folder and all paths absolute; folders for missing volumes too, as
/// Docker does.
fn prepare(
    container: &Container,
    notices: &mut dyn FnMut(&str),
) -> Result<(Container, Scratch), Error> {
    let mut container = container.clone();
    let scratch = Scratch::new(&container.folder)?;
    container.folder = scratch.path.clone();
    for lower in &mut container.lowers {
        *lower = absolute(lower)?;
    }
    for volume in &mut container.volumes {
        if !volume.source.exists() {
            fs::create_dir_all(&volume.source).doing_to("creating", &volume.source)?;
            notices(&format!("made the folder {}", volume.source.display()));
        }
        volume.source = absolute(&volume.source)?;
    }
    if let Some(keep) = &mut container.keep_changes {
        *keep = std::path::absolute(&*keep).doing_to("finding", &*keep)?;
    }
    // The last of two equal names counts.
    let mut env: Vec<(String, String)> = Vec::with_capacity(container.env.len());
    for (name, value) in std::mem::take(&mut container.env) {
        match env.iter_mut().find(|(present, _)| *present == name) {
            Some((_, present)) => *present = value,
            None => env.push((name, value)),
        }
    }
    container.env = env;
    Ok((container, scratch))
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    fs::canonicalize(path).doing_to("finding", path)
}
