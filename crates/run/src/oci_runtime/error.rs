//! What a caller of the OCI command line is told.

use std::io;
use std::path::PathBuf;

/// Why a command of the runtime was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name of a container that could be a path, or nothing at all.
    #[error(
        "'{0}' is no container id: letters, digits and `_+-.` make one, and the first is a letter or a digit"
    )]
    Id(String),
    /// There is none of that name.
    #[error("container '{id}' does not exist in {}", root.display())]
    NoContainer {
        /// Its name.
        id: String,
        /// Where it was looked for.
        root: PathBuf,
    },
    /// There is one of that name.
    #[error("container with id '{0}' exists already")]
    Exists(String),
    /// A folder that belongs to somebody else.
    #[error("{} belongs to user {owner}, and this is user {me}", path.display())]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who asks.
        me: u32,
    },
    /// A folder that others may write to.
    #[error("{} can be written to by others (mode {mode:o})", path.display())]
    Open {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// What was asked for can't be done in the state that the container is in.
    #[error("container '{id}' is {status}: {asked} needs one that is {needed}")]
    Status {
        /// Its name.
        id: String,
        /// Its status.
        status: String,
        /// What was asked for.
        asked: &'static str,
        /// What it should be.
        needed: &'static str,
    },
    /// Something is wrong with the bundle or another document.
    #[error("{}: {why}", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// What a configuration asks for is not here.
    #[error("{field}: {why}")]
    Unsupported {
        /// The field, as config.md calls it.
        field: &'static str,
        /// Why not.
        why: String,
    },
    /// The command is not in the container. Podman looks for these words.
    #[error("exec: \"{0}\": executable file not found in $PATH")]
    NotFound(String),
    /// It is a path where nothing is. Podman looks for these words.
    #[error("exec: \"{0}\": no such file or directory")]
    NoFile(String),
    /// The command can't be executed. Podman looks for these words.
    #[error("exec: \"{0}\": permission denied")]
    NotExecutable(String),
    /// libcontainer, with what it logged.
    #[error("{0}")]
    Container(String),
    /// A terminal that can't be had.
    #[error("{0}")]
    Terminal(&'static str),
    /// The rest of this crate.
    #[error(transparent)]
    Run(#[from] crate::Error),
    /// The system refused.
    #[error("{what}: {source}")]
    Os {
        /// What was being done.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// What to do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoContainer { root, .. } => {
                format!("`sconce oci --root {} list` shows those that are there", root.display())
            }
            Self::Exists(id) => format!("`sconce oci delete --force {id}` ends and removes it"),
            Self::Open { path, .. } => format!("`chmod go-w {}`", path.display()),
            Self::Status { id, asked: "delete", .. } => {
                format!("`sconce oci delete --force {id}` ends it first")
            }
            Self::Run(error) => return error.hint(),
            _ => return None,
        })
    }

    /// The exit status for a command that runs one: 127 and 126 as in a shell, 1 for the rest, as runc has it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound(_) | Self::NoFile(_) => 127,
            Self::NotExecutable(_) => 126,
            _ => 1,
        }
    }

    /// The error of a command that could not be executed, out of libcontainer's words for it.
    pub(super) fn of_words(words: String, command: &str) -> Self {
        let command = || command.to_owned();
        let has = |error: &Self| words.contains(&error.to_string());
        [Self::NotFound(command()), Self::NoFile(command()), Self::NotExecutable(command())]
            .into_iter()
            .find(has)
            .unwrap_or(Self::Container(words))
    }
}

/// Names what was being done when the system refused.
pub(super) trait Doing<T> {
    fn doing(self, what: impl Into<String>) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T, Error> {
        self.map_err(|error| Error::Os { what: what.into(), source: error.into() })
    }
}
