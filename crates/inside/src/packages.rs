//! Where Python's packages are: those of CUDA's libraries among them.

use std::path::{Path, PathBuf};

/// The interpreter named, or the first on the PATH.
pub(crate) fn interpreter(python: Option<&Path>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path);
    match python {
        Some(python) if python.components().count() > 1 => Some(python.to_owned()),
        Some(python) => folders.map(|dir| dir.join(python)).find(|file| file.exists()),
        None => folders
            .flat_map(|dir| ["python", "python3"].map(|name| dir.join(name)))
            .find(|file| file.exists()),
    }
}

/// Folders of Python packages: of the interpreter named, or of the first on the PATH; what PYTHONPATH
/// names; and the usual ones.
pub(crate) fn packages(python: Option<&Path>) -> Vec<PathBuf> {
    let python = interpreter(python);
    // A virtual environment's python is a link into the installation that it extends.
    let prefix = |file: PathBuf| Some(file.parent()?.parent()?.to_owned());
    let prefixes = [python.clone(), python.and_then(|file| file.canonicalize().ok())];
    let prefixes = prefixes.into_iter().flatten().filter_map(prefix);
    let usual = ["/usr/local", "/usr"].map(PathBuf::from);
    let mut found: Vec<PathBuf> = std::env::var_os("PYTHONPATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default();
    for prefix in prefixes.chain(usual) {
        let Ok(entries) = std::fs::read_dir(prefix.join("lib")) else { continue };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with("python3") {
                found
                    .extend(["site-packages", "dist-packages"].map(|name| entry.path().join(name)));
            }
        }
    }
    found
}
