//! `create`: from a bundle to a container whose process waits for `start`.

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcontainer::container::ContainerStatus;
use libcontainer::notify_socket::NotifyListener;
use libcontainer::oci_spec::runtime::{Process as ProcessSpec, Spec};
use libcontainer::process::args::{ContainerArgs, ContainerType};
use libcontainer::process::container_main_process::container_main_process;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::tty::setup_console_socket;
use libcontainer::user_ns::UserNamespaceConfig;

use super::bundle::{Bundle, CONFIG};
use super::error::{Doing, Error};
use super::first::First;
use super::folder::{self, Folder};
use super::reasons::Reasons;
use super::record::{Phase, Process, Record};
use super::{Note, Runtime, chain, copy_up};
use crate::{os, time};

/// Where a container's process waits for `start`.
pub(super) const NOTIFY: &str = "notify.sock";

/// What `create` is given beside the id.
#[derive(Debug, Clone, Default)]
pub struct Create {
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// Where the process's number is written to.
    pub pid_file: Option<PathBuf>,
    /// Where the terminal is sent to.
    pub console_socket: Option<PathBuf>,
    /// Leaves the old root by moving mounts, for a root in memory.
    pub no_pivot: bool,
    /// Keeps the caller's session keyring.
    pub no_new_keyring: bool,
    /// How many descriptors from 3 on the process gets.
    pub preserve_fds: i32,
}

impl Runtime {
    /// Makes a container of a bundle.
    ///
    /// # Errors
    /// The bundle's, libcontainer's, and [`Error::Exists`]. Nothing of the container is left.
    pub fn create(&self, id: &str, options: &Create) -> Result<(), Error> {
        let console = options.console_socket.as_deref().map(absolute).transpose()?;
        self.create_with(id, options, |folder, terminal| match (console, terminal) {
            (Some(path), true) => {
                let made = setup_console_socket(folder, &path, "console.sock");
                made.map(Some).map_err(|error| Error::Container(chain(&error)))
            }
            (None, true) => Err(Error::Terminal(
                "process.terminal is true: `--console-socket` says where the terminal is sent to",
            )),
            (Some(_), false) => Err(Error::Terminal(
                "`--console-socket` is given, and process.terminal is not true",
            )),
            (None, false) => Ok(None),
        })
    }

    /// The same with a terminal from `console`, which is told the container's folder and whether there is to be one.
    pub(super) fn create_with(
        &self,
        id: &str,
        options: &Create,
        console: impl FnOnce(&Path, bool) -> Result<Option<OwnedFd>, Error>,
    ) -> Result<(), Error> {
        folder::id(id)?;
        let mut bundle = Bundle::open(&options.bundle)?;
        let pid_file = options.pid_file.as_deref().map(absolute).transpose()?;
        let root = self.make_root()?;
        if super::rootless::enter()? {
            bundle.leave_out_cgroups();
        }
        let folder = Folder::new(&root, id)?;
        let mut record = Record {
            id: id.to_owned(),
            bundle: bundle.path.clone(),
            root: bundle.root.clone(),
            created: time::now(),
            owner: sconce_open::effective_user(),
            phase: Phase::Creating,
            process: None,
            annotations: bundle
                .spec
                .annotations()
                .clone()
                .unwrap_or_default()
                .into_iter()
                .collect(),
            cgroup: bundle.cgroup(id),
            systemd: self.systemd,
        };
        let made = keep(&folder, &record, &bundle).and_then(|()| {
            let terminal = wants_terminal(&bundle.spec);
            let console = console(&folder.path, terminal)?;
            if !record.processes().is_empty() {
                let group = record.cgroup.display().to_string();
                return Err(Error::Unsupported {
                    field: "linux.cgroupsPath",
                    why: format!("{group} has processes in it"),
                });
            }
            let pid = first_process(&folder, &record, &mut bundle, options, console);
            let pid = pid.inspect_err(|_| self.undo(&folder, &mut record.clone(), &bundle))?;
            record.process = Process::of(pid);
            record.phase = Phase::Created;
            let whole = record
                .write(&folder.path)
                .and_then(|()| pid_file.map_or(Ok(()), |file| write_pid(&file, pid)));
            whole.inspect_err(|_| self.undo(&folder, &mut record, &bundle))
        });
        bundle.notes.iter().for_each(|note| (self.notes)(Note::Info(note)));
        if made.is_err() {
            let _ = folder.remove();
        }
        made
    }

    /// Ends what was started of a container that could not be made.
    fn undo(&self, folder: &Folder, record: &mut Record, bundle: &Bundle) {
        if let Some(process) = record.living() {
            let _ = process.signal(libc::SIGKILL);
        }
        if let Err(error) = record.remove_cgroups() {
            self.warn(&error.to_string());
        }
        let hooks = bundle.spec.hooks().as_ref().and_then(|hooks| hooks.poststop().clone());
        self.run_hooks("poststop", hooks, record, &folder.path);
    }
}

