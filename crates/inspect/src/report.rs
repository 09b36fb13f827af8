//! Everything about one environment, as JSON (`docs/format/inspect.md`) and for the questions of
//! `--for` and `--driver`.

use sconce_facts::Capability;
use serde::Serialize;

use crate::drivers::{self, Drivers};
use crate::elf::Machine;
use crate::fatbin::{Code, Fatbin, Flaw, Tally};
use crate::files;
use crate::finding::{Finding, Kind, Severity};
use crate::loader::Loader;
use crate::names;
use crate::outside::{self, Host, Outside};
use crate::packages::{self, Contents};
use crate::scan::{self, Library};
use crate::tree::Tree;
use crate::verdict::{self, Verdict};
use crate::weight::{self, Weight};
use crate::{
    beside, checks, closure, compilers, elsewhere, libcuda, numpy, pythons, recorded, requirements,
    variants,
};

/// The version of the JSON document; it grows when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// What to look at, and how.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Threads; 0 takes as many as there are processors.
    pub threads: usize,
    /// `LD_LIBRARY_PATH` as the image or the caller sets it.
    pub library_path: Option<String>,
    /// The machine that it runs on itself (a folder, a virtual environment): LD_LIBRARY_PATH may name the machine's
    /// folders, the machine's own value holds if `library_path` has none, and what it lacks comes from the machine's
    /// libraries, if it has no C library of its own.
    pub host: Option<Host>,
    /// GPUs the environment is meant for; the weight of what they don't need is told.
    pub gpus: Vec<Capability>,
    /// It is a part of an environment (one wheel, one library): what it needs may come from
    /// elsewhere, so a library that is not there is only a note.
    pub partial: bool,
    /// It is one file by itself: whether what it needs is there can't be told.
    pub single: bool,
    /// It is a whole system, as an image is: all that it needs but the driver must be in it.
    pub whole: bool,
    /// Leave out the search for copies of files, which reads whole files.
    pub skip_copies: bool,
    /// What the report will rest on.
    pub basis: Basis,
}

/// GPU code of one library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GpuLibrary {
    /// Its path.
    pub path: String,
    /// Its size, bytes.
    pub size: u64,
    /// Containers in it.
    pub containers: u64,
    /// What is in them.
    pub codes: Vec<CodeTally>,
    /// What it keeps as data and loads itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub embedded: Vec<CodeTally>,
    /// Bytes of code for the device linker, which nothing loads.
    pub relocatable_bytes: u64,
    /// What is wrong with them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flaws: Vec<Flaw>,
    /// Whether it is linked with torch, and runs only with it.
    #[serde(skip)]
    pub with_torch: bool,
}

/// A code and how much there is of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CodeTally {
    /// `sm_90a`, `compute_90`, `nvvm_90`.
    pub code: Code,
    /// Entries, bytes and PTX ISA.
    #[serde(flatten)]
    pub tally: Tally,
}

/// Everything about one environment.
#[derive(Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What was inspected, as it was named.
    pub subject: String,
    /// What it rests on.
    pub basis: Basis,
    /// Processor of the libraries.
    pub machine: String,
    /// Packages with native code in a lock whose bytes are not here: nothing is said of them.
    #[serde(skip_serializing_if = "is_zero")]
    pub not_judged: usize,
    /// Whether it is one file by itself.
    #[serde(skip)]
    pub single: bool,
    /// What is in it.
    pub contents: Contents,
    /// Which drivers.
    pub drivers: Drivers,
    /// Which GPUs, oldest first.
    pub gpus: Vec<Verdict>,
    /// GPU code by library.
    pub libraries: Vec<GpuLibrary>,
    /// What is wrong or worth knowing, the worst first.
    pub findings: Vec<Finding>,
    /// What it weighs.
    pub weight: Weight,
    /// Bytes of GPU code that the GPUs it is meant for can't use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_needed_bytes: Option<u64>,
    /// Files opened.
    pub opened: usize,
    /// What it took to read an image in a registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<Moved>,
}

/// What a report rests on.
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// The bytes of what was named.
    #[default]
    Bytes,
    /// The bytes of the image that a lock was built to.
    Image,
    /// The bytes of the wheels that a lock names; the rest of the image is not there yet.
    Wheels,
    /// What is known of the release of torch that a lock names; its bytes are not here.
    Facts,
}

/// What it took to read an image in a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Bytes that came over the network, documents included.
    pub bytes: u64,
    /// Bytes of all its layers.
    pub of: u64,
    /// Layers that were here already.
    pub layers_here: usize,
    /// All its layers.
    pub layers: usize,
}

/// Of all wheels of a lock: a library that only another wheel would bring, torch's or NVIDIA's, is nowhere.
fn lacks(basis: Basis, finding: &Finding) -> bool {
    let of_wheels = |name: &str| names::is_of_torch(name) || names::is_of_nvidia(name);
    basis == Basis::Wheels && finding.kind == Kind::LibraryMissing && of_wheels(&finding.subject)
}

