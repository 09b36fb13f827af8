//! What the packages beside torch are built for: from the facts, else from their own bytes.

use pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::{Requirement, VerbatimUrl, VersionOrUrl};
use sconce_facts::{Agree, Builds, CudaVersion, Local, Machine};

use super::Resolution;
use crate::candidate::{Candidate, Channel};
use crate::document::Wheel;
use crate::index::Native;
use crate::source::SOURCE;

/// Beginnings of names that are torch itself, or that it pins.
const OF_TORCH: &[&str] = &["nvidia-", "cuda-"];

/// A package and a torch that do not fit.
#[derive(Debug)]
pub(super) struct Disagreement {
    /// The package.
    pub package: String,
    /// Its file.
    pub file: String,
    /// In a sentence.
    pub message: String,
    /// What a torch must be to fit that package.
    pub wants: Wants,
    /// Whether the very file was asked for: then no other torch brings another one.
    pub fixed: bool,
}

impl Disagreement {
    pub fn new(wheel: &Wheel, message: String, wants: Wants) -> Self {
        let (package, file) = (wheel.name.clone(), wheel.file.clone());
        Self { package, file, message, wants, fixed: wheel.url.is_some() }
    }
}

/// What a package wants of the torch beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wants {
    /// This CUDA.
    Cuda(CudaVersion),
    /// One of these CUDAs, as it has a library for each; or, with `nearest`, one of their majors.
    OneOf { cudas: Vec<CudaVersion>, nearest: bool },
    /// A CUDA of this major.
    CudaMajor(u16),
    /// Major and minor of torch itself.
    Torch((u64, u64)),
    /// A torch that pins a release of this package which is one of those.
    Package { name: String, specifiers: VersionSpecifiers },
    /// One of these releases of torch, as it has a library for each.
    Releases(Vec<String>),
    /// Any other release than this one.
    AnotherThan(String),
    /// C++ code with libstdc++'s new `std::string`, or without.
    Cxx11Abi(bool),
    /// What no torch brings.
    NoTorch,
}

impl Wants {
    /// Whether a candidate has it; one of which that is not known counts as one that has.
    pub fn met_by(&self, candidate: &Candidate, machine: Machine) -> bool {
        match self {
            Self::Cuda(_) | Self::OneOf { .. } | Self::CudaMajor(_) => {
                candidate.cuda.is_none_or(|has| self.has(has))
            }
            Self::Torch(wanted) => minor_of(candidate).is_none_or(|has| has == *wanted),
            Self::Package { name, specifiers } => {
                let pinned = pinned(candidate.requires(machine), name);
                pinned.is_none_or(|version| specifiers.contains(&version))
            }
            Self::Releases(all) => all.contains(&candidate.release.version),
            Self::AnotherThan(one) => candidate.release.version != *one,
            Self::NoTorch => false,
            Self::Cxx11Abi(wanted) => abi_of(candidate, machine).is_none_or(|has| has == *wanted),
        }
    }

    /// Whether this is a CUDA that it wants.
    pub fn has(&self, cuda: CudaVersion) -> bool {
        match self {
            Self::Cuda(wanted) => *wanted == cuda,
            Self::OneOf { cudas, nearest } => {
                cudas.iter().any(|has| *has == cuda || (*nearest && has.major == cuda.major))
            }
            Self::CudaMajor(major) => *major == cuda.major,
            Self::Torch(_)
            | Self::Package { .. }
            | Self::Releases(_)
            | Self::AnotherThan(_)
            | Self::Cxx11Abi(_)
            | Self::NoTorch => false,
        }
    }

    /// What of a torch meets it, where its version does not say it: " (CUDA 13.0)".
    pub fn of(&self, candidate: &Candidate) -> String {
        match (self, candidate.cuda) {
            (Self::Cuda(_) | Self::OneOf { .. } | Self::CudaMajor(_), Some(cuda)) => {
                format!(" (CUDA {cuda})")
            }
            (Self::Cxx11Abi(true), _) => " (the new C++ ABI)".to_owned(),
            (Self::Cxx11Abi(false), _) => " (the old C++ ABI)".to_owned(),
            _ => String::new(),
        }
    }
}

/// The release of a package that a torch pins.
fn pinned(pins: &[String], name: &str) -> Option<Version> {
    let pins = pins.iter().filter_map(|pin| pin.parse::<Requirement<VerbatimUrl>>().ok());
    let of = pins.filter(|pin| pin.name.as_ref() == name).find_map(|pin| pin.version_or_url);
    let Some(VersionOrUrl::VersionSpecifier(specifiers)) = of else { return None };
    specifiers.iter().next().map(|one| one.version().clone())
}

