//! A pylock.toml of the user's own: nothing is resolved, everything is checked.

use std::collections::BTreeMap;

use sconce_facts::{Base, CudaVersion};

use super::without_torch::no_torch_in;
use super::{Chosen, Resolution, as_set, cuda_of, meets, row, torch_facts, undeclared, versions};
use crate::candidate;
use crate::document::{TorchFacts, Wheel};
use crate::error::Error;
use crate::index::{Index, UvLockRequest};
use crate::pylock::{Pylock, Source};
use crate::refusal;
use crate::requirements::{FileKind, RequirementsFile};
use crate::spec::{CudaRequest, Flavour, Requirements, Spec, TorchRequest};
use crate::wheel_name::{in_lock, without_credentials};

/// The user's own pylock.toml or uv.lock, if that is what the requirements are.
pub(super) fn pylock_of(spec: &Spec, index: &mut dyn Index) -> Result<Option<Pylock>, Error> {
    let Requirements::File(file) = &spec.environment.requirements else { return Ok(None) };
    match file.kind {
        FileKind::Pylock => {}
        FileKind::UvLock => return uv_lock(spec, file, index).map(Some),
        FileKind::Requirements | FileKind::Pyproject | FileKind::Conda => return Ok(None),
    }
    let name = file.path.display().to_string();
    let wrong = |message| Error::Pylock { file: name.clone(), message };
    let text = file.text.as_deref().ok_or_else(|| wrong("was not loaded".to_owned()))?;
    Pylock::parse(text).map(Some).map_err(wrong)
}

/// A uv.lock as a pylock. What it takes from this machine would not be there for anybody else.
fn uv_lock(spec: &Spec, file: &RequirementsFile, index: &mut dyn Index) -> Result<Pylock, Error> {
    let name = file.path.display().to_string();
    let wrong = |message| Error::Pylock { file: name.clone(), message };
    let project = file.included.first().map(|project| project.text.as_str());
    let request = UvLockRequest {
        lock: file.text.as_deref().unwrap_or_default(),
        pyproject: project.unwrap_or_default(),
        extras: &spec.environment.extras,
        groups: &spec.environment.groups,
    };
    if let Some(why) = crate::uv_lock::stale(request.lock, request.pyproject) {
        let message = format!(
            "it is not of the pyproject.toml beside it (`uv lock` brings it up to date): {why}"
        );
        return Err(wrong(message));
    }
    let text = index.uv_lock(&request);
    let text = text.map_err(|error| Error::from_index("reader of uv.lock", error))?;
    let pylock = Pylock::parse(&text).map_err(wrong)?;
    for package in &pylock.packages {
        let local = package.wheels.iter().any(|wheel| {
            let (Source::Index(Some(url)) | Source::Direct(url)) = &wheel.source else {
                return true;
            };
            !url.starts_with("https://") && !url.starts_with("http://")
        });
        if local {
            let message = format!(
                "{} is taken from a folder of this machine: name that folder under `indexes`, and \
                 pyproject.toml as the requirements",
                package.name
            );
            return Err(wrong(message));
        }
    }
    Ok(pylock)
}

