//! Whether every library finds what it needs, in the version it needs, before anything runs.
//!
//! The processes that matter are played through with [`crate::loader`]: Python with torch's
//! extension module first, then every other library as Python would open it. What the loader would
//! not find, or would bind to another file than the one it was built with, is a finding.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::finding::{Finding, Kind, Severity};
use crate::loader::{Loader, Process};
use crate::names;
use crate::packages::is_python_library;
use crate::read::Named;
use crate::scan::Library;
use crate::symbols::{Symbols, gnu_hash};
use crate::tree::Tree;

/// Paths named in one finding; the rest is counted.
const MAX_EVIDENCE: usize = 6;
/// Missing symbols named for one library.
const MAX_SYMBOLS: usize = 4;
/// Bytes of symbol tables kept at once.
const MAX_SYMBOL_BYTES: usize = 160 << 20;

/// What playing the processes through gave.
#[derive(Default)]
pub struct Closure {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// The process in which torch is imported: which file each library is.
    pub torch: Process,
}

/// A name nobody found, and who asked.
#[derive(Default)]
struct Absent {
    by: BTreeSet<String>,
    in_torch: bool,
    optional: bool,
}

/// Plays the processes of an environment through.
pub fn check(tree: &Tree, loader: &Loader<'_>) -> Closure {
    let mut closure = Closure { torch: torch_process(tree, loader), ..Closure::default() };
    let mut absent: BTreeMap<String, Absent> = BTreeMap::new();
    let mut bound = Bound::default();
    let mut seen: BTreeSet<usize> = BTreeSet::new();

    let torch = closure.torch.clone();
    note_missing(loader, &torch, &torch, true, &mut absent);
    bound.take(loader, &torch);
    seen.extend(torch.loaded.iter().map(|loaded| loaded.library));
    closure.findings.extend(plugins(loader, &torch));

    for root in roots(loader) {
        if seen.contains(&root) {
            continue;
        }
        let mut process = Process::default();
        loader.load(&mut process, root);
        note_missing(loader, &process, &torch, false, &mut absent);
        bound.take(loader, &process);
        seen.extend(process.loaded.iter().map(|loaded| loaded.library));
        if torch.loaded.is_empty() {
            closure.findings.extend(plugins(loader, &process));
        }
    }
    closure
        .findings
        .extend(absent.into_iter().map(|(name, absent)| missing(loader, &name, absent)));
    closure.findings.extend(bound.versions(loader));
    closure.findings.extend(bound.symbols(tree, loader));
    closure.findings.extend(shadows(loader, &torch));
    closure.findings.extend(other_machines(loader));
    closure
}

/// Python, what `import torch` opens first, and torch's extension module.
fn torch_process(tree: &Tree, loader: &Loader<'_>) -> Process {
    let mut process = Process::default();
    let module = |library: &Library| {
        let inside = library.path.starts_with("torch/") || library.path.contains("/torch/");
        inside
            && (library.name().starts_with("_C.") || library.name() == "_C.so")
            && library.path.rsplit('/').nth(1) == Some("torch")
    };
    let all = || (0..).map_while(|at| loader.library(at).map(|library| (at, library)));
    let Some((torch, library)) =
        all().find(|(_, library)| library.dynamic.is_some() && module(library))
    else {
        // No extension module (a library folder alone): take torch's own library.
        if let Some((at, _)) = all().find(|(_, library)| names::is_core(library.name())) {
            loader.load(&mut process, at);
        }
        return process;
    };
    for program in ["opt/venv/bin/python", "usr/bin/python3", "usr/local/bin/python3", "bin/python"]
    {
        let real = tree.resolve(program);
        if let Some((at, _)) = all().find(|(_, library)| Some(&library.path) == real.as_ref()) {
            loader.load(&mut process, at);
            break;
        }
    }
    let folder = library.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let first = format!("{folder}/lib/libtorch_global_deps.so");
    let first = first.trim_start_matches('/');
    if let Some((at, _)) = all().find(|(_, library)| library.path == first) {
        loader.load(&mut process, at);
    }
    loader.load(&mut process, torch);
    process
}

