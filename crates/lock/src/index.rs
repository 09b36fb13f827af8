//! What a resolution asks of the world, and what comes back.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sconce_facts::{Base, CudaVersion, Machine};
use serde::{Deserialize, Serialize};

use crate::document::{DebPin, PythonPin, Wheel};
use crate::source::{Built, FolderRequest, Offer, Order, Outcome, Sdist, SourceRequest};
use crate::spec::{Flavour, IndexRequest};

/// A question to the Python resolver.
#[derive(Debug, Clone)]
pub struct PythonRequest {
    /// PEP 508 requirements.
    pub requirements: Vec<String>,
    /// Projects with more of them. A requirements.txt is handed over line by line.
    pub files: Vec<ProjectText>,
    /// Options of a requirements.txt, as it writes them: `--extra-index-url …`, `--find-links …`.
    pub options: Vec<String>,
    /// Extras of those files.
    pub extras: Vec<String>,
    /// Dependency groups (PEP 735), each with the number of its file among those.
    pub groups: Vec<(usize, String)>,
    /// PEP 508 constraints.
    pub constraints: Vec<String>,
    /// PEP 508 requirements that stand in for whatever others ask of their packages.
    pub overrides: Vec<String>,
    /// Packages and the versions to keep where they still fit: those of the lock that is there.
    pub preferences: Vec<(String, String)>,
    /// The Debian release and the Python on it: they decide version and glibc.
    pub base: &'static Base,
    /// The processor.
    pub machine: Machine,
    /// Indexes besides the default one, in the order they are asked.
    pub indexes: Vec<IndexRequest>,
    /// What the user's files of requirements name besides: a name for the lock, and the address of the
    /// index or the folder as uv gets it.
    pub elsewhere: Vec<(String, String)>,
    /// Releases that are there as source, offered as if they were wheels: [`crate::placeholder`].
    pub offers: Vec<Offer>,
    /// Wheels that were built; each is the only release of its package.
    pub built: Vec<Built>,
    /// PyTorch's own index for a CUDA release: "cu126", or "cpu".
    pub torch_backend: Option<String>,
}

/// A pyproject.toml that was read and judged: the resolver gets this text, whatever the file is by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectText {
    /// Where it was, for messages.
    pub path: PathBuf,
    /// Its text, with absolute paths.
    pub text: String,
}

/// The resolver's answer.
#[derive(Debug, Clone, Default)]
pub struct PythonAnswer {
    /// A pylock.toml (PEP 751); paths of files in it are absolute.
    pub pylock: String,
    /// Package name (normalised) -> index name, for packages that are not from the default index.
    pub indexes: BTreeMap<String, String>,
    /// Index name -> its address without credentials, for every name in `indexes`.
    pub addresses: BTreeMap<String, String>,
    /// The project's folder, absolute, links followed: paths in it are locked as seen from there.
    pub folder: Option<PathBuf>,
}

/// A file that an index has of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFile {
    /// Its name.
    pub name: String,
    /// When it came, as the index says it: `2024-05-01T…`.
    pub uploaded: Option<String>,
    /// The Pythons it is for, PEP 440.
    pub requires_python: Option<String>,
    /// Whether it was taken back (PEP 592).
    pub yanked: bool,
}

/// What a wheel's own bytes say about the CUDA that its code for torch is built for; empty where it has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Native {
    /// The release that its version.py names.
    pub cuda: Option<CudaVersion>,
    /// The major whose libraries its modules need.
    pub major: Option<u16>,
    /// Where that shows: "torchaudio/lib/_torchaudio.abi3.so needs libcudart.so.13".
    pub why: Option<String>,
}

