//! What can go wrong while reading, and where.

use std::io;
use std::path::PathBuf;

/// Why something can't be inspected. While a whole environment is scanned, an error about one file
/// becomes a finding and the scan goes on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes could not be read.
    #[error("{file}: reading at offset {offset} failed: {source}")]
    Read {
        /// Which file.
        file: String,
        /// Where, bytes.
        offset: u64,
        /// What the system or the decompressor says.
        #[source]
        source: io::Error,
    },
    /// The file ends in the middle of something.
    #[error("{file}: ends inside its {what} at offset {offset} (the file has {size} bytes)")]
    Truncated {
        /// Which file.
        file: String,
        /// Where the cut-off part starts, bytes.
        offset: u64,
        /// What is cut off.
        what: &'static str,
        /// The file's size, bytes.
        size: u64,
    },
    /// The bytes contradict their format.
    #[error("{file}: bad {what} at offset {offset}: {why}")]
    Malformed {
        /// Which file.
        file: String,
        /// Where, bytes.
        offset: u64,
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Something on disk can't be opened or listed.
    #[error("{}: {source}", path.display())]
    Open {
        /// What was opened.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The path is none of the things that can be inspected.
    #[error("{}: neither a wheel, a folder, a virtual environment, a library, a cubin, fatbin or PTX file, an OCI layout nor a docker-archive", path.display())]
    Unknown {
        /// What was given.
        path: PathBuf,
    },
    /// The GPU's name is not known.
    #[error("unknown GPU `{name}`")]
    UnknownGpu {
        /// As it was given.
        name: String,
        /// The nearest known name.
        nearest: Option<String>,
    },
}

impl Error {
    /// What to do about it, where something can be said.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Truncated { .. } => {
                Some("the file was cut off: download or copy it again".to_owned())
            }
            Self::Unknown { .. } => Some(
                "name a .whl file, a site-packages or root folder, a folder with `oci-layout`, or \
                 the .tar of `docker save`"
                    .to_owned(),
            ),
            Self::UnknownGpu { nearest, .. } => {
                nearest.as_ref().map(|name| format!("did you mean `{name}`?"))
            }
            Self::Read { .. } | Self::Malformed { .. } | Self::Open { .. } => None,
        }
    }

    /// The offset in the file where it went wrong, bytes.
    pub fn offset(&self) -> Option<u64> {
        match self {
            Self::Read { offset, .. }
            | Self::Truncated { offset, .. }
            | Self::Malformed { offset, .. } => Some(*offset),
            Self::Open { .. } | Self::Unknown { .. } | Self::UnknownGpu { .. } => None,
        }
    }
}