/// Libraries to start from: first those that no other one needs, then all.
fn roots(loader: &Loader<'_>) -> Vec<usize> {
    let all = || {
        (0..)
            .map_while(|at| loader.library(at).map(|library| (at, library)))
            .filter(|(_, library)| library.dynamic.is_some())
            .filter(|(_, library)| library.machine == loader.machine())
    };
    let needed: BTreeSet<&str> = all()
        .filter_map(|(_, library)| library.dynamic.as_ref())
        .flat_map(|dynamic| dynamic.needed.iter().map(String::as_str))
        .collect();
    let (first, rest): (Vec<_>, Vec<_>) =
        all().partition(|(_, library)| !needed.contains(library.soname()));
    first.into_iter().chain(rest).map(|(at, _)| at).collect()
}

fn path_of<'a>(loader: &Loader<'a>, process: &Process, at: usize) -> &'a str {
    process
        .loaded
        .get(at)
        .and_then(|loaded| loader.library(loaded.library))
        .map_or("", |library| library.path.as_str())
}

fn note_missing(
    loader: &Loader<'_>,
    process: &Process,
    torch: &Process,
    in_torch: bool,
    absent: &mut BTreeMap<String, Absent>,
) {
    for missing in &process.missing {
        // Extension modules of other packages rely on torch having loaded its libraries before.
        let there = !in_torch && torch.get(&missing.name).is_some();
        if there || loader.comes_from_outside(&missing.name) {
            continue;
        }
        let path = path_of(loader, process, missing.by);
        let optional = names::is_optional(path.rsplit('/').next().unwrap_or(path));
        let entry = absent
            .entry(missing.name.clone())
            .or_insert_with(|| Absent { optional: true, ..Absent::default() });
        entry.by.insert(path.to_owned());
        entry.in_torch |= in_torch;
        entry.optional &= optional;
    }
}

fn listed<'a>(paths: impl ExactSizeIterator<Item = &'a String>) -> Vec<String> {
    let all = paths.len();
    let mut out: Vec<String> = paths.take(MAX_EVIDENCE).cloned().collect();
    if all > out.len() {
        out.push(format!("and {} more", all - out.len()));
    }
    out
}

fn missing(loader: &Loader<'_>, name: &str, absent: Absent) -> Finding {
    let severity = match () {
        () if absent.in_torch => Severity::Error,
        () if absent.optional => Severity::Note,
        () => Severity::Warning,
    };
    let first = absent.by.iter().next().map_or("", String::as_str);
    let places: Vec<String> = loader
        .named(name)
        .iter()
        .filter_map(|at| loader.library(*at))
        .map(|library| library.path.clone())
        .collect();
    if places.is_empty() {
        return Finding::new(
            severity,
            Kind::LibraryMissing,
            name,
            format!("{name} is nowhere, and {first} needs it"),
        )
        .evidence(listed(absent.by.iter()))
        .fix(format!("install what brings {name}, or the set of packages torch was built with"));
    }
    // Python code may load it by its full path first, so only torch's own case is certain.
    let severity = if absent.in_torch { severity } else { Severity::Note };
    Finding::new(
        severity,
        Kind::LibraryUnreachable,
        name,
        format!("{first} needs {name}, which is not where the loader looks"),
    )
    .evidence(places.into_iter().map(|place| format!("is at {place}")))
    .evidence(absent.by.iter().take(MAX_EVIDENCE).map(|path| format!("needed by {path}")))
    .fix("import the package that loads it first, or set RPATH or LD_LIBRARY_PATH")
}

