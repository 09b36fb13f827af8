//! Native files that a package says it has and that are gone, or are not what their name says.
//!
//! Source: PyPA "Recording installed projects": RECORD lists every file of a package. Python finds no module that is gone;
//! what a library needs and does not find is told of by [`crate::closure`].

use std::collections::BTreeSet;

use crate::finding::{Finding, Kind, Severity};
use crate::names;
use crate::packages::{self, Contents, Origin, Package};
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

/// One finding for each package; `findings` are those on files that could not be read.
pub fn check(
    tree: &Tree,
    contents: &Contents,
    libraries: &[Library],
    findings: &[Finding],
) -> Vec<Finding> {
    let known: BTreeSet<&str> = libraries.iter().map(|library| library.path.as_str()).collect();
    let told: BTreeSet<&str> = findings.iter().map(|finding| finding.subject.as_str()).collect();
    let wrong = |path: &String| {
        let unread = |trouble: &crate::tree::Trouble| path.starts_with(&trouble.path);
        if told.contains(path.as_str()) || tree.troubles().iter().any(unread) {
            return None;
        }
        match tree.resolve(path) {
            None => Some(Wrong::Gone),
            Some(real) if known.contains(real.as_str()) || told.contains(real.as_str()) => None,
            Some(real) => (!is_linker_script(tree, &real)).then_some(Wrong::NoLibrary),
        }
    };
    let of_package = |package: &Package| {
        let recorded = packages::recorded(tree, &package.metadata).into_iter();
        let native = recorded.filter(|path| is_native(path) && !names::is_of_tests(path));
        let wrong: Vec<(Wrong, String)> =
            native.filter_map(|path| Some((wrong(&path)?, path))).collect();
        finding(package, contents, wrong)
    };
    let python = |package: &&Package| package.origin == Origin::Python;
    contents.packages.iter().filter(python).filter_map(of_package).collect()
}

fn finding(
    package: &Package,
    contents: &Contents,
    mut wrong: Vec<(Wrong, String)>,
) -> Option<Finding> {
    // A module first: without it nothing of it can be imported.
    let is_module = |path: &str| names::is_module(path.rsplit('/').next().unwrap_or(path));
    wrong.sort_by_key(|(_, path)| !is_module(path));
    let (first, path) = wrong.first()?;
    // Beside torch, a package is a part; of torch itself, what a library lacks is known by what it needs.
    let stops = match contents.torch {
        Some(_) => package.name == "torch" && is_module(path),
        None => true,
    };
    let severity = if stops { Severity::Error } else { Severity::Warning };
    let message = match wrong.len() {
        1 => format!("{}, and {} {} lists it", first.words(), package.name, package.version),
        count => format!(
            "{}, as are {} more native files that {} {} lists",
            first.words(),
            count - 1,
            package.name,
            package.version
        ),
    };
    let evidence = wrong.iter().take(MAX_EVIDENCE);
    let evidence = evidence.map(|(wrong, path)| format!("{path} {}", wrong.words()));
    let rest = wrong.len().saturating_sub(MAX_EVIDENCE);
    Some(
        Finding::new(severity, Kind::FileMissing, path.clone(), message)
            .evidence(evidence)
            .evidence((rest > 0).then(|| format!("and {rest} more")))
            .fix(format!("install {}=={} again", package.name, package.version))
            .gpu(true),
    )
}

/// Whether a file of this name is a library or a module: `x.so`, `libx.so.12`.
fn is_native(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let version = name.split_once(".so.").map(|(_, version)| version);
    name.ends_with(".so")
        || version.is_some_and(|version| {
            version.split('.').all(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
        })
}

fn is_linker_script(tree: &Tree, path: &str) -> bool {
    let text = tree.text(path, MAX_SCRIPT);
    text.is_some_and(|text| LINKER_SCRIPTS.iter().any(|start| text.trim_start().starts_with(start)))
}

#[cfg(test)]
mod tests {
    use crate::Says;
    use crate::failures::{SITE, World};
    use crate::forge::Library;

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
    fn what_nothing_of_torch_needs_is_a_part() {
        let mut world =
            world(&["torch/lib/libtorch_cuda_linalg.so", "torch/lib/libx.so", "torch/t.py"]);
        world.file(&format!("{SITE}/torch/lib/libx.so"), b"INPUT(libx.so.1)");
        let (said, sentence) = says(&world);
        assert_eq!(said, Says::InPart, "{sentence}");
        assert!(sentence.contains("SITE/torch/lib/libtorch_cuda_linalg.so"), "{sentence}");
        world.site("torch/lib/libtorch_cuda_linalg.so", &Library::new(""));
        assert_eq!(says(&world).0, Says::Yes);
    }
}
