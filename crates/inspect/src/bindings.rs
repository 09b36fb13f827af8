//! What each library's symbols are bound to, and which of them nobody has.
//!
//! ld.so looks a symbol up in the libraries of its process, in the order of loading. One that asks
//! for a version takes it from the library that defines the version; one without takes the first of
//! its name. Python opens its modules with `RTLD_NOW`, so a symbol that nobody has fails at import.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::Error;
use crate::dynamic::Dynamic;
use crate::finding::{Finding, Kind, Severity};
use crate::loader::{Loader, Process};
use crate::names;
use crate::packages::{Contents, is_python_library};
use crate::read::Named;
use crate::scan::Library;
use crate::symbols::{GnuHash, Import, Symbols, gnu_hash};
use crate::tree::Tree;

/// Missing symbols named for one library.
const MAX_SYMBOLS: usize = 4;
/// Bytes of symbol tables kept at once.
const MAX_SYMBOL_BYTES: usize = 160 << 20;
/// Bytes of hash tables kept; all of torch 2.15.0's set have 6 MB.
const MAX_HASH_BYTES: usize = 256 << 20;

/// Why nobody can list the symbols of a library.
const UNCOUNTED: &str =
    "has neither DT_GNU_HASH nor DT_HASH, so what it takes from others can't be listed";

/// The libraries of a process in which symbols without a version are looked up.
struct Scope {
    libraries: Vec<usize>,
    /// Names of libraries that come from the driver or the system.
    outside: Vec<String>,
    /// Whether torch is in it.
    torch: bool,
}

/// Which library each one's needs are bound to.
pub struct Bindings<'a> {
    loader: &'a Loader<'a>,
    /// (who needs, the name) to who provides.
    to: BTreeMap<(usize, String), usize>,
    scopes: Vec<Scope>,
    /// Libraries whose symbols are checked, and in which scope.
    checked: BTreeMap<usize, usize>,
    python: Process,
}

impl<'a> Bindings<'a> {
    /// None yet; `python` is the program of Python, where the tree has one.
    pub fn new(loader: &'a Loader<'a>, python: Option<usize>) -> Self {
        let mut process = Process::default();
        if let Some(python) = python {
            loader.load(&mut process, python);
        }
        let (to, checked) = (BTreeMap::new(), BTreeMap::new());
        Self { loader, to, scopes: Vec::new(), checked, python: process }
    }

    /// Takes what is bound in `process`, where torch is imported in the process `torch`.
    pub fn take(&mut self, process: &Process, torch: &Process) {
        for loaded in &process.loaded {
            let Some(dynamic) =
                self.loader.library(loaded.library).and_then(|l| l.dynamic.as_ref())
            else {
                continue;
            };
            for name in &dynamic.needed {
                if let Some(provider) = process.get(name) {
                    self.to.entry((loaded.library, name.clone())).or_insert(provider.library);
                }
            }
        }
        if let Some(scope) = self.scope(process, torch) {
            let number = self.scopes.len();
            let ours = |library: &Library| {
                let program =
                    library.dynamic.as_ref().is_none_or(|dynamic| dynamic.interpreter.is_some());
                is_python_library(&library.path) && !library.outside && !program
            };
            for at in process.loaded.iter().map(|loaded| loaded.library) {
                if self.loader.library(at).is_some_and(ours) {
                    self.checked.entry(at).or_insert(number);
                }
            }
            self.scopes.push(scope);
        }
    }

    /// The scope of a module of Python; none where the loader stops before it comes to symbols.
    fn scope(&self, process: &Process, torch: &Process) -> Option<Scope> {
        let names = || {
            process
                .loaded
                .iter()
                .filter_map(|loaded| self.loader.library(loaded.library))
                .filter_map(|library| library.dynamic.as_ref())
                .flat_map(|dynamic| &dynamic.needed)
        };
        let root = self.loader.library(process.loaded.first()?.library)?;
        let with_torch = names().any(|name| names::is_of_torch(name));
        if !(with_torch || names::is_module(root.name())) {
            return None;
        }
        let mut libraries: Vec<usize> =
            process.loaded.iter().map(|loaded| loaded.library).collect();
        let mut outside = Vec::new();
        let mut borrowed = false;
        for missing in &process.missing {
            if torch.get(&missing.name).is_some() {
                borrowed = true;
            } else if self.loader.comes_from_outside(&missing.name) {
                outside.push(missing.name.clone());
            } else {
                return None;
            }
        }
        // What torch loaded before brings what it needs itself.
        let base = if borrowed { torch } else { &self.python };
        libraries.extend(base.loaded.iter().map(|loaded| loaded.library));
        for missing in &base.missing {
            match self.loader.comes_from_outside(&missing.name) {
                true => outside.push(missing.name.clone()),
                false => return None,
            }
        }
        Some(Scope { libraries, outside, torch: with_torch })
    }

