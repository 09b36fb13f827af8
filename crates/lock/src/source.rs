//! Packages that are built from their source distribution: what a lock keeps of each, and what is asked of
//! whoever builds them.

use std::path::PathBuf;

use sconce_blob::Digest;
use sconce_facts::{Capability, Machine};
use serde::Deserialize;

use crate::document::{DebPin, Lock, Wheel};
use crate::spec::{App, Flavour, IndexRequest};
use crate::target::Target;

/// The index of a wheel that was built: its lock has a [`Source`] of the same name.
pub const SOURCE: &str = "source";

/// The build tag of a placeholder: higher than that of any wheel (binary distribution format specification,
/// "File name convention"), so that the resolver takes it before them.
const TAG: &str = "999999999999source";

/// Endings of source distributions (PEP 625, and what came before).
pub(crate) const ENDINGS: &[&str] = &[".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar.xz"];

/// What a wheel of a lock is built from, and in what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The package, normalised.
    pub name: String,
    /// The source distribution's file name.
    pub file: String,
    /// Bytes; `None` when the index did not say.
    pub size: Option<u64>,
    /// The file's SHA-256.
    pub sha256: Digest,
    /// The index that has it.
    pub index: String,
    /// The flavour of the container that it is built in: `devel` where there is something to compile.
    pub flavour: Flavour,
    /// What its GPU code is compiled for, as `TORCH_CUDA_ARCH_LIST` has it: "9.0".
    pub architectures: Vec<String>,
    /// The [`RECIPE`] of the sconce that built it.
    pub recipe: u32,
    /// What came of building it a second time; `None` where that was not tried.
    pub rebuilt: Option<Rebuilt>,
    /// Every wheel in the container, by name.
    pub wheels: Vec<Wheel>,
}

/// How wheels are built of the same things. Raised when that changes: a lock says by which recipe its wheels were
/// built, and another one may give other bytes.
pub const RECIPE: u32 = 3;

/// The recipe of locks that name none.
pub(crate) const FIRST_RECIPE: u32 = 1;

/// The index that stands for the project's own folder.
pub const PROJECT: &str = "project";

/// What the project's own wheel is built in. What it is built of is the user's folder, and stands in no lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnProject {
    /// Its name, normalised.
    pub name: String,
    /// `[build-system] requires` of its pyproject.toml when it was locked.
    pub requires: Vec<String>,
    /// As [`Source::flavour`].
    pub flavour: Flavour,
    /// As [`Source::architectures`].
    pub architectures: Vec<String>,
    /// Every wheel in the container, by name.
    pub wheels: Vec<Wheel>,
}

impl OwnProject {
    /// The file name of its source distribution.
    pub fn file_of(name: &str) -> String {
        format!("{name}.tar.gz")
    }

    /// The source that the folder is, packed as a source distribution.
    pub fn source(&self, sha256: Digest, size: u64) -> Source {
        Source {
            name: self.name.clone(),
            file: Self::file_of(&self.name),
            size: Some(size),
            sha256,
            index: PROJECT.into(),
            flavour: self.flavour,
            architectures: self.architectures.clone(),
            recipe: RECIPE,
            rebuilt: None,
            wheels: self.wheels.clone(),
        }
    }
}

/// Whether a second build gave the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rebuilt {
    /// It did.
    Same,
    /// It did not: the wheel can't be had again, and travels with the image.
    Differs,
}

impl Rebuilt {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Differs => "differs",
        }
    }
}

impl Source {
    /// The lock of the container that it is built in: the image's Python and torch, and what the build needs.
    pub fn container(&self, lock: &Lock) -> Lock {
        let mut container = bare(lock);
        container.facts.flavour = self.flavour;
        container.wheels.clone_from(&self.wheels);
        if self.flavour == Flavour::Devel {
            container.debs = overlaid(&lock.debs, &lock.build_debs);
        }
        container
    }

    /// The environment variables of the build that are the package's own, sorted.
    pub fn variables(&self) -> Vec<(String, String)> {
        let torch = self.wheels.iter().any(|wheel| wheel.name == "torch");
        let rows = sconce_facts::source_variables(&self.name, torch);
        let mut variables: Vec<(String, String)> =
            rows.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        if !self.architectures.is_empty() {
            variables.push(("TORCH_CUDA_ARCH_LIST".into(), self.architectures.join(";")));
        }
        variables.sort();
        variables
    }
}

/// A container of a lock's Debian and Python without any wheel.
pub(crate) fn bare(lock: &Lock) -> Lock {
    let mut facts = lock.facts.clone();
    (facts.bytecode, facts.torch, facts.gpus) = (false, None, Vec::new());
    Lock {
        // What a container is made of does not depend on what it is for.
        spec: Digest::of(b""),
        inputs: None,
        facts,
        python: lock.python.clone(),
        app: App::default(),
        indexes: lock.indexes.clone(),
        wheels: Vec::new(),
        sources: Vec::new(),
        project: None,
        debs: lock.debs.clone(),
        build_debs: Vec::new(),
        sealed: None,
    }
}

