//! Packages whose modules are built for NumPy 1, and whose METADATA allows NumPy 2 all the same.
//!
//! NumPy 2.0 migration guide: a module that was compiled with NumPy 1 can't be used with NumPy 2; one that was compiled
//! with NumPy 2 can be used with both.

use pep440_rs::{Operator, Version};
use pep508_rs::{Requirement, VerbatimUrl, VersionOrUrl};
use sconce_facts::Base;

use super::Resolution;
use super::releases::day;
use crate::document::Wheel;
use crate::index::PythonAnswer;
use crate::source::SOURCE;
use crate::wheel_name::normalise;

/// A year after NumPy 2.0.0 (2024-06-16): what is built from then on is built with NumPy 2, where nobody holds it back.
const SINCE: &str = "2025-06-16";

/// A package that needs an older NumPy than the newest, and does not say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OldNumpy {
    package: String,
    version: String,
    /// The NumPy that its modules are built for.
    major: u16,
    /// One of them.
    of: String,
    /// The NumPy that is too new for it.
    has: String,
}

impl OldNumpy {
    /// "pandas 2.0.3 is built for NumPy 1 (pandas/_libs/lib.so) and can't be imported with NumPy 2.3.1"
    pub fn message(&self) -> String {
        let Self { package, version, major, of, has } = self;
        format!(
            "{package} {version} is built for NumPy {major} ({of}) and can't be imported with NumPy {has}"
        )
    }

    /// What holds NumPy to what it is built for.
    pub fn constraint(&self) -> String {
        format!("numpy<{}", self.major + 1)
    }
}

impl Resolution<'_> {
    /// The first package of an answer that can't be imported with the NumPy of it.
    pub(super) fn old_numpy(
        &mut self,
        answer: &PythonAnswer,
        base: &'static Base,
    ) -> Option<OldNumpy> {
        // What can't be read is an error where its wheels are taken.
        let wheels = self.wheels(answer, base).ok()?;
        self.old_numpy_in(&wheels)
    }

    /// The same of a set.
    pub(super) fn old_numpy_in(&mut self, wheels: &[Wheel]) -> Option<OldNumpy> {
        let numpy = wheels.iter().find(|wheel| wheel.name == "numpy")?;
        let major = numpy.version.parse::<Version>().ok()?.release().first().copied()?;
        if major < 2 {
            return None;
        }
        let asks = |wheel: &&Wheel| {
            wheel.may_be_native() && wheel.name != "numpy" && wheel.index != SOURCE
        };
        let native: Vec<Wheel> = wheels.iter().filter(asks).cloned().collect();
        let answers = self.index.numpy(&native);
        let mut found = None;
        for (wheel, answer) in native.iter().zip(answers) {
            match answer {
                Ok(Some(api)) if u64::from(api.major) < major => {
                    found.get_or_insert_with(|| OldNumpy {
                        package: wheel.name.clone(),
                        version: wheel.version.clone(),
                        major: api.major,
                        of: api.of,
                        has: numpy.version.clone(),
                    });
                }
                Ok(_) => {}
                // Of what was made long after NumPy 2 came there is little doubt.
                Err(why) => {
                    let made = self.uploaded.get(&wheel.sha256).copied();
                    if made.is_none_or(|made| Some(made) < day(SINCE)) {
                        self.unread_numpy.push((wheel.clone(), why));
                    }
                }
            }
        }
        found
    }

    /// Says of a set why its NumPy is older than it could be, and what could not be read.
    pub(super) fn tell_numpy(&mut self, wheels: &[Wheel]) {
        let Some(numpy) = wheels.iter().find(|wheel| wheel.name == "numpy") else { return };
        let is_there = |package: &str, version: &str| {
            wheels.iter().any(|wheel| wheel.name == package && wheel.version == version)
        };
        // The last one is of the Python that was taken.
        let mut told = Vec::new();
        for old in std::mem::take(&mut self.old_numpys).into_iter().rev() {
            if told.contains(&old.package) {
                continue;
            }
            told.push(old.package.clone());
            if is_there(&old.package, &old.version) && numpy.version != old.has {
                self.explanation.note(format!(
                    "numpy {} was not taken: {}",
                    old.has,
                    old.message()
                ));
            }
        }
        let newer = numpy.version.parse::<Version>().is_ok_and(|v| v.release().first() >= Some(&2));
        for (wheel, why) in std::mem::take(&mut self.unread_numpy) {
            if newer && is_there(&wheel.name, &wheel.version) {
                self.explanation.note(format!(
                    "whether {} {} can be used with NumPy {} could not be read: {why}",
                    wheel.name, wheel.version, numpy.version
                ));
            }
        }
    }
}

/// Whether what METADATA requires names NumPy and leaves open how new it may be: with neither NumPy 2 asked for nor any
/// newer one shut out, whoever wrote it did not know of NumPy 2.
pub fn leaves_numpy_open(requires: &[&str]) -> bool {
    let parsed = requires.iter().filter_map(|line| line.parse::<Requirement<VerbatimUrl>>().ok());
    let mut named = false;
    for wanted in parsed.filter(|wanted| normalise(wanted.name.as_ref()) == "numpy") {
        // An extra's requirement says nothing of the package's own modules.
        if requires_extra(&wanted) {
            continue;
        }
        named = true;
        let Some(VersionOrUrl::VersionSpecifier(specifiers)) = &wanted.version_or_url else {
            continue;
        };
        for specifier in specifiers.iter() {
            let major = specifier.version().release().first().copied().unwrap_or(0);
            match specifier.operator() {
                Operator::NotEqual | Operator::NotEqualStar => {}
                Operator::GreaterThan | Operator::GreaterThanEqual if major < 2 => {}
                _ => return false,
            }
        }
    }
    named
}

fn requires_extra(wanted: &Requirement<VerbatimUrl>) -> bool {
    wanted.marker.try_to_string().is_some_and(|marker| marker.contains("extra =="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_metadata_says_of_numpy() {
        // pandas 2.0.3, opencv-python 4.8.1.78.
        for open in [
            &[
                "numpy (>=1.20.3) ; python_version < \"3.10\"",
                "numpy (>=1.23.2) ; python_version >= \"3.11\"",
            ][..],
            &["NumPy", "six"],
            &["numpy!=1.24.0,>=1.17"],
        ] {
            assert!(leaves_numpy_open(open), "{open:?}");
        }
        for closed in [
            &["numpy>=2.0.2; python_version < \"3.14\""][..],
            &["numpy<2.7,>=1.26.4"],
            &["numpy<1.28.0,>=1.21.6"],
            &["numpy~=1.21"],
            &["numpy==1.26.*"],
            &["numpy>=1.20 ; python_version < \"3.9\"", "numpy>=2 ; python_version >= \"3.13\""],
            &["numpydoc>=1.2", "numpy; extra == \"test\""],
            &[],
        ] {
            assert!(!leaves_numpy_open(closed), "{closed:?}");
        }
    }
}
