//! From a specification to a lock: torch from the facts, the rest from the resolver, checked against the facts.

mod ask;
mod behind;
mod build_requires;
mod chosen;
mod companions;
mod elsewhere;
mod extras;
mod fitted;
mod from_source;
mod group;
mod hashes;
mod install;
mod keep;
mod left;
mod libraries;
mod loosen;
mod newest;
mod numpy;
mod old_torch;
mod overlaps;
mod own_extras;
mod previews;
mod promised;
mod protobuf;
mod releases;
mod relics;
mod request;
mod rows;
mod standalone;
mod taken;
mod told;
mod torch;
mod torch_names;
mod undeclared;
mod unknown;
mod unsatisfiable;
mod untried;
mod ways_out;
mod without_torch;
mod words;

pub use numpy::leaves_numpy_open;
pub use releases::newest as newest_listed;
pub(crate) use request::request;

use std::collections::BTreeMap;

use sconce_blob::Digest;
use sconce_facts::{Base, Capability, DriverVersion, Machine};

use self::from_source::FromSource;
use self::rows::{as_set, cuda_of, index_rows, meets, row, torch_facts, versions};
use crate::blame;
use crate::candidate::Request;
use crate::document::{DebPin, Facts, Inputs, Lock, TorchFacts, Wheel};
use crate::error::Error;
use crate::explain::Explanation;
use crate::index::{DebianRequest, Index, Libraries, ListedFile, PythonAnswer};
use crate::previous::Previous;
use crate::pylock::{Package, Pylock, PylockWheel};
use crate::source::{SOURCE, is_placeholder};
use crate::spec::{Flavour, Spec, TorchRequest};
use crate::target::Target;

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
/// How many further Pythons are tried where packages of a set can't be installed together.
const MOST_PYTHONS_BESIDE: usize = 4;

/// Works out what a specification is, exactly, and changes as little as it can of the lock that is there.
///
/// # Errors
/// No torch fits what is asked for, the requirements can't be met, or an index could not be asked.
pub fn resolve(
    spec: &Spec,
    host: &Host,
    previous: Previous<'_>,
    index: &mut dyn Index,
) -> Result<(Lock, Explanation), Error> {
    let (lock, mut explanation) = packages(spec, host, previous, index)?;
    let lock = install::add(spec, previous, index, lock, &mut explanation)?;
    Ok((lock, explanation))
}

/// The lock without the project's own wheel.
fn packages(
    spec: &Spec,
    host: &Host,
    previous: Previous<'_>,
    index: &mut dyn Index,
) -> Result<(Lock, Explanation), Error> {
    if let Some(kept) = keep::with_wheels_of(spec, previous, index)? {
        return Ok(kept);
    }
    crate::on_disk::check(spec)?;
    let mut explanation = Explanation::default();
    spec.remarks.iter().for_each(|remark| explanation.note(remark.clone()));
    let mut request = request(spec, host, &mut explanation)?;
    if let Some(lock) = previous.kept() {
        // Another Python would move every wheel.
        let there = sconce_facts::base_with(&lock.facts.base, &lock.facts.python);
        request.bases.sort_by_key(|&base| Some(base) != there);
    }
    if let Some(base) = request.bases.first() {
        let torch = spec.environment.torch != TorchRequest::None;
        let request = keep::debian_request(spec, base, request.machine, torch);
        keep::prefetch_debs(&request, previous.kept(), index);
    }
    let (mut refused, mut beside) = (None, 0);
    loop {
        let first = request.bases.first().copied();
        let mut resolution =
            Resolution::new(spec, request.clone(), previous, &mut *index, explanation.clone());
        let chosen = match resolution.choose_and_build() {
            Ok(chosen) => chosen,
            Err(error) => return Err(refused.unwrap_or_else(|| blame::with_line(spec, error))),
        };
        let base = chosen.base;
        match resolution.finish(chosen) {
            // Where it had to be another Python at all, one more may have releases that go together.
            Err(error @ Error::Overlap { .. })
                if Some(base) != first && beside < MOST_PYTHONS_BESIDE =>
            {
                refused.get_or_insert(error);
                request.bases.retain(|other| *other != base);
                beside += 1;
            }
            Err(error) => return Err(refused.unwrap_or(error)),
            Ok(done) => return Ok(done),
        }
    }
}

