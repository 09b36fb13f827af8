//! Every library of a tree: what the loader reads of it, and the GPU code in it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::Error;
use crate::dynamic::Dynamic;
use crate::elf::{Elf, Kind as ElfKind, Machine, PT_LOAD};
use crate::fatbin::{Code, Fatbin, Form, Tally, Target, Variant};
use crate::finding::{Finding, Kind, Severity};
use crate::read::{Named, ReadAt};
use crate::tree::Tree;

/// The section the compiler puts GPU code into; the CUDA runtime loads it from there.
const LOADED: &str = ".nv_fatbin";
/// Sections for large data, where libraries that load their code themselves keep it: all of cuFFT
/// 12.2, and 58 cubins of torch 2.15.0's libtorch_cuda.
const EMBEDDED: [&str; 2] = [".ldata", ".lrodata"];
/// Code for the device linker. What it made stands in `.nv_fatbin`; these bytes are never loaded
/// when that is there.
const RELOCATABLE: &str = "__nv_relfatbin";
/// Endings of files that are neither libraries nor programs; they are not even opened.
const NOT_CODE: [&str; 33] = [
    "py", "pyc", "pyi", "h", "hpp", "hxx", "cuh", "inl", "c", "cc", "cpp", "cu", "txt", "md",
    "rst", "json", "yaml", "yml", "toml", "html", "css", "js", "csv", "npz", "npy", "png", "svg",
    "gz", "xz", "a", "cmake", "typed", "gz",
];

/// One ELF file.
#[derive(Clone, Debug)]
pub struct Library {
    /// Its path in the tree.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// The processor it is for.
    pub machine: Machine,
    /// Whether it can be loaded or run (a shared library or program with a dynamic section).
    pub dynamic: Option<Dynamic>,
    /// GPU code that the CUDA runtime loads: what `cuobjdump` lists.
    pub gpu: Fatbin,
    /// GPU code that the library keeps as data and loads itself.
    pub embedded: Fatbin,
    /// GPU code for the device linker only.
    pub relocatable: Fatbin,
}

impl Library {
    /// The file's name without its directory.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// All GPU code in it.
    pub const fn fatbins(&self) -> [&Fatbin; 3] {
        [&self.gpu, &self.embedded, &self.relocatable]
    }

    /// Code that may be loaded, with how much there is of it.
    pub fn codes(&self) -> impl Iterator<Item = (&Code, &Tally)> {
        self.gpu.codes.iter().chain(&self.embedded.codes)
    }

    /// The name others need it by: its SONAME, else its file name.
    pub fn soname(&self) -> &str {
        self.dynamic.as_ref().and_then(|dynamic| dynamic.soname.as_deref()).unwrap_or(self.name())
    }
}

/// What a scan gave.
#[derive(Debug, Default)]
pub struct Scan {
    /// ELF files, sorted by path.
    pub libraries: Vec<Library>,
    /// Files that could not be read right.
    pub findings: Vec<Finding>,
    /// Files looked at.
    pub opened: usize,
}

/// Reads the headers of every library of `tree` on `threads` threads (0: as many as there are
/// processors). `progress` is told how many files are done, out of how many.
pub fn scan(tree: &Tree, threads: usize, progress: &(dyn Fn(usize, usize) + Sync)) -> Scan {
    let candidates: Vec<(&str, u64)> =
        tree.files().filter(|(path, size)| *size >= 64 && may_be_code(path)).collect();
    let threads = match threads {
        0 => thread::available_parallelism().map_or(1, Into::into),
        n => n,
    };
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Scan { opened: candidates.len(), ..Scan::default() });
    thread::scope(|scope| {
        for _ in 0..threads.min(candidates.len()).max(1) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((path, _)) = candidates.get(at) else { break };
                    let result = tree.open(path).and_then(|bytes| library(path, &*bytes));
                    if let Ok(mut found) = found.lock() {
                        found.take(path, result);
                    }
                    progress(at + 1, candidates.len());
                }
            });
        }
    });
    let mut scan = found.into_inner().unwrap_or_default();
    scan.libraries.sort_by(|a, b| a.path.cmp(&b.path));
    scan.findings.sort_by(|a, b| (&a.subject, a.offset).cmp(&(&b.subject, b.offset)));
    scan
}

