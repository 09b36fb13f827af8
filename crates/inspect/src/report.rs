//! Everything about one environment, as JSON (`docs/format/inspect.md`) and for the questions of
//! `--for` and `--driver`.

use sconce_facts::{Capability, CudaVersion, Floor};
use serde::Serialize;

use crate::closure;
use crate::fatbin::{Code, Fatbin, Flaw, Tally};
use crate::finding::{Finding, Kind, Severity};
use crate::loader::Loader;
use crate::names;
use crate::packages::{self, Contents};
use crate::scan::{self, Library};
use crate::tree::Tree;
use crate::verdict::{self, Outcome, Verdict};
use crate::weight::{self, Weight};

/// The version of the JSON document; it grows when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// What to look at, and how.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Threads; 0 takes as many as there are processors.
    pub threads: usize,
    /// `LD_LIBRARY_PATH` as the image or the caller sets it.
    pub library_path: Option<String>,
    /// GPUs the environment is meant for; the weight of what they don't need is told.
    pub gpus: Vec<Capability>,
    /// It is a part of an environment (one wheel, one library): what it needs may come from
    /// elsewhere, so a library that is not there is only a note.
    pub partial: bool,
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

/// Which drivers it runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Drivers {
    /// The CUDA it uses: torch's own word, else the SONAME of its CUDA runtime.
    pub cuda: Option<String>,
    /// Its major version.
    pub cuda_major: Option<u16>,
    /// The lowest driver any code for this CUDA major starts on.
    pub floor: Option<String>,
    /// The newest PTX ISA in any library, which a driver must know to compile it.
    pub newest_ptx: Option<(u16, u16)>,
    /// The first driver that knows it.
    pub newest_ptx_driver: Option<String>,
    /// Directories with libraries for forward compatibility.
    pub compat: Vec<String>,
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

/// Inspects `tree`, called `subject`. `progress` is told how many files are done, out of how many.
pub fn inspect(
    subject: &str,
    tree: &Tree,
    options: &Options,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Report {
    let mut scan = scan::scan(tree, options.threads, progress);
    let mut findings = std::mem::take(&mut scan.findings);
    let contents = packages::contents(tree, &scan);
    let mut loader = Loader::new(tree, &scan, options.library_path.as_deref());
    findings.append(&mut loader.findings);
    let closure = closure::check(tree, &loader);
    findings.extend(closure.findings.into_iter().map(|finding| match finding.kind {
        Kind::LibraryMissing | Kind::LibraryUnreachable | Kind::PluginMissing
            if options.partial =>
        {
            Finding { severity: Severity::Note, ..finding }
        }
        _ => finding,
    }));
    let drivers = drivers(tree, &scan.libraries, &contents);
    let floor = drivers.floor.as_deref().and_then(|text| text.parse().ok());
    let gpus = verdict::verdicts(&scan, floor.as_ref());
    findings.extend(contents_findings(&contents));
    findings.extend(driver_findings(&drivers, &scan.libraries));
    findings.extend(compiler(tree, loader.is_whole(), &contents));
    findings.extend(gap_findings(&gpus));
    findings.sort_by(|a, b| {
        (a.severity, a.kind, &a.subject, a.offset).cmp(&(b.severity, b.kind, &b.subject, b.offset))
    });
    findings.dedup();
    let weight = weight::weigh(tree, &scan, &contents.packages, !options.skip_copies);
    Report {
        schema: SCHEMA,
        subject: subject.to_owned(),
        basis: options.basis,
        machine: loader.machine().name().to_owned(),
        drivers,
        gpus,
        not_needed_bytes: (!options.gpus.is_empty())
            .then(|| weight::not_needed(&scan, &options.gpus)),
        libraries: scan
            .libraries
            .iter()
            .filter(|library| library.fatbins().iter().any(|fatbin| !fatbin.is_empty()))
            .map(gpu_library)
            .collect(),
        opened: scan.opened,
        moved: None,
        contents,
        findings,
        weight,
    }
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
    }
}

fn tallies(fatbin: &Fatbin) -> Vec<CodeTally> {
    fatbin.codes.iter().map(|(code, tally)| CodeTally { code: *code, tally: *tally }).collect()
}

fn drivers(tree: &Tree, libraries: &[Library], contents: &Contents) -> Drivers {
    let runtime = libraries
        .iter()
        .filter_map(|library| library.soname().strip_prefix("libcudart.so."))
        .filter_map(|version| version.split('.').next()?.parse::<u16>().ok())
        .max();
    let cuda = contents.torch.as_ref().and_then(|torch| torch.cuda.clone());
    let built: Option<CudaVersion> = cuda.as_deref().and_then(|text| text.parse().ok());
    let major = built.map(|cuda| cuda.major).or(runtime);
    let newest_ptx =
        libraries.iter().flat_map(Library::codes).filter_map(|(_, tally)| tally.ptx_isa).max();
    let mut compat: Vec<String> = tree
        .files()
        .filter(|(path, _)| path.contains("/compat/") && path.contains("/libcuda.so"))
        .filter_map(|(path, _)| path.rsplit_once('/'))
        .map(|(folder, _)| folder.to_owned())
        .collect();
    compat.dedup();
    Drivers {
        cuda: cuda.or_else(|| runtime.map(|major| major.to_string())),
        cuda_major: major,
        floor: major
            .and_then(sconce_facts::floor)
            .map(|Floor { driver, .. }| driver.as_str().to_owned()),
        newest_ptx,
        newest_ptx_driver: newest_ptx
            .and_then(names::ptx_driver)
            .map(|driver| driver.as_str().to_owned()),
        compat,
    }
}

