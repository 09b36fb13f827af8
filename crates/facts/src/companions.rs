//! Packages with native code for torch, and what must agree with the torch beside them.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::{CudaVersion, Machine, Release, releases, table};

/// How far a package's CUDA must be torch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Agree {
    /// Major and minor.
    Minor,
    /// The major.
    Major,
    /// One of its libraries must be for torch's CUDA: [`builds`].
    Build,
    /// Not at all: it has no modules for CUDA, or opens the libraries that it finds.
    Any,
}

/// What the local part of a version says that a wheel is built for: `cu12torch2.8cxx11abiTRUE`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Local {
    /// The CUDA, where its minor is named too.
    pub cuda: Option<CudaVersion>,
    /// The CUDA's major.
    pub cuda_major: Option<u16>,
    /// Major and minor of the torch.
    pub torch: Option<(u64, u64)>,
    /// Whether its C++ code has libstdc++'s new `std::string` (`_GLIBCXX_USE_CXX11_ABI=1`).
    pub cxx11_abi: Option<bool>,
}

#[derive(Deserialize)]
struct Table {
    companion: Vec<Companion>,
    built: Vec<Built>,
    opens: Vec<Opens>,
    per_torch: Vec<PerTorch>,
    home: Vec<Home>,
    local: Vec<Word>,
    abi: Vec<Abi>,
}

#[derive(Deserialize)]
struct Companion {
    package: String,
    agree: Agree,
    cuda: Option<u16>,
    builds: Option<String>,
    nearest_since: Option<String>,
}

/// How a package with one library for each CUDA takes the one for torch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Builds {
    names: &'static str,
    /// The first release that takes another library of the same CUDA major where there is none for torch's CUDA.
    pub nearest_since: Option<&'static str>,
}

impl Builds {
    /// The CUDA that the file at `path` is for: 13.0 of `bitsandbytes/libbitsandbytes_cuda130.so`. None for any other
    /// file, such as the variants of one build (`_cuda118_nocublaslt.so`).
    pub fn cuda(&self, path: &str) -> Option<CudaVersion> {
        let name = path.rsplit('/').next()?;
        let digits = name.strip_prefix(self.names)?.strip_suffix(".so")?;
        CudaVersion::from_variant(&format!("cu{digits}"))
    }
}

#[derive(Deserialize)]
struct Built {
    package: String,
    version: String,
    cuda: CudaVersion,
}

/// A library without which a package does nothing on a GPU, and which it opens by name.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct Opens {
    package: String,
    /// The first release that was read.
    pub since: String,
    /// The last release that was read.
    pub until: String,
    /// Its SONAME: "libcublas.so.12".
    pub library: String,
    /// The CUDA major that it is of.
    pub cuda: u16,
    /// The package on PyPI that has it.
    pub brought_by: String,
}

/// A package with one library for each release of torch, which it opens by name.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct PerTorch {
    package: String,
    /// Its first release that can't be imported without one.
    since: String,
    /// How their names begin; the release of torch follows.
    pub libraries: String,
}

impl PerTorch {
    /// The torch that the file at `path` is for: 2.4.0 of `dgl/graphbolt/libgraphbolt_pytorch_2.4.0.so`.
    pub fn torch<'a>(&self, path: &'a str) -> Option<&'a str> {
        let name = path.rsplit('/').next()?;
        name.strip_prefix(self.libraries.as_str())?.strip_suffix(".so")
    }
}

/// A library of torch's, and names that are in it wherever they are in torch.
#[derive(Deserialize)]
struct Home {
    library: String,
    starts: Vec<String>,
}

#[derive(Deserialize)]
struct Word {
    word: String,
    says: Says,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Says {
    Cuda,
    Torch,
    Abi,
}

#[derive(Deserialize)]
struct Abi {
    cxx11_from: String,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| table::read(table::COMPANIONS));

fn row(package: &str) -> Option<&'static Companion> {
    TABLE.companion.iter().find(|row| row.package == package)
}

/// How far the CUDA of a package must be torch's; `None` for a package that the facts do not have.
pub fn companion(package: &str) -> Option<Agree> {
    row(package).map(|row| row.agree)
}

/// The CUDA major that every release of a package is built for, where its name says so.
pub fn companion_major(package: &str) -> Option<u16> {
    row(package).and_then(|row| row.cuda)
}

/// How a package with one library for each CUDA names them; `None` for any other package.
pub fn builds(package: &str) -> Option<Builds> {
    let row = row(package).filter(|row| row.agree == Agree::Build)?;
    let names = row.builds.as_deref()?;
    Some(Builds { names, nearest_since: row.nearest_since.as_deref() })
}

/// The CUDA that a release on PyPI is built for, where the facts have it.
pub fn built_for(package: &str, version: &str) -> Option<CudaVersion> {
    let is = |row: &&Built| row.package == package && row.version == version;
    TABLE.built.iter().find(is).map(|row| row.cuda)
}

