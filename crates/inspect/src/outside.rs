//! Libraries that come from the machine, from outside of what is inspected.
//!
//! A folder, a virtual environment and a wheel run on the machine itself. A folder that LD_LIBRARY_PATH names is the
//! machine's when they have none of that name; and what they lack, the C library first, the loader takes from where the
//! machine's ld.so.cache says. Only what somebody asks for is read, and only what a process then loads counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::elf::Machine;
use crate::finding::{Finding, Kind, Severity};
use crate::loader::HWCAPS;
use crate::read::Named;
use crate::scan::{self, Library, Scan};
use crate::tree::Tree;
use crate::{ldcache, libcuda, names};

/// Links between a virtual environment's name of Python and the program.
const MAX_LINKS: usize = 8;
/// Folders of one LD_LIBRARY_PATH.
const MAX_FOLDERS: usize = 256;
/// Entries of these folders that are looked at for one name with `*`.
const MAX_ENTRIES: usize = 100_000;
/// Files that such a name stands for.
const MAX_MATCHES: usize = 64;

/// The machine that what is inspected runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its `LD_LIBRARY_PATH`.
    pub library_path: String,
    /// Its `PATH`.
    pub path: OsString,
    /// Where its files are; none where what is inspected may be installed on another machine.
    pub root: Option<PathBuf>,
}

impl Host {
    /// This machine; its files count for what is `installed` on it.
    pub fn this(installed: bool) -> Self {
        let library_path = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self { library_path, path, root: installed.then(|| PathBuf::from("/")) }
    }

    /// Whether it has a file at the absolute `path`.
    pub fn has_file(&self, path: &str) -> bool {
        let Some((root, path)) = self.root.as_ref().zip(path.strip_prefix('/')) else {
            return false;
        };
        root.join(path).is_file()
    }

