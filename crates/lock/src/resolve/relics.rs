//! Releases that nobody can want: what the resolver falls back to when the newest release of a
//! requirement has no wheel (a pre-release, 0.0.0, one that is years older).

use std::collections::{BTreeMap, BTreeSet};

use pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::{Requirement, VerbatimUrl, VersionOrUrl};
use sconce_facts::Base;

use super::newest::Behind;
use super::releases::{allows, releases};
use super::words::source_only;
use super::{MOST_QUESTIONS, Resolution};
use crate::document::Wheel;
use crate::error::Error;
use crate::index::{IndexError, ListedFile};
use crate::requirements_txt::Ask;
use crate::spec::Requirements;
use crate::target::Target;
use crate::wheel_name::normalise;

/// A release so much older than the newest, in days, is one that nobody can want unless they ask for it.
const OLD: i64 = 2 * 365;

/// A package that the user's own files ask for by name.
pub(super) struct Direct {
    pub name: String,
    pub extras: BTreeSet<String>,
    pub specifiers: Vec<VersionSpecifiers>,
}

impl Direct {
    /// Its extras as a requirement has them: "[all]".
    fn extras(&self) -> String {
        let extras: Vec<_> = self.extras.iter().map(String::as_str).collect();
        if extras.is_empty() { String::new() } else { format!("[{}]", extras.join(",")) }
    }
}

/// What a release is that is so old.
const YEARS_OLDER: &str = "years older";

/// Why the newest release of a package, which has a wheel, was not taken.
enum Why {
    /// What it needs is there as source only.
    Source(String),
    /// This Python can't have it, whatever else is asked for.
    Python(String),
    /// Something else that is asked for.
    Others,
}

/// What is to be said of the releases in a set.
#[derive(Default)]
pub(super) struct Judged {
    /// The requirements that got a release which nobody can want, each with why.
    pub relics: Vec<String>,
    /// What a person should know of the others.
    pub notes: Vec<String>,
    /// The requirements that have a newer release for some Python.
    pub behind: Vec<Behind>,
}

/// Whether a pick can be meant.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    /// It can, but a person should know this.
    Note(String),
    /// It can't.
    Relic(String),
    /// It can't, and there is a newer release with a wheel: something that was asked for holds it back, or
    /// something that the newest needs can't be had.
    HeldBack {
        newest: Version,
        kind: &'static str,
    },
}