/// What a wheel has of NVIDIA's libraries, and which of them its code asks for besides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Libraries {
    /// The file names of those in it: "libcublas.so.12".
    pub has: Vec<String>,
    /// Those that its modules need.
    pub needs: Vec<Need>,
    /// Those that its modules open by name when they run.
    pub opens: Vec<Need>,
    /// Those that libraries of NVIDIA's in it open by name, and that it does not have.
    #[serde(default)]
    pub parts: Vec<Need>,
    /// Its extras that ask for packages of NVIDIA's.
    pub extras: Vec<String>,
    /// What was not read, and why: "what x/lib.so opens by name: it has 300 MB".
    pub unread: Option<String>,
}

/// A library that a module asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// Its name: "libcublas.so.12".
    pub library: String,
    /// The CUDA major that it is of, where its name tells.
    pub cuda: Option<u16>,
    /// The package on PyPI that has it, where that is known; and that for CUDA 13, where it is another.
    pub package: Option<String>,
    /// See there.
    pub package_13: Option<String>,
    /// The module.
    pub of: String,
    /// Whether that module is a part which the package does without: it is loaded when it is used.
    #[serde(default)]
    pub part: bool,
}

impl Need {
    /// The package that has it for a CUDA major.
    pub fn brought_by(&self, major: Option<u16>) -> Option<&str> {
        let of_13 = self.package_13.as_deref().filter(|_| major == Some(13));
        of_13.or(self.package.as_deref())
    }
}

/// Names that a module takes from torch's libraries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenNames {
    /// The module.
    pub of: String,
    /// The names, as they stand in its table.
    pub names: Vec<String>,
}

/// What a wheel of torch offers of the names that can be asked for before it is downloaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TorchNames {
    /// Its libraries that were read: "libc10.so".
    pub libraries: Vec<String>,
    /// Whether the headers of its stable C API were.
    pub headers: bool,
    /// The hashes of all names, as in a GNU hash table, sorted.
    pub hashes: Vec<u32>,
}

impl TorchNames {
    /// Whether it has a name, or it is not known.
    pub fn may_have(&self, name: &str) -> bool {
        let read = match sconce_facts::torch_home(name) {
            Some(home) => self.libraries.iter().any(|library| library == home),
            None => self.headers,
        };
        let hash = |hash: u32, byte: u8| hash.wrapping_mul(33).wrapping_add(u32::from(byte));
        !read || self.hashes.binary_search(&name.bytes().fold(5381, hash)).is_ok()
    }
}

/// A module that protoc has generated, and the releases of protobuf that it can be imported with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generated {
    /// The module.
    pub of: String,
    /// The oldest release, where it says so.
    pub least: Option<[u64; 3]>,
    /// The first major release that refuses it, but for one without native code.
    pub below: Option<u64>,
}

/// The NumPy that a wheel's modules are built for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumpyApi {
    /// The newest major release whose C API they know.
    pub major: u16,
    /// A module that shows it.
    pub of: String,
}

/// A uv.lock to be read.
#[derive(Debug, Clone, Copy)]
pub struct UvLockRequest<'a> {
    /// Its text.
    pub lock: &'a str,
    /// The text of the pyproject.toml beside it.
    pub pyproject: &'a str,
    /// Extras of the project.
    pub extras: &'a [String],
    /// Dependency groups of it.
    pub groups: &'a [String],
}

/// Wheels whose files are to be compared.
#[derive(Debug, Clone, Copy)]
pub struct OverlapQuestion<'a> {
    /// The wheels of a set.
    pub wheels: &'a [Wheel],
    /// The Python they are for: "3.13".
    pub python: &'a str,
    /// Packages whose files win.
    pub prefer: &'a [String],
}

/// Where wheels of a set do not agree.
#[derive(Debug, Clone, Default)]
pub struct Overlaps {
    /// One for each two wheels.
    pub found: Vec<Overlap>,
    /// File names of wheels that could not be asked, with the reason.
    pub unread: Vec<(String, String)>,
    /// What the METADATA of each package that could be asked requires, as it writes it.
    pub requires: BTreeMap<String, Vec<String>>,
    /// Wheels that are of another release than their names say.
    pub misnamed: Vec<Misnamed>,
}