impl Resolution<'_> {
    /// The user's own pylock.toml: nothing is resolved, everything is checked.
    pub(super) fn take_pylock(&mut self, pylock: &Pylock) -> Result<Chosen, Error> {
        let name = match &self.spec.environment.requirements {
            Requirements::File(file) => file.path.display().to_string(),
            Requirements::List(_) => String::new(),
        };
        let wrong = |message| Error::Pylock { file: name.clone(), message };
        let mut failed = None;
        let mut found = None;
        for base in self.request.bases.clone() {
            match pylock.select(self.target(base)) {
                Ok(set) => {
                    found = Some((base, set));
                    break;
                }
                Err(message) => failed = failed.or(Some(message)),
            }
        }
        let Some((base, mut set)) = found else { return Err(wrong(failed.unwrap_or_default())) };
        if self.request.flavour == Flavour::Devel {
            let message =
                "flavour \"devel\" adds packages, and a pylock.toml is taken as it is".to_owned();
            return Err(wrong(message));
        }
        let exclude = &self.spec.environment.exclude;
        set.retain(|(package, _)| !exclude.contains(&package.name));
        let mut addresses = BTreeMap::new();
        let rows = set.iter().map(|(package, wheel)| {
            let index = match &package.index {
                Some(url) => self.index_named(url, &mut addresses),
                None => "pypi".to_owned(),
            };
            row(package, wheel, index, None)
        });
        let wheels: Vec<_> = rows.collect();
        if let Some(lack) = undeclared::lack(&versions(&wheels).into_iter().collect()) {
            self.explanation.note(lack.message());
        }
        if let Some(old) = self.old_numpy_in(&wheels) {
            self.explanation.note(old.message());
        }
        let torch = wheels.iter().find(|wheel| wheel.name == "torch").cloned();
        self.request.bases = vec![base];
        let chosen = match torch {
            None if self.request.torch == TorchRequest::None => {
                self.explanation.choose("torch", "none", "torch = false", Vec::new());
                Chosen { base, torch: None, wheels, addresses }
            }
            None => {
                return Err(wrong("it has no torch; say `torch = false` if that is meant".into()));
            }
            Some(_) if self.request.torch == TorchRequest::None => {
                no_torch_in(&wheels)?;
                Chosen { base, torch: None, wheels, addresses }
            }
            Some(torch) => self.torch_of_pylock(&torch, base, wheels, addresses)?,
        };
        Ok(chosen)
    }

    fn torch_of_pylock(
        &mut self,
        torch: &Wheel,
        base: &'static Base,
        wheels: Vec<Wheel>,
        addresses: BTreeMap<String, String>,
    ) -> Result<Chosen, Error> {
        let public = torch.version.split('+').next().unwrap_or(&torch.version).to_owned();
        let local =
            torch.version.split_once('+').and_then(|(_, local)| CudaVersion::from_variant(local));
        if let Some(CudaVersion { major, minor }) = local {
            self.request.cuda = CudaRequest::Version { major, minor: Some(minor) };
        }
        let Ok(release) = sconce_facts::release(&public) else {
            let cuda = local.or_else(|| cuda_of(&as_set(&versions(&wheels))));
            self.check_unknown(&torch.version, cuda)?;
            let facts = TorchFacts {
                version: torch.version.clone(),
                ..torch_facts(&as_set(&versions(&wheels)), cuda, Vec::new())
            };
            self.explanation.choose(
                "torch",
                torch.version.clone(),
                "your pylock.toml has it",
                Vec::new(),
            );
            self.explanation
                .note("this sconce has no facts about that torch; its GPUs were not checked");
            return Ok(Chosen { base, torch: Some(facts), wheels, addresses });
        };
        let candidate =
            candidate::consider(release, &self.request, true).map_err(|reason| Error::NoTorch {
                message: format!("your pylock.toml has torch {public}: {reason}"),
                refused: Vec::new(),
                hint: refusal::hint(&self.request, release, &reason),
            })?;
        let pins = candidate.requires(self.request.machine);
        if let Err(message) =
            meets(&wheels, pins, &self.spec.environment.exclude, self.target(base))
        {
            return Err(Error::Misfit { torch: public, message });
        }
        if let Some(found) = self.disagreement(&wheels, &candidate) {
            let file = match &self.spec.environment.requirements {
                Requirements::File(file) => file.path.display().to_string(),
                Requirements::List(_) => String::new(),
            };
            return Err(Error::Pylock { file, message: found.message });
        }
        Ok(self.chosen(candidate, wheels, addresses, Vec::new()))
    }

    /// The name of an index that a user's pylock.toml gives by address.
    fn index_named(&self, url: &str, addresses: &mut BTreeMap<String, String>) -> String {
        let url = without_credentials(url).trim_end_matches('/').to_owned();
        let same = |known: &str| without_credentials(known).trim_end_matches('/') == url;
        if let Some(index) = self.spec.environment.indexes.iter().find(|index| same(&index.url)) {
            addresses.insert(index.name.clone(), in_lock(&index.url));
            return index.name.clone();
        }
        if let Some((name, _)) = addresses.iter().find(|(_, known)| same(known)) {
            return name.clone();
        }
        let name = format!("pylock-{}", addresses.len() + 1);
        addresses.insert(name.clone(), url);
        name
    }
}
