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

mod attend;
pub mod cdi;
mod cgroup;
mod container;
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
mod spec;
mod terminal;
mod trace;
mod user;

pub use attend::{run, run_captured};
pub use container::{
    Capabilities, Container, DEFAULT_PIDS, Device, Dns, Network, Seccomp, Stdio, Tmpfs, Ulimit,
};
pub use error::Error;
pub use memory::default_shm_bytes;
pub use processors::{processor_limit, processors};
pub use request::{Port, Volume, parse_cpus, parse_env, parse_size};

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