/// A wheel that is of another release than its name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misnamed {
    /// Its file.
    pub file: String,
    /// Where it lies, if that is on this machine.
    pub path: Option<PathBuf>,
    /// What its METADATA says: "zqpkg 2.0".
    pub says: String,
}

/// Two wheels with different files at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// The two packages, by name.
    pub packages: [String; 2],
    /// One of the paths: "cv2/cv2.abi3.so".
    pub path: String,
    /// How many more there are.
    pub more: usize,
}

/// A question to the Debian archive.
#[derive(Debug, Clone)]
pub struct DebianRequest {
    /// The release; and whether its own Python is wanted.
    pub base: &'static Base,
    /// The processor.
    pub machine: Machine,
    /// What the image is for: decides the set besides Python.
    pub flavour: Flavour,
    /// Whether there is torch, which compiles; without it no compiler is needed to run.
    pub torch: bool,
    /// More packages by name, as the user wrote them.
    pub packages: Vec<String>,
    /// The mirror the user named, if any.
    pub mirror: Option<String>,
    /// Suites of fixes that a mirror may lack.
    pub allow_missing: Vec<String>,
}

/// The archive's answer: packages to unpack, in any order.
#[derive(Debug, Clone, Default)]
pub struct DebianAnswer {
    /// The packages.
    pub debs: Vec<DebPin>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The index was asked, and what is wanted can't be had together.
    #[error("{words}")]
    NoSolution {
        /// The resolver's words.
        words: String,
    },
    /// The resolver takes exception to what it was given: a file that is not there, a wheel that is none.
    #[error("{words}")]
    Refused {
        /// Its words.
        words: String,
    },
    /// It could not be asked: no network, no uv, bad signature.
    #[error(transparent)]
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl IndexError {
    /// Wraps the error of whoever could not ask.
    pub fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }
}

/// The world as a resolution sees it. Implemented over uv and apt's archives; in tests over files.
pub trait Index {
    /// Resolves Python requirements for a target, wheels only.
    ///
    /// # Errors
    /// No solution, or the index could not be asked.
    fn python(&mut self, request: &PythonRequest) -> Result<PythonAnswer, IndexError>;

    /// All files that the default index has of these packages; a package that it hasn't is left out.
    ///
    /// # Errors
    /// The index could not be asked.
    fn releases(
        &mut self,
        packages: &[String],
    ) -> Result<BTreeMap<String, Vec<ListedFile>>, IndexError>;

    /// Fetches a source distribution and reads what it says of its build, without running its code.
    ///
    /// # Errors
    /// It can't be had or read.
    fn source(&mut self, request: &SourceRequest<'_>) -> Result<Sdist, IndexError> {
        Err(IndexError::failed(format!("{}: nothing is built here", request.file)))
    }

    /// Packs the project's own folder as a source distribution and reads what is in it, without running it.
    ///
    /// # Errors
    /// It can't be read.
    fn folder(&mut self, request: &FolderRequest<'_>) -> Result<Sdist, IndexError> {
        Err(IndexError::failed(format!("{}: nothing is built here", request.name)))
    }

    /// Builds a wheel, or finds the one that was built of the same things before.
    ///
    /// # Errors
    /// It can't be built.
    fn build(&mut self, order: &Order<'_>) -> Result<Outcome, IndexError> {
        Err(IndexError::failed(format!("{}: nothing is built here", order.source.file)))
    }

    /// Where a wheel that was built before lies, if it is still there.
    fn built(&mut self, wheel: &Wheel) -> Option<PathBuf> {
        let _ = wheel;
        None
    }

    /// What wheels of an answer are built for, in their order; with each whether it is known to be for torch.
    /// One that could not be asked has the reason instead.
    fn native(&mut self, wheels: &[(Wheel, bool)]) -> Vec<Result<Native, String>>;

    /// The files in a wheel of an answer, asked of the wheel before it is downloaded; else why they are not known.
    fn files(&mut self, wheel: &Wheel) -> Result<Vec<String>, String> {
        Err(format!("nothing is read of {} here", wheel.file))
    }

