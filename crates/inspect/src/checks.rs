//! What can be said of an environment as a whole, one check each.

use std::collections::{BTreeMap, BTreeSet};

use crate::drivers::Drivers;
use crate::finding::{Finding, Kind, Severity};
use crate::names;
use crate::packages::{self, Contents, Package};
use crate::scan::Library;
use crate::tree::{Tree, Trouble};
use crate::verdict::{Outcome, Verdict};

/// Paths named in one finding.
const MAX_EVIDENCE: usize = 6;

/// What the packages say of each other and of torch.
pub fn contents(contents: &Contents) -> Vec<Finding> {
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
            .fix("install a CUDA build of torch")
            .gpu(true),
        );
    }
    let mut by_name: BTreeMap<&str, &Package> = BTreeMap::new();
    for package in &contents.packages {
        by_name.entry(&package.name).or_insert(package);
    }
    for package in &contents.packages {
        let of_torch = package.name == "torch";
        let mut told: BTreeSet<String> = BTreeSet::new();
        for (name, wanted) in package.requires.iter().filter_map(|line| packages::pin(line)) {
            // torch's own pins, and what others pin of torch; the rest is the resolver's business.
            if !of_torch && name != "torch" {
                continue;
            }
            let there = by_name.get(name.as_str());
            let Some(there) = there.filter(|there| !same_version(&there.version, wanted)) else {
                continue;
            };
            // One that pins it twice is told of once.
            if !told.insert(name.clone()) {
                continue;
            }
            let (subject, fix) = match of_torch {
                true => (name.clone(), format!("install {name}=={wanted}")),
                false => (
                    package.name.clone(),
                    format!(
                        "install the {} that was built for torch {}",
                        package.name, there.version
                    ),
                ),
            };
            let built = match of_torch {
                true => torch.version.as_str(),
                false => package.version.as_str(),
            };
            let numbers = |version: &str| packages::release(version).map(first_two);
            let (has, needs) = (numbers(&there.version), numbers(wanted));
            let refused = names::checked(&name)
                .filter(|row| of_torch && (has < needs || row.newer && has != needs));
            out.push(
                Finding::new(
                    Severity::Warning,
                    Kind::VersionMismatch,
                    subject,
                    format!(
                        "{} {built} was built for {name} {wanted}; {} is installed",
                        package.name, there.version
                    ),
                )
                .evidence([format!(
                    "{}/METADATA: Requires-Dist: {name}=={wanted}",
                    package.metadata
                )])
                .evidence(refused.map(|row| format!("seen as: {}", row.fails)))
                .fix(fix)
                // A module for another minor release of torch may load and still take its objects for others.
                .gpu(match refused {
                    Some(_) => true,
                    None => !of_torch && minor(&there.version) != minor(wanted),
                }),
            );
        }
    }
    out
}

/// Libraries of the machine that are loaded, but those that every machine has.
pub fn of_host(libraries: &[Library]) -> Option<Finding> {
    if !libraries.iter().any(|library| library.outside) {
        return None;
    }
    let is_program = |library: &Library| {
        library.dynamic.as_ref().is_some_and(|dynamic| dynamic.interpreter.is_some())
    };
    let outside = libraries.iter().filter(|library| library.outside && !is_program(library));
    let that_matter = needed_for_gpus(libraries);
    let mut taken: Vec<(bool, &str)> = outside
        .filter(|library| !names::from_system(library.soname()))
        .map(|library| (!that_matter.contains(library.soname()), library.path.as_str()))
        .collect();
    taken.sort_unstable();
    let paths: Vec<&str> = taken.iter().map(|(_, path)| *path).collect();
    let (spare, first) = *taken.first()?;
    let message = match paths.len() {
        1 => "is this machine's".to_owned(),
        count => format!("and {} more libraries are this machine's", count - 1),
    };
    let all = paths.iter().take(MAX_EVIDENCE).copied();
    Some(Finding::new(Severity::Note, Kind::HostLibrary, first, message).evidence(all).gpu(!spare))
}

fn needed(library: &Library) -> impl Iterator<Item = &str> {
    library.dynamic.iter().flat_map(|dynamic| &dynamic.needed).map(String::as_str)
}

/// The SONAMEs that torch, code for GPUs and what is built for torch need, at first or second hand: without those of
/// the machine the answer would be another.
fn needed_for_gpus(libraries: &[Library]) -> BTreeSet<&str> {
    let mut by_name: BTreeMap<&str, Vec<&Library>> = BTreeMap::new();
    for library in libraries {
        by_name.entry(library.soname()).or_default().push(library);
    }
    let matters = |library: &&Library| {
        library.has_gpu_code()
            || names::is_of_torch(library.name())
            || names::alternative(library.name()).is_some()
            || needed(library).any(names::is_of_torch)
    };
    let mut open: Vec<&Library> = libraries.iter().filter(matters).collect();
    let mut seen = BTreeSet::new();
    while let Some(library) = open.pop() {
        for name in needed(library).filter(|name| seen.insert(*name)) {
            open.extend(by_name.get(name).into_iter().flatten());
        }
    }
    seen
}

/// Folders of a whole system in which no libraries lie that a program needs.
///
/// Source: Filesystem Hierarchy Standard 3.0, chapter 3.
const BESIDE: [&str; 14] = [
    "boot",
    "dev",
    "etc",
    "home",
    "lost+found",
    "media",
    "mnt",
    "proc",
    "root",
    "run",
    "srv",
    "sys",
    "tmp",
    "var",
];

/// A file or folder that could not be looked at. Libraries that decide may lie in it, unless it is a folder of a system
/// that has none.
pub fn unreadable(tree: &Tree, trouble: &Trouble) -> Finding {
    let first = trouble.path.split('/').next().unwrap_or("");
    let packages = trouble.path.split('/').any(|part| part.ends_with("-packages"));
    let spare = !packages && BESIDE.contains(&first) && tree.is_directory("usr");
    let severity = if spare { Severity::Warning } else { Severity::Error };
    Finding::new(severity, Kind::Unreadable, trouble.path.clone(), trouble.why.clone())
        .fix(trouble.fix)
        .gpu(!spare)
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

/// Libraries of the driver that lie in the environment, and CUDA runtimes of several majors.
pub fn drivers(drivers: &Drivers, libraries: &[Library]) -> Vec<Finding> {
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
    let majors: BTreeSet<String> = libraries
        .iter()
        .map(|library| names::unmangled(library.soname()).into_owned())
        .filter_map(|soname| {
            Some(soname.strip_prefix("libcudart.so.")?.split('.').next()?.to_owned())
        })
        .collect();
    if majors.len() > 1 {
        let majors: Vec<String> = majors.into_iter().collect();
        out.push(Finding::new(
            Severity::Note,
            Kind::VersionMismatch,
            "libcudart",
            format!("CUDA runtimes of several majors: {}", majors.join(", ")),
        ));
    }
    out
}

/// The major and minor number.
fn first_two(mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.truncate(2);
    numbers
}

/// `2.5` of `2.5.1+cu124`.
fn minor(version: &str) -> Vec<&str> {
    version.split(['.', '+']).take(2).collect()
}

/// torch.compile needs a C compiler (and Triton's own libraries) at run time.
pub fn compiler(tree: &Tree, whole: bool, contents: &Contents) -> Option<Finding> {
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
pub fn gaps(gpus: &[Verdict]) -> Vec<Finding> {
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
