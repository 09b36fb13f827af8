//! What can go wrong with uv.

use std::io;
use std::path::{Path, PathBuf};

use super::process::Failed;
use crate::error::LOGIN;

/// Why uv gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UvError {
    /// There is no uv, and no pip to install it with.
    #[error(
        "uv resolves the Python packages, and there is neither uv nor pip on this machine: {why}"
    )]
    Missing {
        /// What was tried.
        why: String,
    },
    /// There is no uv, and the network must not be used.
    #[error(
        "uv resolves the Python packages; it is not on this machine, and --offline forbids installing it"
    )]
    Offline,
    /// pip could not install uv.
    #[error("pip could not install uv {version}:\n{words}")]
    Install {
        /// Which uv.
        version: String,
        /// pip's words.
        words: String,
    },
    /// There is no folder that only this user can write to, for a uv of sconce's own.
    #[error("there is no uv on the PATH, and no folder for one that only you can write to: {why}")]
    NoPlace {
        /// What is wrong with each that there could be.
        why: String,
    },
    /// The uv that `SCONCE_UV` names is none, or too old.
    #[error("SCONCE_UV names {program}: {why}")]
    Named {
        /// The program.
        program: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The program could not be run, or its answer could not be read.
    #[error("cannot {what} {path}")]
    Io {
        /// "run", "read", "create".
        what: &'static str,
        /// What it was about.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// uv failed for another reason than that there is no solution: the network, a bad option.
    #[error("uv failed:\n{words}")]
    Failed {
        /// Its words.
        words: String,
        /// Whether it was told not to use the network.
        offline: bool,
    },
    /// Nobody wants its answer any more.
    #[error("uv was stopped: nobody waits for its answer")]
    Stopped,
    /// The configuration of uv or pip can't be read.
    #[error("cannot read the configuration of uv and pip")]
    Config(#[source] Box<crate::Error>),
}

impl UvError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => Some(
                "install one of them, e.g. `apt install python3-pip`, or set SCONCE_UV to a uv program".into(),
            ),
            Self::Offline => Some("run once without --offline, or put uv on the PATH".into()),
            Self::Install { .. } => {
                Some("check pip's index and proxy settings, or put a uv on the PATH".into())
            }
            Self::NoPlace { .. } => Some(
                "set XDG_CACHE_HOME to a folder of yours that nobody else can write to, or SCONCE_UV to a uv program".into(),
            ),
            Self::Named { .. } => Some("unset SCONCE_UV, or name a newer uv".into()),
            Self::Failed { offline: true, .. } => {
                Some("what is not in uv's cache needs the network: run without --offline".into())
            }
            Self::Failed { words, .. } if is_login(words) => Some(LOGIN.into()),
            Self::Failed { words, .. } if !is_network(words) => None,
            Self::Failed { .. } => Some(
                "check the network, proxy and index settings: uv reads UV_DEFAULT_INDEX and uv.toml, and sconce \
                 hands it what pip.conf has"
                    .into(),
            ),
            Self::Config(error) => error.hint(),
            Self::Io { .. } | Self::Stopped => None,
        }
    }

    /// Whether what uv met was the network, an index or a login, and not what it was asked.
    pub fn is_network(&self) -> bool {
        matches!(self, Self::Failed { words, .. } if met_network(words))
    }

    pub(super) fn not_run(program: &Path, why: Failed) -> Self {
        match why {
            Failed::Io(source) => Self::io("run", program, source),
            Failed::Stopped => Self::Stopped,
        }
    }

    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { what, path: path.into(), source }
    }
}

/// Whether uv's words are about what it met on the network.
pub(super) fn met_network(words: &str) -> bool {
    is_network(words) || is_login(words)
}

/// Whether uv's words are about a login that an index wants.
pub(super) fn is_login(words: &str) -> bool {
    const WORDS: &[&str] = &[
        "401 Unauthorized",
        "403 Forbidden",
        "Missing credentials",
        "valid authentication credentials",
    ];
    WORDS.iter().any(|word| words.contains(word))
}

/// Whether uv's words are about the network: it has one exit code for all that is no solution.
fn is_network(words: &str) -> bool {
    const WORDS: &[&str] = &[
        "error sending request",
        "Failed to fetch",
        "Request failed",
        "Could not connect",
        "dns error",
        "timed out",
        "certificate",
        "HTTP status",
        "Connection",
        "network",
    ];
    WORDS.iter().any(|word| words.contains(word))
}