impl Scan {
    fn take(&mut self, path: &str, result: Result<Option<Library>, Error>) {
        match result {
            Ok(None) => {}
            Ok(Some(library)) => {
                for flaw in library.fatbins().iter().flat_map(|fatbin| &fatbin.flaws) {
                    self.findings.push(
                        Finding::new(Severity::Warning, Kind::BadBytes, path, flaw.what.clone())
                            .at(flaw.offset),
                    );
                }
                self.libraries.push(library);
            }
            Err(error) => {
                let text = error.to_string();
                let message = text.strip_prefix(&format!("{path}: ")).unwrap_or(&text);
                let mut finding = Finding::new(Severity::Error, Kind::BadBytes, path, message);
                finding.offset = error.offset();
                finding.fix = error.hint();
                self.findings.push(finding);
            }
        }
    }
}

/// Whether a file of this name is opened at all.
pub fn may_be_code(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').is_none_or(|(_, ending)| !NOT_CODE.contains(&ending))
}

/// Reads one file; `None` when it is neither ELF nor a fatbin of its own.
///
/// # Errors
/// [`Error::Read`], [`Error::Truncated`] or [`Error::Malformed`] with the offset.
pub fn library(path: &str, bytes: &dyn ReadAt) -> Result<Option<Library>, Error> {
    read(path, bytes, true)
}

/// As [`library`], without what the loader reads.
///
/// # Errors
/// As [`library`].
pub fn gpu_code(path: &str, bytes: &dyn ReadAt) -> Result<Option<Library>, Error> {
    read(path, bytes, false)
}

fn read(path: &str, bytes: &dyn ReadAt, dynamic: bool) -> Result<Option<Library>, Error> {
    let file = Named::new(path, bytes);
    let head: [u8; 16] = file.array(0, "first bytes")?;
    let mut library = Library {
        path: path.to_owned(),
        size: file.size(),
        machine: Machine::Cuda,
        dynamic: None,
        gpu: Fatbin::default(),
        embedded: Fatbin::default(),
        relocatable: Fatbin::default(),
    };
    if head.starts_with(&crate::fatbin::MAGIC.to_le_bytes()) {
        library.gpu.walk(file, 0, file.size())?;
        return Ok(Some(library));
    }
    if !Elf::sniff(&head) {
        return Ok(None);
    }
    let elf = Elf::parse(file)?;
    library.machine = elf.machine;
    if elf.machine == Machine::Cuda {
        // The capability stands in the second byte of e_flags since ABI version 8 (CUDA 12.8),
        // in the first before.
        let number = if head[8] >= 8 { elf.flags >> 8 & 0xff } else { elf.flags & 0xff };
        let target = Target { number, variant: Variant::Plain };
        library.gpu = Fatbin::single(Code { form: Form::Cubin, target }, file.size());
        return Ok(Some(library));
    }
    if dynamic && !matches!(elf.kind, ElfKind::Relocatable) {
        library.dynamic = Dynamic::parse(file, &elf)?;
    }
    for section in &elf.sections {
        if section.name == LOADED {
            library.gpu.walk(file, section.offset, section.size)?;
        } else if EMBEDDED.contains(&section.name.as_str()) {
            library.embedded.walk(file, section.offset, section.size)?;
        } else if section.name == RELOCATABLE {
            library.relocatable.walk(file, section.offset, section.size)?;
        }
    }
    if elf.sections.iter().all(|section| section.name.is_empty()) {
        for segment in elf.segments.iter().filter(|segment| segment.kind == PT_LOAD) {
            library.gpu.walk(file, segment.offset, segment.size)?;
        }
    }
    if library.gpu.is_hollow(file) {
        library.gpu = Fatbin::default();
    }
    if library.gpu.is_empty() {
        std::mem::swap(&mut library.gpu, &mut library.relocatable);
    }
    Ok(Some(library))
}
