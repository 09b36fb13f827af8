//! torch from the facts, newest first, checked against them; backed off from where it does not fit.

use std::collections::BTreeMap;

use pep440_rs::{Version, VersionSpecifiers};
use sconce_facts::CudaVersion;

use super::companions::{Disagreement, Wants};
use super::{
    Chosen, MOST_QUESTIONS, Resolution, as_set, cuda_of, first_line, meets, torch_facts, versions,
};
use crate::candidate::{self, Candidate, Channel, Reason, candidates};
use crate::document::{TorchFacts, Wheel};
use crate::error::Error;
use crate::explain::Refused;
use crate::index::IndexError;
use crate::refusal;
use crate::spec::{CudaWish, Flavour, TorchWish};
use crate::verify::drifting;

/// What came of asking for a group of candidates.
enum Try {
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
struct Misfit {
    version: String,
    message: String,
    /// What a torch must be for it, where a file that was asked for decides that.
    only: Option<Wants>,
    error: Error,
}

/// A set that fits.
struct Found {
    candidate: Candidate,
    /// Its place in the group that was asked for.
    at: usize,
    wheels: Vec<Wheel>,
    addresses: BTreeMap<String, String>,
}

impl Resolution<'_> {
    /// torch from the facts, newest first; the resolver may take an older one when the requirements say so.
    pub(super) fn with_torch(&mut self) -> Result<Chosen, Error> {
        if self.wishes.torch == TorchWish::Newest
            && let Some(old) = self.old_torch()
        {
            self.wishes.torch = TorchWish::Versions(old);
        }
        let (mut left, mut refused) = candidates(&self.wishes);
        if left.is_empty() {
            if let TorchWish::Versions(specifiers) = &self.wishes.torch
                && refused.is_empty()
                && candidate::reaches_beyond(specifiers)
            {
                let text = format!("torch{specifiers}");
                return self.newer_than_facts(text);
            }
            return Err(refusal::no_torch(&self.wishes, &refused));
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
        let mut told: Vec<Refused> =
            refused.iter().map(|(release, why)| refusal::one(release, why)).collect();
        let mut first_words = None;
        let mut misfit = None;
        'groups: while let Some(head) = left.first().copied() {
            if self.questions >= MOST_QUESTIONS {
                break;
            }
            let group = self.group(&left, head);
            let mut relics = Vec::new();
            let mut words = None;
            // An older torch only after the same one on another Python.
            for group in [group.clone()].into_iter().chain(self.elsewhere(&group)) {
                match self.attempt(&group)? {
                    Try::Found(found) => {
                        let found = self.newer_elsewhere(&group, found, &mut told)?;
                        self.moved = found.candidate.base.release != head.base.release;
                        return Ok(self.chosen(
                            found.candidate,
                            found.wheels,
                            found.addresses,
                            told,
                        ));
                    }
                    Try::No(why) => {
                        self.tell_refused(&group, &why, &mut told);
                        words.get_or_insert(why);
                    }
                    Try::Relics(why) => {
                        self.tell(&group, &why.join("; "), &mut told);
                        relics = if relics.is_empty() { why } else { relics };
                    }
                    Try::Misfit(Misfit { version, message, only, error }) => {
                        if misfit.is_none() {
                            let text = format!("torch {version} was not taken: {message}");
                            self.explanation.note(text);
                        }
                        told.push(Refused {
                            what: format!("torch {version}"),
                            why: message.clone(),
                        });
                        let machine = self.wishes.machine;
                        left.retain(|other| {
                            other.release.version != version
                                && only.is_none_or(|wants| wants.met_by(other, machine))
                        });
                        misfit.get_or_insert(error);
                        continue 'groups;
                    }
                }
            }
            // No torch makes a wheel of what is there as source only.
            if !relics.is_empty() {
                return Err(Error::Relics { relics });
            }
            first_words = first_words.or(words);
            left.drain(..group.len());
        }
        Err(match (misfit, first_words) {
            (Some(misfit), _) => misfit,
            (None, words) => self.unsatisfiable(words.unwrap_or_default(), told),
        })
    }

    /// What the requirements themselves ask of torch, where only an old one is that.
    fn old_torch(&self) -> Option<VersionSpecifiers> {
        let base = self.wishes.bases.first().copied()?;
        let direct = self.direct(self.target(base)).into_iter().find(|d| d.name == "torch")?;
        let all = direct.specifiers.iter().flat_map(|specifiers| specifiers.iter().cloned());
        let all: VersionSpecifiers = all.collect();
        candidate::only_old(&all).then_some(all)
    }

