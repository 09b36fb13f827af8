//! Which file the dynamic loader takes for each needed library, as glibc's ld.so decides.
//!
//! Source: ld.so(8), glibc `elf/dl-load.c`. For a name without `/`: a library already loaded under
//! it; else DT_RPATH of the one that needs it, of those that loaded that one and of the program (unless it has
//! DT_RUNPATH); LD_LIBRARY_PATH; its own DT_RUNPATH; ld.so.cache; the default directories.

mod process;
mod search;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use crate::elf::Machine;
use crate::finding::{Finding, Kind, Severity};
use crate::read::Named;
use crate::scan::{Library, Scan};
use crate::tree::Tree;
use crate::{ldcache, names, outside};

pub use process::{Found, Loaded, Missing, Process};

/// A process with more libraries than this is a loop or a lie.
const MAX_LOADED: usize = 4096;
/// Folders whose real paths are kept.
const MAX_FOLDERS: usize = 1 << 16;
/// Names and places that are looked up in all; an image with torch takes some hundred thousand.
const MAX_LOOKUPS: u64 = 10_000_000;
/// Files of ld.so.conf.d that are read, and folders that they name.
const MAX_CONFIGS: usize = 256;
const MAX_CONFIGURED: usize = 1024;
/// Bytes of a text that is read beside the libraries.
const MAX_TEXT: u64 = 1 << 16;

/// Folders of builds for newer processors, below every folder that is searched (ld.so(8), "Hardware
/// capabilities"; glibc 2.33 and later).
pub(crate) const HWCAPS: &[&str] =
    &["glibc-hwcaps/x86-64-v2/", "glibc-hwcaps/x86-64-v3/", "glibc-hwcaps/x86-64-v4/"];

/// The folders of one search path, by the folder of the library that has it.
type ByOrigin = HashMap<String, Rc<[String]>>;

/// The loader of one environment.
pub struct Loader<'a> {
    tree: &'a Tree,
    scan: &'a Scan,
    by_path: HashMap<&'a str, usize>,
    /// File names of libraries, and of links that may lead to one: any other name is nowhere.
    file_names: HashSet<&'a str>,
    /// Folders for newer processors, where there are any.
    hwcaps: &'static [&'static str],
    links: HashSet<&'a str>,
    /// Real paths of folders that were searched; none where there is no such folder.
    folders: RefCell<HashMap<String, Option<String>>>,
    /// Folders of a search path, by the path's text and the folder of the library that has it.
    searched: RefCell<HashMap<String, ByOrigin>>,
    /// How many folders `searched` has.
    searched_count: Cell<usize>,
    /// Names and places looked up so far.
    lookups: Cell<u64>,
    by_soname: BTreeMap<&'a str, Vec<usize>>,
    cache: HashMap<String, String>,
    library_path: Vec<String>,
    machine: Machine,
    /// The program that all processes are of, where it is known.
    program: Cell<Option<usize>>,
    /// Whether nothing but the driver comes from outside: it is an image, or has a C library of its own.
    whole: bool,
    /// Whether the system's libraries are those that `cache` has of the machine.
    on_host: bool,
    /// What was wrong with ld.so.cache.
    pub findings: Vec<Finding>,
}

