//! What a command can fail with: printed in one place, with one exit code for each kind.

use std::error::Error as StdError;
use std::fmt::Write;

use crate::output::in_one_line;

/// The kinds of failure, and the exit code of each. `sconce --help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The answer to a yes-or-no question is no (`inspect --for`, `lock --check`); there is no such container, or it does not run.
    No = 1,
    /// Arguments that make no sense (clap's own code as well).
    Usage = 2,
    /// A document (sconce.toml, sconce.lock, requirements) that can't be read as one.
    Document = 3,
    /// No environment fits what was asked.
    Unsatisfiable = 4,
    /// An index or mirror can't be reached, or answers wrongly.
    Network = 5,
    /// Bytes that are not what was promised: hash, signature, RECORD, seal.
    Integrity = 6,
    /// Disk, permission, store.
    Storage = 7,
    /// This machine can't: no user namespaces, no uv and no pip, no GPU.
    Machine = 8,
    /// The project asks for what is outside its folder, and is not trusted (`sconce trust`).
    Untrusted = 9,
    /// The answer is yes, but not for all of it (`inspect --for`).
    InPart = 11,
    /// What there is does not decide the question (`inspect --for`).
    CantTell = 12,
    /// The container could not be started. The same number as Docker's.
    Container = 125,
    /// The command is in the image, and can't be executed.
    NotExecutable = 126,
    /// The command is not in the image.
    NotFound = 127,
    /// Stopped by Ctrl-C; by another signal the code is 128 and its number.
    Interrupted = 130,
}

/// No error has more characters.
const LONGEST: usize = 4000;

/// A failure with its kind, its causes and what to do about it.
#[derive(Debug)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: Kind,
    what: String,
    hint: Option<String>,
}

impl Failure {
    /// A failure in these words.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), hint: None }
    }

    /// A failure in the words of `error` and its causes.
    pub fn of(kind: Kind, error: &dyn StdError, hint: Option<String>) -> Self {
        let mut what = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let words = error.to_string();
            // Some libraries repeat the cause in their own words.
            if !what.contains(&words) {
                let _ = write!(what, "\n  caused by: {words}");
            }
            cause = error.source();
        }
        Self { kind, what, hint }
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        match (self.kind, sconce_run::ended_by()) {
            (Kind::Interrupted, Some(signal)) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            (kind, _) => kind as u8,
        }
    }

    /// The same, of what an option was given.
    pub fn of_option(self, option: &str) -> Self {
        Self { what: format!("{option}: {}", self.what), ..self }
    }

    /// The same as a failure of another kind.
    pub fn of_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// The same with what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Prints it on standard error.
    pub fn print(&self) {
        let what: String = in_one_line(&self.what).chars().take(LONGEST).collect();
        eprintln!("error: {what}");
        if let Some(hint) = &self.hint {
            eprintln!("  hint: {}", in_one_line(hint).replace('\n', "\n        "));
        }
    }
}

impl Failure {
    /// The same as what kept a container from starting; 126 and 127 say what is wrong with the command,
    /// as in a shell.
    pub fn before_start(self) -> Self {
        let kind = match self.kind {
            Kind::NotExecutable | Kind::NotFound | Kind::Interrupted => self.kind,
            _ => Kind::Container,
        };
        Self { kind, ..self }
    }

    /// The same with this hint, where there is none yet.
    pub fn or_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert(hint.into());
        self
    }

    /// A report that can't be written as JSON.
    pub fn unwritable(error: serde_json::Error) -> Self {
        Self::new(Kind::Storage, format!("the report can't be written: {error}"))
    }
}

/// Which kind of failure an error of a crate is.
trait Kinded {
    fn kind(&self) -> Kind;
}

impl Kinded for sconce_store::Error {
    fn kind(&self) -> Kind {
        use sconce_store::Error as E;
        match self {
            E::WrongDigest { .. }
            | E::Corrupt { .. }
            | E::BadReference { .. }
            | E::NotATree { .. }
            | E::BadLayer { .. } => Kind::Integrity,
            E::BadDocument { .. } => Kind::Document,
            E::BadTimeout(_) | E::BadName { .. } | E::NoImage { .. } | E::Ambiguous { .. } => {
                Kind::Usage
            }
            E::Interrupted => Kind::Interrupted,
            _ => Kind::Storage,
        }
    }
}

impl Kinded for sconce_fetch::Error {
    fn kind(&self) -> Kind {
        use sconce_fetch::Error as E;
        match self {
            E::WrongDigest { .. } => Kind::Integrity,
            E::BadConfig { .. } | E::Certificates { .. } | E::PythonList { .. } => Kind::Document,
            E::BadProxy { .. } => Kind::Usage,
            E::File { .. } => Kind::Storage,
            E::Store(error) => error.kind(),
            E::GaveUp { source, .. } => source.kind(),
            E::Cancelled => Kind::Interrupted,
            _ => Kind::Network,
        }
    }
}

