//! What releases need of other packages and do not say in their metadata.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::table;

/// A requirement that is not in a package's metadata.
#[derive(Debug, Deserialize)]
pub struct Undeclared {
    /// The package that needs it, normalised.
    pub package: String,
    /// Its first release that does.
    pub from: String,
    /// Its last release that does; none where the newest does.
    pub until: Option<String>,
    /// What it needs where that package is there, as PEP 508 has it: `numpy>=2`; `{version}` stands for its own version.
    pub requirement: String,
    /// Whether that package is held to it, and brought where it is not there; else another release of the package that
    /// needs it is taken.
    #[serde(default)]
    pub holds: bool,
    /// Whether its own metadata names that package, so that it need not be brought: it is only held where it is there.
    #[serde(default)]
    pub named: bool,
    /// Whether its work is on the GPU.
    #[serde(default)]
    pub gpu: bool,
    /// Whether it can't be imported otherwise, so that without torch nothing uses the GPU.
    #[serde(default)]
    pub stops: bool,
}

impl Undeclared {
    /// What a release of this version needs.
    pub fn requirement_of(&self, version: &str) -> String {
        self.requirement.replace("{version}", version)
    }
}

/// A package of which the resolver takes a release that is years old, for others that name it without a bound.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FallsBack {
    package: String,
    #[serde(rename = "source")]
    _source: String,
}

#[derive(Deserialize)]
struct Table {
    undeclared: Vec<Undeclared>,
    falls_back: Vec<FallsBack>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| table::read(table::UNDECLARED));

/// All of them.
pub fn undeclared() -> &'static [Undeclared] {
    &TABLE.undeclared
}

/// Whether the resolver takes a release of a package that is years old, also where only another package needs it, as what newer
/// ones need is there as source only.
pub fn falls_back(package: &str) -> bool {
    TABLE.falls_back.iter().any(|row| row.package == package)
}
