//! What packages ask for by `Requires-Dist` and do not get.
//!
//! Source: PyPA "Core metadata", `Requires-Dist`. A resolver sees to all of it; what is here was installed without one,
//! or removed since. Only what is judged counts: torch, packages with code for GPUs, those that are for one of them (transformers
//! names torch in an extra, jax its plugins), and what all of these ask for.

use std::collections::{BTreeMap, BTreeSet};

use crate::finding::{Finding, Kind, Severity};
use crate::names;
use crate::packages::markers::{Place, Requirement};
use crate::packages::{Contents, Origin, Package, normalise};
use crate::scan::Library;
use crate::tree::Tree;

/// The packages that are judged.
pub struct Judged {
    names: BTreeSet<String>,
    place: Place,
}

impl Judged {
    /// Those of `contents`, on this processor.
    pub fn new(contents: &Contents, libraries: &[Library], machine: &str) -> Self {
        let place = Place { python: contents.python.clone(), machine: machine.to_owned() };
        let decides = |library: &&Library| {
            let needed = library.dynamic.iter().flat_map(|dynamic| &dynamic.needed);
            library.has_gpu_code() || needed.into_iter().any(|name| names::is_of_torch(name))
        };
        let paths: BTreeSet<&str> =
            libraries.iter().filter(decides).map(|library| library.path.as_str()).collect();
        let is_first = |package: &&Package| {
            package.origin == Origin::Python
                && (package.name == "torch"
                    || package.native.iter().any(|path| paths.contains(path.as_str())))
        };
        let mut open: Vec<&Package> = contents.packages.iter().filter(is_first).collect();
        let first: BTreeSet<&str> = open.iter().map(|package| package.name.as_str()).collect();
        let is_for_one = |package: &&Package| {
            let lines = package.requires.iter().filter_map(|line| Requirement::read(line));
            package.origin == Origin::Python
                && !first.contains(package.name.as_str())
                && lines.into_iter().any(|line| first.contains(line.name.as_str()))
        };
        open.extend(contents.packages.iter().filter(is_for_one));
        let mut names: BTreeSet<String> = open.iter().map(|package| package.name.clone()).collect();
        let python = of_python(contents);
        while let Some(package) = open.pop() {
            for requirement in held(package, &place) {
                if names.insert(requirement.name.clone()) {
                    open.extend(python.get(requirement.name.as_str()));
                }
            }
        }
        Self { names, place }
    }

    /// Whether the package of this (normalised) name is one.
    pub fn has(&self, package: &str) -> bool {
        self.names.contains(package)
    }
}

fn held<'a>(package: &'a Package, place: &Place) -> Vec<Requirement<'a>> {
    let all = package.requires.iter().filter_map(|line| Requirement::read(line));
    all.filter(|requirement| !requirement.is_extra() && requirement.holds(place)).collect()
}

/// What is installed, to be asked for by name: thousands of packages each ask for hundreds.
struct Installed<'a> {
    /// Python's packages; of several with one name the first.
    python: BTreeMap<&'a str, &'a Package>,
    /// The names of all, Debian's among them.
    all: BTreeSet<&'a str>,
    /// The names of eggs, and their versions: `x-1.0-py3.12.egg-info/PKG-INFO`, `x-1.0.egg-info`,
    /// `x-1.0-py3.12.egg/EGG-INFO/PKG-INFO`.
    eggs: BTreeMap<String, String>,
}

impl<'a> Installed<'a> {
    fn of(tree: &Tree, contents: &'a Contents) -> Self {
        let python = of_python(contents);
        let all = contents.packages.iter().map(|package| package.name.as_str()).collect();
        let parts = tree.files().filter(|(path, _)| path.contains(".egg"));
        let eggs = parts.flat_map(|(path, _)| path.split('/').filter_map(egg)).collect();
        Self { python, all, eggs }
    }

    fn get(&self, name: &str) -> Option<&'a Package> {
        self.python.get(name).copied()
    }

    /// The version of a package, or of one that brings the same modules.
    fn version(&self, name: &str) -> Option<&str> {
        let others = names::same(name).iter().find_map(|other| self.get(other));
        let package = self.get(name).or(others).map(|package| package.version.as_str());
        package.or_else(|| self.eggs.get(name).map(String::as_str).filter(|own| !own.is_empty()))
    }
}

fn of_python(contents: &Contents) -> BTreeMap<&str, &Package> {
    let packages = contents.packages.iter().rev();
    let packages = packages.filter(|package| package.origin == Origin::Python);
    packages.map(|package| (package.name.as_str(), package)).collect()
}

/// The normalised name of an egg that a part of a path names, and its version, if it has one.
fn egg(part: &str) -> Option<(String, String)> {
    let stem = part.strip_suffix(".egg-info").or_else(|| part.strip_suffix(".egg"))?;
    let mut words = stem.split('-');
    let name = words.next().unwrap_or(stem);
    Some((normalise(name), words.next().unwrap_or_default().to_owned()))
}

