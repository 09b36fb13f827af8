//! What source distributions need to be built and do not say themselves.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::table;

#[derive(Deserialize)]
struct Table {
    variable: Vec<Variable>,
    requirement: Vec<Needed>,
    failure: Vec<Failure>,
    stub: Vec<Stub>,
    placeholder: Vec<Placeholder>,
    unbuildable: Vec<Unbuildable>,
}

/// A package that can't be built in a container without a network.
#[derive(Deserialize)]
pub struct Unbuildable {
    package: String,
    /// What its build does.
    pub why: String,
    /// What to do about it.
    pub instead: String,
}

#[derive(Deserialize)]
struct Placeholder {
    package: String,
    there: String,
}

#[derive(Deserialize)]
struct Failure {
    words: String,
    hint: String,
}

#[derive(Deserialize)]
struct Stub {
    package: String,
    has: String,
}

#[derive(Deserialize)]
struct Variable {
    package: Option<String>,
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct Needed {
    package: Option<String>,
    requirement: String,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| table::read(table::SOURCES));

fn of(row: Option<&String>, package: &str, torch: bool) -> bool {
    row.map_or(torch, |row| row == package)
}

/// Environment variables that a package is built with, name and value; `torch` where its code is compiled
/// against torch.
pub fn source_variables(package: &str, torch: bool) -> Vec<(&'static str, &'static str)> {
    let rows = TABLE.variable.iter().filter(|row| of(row.package.as_ref(), package, torch));
    rows.map(|row| (row.name.as_str(), row.value.as_str())).collect()
}

/// Requirements that a package has when it is built and does not name; `torch` as above.
pub fn source_requirements(package: &str, torch: bool) -> Vec<&'static str> {
    let rows = TABLE.requirement.iter().filter(|row| of(row.package.as_ref(), package, torch));
    rows.map(|row| row.requirement.as_str()).collect()
}

/// What to do about a build whose log ends with `tail`, where that is known.
pub fn source_failure(tail: &str) -> Option<&'static str> {
    let found = TABLE.failure.iter().find(|row| tail.contains(&row.words));
    found.map(|row| row.hint.as_str())
}

/// The index that has the wheels of a package whose source distribution has no source.
pub fn wheels_elsewhere(package: &str) -> Option<&'static str> {
    TABLE.stub.iter().find(|row| row.package == package).map(|row| row.has.as_str())
}

/// What is there under the name of a package that is not what people mean who ask for it.
pub fn placeholder(package: &str) -> Option<&'static str> {
    TABLE.placeholder.iter().find(|row| row.package == package).map(|row| row.there.as_str())
}

/// Why a package can't be built, and what to do instead.
pub fn unbuildable(package: &str) -> Option<&'static Unbuildable> {
    TABLE.unbuildable.iter().find(|row| row.package == package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_all_and_of_one() {
        assert!(source_variables("antlr4-python3-runtime", false).is_empty());
        assert_eq!(source_variables("torch-scatter", true), [("FORCE_CUDA", "1")]);
        let flash = source_variables("flash-attn", true);
        assert!(flash.contains(&("FLASH_ATTENTION_FORCE_BUILD", "TRUE")), "{flash:?}");
        assert!(source_requirements("flash-attn", true).contains(&"psutil"));
        assert!(source_requirements("einops", false).is_empty());
        let hint = |tail| source_failure(tail).unwrap_or_default();
        assert!(hint("ModuleNotFoundError: No module named 'torch'").contains("--for"));
        assert!(hint("error: command 'cc' failed: No such file or directory").contains("compiler"));
        assert_eq!(source_failure("fatal error: ffi.h: No such file"), None);
    }
}
