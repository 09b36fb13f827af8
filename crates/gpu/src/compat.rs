//! Forward compatibility: the newer libcuda that an image brings for an older driver.
//!
//! CUDA's compatibility package (`cuda-compat-<major>-<minor>`) puts libcuda and its helpers of a newer
//! driver into `/usr/local/cuda-<version>/compat` (CUDA Compatibility guide, "Forward Compatibility"). On the
//! wrong GPU or driver it ends in error 804, so that somebody must have said yes before [`prefer`]
//! is called; here nothing is decided. The image's bytes are not trusted: only names are read, and no link is
//! followed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cdi::{Edits, Link};
use crate::driver::{Survey, is_version};

/// Names read in one folder of an image.
const MOST: usize = 1024;

/// The compatibility package of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compat {
    /// Its folder in the container.
    pub folder: PathBuf,
    /// The driver that its libraries are of.
    pub version: String,
    /// Their file names: `libcuda.so.580.65.06`.
    pub libraries: Vec<String>,
}

/// The newest compatibility package in an image of these layers, the top one first.
pub fn find(lowers: &[PathBuf]) -> Option<Compat> {
    let mut newest: Option<(Vec<u32>, Compat)> = None;
    for (at, lower) in lowers.iter().enumerate() {
        let above = lowers.get(..at).unwrap_or_default();
        if !is_folder(&lower.join("usr")) {
            continue;
        }
        let toolkits = names(&lower.join("usr/local")).into_iter();
        for toolkit in toolkits.filter(|name| name.starts_with("cuda")) {
            let below = Path::new("usr/local").join(&toolkit).join("compat");
            let real = [lower.join("usr/local").join(&toolkit), lower.join(&below)];
            if !real.iter().all(|folder| is_folder(folder)) {
                continue;
            }
            let files = names(&lower.join(&below)).into_iter();
            let files = files.filter(|name| {
                let path = below.join(name);
                lower.join(&path).symlink_metadata().is_ok_and(|about| about.is_file())
                    && !above.iter().any(|upper| hides(upper, &path))
            });
            let files: Vec<String> = files.collect();
            let mut versions = files.iter().filter_map(|name| name.strip_prefix("libcuda.so."));
            let version = versions.find(|text| is_version(text)).map(str::to_owned);
            let Some(version) = version else {
                continue;
            };
            let ending = format!(".so.{version}");
            let libraries = files.into_iter().filter(|name| name.ends_with(&ending)).collect();
            let order = version.split('.').filter_map(|part| part.parse().ok()).collect();
            if newest.as_ref().is_none_or(|(known, _)| *known < order) {
                let folder = Path::new("/").join(below);
                newest = Some((order, Compat { folder, version, libraries }));
            }
        }
    }
    newest.map(|(_, compat)| compat)
}

/// Lets the names that programs open lead to the image's libraries instead of the driver's.
pub fn prefer(compat: &Compat, survey: &Survey, edits: &mut Edits) {
    let Some(driver) = &survey.version else { return };
    let folder = crate::cdi::library_folder(&survey.arch);
    for name in &compat.libraries {
        let Some(stem) = name.strip_suffix(&compat.version) else { continue };
        let target = compat.folder.join(name).display().to_string();
        let own = format!("{stem}{driver}");
        for link in edits.links.iter_mut().filter(|link| link.target == own) {
            link.target.clone_from(&target);
        }
        // Some are opened by their whole name, by libcuda of the same version.
        edits.links.push(Link { path: folder.join(name), target });
    }
}

fn names(folder: &Path) -> Vec<String> {
    if !is_folder(folder) {
        return Vec::new();
    }
    let entries = fs::read_dir(folder).into_iter().flatten().take(MOST);
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|about| about.is_dir())
}

/// Whether a layer has something else at the path or above it: a file, a link, or overlayfs' mark for
/// what was deleted (a character device 0/0).
fn hides(upper: &Path, path: &Path) -> bool {
    let parts = path.ancestors().filter(|part| !part.as_os_str().is_empty());
    parts.into_iter().any(|part| {
        let about = upper.join(part).symlink_metadata();
        about.is_ok_and(|about| !about.is_dir())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        dir
    }

    #[test]
    fn the_newest_that_is_not_hidden() {
        let base = layer(&[
            "usr/local/cuda-12.4/compat/libcuda.so.550.54.15",
            "usr/local/cuda-12.4/compat/libcuda.so.1",
            "usr/local/cuda-12.4/compat/libnvidia-nvvm.so.550.54.15",
            "usr/local/cuda-13.0/compat/libcuda.so.580.65.06",
            "usr/local/cuda-13.0/compat/libcuda.so.evil",
        ]);
        let lowers = |upper: &tempfile::TempDir| vec![upper.path().into(), base.path().into()];
        let found = find(&lowers(&layer(&[]))).unwrap();
        assert_eq!(
            (found.folder.to_str(), found.version.as_str(), found.libraries.len()),
            (Some("/usr/local/cuda-13.0/compat"), "580.65.06", 1)
        );
        // A layer above that deleted it: here a file in the folder's place.
        let found = find(&lowers(&layer(&["usr/local/cuda-13.0"]))).unwrap();
        assert_eq!((found.version.as_str(), found.libraries.len()), ("550.54.15", 2));
        assert_eq!(find(&lowers(&layer(&["usr/local"]))), None);
        // A link is not followed.
        let links = tempfile::tempdir().unwrap();
        fs::create_dir_all(links.path().join("usr/local")).unwrap();
        let from = base.path().join("usr/local/cuda-13.0");
        std::os::unix::fs::symlink(from, links.path().join("usr/local/cuda")).unwrap();
        assert_eq!(find(&[links.path().into()]), None);
    }
}