/// Libraries that a loaded one opens by name: there, and from its own set?
fn plugins(loader: &Loader<'_>, process: &Process) -> Vec<Finding> {
    let mut out = Vec::new();
    for (at, loaded) in process.loaded.iter().enumerate() {
        let Some(library) = loader.library(loaded.library) else { continue };
        let Some(row) = names::plugins(library.soname()) else { continue };
        let folder =
            |path: &str| path.rsplit_once('/').map_or(String::new(), |(f, _)| f.to_owned());
        let mut absent = Vec::new();
        let mut foreign = Vec::new();
        for name in &row.names {
            let wanted: Vec<&str> = loader
                .sonames()
                .map(|(soname, _)| soname)
                .filter(|soname| names::is_like(name, soname))
                .collect();
            let found = wanted.iter().find_map(|soname| {
                process
                    .get(soname)
                    .map(|loaded| (loaded.library, loaded.found))
                    .or_else(|| loader.find(process, at, soname).map(|(l, _, found)| (l, found)))
            });
            match found.and_then(|(at, found)| Some((loader.library(at)?, found))) {
                None => absent.push(name.clone()),
                Some((plugin, found)) if folder(&plugin.path) != folder(&library.path) => {
                    foreign.push(format!("{} ({})", plugin.path, found.words()));
                }
                Some(_) => {}
            }
        }
        if !absent.is_empty() {
            out.push(
                Finding::new(
                    Severity::Error,
                    Kind::PluginMissing,
                    library.path.clone(),
                    format!(
                        "{} opens {} at run time and will not find it",
                        row.of,
                        absent.join(", ")
                    ),
                )
                .evidence([format!("seen as: {}", row.fails)])
                .fix("install the whole package, or remove the other copy of it"),
            );
        }
        if !foreign.is_empty() {
            out.push(
                Finding::new(
                    Severity::Error,
                    Kind::MixedCudnn,
                    library.path.clone(),
                    format!("{} would get parts of itself from another copy", row.of),
                )
                .evidence(foreign)
                .evidence(["seen as: CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH".to_owned()])
                .fix("remove one of the two, or take its folder out of LD_LIBRARY_PATH"),
            );
        }
    }
    out
}

/// Which library each one's needs are bound to.
#[derive(Default)]
struct Bound {
    /// (who needs, the name) to who provides.
    to: BTreeMap<(usize, String), usize>,
}

impl Bound {
    fn take(&mut self, loader: &Loader<'_>, process: &Process) {
        for loaded in &process.loaded {
            let Some(dynamic) = loader.library(loaded.library).and_then(|l| l.dynamic.as_ref())
            else {
                continue;
            };
            for name in &dynamic.needed {
                if let Some(provider) = process.get(name) {
                    self.to.entry((loaded.library, name.clone())).or_insert(provider.library);
                }
            }
        }
    }

    /// Versions that the library that wins does not define.
    fn versions(&self, loader: &Loader<'_>) -> Vec<Finding> {
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
                .evidence(
                    has.versions_defined
                        .iter()
                        .next_back()
                        .map(|last| format!("it has up to {last}")),
                )
                .fix(if kind == Kind::GlibcTooOld {
                    "take a base with a newer glibc, or a build for an older one".to_owned()
                } else {
                    format!("let the {name} it was built with win")
                }),
            );
        }
        out
    }

    /// Versioned symbols that the library that wins does not have: the way an older copy of an
    /// NVIDIA library shows (`undefined symbol: __nvJitLinkComplete_12_4`).
    fn symbols(&self, tree: &Tree, loader: &Loader<'_>) -> Vec<Finding> {
        let mut tables = Tables { tree, loader, kept: HashMap::new(), bytes: 0 };
        let mut by: BTreeMap<usize, Vec<(&str, usize)>> = BTreeMap::new();
        for ((library, name), provider) in &self.to {
            by.entry(*library).or_default().push((name, *provider));
        }
        let mut out = Vec::new();
        for (library, providers) in by {
            let Some(library_ref) = loader.library(library) else { continue };
            let Some(dynamic) = &library_ref.dynamic else { continue };
            let Some(symbols) = tables.read(library) else { continue };
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
            for (provider, names) in lacking {
                let provider = loader.library(provider).map_or("", |library| library.path.as_str());
                let first = names.first().map_or("", String::as_str);
                out.push(
                    Finding::new(
                        Severity::Error,
                        Kind::SymbolMissing,
                        library_ref.path.clone(),
                        format!("undefined symbol: {first}; {provider}, which wins, does not have it"),
                    )
                    .evidence(names.iter().take(MAX_SYMBOLS).cloned())
                    .fix("take the older copy out of LD_LIBRARY_PATH, or install the set torch was built with"),
                );
            }
        }
        out
    }
}

