//! CUDA releases, driver versions, and the driver that a CUDA needs.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::LazyLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::arch::serde_as_text;
use crate::{ParseError, table};

/// A CUDA release by major and minor: `13.2`. Further parts of a parsed text (`12.1.105`) are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CudaVersion {
    /// 13 of 13.2.
    pub major: u16,
    /// 2 of 13.2.
    pub minor: u16,
}

impl CudaVersion {
    /// The name of PyTorch's build for it: `cu132`.
    pub fn variant(self) -> String {
        format!("cu{}{}", self.major, self.minor)
    }

    /// The release that a name like `cu132` stands for: the last digit is the minor.
    pub fn from_variant(name: &str) -> Option<Self> {
        let digits = name.strip_prefix("cu")?;
        let ascii = (2..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        let (major, minor) = ascii.then(|| digits.split_at(digits.len() - 1))?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    /// The lowest driver that anything built with this CUDA starts on.
    pub fn floor(self) -> Option<&'static Floor> {
        floor(self.major)
    }
}

impl fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for CudaVersion {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseError::new(text, "CUDA version", "it looks like `12.6`");
        let parts = numbers(text).filter(|parts| parts.len() >= 2).ok_or_else(bad)?;
        let part =
            |index: usize| parts.get(index).and_then(|n| u16::try_from(*n).ok()).ok_or_else(bad);
        Ok(Self { major: part(0)?, minor: part(1)? })
    }
}

/// An NVIDIA driver version: `535.104.05`. Keeps its spelling, compares by its numbers, missing parts are 0.
#[derive(Clone, Debug)]
pub struct DriverVersion {
    text: String,
    parts: [u32; 3],
}

impl DriverVersion {
    /// The branch's number: 535.
    pub const fn branch(&self) -> u32 {
        self.parts[0]
    }

    /// As it was spelled.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for DriverVersion {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseError::new(text, "driver version", "it looks like `535.104.05`");
        let given = numbers(text).filter(|parts| parts.len() <= 3).ok_or_else(bad)?;
        let mut parts = [0; 3];
        for (part, number) in parts.iter_mut().zip(&given) {
            *part = *number;
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

impl fmt::Display for DriverVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for DriverVersion {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Eq for DriverVersion {}

impl PartialOrd for DriverVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DriverVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts.cmp(&other.parts)
    }
}

impl Hash for DriverVersion {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts.hash(state);
    }
}

serde_as_text!(CudaVersion, DriverVersion);

/// The dotted decimal numbers of `text`: at most 6, each at most 6 digits.
fn numbers(text: &str) -> Option<Vec<u32>> {
    let parts = text.split('.').map(|part| {
        let plain = (1..=6).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| part.parse().ok()).flatten()
    });
    parts.take(7).collect::<Option<Vec<_>>>().filter(|parts| parts.len() <= 6)
}

/// The lowest driver for a CUDA major (minor-version compatibility).
#[derive(Debug, Clone, Deserialize)]
pub struct Floor {
    /// CUDA's major version.
    pub major: u16,
    /// The driver.
    pub driver: DriverVersion,
    /// Where that is said.
    pub source: String,
}

/// A toolkit release and the driver it was shipped with.
#[derive(Debug, Clone, Deserialize)]
pub struct Toolkit {
    /// With the update: `12.6.3`.
    pub version: String,
    /// The floor for all its features; none where NVIDIA no longer bundles one.
    pub driver: Option<DriverVersion>,
}

/// A driver branch under which a newer libcuda may stand in (CUDA Compatibility guide, "Forward
/// Compatibility").
#[derive(Debug, Clone, Deserialize)]
pub struct Forward {
    /// 535 of 535.104.05.
    pub branch: u32,
    /// Where that is said.
    pub source: String,
}

#[derive(Deserialize)]
struct Table {
    forward: Vec<Forward>,
    floor: Vec<Floor>,
    toolkit: Vec<Toolkit>,
}

static ROWS: LazyLock<Table> = LazyLock::new(|| table::read(table::CUDA));

/// The driver floors, lowest CUDA first.
pub fn floors() -> &'static [Floor] {
    &ROWS.floor
}

/// The driver floor of a CUDA major.
pub fn floor(major: u16) -> Option<&'static Floor> {
    ROWS.floor.iter().find(|row| row.major == major)
}

