//! The container's process between its namespaces and its command.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use rustix::fs::{CWD, FileType};
use rustix::mount::{OpenTreeFlags, open_tree};

use super::error::Error;
use super::privileges::Privileges;
use crate::{os, signals};

/// Where a command is looked for when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What libcontainer calls in the container's process.
#[derive(Debug, Clone)]
pub(super) struct First {
    pub(super) privileges: Privileges,
    /// It is the container's first process, not one that joins it.
    pub(super) first: bool,
    /// Mounts that begin with what is below them.
    pub(super) copy_up: Vec<PathBuf>,
    /// Rows and columns of its terminal.
    pub(super) window: Option<(u16, u16)>,
    /// What libcontainer makes of `process.env`.
    pub(super) environment: Rc<RefCell<Vec<(String, String)>>>,
}

impl Executor for First {
    /// Runs inside, before `create` answers: what is wrong here is `create`'s error.
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let failed = |words: String| ExecutorValidationError::ArgValidationError(words);
        find(spec).map_err(|error| failed(error.to_string()))?;
        self.prepare()
            .map_err(|error| failed(format!("preparing the container's process: {error}")))
    }

    fn setup_envs(&self, given: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        self.environment.replace(given.into_iter().collect());
        Ok(())
    }

    /// Nobody waits for a first process's answer any more: the command's own streams and status say what is wrong.
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let (words, status) = self.execute(spec);
        if self.first {
            let _ =
                crate::streams::write_all(rustix::stdio::stderr(), format!("{words}\n").as_bytes());
            os::exit_now(status);
        }
        Err(ExecutorError::Other(words))
    }
}

impl First {
    /// Becomes the command; why not, and the status that a shell has for it.
    fn execute(&self, spec: &Spec) -> (String, i32) {
        // What the filter allows is known to few: everything is ready before it is installed.
        let command = match find(spec) {
            Ok(command) => command,
            Err(error) => return (error.to_string(), error.exit_code().into()),
        };
        let program = match self.program(spec, &command) {
            Ok(program) => program,
            Err(error) => return (error.to_string(), 126),
        };
        signals::reset_signals();
        if let Err(error) = self.privileges.take() {
            return (format!("taking the process's capabilities and seccomp filter: {error}"), 126);
        }
        let error = program.execute();
        let status = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
        (format!("exec: \"{}\": {error}", command.display()), status)
    }

    fn prepare(&self) -> io::Result<()> {
        let name = if self.first { c"sconce-oci" } else { c"sconce-oci-exec" };
        rustix::thread::set_name(name)?;
        super::copy_up::fill(&self.copy_up)?;
        if self.first && self.privileges.no_devices {
            forbid_devices()?;
        }
        if let Some(window) = self.window {
            let _ = rustix::termios::tcsetwinsize(
                rustix::stdio::stdin(),
                crate::terminal::of_size(window),
            );
        }
        self.give_streams();
        self.privileges.lower()
    }

    /// Pipes and terminals become the command's own, so that it can open `/dev/stdout` (runc and crun do the same). What
    /// can't be given stays as it is.
    fn give_streams(&self) {
        for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
            let Ok(about) = rustix::fs::fstat(stream) else { continue };
            let pipe = FileType::from_raw_mode(about.st_mode) == FileType::Fifo;
            if about.st_uid != self.privileges.uid && (pipe || rustix::termios::isatty(stream)) {
                let user = rustix::fs::Uid::from_raw(self.privileges.uid);
                let _ = rustix::fs::fchown(stream, Some(user), None);
            }
        }
    }

    fn program(&self, spec: &Spec, command: &Path) -> io::Result<os::Program> {
        let text = |text: &str| CString::new(text).map_err(io::Error::from);
        let args = spec.process().as_ref().and_then(|process| process.args().clone());
        let arguments =
            args.unwrap_or_default().iter().map(|word| text(word)).collect::<Result<_, _>>()?;
        let environment = self.environment.borrow();
        let environment = environment
            .iter()
            .map(|(key, value)| text(&format!("{key}={value}")))
            .collect::<Result<_, _>>()?;
        Ok(os::Program::new(vec![text(&command.to_string_lossy())?], arguments, environment))
    }
}

/// No device file of the container's root is one; those that it was given are in `/dev`, a file system of its own.
fn forbid_devices() -> io::Result<()> {
    const NODEV: u64 = 4; // MOUNT_ATTR_NODEV, linux/mount.h
    if rustix::fs::stat("/")?.st_dev == rustix::fs::stat("/dev")?.st_dev {
        return Ok(());
    }
    let root = open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    os::set_attributes_of_mount(root.as_fd(), NODEV)
}

/// The file of the command, as execvp(3) looks for it.
fn find(spec: &Spec) -> Result<PathBuf, Error> {
    let process = spec.process().as_ref();
    let args = process.and_then(|process| process.args().as_ref());
    let name = args.and_then(|args| args.first()).map(String::as_str).unwrap_or_default();
    let environment = process.and_then(|process| process.env().as_ref()).into_iter().flatten();
    let path = environment
        .filter_map(|entry| entry.strip_prefix("PATH="))
        .next_back()
        .unwrap_or(DEFAULT_PATH);
    let usable = |path: &Path| {
        let about = std::fs::metadata(path).ok()?;
        Some(about.is_file() && about.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        return match usable(Path::new(name)) {
            Some(true) => Ok(name.into()),
            Some(false) => Err(Error::NotExecutable(name.to_owned())),
            None => Err(Error::NoFile(name.to_owned())),
        };
    }
    let mut refused = false;
    for folder in path.split(':') {
        let candidate = Path::new(if folder.is_empty() { "." } else { folder }).join(name);
        match usable(&candidate) {
            Some(true) => return Ok(candidate),
            Some(false) => refused = true,
            None => {}
        }
    }
    Err(match refused {
        true => Error::NotExecutable(name.to_owned()),
        false => Error::NotFound(name.to_owned()),
    })
}
