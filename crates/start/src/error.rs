//! What can be wrong with a start before anything is started.

use std::io;
use std::path::PathBuf;

use sconce_lock::Spec;

/// Why a container can't be made ready.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A flag of Docker's that does not work here.
    #[error("{flag} is refused: {words}")]
    Refused {
        /// As written, with its value where that decides.
        flag: String,
        /// What to do instead.
        words: String,
    },
    /// A flag that neither sconce nor Docker has.
    #[error("`sconce {command}` has no option {flag}")]
    UnknownFlag {
        /// The command.
        command: &'static str,
        /// The flag as written.
        flag: String,
        /// The nearest one there is.
        nearest: Option<String>,
    },
    /// A flag at the end of the line that takes a value.
    #[error("`sconce {command}`: {flag} needs a value")]
    NoValue {
        /// The command.
        command: &'static str,
        /// The flag.
        flag: String,
    },
    /// An image whose programs do not start on this machine.
    #[error("the image is for {theirs}, and this machine is linux/{here}: nothing is emulated")]
    Platform {
        /// What it is for.
        theirs: String,
        /// This machine's processor.
        here: &'static str,
    },
    /// A value that can't be read or makes no sense.
    #[error("{option} '{given}': {why}")]
    Option {
        /// The option as people write it, or the key of `[run]`.
        option: String,
        /// What was given.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// Two mounts in one place.
    #[error("two mounts at {}: {first} and {second}", target.display())]
    SameTarget {
        /// The place in the container.
        target: PathBuf,
        /// The one given first.
        first: String,
        /// The other.
        second: String,
    },
    /// A host port twice.
    #[error("port {port} of this machine is published twice")]
    SamePort {
        /// The host's port.
        port: u16,
    },
    /// A target that this command can't take.
    #[error("`sconce {command}` takes {takes}; {text} is {is}")]
    WrongTarget {
        /// The command.
        command: &'static str,
        /// What it takes, in words.
        takes: String,
        /// What was named, quoted.
        text: String,
        /// What that is.
        is: &'static str,
        /// What to do instead.
        hint: Option<String>,
    },
    /// Nothing has that name.
    #[error("there is no {}", .0.display())]
    NoPath(PathBuf),
    /// The name of an image in a registry, and something of that name in the working folder.
    #[error("`{0}` is the name of an image in a registry, and of something in this folder")]
    TwoMeanings(String),
    /// A kind of place without a place.
    #[error("`{text}` names no {what}")]
    Nameless {
        /// As written.
        text: String,
        /// What should follow.
        what: &'static str,
    },
    /// A folder of a kind that is not read here.
    #[error("`{0}`: folders of skopeo's `dir:` are not read")]
    OfSkopeo(String),
    /// A tag or name of an image that is not in the store.
    #[error("`{0}` was not built yet")]
    NotBuilt(String),
    /// An image of a registry that is not in the store.
    #[error("`{0}` is not in the store")]
    NotPulled(String),
    /// An image of a registry that is not in the store, and is not to be asked for.
    #[error("`{0}` is not in the store, and its registry is not asked with --pull never")]
    NeverPulled(String),
    /// `store:NAME`, which the store has not.
    #[error("no image `{name}` in the store")]
    NotStored {
        /// The name.
        name: String,
        /// What is much like it, and there.
        nearest: Option<String>,
    },
    /// A lock for another processor.
    #[error("this lock is for {wanted}; this machine is something else")]
    Foreign {
        /// The lock's machine.
        wanted: String,
    },
    /// What `sconce doctor` says can't work.
    #[error("{what}")]
    Doctor {
        /// The finding and its evidence.
        what: String,
        /// Its fix.
        hint: String,
    },
    /// The image's configuration can't be read.
    #[error("the image's configuration can't be read: {0}")]
    Config(String),
    /// An image that sconce did not build, asked what it needs.
    #[error("`{0}` was not built by sconce: no label says what it needs")]
    NoLabels(String),
    /// No lock, and nothing known.
    #[error("`{0}` has no lock, and the facts know no torch for it")]
    Unforeseen(String),
    /// GPUs were asked for, and there is no driver that works.
    #[error(transparent)]
    Driver(sconce_gpu::Error),
    /// A file of the image that is read on the host is none, or too large.
    #[error("the image's /{path} {why}")]
    ImageFile {
        /// Which one, beneath the root.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file operation failed.
    #[error("can't {what} {}", path.display())]
    File {
        /// What was tried, a verb.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Locking or building failed.
    #[error(transparent)]
    Build(#[from] sconce_build::Error),
    /// GPUs can't be had.
    #[error(transparent)]
    Gpu(#[from] sconce_gpu::Error),
    /// The specification is wrong.
    #[error(transparent)]
    Lock(#[from] sconce_lock::Error),
    /// The request is wrong.
    #[error(transparent)]
    Run(#[from] sconce_run::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] sconce_store::Error),
    /// What was named is not an image in a registry.
    #[error(transparent)]
    Registry(Box<sconce_registry::Error>),
    /// The image could not be pulled.
    #[error(transparent)]
    Transfer(Box<sconce_transfer::Error>),
}

impl From<sconce_registry::Error> for Error {
    fn from(error: sconce_registry::Error) -> Self {
        Self::Registry(Box::new(error))
    }
}

impl From<sconce_transfer::Error> for Error {
    fn from(error: sconce_transfer::Error) -> Self {
        Self::Transfer(Box::new(error))
    }
}

impl Error {
    /// A value that can't be read.
    pub(crate) fn option(
        option: impl Into<String>,
        given: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self::Option { option: option.into(), given: given.into(), why: why.into() }
    }

    /// What to do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownFlag { command, flag, nearest } => Some(match nearest {
                Some(near) => {
                    format!("did you mean {near}? Options of the command go after the target")
                }
                None => format!(
                    "`sconce {command} --help` lists the options; if {flag} is for the command, write it after the target"
                ),
            }),
            Self::Platform { here, .. } => Some(format!(
                "`sconce pull --platform {here} IMAGE` takes the one for this machine, if there is one"
            )),
            Self::SameTarget { .. } | Self::SamePort { .. } => Some("leave one of them out".into()),
            Self::WrongTarget { hint, .. } => hint.clone(),
            Self::TwoMeanings(text) => {
                Some(format!("`./{text}` is what lies here, `docker://{text}` the image"))
            }
            Self::NoPath(_) => Some("check the spelling, and the folder you are in".into()),
            Self::Nameless { .. } => Some(
                "there are oci:DIR[:TAG], docker-archive:FILE, oci-archive:FILE and store:NAME"
                    .into(),
            ),
            Self::OfSkopeo(text) => Some(format!(
                "`skopeo copy {text} oci:DIR:TAG` makes a layout of it, which is read"
            )),
            Self::NotBuilt(name) => Some(format!("`sconce build {name}` makes it")),
            Self::NotPulled(name) => Some(format!("`sconce pull {name}` takes it in")),
            Self::NeverPulled(name) => Some(format!(
                "`sconce pull {name}` takes it in; `sconce images` lists what is there"
            )),
            Self::NotStored { nearest: Some(nearest), .. } => {
                Some(format!("did you mean `store:{nearest}`? `sconce images` lists what is there"))
            }
            Self::NotStored { name, nearest: None } if Spec::is_tag(name) => Some(format!(
                "`sconce images` lists what is there; `{name}` without `store:` is the tag that sconce builds"
            )),
            Self::NotStored { .. } => Some("`sconce images` lists what is there".into()),
            Self::Foreign { .. } => {
                Some("`sconce build --output oci:DIR` makes an image to take there".into())
            }
            Self::Doctor { hint, .. } => Some(hint.clone()),
            Self::NoLabels(_) => {
                Some("`sconce inspect` reads what an image needs from its bytes".into())
            }
            Self::Unforeseen(_) => Some("`sconce lock` makes one".into()),
            Self::Driver(error) => {
                Some(error.hint().unwrap_or_else(|| "`--gpus none` runs without GPUs".into()))
            }
            Self::Build(error) => error.hint(),
            Self::Gpu(error) => error.hint(),
            Self::Lock(error) => error.hint(),
            Self::Run(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Registry(error) => error.hint(),
            Self::Transfer(error) => error.hint(),
            Self::Refused { .. }
            | Self::NoValue { .. }
            | Self::Option { .. }
            | Self::Config(_)
            | Self::ImageFile { .. }
            | Self::File { .. } => None,
        }
    }
}
