//! Files that a package says it has and that are gone, and libraries that are not what their name says.
//!
//! Source: PyPA "Recording installed projects": RECORD lists every file of a package. Python finds no module that is gone;
//! what a library needs and does not find is told of by [`crate::closure`].

use std::collections::BTreeSet;

use crate::finding::{Finding, Kind, Severity};
use crate::loads::below_site;
use crate::names;
use crate::packages::{self, Contents, Origin, Package};
use crate::requirements::Judged;
use crate::scan::Library;
use crate::tree::Tree;

/// Paths named in one finding.
const MAX_EVIDENCE: usize = 6;
/// How a text begins that a linker reads in place of a library (ld(1), "Commands").
const LINKER_SCRIPTS: [&str; 4] = ["/* GNU ld script", "INPUT", "GROUP", "OUTPUT_FORMAT"];
/// Of a file that is not a library so much is read, bytes.
const MAX_SCRIPT: u64 = 4 << 10;

/// What is wrong with a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wrong {
    Gone,
    NoLibrary,
}

impl Wrong {
    const fn words(self) -> &'static str {
        match self {
            Self::Gone => "is gone",
            Self::NoLibrary => "is not a library",
        }
    }
}

/// How much it matters that a file is not what it should be; what matters most first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Matters {
    /// Nothing of it works.
    Stops,
    /// Whether something of it works is not known.
    Undecided,
    /// A part of it fails.
    Part,
}

/// What stands in all findings of this file.
struct Files<'a> {
    tree: &'a Tree,
    contents: &'a Contents,
    judged: &'a Judged,
    /// Libraries that were read.
    known: BTreeSet<&'a str>,
    /// Files of which something is said already.
    told: BTreeSet<&'a str>,
}

/// One finding for each package; `findings` are those on files that could not be read.
pub fn check(
    tree: &Tree,
    contents: &Contents,
    judged: &Judged,
    libraries: &[Library],
    findings: &[Finding],
) -> Vec<Finding> {
    // Of a tree that was not read to its end nobody knows what is gone.
    if tree.is_cut() {
        return Vec::new();
    }
    let files = Files {
        tree,
        contents,
        judged,
        known: libraries.iter().map(|library| library.path.as_str()).collect(),
        told: findings.iter().map(|finding| finding.subject.as_str()).collect(),
    };
    let mut listed: BTreeSet<String> = BTreeSet::new();
    let mut out = Vec::new();
    let installed =
        |package: &&Package| package.origin == Origin::Python && !is_vendored(&package.metadata);
    for package in contents.packages.iter().filter(installed) {
        let mut wrong = Vec::new();
        for path in packages::recorded(tree, &package.metadata) {
            let Some(what) = files.wrong(&path) else { continue };
            listed.insert(path.clone());
            if let Some(matters) = files.matters(package, &path) {
                wrong.push((matters, what, path));
            }
        }
        out.extend(finding(package, wrong));
    }
    out.extend(files.of_nobody(&listed));
    out
}

/// Whether a package is a copy within another one, whose maker took of it what is used: setuptools/_vendor has wheel without its program.
fn is_vendored(metadata: &str) -> bool {
    let below = below_site(metadata);
    below.len() < metadata.len() && below.contains('/')
}

