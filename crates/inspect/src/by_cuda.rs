//! Which libraries are builds of one for several CUDAs: their paths differ in the number of a CUDA and in nothing else, as
//! `lib/cu12/libx.so` and `lib/cu13/libx.so` do (nccl-extensions 0.1.0, nccl/_extensions/_runtime.py) or `libx_cuda121.so`
//! and `libx_cuda130.so`. Of some it is known how their package chooses: a row of `data/names.toml`.

use std::collections::{BTreeMap, BTreeSet};

use sconce_facts::DriverVersion;

use crate::loads::below_site;
use crate::names::{self, Choice};
use crate::scan::Library;

/// The libraries that are there for several CUDAs.
pub struct ByCuda {
    /// Groups of two builds or more, by their paths with `*` for the number.
    groups: BTreeSet<String>,
    /// Folders of which there are two or more for different CUDAs: what lies in one alone is for that CUDA as well.
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

    /// Whether it is for the major of this CUDA.
    pub fn is_of_major_of(&self, cuda: &str) -> bool {
        is_of(self.major, cuda)
    }

    /// The folder with the number in its name, where it is in none of a file's.
    fn folder(&self) -> Option<&str> {
        let (before, behind) = self.group.rsplit_once('*')?;
        let end = behind.find('/')?;
        self.group.get(..before.len() + 1 + end)
    }

    /// The lowest driver on which its CUDA starts.
    pub fn floor(&self) -> Option<&'static DriverVersion> {
        sconce_facts::floor(self.major).map(|floor| &floor.driver)
    }

    /// What it is one of, below the folder of sys.path.
    pub fn shown(&self) -> &str {
        below_site(&self.group)
    }
}

/// `11.8` as numbers, by which builds are sorted.
pub fn number(cuda: &str) -> Vec<u16> {
    cuda.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

fn is_of(major: u16, cuda: &str) -> bool {
    cuda.split('.').next() == Some(major.to_string().as_str())
}

impl ByCuda {
    /// Those of an environment.
    pub fn new(libraries: &[Library]) -> Self {
        let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut folders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let own = libraries.iter().filter(|library| !library.outside);
        for build in own.filter_map(|library| numbered(&library.path)) {
            if let Some(folder) = build.folder() {
                folders.entry(folder.to_owned()).or_default().insert(build.cuda.clone());
            }
            groups.entry(build.group).or_default().insert(build.cuda);
        }
        let several = |found: BTreeMap<String, BTreeSet<String>>| {
            let several = found.into_iter().filter(|(_, cudas)| cudas.len() > 1);
            several.map(|(name, _)| name).collect()
        };
        Self { groups: several(groups), folders: several(folders) }
    }

    /// Which build this library is, if it is one.
    pub fn build(&self, library: &Library) -> Option<Build> {
        by_name(library.name()).or_else(|| self.one_of(library))
    }

    /// Whether a program takes this library or another build of it.
    pub fn is_one_of_several(&self, library: &Library) -> bool {
        names::alternative(library.name()).is_some() || self.one_of(library).is_some()
    }

    /// The CUDA in the name of a library, or of a folder that is named for it and nothing else, that has no other build, and
    /// may be taken with that CUDA alone. Other folders are mostly named for their package, `tensorrt_cu12_libs`, and
    /// `nvidia/cu13` has all that NVIDIA's own packages for it bring.
    pub fn alone(&self, library: &Library) -> Option<Build> {
        let is_free = !library.outside && !names::is_of_nvidia(library.soname());
        let build = numbered(&library.path).filter(|_| is_free && self.build(library).is_none())?;
        let is_cudas = |folder: &str| {
            let (before, last) = folder.rsplit_once('/').unwrap_or(("", folder));
            !before.ends_with("/nvidia") && ["cu*", "cuda*", "cuda-*", "cuda_*"].contains(&last)
        };
        build.folder().is_none_or(is_cudas).then_some(build)
    }

    fn one_of(&self, library: &Library) -> Option<Build> {
        let is_build = |build: &Build| {
            self.groups.contains(&build.group)
                || build.folder().is_some_and(|folder| self.folders.contains(folder))
        };
        numbered(&library.path).filter(|build| !library.outside && is_build(build))
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

/// The last number of a CUDA in the path: `cu12`, `cuda12`, `cuda-12`, `cuda_12.8`, `cu128`, between `/`, `_`, `-` or `.`.
fn numbered(path: &str) -> Option<Build> {
    let ends = |rest: &str| rest.is_empty() || rest.starts_with(['/', '_', '-', '.']);
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    path.rmatch_indices("cu").find_map(|(at, word)| {
        let before = &path[..at];
        if !before.is_empty() && !before.ends_with(['/', '_', '-', '.']) {
            return None;
        }
        let rest = &path[at + word.len()..];
        let rest = rest.strip_prefix("da").unwrap_or(rest);
        let rest = rest.strip_prefix(['-', '_']).unwrap_or(rest);
        let start = path.len() - rest.len();
        let (whole, rest) = rest.split_at(digits(rest));
        let (major, minor, rest) = match whole.len() {
            2 => {
                let after = rest.strip_prefix('.').unwrap_or("");
                let (minor, after) = after.split_at(digits(after));
                match minor.is_empty() || !ends(after) {
                    true => (whole, "", rest),
                    false => (whole, minor, after),
                }
            }
            3 => (&whole[..2], &whole[2..], rest),
            _ => return None,
        };
        let major: u16 = major.parse().ok()?;
        // 32 and 64 are bits.
        sconce_facts::floor(major).filter(|_| ends(rest))?;
        let cuda = match minor {
            "" => major.to_string(),
            minor => format!("{major}.{minor}"),
        };
        Some(Build { group: format!("{}*{rest}", &path[..start]), cuda, major })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_cudas_in_paths() {
        let read = |path: &str| numbered(path).map(|build| (build.group, build.cuda));
        for (path, group, cuda) in [
            ("a/lib/cu12/libx.so", "a/lib/cu*/libx.so", "12"),
            ("a/libx_cuda121.so", "a/libx_cuda*.so", "12.1"),
            ("a/cuda-12/libx.so.1", "a/cuda-*/libx.so.1", "12"),
            ("a/cuda_13.0/libx.so", "a/cuda_*/libx.so", "13.0"),
            ("a/libx-cu130.so", "a/libx-cu*.so", "13.0"),
            ("a/libx_cuda12.so", "a/libx_cuda*.so", "12"),
        ] {
            assert_eq!(read(path), Some((group.to_owned(), cuda.to_owned())), "{path}");
        }
        for path in [
            "a/libcudart.so.12",
            "a/libtorch_cuda.so",
            "a/cupy_cuda12x/libx.so",
            "a/libx_cuda64.so",
            "a/focus12/libx.so",
            "a/libx_cu1.so",
            "a/libx_cuda1210.so",
        ] {
            assert_eq!(read(path), None, "{path}");
        }
    }
}