/// Whether the libcuda of a newer driver may stand in for that of `driver` on data-centre GPUs. It must
/// be of a later branch: within one branch the machine's own is right.
pub fn forward_compatible(driver: &DriverVersion, compat: &DriverVersion) -> bool {
    let listed = ROWS.forward.iter().any(|row| row.branch == driver.branch());
    listed && compat.branch() > driver.branch()
}

/// Toolkit releases, oldest first.
pub fn toolkits() -> &'static [Toolkit] {
    &ROWS.toolkit
}

/// The driver shipped with the newest update of a CUDA release: what lifts every limit on it.
pub fn toolkit_driver(cuda: CudaVersion) -> Option<&'static DriverVersion> {
    let of = |row: &&Toolkit| row.version.parse::<CudaVersion>().ok() == Some(cuda);
    ROWS.toolkit.iter().rev().find(of)?.driver.as_ref()
}

/// The newest CUDA that a driver serves: at least the first, and below the second. A branch serves one CUDA, that of the
/// toolkit which it was shipped with; some branches came between two toolkits.
pub fn cuda_of_branch(driver: &DriverVersion) -> (Option<CudaVersion>, Option<CudaVersion>) {
    let rows = ROWS.toolkit.iter().filter_map(|row| {
        Some((row.version.parse::<CudaVersion>().ok()?, row.driver.as_ref()?.branch()))
    });
    let (with, after): (Vec<_>, Vec<_>) = rows.partition(|(_, branch)| *branch <= driver.branch());
    let versions = |rows: Vec<(CudaVersion, u32)>| rows.into_iter().map(|(version, _)| version);
    (versions(with).max(), versions(after).min())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver(text: &str) -> DriverVersion {
        text.parse().unwrap()
    }

    #[test]
    fn drivers_compare_whole() {
        assert!(driver("525.60.13") < driver("525.60.14"));
        assert!(driver("525") < driver("525.60.13") && driver("535.104.05") > driver("535.54.03"));
        assert_eq!(driver("570.26"), driver("570.26.00"));
        assert_eq!(driver("450.80.02").to_string(), "450.80.02");
        for text in ["", "525.", "525.60.13.1", "R525", "525-60", "-1", "9999999", "५३५"] {
            assert!(text.parse::<DriverVersion>().is_err(), "{text}");
        }
    }

    #[test]
    fn floors_are_the_documented_ones() {
        let shown: Vec<_> =
            floors().iter().map(|row| format!("{} {}", row.major, row.driver)).collect();
        assert_eq!(shown, ["10 440.33", "11 450.80.02", "12 525.60.13", "13 580.65.06"]);
        assert_eq!(toolkit_driver("13.2".parse().unwrap()).unwrap().as_str(), "595.71.05");
        assert!(toolkit_driver("13.5".parse().unwrap()).is_none());
    }

    #[test]
    fn a_branch_serves_one_cuda() {
        for (own, first, next) in [
            ("418.226.00", None, Some("11.0")),
            ("470.256.02", Some("11.4"), Some("11.5")),
            ("550.54.14", Some("12.4"), Some("12.5")),
            ("565.57.01", Some("12.6"), Some("12.8")),
            ("580.65.06", Some("13.0"), Some("13.1")),
            ("615.31", Some("13.3"), None),
        ] {
            let parse = |text: Option<&str>| text.map(|text| text.parse().unwrap());
            assert_eq!(cuda_of_branch(&driver(own)), (parse(first), parse(next)), "{own}");
        }
    }

    #[test]
    fn forward_compatibility_is_for_listed_branches() {
        let may = |own, compat| forward_compatible(&driver(own), &driver(compat));
        assert!(may("535.104.05", "580.65.06") && may("580.159.04", "595.71.05"));
        assert!(!may("535.104.05", "535.161.08") && !may("580.65.06", "575.57.08"));
        assert!(!may("545.23.06", "580.65.06") && !may("470.57.02", "580.65.06"));
        for row in &ROWS.forward {
            assert!(row.source.contains(&format!("R{}", row.branch)), "{}", row.source);
        }
    }

    #[test]
    fn variants() {
        let cuda: CudaVersion = "12.1.105".parse().unwrap();
        assert_eq!((cuda.variant().as_str(), cuda.to_string().as_str()), ("cu121", "12.1"));
        assert_eq!(CudaVersion::from_variant("cu118").unwrap().to_string(), "11.8");
        for name in ["cu", "cpu", "cu1", "cuda12", "cu12345", "cué0"] {
            assert!(CudaVersion::from_variant(name).is_none(), "{name}");
        }
    }
}
