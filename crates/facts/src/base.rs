//! Debian releases that an image can stand on, and the Python on them.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::{PythonBuild, UnknownName, table};

/// A Debian release and a Python: the one it ships, or a standalone build.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Base {
    /// Its code name: "trixie".
    pub release: String,
    /// Its number: "13".
    pub debian: String,
    /// The Python by minor version, with a `t` for one without the GIL: "3.13", "3.13t".
    pub python: String,
    /// That Python's full version, Debian's at the release: "3.13.5".
    pub python_full: String,
    /// Its glibc: "2.41".
    pub glibc: String,
    /// uv's newest --python-platform suffix that is not above it: "manylinux_2_40".
    pub uv_platform: String,
    /// The build that the Python is, where it is not Debian's own.
    #[serde(skip)]
    pub standalone: Option<&'static PythonBuild>,
}

impl Base {
    /// The Python's version as PEP 508's `python_version` has it: "3.13".
    pub fn python_version(&self) -> &str {
        self.python.trim_end_matches('t')
    }

    /// Whether the Python is the build without the GIL (PEP 703).
    pub fn is_free_threaded(&self) -> bool {
        self.python.ends_with('t')
    }

    /// The ABI tag of wheels for its Python: "cp313", "cp313t".
    pub fn python_tag(&self) -> String {
        format!("cp{}", self.python.replace('.', ""))
    }

    /// The newest manylinux glibc that fits: (2, 41).
    pub fn glibc_version(&self) -> (u16, u16) {
        let mut parts = self.glibc.split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }
}

#[derive(Deserialize)]
struct Table {
    base: Vec<Base>,
}

static ROWS: LazyLock<Vec<Base>> = LazyLock::new(|| table::read::<Table>(table::BASE).base);

/// All Debian releases with the Python they ship, the preferred one first.
pub fn bases() -> &'static [Base] {
    &ROWS
}

/// The base of that code name.
///
/// # Errors
/// No row has the name; the error carries the nearest one.
pub fn base(release: &str) -> Result<&'static Base, UnknownName> {
    ROWS.iter().find(|row| row.release == release).ok_or_else(|| {
        UnknownName::new("Debian release", release, ROWS.iter().map(|row| row.release.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trixie_first() {
        let shown: Vec<_> = bases().iter().map(|b| (b.python_tag(), b.glibc_version())).collect();
        assert_eq!(shown, [("cp313".to_owned(), (2, 41)), ("cp311".to_owned(), (2, 36))]);
        assert_eq!(base("trixi").unwrap_err().near.as_deref(), Some("trixie"));
    }
}
