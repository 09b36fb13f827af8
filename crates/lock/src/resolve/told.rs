//! What is said of releases that were not taken.

use pep440_rs::Version;

use super::torch::Found;
use super::{Resolution, first_line};
use crate::candidate::Candidate;
use crate::document::Wheel;
use crate::explain::Refused;
use crate::index::IndexError;

impl Resolution<'_> {
    /// A group that the requirements do not allow.
    pub(super) fn tell_refused(
        &mut self,
        group: &[Candidate],
        words: &str,
        told: &mut Vec<Refused>,
    ) {
        let why = self.in_a_line(words);
        self.tell(group, &why, told);
    }

    /// Why the resolver found no solution: the requirements that it rests on, else its first words.
    fn in_a_line(&self, words: &str) -> String {
        // What was shut out for it is no requirement of anybody.
        let lacks = || self.lacks.iter().map(super::undeclared::Lack::message);
        if let Some(lack) = lacks().find(|lack| words.starts_with(lack.as_str())) {
            return lack;
        }
        match self.culprits(words).as_slice() {
            [] => first_line(words),
            [one] => format!("{one} does not allow it"),
            some => format!("{} together do not allow it", some.join(" and ")),
        }
    }

    /// A group that was not taken, and why.
    pub(super) fn tell(&mut self, group: &[Candidate], why: &str, told: &mut Vec<Refused>) {
        let several = self.request.bases.len() > 1;
        for candidate in group {
            let on = match several {
                true => format!(" on Python {}", candidate.base.python),
                false => String::new(),
            };
            told.push(Refused {
                what: format!("torch {}{on}", candidate.release.version),
                why: why.to_owned(),
            });
        }
        if let Some(newest) = group.first() {
            let what = &newest.release.version;
            let on =
                if several { format!(" on Python {}", newest.base.python) } else { String::new() };
            self.explanation.note(format!("torch {what}{on} was not taken: {why}"));
        }
    }

    /// The releases of a group that are newer than the one taken: ask why not.
    pub(super) fn tell_backed_off(
        &mut self,
        group: &[Candidate],
        found: &Found,
        told: &mut Vec<Refused>,
    ) {
        let Some((newest, passed)) =
            group.get(..found.at).and_then(|passed| Some((passed.first()?, passed)))
        else {
            return;
        };
        let asked = Some(format!("torch=={}", newest.release.version));
        let backend = newest.channel.backend();
        let answer = self.ask(newest.base, asked, newest.cuda, &newest.constraints(), backend);
        let version = &newest.release.version;
        let why = match answer {
            Err(IndexError::NoSolution { words }) => self.in_a_line(&words),
            Ok(answer) => {
                let wheels = self.wheels(&answer, newest.base).unwrap_or_default();
                match self.older(&wheels, &found.wheels).as_slice() {
                    [] => "the newest of your other requirements ask for an older torch".to_owned(),
                    older => format!("it would take older releases: {}", older.join(", ")),
                }
            }
            Err(_) => "the newest of your other requirements ask for an older torch".to_owned(),
        };
        self.explanation.note(format!("torch {version} was not taken: {why}"));
        for candidate in passed {
            let what = format!("torch {}", candidate.release.version);
            told.push(Refused { what, why: why.clone() });
        }
    }

    /// What was asked for and would be older: "vllm 0.5.1 instead of 0.33.0".
    pub(super) fn older(&self, there: &[Wheel], here: &[Wheel]) -> Vec<String> {
        let of = |wheels: &[Wheel], name: &str| {
            let wheel = wheels.iter().find(|wheel| wheel.name == name)?;
            wheel.version.parse::<Version>().ok()
        };
        let names = self.direct_names();
        let older = names.iter().filter_map(|name| {
            let (there, here) = (of(there, name)?, of(here, name)?);
            (there < here).then(|| format!("{name} {there} instead of {here}"))
        });
        older.collect()
    }
}
