//! `torch = false`: what is asked for, on the first Python that has it.

use sconce_facts::Base;

use super::newest::MOST_PYTHONS;
use super::relics::Judged;
use super::{Chosen, Moved, Resolution};
use crate::document::Wheel;
use crate::error::Error;
use crate::index::{IndexError, PythonAnswer};
use crate::spec::Requirements;

impl Resolution<'_> {
    /// The set of the first Python that has one.
    pub(super) fn without_torch(&mut self) -> Result<Chosen, Error> {
        let mut refused: Vec<(&Base, String)> = Vec::new();
        let mut relics = Vec::new();
        for base in self.request.bases.clone() {
            let words = refused.iter().map(|(_, words)| words);
            let said: Vec<String> = words.take(1).chain(&relics).cloned().collect();
            if base.standalone.is_some() && !said.is_empty() && !self.may_help(base, &said) {
                continue;
            }
            let nothing = matches!(&self.spec.environment.requirements, Requirements::List(list) if list.is_empty());
            let answer = if nothing {
                Ok(PythonAnswer::default())
            } else {
                self.ask(base, None, None, &[], None)
            };
            let answer = match answer {
                Ok(answer) => answer,
                Err(IndexError::NoSolution { words }) => {
                    refused.push((base, words));
                    continue;
                }
                Err(error) => return Err(Error::from_index("package index", error)),
            };
            let wheels = if nothing { Vec::new() } else { self.wheels(&answer, base)? };
            no_torch_in(&wheels)?;
            let judged = self.judge(&wheels, base)?;
            if !judged.relics.is_empty() {
                relics = if relics.is_empty() { judged.relics } else { relics };
                continue;
            }
            let chosen = Chosen { base, torch: None, wheels, addresses: answer.addresses };
            let chosen = self.newest_without_torch(chosen, judged)?;
            self.explanation.choose("torch", "none", "torch = false", Vec::new());
            return Ok(chosen);
        }
        Err(match relics.is_empty() {
            true => self.unsatisfiable(refused, Vec::new()),
            false => self.relics(relics),
        })
    }

    /// What was found, or the set of another Python that has something newer of what was asked for.
    fn newest_without_torch(&mut self, found: Chosen, judged: Judged) -> Result<Chosen, Error> {
        let held = self.held_by_python(&judged.behind, found.base)?;
        let mut tried = 0;
        for base in self.request.bases.clone() {
            if held.is_empty() || tried == MOST_PYTHONS {
                break;
            }
            if base == found.base || !self.has_newer(&held, base)? {
                continue;
            }
            tried += 1;
            let answer = match self.ask(base, None, None, &[], None) {
                Ok(answer) => answer,
                Err(IndexError::NoSolution { .. }) => continue,
                Err(error) => return Err(Error::from_index("package index", error)),
            };
            let wheels = self.wheels(&answer, base)?;
            no_torch_in(&wheels)?;
            let other = self.judge(&wheels, base)?;
            if other.relics.is_empty()
                && self.is_newer(&held, (base, &wheels), (found.base, &found.wheels))
            {
                self.moved = Some(Moved::Newer);
                self.tell_behind(&other.behind, (base, None), &wheels)?;
                other.notes.into_iter().for_each(|note| self.explanation.note(note));
                return Ok(Chosen { base, torch: None, wheels, addresses: answer.addresses });
            }
        }
        self.tell_behind(&judged.behind, (found.base, None), &found.wheels)?;
        judged.notes.into_iter().for_each(|note| self.explanation.note(note));
        Ok(found)
    }
}

/// Refuses a set with torch.
pub(super) fn no_torch_in(wheels: &[Wheel]) -> Result<(), Error> {
    match wheels.iter().find(|wheel| wheel.name == "torch") {
        None => Ok(()),
        Some(torch) => Err(Error::Request {
            message: format!("torch = false, and the requirements bring torch {}", torch.version),
            hint: Some("leave `torch` out, or the package that needs it".into()),
        }),
    }
}