fn overlaid(debs: &[DebPin], over: &[DebPin]) -> Vec<DebPin> {
    let replaced =
        |deb: &&DebPin| !over.iter().any(|o| (&o.name, &o.arch) == (&deb.name, &deb.arch));
    let mut all: Vec<DebPin> = debs.iter().filter(replaced).chain(over).cloned().collect();
    all.sort_by(|a, b| (&a.name, &a.arch).cmp(&(&b.name, &b.arch)));
    all
}

/// A release that is there as source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The package, normalised.
    pub name: String,
    /// The version.
    pub version: String,
    /// Its source distribution.
    pub file: String,
    /// The Pythons it is for, PEP 440.
    pub requires_python: Option<String>,
}

/// A wheel that was built, for a question to the resolver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The package, normalised.
    pub name: String,
    /// The wheel's file name.
    pub file: String,
    /// Where its bytes are.
    pub path: PathBuf,
}

/// The file name of the empty wheel that stands for a release which is there as source: it fits this target
/// better than any other, and needs nothing. What the release really needs is known once it is built.
pub fn placeholder(name: &str, version: &str, target: Target) -> String {
    let python = target.base.python_tag();
    format!(
        "{}-{version}-{TAG}-{python}-{python}-{}_{}.whl",
        name.replace('-', "_"),
        target.base.uv_platform,
        target.machine
    )
}

/// Whether a wheel is a placeholder.
pub(crate) fn is_placeholder(wheel: &Wheel) -> bool {
    wheel.file.parse().is_ok_and(|name: crate::WheelName| name.build == TAG)
}

/// Whether a text can be the file name of a source distribution.
pub(crate) fn is_file_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+!".contains(c);
    text.len() <= 255
        && !text.starts_with('.')
        && text.chars().all(plain)
        && ENDINGS.iter().any(|ending| text.ends_with(ending))
}

/// A question about a source distribution.
#[derive(Debug)]
pub struct SourceRequest<'a> {
    /// The package, normalised.
    pub name: &'a str,
    /// The source distribution's file name.
    pub file: &'a str,
    /// Indexes besides the default one, in the order they are asked.
    pub indexes: &'a [IndexRequest],
    /// The container in which it is read.
    pub container: &'a Lock,
}

/// A question about the project's own folder.
#[derive(Debug)]
pub struct FolderRequest<'a> {
    /// Its name, normalised.
    pub name: &'a str,
    /// Which of its files count.
    pub app: &'a App,
    /// The container in which it is read.
    pub container: &'a Lock,
}

/// What a source distribution says of its build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sdist {
    /// Bytes.
    pub size: u64,
    /// SHA-256.
    pub sha256: Digest,
    /// The index that has it.
    pub index: String,
    /// `requires` of `[build-system]` in its pyproject.toml, or what stands for it (PEP 518).
    pub requires: Vec<String>,
    /// It has source files of C, C++, CUDA, Fortran, Cython or assembler.
    pub compiles: bool,
    /// It has source files of CUDA.
    pub cuda: bool,
}

/// A wheel to build.
#[derive(Debug)]
pub struct Order<'a> {
    /// What of, and in what.
    pub source: &'a Source,
    /// The version that must come of it; `None` where only the build tells.
    pub version: Option<&'a str>,
    /// [`Source::container`].
    pub container: &'a Lock,
    /// The build requirements that the container meets; the build stops where its backend asks for others
    /// (PEP 517, `get_requires_for_build_wheel`). `None` takes the container as it is.
    pub requires: Option<&'a [String]>,
}

/// What came of an [`Order`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A wheel.
    Wheel {
        /// Its row of the lock.
        wheel: Wheel,
        /// Where its bytes are.
        path: PathBuf,
        /// What came of building it twice.
        rebuilt: Option<Rebuilt>,
    },
    /// The backend asks for more build requirements.
    Requires(Vec<String>),
}

/// What `TORCH_CUDA_ARCH_LIST` has for these GPUs, or for all that the torch has code for.
pub(crate) fn architectures(gpus: &[Capability], torch: &[sconce_facts::Sm]) -> Vec<String> {
    let named = |sm: &sconce_facts::Sm| {
        let suffix = match sm.kind {
            sconce_facts::SmKind::Plain => "",
            sconce_facts::SmKind::Family => "f",
            sconce_facts::SmKind::Exact => "a",
        };
        format!("{}{suffix}", sm.capability)
    };
    let mut gpus = gpus.to_vec();
    gpus.sort();
    gpus.dedup();
    match gpus.as_slice() {
        [] => torch.iter().map(named).collect(),
        some => some.iter().map(ToString::to_string).collect(),
    }
}

/// Whether wheels can be built here for a processor.
pub(crate) fn can_build_for(machine: Machine) -> bool {
    Machine::current() == Some(machine)
}
