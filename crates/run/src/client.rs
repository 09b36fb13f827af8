//! The caller's side of a container: starts the shim, then keeps streams, signals and terminal until
//! the command has ended.

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::process::WaitStatus;
use sconce_facts::{OLDEST_KERNEL, kernel_version};
use sconce_open::held;

use crate::attend::{self, Attended, Signalled};
use crate::cgroup::{Groups, Limits, Plan};
use crate::control::Message;
use crate::error::{Doing, Error};
use crate::folder::{self, Folder, State};
use crate::ids::Power;
use crate::pulse::Pulse;
use crate::spawn::{Belongings, Shim};
use crate::streams::{self, Streams};
use crate::{
    Captured, Container, DEFAULT_PIDS, Exit, Stdio, clean, request, signals, terminal, volumes,
};

/// Runs the container until its command ends. `held` are locks that the container needs as long as
/// it lives; `notices` takes what the user should know, a sentence at a time.
///
/// Signals that would end this process go to the command instead while it runs. Call it
/// from a thread that lives as long as the container: when that thread ends, so does it.
pub fn run(
    container: &Container,
    shim: Shim,
    held: Vec<OwnedFd>,
    notices: &mut dyn FnMut(&str),
) -> Result<Exit, Error> {
    let signals = signals::SignalPipe::new().doing("listening for signals")?;
    let Streams { inner, copies } = Streams::join(container.stdio).doing("joining streams")?;
    let mut session = Session::start(container, shim, inner, held, notices)?;
    let copies = copies.start().doing("copying the container's output")?;
    session.attend(signals.as_ref(), Vec::new(), 0, notices)?;
    copies.finish(session.finish()?, signals.as_ref(), notices)
}

/// Starts the container and leaves it running: its id, when its command has started.
pub fn start(
    container: &Container,
    shim: Shim,
    held: Vec<OwnedFd>,
    notices: &mut dyn FnMut(&str),
) -> Result<String, Error> {
    let container = Container { detach: true, ..container.clone() };
    let null = || streams::null().doing("opening /dev/null");
    let mut session = Session::start(&container, shim, [null()?, null()?, null()?], held, notices)?;
    session.attend(None, Vec::new(), 0, notices)?;
    session.leave()
}

/// Runs the container without input and keeps the first `most` bytes of each output. Signals
/// stay this process's own. Several may run at once.
pub fn run_captured(
    container: &Container,
    most: usize,
    notices: &mut dyn FnMut(&str),
) -> Result<Captured, Error> {
    let shim = Shim::spawn(&container.folder)?;
    let container = Container { stdio: Stdio::Output, ..container.clone() };
    let pipe = || streams::pipe().doing("making a pipe");
    let ((out, to_out), (err, to_err)) = (pipe()?, pipe()?);
    let inner = [streams::null().doing("opening /dev/null")?, to_out, to_err];
    let mut session = Session::start(&container, shim, inner, Vec::new(), notices)?;
    let mut kept = session.attend(None, vec![out, err], most, notices)?.into_iter();
    let exit = session.finish()?;
    let (stdout, stderr) = (kept.next().unwrap_or_default(), kept.next().unwrap_or_default());
    Ok(Captured { exit, stdout, stderr })
}

/// A container that was started.
struct Session {
    shim: Shim,
    container: Container,
    folder: Folder,
    outcome: Outcome,
    groups: Groups,
}

/// What the shim and the first process have reported.
#[derive(Default)]
struct Outcome {
    started: bool,
    ended: Option<i32>,
    exec_failed: Option<i32>,
    reason: Option<String>,
    failed: Option<Error>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // The shim removes what it made; what is left here is that of one that was killed.
        self.shim.kill();
        if !self.container.detach && self.folder.path.exists() {
            let _ = clean::remove(&self.folder.path);
        }
    }
}

impl Session {
    fn start(
        container: &Container,
        mut shim: Shim,
        inner: [OwnedFd; 3],
        held: Vec<OwnedFd>,
        notices: &mut dyn FnMut(&str),
    ) -> Result<Self, Error> {
        check(container)?;
        if container.host_pids && shim.power == Power::User {
            // A /proc can only be mounted by who owns the pid namespace it shows
            // (user_namespaces(7)).
            return Err(Error::Invalid {
                option: "--pid",
                given: "host".to_owned(),
                why: "only root can show a container this machine's processes; leave it out, or run sconce as root"
                    .to_owned(),
            });
        }
        let window = match container.stdio {
            Stdio::Terminal if !container.detach => Some(terminal::size()?),
            _ => None,
        };
        let container = prepare(container, notices)?;
        let folder = Folder::new(&container.folder, container.name.as_deref())?;
        clean::left(&folder.left, notices);
        let begun = Self::begin(&container, &folder, &shim, window, inner, held, notices);
        let groups = begun.inspect_err(|_| {
            // The error says what is wrong already; the next start would remove it too.
            shim.kill();
            let _ = clean::remove(&folder.path);
        })?;
        if container.user.is_some() {
            shim.note.iter().for_each(|note| notices(note));
        }
        Ok(Self { shim, container, folder, outcome: Outcome::default(), groups })
    }

