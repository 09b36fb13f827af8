//! The shapes of the rows of `data/names.toml`.

use sconce_facts::{Capability, CudaVersion};
use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct Table {
    pub(super) ptx: Ptx,
    pub(super) plugin: Vec<Plugin>,
    pub(super) component: Vec<Component>,
    pub(super) driver: Names,
    pub(super) system: Names,
    pub(super) optional: Names,
    pub(super) single: Names,
    pub(super) core: Names,
    pub(super) opened: Opened,
    pub(super) alternative: Vec<Alternative>,
    pub(super) cuda_version: Names,
    pub(super) other_gpus: Names,
    pub(super) per_gpu: Names,
    pub(super) from: Vec<FromCapability>,
    pub(super) cuda: Vec<Cuda>,
    pub(super) preload: Vec<Preload>,
    pub(super) loads: Vec<Loads>,
    pub(super) same: Vec<Same>,
    pub(super) after: Vec<After>,
    pub(super) symbols: Vec<Symbols>,
    pub(super) python: Python,
    pub(super) torch: Names,
    pub(super) package: Vec<Package>,
    pub(super) files: Vec<Files>,
    pub(super) compiler: Vec<Compiler>,
    pub(super) checked: Vec<Checked>,
    pub(super) together: Vec<Together>,
    pub(super) one_release: Vec<OneRelease>,
    pub(super) clash: Vec<Clash>,
    pub(super) local: Vec<Local>,
    pub(super) first_use: Vec<FirstUse>,
    pub(super) numpy: Numpy,
    pub(super) tests: Tests,
    pub(super) import: Vec<Import>,
    pub(super) libraries_only: Names,
    pub(super) recorded: Recorded,
}

#[derive(Deserialize)]
pub(super) struct Python {
    pub(super) names: Vec<String>,
    /// What each program has that brings them.
    pub(super) has: String,
}

#[derive(Deserialize)]
pub(super) struct Opened {
    pub(super) names: Vec<String>,
    pub(super) spare: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Cuda {
    pub(super) major: u16,
    pub(super) names: Vec<String>,
}

/// A library that is opened when another is there for all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    /// How its file is called; `*` at the end stands for any ending.
    pub(super) library: String,
    /// The SONAME of the other.
    pub(super) opened: String,
    #[serde(rename = "source")]
    _source: String,
}

/// What a package only tests itself with.
#[derive(Deserialize)]
pub(super) struct Tests {
    /// Folders.
    pub(super) names: Vec<String>,
    /// Programs.
    pub(super) programs: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Symbols {
    pub(super) library: String,
    pub(super) starts: Vec<String>,
    /// Beginnings of names that it does not bring.
    #[serde(default)]
    pub(super) but: Vec<String>,
}

/// Builds of one library of which a program takes one.
#[derive(Debug, Deserialize)]
pub struct Alternative {
    /// Their file names; `*` at the end stands for any ending.
    pub names: String,
    /// Whether only those are meant whose name ends in a number.
    #[serde(default)]
    pub numbered: bool,
    /// How the program chooses.
    pub by: Choice,
    /// The first release that, where none is for torch's CUDA, takes another of its major.
    pub nearest_since: Option<String>,
    /// The packages that bring it.
    #[serde(default)]
    pub package: Vec<String>,
    /// Whether the program does its other work when none can be loaded.
    #[serde(default)]
    pub spare: bool,
}

/// How a program chooses among the builds of a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The one whose name ends in torch's CUDA, `124` for 12.4.
    Cuda,
    /// The first that can be loaded.
    Load,
}

/// The package that brings a library.
#[derive(Debug, Deserialize)]
pub struct Package {
    pub(super) libraries: Vec<String>,
    pub(super) name: String,
    pub(super) cuda_13: Option<String>,
    #[serde(default)]
    pub(super) debian: bool,
}

/// What a package takes when it is imported.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// The Python package.
    pub package: String,
    /// Its own files, where they lie below site-packages.
    pub files: Vec<String>,
    /// Other packages.
    pub requires: Vec<String>,
    #[serde(rename = "source")]
    _source: String,
}