/// A resolved set on its way into a lock.
struct Chosen {
    base: &'static Base,
    torch: Option<TorchFacts>,
    wheels: Vec<Wheel>,
    addresses: BTreeMap<String, String>,
}

/// Why the requirements led to another Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moved {
    /// They can't be met on the first.
    Needed,
    /// One of them is newer there.
    Newer,
}

struct Resolution<'a> {
    spec: &'a Spec,
    request: Request,
    previous: Previous<'a>,
    index: &'a mut dyn Index,
    explanation: Explanation,
    questions: usize,
    /// No index that is asked has pip.
    no_pip: bool,
    /// Why it is another Python than the torch alone would have.
    moved: Option<Moved>,
    from_source: FromSource,
    /// What was asked for and is years older than its newest release in the last set: its name, and in words.
    held_back: Vec<(String, String)>,
    /// Why a Python has nothing newer of a package, by Python and by what asks for it; none where it has.
    alone: BTreeMap<(String, String), Option<String>>,
    /// Releases that were shut out, as they lack what they need and do not say.
    lacks: Vec<undeclared::Lack>,
    /// Releases whose own extras want a newer torch than was there.
    beyond_torch: Vec<own_extras::BeyondTorch>,
    /// What the Debian archive answered, by release, flavour and whether Python is Debian's.
    debs: BTreeMap<(String, &'static str, bool), (Digest, Vec<DebPin>)>,
    /// What the index has of packages that uv found no wheel of.
    listed: BTreeMap<String, Vec<ListedFile>>,
    /// What wheels have of NVIDIA's libraries, and with `true` what their code asks for.
    libraries: BTreeMap<(Digest, bool), Result<Libraries, String>>,
    /// The day on which an index got a wheel.
    uploaded: BTreeMap<Digest, i64>,
    /// Packages for which an older NumPy was asked for.
    old_numpys: Vec<numpy::OldNumpy>,
    /// Wheels of which it could not be read which NumPy they are built for, and why.
    unread_numpy: Vec<(Wheel, String)>,
    /// A package of the user's requirements, and the requirement that is tried in its place.
    instead: Option<(String, String)>,
    /// Releases of packages that fit the torch where their newest do not: constraints.
    held: Vec<String>,
    /// Whether sets are only tried, and none of them is taken as it is: which NumPy their modules are for can wait.
    trying: bool,
}

impl<'a> Resolution<'a> {
    fn new(
        spec: &'a Spec,
        request: Request,
        previous: Previous<'a>,
        index: &'a mut dyn Index,
        explanation: Explanation,
    ) -> Self {
        Self {
            spec,
            request,
            previous,
            index,
            explanation,
            questions: 0,
            no_pip: false,
            moved: None,
            from_source: FromSource::default(),
            held_back: Vec::new(),
            alone: BTreeMap::new(),
            lacks: Vec::new(),
            beyond_torch: Vec::new(),
            debs: BTreeMap::new(),
            listed: BTreeMap::new(),
            libraries: BTreeMap::new(),
            uploaded: BTreeMap::new(),
            old_numpys: Vec::new(),
            unread_numpy: Vec::new(),
            instead: None,
            held: Vec::new(),
            trying: false,
        }
    }
}

