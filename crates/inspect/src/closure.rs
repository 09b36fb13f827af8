//! Whether every library finds what it needs, in the version it needs, before anything runs.
//!
//! The processes that matter are played through with [`crate::loader`]: Python with torch's
//! extension module first, then every other library as Python would open it. What the loader would
//! not find, or would bind to another file than the one it was built with, is a finding.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::bindings::Bindings;
use crate::builds::Builds;
use crate::finding::{Finding, Kind, Severity};
use crate::loader::{Found, Loader, Process};
use crate::loads::{LoadedByPath, below_site};
use crate::packages::{Contents, is_python_library};
use crate::scan::Library;
use crate::static_tls::StaticTls;
use crate::tree::Tree;
use crate::{drivers, libcuda, names, one_release, opened, plugins, preload};

/// Paths named in one finding; the rest is counted.
const MAX_EVIDENCE: usize = 6;

/// What playing the processes through gave.
#[derive(Default)]
pub struct Closure {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// The process in which torch is imported: which file each library is.
    pub torch: Process,
    /// Libraries from outside of the tree that some process loads.
    pub outside: BTreeSet<usize>,
    /// Copies of libcuda in the tree that some process loads.
    pub libcuda: Vec<libcuda::Brought>,
}

/// A name nobody found, and who asked.
#[derive(Default)]
struct Absent {
    by: BTreeSet<String>,
    in_torch: bool,
    optional: bool,
    gpu: bool,
    /// Whether a module of Python's needs it.
    module: bool,
    /// Whether nothing needs it but libraries that are loaded by their paths, if at all.
    by_name: bool,
}

/// Plays the processes of an environment through.
pub fn check(tree: &Tree, loader: &Loader<'_>, contents: &Contents) -> Closure {
    let python = python(tree, loader, contents);
    loader.start_from(python);
    let mut closure =
        Closure { torch: torch_process(loader, python, contents), ..Closure::default() };
    let mut absent: BTreeMap<String, Absent> = BTreeMap::new();
    let mut bindings = Bindings::new(loader, python, &closure.torch);
    let mut seen: BTreeSet<usize> = BTreeSet::new();
    let mut builds = Builds::of(loader);
    let by_path = LoadedByPath::new(loader, contents);

    let torch = closure.torch.clone();
    note_missing(loader, &by_path, &torch, &torch, true, &mut absent);
    bindings.take(&torch, &torch);
    libcuda::copies(loader, &torch, true, &mut closure.libcuda);
    seen.extend(torch.loaded.iter().map(|loaded| loaded.library));
    closure.findings.extend(plugins::check(loader, &torch, &torch));
    closure.findings.extend(opened::check(loader, &by_path, &torch, &torch, contents));
    closure.findings.extend(one_release::check(loader, &torch, contents));
    let mut static_tls = StaticTls::new(loader, &torch, python);

    // What those have loaded before is looked at with them, not alone.
    let mut roots = roots(loader);
    roots.sort_by_key(|root| !by_path.loads_first(*root));
    for root in roots {
        if seen.contains(&root) {
            continue;
        }
        let mut process = Process::default();
        loader.load(&mut process, root);
        by_path.load_first(&mut process, root);
        builds.take(loader, &process, &torch);
        note_missing(loader, &by_path, &process, &torch, false, &mut absent);
        bindings.take(&process, &torch);
        libcuda::copies(loader, &process, torch.loaded.is_empty(), &mut closure.libcuda);
        closure.findings.extend(plugins::check(loader, &process, &torch));
        closure.findings.extend(opened::check(loader, &by_path, &process, &torch, contents));
        closure.findings.extend(one_release::check(loader, &process, contents));
        static_tls.take(&process);
        seen.extend(process.loaded.iter().map(|loaded| loaded.library));
    }
    let is_outside = |at: &usize| loader.library(*at).is_some_and(|library| library.outside);
    closure.outside = seen.into_iter().filter(is_outside).collect();
    let libraries: HashMap<&str, &Library> =
        loader.all().map(|(_, library)| (library.path.as_str(), library)).collect();
    for (name, absent) in absent {
        let by = absent.by.iter().filter_map(|path| libraries.get(path.as_str()));
        let own = by.into_iter().find_map(|library| drivers::major(library));
        let cuda = own.or_else(|| contents.cuda_major());
        closure.findings.push(missing(loader, &builds, &name, absent, cuda, &torch));
    }
    closure.findings.extend(builds.findings(contents));
    closure.findings.extend(bindings.versions());
    closure.findings.extend(bindings.symbols(tree, contents));
    closure.findings.extend(static_tls.findings());
    let told: BTreeSet<String> = closure
        .findings
        .iter()
        .filter(|finding| finding.kind == Kind::Shadowed)
        .map(|finding| finding.subject.clone())
        .collect();
    let shadows = shadows(loader, &torch);
    closure.findings.extend(shadows.into_iter().filter(|shadow| !told.contains(&shadow.subject)));
    closure.findings.extend(other_machines(loader));
    closure.findings.extend(loader.given_up());
    closure
}

