//! Wheel variants (PEP 825, draft of August 2026): what a wheel says that it is built for, held against its code.
//!
//! A variant wheel has `NAME.dist-info/variant.json`, which gives the properties of its one label:
//! `{"variants": {"cu13": {"nvidia": {"sm_arch": ["90_real", "100_real"], "cuda_version_lower_bound": ["13.0"]}}}}`.
//! An architecture is written as CMake writes it: `90_real` is machine code, `90_virtual` PTX, `90` both
//! (CUDA_ARCHITECTURES).

use std::collections::{BTreeMap, BTreeSet};

use sconce_facts::{Sm, SmKind};
use serde::Deserialize;

use crate::fatbin::{Code, Form};
use crate::finding::{Finding, Kind, Severity};
use crate::packages::{Contents, Package, recorded};
use crate::scan::Library;
use crate::tree::Tree;
use crate::verdict::sm;

/// The largest variant.json, bytes.
const LARGEST: u64 = 1 << 20;
/// The most architectures of one wheel that are looked at.
const MOST: usize = 64;

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    variants: BTreeMap<String, BTreeMap<String, BTreeMap<String, Vec<String>>>>,
}

/// What each package with a variant declares, and whether its libraries have it.
pub(crate) fn check(tree: &Tree, contents: &Contents, libraries: &[Library]) -> Vec<Finding> {
    let mut out = Vec::new();
    for package in &contents.packages {
        let path = format!("{}/variant.json", package.metadata);
        let Some(text) = tree.text(&path, LARGEST) else { continue };
        match sconce_open::json::<Document>(text.as_bytes()) {
            Ok(document) => out.extend(of_package(tree, package, &document, libraries)),
            Err(error) => out.push(Finding::new(
                Severity::Warning,
                Kind::BadBytes,
                path,
                format!("is not a description of a variant: {error}"),
            )),
        }
    }
    out
}

fn of_package(
    tree: &Tree,
    package: &Package,
    document: &Document,
    libraries: &[Library],
) -> Vec<Finding> {
    let mut variants = document.variants.iter();
    let (Some((label, properties)), None) = (variants.next(), variants.next()) else {
        let count = document.variants.len();
        let message = format!("variant.json has {count} variants, and an installed wheel is one");
        return vec![finding(Severity::Warning, package, message)];
    };
    let label = shown(label);
    let declared = properties.get("nvidia").and_then(|nvidia| nvidia.get("sm_arch"));
    let Some(declared) = declared.filter(|list| !list.is_empty()) else { return Vec::new() };
    if declared.len() > MOST {
        let message = format!("variant {label} declares {} architectures", declared.len());
        return vec![finding(Severity::Warning, package, message)];
    }
    let own: BTreeSet<String> = recorded(tree, &package.metadata).into_iter().collect();
    let libraries = libraries.iter().filter(|library| own.contains(&library.path));
    let has: BTreeSet<Code> = libraries
        .flat_map(|library| library.gpu.codes.keys().chain(library.embedded.codes.keys()))
        .copied()
        .collect();
    let (mut proven, mut out) = (Vec::new(), Vec::new());
    for text in declared {
        let Some(wanted) = architecture(text) else {
            let shown = shown(text);
            let message =
                format!("variant {label} declares `{shown}`, which is not an architecture");
            out.push(finding(Severity::Warning, package, message));
            continue;
        };
        match proof(wanted, &has) {
            Proof::There => proven.push(text.as_str()),
            Proof::Instead(code) => out.push(finding(
                Severity::Note,
                package,
                format!("variant {label} declares {text}, and has {code}, which runs there"),
            )),
            Proof::Missing => out.push(
                finding(
                    Severity::Error,
                    package,
                    format!(
                        "variant {label} declares {text}, and none of its libraries has code for it"
                    ),
                )
                .evidence([match has.is_empty() {
                    true => "has no GPU code".to_owned(),
                    false => {
                        let has: Vec<String> = has.iter().map(ToString::to_string).collect();
                        format!("has {}", has.join(" "))
                    }
                }])
                .fix(format!("install another build of {}", package.name))
                .gpu(true),
            ),
        }
    }
    if !proven.is_empty() {
        let message = format!("variant {label} declares {}: its code has it", proven.join(", "));
        out.push(finding(Severity::Note, package, message));
    }
    out
}

/// A text of the document as far as a terminal should see it.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

fn finding(severity: Severity, package: &Package, message: String) -> Finding {
    Finding::new(severity, Kind::Variant, package.name.clone(), message)
        .evidence([format!("{}/variant.json", package.metadata)])
}

/// An architecture that was declared: whether machine code, PTX or either.
#[derive(Clone, Copy)]
struct Declared {
    sm: Sm,
    cubin: bool,
    ptx: bool,
}

