//! What packages need of each other and do not say, so that the resolver can't know it.

use std::collections::BTreeMap;

use pep440_rs::Version;
use pep508_rs::{Requirement, VerbatimUrl, VersionOrUrl};
use sconce_facts::{Base, Undeclared};

use super::companions::{Disagreement, Wants};
use super::{Resolution, versions};
use crate::document::Wheel;
use crate::index::{IndexError, PythonAnswer, PythonRequest};
use crate::pylock::Pylock;

/// A package in a set whose import would fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lack {
    package: &'static str,
    version: String,
    /// Its first release that needs this.
    from: &'static str,
    /// Its last one; none where the newest does.
    until: Option<&'static str>,
    requirement: &'static str,
    other: String,
    has: String,
}

impl Lack {
    /// What the torch beside it must bring for it.
    fn wants(&self) -> Option<Wants> {
        let needs: Requirement<VerbatimUrl> = self.requirement.parse().ok()?;
        let Some(VersionOrUrl::VersionSpecifier(specifiers)) = needs.version_or_url else {
            return None;
        };
        Some(Wants::Package { name: self.other.clone(), specifiers })
    }

    /// "pyarrow 26.0.1 needs numpy>=2, which its metadata does not say, and numpy is 1.26.4".
    pub fn message(&self) -> String {
        let Self { package, version, requirement, other, has, .. } = self;
        format!(
            "{package} {version} needs {requirement}, which its metadata does not say, and {other} is {has}"
        )
    }
}

impl Resolution<'_> {
    /// The resolver's answer to a question, without releases that lack what they need: of those an older one.
    pub(super) fn answer(
        &mut self,
        mut request: PythonRequest,
        base: &'static Base,
    ) -> Result<PythonAnswer, IndexError> {
        let mut last: Option<String> = None;
        // Each row shuts out its package's newer releases once, and NumPy is held to an older one once.
        for _ in 0..sconce_facts::undeclared().len() + 2 {
            let answer = match (self.index.python(&request), &last) {
                (Err(IndexError::NoSolution { words }), Some(last)) => {
                    return Err(IndexError::NoSolution { words: format!("{last}: {words}") });
                }
                (answer, _) => answer?,
            };
            let target = self.target(base);
            let set = Pylock::parse(&answer.pylock).and_then(|pylock| {
                let set = pylock.select(target)?;
                let of = set
                    .iter()
                    .map(|(package, wheel)| (package.name.clone(), wheel.name.version.clone()));
                Ok(of.collect::<BTreeMap<_, _>>())
            });
            // What can't be read is an error where its wheels are taken.
            // Where newer releases have no such need, an older one was asked for: another torch may help.
            let lack = set.ok().and_then(|set| lack(&set)).filter(|lack| lack.until.is_none());
            if let Some(lack) = lack {
                request.constraints.push(format!("{}<{}", lack.package, lack.from));
                last = Some(lack.message());
                if !self.lacks.contains(&lack) {
                    self.lacks.push(lack);
                }
                continue;
            }
            // Modules are read for that, of some packages many megabytes.
            let old = if self.trying { None } else { self.old_numpy(&answer, base) };
            let Some(old) = old else { return Ok(answer) };
            request.constraints.push(old.constraint());
            last = Some(old.message());
            self.old_numpys.push(old);
        }
        Err(IndexError::NoSolution { words: last.unwrap_or_default() })
    }

    /// The first package of a set that needs an older release of what torch pins, and does not say so.
    pub(super) fn lacks_older(&self, wheels: &[Wheel]) -> Option<Disagreement> {
        let lack = lack(&versions(wheels).into_iter().collect()).filter(|l| l.until.is_some())?;
        let wheel = wheels.iter().find(|wheel| wheel.name == lack.package)?;
        Some(Disagreement::new(wheel, lack.message(), lack.wants()?))
    }

    /// Says of a set which newer releases are not in it for what they do not declare.
    pub(super) fn tell_lacks(&mut self, wheels: &[Wheel]) {
        let set: BTreeMap<_, _> = versions(wheels).into_iter().collect();
        for lack in std::mem::take(&mut self.lacks) {
            let older = set.get(lack.package).is_some_and(|version| {
                lack.from.parse().is_ok_and(|from: Version| *version < from)
            });
            if older && set.get(&lack.other).is_some_and(|has| has.to_string() == lack.has) {
                self.explanation.note(format!(
                    "{} {} was not taken: it needs {}, which its metadata does not say, and {} is {}",
                    lack.package, lack.version, lack.requirement, lack.other, lack.has
                ));
            }
        }
    }
}

/// The first package of a set that lacks what the facts say it needs.
pub(super) fn lack(set: &BTreeMap<String, Version>) -> Option<Lack> {
    sconce_facts::undeclared().iter().find_map(|row| of(row, set))
}

fn of(row: &'static Undeclared, set: &BTreeMap<String, Version>) -> Option<Lack> {
    let version = set.get(&row.package)?;
    let needs: Requirement<VerbatimUrl> = row.requirement.parse().ok()?;
    let Some(VersionOrUrl::VersionSpecifier(specifiers)) = &needs.version_or_url else {
        return None;
    };
    let other = needs.name.to_string();
    let has = set.get(&other).filter(|has| !specifiers.contains(has))?;
    let from: Version = row.from.parse().ok()?;
    let until: Option<Version> = row.until.as_deref().and_then(|until| until.parse().ok());
    let in_row = *version >= from && until.is_none_or(|until| *version <= until);
    in_row.then(|| Lack {
        package: &row.package,
        version: version.to_string(),
        from: &row.from,
        until: row.until.as_deref(),
        requirement: &row.requirement,
        has: has.to_string(),
        other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row that can't be read would be passed over.
    #[test]
    fn every_row_can_be_read() {
        for row in sconce_facts::undeclared() {
            let needs: Requirement<VerbatimUrl> = row.requirement.parse().unwrap();
            assert!(matches!(needs.version_or_url, Some(VersionOrUrl::VersionSpecifier(_))));
            let first = |text: &str| text.parse::<Version>().unwrap();
            let set = BTreeMap::from([
                (row.package.clone(), first(&row.from)),
                (
                    needs.name.to_string(),
                    first(if row.requirement.contains('<') { "9999" } else { "0.0.1" }),
                ),
            ]);
            assert!(of(row, &set).is_some(), "{row:?}");
        }
    }
}
