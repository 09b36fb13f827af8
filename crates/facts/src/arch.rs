//! Compute capabilities, the architectures code is compiled for, and which runs on which.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{DriverVersion, ParseError, table};

/// A GPU's compute capability, e.g. 9.0. Prints and parses as `9.0`; `sm_90` and `sm90` parse too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability {
    /// The generation: 9 is Hopper.
    pub major: u8,
    /// The step within it.
    pub minor: u8,
}

impl Capability {
    /// The architecture's name without a suffix: `sm_90`.
    pub fn sm(self) -> String {
        format!("sm_{}{}", self.major, self.minor)
    }

    /// The row about it, when there is one.
    pub fn row(self) -> Option<&'static CapabilityRow> {
        capability(self)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Capability {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseError::new(text, "compute capability", "it looks like `9.0` or `sm_90`");
        if let Some((major, minor)) = text.split_once('.') {
            let part = |text: &str| {
                let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                digits.then(|| text.parse().ok()).flatten().ok_or_else(bad)
            };
            return Ok(Self { major: part(major)?, minor: part(minor)? });
        }
        match text.parse::<Sm>() {
            Ok(sm) if sm.kind == SmKind::Plain => Ok(sm.capability),
            _ => Err(bad()),
        }
    }
}

/// How far code compiled for an architecture reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SmKind {
    /// `sm_90`: every later step of the same generation.
    Plain,
    /// `sm_100f`: the family, again the same generation from this step on.
    Family,
    /// `sm_90a`: exactly this capability.
    Exact,
}

/// An architecture that machine code (a cubin) is compiled for: `sm_90`, `sm_90a`, `sm_100f`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sm {
    /// The capability it names.
    pub capability: Capability,
    /// Its suffix.
    pub kind: SmKind,
}

impl Sm {
    /// Whether a cubin for this architecture runs on a GPU of that capability.
    ///
    /// Same generation and a step not below its own (CUDA C++ Programming Guide, binary compatibility); with the
    /// suffix `a` only on exactly its capability. The GPU of a Jetson runs no code of its desktop relatives, nor they
    /// its. PTX is another matter: no PyPI torch wheel holds any.
    pub fn runs_on(self, gpu: Capability) -> bool {
        match self.kind {
            SmKind::Plain | SmKind::Family => {
                let own = self.capability;
                let tegra = |one: Capability| one.row().is_some_and(|row| row.tegra);
                own == gpu
                    || (own.major == gpu.major
                        && own.minor < gpu.minor
                        && !tegra(own)
                        && !tegra(gpu))
            }
            SmKind::Exact => self.capability == gpu,
        }
    }
}

impl fmt::Display for Sm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.capability.sm())?;
        f.write_str(match self.kind {
            SmKind::Plain => "",
            SmKind::Family => "f",
            SmKind::Exact => "a",
        })
    }
}

impl FromStr for Sm {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseError::new(text, "architecture", "it looks like `sm_90` or `sm_90a`");
        let rest = text.strip_prefix("sm").ok_or_else(bad)?;
        let rest = rest.strip_prefix('_').unwrap_or(rest);
        let (digits, kind) = match rest.strip_suffix('a') {
            Some(digits) => (digits, SmKind::Exact),
            None => match rest.strip_suffix('f') {
                Some(digits) => (digits, SmKind::Family),
                None => (rest, SmKind::Plain),
            },
        };
        let ascii = (2..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        let (major, minor) = ascii.then(|| digits.split_at(digits.len() - 1)).ok_or_else(bad)?;
        let major = major.parse().map_err(|_| bad())?;
        let minor = minor.parse().map_err(|_| bad())?;
        Ok(Self { capability: Capability { major, minor }, kind })
    }
}

macro_rules! serde_as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
pub(crate) use serde_as_text;
serde_as_text!(Capability, Sm);

