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

/// The version of the torch in the first of these folders that has one, as its package is named: nothing of it is run.
pub(crate) fn torch(packages: &[PathBuf]) -> Option<String> {
    /// Characters of a version: more is none.
    const MOST: usize = 64;
    let is_version = |text: &&str| {
        let letters = |c: char| c.is_ascii_alphanumeric() || ".+!_-".contains(c);
        text.len() <= MOST
            && text.starts_with(|c: char| c.is_ascii_digit())
            && text.chars().all(letters)
    };
    packages.iter().find_map(|folder| {
        let entries = std::fs::read_dir(folder).ok()?;
        entries.flatten().find_map(|entry| {
            let name = entry.file_name();
            let named = name.to_str()?.strip_prefix("torch-")?;
            let version =
                [".dist-info", ".egg-info"].iter().find_map(|end| named.strip_suffix(end))?;
            Some(version).filter(is_version).map(str::to_owned)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_torch_is_that_of_the_first_folder() {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str, packages: &[&str]| {
            let folder = root.path().join(name);
            packages.iter().for_each(|one| std::fs::create_dir_all(folder.join(one)).unwrap());
            folder
        };
        let none =
            folder("none", &["torchvision-0.30.0.dist-info", "torch-\u{1b}[2J.dist-info", "torch"]);
        let first = folder("first", &["torch-2.15.0+cu130.dist-info"]);
        let second = folder("second", &["torch-2.9.0a0+145a3a7.egg-info"]);
        let missing = root.path().join("missing");
        assert_eq!(torch(&[missing.clone(), none.clone()]), None);
        let found =
            |all: &[&PathBuf]| torch(&all.iter().map(|one| (*one).clone()).collect::<Vec<_>>());
        assert_eq!(found(&[&missing, &none, &first, &second]).as_deref(), Some("2.15.0+cu130"));
        assert_eq!(found(&[&second, &first]).as_deref(), Some("2.9.0a0+145a3a7"));
    }
}
