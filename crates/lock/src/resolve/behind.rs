//! What was asked for by name and is not the newest: which release was not taken and why, in a line each.

use std::cmp::Reverse;

use sconce_facts::Base;

use super::newest::Behind;
use super::torch::{Found, Try};
use super::words::{name_of, source_only};
use super::{MOST_QUESTIONS, Resolution, first_line};
use crate::candidate::Candidate;
use crate::document::Wheel;
use crate::error::Error;
use crate::index::IndexError;
use crate::wheel_name::normalise;

/// How many packages of a set are looked into: each costs a question or two.
const MOST: usize = 3;

impl Resolution<'_> {
    /// Says of a set what is not the newest in it, and why.
    pub(super) fn tell_behind(
        &mut self,
        behind: &[Behind],
        (base, torch): (&'static Base, Option<&Candidate>),
        wheels: &[Wheel],
    ) -> Result<(), Error> {
        // What was held to an older release for the torch has been told of.
        let held = |one: &&Behind| {
            let pin = format!("{}==", one.name);
            self.held.iter().any(|held| held.starts_with(&pin))
                || self.is_held_to_torch(&one.name, torch)
        };
        let mut behind: Vec<&Behind> = behind.iter().filter(|one| !held(one)).collect();
        behind.sort_by_key(|one| Reverse(one.years_older));
        for one in behind.iter().take(MOST) {
            let why = match self.nothing_newer(one, base)? {
                Some(words) => self.not_to_be_had(&one.name, &words, base),
                None => self
                    .held_by(one, (base, torch), wheels)
                    .unwrap_or_else(|| "another requirement holds it back".to_owned()),
            };
            let Behind { name, picked, newest, .. } = one;
            let old = if one.years_older { ", which is years older," } else { "" };
            self.explanation.note(format!("{name} {picked}{old} was taken, not {newest}: {why}"));
        }
        if let Some(rest @ [_, ..]) = behind.get(MOST..) {
            let names: Vec<&str> = rest.iter().map(|one| one.name.as_str()).collect();
            self.explanation.note(format!("not the newest either: {}", names.join(", ")));
        }
        Ok(())
    }

    /// A set for the same torch in which what was asked for by name and came out years old is newer, where that makes
    /// nothing else that was asked for older, or fewer of it years old: the resolver may give way at what a person named for
    /// what nobody did.
    pub(super) fn newer_than_years_old(&mut self, found: Found) -> Result<Found, Error> {
        if self.previous.kept().is_some() {
            return Ok(found);
        }
        let old = found.judged.behind.iter().filter(|one| one.years_older).take(MOST);
        let old: Vec<Behind> = old.cloned().collect();
        let mut found = found;
        for one in old {
            if self.questions >= MOST_QUESTIONS {
                break;
            }
            self.held.push(one.newer());
            match self.attempt(&[found.candidate])? {
                Try::Found(other)
                    if self.none_older(&other.wheels, &found.wheels)
                        || years_old(&other) < years_old(&found) =>
                {
                    found = other;
                }
                _ => drop(self.held.pop()),
            }
        }
        Ok(found)
    }

    /// Why a Python has nothing newer of a package, whatever else is asked for.
    fn not_to_be_had(&mut self, name: &str, words: &str, base: &'static Base) -> String {
        let sources = source_only(words);
        if sources.is_empty() {
            return first_line(words);
        }
        self.list(sources.iter());
        // uv says the same of what has wheels for other Pythons.
        let has_wheels = |name: &String| {
            let files = self.listed.get(name).map(Vec::as_slice).unwrap_or_default();
            files.iter().any(|file| file.name.ends_with(".whl"))
        };
        let lack = match sources.iter().any(has_wheels) {
            true => format!("in a release that has no wheel for Python {}", base.python),
            false => "which is there as source only".to_owned(),
        };
        match sources.as_slice() {
            [own] if own == name => format!("it has no wheel for Python {}", base.python),
            some => format!("it needs {}, {lack}", some.join(", ")),
        }
    }

    /// Which of the other requirements keep a package from being newer.
    fn held_by(
        &mut self,
        one: &Behind,
        (base, torch): (&'static Base, Option<&Candidate>),
        wheels: &[Wheel],
    ) -> Option<String> {
        if self.questions >= MOST_QUESTIONS {
            return None;
        }
        let newer = one.newer();
        let mut constraints = torch.map(Candidate::constraints).unwrap_or_default();
        constraints.push(&newer);
        let pin = torch.map(|torch| format!("torch=={}", torch.release.version));
        let backend = torch.and_then(|torch| torch.channel.backend());
        let cuda = torch.and_then(|torch| torch.cuda);
        match self.ask(base, pin, cuda, &constraints, backend) {
            Err(IndexError::NoSolution { words }) => {
                let mut others = self.culprits(&words);
                others.retain(|text| normalise(&name_of(text)) != one.name);
                Some(match (others.as_slice(), torch) {
                    ([], Some(torch)) if words.contains("torch") => {
                        format!("torch {} does not allow it", torch.release.version)
                    }
                    ([], _) => first_line(&words),
                    ([one], _) => format!("{one} does not allow it"),
                    (some, _) => format!("{} together do not allow it", some.join(" and ")),
                })
            }
            Ok(answer) => {
                let there = self.wheels(&answer, base).ok()?;
                Some(match self.older(&there, wheels).as_slice() {
                    // What the answer has is what was tried; the newest of all was not.
                    [] => {
                        let found = there.iter().find(|wheel| wheel.name == one.name)?;
                        match found.version == one.newest {
                            true => format!("name `{}>={}` to have it", one.name, one.newest),
                            false => format!(
                                "name `{}>={}` to have {} at least",
                                one.name, found.version, found.version
                            ),
                        }
                    }
                    older => format!("it would take older releases: {}", older.join(", ")),
                })
            }
            // The set is there; why it is not another one is not worth an error.
            Err(_) => None,
        }
    }
}

/// How many of the packages that were asked for are years older than their newest release.
fn years_old(found: &Found) -> usize {
    found.judged.behind.iter().filter(|one| one.years_older).count()
}
