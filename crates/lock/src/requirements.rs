//! Files of Python requirements.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::conda;
use crate::error::Error;
use crate::leads::Leads;
use crate::pyproject::{self, Project};
use crate::requirements_txt::{self, Ask, Fault, Line};

/// No honest specification, requirements file or lock is larger.
const LIMIT: u64 = 16 << 20;
/// Files that one includes, all together.
const MOST_INCLUDED: usize = 64;
/// Files that include each other.
const MOST_DEEP: usize = 16;
/// What conda's file is called.
const CONDA: [&str; 4] = ["environment.yml", "environment.yaml", "conda.yml", "conda.yaml"];

/// Whether a line is a requirement (PEP 508), and if not, why.
pub(crate) fn check_requirement(line: &str) -> Result<(), String> {
    // The parser panics where a name or an extra ends with one of these and something follows.
    let ends_badly = |name: &str| name.ends_with(['-', '_', '.']);
    let line_start = line.trim_start();
    let rest =
        line_start.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let name = &line_start[..line_start.len() - rest.len()];
    let extras = rest.trim_start().strip_prefix('[').and_then(|rest| rest.split(']').next());
    let mut names = std::iter::once(name).chain(extras.unwrap_or_default().split(','));
    if let Some(name) = names.find(|name| ends_badly(name.trim())) {
        return Err(format!(
            "a name ends with a letter or a digit, and `{}` does not",
            name.trim()
        ));
    }
    let parsed = pep508_rs::Requirement::<pep508_rs::VerbatimUrl>::parse(line, "/");
    parsed.map(drop).map_err(|error| shown(&error.to_string()))
}

/// A parser's words; the text that they point into, and what points, on lines of their own.
pub(crate) fn shown(words: &str) -> String {
    let mut lines = words.trim_end().lines();
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |all, line| format!("{all}\n    {line}"))
}

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
    /// uv's own lock of a project: taken as it is.
    UvLock,
    /// conda's environment.yml.
    Conda,
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
    /// The files that it includes (`-r`, `-c`), once loaded, in the order of their lines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub included: Vec<Included>,
    /// The lines of a requirements.txt and of the files it includes, once loaded.
    #[serde(skip)]
    pub lines: Vec<Line>,
    /// The same for constraints.
    #[serde(skip)]
    pub constraints: Vec<Line>,
    /// The pyproject.toml among them, once loaded.
    #[serde(skip)]
    pub(crate) projects: Vec<Project>,
    /// What an environment.yml asks for besides its requirements, once loaded.
    #[serde(skip)]
    pub(crate) conda: Box<conda::Environment>,
    /// The items of a list in sconce.toml, with the line that each begins at.
    #[serde(skip)]
    items: Option<Vec<(usize, String)>>,
}

/// A file that a requirements.txt includes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Included {
    /// Where it is.
    #[serde(skip)]
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// What counts while files are read.
#[derive(Clone, Copy)]
struct Loading<'a> {
    leads: &'a Leads,
    groups: bool,
}

impl RequirementsFile {
    /// The file at `path`; what it is follows from its name. `None` when the name says nothing.
    pub fn new(path: impl Into<PathBuf>) -> Option<Self> {
        let path = path.into();
        let name = path.file_name()?.to_str()?;
        let kind = match name {
            "pyproject.toml" => FileKind::Pyproject,
            "pylock.toml" => FileKind::Pylock,
            "uv.lock" => FileKind::UvLock,
            name if CONDA.contains(&name) => FileKind::Conda,
            name if name.starts_with("pylock.") && name.ends_with(".toml") => FileKind::Pylock,
            name if name.ends_with(".txt") || name.ends_with(".in") => FileKind::Requirements,
            _ => return None,
        };
        Some(Self::of_kind(path, kind))
    }

    /// A list in sconce.toml that names files: its items are read as the lines of a requirements.txt.
    pub(crate) fn of_list(items: Vec<(usize, String)>) -> Self {
        let path = PathBuf::from("sconce.toml");
        Self { items: Some(items), ..Self::of_kind(path, FileKind::Requirements) }
    }