/// The libraries that releases of a package open by name.
pub fn opens(package: &str) -> impl Iterator<Item = &'static Opens> {
    TABLE.opens.iter().filter(move |row| row.package == package)
}

/// How a release of a package names its libraries for each torch, where it has such.
pub fn per_torch(package: &str, version: &str) -> Option<&'static PerTorch> {
    let numbers = |text: &str| -> Option<Vec<u64>> {
        text.split('+').next()?.split('.').map(|part| part.parse().ok()).collect()
    };
    let holds = |row: &&PerTorch| {
        row.package == package
            && numbers(version).zip(numbers(&row.since)).is_some_and(|(own, since)| own >= since)
    };
    TABLE.per_torch.iter().find(holds)
}

/// The libraries of torch whose names are known to be in them alone.
pub fn torch_homes() -> impl Iterator<Item = &'static str> {
    TABLE.home.iter().map(|row| row.library.as_str())
}

/// The library of torch that has a name of C++, wherever torch has it.
pub fn torch_home(name: &str) -> Option<&'static str> {
    let is = |row: &&Home| row.starts.iter().any(|start| name.starts_with(start.as_str()));
    TABLE.home.iter().find(is).map(|row| row.library.as_str())
}

/// The newest torch on PyPI that has what a release of a package is built for, where that is known: by its row, or
/// by the local part of its version.
pub fn torch_for(package: &str, version: &str, machine: Machine) -> Option<&'static Release> {
    let said = version.split_once('+').map(|(_, local)| Local::parse(local)).unwrap_or_default();
    let built = built_for(package, version).or(said.cuda);
    let major = built.map(|cuda| cuda.major).or(companion_major(package)).or(said.cuda_major);
    let exact = built.filter(|_| companion(package) == Some(Agree::Minor));
    let open = matches!(companion(package), Some(Agree::Any | Agree::Build));
    if open || (major.is_none() && said.torch.is_none()) {
        return None;
    }
    let fits = |release: &&Release| {
        let of = || {
            let mut parts = release.version.split('.').map(|part| part.parse::<u64>().ok());
            Some((parts.next()??, parts.next()??))
        };
        release.build(machine).cuda_build
            && exact.is_none_or(|cuda| release.cuda == cuda)
            && major.is_none_or(|major| release.cuda.major == major)
            && said.torch.is_none_or(|torch| of() == Some(torch))
    };
    releases().iter().rev().find(fits)
}

/// The torch release, "2.7.0", from which on PyPI's x86_64 wheels are built with `_GLIBCXX_USE_CXX11_ABI=1`.
pub fn cxx11_abi_from() -> Option<&'static str> {
    TABLE.abi.first().map(|row| row.cxx11_from.as_str())
}

impl Local {
    /// Reads the local part of a version, without its `+`. What it does not say clearly it says not at all:
    /// `torch210` may be 2.1.0 or 2.10.
    pub fn parse(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        let mut local = Self::default();
        for row in &TABLE.local {
            let Some(rest) = behind(&text, &row.word) else { continue };
            match row.says {
                Says::Cuda => {
                    let digits = digits(rest);
                    local.cuda_major = digits.get(..2).and_then(|major| major.parse().ok());
                    local.cuda = (digits.len() == 3)
                        .then(|| CudaVersion::from_variant(&format!("cu{digits}")))
                        .flatten();
                }
                Says::Torch => local.torch = torch(rest),
                Says::Abi if rest.starts_with("true") => local.cxx11_abi = Some(true),
                Says::Abi if rest.starts_with("false") => local.cxx11_abi = Some(false),
                Says::Abi => {}
            }
        }
        local
    }
}

/// What stands behind a word that is not a part of a longer one.
fn behind<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let mut found = text.match_indices(word).filter(|(at, _)| {
        let before = text.get(..*at).unwrap_or_default();
        // `abitrue` and the like end a part just as a digit does.
        !before.ends_with(|c: char| c.is_ascii_lowercase())
            || before.ends_with("true")
            || before.ends_with("false")
    });
    found.next().and_then(|(at, _)| text.get(at + word.len()..))
}