impl Files<'_> {
    fn wrong(&self, path: &str) -> Option<Wrong> {
        // Scripts and data go to places of the environment's own (`../../../bin/x`), and bytecode comes and goes.
        let elsewhere =
            path.contains("../") || path.contains(".data/") || path.contains('\u{fffd}');
        let name = path.rsplit('/').next().unwrap_or(path);
        let of_metadata =
            below_site(path).split('/').next().is_some_and(|first| first.ends_with(".dist-info"));
        if elsewhere || of_metadata || names::is_spare_file(name) || names::is_of_tests(path) {
            return None;
        }
        let native = names::is_native(path);
        if !native && self.tree.size(path).is_some() {
            return None;
        }
        let unread = |trouble: &crate::tree::Trouble| path.starts_with(&trouble.path);
        if self.told.contains(path) || self.tree.troubles().iter().any(unread) {
            return None;
        }
        match self.tree.resolve(path) {
            None => Some(Wrong::Gone),
            Some(_) if !native => None,
            Some(real) => self.is_no_library(&real).then_some(Wrong::NoLibrary),
        }
    }

    fn is_no_library(&self, path: &str) -> bool {
        !self.known.contains(path)
            && !self.told.contains(path)
            && !is_linker_script(self.tree, path)
    }

    /// How much it matters; not at all where a package has libraries alone, and this is none.
    fn matters(&self, package: &Package, path: &str) -> Option<Matters> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let below = below_site(path);
        let imported = names::import(&package.name)
            .is_some_and(|row| row.files.iter().any(|file| file == below));
        if imported {
            return Some(Matters::Stops);
        }
        if names::is_native(path) {
            // Beside torch, a package is a part; of torch itself, what a library lacks is known by what it needs.
            let stops = match self.contents.torch {
                Some(_) => package.name == "torch" && names::is_module(name),
                None => true,
            };
            return Some(if stops { Matters::Stops } else { Matters::Part });
        }
        match () {
            () if names::has_libraries_only(&package.name) => None,
            () if names::is_for_compilers(name) => Some(Matters::Part),
            () if self.judged.has(&package.name) => Some(Matters::Undecided),
            () => Some(Matters::Part),
        }
    }

    /// Files in folders of packages that have the name of a library, are none, and that no RECORD lists.
    fn of_nobody(&self, listed: &BTreeSet<String>) -> Vec<Finding> {
        let is_one = |path: &str| {
            (path.contains("site-packages/") || path.contains("dist-packages/"))
                && names::is_native(path)
                && !names::is_of_tests(path)
                && !listed.contains(path)
        };
        let files = self.tree.files().map(|(path, _)| path).filter(|path| is_one(path));
        let broken = files.filter(|path| self.is_no_library(path)).map(|path| {
            let module = names::is_module(path.rsplit('/').next().unwrap_or(path));
            let stops =
                self.contents.torch.is_none() || (module && below_site(path).starts_with("torch/"));
            let severity = if stops { Severity::Error } else { Severity::Warning };
            let message = "has the name of a library and is none";
            Finding::new(severity, Kind::FileMissing, path, message)
                .fix("install its package again")
                .gpu(true)
        });
        broken.take(MAX_EVIDENCE).collect()
    }
}

fn finding(package: &Package, mut wrong: Vec<(Matters, Wrong, String)>) -> Option<Finding> {
    // What matters most first, and of that a module: without it nothing of it can be imported.
    let is_module = |path: &str| names::is_module(path.rsplit('/').next().unwrap_or(path));
    wrong.sort_by_key(|(matters, _, path)| (*matters, !is_module(path)));
    let (matters, first, path) = wrong.first()?;
    let severity = if *matters == Matters::Stops { Severity::Error } else { Severity::Warning };
    let message = match wrong.len() {
        1 => format!("{}, and {} {} lists it", first.words(), package.name, package.version),
        count => format!(
            "{}, as are {} more files that {} {} lists",
            first.words(),
            count - 1,
            package.name,
            package.version
        ),
    };
    let evidence = wrong.iter().take(MAX_EVIDENCE);
    let evidence = evidence.map(|(_, wrong, path)| format!("{path} {}", wrong.words()));
    let rest = wrong.len().saturating_sub(MAX_EVIDENCE);
    Some(
        Finding::new(severity, Kind::FileMissing, path.clone(), message)
            .evidence(evidence)
            .evidence((rest > 0).then(|| format!("and {rest} more")))
            .fix(format!("install {}=={} again", package.name, package.version))
            .gpu(true)
            .undecided(*matters == Matters::Undecided),
    )
}

fn is_linker_script(tree: &Tree, path: &str) -> bool {
    let text = tree.text(path, MAX_SCRIPT);
    text.is_some_and(|text| LINKER_SCRIPTS.iter().any(|start| text.trim_start().starts_with(start)))
}

#[cfg(test)]
mod tests {
    use crate::Says;
    use crate::failures::{SITE, World};
    use crate::forge::{Library, cubin, fatbin};
    use crate::tree::Tree;

    const C: &str = "torch/_C.cpython-313-x86_64-linux-gnu.so";

    fn world(record: &[&str]) -> World {
        let mut world = World::new();
        let info = format!("{SITE}/torch-2.5.1.dist-info");
        world.file(&format!("{info}/METADATA"), b"Name: torch\nVersion: 2.5.1\n");
        let record: String = record.iter().map(|path| format!("{path},,\n")).collect();
        world.file(&format!("{info}/RECORD"), format!("{C},,\n{record}").as_bytes());
        world
    }

