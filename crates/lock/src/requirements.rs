//! Files of Python requirements.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::Error;

/// No honest specification, requirements file or lock is larger.
const LIMIT: u64 = 16 << 20;

/// What a requirements file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// pip's requirements.txt.
    Requirements,
    /// A PEP 751 lock: taken as it is.
    Pylock,
    /// A project: its dependencies.
    Pyproject,
}

/// A file of Python requirements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequirementsFile {
    /// As the user wrote it; after [`RequirementsFile::load`], from the folder it was loaded from.
    #[serde(skip)]
    pub path: PathBuf,
    /// What it is, by its name.
    pub kind: FileKind,
    /// Its text, once loaded.
    pub text: Option<String>,
}

impl RequirementsFile {
    /// The file at `path`; what it is follows from its name. `None` when the name says nothing.
    pub fn new(path: impl Into<PathBuf>) -> Option<Self> {
        let path = path.into();
        let name = path.file_name()?.to_str()?;
        let kind = match name {
            "pyproject.toml" => FileKind::Pyproject,
            "pylock.toml" => FileKind::Pylock,
            name if name.starts_with("pylock.") && name.ends_with(".toml") => FileKind::Pylock,
            name if name.ends_with(".txt") || name.ends_with(".in") => FileKind::Requirements,
            _ => return None,
        };
        Some(Self { path, kind, text: None })
    }

    /// Reads its text; a relative path counts from `folder`.
    ///
    /// # Errors
    /// It can't be read, or is too large.
    pub fn load(&mut self, folder: &Path) -> Result<(), Error> {
        self.path = folder.join(&self.path);
        self.text = Some(read_text(&self.path)?);
        Ok(())
    }
}

/// The text of a file that a person wrote.
pub(crate) fn read_text(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    let read = file.take(LIMIT + 1).read_to_string(&mut text).map_err(failed)?;
    if read as u64 > LIMIT {
        return Err(Error::TooLarge { path: path.to_owned(), limit: LIMIT });
    }
    Ok(text)
}