impl Kinded for sconce_lock::Error {
    fn kind(&self) -> Kind {
        use sconce_lock::Error as E;
        match self {
            E::NoTorch { .. }
            | E::Unsatisfiable { .. }
            | E::Relics { .. }
            | E::Misfit { .. }
            | E::Beside(_)
            | E::Overlap { .. }
            | E::Debian { .. } => Kind::Unsatisfiable,
            E::Request { .. } => Kind::Unsatisfiable,
            E::Edit { .. } => Kind::Usage,
            E::Index { source, .. } | E::Build { source, .. } => match &**source {
                cause if cause.is::<sconce_fetch::uv::UvError>() => {
                    use sconce_fetch::uv::UvError as U;
                    match cause.downcast_ref::<U>() {
                        Some(error @ U::Failed { .. }) if error.is_network() => Kind::Network,
                        Some(U::Failed { offline: false, .. } | U::Config(_)) => Kind::Document,
                        Some(U::Failed { .. }) => Kind::Network,
                        _ => Kind::Machine,
                    }
                }
                cause => match cause.downcast_ref::<sconce_build::Error>() {
                    Some(error) => error.kind(),
                    None => Kind::Network,
                },
            },
            E::LockEdited { .. } => Kind::Integrity,
            E::LockStale { .. } | E::LockMissing => Kind::No,
            _ => Kind::Document,
        }
    }
}

impl Kinded for sconce_layer::Error {
    fn kind(&self) -> Kind {
        use sconce_layer::Error as E;
        match self {
            E::Read { .. } | E::Write(_) | E::Unpack { .. } | E::Finished { .. } => Kind::Storage,
            _ => Kind::Integrity,
        }
    }
}

impl Kinded for sconce_debian::Error {
    fn kind(&self) -> Kind {
        use sconce_debian::Error as E;
        match self {
            E::UnknownRelease { .. }
            | E::UnknownArchitecture { .. }
            | E::UnknownFlavour { .. }
            | E::UnknownPackage { .. }
            | E::PackageName { .. }
            | E::Unsatisfied { .. }
            | E::Conflict { .. } => Kind::Unsatisfiable,
            E::Fetch { .. } | E::Missing { .. } | E::MissingSuite { .. } => Kind::Network,
            E::Scratch { .. } => Kind::Storage,
            _ => Kind::Integrity,
        }
    }
}

impl Kinded for sconce_run::Error {
    fn kind(&self) -> Kind {
        use sconce_run::Error as E;
        match self {
            E::Invalid { .. } | E::ImageUser { .. } | E::NotATerminal(_) | E::NoTerminal => {
                Kind::Usage
            }
            E::NoUserNamespace { .. } | E::OldKernel { .. } => Kind::Machine,
            E::NotExecutable { .. } => Kind::NotExecutable,
            E::NotFound(_) => Kind::NotFound,
            E::Interrupted(_) | E::Left { .. } | E::Detached { .. } => Kind::Interrupted,
            // As of Docker's client, whose answers from its daemon are 1.
            E::NoContainer(_) | E::Ambiguous { .. } | E::Running(_) | E::NotRunning(_) => Kind::No,
            _ => Kind::Container,
        }
    }
}

impl Kinded for sconce_gpu::Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Request { .. } | Self::NotGiven { .. } => Kind::Usage,
            _ => Kind::Machine,
        }
    }
}

impl Kinded for sconce_doctor::Error {
    fn kind(&self) -> Kind {
        use sconce_doctor::Error as E;
        match self {
            E::Read { .. } | E::Write { .. } => Kind::Storage,
            E::Host { .. } => Kind::Usage,
            _ => Kind::Integrity,
        }
    }
}

impl Kinded for sconce_monitor::recording::Error {
    fn kind(&self) -> Kind {
        use sconce_monitor::recording::Error as E;
        match self {
            E::NotOne | E::Newer { .. } => Kind::Document,
            E::Io(_) => Kind::Storage,
        }
    }
}

impl Kinded for sconce_monitor::history::Error {
    fn kind(&self) -> Kind {
        Kind::Storage
    }
}

impl Kinded for sconce_inspect::Error {
    fn kind(&self) -> Kind {
        use sconce_inspect::Error as E;
        match self {
            E::Open { .. } | E::Read { .. } => Kind::Storage,
            E::Truncated { .. } | E::Malformed { .. } => Kind::Integrity,
            _ => Kind::Usage,
        }
    }
}

impl Kinded for sconce_registry::Error {
    fn kind(&self) -> Kind {
        use sconce_registry::Error as E;
        match self {
            E::Reference { .. } => Kind::Usage,
            E::NoPlatform { .. } => Kind::Unsatisfiable,
            E::WrongDigest { .. } => Kind::Integrity,
            E::Logins { .. } | E::Artifact { .. } => Kind::Document,
            E::Damaged { .. } => Kind::Integrity,
            E::Source { .. } => Kind::Storage,
            E::Helper { .. } => Kind::Machine,
            E::Fetch(error) => error.kind(),
            E::Denied { .. }
            | E::Realm { .. }
            | E::NoWay { .. }
            | E::NotOne { .. }
            | E::NoUpload { .. }
            | E::NotFound { .. }
            | E::Answer { .. } => Kind::Network,
        }
    }
}