impl<'a> Loader<'a> {
    /// A loader for `scan` of `tree`, with this LD_LIBRARY_PATH and what the machine's ld.so.cache leads to. The tree is
    /// the `whole` system where it is said so, or has a C library.
    pub fn new(
        tree: &'a Tree,
        scan: &'a Scan,
        library_path: Option<&str>,
        host: HashMap<String, String>,
        whole: bool,
    ) -> Self {
        let loadable =
            || scan.libraries.iter().enumerate().filter(|(_, library)| library.dynamic.is_some());
        let mut by_soname: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut machines: BTreeMap<Machine, usize> = BTreeMap::new();
        for (at, library) in loadable() {
            by_soname.entry(library.soname()).or_default().push(at);
            *machines.entry(library.machine).or_default() += 1;
        }
        // What starts a program of Python decides; else the processor that most are for, and of two with as many x86_64.
        let is_python = |library: &Library| {
            library.name().starts_with("python3")
                && library.dynamic.as_ref().is_some_and(|dynamic| dynamic.interpreter.is_some())
        };
        let python = || loadable().find(|(_, library)| is_python(library));
        let machine = match machines.len() {
            0 | 1 => None,
            _ => python().map(|(_, library)| library.machine),
        };
        let most = || {
            let count = |(machine, count): &(Machine, usize)| (*count, *machine == Machine::X86_64);
            machines.into_iter().max_by_key(count).map(|(machine, _)| machine)
        };
        let machine = machine.or_else(most).unwrap_or(Machine::X86_64);
        let mut loader = Self {
            tree,
            scan,
            by_path: loadable().map(|(at, library)| (library.path.as_str(), at)).collect(),
            file_names: loadable()
                .map(|(_, library)| library.path.as_str())
                .chain(tree.links().map(|(path, _)| path))
                .map(|path| path.rsplit('/').next().unwrap_or(path))
                .collect(),
            hwcaps: match loadable()
                .map(|(_, library)| library.path.as_str())
                .chain(tree.links().map(|(path, _)| path))
                .any(|path| path.contains("glibc-hwcaps"))
            {
                true => HWCAPS,
                false => &[],
            },
            links: tree.links().map(|(path, _)| path).collect(),
            folders: RefCell::default(),
            searched: RefCell::default(),
            searched_count: Cell::new(0),
            lookups: Cell::new(0),
            whole: whole
                || loadable()
                    .any(|(_, library)| !library.outside && library.soname() == "libc.so.6"),
            by_soname,
            on_host: !host.is_empty(),
            cache: host,
            library_path: library_path
                .filter(|path| !path.is_empty())
                .map(|path| outside::folders(path).map(str::to_owned).collect())
                .unwrap_or_default(),
            machine,
            program: Cell::new(None),
            findings: Vec::new(),
        };
        loader.read_cache();
        loader
    }

    fn read_cache(&mut self) {
        const PATH: &str = "etc/ld.so.cache";
        let Some(real) = self.tree.resolve(PATH) else { return };
        let entries = self
            .tree
            .open(&real)
            .and_then(|bytes| ldcache::parse(Named::new(PATH, &*bytes), self.machine));
        match entries {
            Ok(entries) => {
                for entry in entries {
                    self.cache.entry(entry.name).or_insert(entry.path);
                }
            }
            Err(error) => {
                let mut finding =
                    Finding::new(Severity::Error, Kind::BadBytes, PATH, error.to_string());
                finding.offset = error.offset();
                self.findings.push(finding.fix("run ldconfig in the image"));
            }
        }
    }

    /// From now on all processes are of this program.
    pub fn start_from(&self, program: Option<usize>) {
        self.program.set(program);
    }

    /// The processor most of the libraries are for.
    pub const fn machine(&self) -> Machine {
        self.machine
    }

    /// Whether the tree has a C library of its own.
    pub const fn is_whole(&self) -> bool {
        self.whole
    }

    /// Libraries with this SONAME anywhere in the tree.
    pub fn named(&self, soname: &str) -> &[usize] {
        self.by_soname.get(soname).map_or(&[], Vec::as_slice)
    }

    /// The text of a small file of the tree.
    pub fn text(&self, path: &str) -> Option<String> {
        self.tree.text(path, MAX_TEXT)
    }

    /// All SONAMEs and the libraries that have them.
    pub fn sonames(&self) -> impl Iterator<Item = (&'a str, &[usize])> {
        self.by_soname.iter().map(|(name, libraries)| (*name, libraries.as_slice()))
    }

    /// All libraries of the scan with their numbers.
    pub fn all(&self) -> impl Iterator<Item = (usize, &'a Library)> + use<'a> {
        self.scan.libraries.iter().enumerate()
    }

    /// Whether all code for GPUs, NVIDIA's aside, is in libraries that a package loads by their paths, if at all.
    pub fn is_by_name_alone(&self) -> bool {
        let decides = |library: &&Library| {
            library.has_gpu_code() && !library.outside && !names::is_of_nvidia(library.soname())
        };
        self.scan.libraries.iter().filter(decides).all(|library| library.by_name)
    }

    /// The library at number `at` of the scan.
    pub fn library(&self, at: usize) -> Option<&'a Library> {
        self.scan.libraries.get(at)
    }

    /// Loads the library at number `root` into `process` and all it needs.
    pub fn load(&self, process: &mut Process, root: usize) {
        self.open(process, root, Found::Root);
    }

    /// The same, of one that the program opens by its path.
    pub fn open(&self, process: &mut Process, root: usize, found: Found) {
        let Some(library) = self.scan.libraries.get(root) else { return };
        if process.loaded.iter().any(|loaded| loaded.library == root) {
            return;
        }
        let first = process.loaded.len();
        let name = library.soname().to_owned();
        self.add(process, root, library.path.clone(), name, None, found);
        let mut at = first;
        while at < process.loaded.len() && process.loaded.len() < MAX_LOADED {
            self.needs(process, at);
            at += 1;
        }
    }