/// Symbol tables, the last few kept.
struct Tables<'a> {
    tree: &'a Tree,
    loader: &'a Loader<'a>,
    kept: HashMap<usize, Option<Symbols>>,
    bytes: usize,
}

impl Tables<'_> {
    fn read(&self, library: usize) -> Option<Symbols> {
        let library = self.loader.library(library)?;
        let bytes = self.tree.open(&library.path).ok()?;
        let dynamic = library.dynamic.as_ref()?;
        // What is malformed here was malformed for the scan too, or only costs this check.
        Symbols::read(Named::new(&library.path, &*bytes), dynamic).ok().flatten()
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

/// Several copies of a library of which a process can have one: which wins?
fn shadows(loader: &Loader<'_>, torch: &Process) -> Vec<Finding> {
    let mut out = Vec::new();
    for (soname, copies) in loader.sonames().filter(|(soname, _)| names::is_single(soname)) {
        let paths: Vec<String> = copies
            .iter()
            .filter_map(|at| loader.library(*at))
            .filter(|library| library.machine == loader.machine())
            .map(|library| library.path.clone())
            .collect();
        if paths.len() < 2 {
            continue;
        }
        let winner = torch
            .get(soname)
            .and_then(|loaded| Some((loader.library(loaded.library)?.path.clone(), loaded.found)));
        let system_wins = winner.as_ref().is_some_and(|(path, _)| {
            !is_python_library(path) && paths.iter().any(|path| is_python_library(path))
        });
        let by_environment =
            winner.as_ref().is_some_and(|(_, found)| *found == crate::loader::Found::Environment);
        let finding = match &winner {
            Some((path, found)) if system_wins || by_environment => Finding::new(
                Severity::Warning,
                Kind::Shadowed,
                soname,
                format!("{path} wins {} over the copy torch was installed with", found.words()),
            )
            .fix("remove it, or take its folder out of LD_LIBRARY_PATH"),
            Some((path, found)) => Finding::new(
                Severity::Note,
                Kind::Duplicate,
                soname,
                format!("{} copies; torch gets {path}, {}", paths.len(), found.words()),
            ),
            None => Finding::new(
                Severity::Note,
                Kind::Duplicate,
                soname,
                format!("{} copies; torch loads none of them", paths.len()),
            ),
        };
        out.push(finding.evidence(listed(paths.iter())));
    }
    out
}

/// Libraries for another processor, which the loader passes over.
fn other_machines(loader: &Loader<'_>) -> Option<Finding> {
    let others: Vec<String> = (0..)
        .map_while(|at| loader.library(at))
        .filter(|library| library.dynamic.is_some() && library.machine != loader.machine())
        .map(|library| format!("{} ({})", library.path, library.machine.name()))
        .collect();
    (!others.is_empty()).then(|| {
        let first = others.first().map_or("", String::as_str).to_owned();
        let count = others.len();
        Finding::new(
            Severity::Warning,
            Kind::WrongMachine,
            first,
            format!("{count} libraries are not for {}", loader.machine().name()),
        )
        .evidence(listed(others.iter()))
    })
}
