//! An image to a running container: overlay, mounts, namespaces, cgroups, terminal.
//!
//! [`run`] takes the image's extracted layers and a request and answers how the command
//! ended. Three processes do the work:
//!
//! - the **caller** keeps the terminal, forwards signals and ports, and waits;
//! - the **keeper**, forked from it, makes the namespaces and the overlay of the layers, and
//!   starts the container through libcontainer. It dies with the caller, and every mount
//!   was made in a namespace of its own: killing sconce leaves nothing mounted;
//! - the container's **first process** starts the command and collects orphans. It dies with
//!   the keeper, and all processes of the container with it.
//!
//! What a container of a training job needs is on by default: the host's network, half of
//! the memory as `/dev/shm`, locked memory and stack as large as the machine allows, a
//! resolvable host name. It knows nothing of GPUs: devices come as CDI edits from outside.
//!
//! Needs Linux 5.12 (`mount_setattr`), which libcontainer 0.7 uses for every mount.

#[allow(dead_code)]
mod apparmor;
mod attend;
pub mod cdi;
mod cgroup;
mod control;
mod error;
mod etc;
mod forward;
mod ids;
mod init;
mod keeper;
mod memory;
mod os;
mod overlay;
mod processors;
mod request;
mod rlimit;
mod scratch;
pub mod seccomp;
mod spec;
mod terminal;
mod trace;
mod user;

use std::path::PathBuf;

pub use attend::{run, run_captured};
pub use error::Error;
pub use memory::default_shm_bytes;
pub use processors::{processor_limit, processors};
pub use request::{Port, Volume, parse_cpus, parse_env, parse_size};

/// A container to be: its root, its command, and what it may use.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// The image's extracted layers, the top one first. They are never written to.
    pub lowers: Vec<PathBuf>,
    /// A folder in which this run makes one of its own, removed afterwards; what killed runs
    /// left there is removed too. It is made if missing. On a file system that overlays
    /// cannot write to, what the container changes is kept in memory.
    pub scratch: PathBuf,
    /// What to run; the first word is looked for on the environment's PATH.
    pub command: Vec<String>,
    /// The whole environment; PATH, HOME, HOSTNAME and (on a terminal) TERM are added where
    /// they are missing. The last of two equal names counts.
    pub env: Vec<(String, String)>,
    /// Where the command starts; made if missing. `/` if not given.
    pub workdir: Option<PathBuf>,
    /// `name`, `uid`, `name:group` or `uid:gid`, looked up in the image. Root if not given.
    pub user: Option<String>,
    /// Folders and files of the host to show inside.
    pub volumes: Vec<Volume>,
    /// Ports of the host that lead to ports inside.
    pub ports: Vec<Port>,
    /// Whose network it has.
    pub network: Network,
    /// The root cannot be written to; volumes and `/dev/shm` still can.
    pub read_only: bool,
    /// Size of `/dev/shm` in bytes; [`default_shm_bytes`] if not given. It costs nothing
    /// until it is used.
    pub shm_bytes: Option<u64>,
    /// Most memory it may use, in bytes.
    pub memory_bytes: Option<u64>,
    /// Most processor time it may use, in cores.
    pub cpus: Option<f64>,
    /// The processors it runs on, by number; the caller's if not given.
    pub processors: Option<Vec<usize>>,
    /// Its host name; the host's own if not given.
    pub hostname: Option<String>,
    /// What its standard streams are.
    pub stdio: Stdio,
    /// CDI `containerEdits`, as [`cdi::select`] finds them; applied in order, after all else.
    pub edits: Vec<serde_json::Value>,
    /// After a clean end, what it changed in its root is moved here (same file system as
    /// `scratch`) instead of being removed. As overlayfs keeps it: deleted files are
    /// character devices 0/0.
    pub keep_changes: Option<PathBuf>,
}

impl Container {
    /// A container with everything at its default.
    pub fn new(
        lowers: Vec<PathBuf>,
        scratch: impl Into<PathBuf>,
        command: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            lowers,
            scratch: scratch.into(),
            command: command.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            workdir: None,
            user: None,
            volumes: Vec::new(),
            ports: Vec::new(),
            network: Network::Host,
            read_only: false,
            shm_bytes: None,
            memory_bytes: None,
            cpus: None,
            processors: None,
            hostname: None,
            stdio: Stdio::Output,
            edits: Vec::new(),
            keep_changes: None,
        }
    }
}

/// Whose network a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// The host's: every port inside is a port of the host, as HPC runtimes have it.
    #[default]
    Host,
    /// None but its own loopback device.
    None,
}

/// What the command's standard streams are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stdio {
    /// Output goes where the caller's goes; there is no input.
    #[default]
    Output,
    /// The caller's three streams (`-i`).
    Inherit,
    /// A terminal of its own, joined to the caller's (`-it`).
    Terminal,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status.
    Code(u8),
    /// It was killed by this signal.
    Signal(i32),
}

impl Exit {
    /// The status as a shell reports it: 128 and the signal's number for a killed command.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }

    /// The command ended as commands do that have nothing to complain about.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

/// What a captured command wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// How it ended.
    pub exit: Exit,
    /// The first bytes of its standard output.
    pub stdout: Vec<u8>,
    /// The first bytes of its standard error.
    pub stderr: Vec<u8>,
}
