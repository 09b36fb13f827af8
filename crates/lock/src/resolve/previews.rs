//! Pre-releases in a set that nobody asked for by name: a requirement of another package has brought them.

use std::collections::BTreeSet;

use pep440_rs::Version;
use pep508_rs::{Requirement, VerbatimUrl, VersionOrUrl};

use super::Resolution;
use crate::document::Wheel;
use crate::wheel_name::normalise;

impl Resolution<'_> {
    /// Says of a set which pre-releases are in it, and who asked for them.
    pub(super) fn tell_previews(&mut self, wheels: &[Wheel]) {
        let is_preview = |wheel: &&Wheel| {
            wheel.version.parse::<Version>().is_ok_and(|version| version.any_prerelease())
        };
        // What was asked for by name is judged where releases are chosen.
        let named: BTreeSet<String> =
            self.direct_names().iter().map(|name| normalise(name)).collect();
        let previews: Vec<&Wheel> = wheels
            .iter()
            .filter(is_preview)
            .filter(|wheel| !named.contains(&wheel.name) && wheel.name != "torch")
            .collect();
        if previews.is_empty() {
            return;
        }
        let answers = self.index.requires(wheels);
        let said = previews.iter().map(|preview| {
            let asks = |named: bool| {
                wheels.iter().zip(&answers).find_map(|(wheel, lines)| {
                    let mut lines = lines.as_ref().ok()?.iter();
                    let line = lines.find(|line| asks_for(line, &preview.name, named))?;
                    Some(format!("{} {} asks for `{}`", wheel.name, wheel.version, short(line)))
                })
            };
            let by = asks(true).unwrap_or_else(|| {
                let none = "no final release of it can be had here";
                asks(false).map_or_else(|| none.to_owned(), |asks| format!("{asks}, and {none}"))
            });
            format!("{} {} ({by})", preview.name, preview.version)
        });
        let said = said.collect::<Vec<_>>().join("; ");
        self.explanation.note(format!("pre-releases that were not asked for by name: {said}"));
    }
}

/// Whether a requirement is one of a package; with `named`, one that allows pre-releases as it names one.
fn asks_for(line: &str, package: &str, named: bool) -> bool {
    let Ok(wanted) = line.parse::<Requirement<VerbatimUrl>>() else { return false };
    if normalise(wanted.name.as_ref()) != package {
        return false;
    }
    let Some(VersionOrUrl::VersionSpecifier(specifiers)) = &wanted.version_or_url else {
        return !named;
    };
    !named || specifiers.iter().any(|one| one.any_prerelease())
}

/// A requirement without its marker.
fn short(line: &str) -> &str {
    line.split(';').next().unwrap_or(line).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_that_name_a_pre_release() {
        let line = "hydra-core<2.0,>=1.4.0rc1 ; extra == 'extra'";
        assert!(asks_for(line, "hydra-core", true));
        assert_eq!(short(line), "hydra-core<2.0,>=1.4.0rc1");
        for other in ["hydra-core>=1.3", "Hydra_Core>=1.3", "hydra-core"] {
            assert!(!asks_for(other, "hydra-core", true), "{other}");
            assert!(asks_for(other, "hydra-core", false), "{other}");
        }
        assert!(!asks_for("other>=1.4.0rc1", "hydra-core", false));
        assert!(!asks_for("", "hydra-core", false));
    }
}
