//! `from-source`: releases that are there as source are offered to the resolver as empty wheels; the one it
//! takes is built, and the set resolved again with what the wheel really needs.

use std::collections::{BTreeMap, BTreeSet};

use sconce_facts::Base;

use super::build_requires::{ASKS, Requires, build_requirement};
use super::releases::{is_better_source, source_version};
use super::{Chosen, Resolution, index_rows, taken};
use crate::document::{DebPin, Lock, Wheel};
use crate::error::Error;
use crate::index::IndexError;
use crate::source::{
    self, Built, Offer, Order, Outcome, SOURCE, Source, SourceRequest, can_build_for,
    is_placeholder,
};
use crate::spec::Flavour;

/// How often a set is resolved again with what was built: each wheel may bring others to build, or another torch.
const ROUNDS: usize = 8;

/// What of a resolution comes from source.
#[derive(Default)]
pub(super) struct FromSource {
    /// What the index has as source.
    offers: Vec<Offer>,
    made: Vec<Made>,
    /// Debian packages of the containers that compile, without those of the image.
    pub build_debs: Vec<DebPin>,
    /// Addresses of indexes that only build requirements came from.
    pub addresses: BTreeMap<String, String>,
}

/// A wheel that was built, and for what.
struct Made {
    source: Source,
    wheel: Wheel,
    built: Built,
    base: &'static Base,
}

impl Made {
    /// Whether it is the wheel for a set: on the same Python, and with the same torch if torch was there.
    fn is_for(&self, chosen: &Chosen) -> bool {
        let torch = self.source.wheels.iter().find(|wheel| wheel.name == "torch");
        let now = chosen.wheels.iter().find(|wheel| wheel.name == "torch");
        self.base == chosen.base && (torch.is_none() || torch == now)
    }
}

impl FromSource {
    /// Releases that are not built yet.
    pub(super) fn offers(&self) -> Vec<Offer> {
        let made = |offer: &&Offer| self.made.iter().any(|made| made.built.name == offer.name);
        self.offers.iter().filter(|offer| !made(offer)).cloned().collect()
    }

    /// Wheels that are built.
    pub(super) fn built(&self) -> Vec<Built> {
        self.made.iter().map(|made| made.built.clone()).collect()
    }

    /// The sources of a lock, by name.
    pub(super) fn sources(&self, wheels: &[Wheel]) -> Vec<Source> {
        let made = |wheel: &Wheel| self.made.iter().find(|made| made.built.name == wheel.name);
        let of = |wheel: &Wheel| made(wheel).map(|made| made.source.clone());
        wheels.iter().filter(|wheel| wheel.index == SOURCE).filter_map(of).collect()
    }

    /// The row of a wheel that was built.
    pub(super) fn row(&self, name: &str) -> Option<&Wheel> {
        self.made.iter().find(|made| made.built.name == name).map(|made| &made.wheel)
    }
}

