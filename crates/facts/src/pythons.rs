//! Builds of Python that are not Debian's: python-build-standalone's.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::{Base, Machine, bases, table};

/// The newest build of a minor version.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PythonBuild {
    /// Its minor version, with a `t` for the one without the GIL: "3.9", "3.13t".
    pub python: String,
    /// Its full version: "3.9.25".
    pub version: String,
    /// The release of python-build-standalone that it is of, a date: "20251031".
    pub build: String,
    /// SHA-256 of the archive for x86-64, 64 hex digits.
    x86_64: String,
    /// SHA-256 of the archive for AArch64.
    aarch64: String,
}

impl PythonBuild {
    /// SHA-256 of a processor's archive, 64 hex digits.
    pub fn sha256(&self, machine: Machine) -> &str {
        match machine {
            Machine::X86_64 => &self.x86_64,
            Machine::Aarch64 => &self.aarch64,
        }
    }

    /// The name of a processor's archive (python-build-standalone, "Distributions", `install_only_stripped`).
    pub fn file(&self, machine: Machine) -> String {
        let Self { python, version, build, .. } = self;
        let threads = if python.ends_with('t') { "-freethreaded" } else { "" };
        format!(
            "cpython-{version}+{build}-{machine}-unknown-linux-gnu{threads}-install_only_stripped.tar.gz"
        )
    }
}

#[derive(Deserialize)]
struct Table {
    releases: String,
    python: Vec<PythonBuild>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| table::read(table::PYTHONS));

/// Each Debian release with every Python that it does not ship.
static STANDALONE: LazyLock<Vec<Base>> = LazyLock::new(|| {
    let on = |base: &'static Base| {
        let others = TABLE.python.iter().filter(|build| build.python != base.python);
        others.map(|build| Base {
            python: build.python.clone(),
            python_full: build.version.clone(),
            standalone: Some(build),
            ..base.clone()
        })
    };
    bases().iter().flat_map(on).collect()
});

/// What every address of a build has before `/BUILD/FILE`.
pub fn python_releases() -> &'static str {
    &TABLE.releases
}

/// Each Debian release with the Pythons that it does not ship: the preferred release first, and of each
/// release the Pythons in the order in which they are tried.
pub fn standalone_bases() -> &'static [Base] {
    &STANDALONE
}

/// Every Python that an image can have, oldest first, each once: "3.9", …, "3.14", "3.14t".
pub fn pythons() -> Vec<&'static str> {
    let all = bases().iter().chain(standalone_bases()).map(|base| base.python.as_str());
    let mut all: Vec<&str> = all.collect();
    let key = |python: &str| {
        let minor = python.trim_start_matches("3.").trim_end_matches('t');
        (minor.parse::<u16>().unwrap_or(u16::MAX), python.ends_with('t'))
    };
    all.sort_by_key(|python| key(python));
    all.dedup();
    all
}

/// The base of that Debian release with that Python.
pub fn base_with(release: &str, python: &str) -> Option<&'static Base> {
    let fits = |base: &&Base| base.release == release && base.python == python;
    bases().iter().chain(standalone_bases()).find(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_an_archive() {
        let hex = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        for row in &TABLE.python {
            let minor = row.python.trim_end_matches('t');
            assert!(row.version.starts_with(&format!("{minor}.")), "{row:?}");
            assert!(row.build.len() == 8 && row.build.parse::<u32>().is_ok(), "{row:?}");
            assert!(Machine::ALL.iter().all(|&machine| hex(row.sha256(machine))), "{row:?}");
            assert_ne!(row.x86_64, row.aarch64);
        }
        let of = |python: &str| base_with("trixie", python).unwrap().standalone.unwrap();
        assert_eq!(
            of("3.13t").file(Machine::Aarch64),
            "cpython-3.13.15+20260814-aarch64-unknown-linux-gnu-freethreaded-install_only_stripped.tar.gz"
        );
    }

    #[test]
    fn debian_s_own_python_is_taken_where_it_is() {
        assert_eq!(pythons(), ["3.9", "3.10", "3.11", "3.12", "3.13", "3.13t", "3.14", "3.14t"]);
        let own = |release: &str, python: &str| {
            base_with(release, python).map(|base| base.standalone.is_none())
        };
        assert_eq!(own("trixie", "3.13"), Some(true));
        assert_eq!(own("trixie", "3.11"), Some(false));
        assert_eq!(own("bookworm", "3.11"), Some(true));
        assert_eq!(own("bookworm", "3.13"), Some(false));
        assert_eq!(own("trixie", "3.8"), None);
    }
}
