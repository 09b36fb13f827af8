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
use crate::target::Target;

/// How many packages of a set are held to releases that fit its torch: each costs two questions.
const MOST_BEYOND: usize = 8;

/// A package in a set whose import would fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lack {
    package: &'static str,
    version: String,
    /// Its first release that needs this.
    from: &'static str,
    /// Its last one; none where the newest does.
    until: Option<&'static str>,
    requirement: String,
    /// Whether the other package is held to that, and brought where it is not there and no metadata names it.
    holds: bool,
    other: String,
    /// The version of the other that is there, if it is.
    has: Option<String>,
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
        let is = has.as_ref().map_or_else(
            || format!("{other} is not there"),
            |version| format!("{other} is {version}"),
        );
        format!(
            "{package} {version} needs {requirement}, which its metadata does not say, and {is}"
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
        for _ in 0..sconce_facts::undeclared().len() + 2 + MOST_BEYOND {
            let answer = match (self.index.python(&request), &last) {
                (Err(IndexError::NoSolution { words }), Some(last)) => {
                    return Err(IndexError::NoSolution { words: format!("{last}: {words}") });
                }
                (answer, _) => answer?,
            };
            let set = set_of(&answer, self.target(base));
            // What can't be read is an error where its wheels are taken.
            // Where newer releases have no such need, an older one was asked for: another torch may help.
            let mends = |lack: &Lack| lack.holds || lack.until.is_none();
            let lack = set.ok().and_then(|set| lacks(&set).find(mends));
            if let Some(lack) = lack {
                match (lack.holds, &lack.has) {
                    (true, Some(_)) => request.constraints.push(lack.requirement.clone()),
                    (true, None) => request.requirements.push(lack.requirement.clone()),
                    (false, _) => {
                        request.constraints.push(format!("{}<{}", lack.package, lack.from))
                    }
                }
                last = Some(lack.message());
                if !self.lacks.contains(&lack) {
                    self.lacks.push(lack);
                }
                continue;
            }
            // Modules are read for that, of some packages many megabytes.
            if self.trying {
                return Ok(answer);
            }
            if let Some((held, beyond)) = self.held_to_torch(&request, &answer, base) {
                request.constraints.push(held);
                last = Some(beyond.message());
                continue;
            }
            let old = self.old_numpy(&answer, base);
            let Some(old) = old else { return Ok(answer) };
            request.constraints.push(old.constraint());
            last = Some(old.message());
            self.old_numpys.push(old);
        }
        Err(IndexError::NoSolution { words: last.unwrap_or_default() })
    }

    /// The first package of a set that needs an older release of what torch pins, and does not say so.
    pub(super) fn lacks_older(&self, wheels: &[Wheel]) -> Option<Disagreement> {
        let set = versions(wheels).into_iter().collect();
        let lack = lacks(&set).find(|lack| lack.until.is_some() && !lack.holds)?;
        let wheel = wheels.iter().find(|wheel| wheel.name == lack.package)?;
        Some(Disagreement::new(wheel, lack.message(), lack.wants()?))
    }

    /// Says of a set which newer releases are not in it for what they do not declare.
    pub(super) fn tell_lacks(&mut self, wheels: &[Wheel]) {
        let set: BTreeMap<_, _> = versions(wheels).into_iter().collect();
        for lack in std::mem::take(&mut self.lacks) {
            if lack.holds {
                self.tell_held(&lack, &set);
                continue;
            }
            let older = set.get(lack.package).is_some_and(|version| {
                lack.from.parse().is_ok_and(|from: Version| *version < from)
            });
            let has = set.get(&lack.other).map(ToString::to_string);
            if let Some(has) = has.filter(|has| older && lack.has.as_ref() == Some(has)) {
                self.explanation.note(format!(
                    "{} {} was not taken: it needs {}, which its metadata does not say, and {} is {has}",
                    lack.package, lack.version, lack.requirement, lack.other
                ));
            }
        }
    }

    /// Says what is there in an older release than it could be, or at all, for what another package does not declare.
    fn tell_held(&mut self, lack: &Lack, set: &BTreeMap<String, Version>) {
        let Lack { package, version, requirement, other, has, .. } = lack;
        let there = set.get(*package).is_some_and(|here| here.to_string() == *version);
        let Some(now) = set.get(other).filter(|_| there).map(ToString::to_string) else { return };
        let not = match has {
            Some(has) if *has == now => return,
            Some(has) => format!(", not {has}"),
            None => String::new(),
        };
        self.explanation.note(format!(
            "{other} {now} was taken{not}: {package} {version} needs {requirement}, which its metadata does not say"
        ));
    }
}

/// The versions of an answer.
pub(super) fn set_of(
    answer: &PythonAnswer,
    target: Target,
) -> Result<BTreeMap<String, Version>, String> {
    let pylock = Pylock::parse(&answer.pylock)?;
    let set = pylock.select(target)?;
    let of = set.iter().map(|(package, wheel)| (package.name.clone(), wheel.name.version.clone()));
    Ok(of.collect())
}

/// The first package of a set that lacks what the facts say it needs.
pub(super) fn lack(set: &BTreeMap<String, Version>) -> Option<Lack> {
    lacks(set).next()
}

/// The packages of a set that lack what the facts say they need.
fn lacks(set: &BTreeMap<String, Version>) -> impl Iterator<Item = Lack> + '_ {
    sconce_facts::undeclared().iter().filter_map(|row| of(row, set))
}

fn of(row: &'static Undeclared, set: &BTreeMap<String, Version>) -> Option<Lack> {
    let version = set.get(&row.package)?;
    let requirement = row.requirement_of(&version.to_string());
    let needs: Requirement<VerbatimUrl> = requirement.parse().ok()?;
    let Some(VersionOrUrl::VersionSpecifier(specifiers)) = &needs.version_or_url else {
        return None;
    };
    let other = needs.name.to_string();
    let has = set.get(&other);
    let fits = has.map_or(!row.holds || row.named, |has| specifiers.contains(has));
    let from: Version = row.from.parse().ok()?;
    let until: Option<Version> = row.until.as_deref().and_then(|until| until.parse().ok());
    let in_row = *version >= from && until.is_none_or(|until| *version <= until);
    (in_row && !fits).then(|| Lack {
        package: &row.package,
        version: version.to_string(),
        from: &row.from,
        until: row.until.as_deref(),
        requirement,
        holds: row.holds,
        has: has.map(ToString::to_string),
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
            let requirement = row.requirement_of("1.2");
            let needs: Requirement<VerbatimUrl> = requirement.parse().unwrap();
            assert!(matches!(needs.version_or_url, Some(VersionOrUrl::VersionSpecifier(_))));
            let first = |text: &str| text.parse::<Version>().unwrap();
            let set = BTreeMap::from([
                (row.package.clone(), first(&row.from)),
                (
                    needs.name.to_string(),
                    first(match row.requirement.split_once("!=") {
                        Some((_, out)) => out.trim_end_matches(".*"),
                        None if row.requirement.contains('<') => "9999",
                        None => "0.0.1",
                    }),
                ),
            ]);
            assert!(of(row, &set).is_some(), "{row:?}");
        }
    }
}