fn minor_of(candidate: &Candidate) -> Option<(u64, u64)> {
    let version: Version = candidate.release.version.parse().ok()?;
    let mut parts = version.release().iter().copied();
    Some((parts.next()?, parts.next()?))
}

/// Known of PyPI's wheels for x86_64 alone.
fn abi_of(candidate: &Candidate, machine: Machine) -> Option<bool> {
    let known = matches!(candidate.channel, Channel::Pypi) && machine == Machine::X86_64;
    let from: Version = sconce_facts::cxx11_abi_from().filter(|_| known)?.parse().ok()?;
    let version: Version = candidate.release.version.parse().ok()?;
    Some(version >= from)
}

impl Resolution<'_> {
    /// The first package whose native code is for another torch than this one.
    pub(super) fn disagreement(
        &mut self,
        wheels: &[Wheel],
        candidate: &Candidate,
    ) -> Option<Disagreement> {
        let mut unknown = Vec::new();
        // What comes from source is built against this torch, or about to be.
        let others = wheels.iter().filter(|wheel| wheel.index != SOURCE);
        for wheel in others {
            // A wheel "for any platform" can hold libraries all the same: bitsandbytes before 0.43 did.
            if let (Some(builds), Some(torch)) = (sconce_facts::builds(&wheel.name), candidate.cuda)
            {
                match self.without_build(wheel, builds, torch) {
                    Some(found) => return Some(found),
                    None => continue,
                }
            }
            if !wheel.may_be_native() {
                continue;
            }
            if let Some(found) = self.without_torch_build(wheel, candidate) {
                return Some(found);
            }
            let said = local_of(wheel);
            if let Some(found) = self.by_name(wheel, said, candidate) {
                return Some(found);
            }
            let torch = candidate.cuda?;
            let agree = sconce_facts::companion(&wheel.name);
            if matches!(agree, Some(Agree::Any | Agree::Build)) {
                continue;
            }
            let built = sconce_facts::built_for(&wheel.name, &wheel.version);
            let native = Native {
                cuda: built.filter(|_| wheel.index == "pypi").or(said.cuda),
                major: sconce_facts::companion_major(&wheel.name).or(said.cuda_major),
                why: None,
            };
            if native == Native::default() {
                unknown.push((wheel.clone(), agree.is_some()));
            } else if let Some(found) = disagrees(wheel, &native, agree, torch) {
                return Some(found);
            }
        }
        let torch = candidate.cuda?;
        let answers = self.index.native(&unknown);
        let mut found = None;
        for ((wheel, known), answer) in unknown.iter().zip(answers) {
            match answer {
                Ok(native) => {
                    let agree = sconce_facts::companion(&wheel.name);
                    found = found.or_else(|| disagrees(wheel, &native, agree, torch));
                }
                // Of packages that are no more than likely for torch it is not worth a word.
                Err(why) if *known => self.explanation.note(format!(
                    "whether {} {} is built for CUDA {torch} could not be read: {why}",
                    wheel.name, wheel.version
                )),
                Err(_) => {}
            }
        }
        found
            .or_else(|| self.lacks_older(wheels))
            .or_else(|| self.lacks_libraries(wheels, torch))
            .or_else(|| self.lacks_names(wheels, candidate))
    }

    /// A package with one library for each release of torch, and none for this one.
    fn without_torch_build(
        &mut self,
        wheel: &Wheel,
        candidate: &Candidate,
    ) -> Option<Disagreement> {
        let Wheel { name, version, .. } = wheel;
        let row = sconce_facts::per_torch(name, version)?;
        let torch = &candidate.release.version;
        let files = match self.index.files(wheel) {
            Ok(files) => files,
            Err(why) => {
                self.explanation.note(format!(
                    "whether {name} {version} has a library for torch {torch} could not be read: {why}"
                ));
                return None;
            }
        };
        let mut has: Vec<Version> =
            files.iter().filter_map(|path| row.torch(path)?.parse().ok()).collect();
        has.sort_unstable();
        has.dedup();
        let (first, last) = (has.first()?, has.last()?);
        let message = format!(
            "{name} {version} has no library for torch {torch}: its own ({}…) are for torch {first} to {last}",
            row.libraries
        );
        let wants = Wants::Releases(has.iter().map(ToString::to_string).collect());
        let met = wants.met_by(candidate, self.request.machine);
        (!met).then(|| Disagreement::new(wheel, message, wants))
    }

    /// A package with one library for each CUDA, and none for that of a torch.
    fn without_build(
        &mut self,
        wheel: &Wheel,
        builds: Builds,
        torch: CudaVersion,
    ) -> Option<Disagreement> {
        let Wheel { name, version, .. } = wheel;
        let unsure =
            format!("whether {name} {version} has a library for CUDA {torch} could not be read");
        let files = match self.index.files(wheel) {
            Ok(files) => files,
            Err(why) => {
                self.explanation.note(format!("{unsure}: {why}"));
                return None;
            }
        };
        let mut has: Vec<CudaVersion> = files.iter().filter_map(|path| builds.cuda(path)).collect();
        has.sort_unstable();
        has.dedup();
        let (Some(first), Some(last)) = (has.first().copied(), has.last().copied()) else {
            self.explanation.note(format!("{unsure}: none of its files has the name of one"));
            return None;
        };
        let release = |text: &str| text.parse::<Version>().ok();
        let nearest = builds
            .nearest_since
            .and_then(release)
            .is_some_and(|since| release(version).is_some_and(|version| version >= since));
        let wants = Wants::OneOf { cudas: has, nearest };
        if wants.has(torch) {
            return None;
        }
        let message = format!(
            "{name} {version} has no library for CUDA {torch}, which this torch has: its own are for CUDA {first} \
             to {last}"
        );
        Some(Disagreement::new(wheel, message, wants))
    }

    /// What a wheel's own version says of the torch that it is built for.
    fn by_name(&self, wheel: &Wheel, said: Local, candidate: &Candidate) -> Option<Disagreement> {
        let Wheel { name, version, .. } = wheel;
        let torch = &candidate.release.version;
        let machine = self.request.machine;
        let found = |message: String, wants| Disagreement::new(wheel, message, wants);
        if let Some((major, minor)) = said.torch {
            let wants = Wants::Torch((major, minor));
            if !wants.met_by(candidate, machine) {
                let message = format!(
                    "{name} {version} is built for torch {major}.{minor}, and this is torch {torch}"
                );
                return Some(found(message, wants));
            }
        }
        let wants = Wants::Cxx11Abi(said.cxx11_abi?);
        (!wants.met_by(candidate, machine)).then(|| {
            let (has, wanted) = match wants {
                Wants::Cxx11Abi(true) => ("old", "new"),
                _ => ("new", "old"),
            };
            let message = format!(
                "{name} {version} is built for the {wanted} C++ ABI (_GLIBCXX_USE_CXX11_ABI), and torch {torch} \
                 has the {has} one"
            );
            found(message, wants)
        })
    }
}

