//! From a specification to a lock: torch from the facts, the rest from the resolver, checked against the facts.

use std::collections::BTreeMap;

use pep440_rs::Version;
use sconce_facts::{Base, Capability, CudaVersion, DriverVersion, Machine};

use crate::candidate::{self, Candidate, Channel, Reason, Wishes, candidates, wanted_gpu};
use crate::document::{DebPin, Facts, IndexKind, IndexRow, Lock, TorchFacts, Wheel};
use crate::error::Error;
use crate::explain::{Explanation, Refused};
use crate::index::{DebianRequest, Index, IndexError, PythonAnswer, PythonRequest};
use crate::pylock::{Package, Pylock, PylockWheel, Source};
use crate::refusal;
use crate::requirements::FileKind;
use crate::spec::{CudaWish, DriverWish, Flavour, GpuWish, Requirements, Spec, TorchWish};
use crate::target::Target;
use crate::verify::{Set, drifting};
use crate::wheel_name::without_credentials;

/// The machine that the resolution runs on.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Its processor; `None` is one that no CUDA wheel exists for.
    pub machine: Option<Machine>,
    /// Its NVIDIA driver, if it has one.
    pub driver: Option<DriverVersion>,
    /// Its GPUs.
    pub gpus: Vec<HostGpu>,
}

/// A GPU of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostGpu {
    /// Its name, as the driver says it.
    pub name: String,
    /// Its compute capability.
    pub capability: Capability,
}

/// The most questions put to the resolver for one lock.
const MOST_QUESTIONS: usize = 40;

/// Works out what a specification is, exactly.
///
/// # Errors
/// No torch fits the wishes, the requirements can't be met, or an index could not be asked.
pub fn resolve(
    spec: &Spec,
    host: &Host,
    index: &mut dyn Index,
) -> Result<(Lock, Explanation), Error> {
    let mut explanation = Explanation::default();
    let wishes = wishes(spec, host, &mut explanation)?;
    let mut resolution = Resolution { spec, wishes, index, explanation, questions: 0 };
    let chosen = match (&spec.environment.torch, pylock_of(spec)?) {
        (_, Some(pylock)) => resolution.take_pylock(&pylock)?,
        (TorchWish::None, None) => resolution.without_torch()?,
        (_, None) => resolution.with_torch()?,
    };
    resolution.finish(chosen)
}

/// The user's own pylock.toml, if that is what the requirements are.
fn pylock_of(spec: &Spec) -> Result<Option<Pylock>, Error> {
    let Requirements::File(file) = &spec.environment.requirements else { return Ok(None) };
    if file.kind != FileKind::Pylock {
        return Ok(None);
    }
    let name = file.path.display().to_string();
    let wrong = |message| Error::Pylock { file: name.clone(), message };
    let text = file.text.as_deref().ok_or_else(|| wrong("was not loaded".to_owned()))?;
    Pylock::parse(text).map(Some).map_err(wrong)
}

