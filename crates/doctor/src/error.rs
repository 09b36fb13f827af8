//! What can be wrong with a saved snapshot.

use std::io;
use std::path::PathBuf;

/// Why a snapshot could not be saved, read or asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read.
    #[error("can't read the snapshot {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file could not be written.
    #[error("can't write the snapshot {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not a snapshot, or was damaged by an edit.
    #[error("{path} is not a snapshot of sconce doctor: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and why, as the JSON reader says it.
        reason: String,
    },
    /// A later sconce wrote it.
    #[error("{path} is a snapshot of schema {schema}; this sconce reads up to {newest}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        schema: u32,
        /// The newest known here.
        newest: u32,
    },
    /// A word that names no machines.
    #[error("`{word}` names no machines: {reason}")]
    Host {
        /// The word.
        word: String,
        /// Why.
        reason: String,
    },
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Read { .. } | Self::Write { .. } => return None,
            Self::Damaged { .. } => {
                "take it again with `sconce doctor --save FILE`; a snapshot can be edited, but only values"
            }
            Self::Host { .. } => "machines are given as `node1 node[2-8]`",
            Self::Newer { .. } => "judge it with the sconce that wrote it, or a later one",
        };
        Some(hint.to_owned())
    }
}
