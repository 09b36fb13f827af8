//! Modules that the Python in whose folder they lie can't import.
//!
//! Source: PEP 3149 (Python looks for its own tag, for `.abi3.so` and for `.so`) and PEP 703 (one without the GIL has no
//! stable ABI of the others: importlib.machinery.EXTENSION_SUFFIXES of 3.13t has no `.abi3.so`).

use std::collections::{BTreeMap, BTreeSet};

use crate::elf::Machine;
use crate::finding::{Finding, Kind, Severity};
use crate::names;
use crate::packages::Contents;
use crate::scan::Library;
use crate::tree::Tree;

/// One finding for each folder with modules that can't be imported, and for which no other build stands in.
pub fn check(libraries: &[Library], machine: Machine, contents: &Contents) -> Vec<Finding> {
    let has = |name: &str| libraries.iter().any(|library| library.name().starts_with(name));
    let musl = has("ld-musl-") && !has("libc.so.6");
    let own_machine = |library: &&Library| !library.outside && library.machine == machine;
    let names: BTreeSet<&str> =
        libraries.iter().filter(own_machine).map(|library| library.path.as_str()).collect();
    let mut of_folder: BTreeMap<&str, (&Library, String)> = BTreeMap::new();
    for library in libraries.iter().filter(|library| !library.outside) {
        let Some(own) = python_of(&library.path) else { continue };
        let Some((stem, built)) = module(&library.path) else { continue };
        let with_gil = !own.ends_with('t');
        let of_python = || format!("of Python {}", dotted(&own));
        let (why, on) = match built {
            _ if library.machine != machine => {
                (format!("is for {}", library.machine.name()), format!("for {}", machine.name()))
            }
            // It is no module, and its path is all that who loads it needs.
            _ if library.by_name => continue,
            Built::For(tag) if tag != own => {
                (format!("is for Python {}", dotted(tag)), of_python())
            }
            Built::Stable if !with_gil => {
                ("has the stable ABI of Pythons with the GIL".to_owned(), of_python())
            }
            _ => match foreign(&library.path, machine, musl) {
                Some(whom) => {
                    let c = if musl { "musl" } else { "glibc" };
                    (
                        format!("is for {whom}"),
                        format!("of a Python for {} and {c}", machine.name()),
                    )
                }
                None => continue,
            },
        };
        let prefix = format!("{stem}.cpython-{own}-");
        let mut after = names.range(prefix.as_str()..).take_while(|name| name.starts_with(&prefix));
        let stands_in = after.any(|name| foreign(name, machine, musl).is_none())
            || (with_gil && names.contains(format!("{stem}.abi3.so").as_str()))
            || names.contains(format!("{stem}.so").as_str());
        if !stands_in {
            let folder = stem.rsplit_once('/').map_or("", |(folder, _)| folder);
            let message = format!("{why}, and lies in a folder {on}: it can't be imported");
            of_folder.entry(folder).or_insert((library, message));
        }
    }
    // Beside torch, a module that has nothing of it and no code for GPUs is a part of what there is to run.
    let is_core = |library: &Library| {
        let needed = library.dynamic.iter().flat_map(|dynamic| &dynamic.needed);
        contents.torch.is_none()
            || library.has_gpu_code()
            || needed.into_iter().any(|name| names::is_of_torch(name))
    };
    let finding = |(library, message): (&Library, String)| {
        let path = library.path.as_str();
        let own = python_of(path).unwrap_or_default();
        let severity = if is_core(library) { Severity::Error } else { Severity::Warning };
        Finding::new(severity, Kind::WrongMachine, path, message)
            .fix(format!("install its package for Python {} on {}", dotted(&own), machine.name()))
            .gpu(true)
    };
    of_folder.into_values().map(finding).collect()
}