    /// Whether it has a program at the absolute `path`, or one of that name in its `PATH`.
    pub fn has_program(&self, path: &str) -> bool {
        let Some(root) = &self.root else { return false };
        let name = path.rsplit('/').next().unwrap_or(path);
        let absolute = path.starts_with('/').then(|| PathBuf::from(path));
        let in_path = std::env::split_paths(&self.path).map(|folder| folder.join(name));
        let all = absolute.into_iter().chain(in_path.filter(|place| place.is_absolute()));
        all.take(MAX_FOLDERS).any(|place| {
            let place = root.join(place.strip_prefix("/").unwrap_or(&place));
            place
                .metadata()
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
    }

    /// The program that a virtual environment has for Python by a link out of it.
    fn python(&self, tree: &Tree) -> Option<PathBuf> {
        let root = self.root.as_ref()?;
        let links: HashMap<&str, &str> = tree.links().collect();
        let mut place = "bin/python".to_owned();
        // `python` leads to `python3`, or the other way round, and one of them out.
        for _ in 0..MAX_LINKS {
            let target = *links.get(place.as_str())?;
            if target.starts_with('/') {
                let program = root.join(target.trim_start_matches('/')).canonicalize().ok()?;
                return program.is_file().then_some(program);
            }
            place = format!("bin/{target}");
        }
        None
    }

    /// The files that its loader takes by their names alone; none where it has no C library of `machine`.
    fn libraries(&self, machine: Machine) -> HashMap<String, String> {
        let Some(root) = &self.root else { return HashMap::new() };
        let place = |path: &str| root.join(path.trim_start_matches('/'));
        let entries = std::fs::read(place("etc/ld.so.cache"))
            .ok()
            .and_then(|bytes| ldcache::parse(Named::new("ld.so.cache", &bytes), machine).ok());
        let mut found = HashMap::new();
        for entry in entries.into_iter().flatten() {
            if let Some(path) = place(&entry.path).to_str() {
                found.entry(entry.name).or_insert_with(|| path.to_owned());
            }
        }
        match found.get("libc.so.6").is_some_and(|path| Path::new(path).is_file()) {
            true => found,
            false => HashMap::new(),
        }
    }
}

/// What is taken from the machine.
#[derive(Default)]
pub struct Outside {
    /// What is wrong with it.
    pub findings: Vec<Finding>,
    /// The files that the machine's loader takes by their names alone.
    pub cache: HashMap<String, String>,
}

/// The folders of an LD_LIBRARY_PATH; ld.so(8) takes `:` and `;`.
pub fn folders(library_path: &str) -> impl Iterator<Item = &str> {
    library_path.split([':', ';']).filter(|folder| !folder.is_empty()).take(MAX_FOLDERS)
}

/// Adds to `scan` what `library_path` brings from the machine, and says which of its folders are neither there nor in
/// `tree`; and what the machine's own loader finds where `tree` has no C library.
pub fn read(tree: &Tree, scan: &mut Scan, library_path: &str, host: &Host) -> Outside {
    let mut findings = Vec::new();
    let mut outside = Vec::new();
    for folder in folders(library_path).filter(|folder| !folder.contains('$')) {
        if tree.is_directory(folder) {
            continue;
        }
        match Path::new(folder).is_absolute() && Path::new(folder).is_dir() {
            true => outside.push(folder.trim_end_matches('/').to_owned()),
            false => findings.push(absent(folder)),
        }
    }
    let cache = match scan.libraries.iter().any(|library| library.soname() == "libc.so.6") {
        true => HashMap::new(),
        false => main_machine(scan, host.python(tree).is_some())
            .map(|machine| host.libraries(machine))
            .unwrap_or_default(),
    };
    if outside.is_empty() && cache.is_empty() {
        return Outside { findings, cache };
    }
    // A virtual environment's Python is the machine's, with what lies in the folder `lib` beside its own.
    let mut beside = Vec::new();
    if let Some(python) = host.python(tree).filter(|_| !cache.is_empty()) {
        beside.extend(
            python
                .parent()
                .and_then(Path::parent)
                .and_then(|root| root.join("lib").to_str().map(str::to_owned)),
        );
        if let Some(path) = python.to_str() {
            add(scan, path);
        }
    }
    // A runtime that is linked in opens libcuda by its name, and no library here says so.
    find(scan, &outside, libcuda::NAME);
    let own: BTreeSet<String> =
        scan.libraries.iter().map(|library| library.name().to_owned()).collect();
    let mut known: BTreeSet<String> = BTreeSet::new();
    let mut at = 0;
    // What is found needs more: `scan` grows while it is gone through.
    while let Some(library) = scan.libraries.get(at) {
        at += 1;
        let new: Vec<String> = wanted(library).filter(|name| known.insert(name.clone())).collect();
        for name in new.iter().flat_map(|name| matching(&outside, name)) {
            find(scan, &outside, &name);
        }
        for name in new.iter().filter(|name| name.starts_with("libpython")) {
            find(scan, &beside, name);
        }
        for name in new.iter().filter(|name| !own.contains(*name) && !names::from_driver(name)) {
            if let Some(path) = cache.get(name) {
                add(scan, path);
            }
        }
    }
    Outside { findings, cache }
}

/// The processor that most libraries are for, where this machine has it. With the machine's own Python it is any that this
/// machine has.
fn main_machine(scan: &Scan, own_python: bool) -> Option<Machine> {
    let mut counts: BTreeMap<Machine, usize> = BTreeMap::new();
    for library in scan.libraries.iter().filter(|library| library.dynamic.is_some()) {
        *counts.entry(library.machine).or_default() += 1;
    }
    let this = counts.keys().find(|machine| machine.name() == std::env::consts::ARCH).copied();
    if own_python && this.is_some() {
        return this;
    }
    let (machine, _) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    (machine.name() == std::env::consts::ARCH).then_some(machine)
}

/// What `library` may ask the loader for.
fn wanted(library: &Library) -> impl Iterator<Item = String> {
    let needed = library.dynamic.iter().flat_map(|dynamic| dynamic.needed.iter());
    let plugins = names::plugins(library.soname()).into_iter().flat_map(|row| row.names.iter());
    needed.chain(plugins).chain(&library.opens).filter(|name| !name.contains('/')).cloned()
}

/// The names of files that `name` stands for: itself or, with a `*` at its end, those that begin so.
fn matching(folders: &[String], name: &str) -> BTreeSet<String> {
    let Some(start) = name.strip_suffix('*') else { return BTreeSet::from([name.to_owned()]) };
    let entries = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let names =
        entries.take(MAX_ENTRIES).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with(start)).take(MAX_MATCHES).collect()
}

fn find(scan: &mut Scan, folders: &[String], name: &str) {
    for folder in folders {
        for below in [""].iter().chain(HWCAPS) {
            let path = format!("{folder}/{below}{name}");
            if Path::new(&path).is_file() {
                add(scan, &path);
            }
        }
    }
}

fn add(scan: &mut Scan, path: &str) {
    let file = Library { outside: true, ..Library::unread(path, 0, Machine::Cuda) };
    let read = file.open(&Tree::new()).and_then(|bytes| scan::library(path, &*bytes));
    let read = read.map(|found| found.map(|found| Library { outside: true, ..found }));
    scan.take(path, read);
}

fn absent(folder: &str) -> Finding {
    Finding::new(
        Severity::Warning,
        Kind::LibraryPath,
        folder,
        "LD_LIBRARY_PATH names a folder that is not there: the loader passes over it",
    )
    .fix("correct the path, or take it out of LD_LIBRARY_PATH")
}
