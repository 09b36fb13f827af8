//! The two kinds of host processor that CUDA wheels exist for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ParseError;

/// The oldest Linux that containers of sconce start on: mount_setattr(2), by which each of their mounts is made, came with
/// it (mount_setattr(2), "HISTORY").
pub const OLDEST_KERNEL: (u32, u32) = (5, 12);

/// The first two numbers of a kernel's release, as `uname -r` says it; `None` for what begins with none.
pub fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-', '+']);
    let first = numbers.next()?.parse().ok()?;
    Some((first, numbers.next().and_then(|text| text.parse().ok()).unwrap_or(0)))
}

/// A host processor architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Machine {
    /// Intel and AMD, 64 bits.
    #[serde(rename = "x86_64")]
    X86_64,
    /// Arm, 64 bits: Grace, Jetson.
    Aarch64,
}

impl Machine {
    /// Every machine.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// The kernel's name, as in `uname -m` and wheel tags.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Debian's and OCI's name: `amd64`, `arm64`.
    pub const fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The machine that this program was compiled for, if it is one of ours.
    pub fn current() -> Option<Self> {
        std::env::consts::ARCH.parse().ok()
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Machine {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "x86_64" | "amd64" => Ok(Self::X86_64),
            "aarch64" | "arm64" => Ok(Self::Aarch64),
            _ => Err(ParseError::new(text, "platform", "it is `x86_64` or `aarch64`")),
        }
    }
}