fn architecture(text: &str) -> Option<Declared> {
    let (number, cubin, ptx) = match text.split_once('_') {
        None => (text, true, true),
        Some((number, "real")) => (number, true, false),
        Some((number, "virtual")) => (number, false, true),
        Some(_) => return None,
    };
    Some(Declared { sm: format!("sm_{number}").parse().ok()?, cubin, ptx })
}

enum Proof {
    There,
    /// Machine code for a lower architecture, which runs on it.
    Instead(Code),
    Missing,
}

fn proof(wanted: Declared, has: &BTreeSet<Code>) -> Proof {
    let of =
        |form: Form| has.iter().any(|code| code.form == form && sm(code.target) == Some(wanted.sm));
    let needs = [(wanted.cubin, Form::Cubin), (wanted.ptx, Form::Ptx)];
    if needs.iter().all(|(asked, form)| !asked || of(*form)) {
        return Proof::There;
    }
    // What is declared for one GPU exactly is no other code.
    let lower = has.iter().filter(|code| wanted.cubin && code.form == Form::Cubin).find(|code| {
        wanted.sm.kind == SmKind::Plain
            && sm(code.target).is_some_and(|has| has.runs_on(wanted.sm.capability))
    });
    lower.map_or(Proof::Missing, |code| Proof::Instead(*code))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::failures::{SITE, World};
    use crate::finding::Kind;
    use crate::forge::{Library, cubin, fatbin, ptx};

    /// What is said of `foo`, whose library has this code, and whose variant.json is this.
    fn check(code: &[crate::forge::Code], variant: &str, expected: Expect) {
        let mut world = World::new();
        world.site("foo/_C.so", &Library::new("").code(&[fatbin(code)]));
        // Another package's code proves nothing of this one.
        world.site("bar/_C.so", &Library::new("").code(&[fatbin(&[cubin(90), cubin(120)])]));
        let info = format!("{SITE}/foo-1.0.dist-info");
        world.file(&format!("{info}/METADATA"), b"Name: foo\nVersion: 1.0\n");
        world.file(&format!("{info}/RECORD"), b"foo/_C.so,,\n");
        world.file(&format!("{info}/variant.json"), variant.as_bytes());
        let report = world.report();
        let ours = |kind| matches!(kind, Kind::Variant | Kind::BadBytes);
        let findings = report.findings.iter().filter(|finding| ours(finding.kind));
        let lines: Vec<String> = findings
            .map(|finding| {
                format!("{:?} {:?}: {}", finding.severity, finding.kind, finding.message)
            })
            .collect();
        expected.assert_eq(&lines.join("\n"));
    }

    fn declares(architectures: &str) -> String {
        format!(r#"{{"variants": {{"cu13": {{"nvidia": {{"sm_arch": [{architectures}]}}}}}}}}"#)
    }

    #[test]
    fn declared_architectures_are_proven() {
        let both = declares(r#""90_real", "100_real""#);
        check(
            &[cubin(90), cubin(100)],
            &both,
            expect!["Note Variant: variant cu13 declares 90_real, 100_real: its code has it"],
        );
        check(
            &[cubin(90)],
            &both,
            expect![[r#"
                Error Variant: variant cu13 declares 100_real, and none of its libraries has code for it
                Note Variant: variant cu13 declares 90_real: its code has it"#]],
        );
        check(
            &[cubin(80)],
            &declares(r#""86_real""#),
            expect!["Note Variant: variant cu13 declares 86_real, and has sm_80, which runs there"],
        );
        check(
            &[ptx(90, (8, 0))],
            &declares(r#""90_virtual", "90_real", "90""#),
            expect![[r#"
                Error Variant: variant cu13 declares 90_real, and none of its libraries has code for it
                Error Variant: variant cu13 declares 90, and none of its libraries has code for it
                Note Variant: variant cu13 declares 90_virtual: its code has it"#]],
        );
        check(
            &[cubin(90)],
            &declares(r#""90a_real""#),
            expect![
                "Error Variant: variant cu13 declares 90a_real, and none of its libraries has code for it"
            ],
        );
    }

    #[test]
    fn what_is_no_variant() {
        check(&[], r#"{"variants": {"null": {}}}"#, expect![""]);
        check(&[], r#"{"variants": {"x": {"nvidia": {"sm_arch": []}}}}"#, expect![""]);
        check(
            &[],
            r#"{"variants": {"a": {}, "b": {}}}"#,
            expect!["Warning Variant: variant.json has 2 variants, and an installed wheel is one"],
        );
        check(
            &[],
            &declares(r#""ninety", "90_\u001b[31m""#),
            expect![[r#"
                Warning Variant: variant cu13 declares `ninety`, which is not an architecture
                Warning Variant: variant cu13 declares `90_[31m`, which is not an architecture"#]],
        );
        check(
            &[],
            "[1]",
            expect![
                "Warning BadBytes: is not a description of a variant: invalid type: integer `1`, expected a map at line 1 column 2"
            ],
        );
    }
}
