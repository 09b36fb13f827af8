//! torch releases: what each wheel is built for, what it pins, and what to know before choosing it.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::{Capability, CudaVersion, Machine, Sm, UnknownName, table};

/// One stable release on PyPI.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// "2.15.0".
    pub version: String,
    /// The day of its upload, YYYY-MM-DD.
    pub uploaded: String,
    /// The CUDA of the PyPI wheels.
    pub cuda: CudaVersion,
    /// Builds on PyTorch's own index.
    pub variants: Vec<Variant>,
    /// Whether it is taken only where its version is asked for: it is older than what people mean by "any torch".
    #[serde(default)]
    pub asked: bool,
    /// When the row was looked up, where that was not with the others: YYYY-MM-DD.
    pub date: Option<String>,
    x86_64: Build,
    aarch64: Build,
}

impl Release {
    /// The PyPI wheel for a machine.
    pub const fn build(&self, machine: Machine) -> &Build {
        match machine {
            Machine::X86_64 => &self.x86_64,
            Machine::Aarch64 => &self.aarch64,
        }
    }

    /// The build on PyTorch's own index for a CUDA release.
    pub fn variant(&self, cuda: CudaVersion) -> Option<&Variant> {
        let name = cuda.variant();
        self.variants.iter().find(|variant| variant.name == name)
    }
}

/// A release's PyPI wheel for one machine.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// Wheel tags of the Pythons it has: "cp313".
    pub python: Vec<String>,
    /// Its platform tag.
    pub platform: String,
    /// Whether it can use a GPU at all.
    pub cuda_build: bool,
    /// What its GPU code is compiled for; empty on a CPU build.
    #[serde(default)]
    pub architectures: Vec<Sm>,
    /// The cuDNN it pins.
    pub cudnn: Option<String>,
    /// The NCCL it pins.
    pub nccl: Option<String>,
    /// The Triton it pins: a version, or a specifier like `~=3.9.0`.
    pub triton: Option<String>,
    /// Its pins, PEP 508 with markers; empty on a CPU build.
    #[serde(default)]
    pub requires: Vec<String>,
}

impl Build {
    /// Whether it holds code for a GPU of that capability.
    pub fn serves(&self, gpu: Capability) -> bool {
        self.architectures.iter().any(|sm| sm.runs_on(gpu))
    }
}

/// A release's build on PyTorch's own index (documented, not measured).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// "cu126".
    pub name: String,
    /// The cuDNN it pins.
    pub cudnn: Option<String>,
    /// The NCCL it pins.
    pub nccl: Option<String>,
    /// Architectures of the x86_64 build, where documented.
    pub x86_64: Option<Vec<Sm>>,
    /// Architectures of the aarch64 build, where documented.
    pub aarch64: Option<Vec<Sm>>,
    /// Where that is said.
    pub source: String,
}

impl Variant {
    /// Its CUDA.
    pub fn cuda(&self) -> Option<CudaVersion> {
        CudaVersion::from_variant(&self.name)
    }

    /// What its GPU code is compiled for, where documented.
    pub fn architectures(&self, machine: Machine) -> Option<&[Sm]> {
        match machine {
            Machine::X86_64 => self.x86_64.as_deref(),
            Machine::Aarch64 => self.aarch64.as_deref(),
        }
    }
}

#[derive(Deserialize)]
struct Table {
    release: Vec<Release>,
}

static ROWS: LazyLock<Vec<Release>> = LazyLock::new(|| table::read::<Table>(table::TORCH).release);

/// All releases, oldest first.
pub fn releases() -> &'static [Release] {
    &ROWS
}

/// The newest release that these facts know.
pub fn newest_release() -> &'static Release {
    &ROWS[ROWS.len() - 1]
}

/// The release of exactly that version.
///
/// # Errors
/// No row has it; the error carries the nearest one.
pub fn release(version: &str) -> Result<&'static Release, UnknownName> {
    ROWS.iter().find(|row| row.version == version).ok_or_else(|| {
        UnknownName::new("torch release", version, ROWS.iter().map(|row| row.version.as_str()))
    })
}

