//! The commands of an OCI runtime: bundles that others made, for podman and Slurm.
//!
//! Where [`crate::run`] makes a container of an image's layers, with a shim that stays, this takes a bundle, does what its
//! `config.json` says and stays with nobody: whoever calls it (conmon, slurmstepd) waits for the container's process.
//! libcontainer makes namespaces, mounts and cgroups; groups, capabilities and seccomp are taken by this crate's own code.
//!
//! Sources: opencontainers/runtime-spec (runtime.md, config.md, config-linux.md), opencontainers/runtime-tools'
//! `docs/command-line-interface.md`, and runc's manual pages for what those leave open.

mod attend;
mod bundle;
mod cgroups;
mod copy_up;
mod create;
mod error;
mod exec;
mod features;
mod first;
mod folder;
mod lifecycle;
mod log;
mod privileges;
mod reasons;
mod record;
mod rootless;

use std::ffi::{CString, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

pub use create::Create;
pub use error::Error;
pub use exec::Exec;
pub use features::features;
pub use log::{Format, Log};

use crate::error::chain;
use crate::{ids, sealed};

/// The runtime, over the folder with its containers.
#[derive(Debug, Clone)]
pub struct Runtime {
    root: PathBuf,
    systemd: bool,
    notes: fn(Note<'_>),
}

/// What a caller is told beside errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note<'a> {
    /// Something that was left out or went wrong, and stopped nothing.
    Warning(&'a str),
    /// What was made of a configuration.
    Info(&'a str),
}

impl Runtime {
    /// Over the containers in `root`, or the usual place: `/run/sconce/oci`, `$XDG_RUNTIME_DIR/sconce/oci` for who is not
    /// root of the machine. `systemd` makes cgroups through systemd; `notes` is told what a caller should know.
    ///
    /// # Errors
    /// Without a root, where there is no usual place.
    pub fn new(root: Option<PathBuf>, systemd: bool, notes: fn(Note<'_>)) -> Result<Self, Error> {
        let root = match root {
            Some(root) => root,
            None => usual()?,
        };
        Ok(Self { root, systemd, notes })
    }

    fn warn(&self, text: &str) {
        (self.notes)(Note::Warning(text));
    }

    /// The folder, made if missing.
    fn make_root(&self) -> Result<PathBuf, Error> {
        folder::root(&self.root)
    }
}

fn usual() -> Result<PathBuf, Error> {
    let place = Path::new("sconce/oci");
    if sconce_open::effective_user() == 0 && !ids::inside_namespace()? {
        return Ok(Path::new("/run").join(place));
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => Ok(Path::new(&folder).join(place)),
        None => Err(Error::Unsupported {
            field: "--root",
            why: "it is not given, and XDG_RUNTIME_DIR is not set".to_owned(),
        }),
    }
}

/// The name under which the copy of this program runs.
const SEALED: &str = "sconce:oci";

/// Goes on in a copy of this program that no container can change ([`crate::sealed`]), with the same arguments and
/// environment; returns where that is so already.
///
/// # Errors
/// Where no copy can be made.
pub fn seal(arguments: impl IntoIterator<Item = OsString>) -> Result<(), Error> {
    use error::Doing;
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    if std::env::args_os().next().is_some_and(|name| name == SEALED) {
        return Ok(());
    }
    if let Some(name) = arguments.first_mut() {
        *name = SEALED.into();
    }
    let text = |word: OsString| CString::new(word.into_vec()).map_err(std::io::Error::from);
    let entry = |(mut key, value): (OsString, OsString)| {
        key.push("=");
        key.push(value);
        text(key)
    };
    let words: Vec<CString> =
        arguments.into_iter().map(text).collect::<Result<_, _>>().doing("reading the arguments")?;
    let variables: Vec<CString> = std::env::vars_os()
        .map(entry)
        .collect::<Result<_, _>>()
        .doing("reading the environment")?;
    let words: Vec<_> = words.iter().map(CString::as_c_str).collect();
    let variables: Vec<_> = variables.iter().map(CString::as_c_str).collect();
    let program = sealed::program().doing("copying this program")?;
    Err(crate::os::execute_fd_with(program.as_fd(), &words, &variables))
        .doing("starting the copy of this program")
}