    /// The torch of the lock that is there, if it still fits.
    fn torch_of_previous(&mut self, left: &[Candidate]) -> Result<Option<Chosen>, Error> {
        let Some(wheel) = self.previous.wheel("torch") else { return Ok(None) };
        let version = wheel.version.clone();
        let Some(candidate) = left.iter().find(|c| same_version(c, &version)).copied() else {
            return Ok(None);
        };
        let base = self.previous.kept().and_then(|lock| sconce_facts::base(&lock.facts.base).ok());
        let same_base = base.and_then(|base| candidate.on(base, &self.wishes));
        let Try::Found(found) = self.attempt(&[same_base.unwrap_or(candidate)])? else {
            return Ok(None);
        };
        Ok(Some(self.chosen(found.candidate, found.wheels, found.addresses, Vec::new())))
    }

    /// The candidates at the head of `left` that one question can ask for.
    fn group(&self, left: &[Candidate], head: Candidate) -> Vec<Candidate> {
        // PyTorch's own builds carry a local version, which ranges treat in their own way: one at a time.
        if head.channel.backend().is_some() {
            return vec![head];
        }
        let group: Vec<_> = left.iter().take_while(|c| alike(c, &head)).copied().collect();
        let cuda = group.iter().map(|c| c.cuda).reduce(|a, b| if a == b { a } else { None });
        match (self.wishes.flavour, cuda.flatten()) {
            // What devel adds depends on the CUDA: one at a time where it is not the same for all.
            (Flavour::Devel, None) => vec![head],
            _ => group,
        }
    }

