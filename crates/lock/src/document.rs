//! `sconce.lock`: what an environment is, exactly. `docs/format/lock.md` describes the text.

use sconce_blob::Digest;
use sconce_facts::{Capability, CudaVersion, DriverVersion, Machine, Sm};
use serde::Deserialize;

use crate::error::Error;
use crate::source::{OwnProject, Source};
use crate::spec::{App, Flavour, Spec};
use crate::wheel_name::normalise;
use crate::{read, write};

/// The newest version of the format that this sconce reads, and writes where it must.
pub const VERSION: i64 = 6;

/// A lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// The digest of the specification it was made for ([`Spec::digest`]).
    pub spec: Digest,
    /// The parts of the specification that decided its packages; not in locks before version 3.
    pub inputs: Option<Inputs>,
    /// What it rests on.
    pub facts: Facts,
    /// The build of its Python, where that is not Debian's.
    pub python: Option<PythonPin>,
    /// The image's configuration and what of the user's code is in it.
    pub app: App,
    /// Every index that a wheel or deb names, by name.
    pub indexes: Vec<IndexRow>,
    /// Python packages, by name.
    pub wheels: Vec<Wheel>,
    /// What the wheels that are built from source are built from, and in what, by name.
    pub sources: Vec<Source>,
    /// What the project's own wheel is built in, where it is installed.
    pub project: Option<OwnProject>,
    /// Debian packages, by name.
    pub debs: Vec<DebPin>,
    /// Debian packages of the containers that compile, where they are not those of the image.
    pub build_debs: Vec<DebPin>,
    /// What it builds to, once built.
    pub sealed: Option<Sealed>,
}

/// What decided the packages of a lock, so that another edit of `sconce.toml` moves none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    /// Of the wheels ([`Spec::wheels_digest`]).
    pub wheels: Digest,
    /// Of the debs: release, processor, flavour and the packages asked for.
    pub debs: Digest,
}

/// What a lock rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The processor.
    pub machine: Machine,
    /// The Debian release: "trixie".
    pub base: String,
    /// Its Python: "3.13"; "3.13t" is the one without the GIL.
    pub python: String,
    /// Its glibc: "2.41".
    pub glibc: String,
    /// What the image is for.
    pub flavour: Flavour,
    /// Whether .pyc files are in it.
    pub bytecode: bool,
    /// Compute capabilities it is promised to run on, sorted; empty when nothing was asked.
    pub gpus: Vec<Capability>,
    /// Packages whose files win where two have different ones at a path, the first before the rest.
    pub prefer: Vec<String>,
    /// Which torch, if any.
    pub torch: Option<TorchFacts>,
}

/// What is known about the torch in a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TorchFacts {
    /// Its version, with the local part where the wheel's name has one: "2.15.0", "2.9.1+cu126".
    pub version: String,
    /// Its CUDA; `None` for a CPU build.
    pub cuda: Option<CudaVersion>,
    /// The lowest driver it starts on; `None` for a CPU build.
    pub driver: Option<DriverVersion>,
    /// What its GPU code is compiled for; empty for a CPU build and where it is not known.
    pub architectures: Vec<Sm>,
    /// The cuDNN in the set.
    pub cudnn: Option<String>,
    /// The NCCL in the set.
    pub nccl: Option<String>,
    /// The Triton in the set.
    pub triton: Option<String>,
}

/// Whose packages an index holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IndexKind {
    /// Wheels.
    Python,
    /// Debs.
    Debian,
}

impl IndexKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Debian => "debian",
        }
    }
}

/// A named index. Its address stands here once, or nowhere: then it is the machine's own configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexRow {
    /// Its name: "pypi".
    pub name: String,
    /// Whose packages it holds.
    pub kind: IndexKind,
    /// Its address without credentials.
    pub url: Option<String>,
}

/// A Python package.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wheel {
    /// Its name, normalised.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The wheel's file name.
    pub file: String,
    /// Bytes; `None` when the index did not say.
    pub size: Option<u64>,
    /// The file's SHA-256.
    pub sha256: Digest,
    /// The index that has it; "direct" when the requirement gave an address.
    pub index: String,
    /// The address of a direct requirement, without credentials.
    pub url: Option<String>,
    /// The label of its variant, where it is one (PEP 825, draft); it stands in the file's name as well.
    pub variant: Option<String>,
}