impl Resolution<'_> {
    fn choose(&mut self) -> Result<Chosen, Error> {
        match (&self.spec.environment.torch, taken::pylock_of(self.spec, self.index)?) {
            (_, Some(pylock)) => self.take_pylock(&pylock),
            (TorchRequest::None, None) => self.without_torch(),
            (_, None) => self.with_torch(),
        }
    }

    const fn target(&self, base: &'static Base) -> Target {
        Target { machine: self.request.machine, base }
    }

    /// The rows of a lock for an answer.
    fn wheels(&mut self, answer: &PythonAnswer, base: &'static Base) -> Result<Vec<Wheel>, Error> {
        let wrong =
            |message: String| Error::Pylock { file: "the resolver's answer".into(), message };
        let pylock = Pylock::parse(&answer.pylock).map_err(wrong)?;
        let target = self.target(base);
        let mut set = pylock.select(target).map_err(wrong)?;
        let exclude = &self.spec.environment.exclude;
        set.retain(|(package, _)| !exclude.contains(&package.name));
        let hashes = self.hashes()?;
        hashes.complete(set.iter().map(|(package, _)| package.name.as_str()))?;
        let index = |name: &str| answer.indexes.get(name).cloned().unwrap_or_else(|| "pypi".into());
        let (mut rows, mut days) = (Vec::with_capacity(set.len()), Vec::new());
        for (package, best) in set {
            if self.spec.environment.from_source.contains(&package.name) {
                rows.push(self.row_from_source(package)?);
                continue;
            }
            let allowed = |wheel: &&PylockWheel| hashes.allow(&package.name, wheel.sha256);
            let fits = package.wheels.iter().filter(allowed);
            let fits = fits.filter_map(|wheel| Some((target.rank(&wheel.name)?, wheel)));
            let wheel = match fits.min_by_key(|(rank, _)| *rank) {
                _ if allowed(&best) => best,
                Some((_, wheel)) => wheel,
                None => {
                    let refused = hashes.refuse(&package.name, &best.name.file, best.sha256);
                    return Err(
                        refused.unwrap_or_else(|| wrong(format!("{}: no wheel", package.name)))
                    );
                }
            };
            let day = wheel.uploaded.as_deref().and_then(releases::day);
            days.extend(day.map(|day| (wheel.sha256, day)));
            rows.push(row(package, wheel, index(&package.name), answer.folder.as_deref()));
        }
        self.uploaded.extend(days);
        Ok(rows)
    }

    fn finish(mut self, chosen: Chosen) -> Result<(Lock, Explanation), Error> {
        let Chosen { base, torch, wheels, addresses } = chosen;
        self.tell_lacks(&wheels);
        self.tell_beyond_torch(&wheels);
        self.tell_numpy(&wheels);
        self.tell_libraries(&wheels, torch.as_ref());
        let prefer = self.overlaps(&wheels, torch.as_ref(), base)?;
        self.tell_protobuf(&wheels);
        self.tell_previews(&wheels);
        self.tell_extras(&wheels, self.target(base));
        self.tell_promised(&wheels);
        let why = match (&self.spec.environment.python, &self.spec.base.debian) {
            (Some(_), _) | (_, Some(_)) => "asked for".to_owned(),
            (None, None) if sconce_facts::bases().first() == Some(base) => {
                "the newest Debian, and the torch has wheels for its Python".to_owned()
            }
            (None, None) if self.moved == Some(Moved::Newer) => {
                "the newest of your requirements can be had on its Python".to_owned()
            }
            (None, None) if base.standalone.is_some() => {
                "no Python of Debian's is one that your requirements allow".to_owned()
            }
            (None, None) if self.moved.is_some() => {
                "your requirements can be met on its Python".to_owned()
            }
            (None, None) => "the torch is at home on its Python".to_owned(),
        };
        let python = self.standalone(base)?;
        let choice = match &python {
            None => format!("Debian {} with Python {}", base.release, base.python),
            Some(pin) => format!("Debian {} with {}", base.release, pin.file),
        };
        self.explanation.choose("base", choice, why, Vec::new());
        let (digest, debs) = self.debs(base, torch.is_some(), self.spec.environment.flavour)?;
        let sources = self.from_source.sources(&wheels);
        let compiles = sources.iter().any(|source| source.flavour == Flavour::Devel);
        let mut build_debs = std::mem::take(&mut self.from_source.build_debs);
        build_debs.retain(|deb| compiles && !debs.contains(deb));
        let mut every: BTreeMap<_, _> = std::mem::take(&mut self.from_source.addresses);
        every.extend(addresses);
        let indexes = index_rows((&wheels, &sources), debs.iter().chain(&build_debs), &every);
        let lock = Lock {
            spec: self.spec.digest(),
            inputs: Some(Inputs { wheels: self.spec.wheels_digest(), debs: digest }),
            facts: Facts { prefer, ..self.facts(base, torch) },
            python,
            app: self.spec.app.clone(),
            indexes,
            wheels,
            sources,
            project: None,
            debs,
            build_debs,
            sealed: None,
        };
        Ok((lock, self.explanation))
    }

    fn facts(&self, base: &Base, torch: Option<TorchFacts>) -> Facts {
        let mut gpus: Vec<_> = self.request.gpus.iter().map(|gpu| gpu.capability).collect();
        gpus.sort();
        gpus.dedup();
        Facts {
            machine: self.request.machine,
            base: base.release.clone(),
            python: base.python.clone(),
            glibc: base.glibc.clone(),
            flavour: self.request.flavour,
            bytecode: self.spec.environment.bytecode,
            gpus,
            prefer: Vec::new(),
            torch,
        }
    }

    /// The Debian packages of a flavour, and the digest of what decided them. The archive is asked once.
    fn debs(
        &mut self,
        base: &'static Base,
        torch: bool,
        flavour: Flavour,
    ) -> Result<(Digest, Vec<DebPin>), Error> {
        let key = (base.release.clone(), flavour.as_str(), base.standalone.is_none());
        if let Some(known) = self.debs.get(&key) {
            return Ok(known.clone());
        }
        let request = DebianRequest {
            flavour,
            ..keep::debian_request(self.spec, base, self.request.machine, torch)
        };
        let answer = keep::debs(&request, self.previous.kept(), self.index)?;
        self.debs.insert(key, answer.clone());
        Ok(answer)
    }

    /// The row of a package that is to come from source: what was built of it, or what stands for it until then.
    fn row_from_source(&self, package: &Package) -> Result<Wheel, Error> {
        if let Some(built) = self.from_source.row(&package.name) {
            return Ok(built.clone());
        }
        let rows = package.wheels.iter().map(|wheel| row(package, wheel, SOURCE.into(), None));
        rows.into_iter().find(is_placeholder).ok_or_else(|| Error::Request {
            message: format!(
                "`from-source` names {}, and {} has no source distribution",
                package.name,
                package.version.as_ref().map_or("the release taken".into(), |v| v.to_string())
            ),
            hint: Some("ask for a release that has one, or leave it out of `from-source`".into()),
        })
    }
}