    /// Versions that the library that wins does not define.
    pub fn versions(&self) -> Vec<Finding> {
        let loader = self.loader;
        let mut out = Vec::new();
        for ((by, name), provider) in &self.to {
            let Some((by, provider)) = loader.library(*by).zip(loader.library(*provider)) else {
                continue;
            };
            let Some((needs, has)) = by.dynamic.as_ref().zip(provider.dynamic.as_ref()) else {
                continue;
            };
            // A library without versions takes any (ld.so only warns).
            if has.versions_defined.is_empty() {
                continue;
            }
            let lacking: Vec<String> = needs
                .versions_needed
                .iter()
                .filter(|need| need.library == *name && !need.weak)
                .filter(|need| !has.versions_defined.contains(&need.version))
                .map(|need| need.version.clone())
                .collect();
            if lacking.is_empty() {
                continue;
            }
            let kind = if name == "libc.so.6" { Kind::GlibcTooOld } else { Kind::VersionMissing };
            out.push(
                Finding::new(
                    Severity::Error,
                    kind,
                    by.path.clone(),
                    format!(
                        "needs {} of {name}, which {} does not have",
                        lacking.join(", "),
                        provider.path
                    ),
                )
                .evidence(newest_like(&lacking, &has.versions_defined))
                .fix(match (kind, provider.outside) {
                    (Kind::GlibcTooOld, true) => {
                        "run it on a system with a newer glibc, or take a build for an older one"
                            .to_owned()
                    }
                    (Kind::GlibcTooOld, false) => {
                        "take a base with a newer glibc, or a build for an older one".to_owned()
                    }
                    (_, true) => format!(
                        "install a newer {name} on this machine, or take a build for an older one"
                    ),
                    (_, false) => format!("let the {name} it was built with win"),
                }),
            );
        }
        out
    }

    /// Symbols that nobody has: of a version, in the library that wins (the way an older copy of an
    /// NVIDIA library shows: `undefined symbol: __nvJitLinkComplete_12_4`); without one, in the
    /// whole process (the way a module built for another torch shows).
    pub fn symbols(&self, tree: &Tree, contents: &Contents) -> Vec<Finding> {
        let mut tables = Tables::new(tree, self.loader);
        let mut by: BTreeMap<usize, Vec<(&str, usize)>> =
            self.checked.keys().map(|library| (*library, Vec::new())).collect();
        for ((library, name), provider) in &self.to {
            by.entry(*library).or_default().push((name, *provider));
        }
        let mut out = Vec::new();
        for (library, providers) in by {
            let Some(symbols) = tables.read(library) else { continue };
            if self.checked.contains_key(&library) && tables.are_uncounted(library) {
                tables.lost.insert(library, UNCOUNTED.to_owned());
            }
            out.extend(self.versioned(library, &providers, &symbols, &mut tables));
            let Some(scope) = self.checked.get(&library).and_then(|at| self.scopes.get(*at)) else {
                continue;
            };
            out.extend(self.unversioned(library, scope, &symbols, &mut tables, contents));
        }
        out.extend(tables.findings());
        out
    }

    fn versioned(
        &self,
        library: usize,
        providers: &[(&str, usize)],
        symbols: &Symbols,
        tables: &mut Tables<'_>,
    ) -> Vec<Finding> {
        let Some(library) = self.loader.library(library) else { return Vec::new() };
        let Some(dynamic) = &library.dynamic else { return Vec::new() };
        // glibc keeps every symbol of a version it defines: versions were checked above.
        let need_of: HashMap<u16, (&str, usize)> = dynamic
            .versions_needed
            .iter()
            .filter(|need| !names::from_system(&need.library))
            .filter_map(|need| {
                let (_, provider) = providers.iter().find(|(name, _)| *name == need.library)?;
                Some((need.index, (need.version.as_str(), *provider)))
            })
            .collect();
        let mut lacking: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for import in symbols.imports() {
            let Some((version, provider)) = need_of.get(&import.version) else { continue };
            let Some(table) = tables.get(*provider) else { continue };
            if table.exports(import.name, gnu_hash(import.name)).is_empty() {
                let names = lacking.entry(*provider).or_default();
                names.push(format!("{}, version {version}", import.name));
            }
        }
        let finding = |(provider, names): (usize, Vec<String>)| {
            let provider =
                self.loader.library(provider).map_or("", |library| library.path.as_str());
            let first = names.first().map_or("", String::as_str);
            Finding::new(
                Severity::Error,
                Kind::SymbolMissing,
                library.path.clone(),
                format!("undefined symbol: {first}; {provider}, which wins, does not have it"),
            )
            .evidence(names.iter().take(MAX_SYMBOLS).cloned())
            .fix("take the older copy out of LD_LIBRARY_PATH, or install the set torch was built with")
        };
        lacking.into_iter().map(finding).collect()
    }

