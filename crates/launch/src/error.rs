//! What can go wrong before and around a launch.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that makes no sense.
    #[error("`{name}`: `{given}`: {why}")]
    Setting {
        /// Its name, as people write it.
        name: &'static str,
        /// What was given.
        given: String,
        /// What is wrong.
        why: String,
    },
    /// No command.
    #[error("nothing says what the ranks are to run")]
    NoProgram,
    /// A file that can't be written.
    #[error("{path} can't be written")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No such process.
    #[error("there is no process {pid}")]
    NoProcess {
        /// Which.
        pid: u32,
    },
    /// Nothing to look at.
    #[error("neither process {pid} nor one below it runs Python")]
    NoPython {
        /// Which.
        pid: u32,
    },
    /// A process that the kernel lets nobody like us look at.
    #[error("process {pid} is not ours to look at")]
    NotOurs {
        /// Which.
        pid: u32,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// More than one job.
    #[error("there are two ranks {rank} below process {pid}: more than one job")]
    TwoJobs {
        /// Below which.
        pid: u32,
        /// Which rank.
        rank: u32,
    },
    /// A node's program that can't be started.
    #[error("`{program}` can't be started")]
    Start {
        /// Which.
        program: String,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoProgram => Some(
                "say it behind `--`: `sconce launch . -- train.py`, or as `command` under [launch] in sconce.toml"
                    .to_owned(),
            ),
            Self::Write { .. } => Some("`--evidence DIR` writes it elsewhere".to_owned()),
            Self::NoProcess { .. } | Self::NoPython { .. } | Self::TwoJobs { .. } => {
                Some("name torchrun, or a rank: `pgrep -af torchrun` lists them".to_owned())
            }
            Self::NotOurs { pid, .. } => Some(format!(
                "`sudo sconce hang {pid}`; in a container, from the host: reading another process takes what ptrace takes (kernel.yama.ptrace_scope, CAP_SYS_PTRACE)"
            )),
            _ => None,
        }
    }
}
