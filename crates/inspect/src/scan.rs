//! Every library of a tree: what the loader reads of it, and the GPU code in it.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use sconce_facts::CudaVersion;

use crate::cubin::{self, Notes};
use crate::dynamic::Dynamic;
use crate::elf::{Elf, Kind as ElfKind, Machine, PT_LOAD};
use crate::fatbin::{Code, Fatbin, Form, Tally};
use crate::finding::{Finding, Kind, Severity};
use crate::read::{Named, OnDisk, ReadAt};
use crate::symbols::Symbols;
use crate::tree::Tree;
use crate::{Error, mentions, names, ptx};

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

/// What to do about a file that is not what it should be.
const AGAIN: &str = "install the package it belongs to again, or make the file readable";

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
    /// Whether [`Library::gpu`] is what stood there for the device linker, and nothing else.
    pub unlinked: bool,
    /// NVIDIA's libraries that it names in its data, to open them when it runs; of libraries with
    /// GPU code.
    pub opens: Vec<String>,
    /// The newest major release of NumPy whose C API it can use; none where it uses none.
    pub numpy: Option<u16>,
    /// The release of the toolkit that made its GPU code, where that says so.
    pub toolkit: Option<CudaVersion>,
    /// Whether it is called like a module of Python and can't be imported as one.
    pub by_name: bool,
    /// Whether it lies on the machine, outside of what is inspected.
    pub outside: bool,
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

    /// An ELF file of which nothing is known but its name and size.
    pub fn unread(path: &str, size: u64, machine: Machine) -> Self {
        Self {
            path: path.to_owned(),
            size,
            machine,
            dynamic: None,
            gpu: Fatbin::default(),
            embedded: Fatbin::default(),
            relocatable: Fatbin::default(),
            unlinked: false,
            opens: Vec::new(),
            numpy: None,
            toolkit: None,
            by_name: false,
            outside: false,
        }
    }

    /// Its bytes: in `tree`, or on the machine.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open(&self, tree: &Tree) -> Result<Arc<dyn ReadAt>, Error> {
        if !self.outside {
            return tree.open(&self.path);
        }
        let path = Path::new(&self.path);
        let error = |source| Error::Open { path: path.to_owned(), source };
        Ok(Arc::new(OnDisk::open(path).map_err(error)?))
    }

    /// Whether there is any GPU code in it.
    pub fn has_gpu_code(&self) -> bool {
        self.fatbins().iter().any(|fatbin| !fatbin.is_empty())
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
    /// Adds what reading one file gave.
    pub(crate) fn take(&mut self, path: &str, result: Result<Option<Library>, Error>) {
        match result {
            Ok(None) => {}
            Ok(Some(library)) => {
                for flaw in library.fatbins().iter().flat_map(|fatbin| &fatbin.flaws) {
                    let severity = if flaw.lost { Severity::Error } else { Severity::Warning };
                    let finding = Finding::new(severity, Kind::BadBytes, path, flaw.what.clone())
                        .at(flaw.offset)
                        .gpu(flaw.lost);
                    self.findings.push(if flaw.lost { finding.fix(AGAIN) } else { finding });
                }
                self.libraries.push(library);
            }
            Err(error) => {
                let text = error.to_string();
                let message = text.strip_prefix(&format!("{path}: ")).unwrap_or(&text);
                let kind = match error {
                    Error::Open { .. } | Error::Read { .. } => Kind::Unreadable,
                    _ => Kind::BadBytes,
                };
                let mut finding = Finding::new(Severity::Error, kind, path, message);
                finding.offset = error.offset();
                finding.fix = error.hint().or_else(|| Some(AGAIN.to_owned()));
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
    let mut library = Library::unread(path, file.size(), Machine::Cuda);
    if head.starts_with(&crate::fatbin::MAGIC.to_le_bytes()) {
        library.gpu.walk(file, 0, file.size())?;
        library.gpu.settle(file);
        return Ok(Some(library));
    }
    if !Elf::sniff(&head) {
        return Ok(ptx::is_named(path).then(|| ptx::read(file)).transpose()?.flatten().map(
            |gpu| {
                library.gpu = gpu;
                library
            },
        ));
    }
    let elf = Elf::parse(file)?;
    library.machine = elf.machine;
    if elf.machine == Machine::Cuda {
        let target = cubin::target(file, &elf, head[8]);
        let code = Code { form: Form::Cubin, target };
        if !elf.has_kernel() {
            return Ok(Some(library));
        }
        library.gpu = Fatbin::single(code, file.size(), None);
        library.toolkit = Notes::read(file, &elf).toolkit;
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
        library.gpu.forgive();
    }
    library.gpu.settle(file);
    library.embedded.settle(file);
    if library.gpu.is_empty() && !library.relocatable.is_empty() {
        std::mem::swap(&mut library.gpu, &mut library.relocatable);
        library.unlinked = true;
    }
    if dynamic && library.has_gpu_code() {
        library.toolkit = library.gpu.toolkit(file);
        library.opens = mentions::names(file, &elf)?;
    } else if dynamic && opens_parts(&library) {
        library.opens = mentions::names(file, &elf)?;
    }
    if dynamic && names::has_tag(library.name()) {
        library.by_name = library.dynamic.as_ref().is_some_and(|own| !is_imported(file, own));
    }
    if dynamic && names::may_use_numpy(library.name()) {
        library.numpy = mentions::numpy(file, &elf)?;
    }
    Ok(Some(library))
}

/// Whether this is a library of NVIDIA's without GPU code that may open others all the same, and no row says which.
fn opens_parts(library: &Library) -> bool {
    names::is_of_nvidia(library.soname()) && names::plugins(library.soname()).is_none()
}

/// Whether Python may import it: it has the function that Python asks for. So does one whose symbols can't be read, which
/// may have it.
fn is_imported(file: Named<'_>, dynamic: &Dynamic) -> bool {
    let Ok(symbols) = Symbols::read(file, dynamic) else { return true };
    let is_hook = |name: &str| names::HOOKS.iter().any(|hook| name.starts_with(hook));
    let mut offered = symbols.offered().peekable();
    offered.peek().is_none() || offered.any(is_hook)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forge::{self, cubin_file, packed};

    const NOTE: &str = "ptxas\0Cuda compilation tools, release 12.8, V12.8.93\0-arch sm_100a ";

    fn codes(bytes: Vec<u8>) -> String {
        let library = library("lib", &bytes).unwrap().unwrap();
        let codes: Vec<_> = library.codes().map(|(code, _)| code.to_string()).collect();
        let toolkit = library.toolkit.map_or(String::new(), |toolkit| format!(" by {toolkit}"));
        codes.join(" ") + &toolkit
    }

    #[test]
    fn a_bare_cubin_keeps_its_suffix() {
        let kernel = [".text.k", ".note.nv.tkinfo"];
        assert_eq!(codes(cubin_file(&kernel, NOTE, 8, 0x6006402)), "sm_100a by 12.8");
        assert_eq!(codes(cubin_file(&[".text.k"], "", 8, 0x6006402)), "sm_100");
        assert_eq!(codes(cubin_file(&[".text.k"], "", 8, 0x600640a)), "sm_100a");
        assert_eq!(codes(cubin_file(&[".text.k"], "", 7, 0x5a0d5a)), "sm_90a");
        assert_eq!(codes(cubin_file(&[".text.k"], "", 7, 0x5a055a)), "sm_90");
    }

    #[test]
    fn cubins_without_a_kernel_are_seen_through_any_packing() {
        let hollow = cubin_file(&[".nv.info", ".data"], "", 7, 90);
        let full = cubin_file(
            &[".nv.info", ".text.kernel", ".note.nv.tkinfo", ".x", ".y", ".z", ".u", ".v", ".w"],
            NOTE,
            8,
            90,
        );
        for flags in [0, 0x2000, 0x8000] {
            let library = |cubins: &[Vec<u8>]| {
                codes(forge::Library::new("lib").code(&[packed(cubins, flags)]).build())
            };
            assert_eq!(library(std::slice::from_ref(&hollow)), "", "{flags:x}");
            assert_eq!(codes(packed(std::slice::from_ref(&hollow), flags)), "", "{flags:x}");
            assert_eq!(library(&[hollow.clone(), hollow.clone()]), "", "{flags:x}");
            assert_eq!(library(&[hollow.clone(), full.clone()]), "sm_90 by 12.8", "{flags:x}");
        }
    }
}