/// A standalone build of Python: an archive that holds the folder `python`, laid out like python-build-standalone's
/// `install_only` ones.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PythonPin {
    /// Its full version: "3.9.25".
    pub version: String,
    /// The release of python-build-standalone that it is of: "20251031"; `None` for a build of somebody else.
    pub build: Option<String>,
    /// The archive's file name.
    pub file: String,
    /// Bytes; `None` when the list of builds did not say.
    pub size: Option<u64>,
    /// The archive's SHA-256.
    pub sha256: Digest,
    /// Its address, where it is not in that release of python-build-standalone.
    pub url: Option<String>,
}

/// A Debian package.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DebPin {
    /// The package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// "amd64", "arm64" or "all".
    pub arch: String,
    /// Where it is in the archive: "pool/main/…/x.deb".
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// The file's SHA-256.
    pub sha256: Digest,
    /// The part of the archive that listed it: "trixie", "trixie-security".
    pub index: String,
}

/// What a lock builds to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The manifest's digest.
    pub image: Digest,
    /// Its layers, the base first.
    #[serde(rename = "layer", default)]
    pub layers: Vec<Layer>,
}

/// A layer of a sealed lock.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// What is in it: "debian", "torch", "app".
    pub name: String,
    /// SHA-256 of the uncompressed tar.
    pub diff_id: Digest,
    /// SHA-256 of the blob.
    pub digest: Digest,
    /// The blob's bytes.
    pub size: u64,
}

impl Facts {
    /// Those of an image with that Debian and Python, and without torch.
    #[must_use]
    pub fn of_base(machine: Machine, base: &str, python: &str, glibc: &str) -> Self {
        Self {
            machine,
            base: base.to_owned(),
            python: python.to_owned(),
            glibc: glibc.to_owned(),
            flavour: Flavour::Runtime,
            bytecode: false,
            gpus: Vec::new(),
            prefer: Vec::new(),
            torch: None,
        }
    }
}

impl Lock {
    /// One that rests on these facts and has no package yet.
    #[must_use]
    pub fn of_facts(facts: Facts) -> Self {
        Self {
            spec: Digest::of(b""),
            inputs: None,
            facts,
            python: None,
            app: App::default(),
            indexes: Vec::new(),
            wheels: Vec::new(),
            sources: Vec::new(),
            project: None,
            debs: Vec::new(),
            build_debs: Vec::new(),
            sealed: None,
        }
    }

    /// Reads the text of a lock. Never panics, whatever the text.
    ///
    /// # Errors
    /// No lock, of a newer version, changed after it was written, or with a value that no sconce writes.
    pub fn parse(text: &str) -> Result<Self, Error> {
        read::parse(text)
    }

    /// The one text of this lock.
    pub fn to_text(&self) -> String {
        write::text(self)
    }

    /// The digest of what is locked: the same before and after sealing.
    pub fn digest(&self) -> Digest {
        write::unsealed_digest(self)
    }

    /// Whether this lock was made for `spec`.
    ///
    /// # Errors
    /// The specification has changed since.
    pub fn check_spec(&self, spec: &Spec) -> Result<(), Error> {
        let digest = spec.digest();
        if digest == self.spec {
            return Ok(());
        }
        let what = format!("it was made for {}, now it is {}", self.spec.short(), digest.short());
        Err(Error::LockStale { of: spec.files(), what })
    }

    /// The wheel of a package, by its normalised name.
    pub fn wheel(&self, name: &str) -> Option<&Wheel> {
        self.wheels.iter().find(|wheel| wheel.name == name)
    }

    /// Whether a package is in it, however its name is spelled.
    pub fn has_wheel(&self, name: &str) -> bool {
        self.wheel(&normalise(name)).is_some()
    }

    /// Bytes of all wheels and debs, as far as sizes are known.
    pub fn download_size(&self) -> u64 {
        let wheels = self.wheels.iter().filter_map(|wheel| wheel.size);
        let wheels = wheels.chain(self.python.iter().filter_map(|python| python.size));
        wheels.chain(self.debs.iter().map(|deb| deb.size)).fold(0, u64::saturating_add)
    }
}
