//! A resolved set against what torch was built with.

use pep440_rs::Version;
use pep508_rs::{Requirement, VerbatimUrl, VersionOrUrl};

use crate::target::Target;

/// The packages of a resolved set.
pub(crate) struct Set<'a>(pub Vec<(&'a str, &'a Version)>);

impl Set<'_> {
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.0.iter().find(|(of, _)| *of == name).map(|(_, version)| *version)
    }

    /// The version of the first package whose name is one of `names`, or starts with one that ends in `-cu`.
    pub fn version_like(&self, names: &[&str]) -> Option<&Version> {
        names.iter().find_map(|wanted| {
            let is = |name: &str| {
                name == *wanted || (wanted.ends_with("-cu") && name.starts_with(wanted))
            };
            self.0.iter().find(|(name, _)| is(name)).map(|(_, version)| *version)
        })
    }

    /// Whether every pin that holds for the target is met, by PEP 440: `13.0.3` is met by `13.0.3.0`, `0.8.1` is not
    /// met by `0.8.1.post1`.
    ///
    /// # Errors
    /// In words, the first pin that is not.
    pub fn meets(&self, requires: &[String], target: Target) -> Result<(), String> {
        let markers = target.markers()?;
        for text in requires {
            let pin: Requirement<VerbatimUrl> =
                text.parse().map_err(|error| format!("`{text}`: {error}"))?;
            if !pin.evaluate_markers(&markers, &[]) {
                continue;
            }
            let name = pin.name.as_ref();
            let Some(version) = self.version(name) else {
                return Err(format!("torch needs {name}, and it is missing"));
            };
            if let Some(VersionOrUrl::VersionSpecifier(specifiers)) = &pin.version_or_url
                && !specifiers.contains(version)
            {
                return Err(format!(
                    "torch was built with {name} {specifiers}, and {version} came"
                ));
            }
        }
        Ok(())
    }
}

/// The pins that leave a range open, with the version that a set has of them: "triton 3.9.0 (~=3.9.0)".
pub(crate) fn drifting(requires: &[String], set: &Set<'_>) -> Vec<String> {
    let parsed = requires.iter().filter_map(|text| text.parse::<Requirement<VerbatimUrl>>().ok());
    parsed
        .filter_map(|pin| {
            let Some(VersionOrUrl::VersionSpecifier(specifiers)) = &pin.version_or_url else {
                return None;
            };
            let exact = specifiers.iter().any(|s| *s.operator() == pep440_rs::Operator::Equal);
            let version = set.version(pin.name.as_ref())?;
            (!exact).then(|| format!("{} {version} ({specifiers})", pin.name))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meets(pin: &str, version: &str, python: &str) -> Result<(), String> {
        let base = sconce_facts::bases().iter().find(|base| base.python == python).unwrap();
        let target = Target { machine: sconce_facts::Machine::X86_64, base };
        let version: Version = version.parse().unwrap();
        Set(vec![("a", &version)]).meets(&[pin.to_owned()], target)
    }

    #[test]
    fn equality_is_pep_440s() {
        assert!(meets("a==13.0.3", "13.0.3.0", "3.13").is_ok());
        assert!(meets("a[x,y]==13.0.3; platform_system == \"Linux\"", "13.0.3.0", "3.13").is_ok());
        assert!(meets("a==0.8.1", "0.8.1.post1", "3.13").is_err());
        assert!(meets("a~=3.9.0", "3.9.4", "3.13").is_ok());
        assert!(meets("a~=3.9.0", "3.10.0", "3.13").is_err());
        assert_eq!(meets("b==1", "1", "3.13").unwrap_err(), "torch needs b, and it is missing");
        assert_eq!(
            meets("a==1", "2", "3.13").unwrap_err(),
            "torch was built with a ==1, and 2 came"
        );
    }

    #[test]
    fn markers_decide() {
        assert!(meets("b==1; platform_machine == \"aarch64\"", "1", "3.13").is_ok());
        assert!(meets("b==1; python_version < \"3.13\"", "1", "3.13").is_ok());
        assert!(meets("b==1; python_version < \"3.13\"", "1", "3.11").is_err());
    }
}
