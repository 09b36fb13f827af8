//! Modules built for another NumPy than the one that is installed.
//!
//! Source: NumPy 2.0 migration guide: a module built with headers of NumPy 1 asks for a C API that NumPy 2 does not
//! have, and its import ends with `_ARRAY_API not found`. One built for NumPy 2 runs with both.

use std::collections::{BTreeMap, BTreeSet};

use crate::finding::{Finding, Kind, Severity};
use crate::loads::below_site;
use crate::packages::{Contents, Origin, is_python_library, normalise, release};
use crate::scan::Library;

/// One finding for each package whose modules can't use the NumPy there is.
pub fn check(contents: &Contents, libraries: &[Library]) -> Vec<Finding> {
    let mut installed = contents.packages.iter();
    let numpy =
        installed.find(|package| package.name == "numpy" && package.origin == Origin::Python);
    let Some(numpy) = numpy else { return Vec::new() };
    let major = release(&numpy.version).and_then(|numbers| numbers.first().copied()).unwrap_or(0);
    let folder = |library: &Library| -> String {
        let below = below_site(&library.path);
        below.split_once('/').map_or(below, |(folder, _)| folder).to_owned()
    };
    let with_code: BTreeSet<String> =
        libraries.iter().filter(|library| library.has_gpu_code()).map(folder).collect();
    let mut of_package: BTreeMap<String, (&Library, u16)> = BTreeMap::new();
    let ours =
        libraries.iter().filter(|library| !library.outside && is_python_library(&library.path));
    for library in ours {
        let Some(own) = library.numpy.filter(|own| u64::from(*own) < major) else { continue };
        of_package.entry(folder(library)).or_insert((library, own));
    }
    let finding = |(folder, (library, own)): (String, (&Library, u16))| {
        // Without torch, what has code for a GPU is what there is to run.
        let severity = match contents.torch.is_none() && with_code.contains(&folder) {
            true => Severity::Error,
            false => Severity::Warning,
        };
        let (name, version) = (normalise(&folder), &numpy.version);
        let message = format!("was built for NumPy {own} and can't use NumPy {version}");
        Finding::new(severity, Kind::VersionMismatch, library.path.clone(), message)
            .evidence(["seen as: AttributeError: _ARRAY_API not found"])
            .fix(format!("install 'numpy<{}', or a {name} built for NumPy {major}", own + 1))
            .gpu(true)
    };
    of_package.into_iter().map(finding).collect()
}