    /// The same releases on the other Pythons that may be had.
    fn elsewhere(&self, group: &[Candidate]) -> Vec<Vec<Candidate>> {
        let Some(head) = group.first() else { return Vec::new() };
        let others = self.wishes.bases.iter().filter(|base| base.release != head.base.release);
        let on = |base: &&'static sconce_facts::Base| -> Vec<Candidate> {
            group.iter().filter_map(|candidate| candidate.on(base, &self.wishes)).collect()
        };
        others.map(on).filter(|group| !group.is_empty()).collect()
    }

    /// Asks for a group: the same base, channel and constraints, newest first.
    fn attempt(&mut self, group: &[Candidate]) -> Result<Try, Error> {
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
        let pins = candidate.requires(self.wishes.machine);
        let version = || candidate.release.version.clone();
        if let Err(message) = meets(&wheels, pins, self.target(head.base)) {
            let error = Error::Misfit { torch: version(), message: message.clone() };
            return Ok(Try::Misfit(Misfit { version: version(), message, only: None, error }));
        }
        if let Some(Disagreement { message, wants, fixed }) = self.disagreement(&wheels, &candidate)
        {
            let fits = self.torch_that_has(wants);
            let error = Error::Beside { torch: version(), message: message.clone(), fits };
            let only = fixed.then_some(wants);
            return Ok(Try::Misfit(Misfit { version: version(), message, only, error }));
        }
        let relics = self.relics(&wheels, head.base)?;
        if !relics.is_empty() {
            return Ok(Try::Relics(relics));
        }
        Ok(Try::Found(Found { candidate, at, wheels, addresses: answer.addresses }))
    }

    /// What was found, or a newer torch on another Python if that makes nothing older that was asked for.
    fn newer_elsewhere(
        &mut self,
        group: &[Candidate],
        found: Found,
        told: &mut Vec<Refused>,
    ) -> Result<Found, Error> {
        let newer = group.get(..found.at).unwrap_or_default();
        for group in self.elsewhere(newer) {
            if self.questions >= MOST_QUESTIONS {
                break;
            }
            if let Try::Found(other) = self.attempt(&group)?
                && self.none_older(&other.wheels, &found.wheels)
            {
                let why = "it holds torch to an older release there".to_owned();
                let what = format!("Python {}", found.candidate.base.python);
                told.push(Refused { what, why });
                return Ok(other);
            }
        }
        self.tell_backed_off(group, &found, told);
        Ok(found)
    }

    /// Whether no package that was asked for is older in `one` than in `other`.
    fn none_older(&self, one: &[Wheel], other: &[Wheel]) -> bool {
        let version = |wheels: &[Wheel], name: &str| {
            wheels.iter().find(|wheel| wheel.name == name)?.version.parse::<Version>().ok()
        };
        self.direct_names().iter().all(|name| version(one, name) >= version(other, name))
    }

    /// A group that the requirements do not allow.
    fn tell_refused(&mut self, group: &[Candidate], words: &str, told: &mut Vec<Refused>) {
        let why = self.in_a_line(words);
        self.tell(group, &why, told);
    }

    /// Why the resolver found no solution: the requirements that it rests on, else its first words.
    fn in_a_line(&self, words: &str) -> String {
        match self.culprits(words).as_slice() {
            [] => first_line(words),
            some => format!("{} does not allow it", some.join(" and ")),
        }
    }

    /// A group that was not taken, and why.
    fn tell(&mut self, group: &[Candidate], why: &str, told: &mut Vec<Refused>) {
        let several = self.wishes.bases.len() > 1;
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
    fn tell_backed_off(&mut self, group: &[Candidate], found: &Found, told: &mut Vec<Refused>) {
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
    fn older(&self, there: &[Wheel], here: &[Wheel]) -> Vec<String> {
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

    pub(super) fn chosen(
        &mut self,
        candidate: Candidate,
        wheels: Vec<Wheel>,
        addresses: BTreeMap<String, String>,
        refused: Vec<Refused>,
    ) -> Chosen {
        let machine = self.wishes.machine;
        let owned = versions(&wheels);
        let set = as_set(&owned);
        let architectures = candidate.architectures.map(<[_]>::to_vec);
        let torch = TorchFacts {
            version: wheels
                .iter()
                .find(|wheel| wheel.name == "torch")
                .map_or_else(|| candidate.release.version.clone(), |wheel| wheel.version.clone()),
            ..torch_facts(&set, candidate.cuda, architectures.clone().unwrap_or_default())
        };
        let cuda = candidate.cuda.map_or("CPU build".to_owned(), |cuda| format!("CUDA {cuda}"));
        let choice = format!("{} ({cuda})", torch.version);
        self.explanation.choose("torch", choice, self.why(&candidate), refused);
        if architectures.is_none() {
            let text =
                "which GPUs this build has code for is documented nowhere; it was not checked";
            self.explanation.note(text);
        }
        let capabilities: Vec<_> = self.wishes.gpus.iter().map(|gpu| gpu.capability).collect();
        for caveat in sconce_facts::caveats(&candidate.release.version, &capabilities) {
            let held = caveat.constraint.as_ref().map(|c| format!(" (held to {c})"));
            self.explanation.note(format!(
                "torch {}: {}{}",
                candidate.release.version,
                caveat.text,
                held.unwrap_or_default()
            ));
        }
        let build = candidate.release.build(machine);
        if build.triton.is_some() && set.version("triton").is_none() {
            self.explanation.note(format!(
                "torch {} brings no Triton to Python {}: torch.compile will not reach the GPU",
                candidate.release.version, candidate.base.python
            ));
        }
        let open = drifting(candidate.requires(machine), &set);
        if !open.is_empty() {
            self.explanation
                .note(format!("pinned here though torch leaves a range: {}", open.join(", ")));
        }
        Chosen { base: candidate.base, torch: Some(torch), wheels, addresses }
    }

    /// Why this release, in a sentence.
    fn why(&self, candidate: &Candidate) -> String {
        let mut parts = Vec::new();
        match &self.wishes.torch {
            _ if self
                .previous
                .wheel("torch")
                .is_some_and(|w| same_version(candidate, &w.version)) =>
            {
                let text = "the lock has it, and it still fits (`sconce lock --upgrade` looks for a newer one)";
                parts.push(text.to_owned());
            }
            TorchWish::Versions(specifiers) => {
                parts.push(format!("the newest that is {specifiers}"))
            }
            _ => parts.push("the newest that fits".to_owned()),
        }
        for gpu in &self.wishes.gpus {
            let by = candidate
                .architectures
                .and_then(|has| has.iter().rev().find(|sm| sm.runs_on(gpu.capability)));
            if let Some(sm) = by {
                parts.push(format!("has {sm} for {}", gpu.label));
            }
        }
        if let Some(row) = candidate.cuda.and_then(CudaVersion::floor) {
            parts.push(match &self.wishes.driver {
                Some(driver) => format!(
                    "driver {driver} is enough for CUDA {} (from {})",
                    row.major, row.driver
                ),
                None => format!("needs driver {} or newer", row.driver),
            });
        }
        if let Channel::Variant(_) | Channel::Cpu = candidate.channel {
            parts.push("from PyTorch's own index, since PyPI's wheel has another CUDA".to_owned());
        }
        parts.join("; ")
    }

    /// A torch that the facts do not know yet: what its dependencies say is all there is.
    fn newer_than_facts(&mut self, requirement: String) -> Result<Chosen, Error> {
        let mut first = None;
        for base in self.wishes.bases.clone() {
            let backend = match self.wishes.cuda {
                CudaWish::Version { major, minor: Some(minor) } => {
                    Some(CudaVersion { major, minor }.variant())
                }
                CudaWish::Cpu => Some("cpu".to_owned()),
                _ => None,
            };
            let answer = match self.ask(base, Some(requirement.clone()), None, &[], backend) {
                Ok(answer) => answer,
                Err(error @ IndexError::NoSolution { .. }) => {
                    first.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(Error::from_index("package index", error)),
            };
            let mut wheels = self.wheels(&answer, base)?;
            let Some(torch) = wheels.iter().find(|wheel| wheel.name == "torch").cloned() else {
                continue;
            };
            let cuda = cuda_of(&as_set(&versions(&wheels)));
            self.check_unknown(&torch.version, cuda)?;
            let mut addresses = answer.addresses;
            if let (Flavour::Devel, Some(_)) = (self.wishes.flavour, cuda) {
                let pin = Some(format!("torch=={}", torch.version));
                let answer = self.ask(base, pin, cuda, &[], None);
                let answer = answer.map_err(|error| Error::from_index("package index", error))?;
                wheels = self.wheels(&answer, base)?;
                addresses = answer.addresses;
            }
            let facts = TorchFacts {
                version: torch.version.clone(),
                ..torch_facts(&as_set(&versions(&wheels)), cuda, Vec::new())
            };
            let newest = &sconce_facts::newest_release().version;
            self.explanation.choose(
                "torch",
                torch.version.clone(),
                format!("asked for; newer than what this sconce knows (up to {newest})"),
                Vec::new(),
            );
            self.explanation.note(format!(
                "torch {}: CUDA, cuDNN and NCCL are read from its dependencies; which GPUs it has code for is not \
                 known and was not checked",
                torch.version
            ));
            return Ok(Chosen { base, torch: Some(facts), wheels, addresses });
        }
        let none = || IndexError::NoSolution { words: "no torch in the set".into() };
        Err(Error::from_index("package index", first.unwrap_or_else(none)))
    }

    /// The wishes that can be checked for a torch without facts.
    pub(super) fn check_unknown(
        &self,
        version: &str,
        cuda: Option<CudaVersion>,
    ) -> Result<(), Error> {
        let refuse = |reason: Reason| Error::NoTorch {
            message: format!("torch {version}: {reason}"),
            refused: Vec::new(),
            hint: None,
        };
        match cuda {
            None if !self.wishes.gpus.is_empty() => {
                Err(refuse(Reason::CpuBuild { machine: self.wishes.machine }))
            }
            Some(cuda) => match &self.wishes.driver {
                Some(driver) => candidate::driver_fits(driver, cuda).map_err(refuse),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }
}

/// Whether two candidates can be asked for in one question.
fn alike(a: &Candidate, b: &Candidate) -> bool {
    a.base.release == b.base.release
        && a.channel.backend() == b.channel.backend()
        && a.constraints() == b.constraints()
}

/// The range that holds the candidates (newest first) and no other release of the facts.
fn range(group: &[Candidate]) -> String {
    let (Some(newest), Some(oldest)) = (group.first(), group.last()) else { return "torch".into() };
    if group.len() == 1 {
        return format!("torch=={}", newest.release.version);
    }
    let mut text = format!("torch<={},>={}", newest.release.version, oldest.release.version);
    let between = sconce_facts::releases()
        .iter()
        .skip_while(|release| release.version != oldest.release.version)
        .take_while(|release| release.version != newest.release.version);
    for release in between {
        if !group.iter().any(|candidate| candidate.release.version == release.version) {
            text.push_str(&format!(",!={}", release.version));
        }
    }
    text
}

fn same_version(candidate: &Candidate, found: &str) -> bool {
    let public = found.split('+').next().unwrap_or(found);
    public.parse::<Version>().ok() == candidate.release.version.parse::<Version>().ok()
}
