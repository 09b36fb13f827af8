//! What was asked for by name and is not the newest, where the newest can be had on another Python.

use sconce_facts::Base;

use super::{MOST_QUESTIONS, Resolution};
use crate::document::Wheel;
use crate::error::Error;
use crate::index::IndexError;

/// How many packages of a set are looked at: each costs a question or more.
const MOST: usize = 3;

/// How many other Pythons are asked for a whole set.
pub(super) const MOST_PYTHONS: usize = 2;

/// A package that is older in a set than a release with a wheel for a Python that the image could have.
#[derive(Debug, Clone)]
pub(super) struct Behind {
    pub name: String,
    /// The version in the set.
    pub picked: String,
    /// The newest release.
    pub newest: String,
    /// Whether that is years newer.
    pub years_older: bool,
    /// What asks for something newer: "sglang[all]>0.5.2".
    pub above: String,
}

impl Behind {
    /// What shuts out the version in the set and all that is older.
    pub(super) fn newer(&self) -> String {
        format!("{}>={},!={}", self.name, self.picked, self.picked)
    }
}

/// What one Python keeps back.
#[derive(Debug, Default)]
pub(super) struct HeldByPython {
    behind: Vec<Behind>,
    /// Why there is nothing newer there, in the resolver's words, one for each.
    said: Vec<String>,
}

impl Resolution<'_> {
    /// Which packages have nothing newer on this Python even if nothing else is asked for. The others are
    /// held back by another requirement, which no Python changes.
    pub(super) fn held_by_python(
        &mut self,
        behind: &[Behind],
        base: &'static Base,
    ) -> Result<HeldByPython, Error> {
        let mut held = HeldByPython::default();
        // A lock that is there has its Python, a Python that was named has no others, and where one was
        // taken that is not the first, other requirements have decided it.
        let bases = &self.request.bases;
        if self.previous.kept().is_some() || bases.len() < 2 || bases.first() != Some(&base) {
            return Ok(held);
        }
        for one in behind.iter().take(MOST) {
            if let Some(words) = self.nothing_newer(one, base)? {
                held.behind.push(one.clone());
                held.said.push(words);
            }
        }
        Ok(held)
    }

    /// Whether a Python has something newer of what another keeps back.
    pub(super) fn has_newer(
        &mut self,
        held: &HeldByPython,
        base: &'static Base,
    ) -> Result<bool, Error> {
        if base.standalone.is_some() && !self.may_help(base, &held.said) {
            return Ok(false);
        }
        for one in &held.behind {
            if self.nothing_newer(one, base)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Why there is nothing newer of a package on a Python; `None` where there is, or was not looked for.
    pub(super) fn nothing_newer(
        &mut self,
        behind: &Behind,
        base: &'static Base,
    ) -> Result<Option<String>, Error> {
        let key = (base.python.clone(), behind.above.clone());
        if let Some(known) = self.alone.get(&key) {
            return Ok(known.clone());
        }
        if self.questions >= MOST_QUESTIONS {
            return Ok(None);
        }
        let words = match self.ask_for(base, behind.above.clone()) {
            Ok(_) => None,
            Err(IndexError::NoSolution { words }) => Some(words),
            Err(error) => return Err(Error::from_index("package index", error)),
        };
        self.alone.insert(key, words.clone());
        Ok(words)
    }

    /// Whether one set is newer than another in what a Python keeps back, and older in nothing that was
    /// asked for; if so, it is said which Python is taken for what.
    pub(super) fn is_newer(
        &mut self,
        held: &HeldByPython,
        (there, wheels): (&Base, &[Wheel]),
        (here, before): (&Base, &[Wheel]),
    ) -> bool {
        if !self.none_older(wheels, before) {
            return false;
        }
        let of = |wheels: &[Wheel], name: &str| {
            wheels.iter().find(|wheel| wheel.name == name).map(|wheel| wheel.version.clone())
        };
        let newer: Vec<String> = held
            .behind
            .iter()
            .filter_map(|one| Some((&one.name, of(wheels, &one.name)?, &one.picked)))
            .filter(|(_, version, picked)| version != *picked)
            .map(|(name, version, picked)| {
                format!(
                    "{name} {version}: on Python {} the newest that can be had is {picked}",
                    here.python
                )
            })
            .collect();
        if newer.is_empty() {
            return false;
        }
        self.explanation.note(format!(
            "Python {} was taken for {}",
            there.python,
            newer.join("; ")
        ));
        true
    }
}

impl HeldByPython {
    /// Whether it keeps nothing back.
    pub(super) const fn is_empty(&self) -> bool {
        self.behind.is_empty()
    }
}
