//! Python resolution by uv: a subprocess whose answer is a pylock.toml (PEP 751).
//!
//! uv runs in the root folder, so that no project's configuration around the current folder slips in; the person's
//! own uv.toml, environment and credentials hold. What is configured for pip alone is handed over. uv stays in our
//! process group, where Ctrl-C reaches it, but for a question that can be taken back ([`process`]).

mod ask;
mod error;
mod export;
mod find;
mod folder;
mod offers;
mod origin;
mod place;
mod process;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sconce_blob::Digest;
use sconce_lock::Leads;

pub use error::UvError;
pub use find::minimum;
pub use process::{Stop, end_all};

/// A uv that works.
#[derive(Debug)]
pub struct Uv {
    program: PathBuf,
    version: String,
    /// The interpreter that uv asks about the machine; nothing where uv is to look for one itself.
    python: Option<PathBuf>,
    leads: Leads,
    offline: bool,
    stop: Option<Stop>,
    setting: ask::Setting,
    locations: BTreeMap<Digest, String>,
}

/// Where and how uv is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Folder of a store that nobody else writes to: uv is installed in `uv/<version>` under it when none is found. Without
    /// one, and where others could exchange it, that is the user's own cache.
    pub cache: Option<&'a Path>,
    /// Where paths of wheel folders lead.
    pub leads: &'a Leads,
    /// Whether the network must not be used.
    pub offline: bool,
    /// What stops it, where something but the end of this process does.
    pub stop: Option<&'a Stop>,
}

impl Uv {
    /// Finds uv: `SCONCE_UV`, else the PATH's if it is new enough, else our own; else installs that by pip. `note` is
    /// told when something is installed, since that takes seconds.
    ///
    /// # Errors
    /// There is none and none could be installed.
    pub fn find(options: Options<'_>, note: &mut dyn FnMut(&str)) -> Result<Self, UvError> {
        let env = |name: &str| std::env::var_os(name);
        let found = find::find(options, &env, note)?;
        Self::at(found, options, &env)
    }

    /// The uv that was found.
    fn at(
        (program, version): (PathBuf, String),
        options: Options<'_>,
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, UvError> {
        Ok(Self {
            program,
            version,
            python: find::python(env),
            leads: options.leads.clone(),
            offline: options.offline,
            stop: options.stop.cloned(),
            setting: ask::setting(env)?,
            locations: BTreeMap::new(),
        })
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where the program is.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Where the wheels of all answers so far are, by SHA-256. Addresses may carry credentials: not for a lock.
    pub const fn locations(&self) -> &BTreeMap<Digest, String> {
        &self.locations
    }
}
