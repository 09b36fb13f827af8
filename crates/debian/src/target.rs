//! What a root file system is made for: a Debian release and an architecture.

use std::fmt;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::Error;

/// A Debian architecture that sconce makes images for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// AArch64, little-endian.
    Arm64,
}

impl Arch {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// Reads Debian's name, or the kernel's and Python's (`x86_64`, `aarch64`).
    pub fn parse(name: &str) -> Result<Self, Error> {
        match name {
            "amd64" | "x86_64" => Ok(Self::Amd64),
            "arm64" | "aarch64" => Ok(Self::Arm64),
            _ => Err(Error::UnknownArchitecture { name: name.to_owned() }),
        }
    }

    /// Debian's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The multiarch triplet, the folder under `usr/lib` (Debian wiki, "Multiarch/Tuples").
    pub fn triplet(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A Debian release, a row of `data/releases.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// `bookworm`.
    pub codename: String,
    /// The major version.
    pub version: u32,
    /// The version of its `python3`, such as `3.11`.
    pub python: String,
    /// The version of its `gcc`, such as `12`.
    pub gcc: String,
    /// Suites of the main archive beyond the release itself.
    pub updates: Vec<String>,
    /// The suite of the security archive.
    pub security: String,
    /// Where the row comes from.
    pub source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Releases {
    release: Vec<Release>,
}

static RELEASES: LazyLock<Vec<Release>> = LazyLock::new(|| {
    toml::from_str::<Releases>(include_str!("../data/releases.toml"))
        .map(|file| file.release)
        .expect("data/releases.toml is part of the program, and a test reads it")
});

impl Release {
    /// The releases sconce knows.
    pub fn all() -> &'static [Self] {
        &RELEASES
    }

    /// The release of this codename.
    pub fn find(codename: &str) -> Result<&'static Self, Error> {
        Self::all().iter().find(|release| release.codename == codename).ok_or_else(|| {
            Error::UnknownRelease {
                name: codename.to_owned(),
                known: Self::all().iter().map(|r| r.codename.clone()).collect(),
            }
        })
    }
}

/// A release and an architecture.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Which release.
    pub release: &'static Release,
    /// Which architecture.
    pub arch: Arch,
}

impl Target {
    /// The target of a codename and an architecture's name.
    pub fn new(codename: &str, arch: &str) -> Result<Self, Error> {
        Ok(Self { release: Release::find(codename)?, arch: Arch::parse(arch)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        let names: Vec<_> = Release::all().iter().map(|r| r.codename.as_str()).collect();
        assert_eq!(names, ["bookworm", "trixie"]);
        assert!(Release::all().iter().all(|row| !row.source.is_empty()));
        let error = Target::new("trixy", "amd64").unwrap_err();
        assert_eq!(error.to_string(), "no Debian release `trixy` is known");
        assert!(error.hint().is_some_and(|hint| hint.contains("bookworm, trixie")));
        assert_eq!(Target::new("trixie", "aarch64").unwrap().arch, Arch::Arm64);
    }
}