    fn needs(&self, process: &mut Process, at: usize) {
        let Some(dynamic) = process
            .loaded
            .get(at)
            .and_then(|loaded| self.scan.libraries.get(loaded.library))
            .and_then(|library| library.dynamic.as_ref())
        else {
            return;
        };
        for name in &dynamic.needed {
            if !self.look() {
                return;
            }
            if process.by_name.contains_key(name) {
                continue;
            }
            match self.find(process, at, name) {
                Some((library, opened, found)) => {
                    let same = process.loaded.iter().position(|loaded| loaded.library == library);
                    match same {
                        Some(same) => {
                            process.by_name.insert(name.clone(), same);
                        }
                        None => {
                            self.add(process, library, opened, name.clone(), Some(at), found);
                        }
                    }
                }
                None => process.missing.push(Missing { by: at, name: name.clone() }),
            }
        }
    }

    fn add(
        &self,
        process: &mut Process,
        library: usize,
        opened: String,
        name: String,
        by: Option<usize>,
        found: Found,
    ) {
        let at = process.loaded.len();
        // The first that answers to a name keeps it.
        process.by_name.entry(name.clone()).or_insert(at);
        if let Some(library) = self.scan.libraries.get(library) {
            process.by_name.entry(library.soname().to_owned()).or_insert(at);
        }
        process.loaded.push(Loaded { library, opened, name, by, found });
    }

    /// Counts a look-up; none is left where so many are needed that nobody made these libraries to be loaded.
    fn look(&self) -> bool {
        self.lookups.set(self.lookups.get() + 1);
        self.lookups.get() <= MAX_LOOKUPS
    }

    /// What could not be followed to its end.
    pub fn given_up(&self) -> Option<Finding> {
        let first = self.scan.libraries.iter().find(|library| library.dynamic.is_some())?;
        (self.lookups.get() > MAX_LOOKUPS).then(|| {
            let message = "which library each one gets takes too many look-ups, and was not followed to its end";
            Finding::new(Severity::Error, Kind::Unreadable, first.path.clone(), message)
                .fix("inspect a part of it: one package, or one environment")
        })
    }

    /// The library called `name` that LD_LIBRARY_PATH brings, whoever asks: its number, and the path it is opened by.
    pub fn by_library_path(&self, name: &str) -> Option<(usize, String)> {
        let path = self.library_path.iter();
        path.flat_map(|folder| self.searched_folders(folder, "").to_vec())
            .find_map(|folder| Some((self.inside(&folder, name)?, format!("{folder}{name}"))))
    }

    /// The libraries called `name` that the system's own search finds, first by ld.so.cache, then in the folders that
    /// ld.so.conf names, then in the default ones: their numbers, and the paths they are opened by.
    pub fn by_system(&self, name: &str) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        if self.on_host {
            return found;
        }
        if let Some(path) = self.cache.get(name)
            && let Some(library) = self.at(path)
        {
            found.push((library, path.clone()));
        }
        let folders = self.configured().into_iter().chain(self.default_folders());
        for folder in folders.map(|folder| format!("{}/", folder.trim_end_matches('/'))) {
            if let Some(library) = self.inside(&folder, name) {
                found.push((library, format!("{folder}{name}")));
            }
        }
        found
    }

    /// The folders that the tree's ld.so.conf names (ldconfig(8)).
    fn configured(&self) -> Vec<String> {
        let files = self.tree.files_below("etc/ld.so.conf.d").into_iter().map(|(path, _)| path);
        let files = files.filter(|path| path.ends_with(".conf")).chain(["etc/ld.so.conf"]);
        let texts = files.take(MAX_CONFIGS).filter_map(|path| self.text(path));
        let mut out = Vec::new();
        for text in texts {
            let lines = text.lines().map(|line| line.split('#').next().unwrap_or(line).trim());
            out.extend(lines.filter(|line| line.starts_with('/')).map(str::to_owned));
        }
        out.truncate(MAX_CONFIGURED);
        out
    }

    /// Whether a library that is not in the tree will be there all the same: it comes from the
    /// driver, or from the system when the tree has none of its own.
    pub fn comes_from_outside(&self, name: &str) -> bool {
        names::from_driver(name) || (!self.whole && !self.on_host && names::from_system(name))
    }
}
