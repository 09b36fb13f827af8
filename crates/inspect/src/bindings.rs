//! What each library's symbols are bound to, and which of them nobody has.
//!
//! ld.so looks a symbol up in the libraries of its process, in the order of loading. One that asks
//! for a version takes it from the library that defines the version; one without takes the first of
//! its name. Python opens its modules with `RTLD_NOW`, so a symbol that nobody has fails at import.

mod tables;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::finding::{Finding, Kind, Severity};
use crate::loader::{Loaded, Loader, Process};
use crate::packages::{Contents, is_python_library};
use crate::scan::Library;
use crate::symbols::{Import, Symbols, gnu_hash};
use crate::tree::Tree;
use crate::{names, preload, pythons};
use tables::Tables;

/// Missing symbols named for one library.
const MAX_SYMBOLS: usize = 4;

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
    /// Whether it uses a GPU: it has code for one, or needs CUDA's libraries.
    gpu: bool,
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
    /// What `import torch` opens for all that is loaded after it.
    global: Vec<usize>,
}

impl<'a> Bindings<'a> {
    /// None yet; `python` is the program of Python, where the tree has one, and torch is imported in the process `torch`.
    pub fn new(loader: &'a Loader<'a>, python: Option<usize>, torch: &Process) -> Self {
        let mut process = Process::default();
        if let Some(python) = python {
            loader.load(&mut process, python);
        }
        let (to, checked) = (BTreeMap::new(), BTreeMap::new());
        let global = preload::global(loader, torch);
        Self { loader, to, scopes: Vec::new(), checked, python: process, global }
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
        let is_opened = names::is_module(root.name()) || is_opened_alone(root);
        if !(with_torch || is_opened) || pythons::is_for_another(&root.path) {
            return None;
        }
        let has_code = |loaded: &Loaded| {
            self.loader.library(loaded.library).is_some_and(Library::has_gpu_code)
        };
        let gpu = process.loaded.iter().any(has_code) || names().any(|name| names::is_opened(name));
        let mut libraries: Vec<usize> =
            process.loaded.iter().map(|loaded| loaded.library).collect();
        let mut outside = Vec::new();
        for missing in &process.missing {
            if let Some(borrowed) = torch.get(&missing.name) {
                // It is loaded already, and what it needs with it; the rest of torch is not for this module.
                libraries.extend(torch.needs_of(self.loader, borrowed.library));
            } else if self.loader.comes_from_outside(&missing.name) {
                outside.push(missing.name.clone());
            } else {
                return None;
            }
        }
        libraries.extend(self.python.loaded.iter().map(|loaded| loaded.library));
        for missing in &self.python.missing {
            match self.loader.comes_from_outside(&missing.name) {
                true => outside.push(missing.name.clone()),
                false => return None,
            }
        }
        // Opened with RTLD_GLOBAL, so that its names are there for all: who has none of torch's libraries may be
        // imported after it.
        libraries.extend(&self.global);
        for opened in names::opened_before(root.name()) {
            libraries.extend(self.loader.named(opened));
        }
        Some(Scope { libraries, outside, torch: with_torch, gpu })
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
                    if by.by_name { Severity::Warning } else { Severity::Error },
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
                })
                .gpu(by.by_name)
                .undecided(by.by_name && loader.is_by_name_alone()),
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
                if library.by_name { Severity::Warning } else { Severity::Error },
                Kind::SymbolMissing,
                library.path.clone(),
                format!("undefined symbol: {first}; {provider}, which wins, does not have it"),
            )
            .evidence(names.iter().take(MAX_SYMBOLS).cloned())
            .fix("take the older copy out of LD_LIBRARY_PATH, or install the set torch was built with")
            .gpu(library.by_name)
            .undecided(library.by_name && self.loader.is_by_name_alone())
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
        let library = self.loader.library(library)?;
        let path = &library.path;
        let free = symbols.imports().filter(|import| import.version <= 1);
        let mut lacking: Vec<&str> = Vec::new();
        let mut knows_python = None;
        for Import { name, .. } in free {
            if names::is_of_python(name) {
                let knows = || self.knows_python(path, tables).unwrap_or(false);
                if !*knows_python.get_or_insert_with(knows) {
                    continue;
                }
            }
            let outside = || scope.outside.iter().any(|library| names::may_bring(library, name));
            if tables.has(&scope.libraries, name)? || outside() {
                continue;
            }
            lacking.push(name);
        }
        let first = lacking.first()?;
        let name = path.rsplit('/').next().unwrap_or(path);
        // Builds of one that the program needs are alike but for what they find, and this one found all.
        let spare = |row: &names::Alternative| row.spare || row.by == names::Choice::Cuda;
        let optional = names::is_optional(name) || names::alternative(name).is_some_and(spare);
        // Without torch, what uses a GPU is what there is to run.
        let alone = scope.gpu && contents.torch.is_none();
        let severity = match () {
            () if optional => Severity::Note,
            // Its package loads it by its path, if at all, and may go on without it.
            () if library.by_name => Severity::Warning,
            () if scope.torch || alone => Severity::Error,
            () => Severity::Warning,
        };
        let message =
            format!("undefined symbol: {first}; no library that is loaded with it has it");
        let rest = lacking.len().saturating_sub(MAX_SYMBOLS);
        Some(
            Finding::new(severity, Kind::SymbolMissing, path.clone(), message)
                .evidence(lacking.iter().take(MAX_SYMBOLS).copied())
                .evidence((rest > 0).then(|| format!("and {rest} more")))
                .fix(contents.rebuild(path, scope.torch))
                .gpu(severity == Severity::Warning)
                .undecided(
                    severity == Severity::Warning
                        && library.by_name
                        && self.loader.is_by_name_alone(),
                ),
        )
    }

    /// Whether the program of Python is the one that imports the module at `path`, and what it brings can be asked for.
    fn knows_python(&self, path: &str, tables: &mut Tables<'_>) -> Option<bool> {
        let program = self.loader.library(self.python.loaded.first()?.library)?;
        if !pythons::may_import(program.name(), path) {
            return Some(false);
        }
        let libraries: Vec<usize> =
            self.python.loaded.iter().map(|loaded| loaded.library).collect();
        tables.has(&libraries, names::python_has())
    }
}

/// Whether a package opens this library by its path and alone, as with ctypes: it has code for GPUs, and is neither one of
/// NVIDIA's, which open each other, nor a part of which the package takes another.
fn is_opened_alone(library: &Library) -> bool {
    library.has_gpu_code()
        && is_python_library(&library.path)
        && !names::is_of_nvidia(library.soname())
        && !names::is_optional(library.name())
        && names::alternative(library.name()).is_none()
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
