//! What goes wrong: here, and for whoever asks.

use std::net::SocketAddr;

use sconce_listen::{No, Strange};
use serde_json::json;

/// Why the store can't be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address can't be listened at.
    #[error("can't listen at {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// What to do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => Some(
                "another program listens there: `--listen 127.0.0.1:5001` takes another port"
                    .into(),
            ),
            Self::Listen { .. } => None,
        }
    }
}

/// An answer that is no: the status, the specification's code, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub(crate) status: u16,
    /// distribution-spec 1.1, "Error Codes".
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// Seconds after which it may be worth while to ask again.
    pub(crate) retry_after: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    pub(crate) fn nothing_here() -> Self {
        Self::new(
            404,
            "NAME_UNKNOWN",
            "there is nothing at this address; the registry's API begins at /v2/",
        )
    }

    pub(crate) fn name_invalid() -> Self {
        Self::new(400, "NAME_INVALID", "this is not a repository's name")
    }

    pub(crate) fn digest_invalid() -> Self {
        Self::new(400, "DIGEST_INVALID", "a digest is sha256: and 64 hexadecimal digits")
    }

    pub(crate) fn name_unknown(name: &str) -> Self {
        Self::new(404, "NAME_UNKNOWN", format!("there is no image `{name}` here"))
    }

    pub(crate) fn manifest_unknown(message: impl Into<String>) -> Self {
        Self::new(404, "MANIFEST_UNKNOWN", message)
    }

    pub(crate) fn private_lock() -> Self {
        let why = "its lock has paths of this machine, or addresses that are not for others";
        Self::new(403, "DENIED", why)
    }

    pub(crate) fn blob_unknown() -> Self {
        Self::new(404, "BLOB_UNKNOWN", "there is no such blob here")
    }

    pub(crate) fn method(method: &str) -> Self {
        let message = format!("{} is not taken here", shown(method));
        Self::new(405, "UNSUPPORTED", message)
    }

    pub(crate) fn too_many(message: impl Into<String>) -> Self {
        let refusal = Self::new(429, "TOOMANYREQUESTS", message);
        Self { retry_after: Some(5), ..refusal }
    }

    /// A fault here, which is none of the client's business in detail.
    pub(crate) fn internal() -> Self {
        Self::new(500, "UNKNOWN", "the registry failed; its log says why")
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        let body = json!({ "errors": [{ "code": self.code, "message": self.message }] });
        body.to_string().into_bytes()
    }
}

impl From<Strange> for Refusal {
    fn from(strange: Strange) -> Self {
        match strange {
            Strange::NoName => Self::new(400, "UNSUPPORTED", "the Host header is not a host name"),
            Strange::Unknown(name) => Self::new(
                421,
                "DENIED",
                format!(
                    "this registry does not answer to `{name}`; `sconce serve --host-name {name}` makes it"
                ),
            ),
        }
    }
}

impl From<No> for Refusal {
    fn from(no: No) -> Self {
        match no {
            No::Absent | No::Wrong => Self::new(401, "UNAUTHORIZED", no.to_string()),
            No::Busy => Self::too_many(no.to_string()),
        }
    }
}

/// A word of a stranger's, short and plain.
fn shown(word: &str) -> String {
    word.chars().filter(char::is_ascii_alphanumeric).take(16).collect()
}
