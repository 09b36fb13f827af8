//! The CUDA toolkit of a `devel` image: one folder as everybody expects it, `/usr/local/cuda`, made
//! of links into NVIDIA's wheels.
//!
//! The wheels of CUDA 12 have a folder for each part (`nvidia/cuda_nvcc`, `nvidia/cuda_runtime`),
//! those of CUDA 13 one for all (`nvidia/cu13`); both hold `bin`, `include`, `lib` and `nvvm`. None
//! has the unversioned names (`libcublas.so`) that linkers look for.

use std::collections::{BTreeMap, BTreeSet};

use sconce_layer::{Entry, Kind, Meta, Wheel};

use crate::venv::site_packages;

/// Where the toolkit lies, without the leading `/`.
const HOME: &str = "usr/local/cuda";

/// Folders of a wheel's part and what they are called in the toolkit.
const FOLDERS: [(&str, &str); 4] =
    [("bin", "bin"), ("include", "include"), ("lib", "lib64"), ("nvvm", "nvvm")];

/// Environment variables of a `devel` image besides PATH.
pub(crate) const ENV: [(&str, &str); 3] = [
    ("CUDA_HOME", "/usr/local/cuda"),
    // nvcc looks beside its own file, which is in a wheel; the rest is here.
    (
        "NVCC_PREPEND_FLAGS",
        "-I/usr/local/cuda/include -L/usr/local/cuda/lib64 -Xlinker -rpath=/usr/local/cuda/lib64",
    ),
    ("LIBRARY_PATH", "/usr/local/cuda/lib64"),
];

/// And of the container that a wheel is built in: a setup.py that calls the C++ compiler itself names the include folder
/// of one wheel, and cuDNN's and NCCL's headers are in others (transformer-engine-torch).
pub(crate) const BUILD_ENV: [(&str, &str); 1] = [("CPATH", "/usr/local/cuda/include")];

/// The links of the toolkit that these wheels make. Of equal names the first wheel's counts.
pub(crate) fn links(wheels: &[Wheel], python: &str) -> Vec<Entry> {
    let site = site_packages(python);
    let mut links: BTreeMap<String, String> = BTreeMap::new();
    let mut folders = BTreeSet::new();
    for wheel in wheels {
        for name in wheel.files() {
            let Some(inside) = place(name) else { continue };
            for (end, _) in inside.match_indices('/') {
                folders.insert(format!("{HOME}/{}", &inside[..end]));
            }
            let target = format!("/{site}/{name}");
            if let Some(plain) = unversioned(&inside) {
                links.entry(format!("{HOME}/{plain}")).or_insert_with(|| target.clone());
            }
            links.entry(format!("{HOME}/{inside}")).or_insert(target);
        }
    }
    if links.is_empty() {
        return Vec::new();
    }
    folders.insert(HOME.into());
    let folders = folders.into_iter().map(|path| Entry {
        path,
        kind: Kind::Directory,
        meta: Meta::DIRECTORY,
    });
    let links = links.into_iter().map(|(path, target)| Entry {
        path,
        kind: Kind::Symlink { target },
        meta: Meta::SYMLINK,
    });
    folders.chain(links).collect()
}

/// `nvidia/cu13/lib/libcudart.so.13` is `lib64/libcudart.so.13` of the toolkit.
fn place(name: &str) -> Option<String> {
    let (_, inside) = name.strip_prefix("nvidia/")?.split_once('/')?;
    let (folder, rest) = inside.split_once('/')?;
    let (_, folder) = FOLDERS.iter().find(|(from, _)| *from == folder)?;
    (!rest.is_empty() && !rest.ends_with(".py")).then(|| format!("{folder}/{rest}"))
}

/// `lib64/libcublas.so.13` is looked for as `lib64/libcublas.so`.
fn unversioned(inside: &str) -> Option<&str> {
    let (plain, version) = inside.split_once(".so.")?;
    let whole =
        inside.starts_with("lib64/") && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    whole.then(|| &inside[..plain.len() + 3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_both_layouts_have_their_place() {
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(place(name).as_deref(), expected, "{name}");
        };
        check("nvidia/cu13/bin/nvcc", Some("bin/nvcc"));
        check("nvidia/cuda_nvcc/nvvm/bin/cicc", Some("nvvm/bin/cicc"));
        check("nvidia/cuda_runtime/include/crt/host_defines.h", Some("include/crt/host_defines.h"));
        check("nvidia/cublas/lib/libcublas.so.12", Some("lib64/libcublas.so.12"));
        check("nvidia/cublas/lib/__init__.py", None);
        check("nvidia/__init__.py", None);
        check("torch/lib/libtorch.so", None);
        check("nvidia/cu13/lib/", None);
    }

    #[test]
    fn linkers_find_libraries_without_their_version() {
        assert_eq!(unversioned("lib64/libcublas.so.13"), Some("lib64/libcublas.so"));
        assert_eq!(unversioned("lib64/libcufile.so.1.2.3"), Some("lib64/libcufile.so"));
        assert_eq!(unversioned("lib64/libcudart_static.a"), None);
        assert_eq!(unversioned("include/a.so.1"), None);
    }
}