    fn of_kind(path: PathBuf, kind: FileKind) -> Self {
        let (included, lines, constraints) = (Vec::new(), Vec::new(), Vec::new());
        let (projects, items) = (Vec::new(), None);
        let conda = Box::default();
        Self { path, kind, text: None, included, lines, constraints, projects, conda, items }
    }

    /// Reads its text and that of the files it includes; a relative path counts from the project's folder.
    /// `groups` says whether the dependency groups of a project are asked for.
    ///
    /// # Errors
    /// One of them can't be read, is too large, or asks for what would have to be built.
    pub(crate) fn load(&mut self, leads: &Leads, groups: bool) -> Result<(), Error> {
        self.load_all(Loading { leads, groups }).map_err(|error| without_text(error, leads))
    }

    fn load_all(&mut self, loading: Loading<'_>) -> Result<(), Error> {
        let leads = loading.leads;
        self.path = leads.folder().join(&self.path);
        let path = self.path.clone();
        if let Some(items) = self.items.clone() {
            for (number, item) in &items {
                let mut lines = requirements_txt::parse(item, &path)
                    .map_err(|fault| refused(&path, Fault { number: *number, ..fault }))?;
                lines.iter_mut().for_each(|line| line.number = *number);
                self.take(&path, lines, false, &mut vec![path.clone()], loading)?;
            }
            let items: Vec<_> = items.into_iter().map(|(_, item)| item).collect();
            self.text = Some(items.join("\n"));
            return Ok(());
        }
        let text = read_text(leads, &path)?;
        match self.kind {
            FileKind::Requirements => {
                self.include(&path, &text, false, &mut Vec::new(), loading)?
            }
            FileKind::Pyproject => self.project(&path, &text, loading)?,
            FileKind::UvLock => {
                let path = path.with_file_name("pyproject.toml");
                let text = read_text(leads, &path)?;
                pyproject::parse(&text).map_err(|fault| refused(&path, fault))?;
                self.included.push(Included { path, text });
            }
            FileKind::Conda => {
                let found = conda::read(&text, &path).map_err(|fault| refused(&path, fault))?;
                *self.conda = found;
                let lines = std::mem::take(&mut self.conda.lines);
                self.take(&path, lines, false, &mut vec![path.clone()], loading)?;
            }
            FileKind::Pylock => {}
        }
        self.text = Some(text);
        Ok(())
    }

    /// Takes the lines of a file and of those it includes; `open` are the files on the way to it.
    fn include(
        &mut self,
        path: &Path,
        text: &str,
        constraints: bool,
        open: &mut Vec<PathBuf>,
        loading: Loading<'_>,
    ) -> Result<(), Error> {
        open.push(path.to_owned());
        let lines = requirements_txt::parse(text, path).map_err(|fault| refused(path, fault))?;
        self.take(path, lines, constraints, open, loading)?;
        open.pop();
        Ok(())
    }

    /// The dependencies of a project, as far as they are known without it; uv reads the file itself.
    fn project(&mut self, path: &Path, text: &str, loading: Loading<'_>) -> Result<(), Error> {
        let found =
            pyproject::read(text, path, loading.groups).map_err(|fault| refused(path, fault))?;
        let line = |(number, text): (usize, String)| Line {
            file: path.to_owned(),
            number,
            ask: Ask::Requirement(text),
        };
        self.constraints.extend(found.constraints.iter().cloned().map(line));
        self.projects.push(found);
        Ok(())
    }

