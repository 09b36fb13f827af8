//! Debian releases that an image can stand on.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::{UnknownName, table};

/// A Debian release and the Python it ships.
#[derive(Debug, Clone, Deserialize)]
pub struct Base {
    /// Its code name: "trixie".
    pub release: String,
    /// Its number: "13".
    pub debian: String,
    /// Its Python by minor version: "3.13".
    pub python: String,
    /// That Python's full version at the release: "3.13.5".
    pub python_full: String,
    /// Its glibc: "2.41".
    pub glibc: String,
    /// uv's newest --python-platform suffix that is not above it: "manylinux_2_40".
    pub uv_platform: String,
}

impl Base {
    /// The wheel tag of its Python: "cp313".
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

/// All bases, the preferred one first.
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
