//! A set that was found, and what another Python has that is newer.

use super::newest::MOST_PYTHONS;
use super::torch::{Found, Try};
use super::{MOST_QUESTIONS, Moved, Resolution};
use crate::candidate::Candidate;
use crate::error::Error;
use crate::explain::Refused;

impl Resolution<'_> {
    /// What was found, or a newer torch on another Python if that makes nothing older that was asked for.
    pub(super) fn newer_elsewhere(
        &mut self,
        group: &[Candidate],
        found: Found,
        told: &mut Vec<Refused>,
    ) -> Result<Found, Error> {
        let newer = group.get(..found.at).unwrap_or_default();
        let mut said = Vec::new();
        for group in self.elsewhere(newer) {
            if self.questions >= MOST_QUESTIONS {
                break;
            }
            // Further Pythons are no help where it is not Python that keeps the newer one away.
            let base = group.first().map(|candidate| candidate.base);
            if !said.is_empty() && !base.is_some_and(|base| self.may_help(base, &said)) {
                continue;
            }
            match self.attempt(&group)? {
                Try::Found(other) if self.none_older(&other.wheels, &found.wheels) => {
                    let why = "it holds torch to an older release there".to_owned();
                    let what = format!("Python {}", found.candidate.base.python);
                    told.push(Refused { what, why });
                    return Ok(other);
                }
                Try::No(why) => said.push(why),
                Try::Relics(why) => said.extend(why),
                Try::Found(_) | Try::Misfit(_) => break,
            }
        }
        self.tell_backed_off(group, &found, told);
        Ok(found)
    }

    /// What was found, or a set on another Python that has something newer of what was asked for, and
    /// nothing older.
    pub(super) fn newest_elsewhere(
        &mut self,
        group: &[Candidate],
        found: Found,
    ) -> Result<Found, Error> {
        let here = found.candidate.base;
        let held = self.held_by_python(&found.judged.behind, here)?;
        let mut tried = 0;
        for group in self.elsewhere(group) {
            if held.is_empty() || tried == MOST_PYTHONS {
                break;
            }
            let Some(base) = group.first().map(|candidate| candidate.base) else { continue };
            if base == here || !self.has_newer(&held, base)? {
                continue;
            }
            tried += 1;
            if let Try::Found(other) = self.attempt(&group)?
                && self.is_newer(&held, (base, &other.wheels), (here, &found.wheels))
            {
                self.moved = Some(Moved::Newer);
                return Ok(other);
            }
        }
        Ok(found)
    }
}