    fn take(
        &mut self,
        path: &Path,
        lines: Vec<Line>,
        constraints: bool,
        open: &mut Vec<PathBuf>,
        loading: Loading<'_>,
    ) -> Result<(), Error> {
        for line in lines {
            let Ask::File { path: name, constraints: also } = &line.ask else {
                if constraints { &mut self.constraints } else { &mut self.lines }.push(line);
                continue;
            };
            let fault = |why: &str| {
                let (number, why) = (line.number, why.to_owned());
                refused(path, Fault { number, text: name.clone(), why, builds: false })
            };
            let inner = path.parent().unwrap_or(Path::new("")).join(name);
            if open.contains(&inner) {
                return Err(fault("it includes itself"));
            }
            if open.len() > MOST_DEEP {
                return Err(fault(&format!("files include each other more than {MOST_DEEP} deep")));
            }
            if self.included.len() == MOST_INCLUDED {
                return Err(fault(&format!("more than {MOST_INCLUDED} files are included")));
            }
            let text = read_text(loading.leads, &inner).map_err(|error| match error {
                Error::Read { source, .. } => fault(&format!("can't be read: {source}")),
                error => error,
            })?;
            self.included.push(Included { path: inner.clone(), text: text.clone() });
            match Self::new(&inner).map(|file| file.kind) {
                Some(FileKind::Pyproject) if constraints || *also => {
                    return Err(fault("a pyproject.toml can't be constraints"));
                }
                Some(FileKind::Pyproject) => self.project(&inner, &text, loading)?,
                Some(FileKind::Pylock) => {
                    return Err(fault(
                        "a pylock.toml is taken as it is: `requirements = \"pylock.toml\"`",
                    ));
                }
                Some(FileKind::UvLock) => {
                    return Err(fault("a uv.lock is taken as it is: `requirements = \"uv.lock\"`"));
                }
                Some(FileKind::Conda) => {
                    return Err(fault(
                        "an environment.yml stands alone: `requirements = \"environment.yml\"`",
                    ));
                }
                _ => self.include(&inner, &text, constraints || *also, open, loading)?,
            }
        }
        Ok(())
    }
}

/// Names, and the sentence that says the way (uv, "Exporting a lockfile"; poetry-plugin-export; conda-lock).
const OTHERS: &[(&[&str], &str)] = &[
    (
        &["poetry.lock"],
        "`poetry export -o requirements.txt` writes it as a file that is read: \
         requirements = \"requirements.txt\"",
    ),
    (
        &["pdm.lock"],
        "`pdm export -o requirements.txt` writes it as a file that is read: \
         requirements = \"requirements.txt\"",
    ),
    (
        &["Pipfile", "Pipfile.lock"],
        "`pipenv requirements > requirements.txt` writes it as a file that is read: \
         requirements = \"requirements.txt\"",
    ),
    (
        &["uv.lock"],
        "it is read with the pyproject.toml that it was made from, in the same folder: \
         requirements = \"uv.lock\"",
    ),
    (
        &["conda-lock.yml", "meta.yaml"],
        "conda's packages are not PyPI's: name the Python packages in a requirements.txt; \
         libraries belong in `packages` under [base]",
    ),
    (
        &["Dockerfile", "Containerfile"],
        "what its `pip install` names belongs in `requirements`, what its `apt-get install` names in \
         `packages` under [base], ENV and CMD in `env` and `command` under [app]",
    ),
    (
        &["setup.py", "setup.cfg"],
        "what it needs is known only by running it: name it under [project] dependencies of a \
         pyproject.toml, or in a requirements.txt",
    ),
];

/// What a file of another tool's is turned into, by its name; nothing for a name that says nothing.
pub(crate) fn other_tool(path: &str) -> Option<&'static str> {
    let name = Path::new(path).file_name()?.to_str()?;
    OTHERS.iter().find(|(names, _)| names.contains(&name)).map(|(_, way)| *way)
}

/// What to write instead, where a text that stands for a package is the name of a file that says what a project
/// needs: `pyproject.toml`.
pub(crate) fn instead_of_file(text: &str) -> Option<String> {
    if text.contains(char::is_whitespace) || text.contains(['@', ';', '[', '=']) {
        return None;
    }
    let way = match RequirementsFile::new(text) {
        // A package may be called `zope.in`; a file like this is not.
        Some(_) if text.ends_with(".in") && !text.contains("requirements") => return None,
        Some(file) => match file.kind {
            FileKind::Requirements | FileKind::Pyproject => {
                format!("`requirements = [\"-r {text}\"]` in sconce.toml reads it")
            }
            FileKind::Pylock | FileKind::UvLock | FileKind::Conda => {
                format!("it stands alone: `requirements = \"{text}\"` in sconce.toml reads it")
            }
        },
        None => other_tool(text)?.to_owned(),
    };
    Some(format!("it is a file and not a package: {way}"))
}

/// A file in a project's folder that says what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectFile {
    /// Its name.
    pub name: &'static str,
    /// Where it is not read, the sentence that says what to do instead.
    pub way: Option<Cow<'static, str>>,
}

