//! What `[environment]` asks for, key by key.

use pep440_rs::{Operator, VersionSpecifiers};
use sconce_facts::DriverVersion;
use serde::{Serialize, Serializer};

use crate::requirements::RequirementsFile;

/// `environment.torch`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TorchRequest {
    /// The newest that fits the rest.
    #[default]
    Newest,
    /// None at all.
    None,
    /// A version or a range, PEP 440.
    Versions(#[serde(serialize_with = "as_text")] VersionSpecifiers),
}

impl TorchRequest {
    /// Whether it is one version that is asked for.
    pub fn is_one(&self) -> bool {
        let Self::Versions(versions) = self else { return false };
        versions.len() == 1 && versions.iter().all(|one| *one.operator() == Operator::Equal)
    }
}

/// `environment.gpus`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GpuRequest {
    /// Nothing is asked.
    #[default]
    Any,
    /// Those in this machine.
    Host,
    /// Names and capabilities.
    Named(Vec<String>),
}

/// `environment.driver`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DriverRequest {
    /// This machine's, if it has one.
    #[default]
    Auto,
    /// Nothing is asked.
    Any,
    /// At least this one.
    Version(DriverVersion),
}

/// `environment.cuda`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CudaRequest {
    /// Whatever the torch has.
    #[default]
    Auto,
    /// The build without CUDA.
    Cpu,
    /// A major, or a release.
    Version {
        /// 12 of 12.6.
        major: u16,
        /// 6 of 12.6.
        minor: Option<u16>,
    },
}

/// `environment.requirements`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Requirements {
    /// PEP 508 requirements.
    List(Vec<String>),
    /// A file with them.
    File(RequirementsFile),
}

impl Default for Requirements {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

/// One of `environment.indexes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IndexRequest {
    /// Its name in the lock.
    pub name: String,
    /// Its address, or the path of a folder with wheels.
    pub url: String,
}

impl IndexRequest {
    /// Whether it is a folder of wheels rather than an index.
    pub fn is_folder(&self) -> bool {
        !self.url.contains("://") || self.url.starts_with("file://")
    }
}

/// `environment.flavour`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavour {
    /// Runs, and compiles with torch.compile.
    #[default]
    Runtime,
    /// With nvcc, headers and build tools.
    Devel,
}

impl Flavour {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::Devel => "devel",
        }
    }
}

fn as_text<S: Serializer>(value: &VersionSpecifiers, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