impl Resolution<'_> {
    /// What is asked for by name and holds for a target, with its constraints.
    pub(super) fn direct(&self, target: Target) -> Vec<Direct> {
        let (mut lines, mut constraints): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
        match &self.spec.environment.requirements {
            Requirements::List(list) => lines.extend(list.iter().map(String::as_str)),
            Requirements::File(file) => {
                for (from, into) in
                    [(&file.lines, &mut lines), (&file.constraints, &mut constraints)]
                {
                    into.extend(from.iter().filter_map(|line| match &line.ask {
                        Ask::Requirement(text) => Some(text.as_str()),
                        Ask::Option(_) | Ask::RequireHashes | Ask::File { .. } => None,
                    }));
                }
            }
        }
        for project in self.spec.environment.projects() {
            lines.extend(project.dependencies.iter().map(|(_, text)| text.as_str()));
        }
        let mut found: BTreeMap<String, Direct> = BTreeMap::new();
        for (text, asked) in
            lines.iter().map(|l| (l, true)).chain(constraints.iter().map(|l| (l, false)))
        {
            let text = text.split(" --hash").next().unwrap_or(text);
            let Ok(parsed) = text.parse::<Requirement<VerbatimUrl>>() else { continue };
            let holds =
                target.markers().is_ok_and(|markers| parsed.evaluate_markers(&markers, &[]));
            let specifiers = match parsed.version_or_url {
                None => None,
                Some(VersionOrUrl::VersionSpecifier(specifiers)) => Some(specifiers),
                Some(VersionOrUrl::Url(_)) => continue,
            };
            let name = normalise(parsed.name.as_ref());
            if !holds || (!asked && !found.contains_key(&name)) {
                continue;
            }
            let new =
                || Direct { name: name.clone(), extras: BTreeSet::new(), specifiers: Vec::new() };
            let direct = found.entry(name.clone()).or_insert_with(new);
            direct.extras.extend(parsed.extras.iter().map(ToString::to_string));
            direct.specifiers.extend(specifiers);
        }
        found.into_values().collect()
    }

    /// The names of what is asked for.
    pub(super) fn direct_names(&self) -> Vec<String> {
        let bases = self.request.bases.iter();
        let names = bases.flat_map(|base| self.direct(self.target(base)));
        names.map(|direct| direct.name).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The requirements in a refusal of uv's that are the user's own.
    pub(super) fn culprits(&self, words: &str) -> Vec<String> {
        let names = self.direct_names();
        let ours: Vec<&str> = ["torch", "pip", "cuda-toolkit"]
            .into_iter()
            .filter(|n| !names.iter().any(|m| m == n))
            .collect();
        super::words::culprits(words, &ours)
    }

    /// Judges the releases that requirements got. What the lock that is there has already is not asked
    /// about again.
    pub(super) fn judge(&mut self, wheels: &[Wheel], base: &'static Base) -> Result<Judged, Error> {
        self.held_back.clear();
        let target = self.target(base);
        let known = |wheel: &Wheel| {
            self.previous.lock.and_then(|lock| lock.wheel(&wheel.name)).map(|w| &w.version)
        };
        let mut asked = self.direct(target);
        let fallen = wheels.iter().filter(|wheel| {
            let known = asked.iter().any(|direct| direct.name == wheel.name);
            sconce_facts::falls_back(&wheel.name) && !known
        });
        let fallen: Vec<Direct> = fallen
            .map(|wheel| Direct {
                name: wheel.name.clone(),
                extras: BTreeSet::new(),
                specifiers: Vec::new(),
            })
            .collect();
        asked.extend(fallen);
        let picks: Vec<(Direct, &Wheel)> = asked
            .into_iter()
            .filter(|direct| direct.name != "torch")
            .filter_map(|direct| {
                let wheel = wheels.iter().find(|wheel| wheel.name == direct.name)?;
                let same = known(wheel) == Some(&wheel.version);
                (wheel.index == "pypi" && !same).then_some((direct, wheel))
            })
            .collect();
        let names: Vec<String> = picks.iter().map(|(direct, _)| direct.name.clone()).collect();
        let mut judged = Judged::default();
        if names.is_empty() {
            return Ok(judged);
        }
        let listed = self.index.releases(&names);
        let listed = listed.map_err(|error| Error::from_index("package index", error))?;
        for (direct, wheel) in picks {
            let Some(files) = listed.get(&direct.name) else { continue };
            let mut behind = self.behind(&direct, &wheel.version, files);
            match judge(&direct, &wheel.version, files, target) {
                Verdict::Fine => {}
                Verdict::Note(text) => judged.notes.push(text),
                Verdict::Relic(text) => judged.relics.push(text),
                Verdict::HeldBack { newest, kind } => {
                    let pick = format!("{} {}", direct.name, wheel.version);
                    match self.why_not(&direct, &newest, behind.as_ref(), base)? {
                        Why::Source(needed) => judged.relics.push(format!(
                            "{pick}: its newest release, {newest}, needs {needed}, which is there as source only"
                        )),
                        Why::Python(words) => judged.relics.push(format!(
                            "{pick} ({kind}): its newest release, {newest}, can't be had on Python {}: {words}",
                            base.python
                        )),
                        Why::Others if kind == YEARS_OLDER => {
                            let old = format!("{pick} is years older than its newest release, {newest}");
                            match &mut behind {
                                Some(behind) => behind.years_older = true,
                                None => judged.notes.push(format!("{old}: another requirement holds it back")),
                            }
                            self.held_back.push((direct.name.clone(), old));
                        }
                        Why::Others => judged.relics.push(format!(
                            "{pick} ({kind}): another requirement holds back its newest release, {newest}"
                        )),
                    }
                }
            }
            judged.behind.extend(behind);
        }
        Ok(judged)
    }

    /// The requirement, if a newer release of it has a wheel for a Python that the image could have.
    fn behind(&self, direct: &Direct, picked: &str, files: &[ListedFile]) -> Option<Behind> {
        let picked: Version = picked.parse().ok()?;
        // Ranges know no local versions.
        let picked = picked.local().is_empty().then_some(picked)?;
        let newest = |base: &&'static Base| {
            let releases = releases(&direct.name, files, self.target(base));
            let newest = releases.into_iter().rfind(|(version, release)| {
                release.wheel_fits && !version.any_prerelease() && allows(direct, version)
            });
            newest.map(|(version, _)| version)
        };
        let newest = self.request.bases.iter().filter_map(newest).max()?;
        let extras = direct.extras();
        let besides = direct.specifiers.iter().flat_map(|all| all.iter());
        let besides: String = besides.map(|one| format!(",{one}")).collect();
        (newest > picked).then(|| Behind {
            name: direct.name.clone(),
            // `>1.0` would leave out 1.0.post1.
            above: format!("{}{extras}>={picked},!={picked}{besides}", direct.name),
            picked: picked.to_string(),
            newest: newest.to_string(),
            years_older: false,
        })
    }

    /// Why the newest release of a package, which has a wheel, was not taken.
    fn why_not(
        &mut self,
        direct: &Direct,
        newest: &Version,
        behind: Option<&Behind>,
        base: &'static Base,
    ) -> Result<Why, Error> {
        if self.questions >= MOST_QUESTIONS {
            return Ok(Why::Others);
        }
        // An extra may be what can't be had.
        match self.ask_for(base, format!("{}{}=={newest}", direct.name, direct.extras())) {
            Ok(_) => Ok(Why::Others),
            Err(IndexError::NoSolution { words }) => {
                let mut sources = source_only(&words);
                sources.retain(|source| *source != direct.name);
                if !sources.is_empty() {
                    return Ok(Why::Source(sources.join(", ")));
                }
                // Another newer release may be had all the same.
                let nothing = behind.map(|behind| self.nothing_newer(behind, base)).transpose()?;
                Ok(nothing
                    .flatten()
                    .map_or(Why::Others, |words| Why::Python(super::first_line(&words))))
            }
            Err(error) => Err(Error::from_index("package index", error)),
        }
    }
}

