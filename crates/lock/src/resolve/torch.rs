//! torch from the facts, newest first, checked against them; backed off from where it does not fit.

use std::collections::BTreeMap;

use pep440_rs::Version;

use super::companions::{Disagreement, Wants};
use super::group::{is_ours, range, same_version};
use super::left::Left;
use super::old_torch::old_torch_in;
use super::relics::Judged;
use super::{Chosen, MOST_QUESTIONS, Moved, Resolution, meets};
use crate::candidate::{self, Candidate, Reason, candidates};
use crate::document::Wheel;
use crate::error::{Beside, Error};
use crate::explain::Refused;
use crate::index::IndexError;
use crate::refusal;
use crate::spec::TorchRequest;

/// What came of asking for a group of candidates.
pub(super) enum Try {
    /// A set that fits.
    Found(Found),
    /// The requirements do not allow it, in the resolver's words.
    No(String),
    /// The set is not what that release was built with.
    Misfit(Misfit),
    /// Requirements got releases that nobody can want; for each, why.
    Relics(Vec<String>),
}

/// A set that does not fit its torch.
pub(super) struct Misfit {
    set: Unfit,
    message: String,
    /// The file that it does not fit, where there is one.
    beside: Option<Fit>,
    error: Error,
}

impl Misfit {
    /// What the file that does not fit wants of the torch beside it.
    pub(super) fn wants(&self) -> Option<&Wants> {
        self.beside.as_ref().map(|fit| &fit.wants)
    }

    /// The package that does not fit, where it is one.
    pub(super) fn beside(&self) -> Option<&Beside> {
        match &self.error {
            Error::Beside(beside) => Some(beside),
            _ => None,
        }
    }
}

/// The set itself.
pub(super) struct Unfit {
    pub candidate: Candidate,
    pub wheels: Vec<Wheel>,
}

/// What a file wants of the torch beside it.
struct Fit {
    package: String,
    file: String,
    wants: Wants,
    /// Whether the very file was asked for: then no other torch brings another one.
    fixed: bool,
    /// Whether it comes on this Python whatever the torch, as it does not need torch.
    always: bool,
}

/// A set that fits.
pub(super) struct Found {
    pub candidate: Candidate,
    /// Its place in the group that was asked for.
    pub at: usize,
    pub wheels: Vec<Wheel>,
    addresses: BTreeMap<String, String>,
    pub judged: Judged,
}

