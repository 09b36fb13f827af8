//! What can go wrong between a registry and the store.

use std::path::{Path, PathBuf};

use sconce_registry::Reference;
use sconce_sign::Verdict;

/// Why an image did not get where it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry, or the way to it.
    #[error(transparent)]
    Registry(#[from] sconce_registry::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] sconce_store::Error),
    /// A key.
    #[error(transparent)]
    Key(#[from] sconce_sign::Error),
    /// The policy does not let the image in.
    #[error("{name} is not taken: {why} (policy {})", policy.display())]
    Unsigned {
        /// The image.
        name: String,
        /// The policy file.
        policy: PathBuf,
        /// What is missing.
        why: String,
        /// It is not known whether it is signed.
        is_open: bool,
    },
    /// Another piece of the same work failed first.
    #[error("stopped")]
    Stopped,
}

impl Error {
    /// An image that a policy file does not let in, with what its signatures came to; without where no
    /// rule is for it.
    pub(crate) fn refused(name: &Reference, policy: &Path, verdict: Option<Verdict>) -> Self {
        let is_open = matches!(verdict, Some(Verdict::CantTell(_)));
        let why = match verdict {
            None => "no rule is for it, and others are refused".to_owned(),
            Some(Verdict::Yes { .. }) => "it is signed".to_owned(),
            Some(Verdict::No(why)) => format!("none of the keys for it has signed it: {why}"),
            Some(Verdict::CantTell(why)) => {
                format!("can't tell whether one of the keys for it has signed it: {why}")
            }
        };
        Self::Unsigned { name: name.to_string(), policy: policy.to_owned(), why, is_open }
    }

    /// What to do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Key(error) => error.hint(),
            Self::Unsigned { name, .. } => Some(format!(
                "`sconce show {name}` lists what there is; whoever answers for the image signs it: `sconce sign {name} --key FILE`"
            )),
            Self::Stopped => None,
        }
    }
}