fn local_of(wheel: &Wheel) -> Local {
    wheel.version.split_once('+').map(|(_, local)| Local::parse(local)).unwrap_or_default()
}

impl Wheel {
    /// Whether it can hold native code that is not torch's own, nor of what torch pins.
    pub fn may_be_native(&self) -> bool {
        !self.file.ends_with("-any.whl") && !self.is_of_torch()
    }

    /// Whether it is torch itself, or what torch pins.
    pub(crate) fn is_of_torch(&self) -> bool {
        matches!(self.name.as_str(), "torch" | "triton")
            || OF_TORCH.iter().any(|beginning| self.name.starts_with(beginning))
    }
}

fn disagrees(
    wheel: &Wheel,
    native: &Native,
    agree: Option<Agree>,
    torch: CudaVersion,
) -> Option<Disagreement> {
    let Wheel { name, version, .. } = wheel;
    if let Some(cuda) = native.cuda {
        let (same, wants) = match agree {
            Some(Agree::Minor) => (cuda == torch, Wants::Cuda(cuda)),
            // A version.py of a package that the facts do not have proves nothing by its minor.
            Some(Agree::Major) | None => (cuda.major == torch.major, Wants::CudaMajor(cuda.major)),
            Some(Agree::Build | Agree::Any) => return None,
        };
        if !same {
            let message = format!(
                "{name} {version} is built for CUDA {cuda}, and this torch has CUDA {torch}"
            );
            return Some(Disagreement::new(wheel, message, wants));
        }
    }
    let major = native.major.filter(|major| *major != torch.major)?;
    let why = native.why.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
    let message =
        format!("{name} {version} is built for CUDA {major}{why}, and this torch has CUDA {torch}");
    Some(Disagreement::new(wheel, message, Wants::CudaMajor(major)))
}