/// The file in a folder that says what a project needs: the first that is read, else one that says the way.
pub fn project_file(folder: &Path) -> Option<ProjectFile> {
    let leads = Leads::of(folder);
    // A relative one would count from itself.
    let folder = leads.folder();
    let declares = |path: &Path| match read_text(&leads, path) {
        // What can't be read, or is no TOML, is refused by its name where it is read.
        Ok(text) if pyproject::parse(&text).is_err() => true,
        Ok(text) => pyproject::read(&text, path, false)
            .is_ok_and(|project| !project.dependencies.is_empty()),
        Err(_) => true,
    };
    let names = ["pyproject.toml", "requirements.txt"].into_iter().chain(CONDA);
    let read = names.chain(["pylock.toml"]).find(|name| {
        let path = folder.join(name);
        // So is what is no file: a folder, a link to nothing, one that leads to itself.
        let is_there = path.symlink_metadata().is_ok();
        is_there && (*name != "pyproject.toml" || declares(&path))
    });
    if let Some(name) = read {
        return Some(ProjectFile { name, way: None });
    }
    let name = "pyproject.toml";
    if let Ok(text) = read_text(&leads, Path::new(name)) {
        // What it needs is in it, and not in a form that is read; or with a fault, which is told where it is read.
        let own = pyproject::names_dependencies(&text);
        let way = if own { None } else { pyproject::way(&text) };
        let fails = || pyproject::read(&text, Path::new(name), false).is_err();
        // Settings of tools alone ask for nothing.
        if own || way.is_some() || (pyproject::has_project(&text) && fails()) {
            return Some(ProjectFile { name, way });
        }
    }
    let others = OTHERS.iter().flat_map(|(names, way)| names.iter().map(|name| (*name, *way)));
    let mut there = others.filter(|(name, _)| folder.join(name).is_file());
    there.next().map(|(name, way)| ProjectFile { name, way: Some(way.into()) })
}

pub(crate) fn refused(path: &Path, fault: Fault) -> Error {
    let Fault { number, text, why, builds } = fault;
    Error::Requirement { path: path.to_owned(), number, text, why, builds }
}

/// An error without what stands in a file outside the project's folder: nobody has said yet that it may be read, and a
/// project could have any file of this person's shown.
fn without_text(error: Error, leads: &Leads) -> Error {
    match error {
        Error::Requirement { path, number, builds, .. }
            if !leads.real(&path).is_some_and(|real| real.starts_with(leads.folder())) =>
        {
            let why = "is not what a file of requirements can have (what stands there is not shown: the file is \
                       outside the project's folder)";
            Error::Requirement { path, number, text: String::new(), why: why.to_owned(), builds }
        }
        error => error,
    }
}

/// The text of a file that a project names.
pub(crate) fn read_text(leads: &Leads, path: &Path) -> Result<String, Error> {
    let path = leads.folder().join(path);
    let real = leads.real(&path).unwrap_or_else(|| path.clone());
    sconce_open::read_to_string_unfollowed(&real, LIMIT)
        .map_err(|source| Error::Read { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_not_packages() {
        for file in [
            "requirements.txt",
            "dev/requirements-gpu.txt",
            "./requirements.in",
            "pyproject.toml",
            "pylock.train.toml",
            "uv.lock",
            "environment.yml",
            "setup.py",
            "Pipfile",
            "poetry.lock",
        ] {
            assert!(instead_of_file(file).is_some(), "{file}");
        }
        for package in ["zope.in", "toml", "pipfile-api", "a.txt @ https://h.invalid/a.whl", "."] {
            assert_eq!(instead_of_file(package), None, "{package}");
        }
    }

    #[test]
    fn requirements_are_checked_without_a_panic() {
        for good in ["torch", " numpy >=2 , <3", "a-b.c_d[x-y, z] ; python_version > '3.9'"] {
            assert_eq!(check_requirement(good), Ok(()), "{good}");
        }
        for bad in ["a-/b", "a-", "a. >1", "a[b-,c]", "a [ b_ ]", "-a", "a[b-", "", "[", "a-[b]"] {
            assert!(check_requirement(bad).is_err(), "{bad}");
        }
    }
}