/// Writes down what `create` begins with.
fn keep(folder: &Folder, record: &Record, bundle: &Bundle) -> Result<(), Error> {
    record.write(&folder.path)?;
    let config = fs::read(bundle.path.join(CONFIG)).doing("reading config.json")?;
    fs::write(folder.path.join(CONFIG), config).doing("keeping config.json")
}

pub(super) fn wants_terminal(spec: &Spec) -> bool {
    spec.process().as_ref().and_then(ProcessSpec::terminal).unwrap_or(false)
}

/// A path from the caller's working folder.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).doing(format!("finding {}", path.display()))
}

/// The number alone, there whole or not at all: conmon reads it as soon as it is there.
pub(super) fn write_pid(file: &Path, pid: i32) -> Result<(), Error> {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let mut options = fs::OpenOptions::new();
    // The folder may be one that others write to: what they put there is not followed.
    let _ = fs::remove_file(&part);
    let written = options.write(true).create_new(true).mode(0o644).open(&part);
    let written = written.and_then(|mut open| write!(open, "{pid}"));
    written.and_then(|()| fs::rename(&part, file)).doing(format!("writing {}", file.display()))
}

/// What a process of ours must not hand on to the container, and what it must.
pub(super) fn leave_caller(keyring: bool) -> Result<(), Error> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    crate::signals::expect_children();
    if !keyring {
        os::leave_keyring().doing("leaving the caller's keyring")?;
    }
    // Not allowed to a user, whose groups stay (user_namespaces(7)).
    let _ = rustix::thread::set_thread_groups(&[]);
    Ok(())
}

/// How the container's processes differ in their badness for the kernel's memory killer (proc_pid_oom_score_adj(5)).
fn set_memory_score(process: Option<&ProcessSpec>) -> Result<(), Error> {
    let Some(score) = process.and_then(ProcessSpec::oom_score_adj) else { return Ok(()) };
    fs::write("/proc/self/oom_score_adj", score.to_string()).doing("setting process.oomScoreAdj")
}

/// Rows and columns of `process.consoleSize`.
pub(super) fn window(process: &ProcessSpec) -> Option<(u16, u16)> {
    let size = process.console_size()?;
    Some((size.height().try_into().ok()?, size.width().try_into().ok()?))
}

fn first_process(
    folder: &Folder,
    record: &Record,
    bundle: &mut Bundle,
    options: &Create,
    console: Option<OwnedFd>,
) -> Result<i32, Error> {
    let mut process = bundle.spec.process().clone().unwrap_or_default();
    let mut spec = bundle.spec.clone();
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    let first = First {
        copy_up: copy_up::take(&mut mounts),
        privileges: bundle.privileges(&process),
        first: true,
        window: window(&process),
        environment: Rc::new(RefCell::new(Vec::new())),
    };
    bundle.with_home(&mut process)?;
    process.set_capabilities(None);
    spec.set_process(Some(process)).set_mounts(Some(mounts));
    let failed = |error: &dyn std::error::Error| Error::Container(chain(error));
    let user_ns_config = UserNamespaceConfig::new(&spec).map_err(|error| failed(&error))?;
    let notify_listener =
        NotifyListener::new(&folder.path.join(NOTIFY)).map_err(|error| failed(&error))?;
    leave_caller(options.no_new_keyring)?;
    set_memory_score(spec.process().as_ref())?;
    // Relative sources of mounts and hooks begin here.
    std::env::set_current_dir(&bundle.path).doing("entering the bundle")?;
    os::hide_memory().doing("closing this process to others")?;
    let arguments = ContainerArgs {
        container_type: ContainerType::InitContainer,
        syscall: SyscallType::default(),
        spec: Rc::new(spec),
        rootfs: bundle.root.clone(),
        console_socket: console.as_ref().map(AsRawFd::as_raw_fd),
        notify_listener,
        preserve_fds: options.preserve_fds,
        container: Some(record.for_hooks(&folder.path, ContainerStatus::Creating)?),
        user_ns_config,
        cgroup_config: record.cgroup_config(),
        detached: true,
        executor: Box::new(first),
        no_pivot: options.no_pivot,
        stdin: None,
        stdout: None,
        stderr: None,
        as_sibling: false,
        pid_file: None,
    };
    start(&arguments)
}

/// Runs libcontainer; the number of the process it made.
pub(super) fn start(arguments: &ContainerArgs) -> Result<i32, Error> {
    let reasons = Reasons::listen().doing("making a pipe")?;
    let command = arguments.spec.process().as_ref().and_then(|process| process.args().as_ref());
    let command = command.and_then(|args| args.first()).cloned().unwrap_or_default();
    match container_main_process(arguments) {
        Ok(pid) => Ok(pid.as_raw()),
        Err(error) => {
            let words = chain(&error);
            match Error::of_words(words, &command) {
                Error::Container(words) => Err(Error::Container(reasons.before(words))),
                error => Err(error),
            }
        }
    }
}