fn judge(direct: &Direct, picked: &str, files: &[ListedFile], target: Target) -> Verdict {
    let Ok(picked) = picked.parse::<Version>() else { return Verdict::Fine };
    let name = &direct.name;
    let releases = releases(name, files, target);
    let asked_for_pre = direct.specifiers.iter().flat_map(|s| s.iter()).any(|s| s.any_prerelease());
    let newest = releases
        .iter()
        .filter(|(version, _)| allows(direct, version))
        .rfind(|(version, _)| asked_for_pre || !version.any_prerelease());
    let pre = picked.any_prerelease() && !asked_for_pre;
    let Some((newest, release)) = newest else {
        return match pre {
            true => Verdict::Note(format!(
                "{name} {picked} is a pre-release: there is no other release"
            )),
            false => Verdict::Fine,
        };
    };
    if picked >= *newest {
        return match pre {
            true => Verdict::Relic(format!(
                "{name} {picked}: a pre-release that nobody asked for; the newest release is {newest}"
            )),
            false => Verdict::Fine,
        };
    }
    let ours = releases.get(&picked).and_then(|release| release.uploaded);
    let age = ours.zip(release.uploaded).map(|(ours, newest)| newest - ours);
    let old = age.is_some_and(|days| days >= OLD);
    let empty = picked.release().iter().all(|part| *part == 0);
    let kind = match (pre, empty, old) {
        (true, ..) => Some("a pre-release that nobody asked for"),
        (_, true, _) => Some("an empty release"),
        (.., true) => Some(YEARS_OLDER),
        _ => None,
    };
    if release.wheel_fits {
        let held = |kind| Verdict::HeldBack { newest: newest.clone(), kind };
        return kind.map_or(Verdict::Fine, held);
    }
    let lack = match release.wheel {
        true => format!("has no wheel for Python {} on {}", target.base.python, target.machine),
        false => "is there as source only".to_owned(),
    };
    let text = format!("its newest release, {newest}, {lack}");
    match kind {
        None => Verdict::Note(format!("{name} {picked} was taken: {text}")),
        Some(kind) => Verdict::Relic(format!(
            "{name} {picked} ({kind}) is all that there is as a wheel: {text}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(direct: &str, picked: &str, files: &[(&str, &str)]) -> Verdict {
        let file = |(name, day): &(&str, &str)| ListedFile {
            name: (*name).into(),
            uploaded: Some(format!("{day}T00:00:00Z")),
            requires_python: None,
            yanked: false,
        };
        let files: Vec<_> = files.iter().map(file).collect();
        let base = sconce_facts::base("trixie").unwrap();
        let target = Target { machine: sconce_facts::Machine::X86_64, base };
        let name = crate::resolve::words::name_of(direct);
        let rest = direct.trim_start_matches(&name);
        let specifiers = (!rest.is_empty()).then(|| rest.parse().unwrap()).into_iter().collect();
        judge(&Direct { name, extras: BTreeSet::new(), specifiers }, picked, &files, target)
    }

    #[test]
    fn relics() {
        let deepspeed = [
            ("deepspeed-0.3.1.dev3-py3-none-any.whl", "2020-09-10"),
            ("deepspeed-0.3.1.tar.gz", "2020-10-01"),
            ("deepspeed-0.19.8.tar.gz", "2026-10-01"),
        ];
        let text = "deepspeed 0.3.1.dev3 (a pre-release that nobody asked for) is all that there is as a \
                    wheel: its newest release, 0.19.8, is there as source only";
        assert_eq!(judged("deepspeed", "0.3.1.dev3", &deepspeed), Verdict::Relic(text.into()));
        // Asked for, it is meant.
        assert_eq!(judged("deepspeed==0.3.1.dev3", "0.3.1.dev3", &deepspeed), Verdict::Fine);
        assert_eq!(
            judged("deepspeed<0.3.1", "0.3.1.dev3", &deepspeed),
            Verdict::Note(
                "deepspeed 0.3.1.dev3 is a pre-release: there is no other release".into()
            )
        );
        let old = [("a-1.0-py3-none-any.whl", "2020-01-01"), ("a-2.0.tar.gz", "2022-01-01")];
        assert!(
            matches!(judged("a", "1.0", &old), Verdict::Relic(text) if text.contains("years older"))
        );
        let fresh = [("a-1.0-py3-none-any.whl", "2021-12-01"), ("a-2.0.tar.gz", "2022-01-01")];
        let note = "a 1.0 was taken: its newest release, 2.0, is there as source only";
        assert_eq!(judged("a", "1.0", &fresh), Verdict::Note(note.into()));
        assert_eq!(judged("a<2", "1.0", &fresh), Verdict::Fine);
        let python = [
            ("a-1.0-py3-none-any.whl", "2019-12-01"),
            ("a-2.0-cp311-cp311-manylinux_2_17_x86_64.whl", "2022-01-01"),
        ];
        assert!(
            matches!(judged("a", "1.0", &python), Verdict::Relic(text) if text.contains("no wheel for Python 3.13"))
        );
        let held =
            [("a-1.0-py3-none-any.whl", "2019-12-01"), ("a-2.0-py3-none-any.whl", "2022-01-01")];
        let newest = "2.0".parse().unwrap();
        assert_eq!(judged("a", "1.0", &held), Verdict::HeldBack { newest, kind: YEARS_OLDER });
        let empty = [("a-0.0.0-py3-none-any.whl", "2022-01-01"), ("a-0.1.tar.gz", "2022-01-02")];
        assert!(
            matches!(judged("a", "0.0.0", &empty), Verdict::Relic(text) if text.contains("empty"))
        );
    }
}