impl Resolution<'_> {
    /// torch from the facts, newest first; the resolver may take an older one when the requirements say so.
    pub(super) fn with_torch(&mut self) -> Result<Chosen, Error> {
        if self.request.torch == TorchRequest::Newest
            && let Some(asked) = self.torch_asked_for()
        {
            self.request.torch = TorchRequest::Versions(asked);
        }
        if let Some(error) = self.older_than_facts() {
            return Err(error);
        }
        let (left, mut refused) = candidates(&self.request);
        if left.is_empty() {
            if let TorchRequest::Versions(specifiers) = &self.request.torch
                && refused.is_empty()
                && candidate::reaches_beyond(specifiers)
            {
                let text = format!("torch{specifiers}");
                return self.newer_than_facts(text);
            }
            return Err(refusal::no_torch(&self.request, &refused));
        }
        if let Some(kept) = self.torch_of_previous(&left)? {
            return Ok(kept);
        }
        let newest = left.first().map(|candidate| candidate.release.version.clone());
        refused.retain(|(release, _)| {
            let at =
                |version: &str| sconce_facts::releases().iter().position(|r| r.version == version);
            newest.as_deref().and_then(at) < at(&release.version)
        });
        if let Some((release, why)) = refused.first()
            && self.request.torch == TorchRequest::Newest
            && matches!(why, Reason::OldDriver { .. } | Reason::NoCode { .. })
        {
            self.explanation.note(format!("torch {} was not taken: {why}", release.version));
        }
        let mut told: Vec<Refused> =
            refused.iter().map(|(release, why)| refusal::one(release, why)).collect();
        let (mut refusals, mut of_ours) = (Vec::new(), Vec::new());
        let mut misfit: Option<(Error, Unfit)> = None;
        // The first misfit of each package, with the torch that it did not fit.
        let mut misfits: Vec<(Box<Beside>, Wants, Candidate)> = Vec::new();
        let mut left = Left::new(left);
        'groups: while let Some(head) = left.next().first().copied() {
            if self.questions >= MOST_QUESTIONS {
                break;
            }
            let group = self.group(left.next(), head);
            let mut relics = Vec::new();
            let mut said = Vec::new();
            let first = misfit.is_none();
            // The torch that one Python's packages do not fit: the next Pythons are asked for no other.
            let mut unfit: Option<String> = None;
            // An older torch only after the same one on another Python.
            for mut group in [group.clone()].into_iter().chain(self.elsewhere(&group)) {
                group
                    .retain(|one| unfit.as_ref().is_none_or(|unfit| one.release.version == *unfit));
                if group.is_empty() || left.is_closed(&group) {
                    continue;
                }
                // One that is not Debian's only where a Python is what the requirements lack, or may have another
                // release of what does not fit.
                if let Some(base) = group.first().map(|candidate| candidate.base)
                    && (base != head.base && base.standalone.is_some())
                    && unfit.is_none()
                    && !self.may_help(base, &said)
                {
                    continue;
                }
                match self.attempt(&group)? {
                    Try::Found(found) => {
                        let found = self.newer_elsewhere(&group, found, &mut told)?;
                        // An older torch for the sake of a package is no way out where another gets years older.
                        let instead = match &misfit {
                            Some((_, misfit)) => self.older_for(&misfit.wheels, &found.wheels),
                            None => Vec::new(),
                        };
                        if let Some((Error::Beside(beside), set)) = misfit
                            && !instead.is_empty()
                        {
                            let needed_by = self.needing(&beside.package, &set);
                            let beside = Beside { instead, needed_by, ..*beside };
                            return Err(Error::Beside(Box::new(beside)));
                        }
                        self.taken_after_all(&found, &mut told);
                        let moved = found.candidate.base != head.base;
                        self.moved = moved.then_some(Moved::Needed);
                        let found = self.newest_elsewhere(&group, found)?;
                        let found = self.newer_than_years_old(found)?;
                        return self.take(found, told);
                    }
                    Try::No(why) => {
                        said.push(why.clone());
                        left.refused(&group, &why);
                        if let Some(base) = group.first().map(|candidate| candidate.base) {
                            let ours = is_ours(&group, &why);
                            if ours { &mut of_ours } else { &mut refusals }
                                .push((base, why.clone()));
                        }
                        self.tell_refused(&group, &why, &mut told);
                    }
                    Try::Relics(why) => {
                        said.extend(why.iter().cloned());
                        self.tell(&group, &why.join("; "), &mut told);
                        relics = if relics.is_empty() { why } else { relics };
                    }
                    // One Python after the other of the newest torch: what did not fit on the first decides which torch is next.
                    Try::Misfit(_) if unfit.is_some() => {}
                    Try::Misfit(Misfit { set, message, beside, error }) => {
                        let version = set.candidate.release.version.clone();
                        if misfit.is_none() {
                            let text = format!("torch {version} was not taken: {message}");
                            self.explanation.note(text);
                        }
                        told.push(Refused {
                            what: format!("torch {version}"),
                            why: message.clone(),
                        });
                        match beside {
                            None => left.remove(&version),
                            Some(Fit { package, file, wants, fixed, always }) => {
                                let machine = self.request.machine;
                                let comes = (fixed, always.then_some(set.candidate.base));
                                left.remove_misfit(&version, (&file, &wants), comes, machine);
                                self.index.looking_for(&format!("a torch that {package} fits"));
                                let known = misfits.iter().any(|(one, ..)| one.package == package);
                                if let Error::Beside(beside) = &error
                                    && !known
                                {
                                    misfits.push((beside.clone(), wants, set.candidate));
                                }
                            }
                        }
                        let base = set.candidate.base;
                        misfit.get_or_insert((error, set));
                        if base == head.base || !first {
                            continue 'groups;
                        }
                        // The next Python may have another release of what does not fit on this one.
                        unfit = Some(version);
                    }
                }
            }
            if unfit.is_some() {
                continue;
            }
            // No torch makes a wheel of what is there as source only.
            if !relics.is_empty() {
                return Err(self.relics(relics));
            }
            left.remove_first(group.len());
        }
        Err(match misfit {
            Some((Error::Beside(_), set)) => {
                // What goes with each torch may keep away the one that another package fits.
                for candidate in self.worth_trying(&misfits) {
                    let Some(found) = self.fitted(candidate)? else { continue };
                    if !self.older_for(&set.wheels, &found.wheels).is_empty() {
                        self.held.clear();
                        continue;
                    }
                    self.taken_after_all(&found, &mut told);
                    return self.take(found, told);
                }
                self.nothing_fits(misfits, &set)
            }
            Some((misfit, _)) => misfit,
            None => {
                let words = refusals.iter().chain(&of_ours).map(|(_, words)| words.as_str());
                if self.spec.environment.torch == TorchRequest::Newest
                    && let Some((version, old)) = words.into_iter().find_map(old_torch_in)
                    && self.request.torch != TorchRequest::Versions(old.clone())
                    && self.may_be(version)
                {
                    self.explanation.note(format!(
                        "torch {version} is what your requirements ask for: older ones than 2.1 are taken for that alone"
                    ));
                    self.request.torch = TorchRequest::Versions(old);
                    return self.with_torch();
                }
                // What we asked for ourselves explains nothing.
                refusals.append(&mut of_ours);
                self.unsatisfiable(refusals, told)
            }
        })
    }

    /// The torch of the lock that is there, if it still fits.
    fn torch_of_previous(&mut self, left: &[Candidate]) -> Result<Option<Chosen>, Error> {
        let Some(wheel) = self.previous.wheel("torch") else { return Ok(None) };
        let version = wheel.version.clone();
        let Some(candidate) = left.iter().find(|c| same_version(c, &version)).copied() else {
            return Ok(None);
        };
        let base = self
            .previous
            .kept()
            .and_then(|lock| sconce_facts::base_with(&lock.facts.base, &lock.facts.python));
        let same_base = base.and_then(|base| candidate.on(base, &self.request));
        let Try::Found(found) = self.attempt(&[same_base.unwrap_or(candidate)])? else {
            return Ok(None);
        };
        self.take(found, Vec::new()).map(Some)
    }

    /// Takes back that the torch of what was found was not taken, as it was in another set.
    fn taken_after_all(&mut self, found: &Found, told: &mut Vec<Refused>) {
        let version = &found.candidate.release.version;
        let untrue = format!("torch {version} was not taken");
        self.explanation.notes.retain(|note| !note.starts_with(&untrue));
        told.retain(|one| one.what != format!("torch {version}"));
    }

    /// A set that was found, with what is to be said of it.
    fn take(&mut self, found: Found, told: Vec<Refused>) -> Result<Chosen, Error> {
        let Found { candidate, wheels, addresses, judged, .. } = found;
        self.tell_behind(&judged.behind, (candidate.base, Some(&candidate)), &wheels)?;
        judged.notes.into_iter().for_each(|note| self.explanation.note(note));
        Ok(self.chosen(candidate, wheels, addresses, told))
    }

    /// Asks for a group: the same base, channel and constraints, newest first.
    pub(super) fn attempt(&mut self, group: &[Candidate]) -> Result<Try, Error> {
        let Some(head) = group.first().copied() else { return Ok(Try::No(String::new())) };
        let backend = head.channel.backend();
        let answer =
            self.ask(head.base, Some(range(group)), head.cuda, &head.constraints(), backend);
        let answer = match answer {
            Ok(answer) => answer,
            Err(IndexError::NoSolution { words }) => return Ok(Try::No(words)),
            Err(error) => return Err(Error::from_index("package index", error)),
        };
        let wheels = self.wheels(&answer, head.base)?;
        let Some(found) = wheels.iter().find(|wheel| wheel.name == "torch") else {
            return Err(Error::Misfit {
                torch: head.release.version.clone(),
                message: "it is not in the set at all".into(),
            });
        };
        let Some(at) = group.iter().position(|c| same_version(c, &found.version)) else {
            return Err(Error::Misfit {
                torch: found.version.clone(),
                message: "it is not one of those asked for".into(),
            });
        };
        let Some(candidate) = group.get(at).copied() else { return Ok(Try::No(String::new())) };
        let candidate = match self.as_built(candidate, &found.version) {
            Ok(candidate) => candidate,
            Err(reason) => {
                let (torch, message) = (found.version.clone(), reason.to_string());
                let error = Error::Misfit { torch, message: message.clone() };
                let set = Unfit { candidate, wheels };
                return Ok(Try::Misfit(Misfit { set, message, beside: None, error }));
            }
        };
        let pins = candidate.requires(self.request.machine);
        let version = || candidate.release.version.clone();
        if let Err(message) =
            meets(&wheels, pins, &self.spec.environment.exclude, self.target(head.base))
        {
            let error = Error::Misfit { torch: version(), message: message.clone() };
            return Ok(Try::Misfit(Misfit {
                set: Unfit { candidate, wheels },
                message,
                beside: None,
                error,
            }));
        }
        if let Some(found) = self.disagreement(&wheels, &candidate) {
            let Disagreement { package, file, message, wants, fixed } = found;
            let always = !fixed && self.comes_with_any_torch(&package, &wheels, &candidate);
            let cuda = self.cuda_that_fits(&wants, &candidate);
            let error = Error::Beside(Box::new(Beside {
                torch: version(),
                message: message.clone(),
                package: package.clone(),
                fits: None,
                cuda,
                releases: Vec::new(),
                others: Vec::new(),
                instead: Vec::new(),
                loosened: None,
                needed_by: Vec::new(),
            }));
            let beside = Some(Fit { package, file, wants, fixed, always });
            return Ok(Try::Misfit(Misfit {
                set: Unfit { candidate, wheels },
                message,
                beside,
                error,
            }));
        }
        let judged = self.judge(&wheels, head.base)?;
        if !judged.relics.is_empty() {
            return Ok(Try::Relics(judged.relics));
        }
        Ok(Try::Found(Found { candidate, at, wheels, addresses: answer.addresses, judged }))
    }

    /// What the other set makes years older, in words.
    fn older_for(&self, before: &[Wheel], now: &[Wheel]) -> Vec<String> {
        let version = |wheels: &[Wheel], name: &str| {
            wheels.iter().find(|wheel| wheel.name == name)?.version.parse::<Version>().ok()
        };
        let older = |name: &str| version(now, name) < version(before, name);
        let held = self.held_back.iter().filter(|(name, _)| older(name));
        held.map(|(_, words)| words.clone()).collect()
    }

    /// The error for releases that nobody can want.
    pub(super) fn relics(&self, relics: Vec<String>) -> Error {
        let environment = &self.spec.environment;
        let (python, built) = (environment.python.clone(), environment.from_source.clone());
        Error::Relics { relics, python, built }
    }

    /// Whether no package that was asked for is older in `one` than in `other`.
    pub(super) fn none_older(&self, one: &[Wheel], other: &[Wheel]) -> bool {
        let version = |wheels: &[Wheel], name: &str| {
            wheels.iter().find(|wheel| wheel.name == name)?.version.parse::<Version>().ok()
        };
        self.direct_names().iter().all(|name| version(one, name) >= version(other, name))
    }
}