impl Resolution<'_> {
    /// Chooses, and builds what is to come from source, until both agree.
    pub(super) fn choose_and_build(&mut self) -> Result<Chosen, Error> {
        let names = &self.spec.environment.from_source;
        if names.is_empty() {
            return self.choose();
        }
        if taken::pylock_of(self.spec, self.index)?.is_some() {
            return Err(Error::Request {
                message: "`from-source` goes with requirements, not with a pylock.toml or uv.lock"
                    .into(),
                hint: Some("a pylock.toml names every file: have it name a wheel".into()),
            });
        }
        if !can_build_for(self.request.machine) {
            return Err(Error::Request {
                message: format!(
                    "`from-source`: a wheel for {} can be built only on such a machine",
                    self.request.machine
                ),
                hint: Some("lock it there, or name a folder with the wheels in `indexes`".into()),
            });
        }
        self.from_source.offers = self.listed_sources(names)?;
        let (before, moved) = (self.explanation.clone(), self.moved);
        for _ in 0..ROUNDS {
            self.explanation.clone_from(&before);
            (self.questions, self.moved) = (0, moved);
            let chosen = self.choose()?;
            let made = self.from_source.made.len();
            self.from_source.made.retain(|made| made.is_for(&chosen));
            if self.from_source.made.len() < made {
                continue;
            }
            let missing: Vec<Wheel> =
                chosen.wheels.iter().filter(|wheel| is_placeholder(wheel)).cloned().collect();
            if missing.is_empty() {
                self.tell_sources(&chosen);
                return Ok(chosen);
            }
            for wheel in missing {
                let made = self.make(&chosen, &wheel)?;
                self.from_source.made.push(made);
            }
        }
        Err(Error::Request {
            message:
                "what the packages from source need leads to another torch each time they are built"
                    .into(),
            hint: Some("name the torch: torch = \"2.9.1\"".into()),
        })
    }

    /// The source distributions that the index has of these packages, one of each release.
    fn listed_sources(&mut self, names: &[String]) -> Result<Vec<Offer>, Error> {
        let listed = self.index.releases(names);
        let listed = listed.map_err(|error| Error::from_index("package index", error))?;
        let mut offers = Vec::new();
        for name in names {
            let mut best: BTreeMap<String, Offer> = BTreeMap::new();
            for file in listed.get(name).into_iter().flatten().filter(|file| !file.yanked) {
                let Some(version) = source_version(name, &file.name) else { continue };
                if !source::is_file_name(&file.name) {
                    continue;
                }
                let version = version.to_string();
                let offer = Offer {
                    name: name.clone(),
                    version: version.clone(),
                    file: file.name.clone(),
                    requires_python: file.requires_python.clone(),
                };
                match best.get(&version) {
                    Some(old) if !is_better_source(&offer.file, &old.file) => {}
                    _ => drop(best.insert(version, offer)),
                }
            }
            if best.is_empty() {
                return Err(Error::Request {
                    message: format!(
                        "`from-source` names {name}, and the index has no source distribution of it"
                    ),
                    hint: Some("is the name right? else leave it out of `from-source`".into()),
                });
            }
            offers.extend(best.into_values());
        }
        Ok(offers)
    }

    /// Builds what a placeholder stands for, or takes over what the lock that is there has of it.
    fn make(&mut self, chosen: &Chosen, placeholder: &Wheel) -> Result<Made, Error> {
        let (name, version) = (placeholder.name.as_str(), placeholder.version.as_str());
        let offers = self.from_source.offers.iter();
        let offer = offers.filter(|o| o.name == name).find(|o| o.version == version).cloned();
        let offer = offer.ok_or_else(|| Error::Request {
            message: format!("{name} {version} was never offered"),
            hint: None,
        })?;
        if let Some(kept) = self.made_before(chosen, &offer) {
            return Ok(kept);
        }
        let lock = self.lock_so_far(chosen)?;
        let bare = source::bare(&lock);
        let request = SourceRequest {
            name,
            file: &offer.file,
            indexes: &self.spec.environment.indexes,
            container: &bare,
        };
        let failed = |error| match error {
            IndexError::Failed(source) => {
                Error::Build { name: name.to_owned(), version: version.to_owned(), source }
            }
            error => Error::from_index("package index", error),
        };
        let sdist = self.index.source(&request).map_err(failed)?;
        let torch = chosen.wheels.iter().find(|wheel| wheel.name == "torch" && sdist.compiles);
        let mut requires = BTreeSet::new();
        for text in &sdist.requires {
            requires.insert(build_requirement(&offer.file, text)?);
        }
        for text in sconce_facts::source_requirements(name, torch.is_some()) {
            requires.insert(text.to_owned());
        }
        for _ in 0..ASKS {
            let question = Requires {
                spec: self.spec,
                target: self.target(chosen.base),
                image: &chosen.wheels,
                torch,
                cuda: chosen.torch.as_ref().and_then(|torch| torch.cuda),
                sdist: &sdist,
                requires: &requires,
                file: &offer.file,
            };
            self.questions += 1;
            let (wheels, addresses) = question.wheels(self.index)?;
            self.from_source.addresses.extend(addresses);
            let lock = self.lock_so_far(chosen)?;
            let source = Source {
                name: name.to_owned(),
                file: offer.file.clone(),
                size: Some(sdist.size),
                sha256: sdist.sha256,
                index: sdist.index.clone(),
                flavour: if sdist.compiles { Flavour::Devel } else { Flavour::Runtime },
                architectures: self.architectures(chosen, sdist.cuda),
                recipe: source::RECIPE,
                rebuilt: None,
                wheels,
            };
            let mut container = source.container(&lock);
            container.indexes =
                index_rows((&container.wheels, &[]), &container.debs, &self.from_source.addresses);
            let known: Vec<String> = requires.iter().cloned().collect();
            let order = Order {
                source: &source,
                version: Some(version),
                container: &container,
                requires: Some(&known),
            };
            match self.index.build(&order).map_err(failed)? {
                Outcome::Wheel { wheel, path, rebuilt } => {
                    self.tell_other_bytes(&wheel);
                    let built = Built { name: name.to_owned(), file: wheel.file.clone(), path };
                    let source = Source { rebuilt, ..source };
                    return Ok(Made { source, wheel, built, base: chosen.base });
                }
                Outcome::Requires(more) => {
                    for text in &more {
                        requires.insert(build_requirement(&offer.file, text)?);
                    }
                }
            }
        }
        Err(Error::Request {
            message: format!("{}: its build asks for other requirements each time", offer.file),
            hint: None,
        })
    }

    /// What the lock that is there has of a release, if that was built for the same and is still here.
    fn made_before(&mut self, chosen: &Chosen, offer: &Offer) -> Option<Made> {
        let lock = self.previous.kept()?;
        let wheel =
            self.previous.wheel(&offer.name).filter(|wheel| wheel.version == offer.version)?;
        let source = lock.sources.iter().find(|source| source.name == offer.name)?;
        let torch = source.wheels.iter().any(|wheel| wheel.name == "torch");
        let (facts, base) = (&lock.facts, chosen.base);
        let same = source.file == offer.file
            && (facts.base == base.release && facts.python == base.python)
            && facts.machine == self.request.machine
            && source.architectures == self.architectures(chosen, !source.architectures.is_empty())
            // A torch that came or went since changes what a build makes.
            && (torch || source.flavour == Flavour::Runtime || chosen.torch.is_none());
        if !same {
            return None;
        }
        let path = self.index.built(wheel)?;
        let built = Built { name: offer.name.clone(), file: wheel.file.clone(), path };
        let made = Made { source: source.clone(), wheel: wheel.clone(), built, base };
        let python =
            lock.indexes.iter().filter_map(|row| Some((row.name.clone(), row.url.clone()?)));
        let made = made.is_for(chosen).then_some(made)?;
        self.from_source.addresses.extend(python);
        if source.flavour == Flavour::Devel {
            self.from_source.build_debs.clone_from(&lock.build_debs);
        }
        Some(made)
    }

    /// What there is of the lock before its packages from source are built.
    fn lock_so_far(&mut self, chosen: &Chosen) -> Result<Lock, Error> {
        let torch = chosen.torch.is_some();
        let (_, debs) = self.debs(chosen.base, torch, self.spec.environment.flavour)?;
        let kept = self.previous.kept().filter(|lock| lock.debs == debs);
        let build_debs = match kept.map(|lock| &lock.build_debs) {
            Some(kept) if !kept.is_empty() => kept.clone(),
            _ if self.spec.environment.flavour == Flavour::Devel => Vec::new(),
            _ => {
                let (_, devel) = self.debs(chosen.base, torch, Flavour::Devel)?;
                devel.into_iter().filter(|deb| !debs.contains(deb)).collect()
            }
        };
        self.from_source.build_debs.clone_from(&build_debs);
        let wheels: Vec<Wheel> =
            chosen.wheels.iter().filter(|wheel| wheel.index != SOURCE).cloned().collect();
        Ok(Lock {
            spec: self.spec.digest(),
            inputs: None,
            facts: self.facts(chosen.base, chosen.torch.clone()),
            python: self.standalone(chosen.base)?,
            app: self.spec.app.clone(),
            indexes: index_rows((&wheels, &[]), &debs, &chosen.addresses),
            wheels,
            sources: Vec::new(),
            project: None,
            debs,
            build_debs,
            sealed: None,
        })
    }

    fn architectures(&self, chosen: &Chosen, cuda: bool) -> Vec<String> {
        let gpus: Vec<_> = self.request.gpus.iter().map(|gpu| gpu.capability).collect();
        match chosen.torch.as_ref().filter(|torch| cuda && torch.cuda.is_some()) {
            Some(torch) => source::architectures(&gpus, &torch.architectures),
            None => Vec::new(),
        }
    }

    fn tell_other_bytes(&mut self, wheel: &Wheel) {
        let before = self.previous.wheel(&wheel.name);
        if before.is_some_and(|old| old.file == wheel.file && old.sha256 != wheel.sha256) {
            self.explanation.note(format!(
                "{} was built again, and has other bytes than the lock had",
                wheel.file
            ));
        }
    }

    fn tell_sources(&mut self, chosen: &Chosen) {
        for name in &self.spec.environment.from_source {
            match chosen.wheels.iter().find(|wheel| wheel.name == *name) {
                None => self
                    .explanation
                    .note(format!("`from-source` names {name}, which nothing asks for")),
                Some(wheel) => {
                    let source = self.from_source.made.iter().find(|made| made.built.name == *name);
                    let Some(source) = source.map(|made| made.source.clone()) else { continue };
                    let choice = format!("{} from source", wheel.version);
                    let why = format!(
                        "built of {} ({} wheels in the container)",
                        source.file,
                        source.wheels.len()
                    );
                    self.explanation.choose(name, choice, why, Vec::new());
                    if source.rebuilt == Some(source::Rebuilt::Differs) {
                        self.explanation.note(format!(
                            "{}: a second build gives other bytes; the wheel is kept in the image, below /usr/share/sconce/wheels",
                            wheel.file
                        ));
                    }
                    if !source.architectures.is_empty() && self.request.gpus.is_empty() {
                        self.explanation.note(format!(
                            "{name} is built for all GPUs that torch has code for ({}); `gpus` names those that matter",
                            source.architectures.join(", ")
                        ));
                    }
                }
            }
        }
    }
}
