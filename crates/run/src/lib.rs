//! An image to a running container: overlay, mounts, namespaces, cgroups, terminal.
//!
//! [`run`] takes the image's extracted layers, a request and a [`Shim`], and answers how the command
//! ended; [`start`] leaves the container running. Three processes do the work:
//!
//! - the **caller** keeps the terminal, forwards signals, and waits;
//! - the **shim**, one for each container, makes the namespaces and the overlay of the layers,
//!   starts the container through libcontainer and stays with it. It runs from a sealed copy of
//!   this program; an attached one ends when its caller does. Every mount was made in a namespace of
//!   its own: killing it leaves nothing mounted;
//! - the container's **first process** starts the command and collects orphans. It dies with
//!   the shim, and all processes of the container with it.
//!
//! There is no daemon: a container is a folder ([`list`], [`find`]) in which its shim listens.
//!
//! What a container of a training job needs is on by default: the host's network, half of
//! the memory as `/dev/shm`, locked memory and stack as large as the machine allows, a
//! resolvable host name. It knows nothing of GPUs: devices come as CDI edits from outside.
//!
//! Needs Linux 5.12 (`mount_setattr`), which libcontainer 0.7 uses for every mount.

mod apparmor;
mod archive;
mod attend;
mod capabilities;
pub mod cdi;
mod cgroup;
mod clean;
mod client;
mod command;
mod container;
mod control;
mod copy;
mod cp;
mod devices;
mod error;
mod etc;
mod filter;
mod folder;
mod forward;
mod holes;
mod ids;
mod init;
mod join;
mod living;
mod logs;
mod memory;
mod no_cgroups;
pub mod oci_runtime;
mod os;
mod output;
mod overlay;
mod places;
mod private;
mod privileges;
mod process;
mod processors;
mod pulse;
mod put;
mod reach;
mod request;
mod rlimit;
mod running;
mod sealed;
pub mod seccomp;
mod setup;
mod shim;
mod signals;
mod spawn;
mod spec;
mod streams;
mod terminal;
mod time;
mod trace;
mod usage;
mod user;
mod volumes;

pub use clean::remove;
pub use client::{run, run_captured, start};
pub use container::{
    Capabilities, Container, DEFAULT_PIDS, Device, Dns, Invocation, Network, Seccomp, Stdio, Tmpfs,
    Ulimit,
};
pub use control::Exec;
pub use error::Error;
pub use folder::{Listed, State, find, list};
pub use logs::{Log, Next};
pub use memory::{default_shm_bytes, machine_memory};
pub use output::Line;
pub use processors::{processor_limit, processors};
pub use pulse::Pulse;
pub use put::put;
pub use reach::{hold, reach};
pub use request::{Port, Volume, parse_cpus, parse_env, parse_size};
pub use shim::shim_main;
pub use signals::{Interrupts, ended_by};
pub use spawn::Shim;
pub use time::rfc3339;
pub use usage::Usage;

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

    /// From the status that is a signal's number negated for a killed command.
    pub(crate) fn of(status: i32) -> Self {
        match status {
            code @ 0.. => Self::Code(u8::try_from(code).unwrap_or(u8::MAX)),
            signal => Self::Signal(signal.saturating_neg()),
        }
    }

    /// The opposite of [`Exit::of`].
    pub(crate) fn status(self) -> i32 {
        match self {
            Self::Code(code) => code.into(),
            Self::Signal(signal) => -signal,
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