/// Files of packages that nothing loads, by their names.
#[derive(Debug, Deserialize)]
pub(super) struct Recorded {
    /// Endings and beginnings of names of files that nobody needs at run time.
    pub(super) spare: Vec<String>,
    pub(super) spare_starts: Vec<String>,
    /// Endings of what only a compiler reads.
    pub(super) compiled: Vec<String>,
}

/// Files of a package of which one must be there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// The Python packages: one, or several that need the same.
    pub(super) package: OneOrMore,
    /// The first release that needs them; none where all do.
    pub since: Option<String>,
    /// Where they lie below site-packages, or below the root with a `/` before.
    pub one_of: Vec<String>,
    /// Whether they are programs, which are run.
    #[serde(default)]
    pub program: bool,
    /// Whether only a package whose RECORD lists it has it.
    #[serde(default)]
    pub if_listed: bool,
    /// Whether nothing of the package works on a GPU without.
    #[serde(default)]
    pub stops: bool,
    /// What is seen when none is there.
    pub fails: String,
    /// How to get them, where another package brings them.
    pub fix: Option<String>,
    #[serde(rename = "source")]
    _source: String,
}

impl Files {
    /// Whether the package of this name needs them.
    pub fn is_of(&self, package: &str) -> bool {
        self.package.has(package)
    }
}

/// A name, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::More(more) => more.iter().any(|one| one == name),
        }
    }
}

/// A compiler for GPUs that a package has inside.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compiler {
    /// The Python package.
    pub package: String,
    /// Its first release with this compiler; it holds until the next row of the package.
    pub since: String,
    /// The compiler's name.
    pub program: String,
    /// The CUDA that it is of; none where the package's own version says it.
    pub cuda: Option<CudaVersion>,
    /// The packages that compile with it, where the package itself does not: nothing of theirs works on a GPU that it
    /// does not know.
    #[serde(default)]
    pub of: Vec<String>,
    /// What is seen on a GPU that it does not know.
    pub fails: String,
    #[serde(rename = "source")]
    _source: String,
}

/// A package whose release torch checks when it runs: one of an older minor release than it was built with is refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checked {
    pub(super) package: Vec<String>,
    /// Whether it fails with a newer one as well.
    #[serde(default)]
    pub newer: bool,
    /// What is seen.
    pub fails: String,
    #[serde(rename = "source")]
    _source: String,
}

/// Packages that must be of one release.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Together {
    /// All of them; those that are not installed do not count.
    pub packages: Vec<String>,
    /// The first release of the first of them that is refused so; none where all are.
    pub since: Option<String>,
    /// The one that looks at the others.
    pub with: String,
    /// Whether the GPU is not used then.
    #[serde(default)]
    pub stops: bool,
    /// What is seen.
    pub fails: String,
    #[serde(rename = "source")]
    _source: String,
}

/// Two libraries that must be of one release, and of which one needs the other by its SONAME alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneRelease {
    /// The one that needs the other; `*` at the end stands for any ending.
    pub library: String,
    /// The one that is needed.
    pub with: String,
    /// The Python packages that bring both.
    pub packages: Vec<String>,
    /// What is seen.
    pub fails: String,
    #[serde(rename = "source")]
    _source: String,
}

/// Packages that install the same files.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clash {
    /// All of them.
    pub packages: Vec<String>,
    /// What is seen when the wrong ones are there.
    pub fails: String,
    #[serde(rename = "source")]
    _source: String,
}

/// How the local part of a version names the torch that a package was built for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Local {
    /// What stands before the digits.
    pub mark: String,
    /// Whether the last digit is torch's third number.
    pub patch: bool,
    #[serde(rename = "source")]
    _source: String,
}

/// A package that compiles its code for the GPU at first use.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstUse {
    /// The Python package.
    pub package: String,
    /// Its folder below site-packages in which compiled modules lie, where they were built before.
    pub folder: String,
    /// The programs that it needs.
    pub needs: Vec<String>,
    /// Packages that bring what it would compile.
    #[serde(default)]
    pub unless: Vec<String>,
    /// What is seen.
    pub fails: String,
    #[serde(rename = "source")]
    _source: String,
}

