//! Where CUDA's libraries are: the linker's folders, a toolkit, or Python's packages.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Refusal;
use crate::library::Opened;

/// Folders beside those that the linker knows.
#[derive(Clone, Debug, Default)]
pub struct Places {
    folders: Vec<PathBuf>,
}

impl Places {
    /// The folders of wheels below these roots of Python packages (`site-packages`): `nvidia/cublas/lib` until
    /// CUDA 12, `nvidia/cu13/lib` since; torch's own; then a toolkit's.
    pub fn of_packages(packages: &[PathBuf]) -> Self {
        let mut folders = Vec::new();
        for root in packages {
            let entries = fs::read_dir(root.join("nvidia")).into_iter().flatten().flatten();
            let mut found: Vec<PathBuf> = entries.map(|entry| entry.path().join("lib")).collect();
            found.push(root.join("torch/lib"));
            found.retain(|folder| folder.is_dir());
            found.sort();
            folders.extend(found);
        }
        folders.push(PathBuf::from("/usr/local/cuda/lib64"));
        Self { folders }
    }

    /// Opens the first of `names` that there is: by its plain name, as any program would find it, then in the
    /// folders. One that is there and does not open is an error.
    pub(crate) fn open(&self, names: &'static [&'static str]) -> Result<Opened, Refusal> {
        if let Some(found) = names.iter().find_map(|name| Opened::open(Path::new(name)).ok()) {
            return Ok(found);
        }
        let files =
            names.iter().flat_map(|name| self.folders.iter().map(move |folder| folder.join(name)));
        let Some(file) = files.into_iter().find(|file| file.exists()) else {
            return Err(Refusal::Missing { name: names.first().copied().unwrap_or_default() });
        };
        self.open_neighbours(&file);
        Opened::open(&file)
    }

    /// What a library of a wheel needs or opens by name lies beside it, or in another wheel's folder, where the linker does
    /// not look: what is opened beforehand is found. What fails here the library itself will say.
    fn open_neighbours(&self, file: &Path) {
        const NEEDED: &[(&str, &[&str])] =
            &[("libnvrtc.", &["libnvrtc-builtins.so."]), ("libcusparseLt.", &["libnvJitLink.so."])];
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let needed = NEEDED.iter().filter(|(library, _)| name.starts_with(library));
        for needed in needed.flat_map(|(_, needed)| *needed) {
            for folder in file.parent().into_iter().chain(self.folders.iter().map(PathBuf::as_path))
            {
                let entries = fs::read_dir(folder).into_iter().flatten().flatten();
                let fits = |path: &PathBuf| {
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    name.starts_with(needed) && !name.contains(".alt.")
                };
                if entries
                    .map(|entry| entry.path())
                    .filter(fits)
                    .any(|path| Opened::open(&path).is_ok())
                {
                    break;
                }
            }
        }
    }
}