/// Something a person should hear when these releases are chosen.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caveat {
    /// The first release it holds for.
    pub first: String,
    /// The last one.
    pub last: String,
    /// Only with a GPU of this capability.
    pub capability: Option<Capability>,
    /// A constraint (PEP 508) that avoids it.
    pub constraint: Option<String>,
    /// What to know.
    pub text: String,
    /// How it is known.
    pub source: String,
}

/// The caveats of a release for GPUs of these capabilities.
pub fn caveats<'a>(
    version: &str,
    gpus: &'a [Capability],
) -> impl Iterator<Item = &'static Caveat> + use<'a> {
    #[derive(Deserialize)]
    struct Table {
        caveat: Vec<Caveat>,
    }
    static CAVEATS: LazyLock<Vec<Caveat>> =
        LazyLock::new(|| table::read::<Table>(table::CAVEATS).caveat);
    let index = |version: &str| ROWS.iter().position(|row| row.version == version);
    let at = index(version);
    CAVEATS.iter().filter(move |row| {
        let inside = at.is_some() && index(&row.first) <= at && at <= index(&row.last);
        inside && row.capability.is_none_or(|cc| gpus.contains(&cc))
    })
}

/// What the devel flavour adds for a CUDA major.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Devel {
    /// The CUDA major, as text.
    pub cuda: String,
    /// Whether NVIDIA's wheels for it hold the nvcc program.
    pub nvcc: bool,
    /// Extras of NVIDIA's meta package `cuda-toolkit`.
    pub extras: Vec<String>,
}

/// What the devel flavour adds for a CUDA release.
pub fn devel(cuda: CudaVersion) -> Option<&'static Devel> {
    #[derive(Deserialize)]
    struct Table {
        devel: Vec<Devel>,
    }
    static DEVEL: LazyLock<Vec<Devel>> = LazyLock::new(|| table::read::<Table>(table::DEVEL).devel);
    DEVEL.iter().find(|row| row.cuda == cuda.major.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_whole() {
        assert_eq!(newest_release().version, "2.15.0");
        for release in releases() {
            for machine in Machine::ALL {
                let build = release.build(machine);
                let what = format!("{} {machine}", release.version);
                assert!(!build.python.is_empty(), "{what}");
                assert_eq!(build.cuda_build, !build.architectures.is_empty(), "{what}");
                // Wheels for CUDA 10 hold its libraries, and pin nothing.
                let pins = build.cuda_build && release.cuda.major > 10;
                assert_eq!(pins, !build.requires.is_empty(), "{what}");
                assert_eq!(pins, build.cudnn.is_some(), "{what}");
            }
            assert!(release.variant(release.cuda).is_some(), "{}", release.version);
            assert!(release.variants.iter().all(|v| v.cuda().is_some()), "{}", release.version);
            assert!(release.cuda.floor().is_some());
            assert!(release.cuda.major < 12 || devel(release.cuda).is_some());
        }
    }

    #[test]
    fn first_and_last() {
        let first = |cc: &str, machine| {
            let cc = cc.parse().unwrap();
            releases().iter().find(|r| r.build(machine).serves(cc)).map(|r| r.version.as_str())
        };
        let last = |cc: &str| {
            let cc = cc.parse().unwrap();
            let serves = |r: &&Release| r.build(Machine::X86_64).serves(cc);
            releases().iter().rev().find(serves).map(|r| r.version.as_str())
        };
        assert_eq!(first("10.0", Machine::X86_64), Some("2.8.0"));
        assert_eq!(first("9.0", Machine::Aarch64), Some("2.11.0"));
        assert_eq!(last("7.0"), Some("2.10.0"));
        assert_eq!(last("6.1"), Some("2.7.1"));
        assert_eq!(first("10.7", Machine::X86_64), Some("2.8.0"));
        assert_eq!(last("3.5"), None);
        assert_eq!(last("3.7"), Some("2.0.1"));
    }

    #[test]
    fn caveats_by_release_and_gpu() {
        let turing = ["7.5".parse().unwrap()];
        assert_eq!(caveats("2.15.0", &turing).count(), 1);
        assert_eq!(caveats("2.15.0", &[]).count(), 0);
        assert_eq!(caveats("2.10.0", &turing).count(), 0);
        assert!(caveats("2.1.0", &[]).any(|row| row.constraint.as_deref() == Some("numpy<2")));
    }
}
