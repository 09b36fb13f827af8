//! What can go wrong while an image is built.

use std::io;
use std::path::PathBuf;

use sconce_blob::Digest;
use sconce_facts::Capability;
use sconce_fetch::uv::UvError;
use sconce_lock::ProjectFile;

/// A build that failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error(transparent)]
    Apt(#[from] sconce_fetch::apt::Error),
    #[error(transparent)]
    Debian(#[from] sconce_debian::Error),
    #[error(transparent)]
    Fetch(#[from] sconce_fetch::Error),
    #[error(transparent)]
    Layer(#[from] sconce_layer::Error),
    #[error(transparent)]
    Lock(#[from] sconce_lock::Error),
    #[error(transparent)]
    Run(#[from] sconce_run::Error),
    #[error(transparent)]
    Store(#[from] sconce_store::Error),
    #[error("can't {what} {}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("`{path}` of [app] include {why}")]
    Include { path: String, why: String },
    #[error("{place} {why}")]
    Ignore { place: String, why: String },
    #[error("{}, the lock of {tag}, can't be used: {source}", path.display())]
    TagLock { tag: String, path: PathBuf, source: Box<sconce_lock::Error> },
    #[error("{} has no sconce.toml", .0.display())]
    NoSpec(PathBuf),
    #[error("compiling bytecode failed: {0}")]
    Bytecode(String),
    #[error("the lock was sealed for image {promised}, but building it gives {built}: {first}")]
    Seal { promised: Digest, built: Digest, first: String },
    #[error("{file}, the Python of this lock, could not be downloaded")]
    PythonDownload { file: String, source: Box<Self> },
    #[error("{file} can't be taken for Python: {why}")]
    Python { file: String, why: String },
    #[error("{file}: {why}")]
    Source { file: String, why: String },
    #[error("building {what} failed (exit code {exit}); its log ends so:\n{tail}")]
    Wheel { what: String, exit: u8, tail: String, log: PathBuf },
    #[error("building {file} again gives other bytes than the lock has{}", of_recipe(*recipe))]
    OtherWheel { file: String, recipe: Option<u32>, image: Option<Digest> },
    #[error("the lock promises compute capability {gpu}{}, but {library} has no code for it: it has {has}", named(*gpu))]
    NoCode { gpu: Capability, library: String, has: String },
    #[error("the lock promises compute capability {gpu}{}, but no library in the wheels has any GPU code", named(*gpu))]
    NoGpuCode { gpu: Capability },
    #[error("{0}")]
    Inspect(#[from] sconce_inspect::Error),
    #[error("the record of an earlier build is damaged: {0}")]
    Memo(String),
}

impl Error {
    /// Whether it is only that something else failed first.
    pub(crate) fn is_cancelled(&self) -> bool {
        match self {
            Self::Fetch(sconce_fetch::Error::Cancelled) => true,
            Self::PythonDownload { source, .. } => source.is_cancelled(),
            _ => false,
        }
    }

    /// Whether a file could not be written because its place is there to be read only.
    pub(crate) fn is_unwritable(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        matches!(self, Self::File { what: "write", source, .. }
            if matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem))
    }

    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Apt(error) => error.hint(),
            Self::Debian(error) => error.hint(),
            Self::Fetch(error) => error.hint(),
            Self::Layer(error) => error.hint(),
            Self::Lock(
                sconce_lock::Error::Index { source, .. } | sconce_lock::Error::Build { source, .. },
            ) => {
                let uv = source.downcast_ref::<UvError>();
                let here = source.downcast_ref::<Self>();
                uv.and_then(UvError::hint).or_else(|| here.and_then(Self::hint))
            }
            Self::Lock(error) => error.hint(),
            Self::Run(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::File { path, .. } if path.ends_with("sconce.lock") && self.is_unwritable() => Some(
                "a folder that can't be written needs a sconce.lock that fits its sconce.toml: lock it elsewhere, \
                 and bring sconce.lock along"
                    .into(),
            ),
            Self::File { .. } => None,
            Self::TagLock { source, .. }
                if matches!(**source, sconce_lock::Error::LockVersion { .. }) =>
            {
                source.hint()
            }
            Self::TagLock { path, .. } => Some(format!(
                "`rm {}` removes it, and the tag is locked anew when it is used next",
                sconce_store::shell(path)
            )),
            Self::Include { .. } => {
                Some("paths in `include` are relative to the folder of sconce.toml".into())
            }
            Self::Ignore { .. } => Some("patterns are those of gitignore(5)".into()),
            Self::NoSpec(folder) => {
                let init = format!("`sconce init {}` writes one", folder.display());
                Some(match sconce_lock::project_file(folder) {
                    None => format!(
                        "{init}; all of it is optional, and a requirements.txt or pyproject.toml would do in its place"
                    ),
                    Some(ProjectFile { name, way: None }) => format!("{init} that reads {name}"),
                    Some(ProjectFile { name, way: Some(way) }) => format!("{init}; {name}: {way}"),
                })
            }
            Self::Bytecode(_) => {
                Some("`bytecode = false` under [environment] builds without it".into())
            }
            Self::Seal { .. } => Some(
                "another version of sconce may have sealed it; `sconce lock --unseal` takes the \
                 seal off, and the next build seals anew"
                    .into(),
            ),
            Self::PythonDownload { source, .. } => match &**source {
                Self::Fetch(error) if is_elsewhere(error) => Some(
                    "set UV_PYTHON_INSTALL_MIRROR, or `python-install-mirror` in uv.toml, to a mirror of \
                     python-build-standalone's releases; or take a Python of Debian's: `python = \"3.13\"`"
                        .into(),
                ),
                source => source.hint(),
            },
            Self::Python { .. } => Some(
                "the list that names it (UV_PYTHON_DOWNLOADS_JSON_URL) must name python-build-standalone's \
                 `install_only` archives, or ones laid out like them"
                    .into(),
            ),
            Self::Source { .. } => Some(
                "take another release of it, or build its wheel yourself and name that file".into(),
            ),
            Self::Wheel { tail, log, .. } => {
                let known = sconce_facts::source_failure(tail);
                let hint = known
                    .unwrap_or("a missing header or library comes with `packages` under [base]");
                Some(format!("{hint}; all of it is in {}", log.display()))
            }
            Self::OtherWheel { image, .. } => Some(format!(
                "{}take the wheel from where it was built (`sconce wheel -o DIR`) and name that folder in \
                 `indexes`, or build anew with `sconce lock --upgrade`",
                image.map_or(String::new(), |image| format!(
                    "start the image {image}, which has it; "
                ))
            )),
            Self::NoCode { .. } => Some(
                "take a build of it that has code for this GPU, or take the GPU out of `gpus` in \
                 sconce.toml"
                    .into(),
            ),
            Self::NoGpuCode { .. } => {
                Some("take a CUDA build of torch, or leave out `gpus` in sconce.toml".into())
            }
            Self::Inspect(error) => error.hint(),
            Self::Memo(_) => Some("`sconce prune` removes what can't be used".into()),
        }
    }
}

/// Whether another mirror may have what was asked for.
fn is_elsewhere(error: &sconce_fetch::Error) -> bool {
    use sconce_fetch::Error as E;
    match error {
        E::GaveUp { source, .. } => is_elsewhere(source),
        E::Unreachable { .. }
        | E::Tls { .. }
        | E::Stalled { .. }
        | E::Late { .. }
        | E::Slow { .. }
        | E::CutOff { .. }
        | E::Status { .. } => true,
        E::BadAnswer { .. } | E::WrongDigest { .. } | E::File { .. } => true,
        _ => false,
    }
}

/// Why bytes differ where another sconce built a wheel in another way.
fn of_recipe(recipe: Option<u32>) -> String {
    recipe.map_or_else(String::new, |recipe| {
        format!(
            ": another version of sconce built it, by recipe {recipe}, and this one has recipe {}",
            sconce_lock::RECIPE
        )
    })
}

/// GPUs people know by another name.
fn named(gpu: Capability) -> String {
    let rows = sconce_facts::gpus().iter().filter(|row| row.capability == gpu);
    let names: Vec<&str> = rows.map(|row| row.name.as_str()).take(3).collect();
    if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
}

/// Names the file that an operation failed on.
pub(crate) fn at(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::File { what, path, source }
}
