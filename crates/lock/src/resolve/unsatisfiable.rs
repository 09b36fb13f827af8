//! The error for requirements that can't be met on any Python: which Python's refusal says why, and what is there
//! as source only.

use std::collections::{BTreeMap, BTreeSet};

use sconce_facts::Base;

use super::Resolution;
use super::releases::{allows, has_wheel, releases};
use super::relics::Direct;
use super::words::source_only;
use crate::error::{ELSEWHERE, Error, NEVER_BUILT, NOT_MEANT};
use crate::explain::Refused;

impl Resolution<'_> {
    /// Fills `listed` with what the index has of these packages.
    pub(super) fn list<'n>(&mut self, names: impl Iterator<Item = &'n String>) {
        let unknown: Vec<String> =
            names.filter(|name| !self.listed.contains_key(*name)).cloned().collect();
        if !unknown.is_empty() {
            let mut found = self.index.releases(&unknown).unwrap_or_default();
            let row = |name: String| (name.clone(), found.remove(&name).unwrap_or_default());
            self.listed.extend(unknown.into_iter().map(row));
        }
    }

    /// The error; `said` are the resolver's words for each Python, in the order in which they were tried.
    pub(super) fn unsatisfiable(
        &mut self,
        said: Vec<(&'static Base, String)>,
        refused: Vec<Refused>,
    ) -> Error {
        let lacking: BTreeSet<String> =
            said.iter().flat_map(|(_, words)| source_only(words)).collect();
        let mut names = lacking.clone();
        names.extend(self.direct_names());
        self.list(names.iter());
        let Some((first, first_words)) = said.first() else {
            return Error::Unsatisfiable {
                words: String::new(),
                refused,
                sources: Vec::new(),
                built: Vec::new(),
            };
        };
        // What one Python lacks and another has is not what keeps all of them from it.
        let of_python = |base: &&'static Base, words: &str| -> Vec<String> {
            let names = source_only(words).into_iter();
            names.filter(|name| self.lacks_only_here(name, base)).collect()
        };
        let decides = |(base, words): &&(&'static Base, String)| {
            !words.contains("Python") && of_python(base, words).is_empty()
        };
        // Where every Python speaks of Pythons, one that can have all that is asked for says more than another.
        let has_all = |(base, _): &&(&'static Base, String)| {
            let directs = self.directs(base);
            let has = |direct: &Direct| {
                let files = self.listed.get(&direct.name).map(Vec::as_slice).unwrap_or_default();
                files.is_empty() || has_wheel(&direct.name, files, Some(direct), self.target(base))
            };
            directs.values().all(has)
        };
        let found = said.iter().find(decides).or_else(|| said.iter().find(has_all));
        let (base, words) = found.unwrap_or(&said[0]);
        let words = match base == first {
            true => words.clone(),
            false => match of_python(first, first_words).as_slice() {
                [] => format!("on Python {}:\n{words}", base.python),
                some => format!(
                    "on Python {} (there is no wheel of {} for {}):\n{words}",
                    base.python,
                    some.join(", "),
                    first.python
                ),
            },
        };
        let mut sources = match lacking.is_empty() {
            true => Vec::new(),
            false => self.sources(base, source_only(&words)),
        };
        let stubs = sources.iter().filter_map(|name| {
            let has = sconce_facts::wheels_elsewhere(name)?;
            Some(format!(
                "\n{name} has no source there that could be built: its wheels are on {has}, {ELSEWHERE}"
            ))
        });
        let meant = sources.iter().filter_map(|name| {
            let there = sconce_facts::placeholder(name)?;
            Some(format!("\n`{name}` there {NOT_MEANT}, but {there}"))
        });
        let never = sources.iter().filter_map(|name| {
            let why = &sconce_facts::unbuildable(name)?.why;
            Some(format!("\n{name} {NEVER_BUILT}: {why}"))
        });
        // What stubs say last decides what is advised.
        let words = words + &never.chain(meant).chain(stubs).collect::<String>();
        sources.retain(|name| {
            sconce_facts::wheels_elsewhere(name).is_none()
                && sconce_facts::placeholder(name).is_none()
                && sconce_facts::unbuildable(name).is_none()
        });
        let built = self.spec.environment.from_source.clone();
        Error::Unsatisfiable { words, refused, sources, built }
    }

    fn directs(&self, base: &'static Base) -> BTreeMap<String, Direct> {
        let directs = self.direct(self.target(base)).into_iter();
        directs.map(|direct| (direct.name.clone(), direct)).collect()
    }

    /// Whether a Python has no wheel of a package that another one has.
    fn lacks_only_here(&self, name: &str, base: &'static Base) -> bool {
        let has = |base: &'static Base| {
            let directs = self.directs(base);
            let files = self.listed.get(name).map(Vec::as_slice).unwrap_or_default();
            has_wheel(name, files, directs.get(name), self.target(base))
        };
        !has(base) && self.request.bases.iter().any(|&other| other != base && has(other))
    }

    /// What could be built: the requirements of which no release that is asked for has a wheel for any Python,
    /// and what the refusal names besides.
    fn sources(&self, base: &'static Base, named: Vec<String>) -> Vec<String> {
        let directs = self.directs(base);
        let target = self.target(base);
        let is_source = |name: &str, direct: Option<&Direct>| {
            let files = self.listed.get(name).map(Vec::as_slice).unwrap_or_default();
            let asked = |version| direct.is_none_or(|direct| allows(direct, version));
            releases(name, files, target).iter().any(|(version, of)| of.source && asked(version))
        };
        let no_wheel = |direct: &&Direct| {
            let files = self.listed.get(&direct.name).map(Vec::as_slice).unwrap_or_default();
            let targets = self.request.bases.iter().map(|base| self.target(base));
            targets.into_iter().all(|target| !has_wheel(&direct.name, files, Some(direct), target))
        };
        let asked_for = directs.values().filter(no_wheel).map(|direct| direct.name.clone());
        // Of what is asked for some releases may have a wheel here, and it is something else that they lack.
        let has = |name: &String| {
            directs.get(name).is_some_and(|direct| {
                let files = self.listed.get(name).map(Vec::as_slice).unwrap_or_default();
                has_wheel(name, files, Some(direct), target)
            })
        };
        let named =
            named.into_iter().filter(|name| !self.lacks_only_here(name, base) && !has(name));
        let all: BTreeSet<String> = asked_for.chain(named).collect();
        all.into_iter().filter(|name| is_source(name, directs.get(name))).collect()
    }
}
