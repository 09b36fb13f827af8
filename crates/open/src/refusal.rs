//! Why a file is not read although the kernel would open it.

use std::io;
use std::path::PathBuf;

use rustix::fs::FileType;

/// Why a file was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is not a regular file.
    #[error("it is {0}, not a regular file")]
    Kind(&'static str),
    /// It is larger than any honest one.
    #[error("it has more than {limit} bytes, the most that is read of such a file")]
    TooLarge {
        /// The most that is read, bytes.
        limit: u64,
    },
    /// It is not UTF-8.
    #[error("it is not UTF-8 text: line {line} has bytes that are none")]
    NotText {
        /// The first line that is none.
        line: usize,
    },
    /// A link leads to what is not there.
    #[error("{link} is a link to {target}, which is not there")]
    Dangling {
        /// The link.
        link: PathBuf,
        /// Where that points.
        target: PathBuf,
    },
    /// A link on the way to it leads out of its folder.
    #[error("it leads out of {folder} through the link {link} -> {target}")]
    LeadsOut {
        /// The folder.
        folder: PathBuf,
        /// The link, from the folder.
        link: PathBuf,
        /// Where that points.
        target: PathBuf,
    },
    /// The path itself leads out of its folder (`..`, or absolute).
    #[error("it leads out of {folder}")]
    Outside {
        /// The folder.
        folder: PathBuf,
    },
    /// Something on the way was replaced while it was opened, again and again.
    #[error("its folder was changed while it was opened")]
    Changing,
    /// A link has come into a path that had none.
    #[error("a link has come into its path since it was looked at")]
    Replaced,
    /// The kernel can't keep a path beneath a folder.
    #[error("this kernel can't open files beneath a folder (openat2, since Linux 5.6)")]
    OldKernel,
    /// `/proc` is not mounted.
    #[error("/proc is not mounted here")]
    NoProc,
}

impl Refusal {
    /// The refusal inside an error, if it is one.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal {
            Refusal::TooLarge { .. } => io::ErrorKind::FileTooLarge,
            Refusal::NotText { .. } => io::ErrorKind::InvalidData,
            Refusal::OldKernel | Refusal::NoProc => io::ErrorKind::Unsupported,
            _ => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, refusal)
    }
}

/// What a file is called in messages.
pub(crate) fn name(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a folder",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO (named pipe)",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "of an unknown kind",
    }
}
