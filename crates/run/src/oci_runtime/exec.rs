//! `exec`: another process in a container that runs.

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use libcontainer::notify_socket::{NotifyListener, NotifySocket};
use libcontainer::oci_spec::runtime::{
    LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, Process as ProcessSpec,
};
use libcontainer::process::args::{ContainerArgs, ContainerType};
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::tty::setup_console_socket;
use rustix::pipe::PipeFlags;

use super::bundle::{Bundle, CONFIG};
use super::create::{absolute, leave_caller, start, window, write_pid};
use super::error::{Doing, Error};
use super::first::First;
use super::folder;
use super::record::{Process, Record};
use super::{Runtime, chain};
use crate::os;

/// Largest document of a process.
const LARGEST: u64 = 16 << 20;

/// What `exec` is given beside the id.
#[derive(Debug, Clone, Default)]
pub struct Exec {
    /// A document with the process, as `process` of a configuration.
    pub process: Option<PathBuf>,
    /// The command, where there is no document; the rest is that of the container's process.
    pub command: Vec<String>,
    /// More of its environment: `KEY=VALUE`.
    pub env: Vec<String>,
    /// Where it starts.
    pub cwd: Option<PathBuf>,
    /// Who it runs as: `UID` or `UID:GID`.
    pub user: Option<String>,
    /// It gets a terminal.
    pub terminal: bool,
    /// Where the process's number is written to.
    pub pid_file: Option<PathBuf>,
    /// Where the terminal is sent to.
    pub console_socket: Option<PathBuf>,
    /// Is done in one that is paused, too.
    pub ignore_paused: bool,
    /// How many descriptors from 3 on the process gets.
    pub preserve_fds: i32,
}

/// The namespaces of a process in `/proc/PID/ns`, in any order (namespaces(7)).
const NAMESPACES: [(&str, LinuxNamespaceType); 8] = [
    ("user", LinuxNamespaceType::User),
    ("ipc", LinuxNamespaceType::Ipc),
    ("uts", LinuxNamespaceType::Uts),
    ("net", LinuxNamespaceType::Network),
    ("pid", LinuxNamespaceType::Pid),
    ("mnt", LinuxNamespaceType::Mount),
    ("cgroup", LinuxNamespaceType::Cgroup),
    ("time", LinuxNamespaceType::Time),
];

impl Runtime {
    /// Starts a process in a container; its number, as the caller counts.
    ///
    /// # Errors
    /// Where the container does not run, and where the command can't be executed.
    pub fn exec(&self, id: &str, exec: &Exec) -> Result<i32, Error> {
        let console = exec.console_socket.as_deref().map(absolute).transpose()?;
        self.exec_with(id, exec, |folder, terminal| match (console, terminal) {
            (Some(path), true) => {
                // One for each that is sent: two may be starting at once.
                let name = format!("console-{}.sock", std::process::id());
                let made = setup_console_socket(folder, &path, &name);
                let _ = std::fs::remove_file(folder.join(name));
                made.map(Some).map_err(|error| Error::Container(chain(&error)))
            }
            (None, true) => Err(Error::Terminal(
                "the process gets a terminal: `--console-socket` says where it is sent to",
            )),
            (Some(_), false) => Err(Error::Terminal(
                "`--console-socket` is given, and the process gets no terminal",
            )),
            (None, false) => Ok(None),
        })
    }