/// Requirements of what is judged that nothing meets.
pub fn check(tree: &Tree, contents: &Contents, judged: &Judged) -> Vec<Finding> {
    let mut out = Vec::new();
    let installed = Installed::of(tree, contents);
    let asked = extras_asked_for(contents, judged);
    for package in contents.packages.iter().filter(|package| package.origin == Origin::Python) {
        if judged.has(&package.name) {
            out.extend(unmet(tree, &installed, package, &judged.place));
        }
        if judged.has(&package.name) || !package.native.is_empty() {
            out.extend(of_extras(contents, &installed, package, (&asked, &judged.place)));
        }
    }
    out
}

fn unmet(tree: &Tree, installed: &Installed<'_>, package: &Package, place: &Place) -> Vec<Finding> {
    let mut out = Vec::new();
    for requirement in held(package, place) {
        let Requirement { name, bounds, .. } = &requirement;
        let libraries = names::has_libraries_only(name);
        let Some(there) = installed.version(name) else {
            if libraries || is_there(tree, installed, package, name) {
                continue;
            }
            let imports = names::import(&package.name);
            let stops = imports.is_some_and(|row| row.requires.contains(name));
            let severity = if stops { Severity::Error } else { Severity::Warning };
            let message = format!(
                "{} {} asks for {name}{bounds}, which is not installed",
                package.name, package.version
            );
            out.push(finding(severity, package, message, &format!("{name}{bounds}")));
            continue;
        };
        // What torch pins, and who pins torch, is looked at with what is known of torch.
        let pins = bounds.starts_with("==") && (package.name == "torch" || name == "torch");
        if let Some(bound) = requirement.broken_by(there).filter(|_| !pins) {
            let message = format!(
                "{} {} asks for {name}{bound}; {there} is installed",
                package.name, package.version
            );
            out.push(finding(Severity::Warning, package, message, &format!("{name}{bounds}")));
        }
    }
    out
}

/// The extras that what is judged asks for, by package.
fn extras_asked_for(contents: &Contents, judged: &Judged) -> BTreeMap<String, BTreeSet<String>> {
    let mut asked: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in contents.packages.iter().filter(|package| judged.has(&package.name)) {
        for line in held(package, &judged.place).into_iter().filter(|line| !line.extras.is_empty())
        {
            asked.entry(line.name).or_default().extend(line.extras);
        }
    }
    asked
}

/// NVIDIA's libraries that an extra would bring in another version than is there: who brought them does not matter to
/// what is linked with them. A package without code of its own, as cuda-toolkit is, has an extra for each library, and only
/// those that something here asks for count.
fn of_extras(
    contents: &Contents,
    installed: &Installed<'_>,
    package: &Package,
    (asked, place): (&BTreeMap<String, BTreeSet<String>>, &Place),
) -> Vec<Finding> {
    let none = BTreeSet::new();
    let asked = asked.get(&package.name).unwrap_or(&none);
    let asked = package.native.is_empty().then_some(asked);
    let counts = |line: &Requirement<'_>| match (asked, line.of_extra()) {
        (Some(asked), Some(extra)) => asked.contains(&extra),
        _ => true,
    };
    let lines = package.requires.iter().filter_map(|line| Requirement::read(line));
    let lines: Vec<Requirement<'_>> = lines
        .filter(|line| line.is_extra() && line.holds_with_extras(place) && counts(line))
        .filter(|line| names::has_libraries_only(&line.name))
        .collect();
    let asked: BTreeSet<&str> = lines.iter().map(|line| line.name.as_str()).collect();
    let mut out = Vec::new();
    for name in asked {
        let Some(there) = installed.get(name) else { continue };
        // Of several extras any one may be the one that is meant.
        let own = || lines.iter().filter(|line| line.name == name);
        let broken = own().find_map(|line| Some((line.broken_by(&there.version)?, line.bounds)));
        let Some((bound, bounds)) = broken else { continue };
        if own().any(|line| line.broken_by(&there.version).is_none()) {
            continue;
        }
        let message = format!(
            "{} {} is made for {name}{bound}; {} is installed",
            package.name, package.version, there.version
        );
        out.push(
            finding(Severity::Warning, package, message, &format!("{name}{bounds}"))
                .undecided(contents.torch.is_none()),
        );
    }
    out
}

fn finding(severity: Severity, package: &Package, message: String, wanted: &str) -> Finding {
    Finding::new(severity, Kind::Requirement, package.name.clone(), message)
        .evidence([format!("{}/METADATA: Requires-Dist", package.metadata)])
        .fix(format!("install '{wanted}'"))
        .gpu(true)
}

/// Whether a package of this name is there without metadata that is read: an egg, one of Debian's, or its module alone.
fn is_there(tree: &Tree, installed: &Installed<'_>, package: &Package, name: &str) -> bool {
    let site = package.metadata.rsplit_once('/').map_or("", |(folder, _)| folder);
    let module = name.replace('-', "_");
    let own = [format!("{site}/{module}.py"), format!("{site}/{module}/__init__.py")];
    own.iter().any(|path| tree.resolve(path.trim_start_matches('/')).is_some())
        || installed.all.contains(format!("python3-{name}").as_str())
        || installed.eggs.contains_key(&normalise(name))
}
