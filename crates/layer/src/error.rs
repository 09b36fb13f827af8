//! What can go wrong between files and layers, and what to do about it.

use std::io;

use crate::content::ContentFault;
use crate::entry::PathFault;
use crate::metadata::MetadataFault;
use crate::zip::{ZipError, ZipFault};

/// Why a layer could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The zip around a wheel is unsound.
    #[error("{wheel}: {}at byte {offset}: {fault}", of_entry(entry.as_deref()))]
    Archive {
        /// File name of the wheel.
        wheel: String,
        /// The entry, if the fault is one's own.
        entry: Option<String>,
        /// Where in the wheel, bytes.
        offset: u64,
        /// What is wrong.
        fault: ZipFault,
    },
    /// The bytes of a file in a wheel are unsound.
    #[error("{wheel}: entry `{entry}` at byte {offset}: {fault}")]
    Content {
        /// File name of the wheel.
        wheel: String,
        /// The entry.
        entry: String,
        /// Where its bytes start, bytes.
        offset: u64,
        /// What is wrong.
        fault: ContentFault,
    },
    /// A file differs from what RECORD says.
    #[error("{wheel}: `{entry}` has {real}, but RECORD says {listed}")]
    Hash {
        /// File name of the wheel.
        wheel: String,
        /// The entry.
        entry: String,
        /// The digest of its bytes.
        real: String,
        /// The digest in RECORD.
        listed: String,
    },
    /// A file of a wheel's description is missing or unsound.
    #[error("{wheel}: {file}: {fault}")]
    Metadata {
        /// File name of the wheel.
        wheel: String,
        /// Path of the file in the wheel.
        file: String,
        /// What is wrong.
        fault: MetadataFault,
    },
    /// Two wheels, or two files of one, install different things at one path.
    #[error("`{path}` comes from {first} and, with other content, from {second}")]
    Conflict {
        /// The path in the image.
        path: String,
        /// File name of the first wheel.
        first: String,
        /// File name of the second wheel.
        second: String,
    },
    /// A wheel installs over what belongs to the virtual environment itself.
    #[error("{wheel} installs `{path}`, which belongs to the virtual environment")]
    Reserved {
        /// File name of the wheel.
        wheel: String,
        /// The path in the image.
        path: String,
    },
    /// A path can't stand in a layer.
    #[error("`{path}` can't stand in a layer: {fault}")]
    Path {
        /// Which path, escaped.
        path: String,
        /// Why not.
        fault: PathFault,
    },
    /// One path twice in one layer.
    #[error("`{0}` comes twice")]
    Duplicate(String),
    /// Something lies under a path that is not a directory.
    #[error("`{path}` lies under `{parent}`, which is not a directory")]
    NotDirectory {
        /// What lies there.
        path: String,
        /// What it lies under.
        parent: String,
    },
    /// A hard link to something that is not a file of the layer.
    #[error("the hard link `{path}` points to `{target}`, which is not a file of this layer")]
    Hardlink {
        /// The link.
        path: String,
        /// What it points to.
        target: String,
    },
    /// A file on disk changed while the layer was made.
    #[error("`{path}` changed while it was read: it no longer has {len} bytes")]
    Changed {
        /// The path in the layer.
        path: String,
        /// The length it had.
        len: u64,
    },
    /// A wheel or a file could not be read.
    #[error("reading {what} failed: {source}")]
    Read {
        /// What was read.
        what: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The layer could not be written.
    #[error("writing the layer failed: {0}")]
    Write(#[source] io::Error),
    /// A file could not be unpacked.
    #[error("unpacking `{path}` failed: {source}")]
    Unpack {
        /// The path in the layer.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The caller's own step after a layer failed.
    #[error("keeping the layer `{layer}` failed: {source}")]
    Finished {
        /// Name of the layer.
        layer: String,
        /// What the caller says.
        #[source]
        source: io::Error,
    },
}

fn of_entry(entry: Option<&str>) -> String {
    entry.map(|entry| format!("entry `{entry}` ")).unwrap_or_default()
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Archive { fault: ZipFault::Read(_), .. }
            | Self::Content { fault: ContentFault::Read(_), .. }
            | Self::Read { .. } => "check the disk and the permissions of the file",
            Self::Archive { fault: ZipFault::NoEnd, .. } => {
                "the file may be cut off: download it again and compare its hash with the index"
            }
            Self::Archive { wheel, .. }
            | Self::Content { wheel, .. }
            | Self::Hash { wheel, .. } => {
                return Some(format!(
                    "if the hash of {wheel} is the one its index gives, the wheel was published \
                     broken: use another version, or tell its authors"
                ));
            }
            Self::Metadata { wheel, .. } => {
                return Some(format!(
                    "{wheel} was built wrongly: use another version, or rebuild it with a current \
                     build back end"
                ));
            }
            Self::Conflict { .. } => "the two can't be installed together: leave one of them out",
            Self::Reserved { .. } => "leave the wheel out, or use another version of it",
            Self::Path { .. } => "rename the file",
            Self::Duplicate(_) | Self::NotDirectory { .. } => "keep one of the two",
            Self::Hardlink { .. } => "name a file of the same layer, or use a symbolic link",
            Self::Changed { .. } => "run it again when nothing writes to the file",
            Self::Write(source) | Self::Unpack { source, .. } | Self::Finished { source, .. } => {
                match source.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                        "free some space on the disk"
                    }
                    _ => "check the disk and the permissions of the folder",
                }
            }
        };
        Some(text.to_owned())
    }

    pub(crate) fn zip(wheel: &str, error: ZipError) -> Self {
        let ZipError { entry, offset, fault } = error;
        Self::Archive { wheel: wheel.to_owned(), entry, offset, fault }
    }
}
