//! A libcuda that takes the driver's place: one for forward compatibility, or a stub to link with.
//!
//! Source: CUDA Compatibility, "Forward Compatibility": the compat package's libcuda.so.1 is for data-centre GPUs and for
//! drivers older than itself (errors 804 and 803). A stub has every function, and each fails (`CUDA driver is a stub
//! library`).

use sconce_facts::DriverVersion;
use serde::Serialize;

use crate::finding::{Finding, Kind, Severity};
use crate::loader::Loader;

const NAME: &str = "libcuda.so.1";

/// The libcuda that LD_LIBRARY_PATH brings before the driver's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Libcuda {
    /// Its path.
    pub library: String,
    /// The driver it is of, as its file's name says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
}

impl Libcuda {
    /// The driver it is of.
    pub fn version(&self) -> Option<DriverVersion> {
        self.driver.as_deref()?.parse().ok()
    }
}

/// The one that wins; a stub is a finding instead.
pub fn check(loader: &Loader<'_>) -> (Option<Libcuda>, Option<Finding>) {
    let Some((at, opened)) = loader.by_library_path(NAME) else { return (None, None) };
    let Some(library) = loader.library(at).map(|library| library.path.clone()) else {
        return (None, None);
    };
    if [&opened, &library].iter().any(|path| path.contains("/stubs/")) {
        let message = "is a stub to link with, and LD_LIBRARY_PATH brings it before the driver's: CUDA does not start";
        let finding = Finding::new(Severity::Error, Kind::DriverLibrary, library, message)
            .evidence(["seen as: CUDA driver is a stub library"])
            .fix("take its folder out of LD_LIBRARY_PATH");
        return (None, Some(finding));
    }
    let version = library.rsplit_once("libcuda.so.").map(|(_, version)| version.to_owned());
    let driver = version.filter(|version| version.contains('.'));
    (Some(Libcuda { library, driver }), None)
}