/// What is known about one compute capability.
#[derive(Debug, Clone, Deserialize)]
pub struct CapabilityRow {
    /// The capability.
    pub cc: Capability,
    /// The generation's name: "Hopper".
    pub architecture: String,
    /// The first CUDA toolkit that compiles for it.
    pub first_cuda: String,
    /// The last one, where support has ended.
    pub last_cuda: Option<String>,
    /// The first driver that runs any GPU of it, where one is known.
    pub first_driver: Option<DriverVersion>,
    /// The last driver branch, where support has ended: "R580".
    pub last_driver: Option<String>,
    /// Whether it is the GPU of a Jetson (Tegra), beside others of its generation.
    #[serde(default)]
    pub tegra: bool,
}

impl CapabilityRow {
    /// The number of the last driver branch, where support has ended: 580 of "R580".
    pub fn last_branch(&self) -> Option<u32> {
        self.last_driver.as_deref()?.strip_prefix('R')?.parse().ok()
    }
}

#[derive(Deserialize)]
struct Table {
    capability: Vec<CapabilityRow>,
}

static ROWS: LazyLock<Vec<CapabilityRow>> =
    LazyLock::new(|| table::read::<Table>(table::CAPABILITIES).capability);

/// All capabilities, lowest first.
pub fn capabilities() -> &'static [CapabilityRow] {
    &ROWS
}

/// The row about a capability.
pub fn capability(cc: Capability) -> Option<&'static CapabilityRow> {
    ROWS.iter().find(|row| row.cc == cc)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(sm: &str, gpu: &str) -> bool {
        sm.parse::<Sm>().unwrap().runs_on(gpu.parse().unwrap())
    }

    #[test]
    fn cubin_rule() {
        assert!(runs("sm_80", "8.0") && runs("sm_80", "8.9") && runs("sm_86", "8.9"));
        assert!(!runs("sm_86", "8.0") && !runs("sm_90", "10.0") && !runs("sm_90", "8.9"));
        assert!(runs("sm_90a", "9.0") && !runs("sm_100a", "10.3"));
        assert!(runs("sm_100f", "10.3") && !runs("sm_100f", "12.0"));
        assert!(runs("sm_120", "12.1") && runs("sm_100", "10.3"));
        assert!(runs("sm_87", "8.7") && !runs("sm_80", "8.7") && !runs("sm_86", "8.7"));
        assert!(!runs("sm_87", "8.9") && !runs("sm_70", "7.2") && !runs("sm_72", "7.5"));
    }

    #[test]
    fn spellings() {
        for text in ["9.0", "sm_90", "sm90"] {
            assert_eq!(text.parse::<Capability>().unwrap().to_string(), "9.0", "{text}");
        }
        assert_eq!("sm_120f".parse::<Sm>().unwrap().to_string(), "sm_120f");
        for text in [
            "", "sm_", "sm_9", "sm_90x", "9", "9.", ".0", "9.0.0", "+9.0", "sm_90a", "sm_99999",
            "sm_é0",
        ] {
            assert!(text.parse::<Capability>().is_err(), "{text}");
        }
    }

    #[test]
    fn rows_rise() {
        assert!(capabilities().is_sorted_by_key(|row| row.cc));
        assert_eq!(capability("7.0".parse().unwrap()).unwrap().last_cuda.as_deref(), Some("12.9"));
    }

    #[test]
    fn drivers_bound_a_capability() {
        for row in capabilities() {
            assert_eq!(row.last_driver.is_some(), row.last_branch().is_some(), "{}", row.cc);
            let Some(first) = &row.first_driver else { continue };
            // A capability's first driver is its oldest GPU's, and no newer than the toolkit's that
            // first compiles for it.
            for gpu in crate::gpus().iter().filter(|gpu| gpu.capability == row.cc) {
                assert!(gpu.first_driver.as_ref().is_none_or(|own| own >= first), "{}", gpu.name);
            }
            let toolkit = row.first_cuda.parse().ok().and_then(crate::toolkit_driver);
            assert!(toolkit.is_none_or(|driver| driver >= first), "{}", row.cc);
        }
    }
}
