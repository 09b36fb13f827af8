//! What can go wrong between a reference and its bytes.

use std::path::PathBuf;

use sconce_blob::Digest;

/// Why an image in a registry can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was given is no reference.
    #[error("`{text}` names no image in a registry: {why}")]
    Reference {
        /// As it was given.
        text: String,
        /// Which part is wrong.
        why: String,
    },
    /// The registry wants a login, or refuses the one it was given.
    #[error("{host} refuses to show {repository}{}", if *known { " with the login there is" } else { " without a login" })]
    Denied {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
        /// Whether a login was sent.
        known: bool,
    },
    /// The registry has no such image, or says so to who may not see it.
    #[error("{host} has no {repository}:{wanted}")]
    NotFound {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
        /// The tag or digest.
        wanted: String,
    },
    /// The image is not for this processor.
    #[error("{reference} is not for {wanted}; it is for {}", there.join(", "))]
    NoPlatform {
        /// The image.
        reference: String,
        /// OCI's name of the processor.
        wanted: String,
        /// Those there are.
        there: Vec<String>,
    },
    /// An answer that makes no sense.
    #[error("{url} answers wrongly: {why}")]
    Answer {
        /// The address.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// Other bytes than those asked for.
    #[error("{url} sends bytes of SHA-256 {actual}, but {wanted} was asked for")]
    WrongDigest {
        /// The address.
        url: String,
        /// What was asked for.
        wanted: Digest,
        /// What came.
        actual: Digest,
    },
    /// A file of logins that can't be read.
    #[error("{}: {why}", path.display())]
    Logins {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The network or the server.
    #[error(transparent)]
    Fetch(#[from] sconce_fetch::Error),
}

impl Error {
    /// What to do about it, where something can be said.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Reference { .. } => "write HOST/NAME:TAG, as for `docker pull`".to_owned(),
            Self::Denied { host, known: false, .. } => format!(
                "`docker login {host}` (its config.json is read; credential helpers are not asked)"
            ),
            Self::Denied { host, .. } => format!("log in anew: `docker login {host}`"),
            Self::NotFound { .. } => {
                "look at the name and the tag; some registries say this to who is not logged in"
                    .to_owned()
            }
            Self::NoPlatform { there, .. } => match there.first() {
                Some(first) => format!("look at another one with --platform {first}"),
                None => return None,
            },
            Self::Answer { .. } | Self::WrongDigest { .. } => {
                "the fault is the registry's or a proxy's: try again later, or another registry"
                    .to_owned()
            }
            Self::Logins { .. } => "correct the file, or log in anew".to_owned(),
            Self::Fetch(error) => return error.hint(),
        })
    }
}
