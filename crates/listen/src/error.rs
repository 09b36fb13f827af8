//! What goes wrong: with the files that somebody names, with a login, and with the name of a host.

/// Why files can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificate or its key.
    #[error("TLS: {why}")]
    Tls {
        /// What is wrong.
        why: String,
    },
    /// The file of users.
    #[error("the file of users: {why}")]
    Logins {
        /// What is wrong. Nothing that stands in the file.
        why: String,
    },
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Tls { .. } => {
                "both are files in PEM: the certificate with those above it, and a key without a password"
                    .into()
            }
            Self::Logins { .. } => {
                "`htpasswd -cB FILE NAME` makes one, `htpasswd -B FILE NAME` adds to it".into()
            }
        })
    }
}

/// Why nobody is logged in, in words for who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum No {
    /// There is no login.
    #[error("log in")]
    Absent,
    /// It is none that is known.
    #[error("the name or the password is wrong")]
    Wrong,
    /// Too many of its kind wait to be looked at.
    #[error("too many logins under this name are waiting")]
    Busy,
}

/// Why a request for a host is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strange {
    /// What it is for is not the name of a host.
    NoName,
    /// A name that is not known to be this machine's.
    Unknown(String),
}