/// Whether a private copy of a library lacks parts of itself: nothing beside it brings them.
fn is_of_copy(finding: &Finding) -> bool {
    let name = finding.subject.rsplit('/').next().unwrap_or(&finding.subject);
    finding.kind == Kind::PluginMissing
        && names::unmangled(name) != name
        && names::is_of_nvidia(name)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Inspects `tree`, called `subject`. `progress` is told how many files are done, out of how many.
pub fn inspect(
    subject: &str,
    tree: &Tree,
    options: &Options,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Report {
    let mut scan = scan::scan(tree, options.threads, progress);
    let mut findings = std::mem::take(&mut scan.findings);
    let is_test =
        |library: &Library| library.machine == Machine::Cuda && names::is_of_tests(&library.path);
    scan.libraries.retain(|library| !is_test(library));
    findings.extend(tree.troubles().iter().map(|trouble| checks::unreadable(tree, trouble)));
    let contents = packages::contents(tree, &scan);
    let library_path = library_path(options, &scan).map(|path| tree.own_folders(&path));
    let mut from_host = Outside::default();
    if let Some(host) = &options.host {
        let path = library_path.as_deref().unwrap_or("");
        from_host = outside::read(tree, &mut scan, path, host);
        findings.append(&mut from_host.findings);
        findings.append(&mut scan.findings);
    }
    let mut loader =
        Loader::new(tree, &scan, library_path.as_deref(), from_host.cache, options.whole);
    findings.append(&mut loader.findings);
    let closure = closure::check(tree, &loader, &contents);
    let (libcuda, stub) = libcuda::check(&loader, &closure);
    findings.extend(stub);
    if options.whole {
        findings.extend(closure::interpreter(tree, &loader, &contents));
    }
    let judged = requirements::Judged::new(&contents, &scan.libraries, loader.machine().name());
    findings.extend(recorded::check(tree, &contents, &judged, &scan.libraries, &findings));
    if !options.partial {
        findings.extend(requirements::check(tree, &contents, &judged));
    }
    findings.extend(closure.findings.into_iter().map(|finding| match finding.kind {
        Kind::LibraryMissing | Kind::LibraryUnreachable | Kind::PluginMissing
            if options.partial && !is_of_copy(&finding) && !lacks(options.basis, &finding) =>
        {
            Finding { severity: Severity::Note, gpu: false, undecided: false, ..finding }
        }
        _ => finding,
    }));
    let whole = loader.is_whole();
    let processor = loader.machine();
    // GPU code in files of its own is for no processor.
    let bare = |library: &Library| library.machine == Machine::Cuda;
    let machine = match !scan.libraries.is_empty() && scan.libraries.iter().all(bare) {
        true => Machine::Cuda,
        false => processor,
    };
    let machine = machine.name().to_owned();
    let mut number = 0..;
    scan.libraries.retain(|library| {
        let at = number.next().unwrap_or(usize::MAX);
        !library.outside || closure.outside.contains(&at)
    });
    findings.extend(checks::of_host(&scan.libraries));
    findings.extend(pythons::check(&scan.libraries, processor, &contents));
    findings.extend(pythons::absent(tree, &contents).filter(|_| options.whole));
    findings.extend(elsewhere::check(tree, subject, options.host.as_ref(), &contents));
    let drivers = Drivers { libcuda, ..drivers::of(tree, &scan.libraries, &contents) };
    let floor = drivers.floor.as_deref().and_then(|text| text.parse().ok());
    let cuda = contents.torch.as_ref().and_then(|torch| torch.cuda.as_deref());
    let gpus = verdict::verdicts(&scan, &machine, floor.as_ref(), cuda);
    findings.extend(checks::contents(&contents));
    findings.extend(files::check(tree, options, &contents));
    findings.extend(beside::check(tree, whole, &contents, &scan.libraries));
    findings.extend(checks::drivers(&drivers, &scan.libraries));
    findings.extend(checks::compiler(tree, whole, &contents));
    findings.extend(checks::gaps(&gpus));
    findings.extend(compilers::findings(&contents, &gpus));
    findings.extend(numpy::check(&contents, &scan.libraries));
    findings.extend(variants::check(tree, &contents, &scan.libraries));
    findings.sort_by(|a, b| {
        (a.severity, a.kind, &a.subject, a.offset).cmp(&(b.severity, b.kind, &b.subject, b.offset))
    });
    findings.dedup();
    let weight = weight::weigh(tree, &scan, &contents.packages, !options.skip_copies);
    Report {
        schema: SCHEMA,
        subject: subject.to_owned(),
        basis: options.basis,
        not_judged: 0,
        single: options.single,
        machine,
        drivers,
        gpus,
        not_needed_bytes: (!options.gpus.is_empty())
            .then(|| weight::not_needed(&scan, &options.gpus)),
        libraries: scan
            .libraries
            .iter()
            .filter(|library| library.has_gpu_code())
            .map(gpu_library)
            .collect(),
        opened: scan.opened,
        moved: None,
        contents,
        findings,
        weight,
    }
}

/// The LD_LIBRARY_PATH that holds: the one that was given, else the machine's own for what has no C
/// library of its own.
fn library_path(options: &Options, scan: &scan::Scan) -> Option<String> {
    let whole = scan.libraries.iter().any(|library| library.soname() == "libc.so.6");
    let hosts = options.host.as_ref().map(|host| &host.library_path);
    let hosts = hosts.filter(|path| !whole && !path.is_empty());
    options.library_path.as_ref().or(hosts).cloned()
}

fn gpu_library(library: &Library) -> GpuLibrary {
    GpuLibrary {
        path: library.path.clone(),
        size: library.size,
        containers: library.gpu.containers,
        codes: tallies(&library.gpu),
        embedded: tallies(&library.embedded),
        relocatable_bytes: library.relocatable.bytes(),
        flaws: library.gpu.flaws.clone(),
        with_torch: library
            .dynamic
            .iter()
            .flat_map(|dynamic| &dynamic.needed)
            .any(|name| names::is_of_torch(name)),
    }
}

fn tallies(fatbin: &Fatbin) -> Vec<CodeTally> {
    fatbin.codes.iter().map(|(code, tally)| CodeTally { code: *code, tally: *tally }).collect()
}