fn digits(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

/// Major and minor of a torch: `2.8`, `28`, `280`, `2100`.
fn torch(text: &str) -> Option<(u64, u64)> {
    let first = digits(text);
    let number = |text: &str| text.parse::<u64>().ok();
    if let Some(rest) = text.get(first.len()..).and_then(|rest| rest.strip_prefix('.')) {
        return Some((number(first)?, number(digits(rest))?));
    }
    let (major, minor) = (first.get(..1)?, first.get(1..)?);
    match minor.len() {
        1 => Some((number(major)?, number(minor)?)),
        2 if !minor.starts_with('1') => Some((number(major)?, number(minor.get(..1)?)?)),
        3 => Some((number(major)?, number(minor.get(..2)?)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_reached() {
        assert_eq!(companion("torchaudio"), Some(Agree::Minor));
        assert_eq!(companion("bitsandbytes"), Some(Agree::Build));
        assert_eq!(companion("torchao"), Some(Agree::Any));
        for row in &TABLE.companion {
            let (named, chosen) = (row.builds.is_some(), row.agree == Agree::Build);
            assert_eq!(named, chosen, "{}", row.package);
            assert!(chosen || row.nearest_since.is_none(), "{}", row.package);
        }
        assert_eq!(companion("flash-attn"), Some(Agree::Major));
        assert_eq!(companion("jax-cuda13-plugin"), Some(Agree::Any));
        assert_eq!(companion("numpy"), None);
        assert_eq!(companion_major("transformer-engine-cu12"), Some(12));
        assert_eq!(companion_major("torchaudio"), None);
        assert_eq!(built_for("torchaudio", "2.11.0"), "13.0".parse().ok());
        assert_eq!(built_for("torchaudio", "2.12.0"), None);
        for row in &TABLE.built {
            assert!(companion(&row.package).is_some(), "{} {}", row.package, row.version);
        }
        assert_eq!(cxx11_abi_from(), Some("2.7.0"));
        assert_eq!(TABLE.abi.len(), 1);
    }

    #[test]
    fn what_is_opened_by_name() {
        let of = |package| opens(package).map(|row| row.library.as_str()).collect::<Vec<_>>();
        assert_eq!(of("ctranslate2"), ["libcublas.so.12", "libcublas.so.11"]);
        for row in &TABLE.opens {
            assert!(row.library.ends_with(&format!(".so.{}", row.cuda)), "{row:?}");
            assert!(companion(&row.package).is_none(), "{row:?}");
        }
        assert_eq!(of("cupy-cuda12x"), [""; 0]);
    }

    #[test]
    fn one_library_for_each_cuda() {
        let builds = builds("bitsandbytes").unwrap();
        assert_eq!(builds.nearest_since, Some("0.50.0"));
        let cuda = |path: &str| builds.cuda(path).map(|cuda| cuda.to_string());
        assert_eq!(cuda("bitsandbytes/libbitsandbytes_cuda130.so").as_deref(), Some("13.0"));
        assert_eq!(cuda("libbitsandbytes_cuda118.so").as_deref(), Some("11.8"));
        for other in
            ["cuda118_nocublaslt.so", "cpu.so", "rocm72.so", "cuda.so", "cuda1.so", "cudaü.so"]
        {
            assert_eq!(cuda(&format!("bitsandbytes/libbitsandbytes_{other}")), None, "{other}");
        }
        assert_eq!(super::builds("torchaudio"), None);
    }

    #[test]
    fn the_torch_that_fits() {
        let torch = |package, version| {
            torch_for(package, version, Machine::X86_64).map(|release| release.version.as_str())
        };
        assert_eq!(torch("torchaudio", "2.11.0"), Some("2.14.1"));
        assert_eq!(torch("flash-attn", "2.8.3+cu12torch2.8cxx11abitrue"), Some("2.8.0"));
        assert_eq!(torch("transformer-engine-cu12", "2.20.2"), Some("2.10.0"));
        assert_eq!(torch("torchaudio", "2.99.0"), None);
        assert_eq!(torch("bitsandbytes", "0.50.2"), None);
    }

    #[test]
    fn local_versions() {
        let cuda = |text: &str| text.parse::<CudaVersion>().ok();
        let all = |local: Local| (local.cuda, local.cuda_major, local.torch, local.cxx11_abi);
        for (text, expected) in [
            ("cu12torch2.8cxx11abiTRUE", (None, Some(12), Some((2, 8)), Some(true))),
            ("cu12torch2.10cxx11abifalse", (None, Some(12), Some((2, 10)), Some(false))),
            ("cu126", (cuda("12.6"), Some(12), None, None)),
            ("torch260cu126", (cuda("12.6"), Some(12), Some((2, 6)), None)),
            ("pt26cu124", (cuda("12.4"), Some(12), Some((2, 6)), None)),
            ("cu124torch2.6", (cuda("12.4"), Some(12), Some((2, 6)), None)),
            ("torch2100cu130", (cuda("13.0"), Some(13), Some((2, 10)), None)),
            // 2.1.0, or 2.10.
            ("pt210", (None, None, None, None)),
            ("cpu", (None, None, None, None)),
            ("occu12", (None, None, None, None)),
            ("torch", (None, None, None, None)),
            ("cu", (None, None, None, None)),
            (
                "cu9999999999999999999999torch999999999999999999999999.1",
                (None, Some(99), None, None),
            ),
            ("", (None, None, None, None)),
            ("ü.cu12", (None, Some(12), None, None)),
        ] {
            assert_eq!(all(Local::parse(text)), expected, "{text}");
        }
    }
}
