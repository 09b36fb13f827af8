//! What can go wrong between a registry and the store.

/// Why an image did not get where it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry, or the way to it.
    #[error(transparent)]
    Registry(#[from] sconce_registry::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] sconce_store::Error),
    /// Another piece of the same work failed first.
    #[error("stopped")]
    Stopped,
}

impl Error {
    /// What to do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Stopped => None,
        }
    }
}
