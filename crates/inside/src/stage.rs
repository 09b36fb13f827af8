//! What is put into the container: the program, a file for its answers, and sconce itself.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sconce_run::Volume;

use crate::error::Error;

/// Where the programs and their answers lie in the container.
pub(crate) const INSIDE: &str = "/run/sconce-verify";

/// What is put into the container.
pub(crate) struct Stage {
    /// The file of answers, on this machine.
    pub(crate) results: PathBuf,
    /// What shows all of it inside.
    pub(crate) volumes: Vec<Volume>,
}

impl Stage {
    /// Writes it into `folder`: sconce, a file of answers, and a program of these files.
    pub(crate) fn make(folder: &Path, files: &[(&str, &str)]) -> Result<Self, Error> {
        let write = |path: &Path, text: &str| {
            path.parent()
                .map_or(Ok(()), fs::create_dir_all)
                .and_then(|()| fs::write(path, text))
                .map_err(|source| Error::Write { path: path.to_owned(), source })
        };
        let program = folder.join("program");
        for (name, text) in files {
            write(&program.join(name), text)?;
        }
        let results = folder.join("results");
        write(&results, "")?;
        // Whoever the image runs as must be able to answer.
        fs::set_permissions(&results, Permissions::from_mode(0o666))
            .map_err(|source| Error::Write { path: results.clone(), source })?;
        let myself = std::env::current_exe().map_err(Error::Myself)?;
        let volume = |source: PathBuf, name: &str, read_only| Volume {
            source,
            target: Path::new(INSIDE).join(name),
            read_only,
            resolved: false,
        };
        let mut volumes =
            vec![volume(results.clone(), "results", false), volume(myself, "sconce", true)];
        if !files.is_empty() {
            volumes.push(volume(program, "program", true));
        }
        Ok(Self { results, volumes })
    }
}