fn wishes(spec: &Spec, host: &Host, explanation: &mut Explanation) -> Result<Wishes, Error> {
    let environment = &spec.environment;
    let wish = |message: String, hint: &str| Error::Wish { message, hint: Some(hint.to_owned()) };
    let gpus = match &environment.gpus {
        GpuWish::Any => Vec::new(),
        GpuWish::Named(names) => {
            let gpus: Result<Vec<_>, _> = names.iter().map(|name| wanted_gpu(name)).collect();
            gpus.map_err(|error| wish(error.to_string(), "a capability like \"9.0\" works too"))?
        }
        GpuWish::Host if host.gpus.is_empty() => {
            return Err(wish(
                "gpus = \"host\", and this machine has no NVIDIA GPU that can be seen".into(),
                "name the GPUs instead: gpus = [\"h100\"]",
            ));
        }
        GpuWish::Host => host
            .gpus
            .iter()
            .map(|gpu| candidate::WantedGpu {
                label: gpu.name.clone(),
                capability: gpu.capability,
                host: host.machine,
                first_driver: None,
            })
            .collect(),
    };
    if environment.cuda == CudaWish::Cpu && !gpus.is_empty() {
        let message = "cuda = \"cpu\" is a build that can't use the GPUs asked for".to_owned();
        return Err(wish(message, "leave out one of `cuda` and `gpus`"));
    }
    let machine = machine(spec, host, &gpus, explanation)?;
    let driver = match &environment.driver {
        DriverWish::Any => None,
        DriverWish::Version(driver) => {
            explanation.choose("driver", driver.as_str(), "asked for", Vec::new());
            Some(driver.clone())
        }
        // Another machine's image says nothing about this one's driver.
        DriverWish::Auto => host.driver.clone().filter(|_| host.machine == Some(machine)),
    };
    match (&environment.driver, &driver) {
        (DriverWish::Auto, Some(driver)) => {
            let why = "this machine's driver; `driver = \"any\"` asks for nothing";
            explanation.choose("driver", driver.as_str(), why, Vec::new());
        }
        (DriverWish::Auto, None) => {
            let why = "none on this machine and none asked for, so no floor";
            explanation.choose("driver", "any", why, Vec::new());
        }
        _ => {}
    }
    for gpu in &gpus {
        if let (Some(first), Some(driver)) = (&gpu.first_driver, &driver)
            && driver < first
        {
            explanation.note(format!(
                "driver {driver} may not know {}: the first open driver that lists it is {first}",
                gpu.label
            ));
        }
    }
    Ok(Wishes {
        torch: environment.torch.clone(),
        machine,
        gpus,
        driver,
        cuda: environment.cuda.clone(),
        flavour: environment.flavour,
        bases: bases(spec)?,
    })
}

fn machine(
    spec: &Spec,
    host: &Host,
    gpus: &[candidate::WantedGpu],
    explanation: &mut Explanation,
) -> Result<Machine, Error> {
    let bound = gpus.iter().find_map(|gpu| gpu.host.map(|machine| (gpu, machine)));
    let (machine, why) = match (spec.environment.platform, bound) {
        (Some(asked), Some((gpu, needs))) if asked != needs => {
            return Err(Error::Wish {
                message: format!(
                    "{} stands beside an {needs} processor, and platform = \"{asked}\" is asked for",
                    gpu.label
                ),
                hint: Some(format!("platform = \"{needs}\", or leave it out")),
            });
        }
        (Some(asked), _) => (asked, "asked for".to_owned()),
        (None, Some((gpu, needs))) => (needs, format!("the processor beside {}", gpu.label)),
        (None, None) => match host.machine {
            Some(machine) => (machine, "this machine's processor".to_owned()),
            None => (Machine::X86_64, "this machine's processor has no CUDA builds".to_owned()),
        },
    };
    if let Some((with, _)) = bound.filter(|_| spec.environment.gpus != GpuWish::Host) {
        let others = gpus.iter().filter(|gpu| gpu.host.is_none());
        for gpu in others {
            explanation.note(format!(
                "one image is for one processor: this one is {machine}, for {}; a {} in another machine needs an \
                 image of its own",
                with.label, gpu.label
            ));
        }
    }
    explanation.choose("platform", machine.as_str(), why, Vec::new());
    Ok(machine)
}

fn bases(spec: &Spec) -> Result<Vec<&'static Base>, Error> {
    let python = spec.environment.python.as_deref();
    let release = spec.base.debian.as_deref();
    let fits = |base: &&Base| {
        python.is_none_or(|python| base.python == python)
            && release.is_none_or(|release| base.release == release)
    };
    let bases: Vec<_> = sconce_facts::bases().iter().filter(fits).collect();
    if bases.is_empty() {
        let all: Vec<_> = sconce_facts::bases()
            .iter()
            .map(|base| format!("{} has Python {}", base.release, base.python))
            .collect();
        return Err(Error::Wish {
            message: format!(
                "Python {} is not what Debian {} ships",
                python.unwrap_or("auto"),
                release.unwrap_or("auto")
            ),
            hint: Some(all.join(", ")),
        });
    }
    Ok(bases)
}