    /// Gives the shim its container, whose cgroups are made here.
    fn begin(
        container: &Container,
        folder: &Folder,
        shim: &Shim,
        window: Option<(u16, u16)>,
        inner: [OwnedFd; 3],
        held: Vec<OwnedFd>,
        notices: &mut dyn FnMut(&str),
    ) -> Result<Groups, Error> {
        if let Some(file) = &container.id_file {
            write_id(file, &folder.id).doing_to("writing the id to", file)?;
        }
        let limits = Limits {
            memory: container.memory_bytes,
            memory_swap: container.memory_swap_bytes,
            cpus: container.cpus,
            pids: Some(container.pids.unwrap_or(DEFAULT_PIDS)),
            pids_by_default: container.pids.is_none(),
        };
        let plan = Plan::new(&format!("sconce-{}", folder.id), &limits);
        // Written before they are made: whoever cleans up must know of them.
        let mut state = State { created: folder::now(), cgroups: plan.paths(), ..State::default() };
        folder::write(&folder.path, "state.json", &state)?;
        let (groups, note) = plan.make();
        groups.expect_entry();
        if let Some(note) = note {
            notices(&note);
        }
        let made: Vec<PathBuf> = groups.made.iter().map(|group| group.path.clone()).collect();
        if made != state.cgroups {
            state.cgroups = made;
            folder::write(&folder.path, "state.json", &state)?;
        }
        folder::write(&folder.path, "container.json", container)?;
        if container.detach {
            // It goes with what the container changes: on a full disk, room for how it ended.
            let room = folder.path.join("scratch/room");
            fs::write(&room, [1; 4096]).doing_to("writing", &room)?;
        }
        shim.begin(&Belongings {
            folder: &folder.path,
            lock: &folder.lock,
            streams: &inner,
            held: &held,
            groups: &groups,
            window,
        })?;
        Ok(groups)
    }

    /// Serves the container until it has ended, or until it runs if it is detached.
    fn attend(
        &mut self,
        signals: Option<&signals::SignalPipe>,
        captured: Vec<OwnedFd>,
        most: usize,
        notices: &mut dyn FnMut(&str),
    ) -> Result<Vec<Vec<u8>>, Error> {
        let control = self.shim.control.try_clone().doing("keeping the socket to the shim")?;
        let called = self.container.name.as_deref().unwrap_or(&self.folder.id);
        let pulse = self.shim.number().map(|shim| Pulse::of(called, shim));
        let to = Attended {
            control: &control,
            signals,
            pulse,
            starts: false,
            outlives: None,
            signalled: Signalled::Passed,
        };
        attend::attend(to, captured, most, &mut |message| {
            self.hear(message, notices)?;
            Ok(!(self.container.detach && self.outcome.started))
        })
    }

