//! What can go wrong around the programs inside; what they find is an answer and no error.

use std::io;
use std::path::PathBuf;

/// Why no answers could be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file for the container, or of its answers, can't be written.
    #[error("can't write {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The answers can't be read.
    #[error("the answers from inside can't be read")]
    Read(#[source] io::Error),
    /// The thread that reads the answers panicked.
    #[error("the thread that reads the answers has panicked")]
    Panicked,
    /// The running program is not to be found.
    #[error("can't find the running sconce")]
    Myself(#[source] io::Error),
    /// The program that measures can't be started or waited for.
    #[error("the program that measures can't be started")]
    Start(#[source] io::Error),
    /// The end of whoever asked can't be waited for.
    #[error("can't ask the kernel for a signal when who asked ends")]
    Lonely(#[source] rustix::io::Errno),
    /// An answer can't be written as JSON.
    #[error("an answer can't be written")]
    Json(#[from] serde_json::Error),
    /// The container can't be started.
    #[error(transparent)]
    Run(#[from] sconce_run::Error),
}

impl Error {
    /// What to do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Run(error) => error.hint(),
            _ => None,
        }
    }
}