/// A resolved set on its way into a lock.
struct Chosen {
    base: &'static Base,
    torch: Option<TorchFacts>,
    wheels: Vec<Wheel>,
    addresses: BTreeMap<String, String>,
}

struct Resolution<'a> {
    spec: &'a Spec,
    wishes: Wishes,
    index: &'a mut dyn Index,
    explanation: Explanation,
    questions: usize,
}

impl Resolution<'_> {
    const fn target(&self, base: &'static Base) -> Target {
        Target { machine: self.wishes.machine, base }
    }

    /// Asks the resolver: the user's requirements with ours after them, so that the user's decide first.
    fn ask(
        &mut self,
        base: &'static Base,
        torch: Option<String>,
        cuda: Option<CudaVersion>,
        constraints: &[&str],
        backend: Option<String>,
    ) -> Result<PythonAnswer, IndexError> {
        self.questions += 1;
        let environment = &self.spec.environment;
        let (mut requirements, files) = match &environment.requirements {
            Requirements::List(list) => (list.clone(), Vec::new()),
            Requirements::File(file) => (Vec::new(), vec![file.path.clone()]),
        };
        // In every environment `pip install` works as people expect.
        requirements.push("pip".to_owned());
        requirements.extend(torch);
        if let (Flavour::Devel, Some(cuda)) = (environment.flavour, cuda) {
            requirements.extend(toolkit(cuda));
        }
        self.index.python(&PythonRequest {
            requirements,
            files,
            constraints: constraints.iter().map(|text| (*text).to_owned()).collect(),
            base,
            machine: self.wishes.machine,
            indexes: environment.indexes.clone(),
            torch_backend: backend,
        })
    }

    /// torch from the facts, newest first; the resolver may take an older one when the requirements say so.
    fn with_torch(&mut self) -> Result<Chosen, Error> {
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
        while let Some(head) = left.first().copied() {
            if self.questions >= MOST_QUESTIONS {
                break;
            }
            let group: Vec<_> = left.iter().take_while(|c| alike(c, &head)).copied().collect();
            let backend = head.channel.backend();
            // PyTorch's own builds carry a local version, which ranges treat in their own way: one at a time.
            let group = if backend.is_some() { vec![head] } else { group };
            let cuda = group.iter().map(|c| c.cuda).reduce(|a, b| if a == b { a } else { None });
            let group = match (self.wishes.flavour, cuda.flatten()) {
                // What devel adds depends on the CUDA: one at a time where it is not the same for all.
                (Flavour::Devel, None) => vec![head],
                _ => group,
            };
            let cuda = group.first().and_then(|c| c.cuda);
            let asked = range(&group);
            let answer = self.ask(head.base, Some(asked), cuda, &head.constraints(), backend);
            let answer = match answer {
                Ok(answer) => answer,
                Err(IndexError::NoSolution { words }) => {
                    for candidate in &group {
                        let why =
                            format!("the requirements do not allow it: {}", first_line(&words));
                        told.push(Refused {
                            what: format!("torch {}", candidate.release.version),
                            why,
                        });
                    }
                    first_words.get_or_insert(words);
                    left.drain(..group.len());
                    continue;
                }
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
            let Some(candidate) = group.get(at).copied() else { continue };
            let pins = candidate.requires(self.wishes.machine);
            match meets(&wheels, pins, self.target(head.base)) {
                Ok(()) => {
                    self.tell_backed_off(&group, at, &mut told);
                    return Ok(self.chosen(candidate, wheels, answer.addresses, told));
                }
                Err(message) => {
                    let version = candidate.release.version.clone();
                    told.push(Refused { what: format!("torch {version}"), why: message.clone() });
                    left.retain(|other| other.release.version != version);
                    misfit.get_or_insert(Error::Misfit { torch: version, message });
                }
            }
        }
        Err(match (misfit, first_words) {
            (Some(misfit), _) => misfit,
            (None, words) => {
                Error::Unsatisfiable { words: words.unwrap_or_default(), refused: told }
            }
        })
    }

    /// The releases of a group that are newer than the one taken: ask why not.
    fn tell_backed_off(&mut self, group: &[Candidate], at: usize, told: &mut Vec<Refused>) {
        let Some((newest, passed)) =
            group.get(..at).and_then(|passed| Some((passed.first()?, passed)))
        else {
            return;
        };
        let asked = Some(format!("torch=={}", newest.release.version));
        let backend = newest.channel.backend();
        let answer = self.ask(newest.base, asked, newest.cuda, &newest.constraints(), backend);
        let why = match answer {
            Err(IndexError::NoSolution { words }) => {
                format!("the requirements do not allow it: {}", first_line(&words))
            }
            // It could be had, with older versions of what was asked for.
            _ => "the newest of your other requirements ask for an older torch".to_owned(),
        };
        for candidate in passed {
            let what = format!("torch {}", candidate.release.version);
            told.push(Refused { what, why: why.clone() });
        }
    }

    fn chosen(
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
    fn check_unknown(&self, version: &str, cuda: Option<CudaVersion>) -> Result<(), Error> {
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

    fn without_torch(&mut self) -> Result<Chosen, Error> {
        let mut first = None;
        for base in self.wishes.bases.clone() {
            let nothing = matches!(&self.spec.environment.requirements, Requirements::List(list) if list.is_empty());
            let answer = if nothing {
                Ok(PythonAnswer::default())
            } else {
                self.ask(base, None, None, &[], None)
            };
            let answer = match answer {
                Ok(answer) => answer,
                Err(error @ IndexError::NoSolution { .. }) => {
                    first.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(Error::from_index("package index", error)),
            };
            let wheels = if nothing { Vec::new() } else { self.wheels(&answer, base)? };
            no_torch_in(&wheels)?;
            self.explanation.choose("torch", "none", "torch = false", Vec::new());
            return Ok(Chosen { base, torch: None, wheels, addresses: answer.addresses });
        }
        let none = || IndexError::NoSolution { words: String::new() };
        Err(Error::from_index("package index", first.unwrap_or_else(none)))
    }

    /// The user's own pylock.toml: nothing is resolved, everything is checked.
    fn take_pylock(&mut self, pylock: &Pylock) -> Result<Chosen, Error> {
        let name = match &self.spec.environment.requirements {
            Requirements::File(file) => file.path.display().to_string(),
            Requirements::List(_) => String::new(),
        };
        let wrong = |message| Error::Pylock { file: name.clone(), message };
        let mut failed = None;
        let mut found = None;
        for base in self.wishes.bases.clone() {
            match pylock.select(self.target(base)) {
                Ok(set) => {
                    found = Some((base, set));
                    break;
                }
                Err(message) => failed = failed.or(Some(message)),
            }
        }
        let Some((base, set)) = found else { return Err(wrong(failed.unwrap_or_default())) };
        if self.wishes.flavour == Flavour::Devel {
            let message =
                "flavour \"devel\" adds packages, and a pylock.toml is taken as it is".to_owned();
            return Err(wrong(message));
        }
        let mut addresses = BTreeMap::new();
        let rows = set.iter().map(|(package, wheel)| {
            let index = match &package.index {
                Some(url) => self.index_named(url, &mut addresses),
                None => "pypi".to_owned(),
            };
            row(package, wheel, index)
        });
        let wheels: Vec<_> = rows.collect();
        let torch = wheels.iter().find(|wheel| wheel.name == "torch").cloned();
        self.wishes.bases = vec![base];
        let chosen = match torch {
            None if self.wishes.torch == TorchWish::None => {
                self.explanation.choose("torch", "none", "torch = false", Vec::new());
                Chosen { base, torch: None, wheels, addresses }
            }
            None => {
                return Err(wrong("it has no torch; say `torch = false` if that is meant".into()));
            }
            Some(_) if self.wishes.torch == TorchWish::None => {
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
            self.wishes.cuda = CudaWish::Version { major, minor: Some(minor) };
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
            candidate::consider(release, &self.wishes, true).map_err(|reason| Error::NoTorch {
                message: format!("your pylock.toml has torch {public}: {reason}"),
                refused: Vec::new(),
                hint: refusal::hint(&self.wishes, release, &reason),
            })?;
        let pins = candidate.requires(self.wishes.machine);
        if let Err(message) = meets(&wheels, pins, self.target(base)) {
            return Err(Error::Misfit { torch: public, message });
        }
        Ok(self.chosen(candidate, wheels, addresses, Vec::new()))
    }

    /// The name of an index that a user's pylock.toml gives by address.
    fn index_named(&self, url: &str, addresses: &mut BTreeMap<String, String>) -> String {
        let url = without_credentials(url).trim_end_matches('/').to_owned();
        let same = |known: &str| without_credentials(known).trim_end_matches('/') == url;
        if let Some(index) = self.spec.environment.indexes.iter().find(|index| same(&index.url)) {
            addresses.insert(index.name.clone(), without_credentials(&index.url));
            return index.name.clone();
        }
        if let Some((name, _)) = addresses.iter().find(|(_, known)| same(known)) {
            return name.clone();
        }
        let name = format!("pylock-{}", addresses.len() + 1);
        addresses.insert(name.clone(), url);
        name
    }

    /// The rows of a lock for an answer.
    fn wheels(&self, answer: &PythonAnswer, base: &'static Base) -> Result<Vec<Wheel>, Error> {
        let wrong = |message| Error::Pylock { file: "the resolver's answer".into(), message };
        let pylock = Pylock::parse(&answer.pylock).map_err(wrong)?;
        let set = pylock.select(self.target(base)).map_err(wrong)?;
        let index = |name: &str| answer.indexes.get(name).cloned().unwrap_or_else(|| "pypi".into());
        Ok(set.iter().map(|(package, wheel)| row(package, wheel, index(&package.name))).collect())
    }

    fn finish(mut self, chosen: Chosen) -> Result<(Lock, Explanation), Error> {
        let Chosen { base, torch, wheels, addresses } = chosen;
        let why = match (&self.spec.environment.python, &self.spec.base.debian) {
            (Some(_), _) | (_, Some(_)) => "asked for".to_owned(),
            (None, None)
                if sconce_facts::bases().first().is_some_and(|b| b.release == base.release) =>
            {
                "the newest Debian, and the torch has wheels for its Python".to_owned()
            }
            (None, None) => "the torch is at home on its Python".to_owned(),
        };
        let choice = format!("Debian {} with Python {}", base.release, base.python);
        self.explanation.choose("base", choice, why, Vec::new());
        let request = DebianRequest {
            base,
            machine: self.wishes.machine,
            flavour: self.wishes.flavour,
            packages: self.spec.base.packages.clone(),
            mirror: self.spec.base.mirror.clone(),
        };
        let answer = self.index.debian(&request);
        let mut debs = answer.map_err(|error| Error::from_index("Debian archive", error))?.debs;
        debs.sort_by(|a, b| (&a.name, &a.arch).cmp(&(&b.name, &b.arch)));
        let mut gpus: Vec<_> = self.wishes.gpus.iter().map(|gpu| gpu.capability).collect();
        gpus.sort();
        gpus.dedup();
        let lock = Lock {
            spec: self.spec.digest(),
            facts: Facts {
                machine: self.wishes.machine,
                base: base.release.clone(),
                python: base.python.clone(),
                glibc: base.glibc.clone(),
                flavour: self.wishes.flavour,
                bytecode: self.spec.environment.bytecode,
                gpus,
                torch,
            },
            app: self.spec.app.clone(),
            indexes: index_rows(&wheels, &debs, &addresses),
            wheels,
            debs,
            sealed: None,
        };
        Ok((lock, self.explanation))
    }
}

/// The requirement that brings what the devel flavour adds.
fn toolkit(cuda: CudaVersion) -> Option<String> {
    let row = sconce_facts::devel(cuda).filter(|row| row.nvcc)?;
    Some(format!("cuda-toolkit[{}]=={cuda}.*", row.extras.join(",")))
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

fn row(package: &Package, wheel: &PylockWheel, index: String) -> Wheel {
    let (index, url) = match &wheel.source {
        Source::Index(_) => (index, None),
        Source::Direct(url) => ("direct".to_owned(), Some(without_credentials(url))),
    };
    Wheel {
        name: package.name.clone(),
        version: wheel.name.version.to_string(),
        file: wheel.name.file.clone(),
        size: wheel.size,
        sha256: wheel.sha256,
        index,
        url,
    }
}

fn versions(wheels: &[Wheel]) -> Vec<(String, Version)> {
    let of = |wheel: &Wheel| Some((wheel.name.clone(), wheel.version.parse().ok()?));
    wheels.iter().filter_map(of).collect()
}

fn as_set(versions: &[(String, Version)]) -> Set<'_> {
    Set(versions.iter().map(|(name, version)| (name.as_str(), version)).collect())
}

fn meets(wheels: &[Wheel], pins: &[String], target: Target) -> Result<(), String> {
    as_set(&versions(wheels)).meets(pins, target)
}

fn no_torch_in(wheels: &[Wheel]) -> Result<(), Error> {
    match wheels.iter().find(|wheel| wheel.name == "torch") {
        None => Ok(()),
        Some(torch) => Err(Error::Wish {
            message: format!("torch = false, and the requirements bring torch {}", torch.version),
            hint: Some("leave `torch` out, or the package that needs it".into()),
        }),
    }
}

/// What a set says about its torch.
fn torch_facts(
    set: &Set<'_>,
    cuda: Option<CudaVersion>,
    architectures: Vec<sconce_facts::Sm>,
) -> TorchFacts {
    let text = |version: Option<&Version>| version.map(ToString::to_string);
    TorchFacts {
        version: String::new(),
        cuda,
        driver: cuda.and_then(CudaVersion::floor).map(|row| row.driver.clone()),
        architectures,
        cudnn: text(set.version_like(&["nvidia-cudnn-cu"])),
        nccl: text(set.version_like(&["nvidia-nccl-cu"])),
        triton: text(set.version("triton")),
    }
}

/// The CUDA of a set, by NVIDIA's packages in it.
fn cuda_of(set: &Set<'_>) -> Option<CudaVersion> {
    let names = ["cuda-toolkit", "nvidia-cuda-runtime", "nvidia-cuda-runtime-cu"];
    set.version_like(&names)?.to_string().parse().ok()
}

fn index_rows(
    wheels: &[Wheel],
    debs: &[DebPin],
    addresses: &BTreeMap<String, String>,
) -> Vec<IndexRow> {
    let python = wheels.iter().map(|wheel| (wheel.index.as_str(), IndexKind::Python));
    let debian = debs.iter().map(|deb| (deb.index.as_str(), IndexKind::Debian));
    let mut rows: Vec<IndexRow> = Vec::new();
    for (name, kind) in python.chain(debian) {
        if !rows.iter().any(|row| row.name == name && row.kind == kind) {
            let url = addresses.get(name).filter(|_| kind == IndexKind::Python).cloned();
            rows.push(IndexRow { name: name.to_owned(), kind, url });
        }
    }
    rows.sort_by(|a, b| (b.kind.as_str(), &a.name).cmp(&(a.kind.as_str(), &b.name)));
    rows
}

/// The resolver's words in one line, for a list.
fn first_line(words: &str) -> String {
    let mut line = words
        .lines()
        .map(|line| line.trim().trim_start_matches("cause: "))
        .filter(|line| !line.is_empty() && !line.starts_with("error: No solution found"))
        .collect::<Vec<_>>()
        .join(" ");
    if let Some((end, _)) = line.char_indices().nth(300) {
        line.truncate(end);
        line.push('…');
    }
    line
}
