//! Why a key can't be used.

/// What is wrong with a key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The file is not a key, or none that is read here.
    #[error("{why}")]
    Key {
        /// What is wrong.
        why: String,
        /// What to do.
        hint: String,
    },
    /// The private key is encrypted, and no password was given.
    #[error("the key is encrypted")]
    Locked,
    /// The password does not open it.
    #[error("the password does not open the key, or the key is damaged")]
    Password,
}

impl Error {
    pub(crate) fn key(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Key { why: why.into(), hint: hint.into() }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Key { hint, .. } => hint.clone(),
            Self::Locked | Self::Password => {
                "the password is read from COSIGN_PASSWORD, or asked for at a terminal".to_owned()
            }
        })
    }
}
