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
                .fix(fix)
                // A module for another minor release of torch may load and still take its objects for others.
                .gpu(!of_torch && minor(&there.version) != minor(wanted)),
            );
        }
    }
    out
}

/// Files that a package needs when it works.
pub fn files(tree: &Tree, contents: &Contents) -> Vec<Finding> {
    let mut out = Vec::new();
    for row in names::files() {
        let installed = contents.packages.iter().filter(|package| package.name == row.package);
        for package in installed {
            let site = package.metadata.rsplit_once('/').map_or("", |(folder, _)| folder);
            let there = |path: &String| match path.strip_prefix('/') {
                Some(path) => tree.resolve(path).is_some(),
                None => tree.resolve(&format!("{site}/{path}")).is_some(),
            };
            // A wheel's metadata alone says nothing about its files.
            if package.files == 0 || row.one_of.iter().any(there) {
                continue;
            }
            let name = row.one_of.first().and_then(|path| path.rsplit('/').next()).unwrap_or("");
            out.push(
                Finding::new(
                    Severity::Warning,
                    Kind::FileMissing,
                    package.name.clone(),
                    format!("{} {} has no {name}", package.name, package.version),
                )
                .evidence([format!("seen as: {}", row.fails)])
                .fix(row.fix.clone().unwrap_or_else(|| {
                    format!("install {}=={} again", package.name, package.version)
                }))
                .gpu(true),
            );
        }
    }
    out
}

/// Libraries of the machine that are loaded, but those that every machine has.
pub fn of_host(libraries: &[Library]) -> Option<Finding> {
    let outside = libraries.iter().filter(|library| library.outside);
    let paths: Vec<&str> = outside
        .filter(|library| !names::from_system(library.soname()))
        .map(|library| library.path.as_str())
        .collect();
    let first = *paths.first()?;
    let message = match paths.len() {
        1 => "is this machine's".to_owned(),
        count => format!("and {} more libraries are this machine's", count - 1),
    };
    let all = paths.iter().take(MAX_EVIDENCE).copied();
    Some(Finding::new(Severity::Note, Kind::HostLibrary, first, message).evidence(all))
}

/// Modules that are for another Python than the one in whose folder they lie, and that no other build stands in for:
/// Python looks for its own tag, for `.abi3.so` and for `.so` (PEP 3149).
pub fn pythons(libraries: &[Library]) -> Vec<Finding> {
    let names: BTreeSet<&str> = libraries.iter().map(|library| library.path.as_str()).collect();
    let mut of_folder: BTreeMap<&str, (&str, String, String)> = BTreeMap::new();
    for library in libraries.iter().filter(|library| !library.outside) {
        let Some((stem, rest)) = library.path.split_once(".cpython-") else { continue };
        let Some(own) = python_of(&library.path) else { continue };
        let tag = rest.split(['-', '.']).next().unwrap_or("").trim_end_matches('m');
        if !tag.starts_with('3') || !tag.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            continue;
        }
        let prefix = format!("{stem}.cpython-{own}");
        let after = names.range(prefix.as_str()..).next();
        let stands_in = after.is_some_and(|name| name.starts_with(&prefix))
            || names.contains(format!("{stem}.abi3.so").as_str())
            || names.contains(format!("{stem}.so").as_str());
        if tag != own && !stands_in {
            let folder = stem.rsplit_once('/').map_or("", |(folder, _)| folder);
            of_folder.entry(folder).or_insert((&library.path, tag.to_owned(), own));
        }
    }
    let finding = |(path, tag, own): (&str, String, String)| {
        let message = format!(
            "is for Python {}, and lies in a folder of Python {}: it can't be imported",
            dotted(&tag),
            dotted(&own)
        );
        Finding::new(Severity::Warning, Kind::WrongMachine, path, message)
            .fix(format!("install its package for Python {}", dotted(&own)))
            .gpu(true)
    };
    of_folder.into_values().map(finding).collect()
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

/// A file or folder that could not be looked at.
pub fn unreadable(trouble: &Trouble) -> Finding {
    Finding::new(Severity::Warning, Kind::Unreadable, trouble.path.clone(), trouble.why.clone())
        .fix("let this user read it, and inspect again")
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
