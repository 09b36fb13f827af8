//! What can go wrong on the way from an image to a container's exit.

use std::io;
use std::path::PathBuf;

use sconce_facts::OLDEST_KERNEL;

/// Why a container could not be started, or was lost.
///
/// A command that starts and fails is no error: its status is in [`crate::Exit`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request names no command.
    #[error("the image names no command, and none was given")]
    NoCommand,
    /// The request has no layers.
    #[error("there is no root file system to run: the list of layers is empty")]
    NoLayers,
    /// A value of the request cannot be read or makes no sense.
    #[error("{option} '{given}': {why}")]
    Invalid {
        /// The option as a user writes it, such as `-v`.
        option: &'static str,
        /// What was given.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// The user that an image names can't be had.
    #[error("the image{}{image} is to run as its USER '{given}': {why}", if image.is_empty() { "" } else { " " })]
    ImageUser {
        /// What the image was called.
        image: String,
        /// Its `USER`.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// `-t` where the standard input or output is not a terminal.
    #[error("a terminal (-t) was asked for, but standard {0} is not one")]
    NotATerminal(&'static str),
    /// A container with a terminal, and a caller without one.
    #[error("the container has a terminal (it was started with -t), and standard input is not one")]
    NoTerminal,
    /// The command does not exist in the image.
    #[error("'{0}' was not found in the image")]
    NotFound(String),
    /// The command exists but the kernel will not execute it.
    #[error("'{command}' cannot be executed: {source}")]
    NotExecutable {
        /// The command as given.
        command: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel lacks calls that mounting into a container needs.
    #[error("this machine runs Linux {release}; containers need {}.{} or later", OLDEST_KERNEL.0, OLDEST_KERNEL.1)]
    OldKernel {
        /// The kernel's release, as `uname -r` says it.
        release: String,
    },
    /// The kernel or its administrator does not let this user make user namespaces.
    #[error("a container without root needs a user namespace, and none can be made: {why}")]
    NoUserNamespace {
        /// Which rule stands in the way.
        why: String,
        /// What to do about it.
        hint: String,
    },
    /// The overlay of the image's layers cannot be mounted.
    #[error("the image's {layers} layers cannot be mounted as one: {source}")]
    Overlay {
        /// How many layers there are.
        layers: usize,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The image has something in a place where the container needs another kind of file.
    #[error("the image's {place} {why}")]
    Image {
        /// Where.
        place: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The container runtime library refused.
    #[error("the container could not be made: {0}")]
    Container(String),
    /// One of the processes that make a container is gone.
    #[error(
        "the container could not be made: a process at work on it ended without a word, as one does that is killed"
    )]
    Unmade,
    /// The shim reported what it could not do, in its own words.
    #[error("{message}")]
    Shim {
        /// The shim's error, causes included.
        message: String,
        /// The shim's hint.
        hint: Option<String>,
    },
    /// A living container has the name already.
    #[error("the name '{name}' is taken by container {id}")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// No container is called so.
    #[error("no container is called '{0}'")]
    NoContainer(String),
    /// Several containers are called so.
    #[error("'{name}' means {} containers: {}", ids.len(), ids.join(", "))]
    Ambiguous {
        /// The name, or the beginning of an id.
        name: String,
        /// Their ids.
        ids: Vec<String>,
    },
    /// Something that is left cannot be removed.
    #[error(transparent)]
    Store(#[from] sconce_store::Error),
    /// The command's output did not reach the caller's standard output.
    #[error("output of the command was lost: {0}")]
    Output(#[source] io::Error),
    /// Only one that has ended can be removed.
    #[error("container {0} is running")]
    Running(String),
    /// Its streams are its caller's.
    #[error("the container is attached to the terminal or pipe that it was started from")]
    Attached,
    /// `--network private` without its program.
    #[error("--network private needs pasta, which is not installed")]
    NoPasta,
    /// pasta could not join the container's network.
    #[error("pasta could not set up the container's network: {0}")]
    Pasta(String),
    /// The seccomp profile cannot be read or compiled.
    #[error("the seccomp profile cannot be used")]
    Seccomp(#[from] crate::seccomp::SeccompError),
    /// A signal ended what was being done.
    #[error("interrupted")]
    Interrupted(i32),
    /// The shim of a container says nothing.
    #[error("container {0} was sent KILL, and its shim does not answer")]
    Unanswered(String),
    /// The shim of a container was stopped, as by SIGSTOP.
    #[error("container {id} can't be reached: its shim, process {shim}, is stopped")]
    Stopped {
        /// The container.
        id: String,
        /// Its shim, as the host counts.
        shim: i32,
    },
    /// The container ends at this moment.
    #[error("the container is ending, and takes no more processes")]
    Ending,
    /// The container stopped the process of an `exec`.
    #[error("the container stopped the process of exec before its command started")]
    Kept,
    /// The process of an `exec` did not come to its command.
    #[error("the command did not start within {0} seconds")]
    Late(u64),
    /// The caller left a command that its signals did not end.
    #[error("left after three signals: {}", match process {
        Some(process) => format!("the command runs on in {container}, as process {process}"),
        None => format!("{container} runs on"),
    })]
    Left {
        /// The last signal.
        signal: i32,
        /// The container in a person's words.
        container: String,
        /// The command's process, as the container counts.
        process: Option<i32>,
    },
    /// The caller of `attach` was told to end, or has no terminal any more.
    #[error("left: {container} runs on")]
    Detached {
        /// The signal.
        signal: i32,
        /// The container in a person's words.
        container: String,
    },
    /// The caller of `attach` did not read for so long that the container went on without it.
    #[error("the container's output was not read for a second, and goes on without this one")]
    Unread(String),
    /// A path is longer than the kernel takes.
    #[error("a path below {} is longer than a path may be (4096 bytes)", .0.display())]
    TooLong(PathBuf),
    /// A copy's stream ended before its end was announced.
    #[error("the copy was cut short: nothing of it was put in its place")]
    CutShort,
    /// The container runs no more.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// The container ended without saying how.
    #[error("the container was lost: {0}")]
    Lost(String),
    /// A host port cannot be listened on.
    #[error("port {port} of this machine can't be listened on: {source}")]
    Listen {
        /// The port on the host.
        port: u16,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Anything the operating system refused.
    #[error("{what}: {source}")]
    Os {
        /// What was being done, with the file where there is one.
        what: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// What to do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoCommand => "give one after the image, or set app.command in sconce.toml",
            Self::ImageUser { .. } => {
                "`--user 0` starts it as root; another user that the image has is named the same way"
            }
            Self::NotATerminal(_) => "leave out -t; -i alone passes pipes and files through",
            Self::NoTerminal => {
                "`sconce logs -f NAME` shows what it writes, `sconce exec -i NAME` takes a pipe; `sconce attach` needs a terminal"
            }
            Self::NotFound(_) => {
                "check the spelling and the image's PATH; files of this machine need -v"
            }
            Self::OldKernel { .. } => {
                "use a newer kernel, or export the image and run it with Docker"
            }
            Self::NoUserNamespace { hint, .. } => return Some(hint.clone()),
            Self::Unmade => {
                "`dmesg` says whether the kernel was out of memory; else start it again"
            }
            Self::Shim { hint, .. } => return hint.clone(),
            Self::Overlay { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "mounting overlays without root needs Linux 5.11 and may be forbidden by a security policy; try as root"
            }
            // OVL_MAX_STACK (fs/overlayfs/ovl_entry.h).
            Self::Overlay { layers: 501.., .. } => {
                "the kernel mounts 500 layers at most: make an image of fewer"
            }
            Self::Overlay { .. } => {
                "check that the store is on a local file system, or point SCONCE_HOME to one"
            }
            Self::Image { place, .. } => {
                return Some(format!("take {place} out of the image, and build or load it again"));
            }
            Self::NameTaken { name, .. } => {
                return Some(format!(
                    "`sconce rm -f {name}` ends and removes it; or choose another"
                ));
            }
            Self::NoContainer(_) => "`sconce ps -a` lists them",
            Self::Ambiguous { .. } => "write more of the id",
            Self::Running(id) => return Some(format!("`sconce stop {id}` ends it")),
            Self::Output(error) if error.kind() == io::ErrorKind::StorageFull => {
                "make room where the output goes to, and run it again"
            }
            Self::NoPasta => "install the package passt, or use --network host or none",
            Self::Pasta(said) => return crate::private::hint(said).map(str::to_owned),
            Self::Store(error) => return error.hint(),
            Self::Attached => "`sconce exec` runs another command in it",
            Self::Seccomp(error) => return error.hint().map(str::to_owned),
            Self::Stopped { shim, .. } => {
                return Some(format!("`kill -CONT {shim}` lets it go on"));
            }
            Self::Unanswered(id) => {
                let shim = format!("sconce-{}", id.get(..8).unwrap_or(id));
                return Some(format!(
                    "`ps -eo pid,stat,comm` lists it as {shim}: in state T it was stopped, and `kill -CONT PID` wakes it"
                ));
            }
            Self::Ending => "`sconce ps -a` shows how it ended",
            Self::Kept => {
                "something in it sends SIGSTOP to what it sees: `sconce exec` can't be used until that ends"
            }
            Self::Left { container, process: Some(process), .. } => {
                return Some(format!(
                    "`sconce exec {container} sh -c 'kill -KILL {process}'` ends it, `sconce kill {container}` all that runs there"
                ));
            }
            Self::Left { container, process: None, .. } => {
                return Some(format!("`sconce kill {container}` ends all that runs there"));
            }
            Self::Detached { container, .. } => {
                return Some(format!("`sconce attach {container}` joins it again"));
            }
            Self::Unread(container) => {
                return Some(format!(
                    "`sconce attach {container}` joins it again, `sconce logs -f {container}` shows all that it writes"
                ));
            }
            Self::Late(_) => {
                "its files may come from a slow disk, or something in the container traces it: try again"
            }
            Self::TooLong(_) => {
                "`sconce exec NAME tar -c -C FOLDER .` writes trees of any depth, and `tar -x` reads them"
            }
            Self::NotRunning(_) => "`sconce logs` shows what it wrote, `sconce ps -a` how it ended",
            Self::Listen { .. } => "choose another host port",
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// The exit status a shell should see, as `docker run` has it: 127 for a command that
    /// is not there, 126 for one that cannot be executed, 128 and its number for a signal that came before
    /// it started, 125 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound(_) => 127,
            Self::NotExecutable { .. } => 126,
            Self::Interrupted(signal)
            | Self::Left { signal, .. }
            | Self::Detached { signal, .. } => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            _ => 125,
        }
    }

    /// What `execve` refused with this `errno`.
    pub(crate) fn of_exec(command: String, errno: i32) -> Self {
        match errno {
            libc::ENOENT | libc::ENOTDIR => Self::NotFound(command),
            crate::os::NO_INTERPRETER => {
                let source = io::Error::other(
                    "its interpreter (after `#!`) or its dynamic loader is not in the image",
                );
                Self::NotExecutable { command, source }
            }
            _ => {
                let source = io::Error::from_raw_os_error(errno);
                Self::NotExecutable { command, source }
            }
        }
    }

    /// [`Error::Lost`], for what may have been written down as one already.
    pub(crate) fn lost(why: String) -> Self {
        let said = Self::Lost(String::new()).to_string();
        Self::Lost(why.strip_prefix(&said).map_or(why.clone(), str::to_owned))
    }

    /// The error and all its causes in one line, for the way across a process boundary.
    pub(crate) fn chain(&self) -> String {
        chain(self)
    }
}

/// An error and all its causes in one line, each once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// Names what was being done when the operating system refused.
pub(crate) trait Doing<T> {
    /// Adds a fixed description.
    fn doing(self, what: impl Into<String>) -> Result<T, Error>;
    /// Adds a description that ends in a path.
    fn doing_to(self, what: &str, path: impl Into<PathBuf>) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T, Error> {
        self.map_err(|error| Error::Os { what: what.into(), source: error.into() })
    }

    fn doing_to(self, what: &str, path: impl Into<PathBuf>) -> Result<T, Error> {
        self.map_err(|error| Error::Os {
            what: format!("{what} {}", path.into().display()),
            source: error.into(),
        })
    }
}