    fn says(world: &World) -> (Says, String) {
        let driver = "580.65.06".parse().unwrap();
        let answer = world.report().answer("h100", Some(&driver)).unwrap();
        (answer.says, answer.sentence.replace(SITE, "SITE"))
    }

    #[test]
    fn a_module_of_torch_that_is_gone_or_garbage() {
        let mut gone = world(&[]);
        assert_eq!(says(&gone).0, Says::Yes);
        gone.remove(C);
        assert_eq!(says(&gone).0, Says::No);
        assert!(says(&gone).1.contains("is gone, and torch 2.5.1 lists it"), "{:?}", says(&gone));
        let mut text = world(&[]);
        text.remove(C);
        text.tree.begin_layer();
        text.file(&format!("{SITE}/{C}"), b"hello");
        assert_eq!(says(&text).0, Says::No);
        assert!(says(&text).1.contains("is not a library"), "{:?}", says(&text));
    }

    #[test]
    fn a_copy_within_another_package_has_what_its_maker_took() {
        let mut world = world(&[]);
        let info = format!("{SITE}/setuptools/_vendor/wheel-0.46.3.dist-info");
        world.file(&format!("{info}/METADATA"), b"Name: wheel\nVersion: 0.46.3\n");
        world.file(&format!("{info}/RECORD"), b"bin/wheel,,\nwheel/__init__.py,,\n");
        assert_eq!(says(&world).0, Says::Yes, "{}", says(&world).1);
    }

    #[test]
    fn files_that_are_no_libraries() {
        for (path, says_) in [
            ("torch/__init__.py", Says::No),
            ("torch/nn/__init__.py", Says::No),
            ("torch/version.py", Says::No),
            ("torch/bin/torch_shm_manager", Says::No),
            ("torch/lib/libtorch_global_deps.so", Says::No),
            ("torch/utils/x.py", Says::CantTell),
            ("torch/utils/x.json", Says::CantTell),
            ("torch/include/x.h", Says::InPart),
            ("torch/__pycache__/x.cpython-313.pyc", Says::Yes),
            ("torch/test/x.py", Says::Yes),
            ("torch/py.typed", Says::Yes),
            ("../../../bin/torchrun", Says::Yes),
            ("torch-2.5.1.dist-info/LICENSE", Says::Yes),
        ] {
            let mut world = world(&[path]);
            let (said, sentence) = if path == "torch/version.py" {
                world.remove(path);
                says(&world)
            } else {
                says(&world)
            };
            assert_eq!(said, says_, "{path}: {sentence}");
        }
    }

    #[test]
    fn libraries_that_are_none_and_that_no_record_lists() {
        let mut world = World::new();
        world.file(&format!("{SITE}/x/libx.so"), b"version https://git-lfs.github.com/spec/v1\n");
        world.file(&format!("{SITE}/x/_C.so"), b"");
        world.file(&format!("{SITE}/x/liby.so"), b"GROUP ( liby.so.1 )");
        let (said, sentence) = says(&world);
        assert_eq!(said, Says::InPart, "{sentence}");
        assert!(sentence.contains("has the name of a library and is none"), "{sentence}");
        let mut only = World { tree: Tree::new(), library_path: None };
        only.site("x/_C.so", &Library::new("").code(&[fatbin(&[cubin(90)])]));
        only.file(&format!("{SITE}/x/libx.so"), b"");
        assert_eq!(says(&only).0, Says::No);
    }

    #[test]
    fn what_nothing_of_torch_needs_is_a_part() {
        let mut world = world(&["torch/lib/libtorch_cuda_linalg.so", "torch/lib/libx.so"]);
        world.file(&format!("{SITE}/torch/lib/libx.so"), b"INPUT(libx.so.1)");
        let (said, sentence) = says(&world);
        assert_eq!(said, Says::InPart, "{sentence}");
        assert!(sentence.contains("SITE/torch/lib/libtorch_cuda_linalg.so"), "{sentence}");
        world.site("torch/lib/libtorch_cuda_linalg.so", &Library::new(""));
        assert_eq!(says(&world).0, Says::Yes);
    }
}