    /// The same with a terminal from `console`.
    pub(super) fn exec_with(
        &self,
        id: &str,
        exec: &Exec,
        console: impl FnOnce(&std::path::Path, bool) -> Result<Option<OwnedFd>, Error>,
    ) -> Result<i32, Error> {
        let path = folder::place(&self.root, id)?;
        let record = Record::read(&path)?;
        match record.status() {
            "running" => {}
            "paused" if exec.ignore_paused => {}
            _ => return Err(super::lifecycle::status(&record, "exec", "running")),
        }
        let mut bundle = Bundle::read(&path.join(CONFIG), &record.bundle)?;
        let mut process = wanted(exec, &bundle)?;
        let pid_file = exec.pid_file.as_deref().map(absolute).transpose()?;
        if let Some(process) = record.living() {
            super::rootless::enter_as(process.pid)?;
        }
        let (namespaces, _held) = namespaces(&record, &bundle)?;
        let first = First {
            privileges: bundle.privileges(&process),
            first: false,
            copy_up: Vec::new(),
            window: window(&process),
            environment: Rc::new(RefCell::new(Vec::new())),
        };
        bundle.notes.clear();
        bundle.with_home(&mut process)?;
        process.set_capabilities(None);
        let console = console(&path, process.terminal().unwrap_or(false))?;
        let mut spec = bundle.spec.clone();
        let mut linux = libcontainer::oci_spec::runtime::Linux::default();
        let own = spec.linux().as_ref();
        linux.set_namespaces(Some(namespaces)).set_resources(None).set_devices(None);
        linux.set_personality(own.and_then(|linux| linux.personality().clone()));
        linux.set_cgroups_path(Some(record.cgroup.clone()));
        spec.set_process(Some(process)).set_linux(Some(linux)).set_hooks(None);

        let failed = |error: &dyn std::error::Error| Error::Container(chain(error));
        let notify = path.join(format!("exec-{}.sock", std::process::id()));
        let notify_listener = NotifyListener::new(&notify).map_err(|error| failed(&error))?;
        // Closes when the command is executed; before that it takes words for what kept it.
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).doing("making a pipe")?;
        leave_caller(false)?;
        os::hide_memory().doing("closing this process to others")?;
        let command = spec.process().as_ref().and_then(|process| process.args().clone());
        let arguments = ContainerArgs {
            container_type: ContainerType::TenantContainer { exec_notify_fd: write.as_raw_fd() },
            syscall: SyscallType::default(),
            spec: Rc::new(spec),
            rootfs: bundle.root.clone(),
            console_socket: console.as_ref().map(AsRawFd::as_raw_fd),
            notify_listener,
            preserve_fds: exec.preserve_fds,
            container: None,
            user_ns_config: None,
            cgroup_config: record.cgroup_config(),
            detached: true,
            executor: Box::new(first),
            no_pivot: false,
            stdin: None,
            stdout: None,
            stderr: None,
            as_sibling: false,
            pid_file: None,
        };
        let started = start(&arguments).and_then(|pid| {
            let told = NotifySocket::new(notify.clone()).notify_container_start();
            told.map(|()| pid).map_err(|error| failed(&error))
        });
        let _ = std::fs::remove_file(&notify);
        let pid = started?;
        drop(write);
        let words =
            sconce_open::bounded(File::from(read), LARGEST).doing("waiting for the command")?;
        if !words.is_empty() {
            let command = command.and_then(|args| args.first().cloned()).unwrap_or_default();
            return Err(Error::of_words(String::from_utf8_lossy(&words).into_owned(), &command));
        }
        pid_file.map_or(Ok(()), |file| write_pid(&file, pid))?;
        Ok(pid)
    }
}

/// The process that is asked for.
fn wanted(exec: &Exec, bundle: &Bundle) -> Result<ProcessSpec, Error> {
    if let Some(path) = &exec.process {
        let wrong = |why: String| Error::Document { path: path.clone(), why };
        let bytes = sconce_open::read(path, LARGEST).map_err(|error| wrong(error.to_string()))?;
        let process: ProcessSpec =
            sconce_open::json(&bytes).map_err(|error| wrong(error.to_string()))?;
        if process.args().as_ref().and_then(|args| args.first()).is_none() {
            return Err(wrong("args names no command".to_owned()));
        }
        return Ok(process);
    }
    let mut process = bundle.spec.process().clone().unwrap_or_default();
    process.set_args(Some(exec.command.clone())).set_terminal(Some(exec.terminal));
    process.set_console_size(None);
    let mut environment = process.env().clone().unwrap_or_default();
    environment.extend(exec.env.iter().cloned());
    process.set_env(Some(environment));
    if let Some(cwd) = &exec.cwd {
        process.set_cwd(cwd.clone());
    }
    if let Some(given) = &exec.user {
        let (user, group) = given
            .split_once(':')
            .map_or((given.as_str(), None), |(user, group)| (user, Some(group)));
        let number = |text: &str| {
            text.parse().map_err(|_| Error::Unsupported {
                field: "--user",
                why: format!("'{given}' is not UID or UID:GID; names are the image's, and podman looks them up"),
            })
        };
        process.user_mut().set_uid(number(user)?);
        if let Some(group) = group {
            process.user_mut().set_gid(number(group)?);
        }
    }
    Ok(process)
}

/// The namespaces that the container's configuration names, where they are not this process's, held open: its number may go to another meanwhile. The user
/// namespace is among them, which no capability of the machine's goes into.
fn namespaces(record: &Record, bundle: &Bundle) -> Result<(Vec<LinuxNamespace>, Vec<File>), Error> {
    let gone = || super::lifecycle::status(record, "exec", "running");
    let Process { pid, .. } = record.living().ok_or_else(gone)?;
    let mut held = Vec::new();
    let mut joined = Vec::new();
    let own = bundle.namespaces();
    for (name, kind) in NAMESPACES.into_iter().filter(|(_, kind)| own.contains(kind)) {
        let (theirs, ours) = (format!("/proc/{pid}/ns/{name}"), format!("/proc/self/ns/{name}"));
        let Ok(link) = std::fs::read_link(&theirs) else { continue };
        if std::fs::read_link(&ours).is_ok_and(|own| own == link) {
            continue;
        }
        let open = File::open(&theirs).doing(format!("opening {theirs}"))?;
        let path = format!("/proc/self/fd/{}", open.as_raw_fd());
        let namespace = LinuxNamespaceBuilder::default().typ(kind).path(path).build();
        joined.push(namespace.map_err(|error| Error::Container(chain(&error)))?);
        held.push(open);
    }
    record.living().ok_or_else(gone)?;
    Ok((joined, held))
}