/// The program of Python, where the tree has one: that of torch first, as in `P/bin/python` and
/// `P/lib/python3.12/site-packages/torch` of a conda environment.
fn python(tree: &Tree, loader: &Loader<'_>, contents: &Contents) -> Option<usize> {
    let own = contents.torch.as_ref().and_then(|torch| {
        let prefix = torch.path.rsplitn(5, '/').nth(4).unwrap_or("");
        let is_lib = torch.path.rsplit('/').nth(3) == Some("lib");
        is_lib.then(|| format!("{prefix}/bin/python").trim_start_matches('/').to_owned())
    });
    let known = ["opt/venv/bin/python", "usr/bin/python3", "usr/local/bin/python3", "bin/python"];
    let programs = own.iter().map(String::as_str).chain(known);
    programs
        .filter_map(|program| tree.resolve(program))
        .find_map(|real| loader.all().find(|(_, library)| library.path == real))
        .map(|(at, _)| at)
        .or_else(|| python_of_machine(loader))
}

/// The machine's program of Python that a virtual environment leads to, if it finds all it needs.
fn python_of_machine(loader: &Loader<'_>) -> Option<usize> {
    let is_program = |library: &Library| {
        let dynamic = library.dynamic.as_ref();
        library.outside
            && library.name().starts_with("python")
            && dynamic.is_some_and(|dynamic| dynamic.interpreter.is_some())
    };
    let (at, _) = loader.all().find(|(_, library)| is_program(library))?;
    let mut process = Process::default();
    loader.load(&mut process, at);
    process.missing.iter().all(|missing| loader.comes_from_outside(&missing.name)).then_some(at)
}

/// The loader that the program of Python names and an image does not have: the kernel starts nothing then.
pub fn interpreter(tree: &Tree, loader: &Loader<'_>, contents: &Contents) -> Option<Finding> {
    let program = loader.library(python(tree, loader, contents)?)?;
    let named = program.dynamic.as_ref()?.interpreter.as_deref()?;
    if tree.resolve(named.trim_start_matches('/')).is_some() {
        return None;
    }
    let message = format!("names {named} as its loader, which is not there: it can't be started");
    Some(
        Finding::new(Severity::Error, Kind::LibraryMissing, program.path.clone(), message)
            .evidence(["seen as: no such file or directory"])
            .fix("take a base with the C library that it was built for"),
    )
}

/// Python, what `import torch` opens first, and torch's extension module.
fn torch_process(loader: &Loader<'_>, python: Option<usize>, contents: &Contents) -> Process {
    let mut process = Process::default();
    let module = |library: &Library| {
        let inside = library.path.starts_with("torch/") || library.path.contains("/torch/");
        inside
            && (library.name().starts_with("_C.") || library.name() == "_C.so")
            && library.path.rsplit('/').nth(1) == Some("torch")
    };
    let Some((torch, library)) =
        loader.all().find(|(_, library)| library.dynamic.is_some() && module(library))
    else {
        // No extension module (a library folder alone): take torch's own library.
        if let Some((at, _)) = loader.all().find(|(_, library)| names::is_core(library.name())) {
            loader.load(&mut process, at);
        }
        return process;
    };
    if let Some(python) = python {
        loader.load(&mut process, python);
    }
    let folder = library.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let first = format!("{folder}/lib/libtorch_global_deps.so");
    let first = first.trim_start_matches('/');
    if let Some((at, _)) = loader.all().find(|(_, library)| library.path == first) {
        preload::simulate(loader, &mut process, at, contents);
    }
    loader.load(&mut process, torch);
    process
}