/// What the packages say of each other and of torch.
fn contents_findings(contents: &Contents) -> Vec<Finding> {
    let mut out = Vec::new();
    let Some(torch) = &contents.torch else { return out };
    if torch.cuda.is_none() {
        out.push(
            Finding::new(
                Severity::Warning,
                Kind::CpuOnlyTorch,
                torch.path.clone(),
                format!("torch {} is a CPU-only build: it will not use any GPU", torch.version),
            )
            .evidence(["torch/version.py: cuda = None"])
            .fix("install a CUDA build of torch"),
        );
    }
    let Some(package) = contents.packages.iter().find(|package| package.name == "torch") else {
        return out;
    };
    for requirement in &package.requires {
        let (requirement, marker) = requirement.split_once(';').unwrap_or((requirement, ""));
        // Pins only; a range is the resolver's business. `extra == ...` was not asked for.
        let Some((name, version)) = requirement.split_once("==") else { continue };
        if version.contains('*') || version.contains(',') || marker.contains("extra") {
            continue;
        }
        let name = packages::normalise(name.split('[').next().unwrap_or(name).trim());
        let wanted = version.trim().trim_end_matches(')');
        match contents.packages.iter().find(|package| package.name == name) {
            Some(there) if !same_version(&there.version, wanted) => out.push(
                Finding::new(
                    Severity::Warning,
                    Kind::VersionMismatch,
                    name.clone(),
                    format!(
                        "torch {} was built for {name} {wanted}; {} is installed",
                        torch.version, there.version
                    ),
                )
                .evidence([format!(
                    "{}/METADATA: Requires-Dist: {}",
                    package.metadata,
                    requirement.trim()
                )])
                .fix(format!("install {name}=={wanted}")),
            ),
            Some(_) | None => {}
        }
    }
    out
}

/// PEP 440 equality of plain versions: `13.0.3` is `13.0.3.0`, a local part does not count unless
/// both have one.
fn same_version(a: &str, b: &str) -> bool {
    let public = |text: &str| text.split('+').next().unwrap_or(text).to_owned();
    let (a, b) = if a.contains('+') && b.contains('+') {
        (a.to_owned(), b.to_owned())
    } else {
        (public(a), public(b))
    };
    match (packages::numbers(&a), packages::numbers(&b)) {
        (Some(a), Some(b)) => a == b,
        _ => a.eq_ignore_ascii_case(&b),
    }
}

fn driver_findings(drivers: &Drivers, libraries: &[Library]) -> Vec<Finding> {
    let mut out: Vec<Finding> = drivers
        .compat
        .iter()
        .map(|folder| {
            Finding::new(
                Severity::Note,
                Kind::CompatLibrary,
                folder.clone(),
                "holds a libcuda for forward compatibility: error 804 on GPUs that are not for data centres, and it must not win over a newer driver's",
            )
            .fix("keep it out of LD_LIBRARY_PATH and ld.so.conf unless the machine is known")
        })
        .collect();
    for library in libraries {
        let name = library.name();
        let real = name.starts_with("libcuda.so.1") || name.starts_with("libnvidia-ml.so.1");
        if real
            && library.dynamic.is_some()
            && !library.path.contains("/compat/")
            && !library.path.contains("/stubs/")
        {
            out.push(
                Finding::new(
                    Severity::Warning,
                    Kind::DriverLibrary,
                    library.path.clone(),
                    "a library of the driver lies in the environment; it works with exactly one driver",
                )
                .fix("remove it: the machine's own is put into the container"),
            );
        }
    }
    let majors: std::collections::BTreeSet<&str> = libraries
        .iter()
        .filter_map(|library| library.soname().strip_prefix("libcudart.so."))
        .filter_map(|version| version.split('.').next())
        .collect();
    if majors.len() > 1 {
        let majors: Vec<&str> = majors.into_iter().collect();
        out.push(Finding::new(
            Severity::Note,
            Kind::VersionMismatch,
            "libcudart",
            format!("CUDA runtimes of several majors: {}", majors.join(", ")),
        ));
    }
    out
}

/// torch.compile needs a C compiler (and Triton's own libraries) at run time.
fn compiler(tree: &Tree, whole: bool, contents: &Contents) -> Option<Finding> {
    let triton = contents.packages.iter().any(|package| package.name == "triton");
    let compilers = ["usr/bin/cc", "usr/bin/gcc", "usr/bin/clang", "usr/local/bin/gcc"];
    if !whole || !triton || compilers.iter().any(|path| tree.resolve(path).is_some()) {
        return None;
    }
    Some(
        Finding::new(
            Severity::Warning,
            Kind::NoCompiler,
            "triton",
            "there is no C compiler: torch.compile will fail",
        )
        .evidence(compilers)
        .fix("install gcc and libc6-dev in the image"),
    )
}

/// Libraries that leave a GPU out on which the rest runs.
fn gap_findings(gpus: &[Verdict]) -> Vec<Finding> {
    let known = gpus.iter().filter(|verdict| !verdict.gpus.is_empty());
    let partial = known.filter(|verdict| verdict.outcome == Outcome::Partial);
    partial
        .flat_map(|verdict| verdict.gaps.iter().map(move |gap| (verdict, gap)))
        .map(|(verdict, gap)| {
            let has: Vec<String> = gap.has.iter().map(ToString::to_string).collect();
            let what = if gap.served == 0 {
                "has no code".to_owned()
            } else {
                format!("has code in {} of its {} parts only", gap.served, gap.of)
            };
            Finding::new(
                Severity::Warning,
                Kind::NoCode,
                gap.library.clone(),
                format!("{what} for compute capability {}: calls into it fail with `no kernel image is available`", verdict.capability),
            )
            .evidence([format!("has {}", has.join(" "))])
        })
        .collect()
}
