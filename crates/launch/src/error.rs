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
            _ => None,
        }
    }
}