    /// What wheels of an answer have of NVIDIA's libraries, in their order, and with `code` which they ask for; else why
    /// that is not known.
    fn libraries(&mut self, wheels: &[Wheel], code: bool) -> Vec<Result<Libraries, String>> {
        let _ = code;
        wheels.iter().map(|wheel| Err(format!("nothing is read of {} here", wheel.file))).collect()
    }

    /// The names that modules of wheels take from torch's libraries, in their order, as far as they can be asked for; with
    /// each whether it is known to be for torch.
    fn taken_names(&mut self, wheels: &[(Wheel, bool)]) -> Vec<Result<Vec<TakenNames>, String>> {
        wheels.iter().map(|_| Ok(Vec::new())).collect()
    }

    /// What a wheel of torch offers of such names.
    ///
    /// # Errors
    /// It could not be asked.
    fn torch_names(&mut self, torch: &Wheel) -> Result<TorchNames, String> {
        Err(format!("nothing is read of {} here", torch.file))
    }

    /// The NumPy that the modules of wheels are built for, in their order: nothing where they use none, or where
    /// METADATA says which they can be used with.
    fn numpy(&mut self, wheels: &[Wheel]) -> Vec<Result<Option<NumpyApi>, String>> {
        wheels.iter().map(|_| Ok(None)).collect()
    }

    /// The modules of wheels that protoc has generated, in their order, as far as they are looked at.
    fn generated(&mut self, wheels: &[Wheel]) -> Vec<Result<Vec<Generated>, String>> {
        wheels.iter().map(|_| Ok(Vec::new())).collect()
    }

    /// What METADATA of wheels requires, line by line, in their order; else why that is not known.
    fn requires(&mut self, wheels: &[Wheel]) -> Vec<Result<Vec<String>, String>> {
        wheels.iter().map(|wheel| Err(format!("nothing is read of {} here", wheel.file))).collect()
    }

    /// The extras that METADATA of wheels declares, in their order; else why that is not known.
    fn extras(&mut self, wheels: &[Wheel]) -> Vec<Result<Vec<String>, String>> {
        wheels.iter().map(|wheel| Err(format!("nothing is read of {} here", wheel.file))).collect()
    }

    /// Told what is looked for from now on, for people who wait: "an older torch that cupy fits".
    fn looking_for(&mut self, what: &str) {
        let _ = what;
    }

    /// A project's uv.lock as a pylock.toml (PEP 751). Nothing is resolved or built.
    ///
    /// # Errors
    /// uv can't be run, or can't read the lock.
    fn uv_lock(&mut self, request: &UvLockRequest<'_>) -> Result<String, IndexError> {
        let _ = request;
        Err(IndexError::NoSolution { words: "a uv.lock is read by uv".into() })
    }

    /// Which of these wheels install different files at one path, asked of the wheels before they are
    /// downloaded. Those that could not be asked are left to the build.
    fn overlaps(&mut self, question: &OverlapQuestion<'_>) -> Overlaps {
        let _ = question;
        Overlaps::default()
    }

    /// The standalone build that is the Python of a base which has one, for a processor.
    ///
    /// # Errors
    /// No list has it, or the list could not be read.
    fn standalone(
        &mut self,
        base: &'static Base,
        machine: Machine,
    ) -> Result<PythonPin, IndexError> {
        PythonPin::known(base, machine).ok_or_else(|| IndexError::NoSolution {
            words: format!("there is no standalone build of Python {}", base.python),
        })
    }

    /// Told before all questions what the Debian archive will most likely be asked, so that it can be begun with.
    fn prefetch_debian(&mut self, request: &DebianRequest) {
        let _ = request;
    }

    /// Resolves the Debian packages of an image.
    ///
    /// # Errors
    /// No solution, or the archive could not be asked.
    fn debian(&mut self, request: &DebianRequest) -> Result<DebianAnswer, IndexError>;
}
