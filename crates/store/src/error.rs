//! What can go wrong in the store, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use sconce_blob::Digest;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("can't {action} {}: {source}", path.display())]
    Io {
        /// What was tried, a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The disk, a quota or the file size limit is used up.
    #[error("no space left to {action} {}: {source}", path.display())]
    NoSpace {
        /// What was tried, a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Which limit was met.
        #[source]
        source: io::Error,
    },
    /// The store's folder can't be written.
    #[error("can't {action} {}: {source}", path.display())]
    NotWritable {
        /// What was tried, a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Read-only file system, or no permission.
        #[source]
        source: io::Error,
    },
    /// Neither `SCONCE_HOME`, `XDG_DATA_HOME` nor `HOME` is set to an absolute path.
    #[error("no folder for the store: neither SCONCE_HOME, XDG_DATA_HOME nor HOME is set")]
    NoHome,
    /// The folder holds other things.
    #[error("{} is not a sconce store: it has files but no `version`", .0.display())]
    NotAStore(PathBuf),
    /// The store was made by a newer sconce.
    #[error("the store {} has format {found}; this sconce knows up to {known}", root.display())]
    NewerFormat {
        /// The store.
        root: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format this program reads.
        known: u64,
    },
    /// The bytes are not those that were promised.
    #[error("{what} has digest {actual}, not {expected}")]
    WrongDigest {
        /// Which file or stream.
        what: String,
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A blob is not in the store.
    #[error("blob {0} is not in the store")]
    MissingBlob(Digest),
    /// The store doesn't know which blob has these uncompressed bytes.
    #[error("no layer with DiffID {0} is in the store")]
    MissingLayer(Digest),
    /// A file of the store, or one handed to it, is damaged.
    #[error("{} is damaged: {why}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A layer holds something that must not be unpacked.
    #[error("layer {layer}, entry `{entry}`: {why}")]
    BadLayer {
        /// The layer's DiffID, or what it is called before that is known.
        layer: String,
        /// The entry's path, lossily decoded.
        entry: String,
        /// What is wrong with it.
        why: String,
    },
    /// A document (manifest, config, index) can't be used.
    #[error("{what}: {why}")]
    BadDocument {
        /// Which document.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A name that no image can have.
    #[error("`{name}` can't name an image: {why}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No image has this name or digest.
    #[error("no image `{name}` in the store")]
    NoImage {
        /// What was asked for.
        name: String,
        /// A name that looks much like it.
        nearest: Option<String>,
    },
    /// A short digest that several images begin with.
    #[error("`{name}` could mean {} images: {}", candidates.len(), candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Their digests.
        candidates: Vec<String>,
    },
    /// Another process uses the store.
    #[error("another sconce is using the store {}", .0.display())]
    Busy(PathBuf),
    /// The destination is there already.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
}

impl Error {
    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoSpace { path, source, .. } => {
                if source.raw_os_error() == Some(Errno::FBIG.raw_os_error()) {
                    "raise the file size limit (`ulimit -f`)".to_owned()
                } else {
                    format!(
                        "free space on the disk of {} (`sconce prune` removes what no image uses), or point SCONCE_HOME at a larger one",
                        path.display()
                    )
                }
            }
            Self::NotWritable { .. } => {
                "point SCONCE_HOME at a folder that you may write".to_owned()
            }
            Self::NoHome => "set SCONCE_HOME to a folder with some tens of GB free".to_owned(),
            Self::NotAStore(_) => {
                "point SCONCE_HOME at an empty folder, or at one that does not exist yet".to_owned()
            }
            Self::NewerFormat { .. } => {
                "use the newer sconce, or another SCONCE_HOME for this one".to_owned()
            }
            Self::MissingBlob(_) | Self::MissingLayer(_) => {
                "build the image again: what is missing is downloaded or made anew".to_owned()
            }
            Self::WrongDigest { .. } => {
                "get the file again; if it stays so, its source has changed or is damaged"
                    .to_owned()
            }
            Self::NoImage { nearest: Some(nearest), .. } => {
                format!("did you mean `{nearest}`? `sconce images` lists what is there")
            }
            Self::NoImage { .. } => "`sconce images` lists what is there".to_owned(),
            Self::Ambiguous { .. } => "give more digits".to_owned(),
            Self::Busy(_) => "wait until it is done, then try again".to_owned(),
            Self::Exists(_) => "name another file or folder, or remove this one".to_owned(),
            Self::Io { .. }
            | Self::Corrupt { .. }
            | Self::BadLayer { .. }
            | Self::BadDocument { .. }
            | Self::BadName { .. } => return None,
        })
    }
}

impl Error {
    /// A failed file operation: `action` is a verb, as in "can't {action} {path}". A full disk and
    /// missing rights are told apart.
    pub fn of_io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => {
                Self::NoSpace { action, path, source }
            }
            Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) => {
                Self::NotWritable { action, path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }
}

impl From<Error> for io::Error {
    /// For interfaces that speak `io::Error`; the store's error is its source and its text.
    fn from(error: Error) -> Self {
        match &error {
            Error::Io { source, .. }
            | Error::NoSpace { source, .. }
            | Error::NotWritable { source, .. } => Self::new(source.kind(), error),
            _ => Self::other(error),
        }
    }
}

/// Turns an [`io::Error`] (or an errno) into an [`Error`] that says what was done to which file.
pub(crate) fn at<E: Into<io::Error>>(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> Error + use<E> {
    let path = path.to_owned();
    move |error| Error::of_io(action, &path, error.into())
}