#[derive(Deserialize)]
pub(super) struct Numpy {
    pub(super) also: Vec<String>,
    pub(super) apis: Vec<(u16, String)>,
}

/// Libraries that `import torch` loads by full path.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preload {
    /// The first release of torch that does.
    pub since: String,
    /// The last; none where the newest does.
    pub until: Option<String>,
    /// What makes it do so.
    pub when: Vec<When>,
    /// Where they lie below a folder of sys.path.
    pub places: Vec<String>,
    /// `FOLDER/START`, in the order of loading.
    pub libraries: Vec<String>,
    /// The same, of torch built for CUDA 12 and later.
    #[serde(default)]
    pub from_cuda_12: Vec<String>,
    /// The same, loaded where they are there.
    #[serde(default)]
    pub spare: Vec<String>,
    /// Whether, but after a failure, one that is not there is passed over.
    #[serde(default)]
    pub goes_on: bool,
    #[serde(rename = "source")]
    _source: String,
}

/// Libraries that a package loads by their full paths from other packages.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loads {
    /// Folders of sys.path whose modules find them.
    pub folders: Vec<String>,
    /// From which release on; all where it is not said.
    pub since: Option<Since>,
    /// The package that finds them.
    pub with: Option<String>,
    /// Folders of sys.path where they are looked for; `*` stands for one folder.
    pub places: Vec<String>,
    /// How their names start.
    pub libraries: Vec<String>,
    /// Whether all of them are loaded before the package's own modules: then they answer to their names.
    #[serde(default)]
    pub first: bool,
    /// Those that the package does without.
    #[serde(default)]
    pub spare: Vec<String>,
    #[serde(rename = "source")]
    _source: String,
}

/// Packages that bring the same modules.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Same {
    /// Their normalised names.
    pub names: Vec<String>,
    #[serde(rename = "source")]
    _source: String,
}

/// The first release of a package.
#[derive(Debug, Deserialize)]
pub struct Since {
    /// How its name starts.
    pub package: String,
    /// The release.
    pub release: String,
}

/// What makes torch load libraries by full path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// libtorch_global_deps.so lacks one of them.
    Failed,
    /// The CUDA runtime is loaded from its wheel of CUDA 12 or older.
    CudartOfWheel,
    /// The CUDA runtime is loaded.
    Cudart,
}

#[derive(Deserialize)]
pub(super) struct Ptx {
    pub(super) rows: Vec<(String, CudaVersion)>,
}

#[derive(Deserialize)]
pub(super) struct Names {
    pub(super) names: Vec<String>,
}

/// Libraries that are for GPUs from one capability on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FromCapability {
    pub(super) names: Vec<String>,
    pub(super) capability: Capability,
    #[serde(rename = "source")]
    pub(super) _source: String,
}

/// Libraries that a library opens by name.
#[derive(Debug, Deserialize)]
pub struct Plugin {
    /// The SONAMEs of those that open them, of which each release has one or more; `*` at the end stands for any ending.
    pub of: Vec<String>,
    /// Their names; `*` at the end stands for any ending.
    pub names: Vec<String>,
    /// What is seen when one is not there.
    pub fails: String,
    /// A library without which nothing is opened.
    pub if_there: Option<String>,
    /// Whether only a build with GPU code opens them.
    #[serde(default)]
    pub of_gpu_builds: bool,
    /// Whether the rest runs without: they are opened for some work only.
    #[serde(default)]
    pub part: bool,
    /// How to get them, where it is not by their names.
    pub fix: Option<String>,
}

/// Something a report names first.
#[derive(Debug, Deserialize)]
pub struct Component {
    /// Its name for people.
    pub name: String,
    /// Packages that bring it, the likeliest first; `*` at the end stands for any ending.
    pub(super) packages: Vec<String>,
    /// How the file name of its library starts.
    pub library: Option<String>,
}