    fn unversioned(
        &self,
        library: usize,
        scope: &Scope,
        symbols: &Symbols,
        tables: &mut Tables<'_>,
        contents: &Contents,
    ) -> Option<Finding> {
        let free = symbols.imports().filter(|import| import.version <= 1);
        let mut lacking: Vec<&str> = Vec::new();
        for Import { name, .. } in free {
            let outside = || scope.outside.iter().any(|library| names::may_bring(library, name));
            if names::is_of_python(name) || tables.has(&scope.libraries, name)? || outside() {
                continue;
            }
            lacking.push(name);
        }
        let first = lacking.first()?;
        let path = &self.loader.library(library)?.path;
        let name = path.rsplit('/').next().unwrap_or(path);
        // Builds of one that the program needs are alike but for what they find, and this one found all.
        let spare = |row: &names::Alternative| row.spare || row.by == names::Choice::Cuda;
        let optional = names::is_optional(name) || names::alternative(name).is_some_and(spare);
        let severity = match scope.torch {
            _ if optional => Severity::Note,
            true => Severity::Error,
            false => Severity::Warning,
        };
        let message =
            format!("undefined symbol: {first}; no library that is loaded with it has it");
        let rest = lacking.len().saturating_sub(MAX_SYMBOLS);
        Some(
            Finding::new(severity, Kind::SymbolMissing, path.clone(), message)
                .evidence(lacking.iter().take(MAX_SYMBOLS).copied())
                .evidence((rest > 0).then(|| format!("and {rest} more")))
                .fix(contents.rebuild(path, scope.torch)),
        )
    }
}

/// The newest version that is like the one that lacks: `GLIBC_2.36` where `GLIBC_2.38` is needed.
fn newest_like(lacking: &[String], defined: &BTreeSet<String>) -> Option<String> {
    let split = |name: &str| {
        let at = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
        let numbers = name[at..].split(['.', '_']).map(|part| part.parse::<u64>().unwrap_or(0));
        (name[..at].to_owned(), numbers.collect::<Vec<_>>())
    };
    let family = lacking.first().map(|name| split(name).0).unwrap_or_default();
    let all = || defined.iter().map(|name| (split(name), name));
    all()
        .filter(|((own, _), _)| *own == family)
        .max()
        .or_else(|| all().max_by(|(a, _), (b, _)| a.1.cmp(&b.1)))
        .map(|(_, name)| format!("it has up to {name}"))
}

/// Symbol tables, the last few kept.
struct Tables<'a> {
    tree: &'a Tree,
    loader: &'a Loader<'a>,
    kept: HashMap<usize, Option<Symbols>>,
    bytes: usize,
    hashes: HashMap<usize, Option<GnuHash>>,
    hash_bytes: usize,
    /// Libraries that can't be asked for their symbols, and why.
    lost: BTreeMap<usize, String>,
}

impl<'a> Tables<'a> {
    fn new(tree: &'a Tree, loader: &'a Loader<'a>) -> Self {
        let (kept, hashes) = (HashMap::new(), HashMap::new());
        Self { tree, loader, kept, bytes: 0, hashes, hash_bytes: 0, lost: BTreeMap::new() }
    }

    /// Whether one of `libraries` offers `name`; `None` when one of them can't be asked.
    fn has(&mut self, libraries: &[usize], name: &str) -> Option<bool> {
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

    fn read(&mut self, library: usize) -> Option<Symbols> {
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

    fn are_uncounted(&self, library: usize) -> bool {
        let dynamic = self.loader.library(library).and_then(|library| library.dynamic.as_ref());
        dynamic.is_some_and(|dynamic| dynamic.symbols.are_uncounted())
    }

    /// Libraries whose symbols could not be asked for.
    fn findings(self) -> impl Iterator<Item = Finding> {
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

    fn get(&mut self, library: usize) -> Option<&Symbols> {
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
