//! What can go wrong between an archive and a root file system.

use std::io;
use std::path::PathBuf;

use sconce_blob::Digest;

use crate::control::ControlError;
use crate::deb::DebError;
use crate::openpgp::SignatureError;

/// The crate's errors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("no Debian release `{name}` is known")]
    UnknownRelease { name: String, known: Vec<String> },
    #[error("no architecture `{name}` is known")]
    UnknownArchitecture { name: String },
    #[error("no flavour `{name}` is known")]
    UnknownFlavour { name: String, known: Vec<String> },

    #[error("{url} could not be fetched")]
    Fetch {
        url: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{url} isn't there")]
    Missing { url: String },
    #[error("no mirror has {suite}, and with it the fixes to this release (asked: {})", asked.join(", "))]
    MissingSuite { suite: String, asked: Vec<String> },
    #[error("{url} is not signed as it must be")]
    Signature {
        url: String,
        #[source]
        source: SignatureError,
    },
    #[error("the keyring {what} can't be read")]
    Keyring {
        what: String,
        #[source]
        source: SignatureError,
    },
    #[error("{url} expired on {until}")]
    Expired { url: String, until: String },
    #[error("{url} is dated {date}, which is still to come")]
    FromTheFuture { url: String, date: String },
    #[error("{url} is about `{found}`, not about `{asked}`")]
    WrongSuite { url: String, asked: String, found: String },
    #[error("{url}: {reason}")]
    Release { url: String, reason: String },
    #[error("{url} doesn't list {path}")]
    NotListed { url: String, path: String },
    #[error(
        "{url} has SHA-256 {found} and {found_size} bytes; the signed index says {expected} and {expected_size}"
    )]
    IndexMismatch {
        url: String,
        expected: Digest,
        expected_size: u64,
        found: Digest,
        found_size: u64,
    },
    #[error("{what} is not well-formed control data")]
    Control {
        what: String,
        #[source]
        source: ControlError,
    },
    #[error("{url}, package {package}: {reason}")]
    Packages { url: String, package: String, reason: String },

    #[error("Debian {release} has no package `{name}` for {arch}")]
    UnknownPackage { name: String, release: String, arch: String, nearest: Option<String> },
    #[error("`{name}` is not a package's name")]
    PackageName { name: String },
    #[error("{package} needs `{relation}`, which nothing in the archive satisfies")]
    Unsatisfied { package: String, relation: String },
    #[error("{package} can't stand beside {other}: it conflicts with `{relation}`")]
    Conflict { package: String, other: String, relation: String },
    #[error("{package}: `{piece}` is not a relationship between packages")]
    Relation { package: String, piece: String },

    #[error("{deb}")]
    Deb {
        deb: String,
        #[source]
        source: DebError,
    },
    #[error("{deb} holds package {found}, but {expected} was asked for")]
    WrongPackage { deb: String, expected: String, found: String },
    #[error("/{path} comes from two packages, {first} and {second}, with different content")]
    Overlap { path: String, first: String, second: String },
    #[error("/{path} from {package} would be written through the link /{link}")]
    ThroughLink { path: String, package: String, link: String },
    #[error("/{path} from {package} stands under /{parent}, which is not a directory")]
    UnderFile { path: String, package: String, parent: String },
    #[error("/{path}: {reason}")]
    Compose { path: String, reason: String },
    #[error("scratch space in {} failed", path.display())]
    Scratch {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::UnknownRelease { known, .. } => {
                format!("`base.debian` can be one of: {}", known.join(", "))
            }
            Self::UnknownArchitecture { .. } => {
                "images are made for amd64 (x86_64) and arm64 (aarch64)".into()
            }
            Self::UnknownFlavour { known, .. } => {
                format!("`environment.flavour` can be one of: {}", known.join(", "))
            }
            Self::Fetch { .. } => "check the network, and the mirror in apt's sources or \
                 `base.mirror`"
                .into(),
            Self::Missing { .. } => "mirrors drop a file when a newer version replaces it: lock \
                 again, or name a dated snapshot as `base.mirror`"
                .into(),
            Self::MissingSuite { suite, .. } => format!(
                "name a mirror that has it, as `mirror` under [base] or in apt's sources; or go without \
                 those fixes: `allow-missing = [\"{suite}\"]` under [base]"
            ),
            Self::Signature { source, .. } | Self::Keyring { source, .. } => return source.hint(),
            Self::Expired { .. } => "the mirror is out of date, or this machine's clock is wrong; \
                 a dated snapshot needs `Check-Valid-Until: no` in apt's sources or a `base.mirror`"
                .into(),
            Self::FromTheFuture { .. } => "check this machine's clock".into(),
            Self::WrongSuite { .. } => "the mirror serves one suite under another's name; use \
                 another mirror"
                .into(),
            Self::Release { .. }
            | Self::NotListed { .. }
            | Self::Control { .. }
            | Self::Packages { .. } => "the mirror may be broken or in the middle of an update: \
                 try again, or use another one"
                .into(),
            Self::IndexMismatch { .. } => "the mirror or a proxy on the way changed the file, or \
                 the mirror is being updated: try again in some minutes, or use another mirror"
                .into(),
            Self::UnknownPackage { nearest: Some(nearest), .. } => {
                format!("did you mean `{nearest}`?")
            }
            Self::UnknownPackage { .. } | Self::PackageName { .. } => {
                "`base.packages` takes names of binary packages of Debian's main component".into()
            }
            Self::Unsatisfied { .. } | Self::Conflict { .. } => {
                "leave out one of `base.packages`".into()
            }
            Self::Relation { .. } => return None,
            Self::Deb { source, .. } => return source.hint(),
            Self::WrongPackage { .. } => {
                "the lock names another file than it should: lock again".into()
            }
            Self::Overlap { .. } | Self::ThroughLink { .. } | Self::UnderFile { .. } => {
                "leave out one of the packages".into()
            }
            Self::Compose { .. } => "leave out the package it comes from".into(),
            Self::Scratch { .. } => {
                "see that there is room and that the folder can be written".into()
            }
        })
    }
}