/// For which other systems the name of the module at `path` says that it is: `_C.cpython-311-x86_64-linux-musl.so` on one
/// with glibc, `_C.cpython-311-aarch64-linux-gnu.so` on x86_64. Python opens no file of such a name.
///
/// Source: sysconfig's EXT_SUFFIX, by the triplet of the system that Python was built for.
fn foreign(path: &str, machine: Machine, musl: bool) -> Option<String> {
    let (_, tag) = path.rsplit('/').next()?.split_once(".cpython-")?;
    let (_, triplet) = tag.strip_suffix(".so")?.split_once('-')?;
    let (processor, c) = triplet.split_once("-linux-")?;
    if processor != machine.name() {
        return Some(
            processor.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect(),
        );
    }
    match (c, musl) {
        ("musl", false) => Some("systems with musl".to_owned()),
        ("gnu", true) => Some("systems with glibc".to_owned()),
        _ => None,
    }
}

/// Whether the module at `path` lies in the folder of a Python that can't import it.
pub fn is_for_another(path: &str) -> bool {
    let own = python_of(path);
    matches!((own, module(path)), (Some(own), Some((_, Built::For(tag)))) if tag != own)
}

/// Whether the program of Python called `program` (`python3.11`) is of the version that imports the module at `path`.
pub fn may_import(program: &str, path: &str) -> bool {
    let own = program.strip_prefix("python").filter(|version| version.contains('.'));
    let Some(own) = own.map(|version| version.replace('.', "")) else { return false };
    let built = match module(path) {
        Some((_, Built::For(tag))) => Some(tag.to_owned()),
        _ => None,
    };
    python_of(path).into_iter().chain(built).all(|tag| tag == own)
}

/// Packages of a Python that an image does not have, while it has another.
pub fn absent(tree: &Tree, contents: &Contents) -> Option<Finding> {
    let torch = contents.torch.as_ref()?;
    let own = python_of(&torch.path)?;
    let is_program = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or(path).strip_prefix("python")?;
        let (major, minor) = name.split_once('.')?;
        let minor = minor.trim_end_matches('t');
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        (major == "3" && plain(minor) && path.rsplit('/').nth(1) == Some("bin"))
            .then(|| name.replace('.', ""))
    };
    let links = tree.links().map(|(path, _)| path);
    let there: BTreeSet<String> =
        tree.files().map(|(path, _)| path).chain(links).filter_map(is_program).collect();
    if there.is_empty() || there.contains(&own) {
        return None;
    }
    let there: Vec<String> = there.iter().map(|tag| dotted(tag)).collect();
    let message = format!(
        "is for Python {}, which is not there; there is {}",
        dotted(&own),
        there.join(", ")
    );
    Some(
        Finding::new(Severity::Error, Kind::PythonMissing, torch.path.clone(), message)
            .fix(format!("install Python {}, or the packages for one that is there", dotted(&own))),
    )
}

/// What a module's name says it was built for.
enum Built<'a> {
    /// `312`, `313t`.
    For(&'a str),
    /// Pythons with the stable ABI.
    Stable,
}

/// The path without what the name says it is built for, and that; nothing of what is not a module with a tag.
fn module(path: &str) -> Option<(&str, Built<'_>)> {
    if let Some(stem) = path.strip_suffix(".abi3.so") {
        return Some((stem, Built::Stable));
    }
    let (stem, rest) = path.split_once(".cpython-")?;
    let tag = rest.split(['-', '.']).next().unwrap_or("").trim_end_matches('m');
    let is_tag = tag.starts_with('3') && tag.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_tag.then_some((stem, Built::For(tag)))
}

/// `312` of `lib/python3.12/site-packages/x`, `313t` of one without the GIL.
fn python_of(path: &str) -> Option<String> {
    let from = path.find("/python3.").or_else(|| path.starts_with("python3.").then_some(0))?;
    let version = path[from..].trim_start_matches('/').strip_prefix("python")?.split('/').next()?;
    Some(version.replace('.', ""))
}

/// `3.12` of `312`.
fn dotted(tag: &str) -> String {
    let at = tag.len().min(1);
    format!("{}.{}", &tag[..at], &tag[at..])
}
