//! Flavours: which packages an image of a kind starts from, as rows.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::resolve::Omission;
use crate::{Error, Release, Target};

/// A package that a flavour wants, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Row {
    /// Its name; `{python}` and `{gcc}` stand for the release's versions.
    package: String,
    /// The flavours that have it.
    flavours: Vec<String>,
    /// The only release that has it, where it isn't all.
    release: Option<String>,
    /// Whether it is only for images with Debian's own Python (true), or only for those with another.
    own_python: Option<bool>,
    /// Why it is there.
    #[cfg_attr(not(test), allow(dead_code, reason = "for readers, and a test"))]
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Flavours {
    flavours: Vec<String>,
    package: Vec<Row>,
    omission: Vec<Omission>,
}

static FLAVOURS: LazyLock<Flavours> = LazyLock::new(|| {
    toml::from_str(include_str!("../data/flavours.toml"))
        .expect("data/flavours.toml is part of the program, and a test reads it")
});

/// Names of the packages of a flavour, sorted; with Debian's own Python or without one.
pub fn roots(flavour: &str, target: Target, own_python: bool) -> Result<Vec<String>, Error> {
    if !FLAVOURS.flavours.iter().any(|known| known == flavour) {
        return Err(Error::UnknownFlavour {
            name: flavour.to_owned(),
            known: FLAVOURS.flavours.clone(),
        });
    }
    let Release { codename, python, gcc, .. } = target.release;
    let rows = FLAVOURS.package.iter().filter(|row| {
        row.flavours.iter().any(|name| name == flavour)
            && row.release.as_ref().is_none_or(|only| only == codename)
            && row.own_python.is_none_or(|own| own == own_python)
    });
    let mut names: Vec<_> =
        rows.map(|row| row.package.replace("{python}", python).replace("{gcc}", gcc)).collect();
    names.sort();
    Ok(names)
}

/// Dependencies that images do without.
pub fn omissions() -> &'static [Omission] {
    &FLAVOURS.omission
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_says_why() {
        assert!(FLAVOURS.package.iter().all(|row| row.reason.len() > 3));
        assert!(FLAVOURS.omission.iter().all(|row| row.reason.len() > 3));
        let known = |name: &String| FLAVOURS.flavours.contains(name);
        assert!(FLAVOURS.package.iter().all(|row| row.flavours.iter().all(known)));
    }

    #[test]
    fn the_release_fills_in_its_versions() {
        let with =
            |codename, own| roots("runtime", Target::new(codename, "amd64").unwrap(), own).unwrap();
        let of = |codename| with(codename, true);
        assert!(of("trixie").contains(&"python3.13-venv".to_owned()));
        assert!(of("bookworm").contains(&"python3.11-venv".to_owned()));
        let other = with("bookworm", false);
        assert!(other.iter().all(|name| !name.contains("python")), "{other:?}");
        assert!(other.contains(&"gcc".to_owned()) && other.contains(&"libcrypt1".to_owned()));
        let error = roots("tiny", Target::new("trixie", "amd64").unwrap(), true).unwrap_err();
        assert_eq!(
            error.hint().unwrap(),
            "`environment.flavour` can be one of: tools, runtime, devel"
        );
    }
}
