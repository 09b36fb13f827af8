//! The tables of symbols that are asked, the last few kept.

use std::collections::{BTreeMap, HashMap};

use crate::Error;
use crate::dynamic::Dynamic;
use crate::finding::{Finding, Kind, Severity};
use crate::loader::Loader;
use crate::names;
use crate::read::Named;
use crate::symbols::{GnuHash, Symbols, gnu_hash};
use crate::tree::Tree;

/// Bytes of symbol tables kept at once.
const MAX_SYMBOL_BYTES: usize = 160 << 20;
/// Bytes of hash tables kept; all of torch 2.15.0's set have 6 MB.
const MAX_HASH_BYTES: usize = 256 << 20;

/// Symbol tables, the last few kept.
pub(super) struct Tables<'a> {
    tree: &'a Tree,
    loader: &'a Loader<'a>,
    kept: HashMap<usize, Option<Symbols>>,
    bytes: usize,
    hashes: HashMap<usize, Option<GnuHash>>,
    hash_bytes: usize,
    /// Libraries that can't be asked for their symbols, and why.
    pub(super) lost: BTreeMap<usize, String>,
}

impl<'a> Tables<'a> {
    pub(super) fn new(tree: &'a Tree, loader: &'a Loader<'a>) -> Self {
        let (kept, hashes) = (HashMap::new(), HashMap::new());
        Self { tree, loader, kept, bytes: 0, hashes, hash_bytes: 0, lost: BTreeMap::new() }
    }

    /// Whether one of `libraries` offers `name`; `None` when one of them can't be asked.
    pub(super) fn has(&mut self, libraries: &[usize], name: &str) -> Option<bool> {
        let hash = gnu_hash(name);
        for library in libraries {
            if self.hash(*library)?.has(hash) {
                return Some(true);
            }
        }
        Some(false)
    }

    fn hash(&mut self, library: usize) -> Option<&GnuHash> {
        if !self.hashes.contains_key(&library) {
            let hash = self.load(library, GnuHash::read);
            let room = MAX_HASH_BYTES - self.hash_bytes;
            let fits = hash.as_ref().is_none_or(|hash| hash.bytes() <= room);
            let hash = hash.filter(|_| fits);
            if !fits {
                let why = "is left out: the symbols of all libraries together take too much memory";
                self.lost.insert(library, why.to_owned());
            }
            self.hash_bytes += hash.as_ref().map_or(0, GnuHash::bytes);
            self.hashes.insert(library, hash);
        }
        self.hashes.get(&library)?.as_ref()
    }

    pub(super) fn read(&mut self, library: usize) -> Option<Symbols> {
        self.load(library, Symbols::read)
    }

    /// What `read` makes of the library; none, and why, where its bytes don't allow it.
    fn load<T>(
        &mut self,
        at: usize,
        read: impl Fn(Named<'_>, &Dynamic) -> Result<T, Error>,
    ) -> Option<T> {
        let library = self.loader.library(at)?;
        let dynamic = library.dynamic.as_ref()?;
        let what = library
            .open(self.tree)
            .and_then(|bytes| read(Named::new(&library.path, &*bytes), dynamic));
        what.map_err(|error| self.lost.insert(at, error.to_string())).ok()
    }

    pub(super) fn are_uncounted(&self, library: usize) -> bool {
        let dynamic = self.loader.library(library).and_then(|library| library.dynamic.as_ref());
        dynamic.is_some_and(|dynamic| dynamic.symbols.are_uncounted())
    }

    /// Libraries whose symbols could not be asked for.
    pub(super) fn findings(self) -> impl Iterator<Item = Finding> {
        let loader = self.loader;
        self.lost.into_iter().filter_map(move |(at, why)| {
            let path = &loader.library(at)?.path;
            let name = path.rsplit('/').next().unwrap_or(path);
            let spare = names::is_optional(name) || names::alternative(name).is_some();
            let severity = if spare { Severity::Note } else { Severity::Error };
            let fix = "install the package that brings it again";
            Some(Finding::new(severity, Kind::Unreadable, path, why).fix(fix))
        })
    }

    pub(super) fn get(&mut self, library: usize) -> Option<&Symbols> {
        if !self.kept.contains_key(&library) {
            let symbols = self.read(library);
            let size = symbols.as_ref().map_or(0, Symbols::bytes);
            if self.bytes + size > MAX_SYMBOL_BYTES {
                self.kept.clear();
                self.bytes = 0;
            }
            self.bytes += size;
            self.kept.insert(library, symbols);
        }
        self.kept.get(&library)?.as_ref()
    }
}
