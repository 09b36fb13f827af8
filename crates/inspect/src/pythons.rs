//! Modules that the Python in whose folder they lie can't import.
//!
//! Source: PEP 3149 (Python looks for its own tag, for `.abi3.so` and for `.so`) and PEP 703 (one without the GIL has no
//! stable ABI of the others: importlib.machinery.EXTENSION_SUFFIXES of 3.13t has no `.abi3.so`).

use std::collections::{BTreeMap, BTreeSet};

use crate::elf::Machine;
use crate::finding::{Finding, Kind, Severity};
use crate::scan::Library;

/// One finding for each folder with modules that can't be imported, and for which no other build stands in.
pub fn check(libraries: &[Library], machine: Machine) -> Vec<Finding> {
    let own_machine = |library: &&Library| !library.outside && library.machine == machine;
    let names: BTreeSet<&str> =
        libraries.iter().filter(own_machine).map(|library| library.path.as_str()).collect();
    let mut of_folder: BTreeMap<&str, (&str, String)> = BTreeMap::new();
    for library in libraries.iter().filter(|library| !library.outside) {
        let Some(own) = python_of(&library.path) else { continue };
        let Some((stem, built)) = module(&library.path) else { continue };
        let with_gil = !own.ends_with('t');
        let why = match built {
            _ if library.machine != machine => format!("is for {}", library.machine.name()),
            Built::For(tag) if tag != own => format!("is for Python {}", dotted(tag)),
            Built::Stable if !with_gil => "has the stable ABI of Pythons with the GIL".to_owned(),
            _ => continue,
        };
        let prefix = format!("{stem}.cpython-{own}-");
        let after = names.range(prefix.as_str()..).next();
        let stands_in = after.is_some_and(|name| name.starts_with(&prefix))
            || (with_gil && names.contains(format!("{stem}.abi3.so").as_str()))
            || names.contains(format!("{stem}.so").as_str());
        if !stands_in {
            let folder = stem.rsplit_once('/').map_or("", |(folder, _)| folder);
            let on = match library.machine == machine {
                true => format!("of Python {}", dotted(&own)),
                false => format!("for {}", machine.name()),
            };
            let message = format!("{why}, and lies in a folder {on}: it can't be imported");
            of_folder.entry(folder).or_insert((&library.path, message));
        }
    }
    let finding = |(path, message): (&str, String)| {
        let own = python_of(path).unwrap_or_default();
        Finding::new(Severity::Warning, Kind::WrongMachine, path, message)
            .fix(format!("install its package for Python {} on {}", dotted(&own), machine.name()))
            .gpu(true)
    };
    of_folder.into_values().map(finding).collect()
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
