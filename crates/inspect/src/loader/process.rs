//! What one process has loaded, and what it did not find.

use std::collections::{BTreeSet, HashMap};

use super::Loader;

/// How a library was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is what the process started from.
    Root,
    /// By DT_RPATH.
    Rpath,
    /// By LD_LIBRARY_PATH.
    Environment,
    /// By DT_RUNPATH.
    Runpath,
    /// By ld.so.cache.
    Cache,
    /// In a default directory.
    Default,
    /// Named by a path.
    Path,
    /// Loaded by torch or another package, by its full path in a folder of sys.path.
    Preloaded,
}

impl Found {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Root => "loaded first",
            Self::Rpath => "by its RPATH",
            Self::Environment => "by LD_LIBRARY_PATH",
            Self::Runpath => "by its RUNPATH",
            Self::Cache => "by ld.so.cache",
            Self::Default => "in a default directory",
            Self::Path => "by its path",
            Self::Preloaded => "by its package, from sys.path",
        }
    }
}

/// A library in a process.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Which library of the scan.
    pub library: usize,
    /// The path it was opened by; `$ORIGIN` is its directory.
    pub opened: String,
    /// The name it was asked for.
    pub name: String,
    /// Which entry of [`Process::loaded`] asked first.
    pub by: Option<usize>,
    /// How it was found.
    pub found: Found,
}

/// A library that was not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Which entry of [`Process::loaded`] needs it.
    pub by: usize,
    /// The name asked for.
    pub name: String,
}

/// The libraries of one process, in the order of loading.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// What is loaded.
    pub loaded: Vec<Loaded>,
    /// What is not found.
    pub missing: Vec<Missing>,
    pub(super) by_name: HashMap<String, usize>,
}

impl Process {
    /// The library that answers to `name`.
    pub fn get(&self, name: &str) -> Option<&Loaded> {
        self.by_name.get(name).and_then(|at| self.loaded.get(*at))
    }

    /// The library number `root` and all that it needs, as this process has them.
    pub fn needs_of(&self, loader: &Loader<'_>, root: usize) -> Vec<usize> {
        let mut out = vec![root];
        let mut seen = BTreeSet::from([root]);
        let mut at = 0;
        while let Some(library) = out.get(at) {
            at += 1;
            let library = loader.library(*library).and_then(|library| library.dynamic.as_ref());
            let needed = library.into_iter().flat_map(|dynamic| &dynamic.needed);
            let found = needed.filter_map(|name| Some(self.get(name)?.library));
            out.extend(found.filter(|at| seen.insert(*at)));
        }
        out
    }

    /// Whether the entry `by` was loaded for the entry `whom`, or is that one.
    pub fn is_for(&self, by: usize, whom: usize) -> bool {
        let loader_of = |at: &usize| self.loaded.get(*at).and_then(|loaded| loaded.by);
        let mut chain = std::iter::successors(Some(by), loader_of);
        whom == 0 || chain.any(|at| at == whom)
    }

    /// Forgets what lacked and has been loaded since.
    pub fn retry(&mut self) {
        let missing = std::mem::take(&mut self.missing);
        self.missing =
            missing.into_iter().filter(|missing| self.get(&missing.name).is_none()).collect();
    }
}