impl Kinded for sconce_serve::Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Listen { .. } => Kind::Machine,
        }
    }
}

impl Kinded for sconce_listen::Error {
    fn kind(&self) -> Kind {
        Kind::Document
    }
}

impl Kinded for sconce_transfer::Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Registry(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Key(error) => error.kind(),
            Self::Unsigned { is_open: true, .. } => Kind::CantTell,
            Self::Unsigned { .. } => Kind::Integrity,
            Self::Stopped => Kind::Interrupted,
        }
    }
}

impl Kinded for sconce_transfer::PolicyError {
    fn kind(&self) -> Kind {
        Kind::Document
    }
}

impl Kinded for sconce_sign::Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Key { .. } => Kind::Document,
            Self::Locked | Self::Password => Kind::Usage,
        }
    }
}

impl Kinded for sconce_start::Error {
    fn kind(&self) -> Kind {
        use sconce_start::Error as E;
        match self {
            E::NotBuilt(_) | E::NotPulled(_) | E::NoPath(_) | E::TwoMeanings(_) => Kind::Usage,
            E::Refused { .. }
            | E::UnknownFlag { .. }
            | E::NoValue { .. }
            | E::Option { .. }
            | E::SameTarget { .. }
            | E::SamePort { .. }
            | E::WrongTarget { .. } => Kind::Usage,
            E::Foreign { .. } | E::Doctor { .. } | E::Driver(_) => Kind::Machine,
            E::Config(_) | E::NoLabels(_) | E::Unforeseen(_) => Kind::Document,
            E::ImageFile { .. } => Kind::Integrity,
            E::File { .. } => Kind::Storage,
            E::Build(error) => error.kind(),
            E::Gpu(error) => error.kind(),
            E::Lock(error) => error.kind(),
            E::Run(error) => error.kind(),
            E::Store(error) => error.kind(),
            E::Registry(error) => error.kind(),
            E::Transfer(error) => error.kind(),
            _ => Kind::Usage,
        }
    }
}

impl Kinded for sconce_inside::Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Run(error) => error.kind(),
            Self::Myself(_) => Kind::Machine,
            _ => Kind::Storage,
        }
    }
}

impl Kinded for sconce_build::Error {
    fn kind(&self) -> Kind {
        use sconce_build::Error as E;
        match self {
            E::Apt(_) => Kind::Document,
            E::Debian(error) => error.kind(),
            E::Fetch(error) => error.kind(),
            E::Layer(error) => error.kind(),
            E::Lock(error) => error.kind(),
            E::TagLock { source, .. } => source.kind(),
            E::Run(error) => error.kind(),
            E::Store(error) => error.kind(),
            E::File { .. } | E::Memo(_) => Kind::Storage,
            E::Include { .. } | E::Ignore { .. } | E::NoSpec(_) => Kind::Document,
            E::PythonDownload { source, .. } => source.kind(),
            E::Python { .. } => Kind::Integrity,
            E::Bytecode(_) => Kind::Machine,
            E::Seal { .. } | E::OtherWheel { .. } => Kind::Integrity,
            E::Inspect(error) => error.kind(),
            E::NoCode { .. } | E::NoGpuCode { .. } | E::Source { .. } | E::Wheel { .. } => {
                Kind::Unsatisfiable
            }
        }
    }
}

impl Kinded for sconce_launch::Error {
    fn kind(&self) -> Kind {
        use sconce_launch::Error as E;
        match self {
            E::Setting { .. }
            | E::NoProgram
            | E::NoProcess { .. }
            | E::NoPython { .. }
            | E::TwoJobs { .. } => Kind::Usage,
            E::Write { .. } => Kind::Storage,
            E::Start { .. } | E::NotOurs { .. } => Kind::Machine,
        }
    }
}

macro_rules! failures {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                let hint = error.hint();
                Self::of(error.kind(), &error, hint)
            }
        })*
    };
}

failures!(
    sconce_store::Error,
    sconce_fetch::Error,
    sconce_lock::Error,
    sconce_layer::Error,
    sconce_debian::Error,
    sconce_registry::Error,
    sconce_run::Error,
    sconce_serve::Error,
    sconce_listen::Error,
    sconce_doctor::Error,
    sconce_monitor::recording::Error,
    sconce_monitor::history::Error,
    sconce_gpu::Error,
    sconce_inspect::Error,
    sconce_build::Error,
    sconce_start::Error,
    sconce_transfer::Error,
    sconce_transfer::PolicyError,
    sconce_sign::Error,
    sconce_inside::Error,
    sconce_launch::Error
);