/// The resolver's words in one line, for a list: the first thing that it found, without what it concludes of it.
fn first_line(words: &str) -> String {
    let mut line = words
        .lines()
        .map(|line| line.trim().trim_start_matches("cause: "))
        .filter(|line| !line.is_empty() && !line.starts_with("error: No solution found"))
        .collect::<Vec<_>>()
        .join(" ");
    if let Some(rest) = line.strip_prefix("Because ") {
        let end = rest.find(", we can conclude").unwrap_or(rest.len());
        line = rest.get(..end).unwrap_or_default().to_owned();
    }
    if let Some((end, _)) = line.char_indices().nth(300) {
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::first_line;

    #[test]
    fn the_resolver_in_one_line() {
        for (words, line) in [
            (
                "Because evdev>=1.3.0 has no usable wheels and pynput depends on evdev>=1.3, we can conclude that \
                 pynput cannot be used.\nAnd because x depends on pynput, we can conclude that x cannot be used.",
                "evdev>=1.3.0 has no usable wheels and pynput depends on evdev>=1.3",
            ),
            (
                "error: No solution found when resolving:\n  cause: Because a\n is not there",
                "a is not there",
            ),
            ("there is no torch==9", "there is no torch==9"),
            ("", ""),
        ] {
            assert_eq!(first_line(words), line);
        }
        assert_eq!(first_line(&"ü".repeat(400)).chars().count(), 301);
    }
}