/// Libraries to start from: first those that no other one needs, then all.
fn roots(loader: &Loader<'_>) -> Vec<usize> {
    let all = || {
        loader
            .all()
            .filter(|(_, library)| library.dynamic.is_some() && !library.outside)
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

fn note_missing(
    loader: &Loader<'_>,
    by_path: &LoadedByPath<'_>,
    process: &Process,
    torch: &Process,
    in_torch: bool,
    absent: &mut BTreeMap<String, Absent>,
) {
    let of_others = process.missing.iter().any(|missing| names::is_of_other_gpus(&missing.name));
    for missing in &process.missing {
        // Extension modules of other packages rely on torch having loaded its libraries before.
        let there = !in_torch && torch.get(&missing.name).is_some();
        if there || loader.comes_from_outside(&missing.name) {
            continue;
        }
        let library =
            process.loaded.get(missing.by).and_then(|loaded| loader.library(loaded.library));
        let Some(library) = library else { continue };
        if by_path.has(&library.path, &missing.name) {
            continue;
        }
        let spare = by_path.is_spare(&library.path, &missing.name);
        let test = names::is_program_of_tests(library.name());
        let optional = of_others || spare || test || names::is_optional(library.name());
        // A module that lacks anything can't be imported, whatever it is for.
        let module = names::is_module(library.name()) && is_python_library(&library.path);
        let gpu = library.has_gpu_code()
            || names::is_opened(&missing.name)
            || (module && is_beside_gpu_code(loader, &library.path));
        let entry = absent.entry(missing.name.clone()).or_insert_with(|| Absent {
            optional: true,
            by_name: true,
            ..Absent::default()
        });
        entry.by.insert(library.path.clone());
        entry.in_torch |= in_torch;
        entry.optional &= optional;
        entry.gpu |= gpu && !optional;
        entry.module |= module && !optional;
        entry.by_name &= library.by_name;
    }
}

/// Whether the package of the module at `path` has code for GPUs.
fn is_beside_gpu_code(loader: &Loader<'_>, path: &str) -> bool {
    let package = |path: &str| below_site(path).split_once('/').map(|(first, _)| first.to_owned());
    let own = package(path);
    own.is_some()
        && loader.all().any(|(_, other)| other.has_gpu_code() && package(&other.path) == own)
}

fn listed<'a>(paths: impl ExactSizeIterator<Item = &'a String>) -> Vec<String> {
    let all = paths.len();
    let mut out: Vec<String> = paths.take(MAX_EVIDENCE).cloned().collect();
    if all > out.len() {
        out.push(format!("and {} more", all - out.len()));
    }
    out
}

fn missing(
    loader: &Loader<'_>,
    builds: &Builds,
    name: &str,
    absent: Absent,
    cuda: Option<u16>,
    torch: &Process,
) -> Finding {
    let spare = absent.by.iter().all(|path| builds.has(path));
    let optional = absent.optional || spare;
    let gpu = absent.gpu && !optional;
    let severity = match () {
        () if absent.in_torch => Severity::Error,
        () if optional => Severity::Note,
        () if absent.by_name => Severity::Warning,
        // Without torch, what has code for a GPU is what there is to run.
        () if gpu && torch.loaded.is_empty() => Severity::Error,
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
        let fix = names::how_to_get(name, cuda).unwrap_or_else(|| {
            format!("install what brings {name}, or the set of packages {first} was built with")
        });
        return Finding::new(
            severity,
            Kind::LibraryMissing,
            name,
            format!("{name} is nowhere, and {first} needs it"),
        )
        .evidence(listed(absent.by.iter()))
        .fix(fix)
        .gpu(gpu || (absent.module && !optional))
        .undecided(severity == Severity::Warning && absent.by_name && loader.is_by_name_alone());
    }
    // What has code for GPUs is needed for what is done on one.
    let named = || loader.named(name).iter().filter_map(|at| loader.library(*at));
    let gpu = gpu || (absent.module && !optional && named().any(Library::has_gpu_code));
    // Python code may load it by its full path first, so only torch's own case is certain.
    let severity = match severity {
        severity if absent.in_torch => severity,
        _ if gpu => Severity::Warning,
        _ => Severity::Note,
    };
    let folder = places.first().and_then(|place| place.rsplit_once('/')).map_or("", |(f, _)| f);
    let fix = match absent.in_torch {
        true => "set RPATH, or take the wheels that torch was installed with".to_owned(),
        false => {
            format!("import the package that loads it first, or put {folder} into LD_LIBRARY_PATH")
        }
    };
    Finding::new(
        severity,
        Kind::LibraryUnreachable,
        name,
        format!("{first} needs {name}, which is not where the loader looks"),
    )
    .evidence(places.into_iter().map(|place| format!("is at {place}")))
    .evidence(absent.by.iter().take(MAX_EVIDENCE).map(|path| format!("needed by {path}")))
    .fix(fix)
    .gpu(gpu && severity == Severity::Warning)
    // Of all there is to run, nobody knows whether the program has loaded the other first.
    .undecided(gpu && severity == Severity::Warning && is_all_of_it(loader, &absent.by))
}

/// Whether all code for GPUs, NVIDIA's aside, is in these libraries.
fn is_all_of_it(loader: &Loader<'_>, paths: &BTreeSet<String>) -> bool {
    let decides = |library: &Library| {
        library.has_gpu_code() && !library.outside && !names::is_of_nvidia(library.soname())
    };
    loader.all().filter(|(_, library)| decides(library)).all(|(_, l)| paths.contains(&l.path))
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
        let by_environment = winner.as_ref().is_some_and(|(_, found)| *found == Found::Environment);
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
    let others: Vec<String> = loader
        .all()
        .map(|(_, library)| library)
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

#[cfg(test)]
mod tests;