    fn hear(&mut self, message: Message, notices: &mut dyn FnMut(&str)) -> Result<(), Error> {
        match message {
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
                self.outcome.failed = Some(Error::Shim { message, hint });
            }
            Message::Started => self.outcome.started = true,
            Message::ExecFailed(errno) => self.outcome.exec_failed = Some(errno),
            Message::Ended(status) => self.outcome.ended = Some(status),
            Message::OutOfMemory => {
                let limit = self.container.memory_bytes;
                let limit = limit.map_or(String::new(), |bytes| format!(" of {bytes} bytes"));
                notices(&format!(
                    "the memory limit{limit} was reached, and a process killed for it"
                ));
            }
            _ => {}
        }
        Ok(())
    }

    /// Waits for the shim: how the container ended.
    fn finish(mut self) -> Result<Exit, Error> {
        let shim = self.shim.collect().doing("collecting the shim")?;
        self.refused()?;
        let lost = || {
            Error::Lost(match shim.and_then(WaitStatus::terminating_signal) {
                Some(signal) => format!("its shim was killed by signal {signal}"),
                None => "it ended without saying how".to_owned(),
            })
        };
        Ok(Exit::of(self.outcome.ended.ok_or_else(lost)?))
    }

    /// Leaves a container that runs to its shim.
    fn leave(mut self) -> Result<String, Error> {
        if !self.outcome.started {
            self.refused()?;
            return Err(Error::Lost("it ended before it started".to_owned()));
        }
        self.shim.leave();
        // The shim has them now.
        std::mem::forget(std::mem::take(&mut self.groups));
        Ok(self.folder.id.clone())
    }

    /// The error that the shim or the first process reported.
    fn refused(&mut self) -> Result<(), Error> {
        if let Some(errno) = self.outcome.exec_failed.take() {
            let command = self.container.command.first().cloned().unwrap_or_default();
            return Err(Error::of_exec(command, errno));
        }
        self.outcome.failed.take().map_or(Ok(()), Err)
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
        request::absolute("working folder", &workdir.to_string_lossy(), workdir)?;
        // What a descriptor of ours leads to is on this machine (CVE-2024-21626).
        let mut parts = workdir.components().skip(1).filter_map(|part| part.as_os_str().to_str());
        let of_process = |part: &str| {
            matches!(part, "self" | "thread-self") || part.bytes().all(|b| b.is_ascii_digit())
        };
        if parts.next() == Some("proc") && parts.next().is_some_and(of_process) {
            return Err(Error::Invalid {
                option: "working folder",
                given: workdir.display().to_string(),
                why: "it is a folder of one process, and not of the container".to_owned(),
            });
        }
    }
    let command = container.command.iter().map(|text| ("command", text));
    let env =
        container.env.iter().flat_map(|(name, value)| [("variable", name), ("variable", value)]);
    let strings =
        command.chain(env).chain(container.hostname.iter().map(|name| ("host name", name)));
    for (option, text) in strings {
        if text.contains('\0') {
            let why = "a NUL byte cannot be passed to a program".to_owned();
            return Err(Error::Invalid { option, given: text.replace('\0', "\\0"), why });
        }
    }
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    if kernel_version(&release).is_some_and(|version| version < OLDEST_KERNEL) {
        return Err(Error::OldKernel { release });
    }
    Ok(())
}

/// Makes the folder of a volume where nothing is: whether it did.
fn make_source(source: &Path) -> Result<bool, Error> {
    let wrong = |why: String| {
        Err(Error::Invalid { option: "-v", given: source.display().to_string(), why })
    };
    match source.try_exists() {
        Ok(true) => Ok(false),
        Ok(false) if source.is_symlink() => wrong("it is a link to what is not there".to_owned()),
        Ok(false) => {
            fs::create_dir_all(source).doing_to("creating", source)?;
            Ok(true)
        }
        Err(error) => wrong(format!("it can't be looked at ({error})")),
    }
}

/// Makes all paths absolute, and folders for missing volumes, as Docker does.
fn prepare(container: &Container, notices: &mut dyn FnMut(&str)) -> Result<Container, Error> {
    let mut container = container.clone();
    if !container.folder.is_dir() {
        folder::make(&container.folder, true)?;
    }
    container.folder = absolute(&container.folder)?;
    for lower in &mut container.lowers {
        *lower = tree(lower)?;
    }
    for hidden in &mut container.hidden {
        *hidden = absolute(hidden)?;
    }
    for volume in &mut container.volumes {
        let made = match volume.resolved {
            true => volumes::make_resolved(&volume.source)?,
            false => make_source(&volume.source)?,
        };
        if made {
            notices(&format!("made the folder {}", volume.source.display()));
        }
        if !volume.resolved {
            volume.source = absolute(&volume.source)?;
        }
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
    let limit = container.memory_bytes;
    container.shm_bytes.get_or_insert_with(|| crate::default_shm_bytes(limit));
    Ok(container)
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    fs::canonicalize(path).doing_to("finding", path)
}

/// A tree by its path without links; a link that another member of a store's group may have put there is an error.
fn tree(path: &Path) -> Result<PathBuf, Error> {
    let open = std::path::absolute(path).and_then(|path| sconce_open::own_folder(&path));
    let open = open.doing_to("finding", path)?;
    sconce_open::real_path(&open).doing_to("finding", path)
}

/// Writes a new file, in a folder into whose path no link has come.
fn write_id(file: &Path, id: &str) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = crate::reach::hold(folder.unwrap_or(Path::new(".")))?;
    let file = held(&folder).join(file.file_name().unwrap_or_default());
    // One that is there already may be another container's.
    let written = fs::File::create_new(&file).and_then(|mut file| file.write_all(id.as_bytes()));
    if written.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists) {
        // A caller must not take part of an id for one.
        let _ = fs::remove_file(&file);
    }
    written
}
