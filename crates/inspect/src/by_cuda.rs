//! Which libraries are builds of one for several CUDAs: by the number in their names (a row of `data/names.toml`), or by
//! the folder for each CUDA in which they lie side by side.

use std::collections::{BTreeMap, BTreeSet};

use sconce_facts::DriverVersion;

use crate::loads::below_site;
use crate::names::{self, Choice};
use crate::scan::Library;

/// The libraries that lie in folders for several CUDAs.
pub struct ByCuda {
    /// Groups of two builds or more, by their paths with `cu*` for the folder.
    folders: BTreeSet<String>,
}

/// One of the builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// What it is one of: its name or path with `*` for the CUDA.
    pub group: String,
    /// Its CUDA: `11.8`, or the major alone.
    pub cuda: String,
    /// And the major of that.
    pub major: u16,
}

impl Build {
    /// Whether it is for this CUDA: of a build for a whole major the minor does not count.
    pub fn is_for(&self, cuda: &str) -> bool {
        self.cuda == cuda || (self.cuda == self.major.to_string() && is_of(self.major, cuda))
    }

    /// The lowest driver on which its CUDA starts.
    pub fn floor(&self) -> Option<&'static DriverVersion> {
        sconce_facts::floor(self.major).map(|floor| &floor.driver)
    }

    /// Its CUDA as numbers, by which builds are sorted.
    pub fn number(&self) -> Vec<u16> {
        self.cuda.split('.').map(|part| part.parse().unwrap_or(0)).collect()
    }

    /// What it is one of, below the folder of sys.path.
    pub fn shown(&self) -> &str {
        below_site(&self.group)
    }
}

fn is_of(major: u16, cuda: &str) -> bool {
    cuda.split('.').next() == Some(major.to_string().as_str())
}

impl ByCuda {
    /// Those of an environment.
    pub fn new(libraries: &[Library]) -> Self {
        let mut majors: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
        for (group, major) in libraries.iter().filter_map(in_folder) {
            majors.entry(group).or_default().insert(major);
        }
        let several = majors.into_iter().filter(|(_, majors)| majors.len() > 1);
        Self { folders: several.map(|(group, _)| group).collect() }
    }

    /// Which build this library is, if it is one.
    pub fn build(&self, library: &Library) -> Option<Build> {
        self.in_folder(library).or_else(|| by_name(library.name()))
    }

    /// Whether a program takes this library or another build of it.
    pub fn is_one_of_several(&self, library: &Library) -> bool {
        names::alternative(library.name()).is_some() || self.in_folder(library).is_some()
    }

    fn in_folder(&self, library: &Library) -> Option<Build> {
        let (group, major) = in_folder(library)?;
        let is_build = self.folders.contains(&group);
        is_build.then(|| Build { group, cuda: major.to_string(), major })
    }
}

/// `130` at the end of the name is 13.0.
fn by_name(name: &str) -> Option<Build> {
    let row = names::alternative(name).filter(|row| row.by == Choice::Cuda)?;
    let (major, minor) = row.build(name).split_at_checked(2)?;
    let group = row.names.clone();
    let cuda = format!("{major}.{minor}");
    (!minor.is_empty()).then_some(Build { group, cuda, major: major.parse().ok()? })
}

/// The path with `cu*` for the folder of a CUDA, and that CUDA's major. Libraries of NVIDIA's that are no builds of one have
/// the major of their CUDA in their own names.
fn in_folder(library: &Library) -> Option<(String, u16)> {
    let (folders, name) = library.path.rsplit_once('/').filter(|_| !library.outside)?;
    let mut parts: Vec<&str> = folders.split('/').collect();
    let at = parts.iter().rposition(|part| names::cuda_of_folder(part).is_some())?;
    let major = names::cuda_of_folder(parts[at])?;
    parts[at] = "cu*";
    Some((format!("{}/{name}", parts.join("/")), major))
}
