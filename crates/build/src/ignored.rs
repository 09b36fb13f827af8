//! What of a project's folder is not a part of its app: .gitignore, .dockerignore and `exclude`.
//!
//! A .gitignore holds for its folder and those below, the nearest first (gitignore(5)); those above the
//! project and the user's own are of the machine and not of the project. Of .dockerignore there is the one
//! beside `sconce.toml` (Docker, "Build context", ".dockerignore files"): its patterns begin at that
//! folder, the last that fits decides, and one that begins with `!` brings a file of a left out folder back.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use sconce_open::Folder;

use crate::error::Error;

/// The largest file of patterns that is read, bytes.
const LIMIT: u64 = 1 << 20;
/// The most patterns of one file.
const MOST: usize = 10_000;

/// What is left out of the folders that an app includes.
pub(crate) struct Ignored<'a> {
    folder: &'a Folder,
    /// The patterns of `exclude`.
    exclude: Gitignore,
    docker: Vec<DockerPattern>,
    /// The .gitignore of each folder that has been walked; the project's own is that of "".
    git: BTreeMap<String, Option<Gitignore>>,
}

/// A line of a .dockerignore.
struct DockerPattern {
    pattern: Gitignore,
    /// Whether it brings back what fits.
    back: bool,
}

/// What becomes of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is taken.
    Taken,
    /// It is left out, but what lies below it may be taken.
    Passed,
    /// It is left out with all that lies below it.
    LeftOut,
}

impl<'a> Ignored<'a> {
    /// Of a project's folder, with the patterns of `exclude`.
    ///
    /// # Errors
    /// A pattern that is none, or a .dockerignore that can't be read.
    pub(crate) fn new(folder: &'a Folder, exclude: &[String]) -> Result<Self, Error> {
        let of = |key: &str| format!("exclude = [\"{key}\"] under [app]");
        let mut builder = GitignoreBuilder::new("");
        for pattern in exclude {
            builder.add_line(None, pattern).map_err(|error| bad(&of(pattern), &error))?;
        }
        let exclude = builder.build().map_err(|error| bad("`exclude` under [app]", &error))?;
        let mut docker = Vec::new();
        for (number, line) in lines(folder, ".dockerignore")?.iter().enumerate() {
            let place = || format!(".dockerignore, line {}", number + 1);
            docker.extend(docker_pattern(line).map_err(|error| bad(&place(), &error))?);
        }
        Ok(Self { folder, exclude, docker, git: BTreeMap::new() })
    }

    /// Whether `exclude` leaves a path out that an include names itself.
    pub(crate) fn excludes(&self, path: &str, folder: bool) -> bool {
        self.exclude.matched_path_or_any_parents(path, folder).is_ignore()
    }

    /// What becomes of a path that was found in a folder.
    ///
    /// # Errors
    /// A .gitignore on the way can't be read.
    pub(crate) fn fate(&mut self, path: &str, folder: bool) -> Result<Fate, Error> {
        if self.excludes(path, folder) || self.git_ignores(path, folder)? {
            return Ok(Fate::LeftOut);
        }
        Ok(match self.docker_ignores(path, folder) {
            false => Fate::Taken,
            true if folder && self.docker.iter().any(|line| line.back) => Fate::Passed,
            true => Fate::LeftOut,
        })
    }

    fn docker_ignores(&self, path: &str, folder: bool) -> bool {
        let fits = |line: &&DockerPattern| {
            line.pattern.matched_path_or_any_parents(path, folder).is_ignore()
        };
        self.docker.iter().rfind(fits).is_some_and(|line| !line.back)
    }

    /// The nearest .gitignore that has a word about a path decides.
    fn git_ignores(&mut self, path: &str, folder: bool) -> Result<bool, Error> {
        let mut above = path;
        loop {
            above = above.rsplit_once('/').map_or("", |(above, _)| above);
            if !self.git.contains_key(above) {
                let read = gitignore(self.folder, above)?;
                self.git.insert(above.to_owned(), read);
            }
            if let Some(Some(rules)) = self.git.get(above) {
                let inside = path.strip_prefix(above).unwrap_or(path).trim_start_matches('/');
                match rules.matched(inside, folder) {
                    Match::None => {}
                    Match::Ignore(_) => return Ok(true),
                    Match::Whitelist(_) => return Ok(false),
                }
            }
            if above.is_empty() {
                return Ok(false);
            }
        }
    }
}

/// The .gitignore of a folder. Git passes over a line that is not a pattern, and so does this.
fn gitignore(folder: &Folder, at: &str) -> Result<Option<Gitignore>, Error> {
    let name = if at.is_empty() { ".gitignore".to_owned() } else { format!("{at}/.gitignore") };
    let lines = lines(folder, &name)?;
    if lines.is_empty() {
        return Ok(None);
    }
    let mut builder = GitignoreBuilder::new("");
    for line in &lines {
        let _ = builder.add_line(None, line);
    }
    builder.build().map(Some).map_err(|error| bad(&name, &error))
}

/// The lines of a file of patterns beneath the folder; none where there is none.
fn lines(folder: &Folder, name: &str) -> Result<Vec<String>, Error> {
    let unfit = |why: String| Error::Ignore { place: name.to_owned(), why };
    let bytes = match folder.read(Path::new(name), LIMIT) {
        Ok(bytes) => bytes,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(unfit(format!("can't be read: {error}"))),
    };
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_start_matches('\u{feff}');
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    match lines.len() {
        0..=MOST => Ok(lines),
        more => Err(unfit(format!("has {more} lines, and {MOST} are read"))),
    }
}

/// A line of a .dockerignore as a pattern that begins at the project's folder: `/a/*.py`.
fn docker_pattern(line: &str) -> Result<Option<DockerPattern>, ignore::Error> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (back, rest) = match line.strip_prefix('!') {
        Some(rest) => (true, rest.trim()),
        None => (false, line),
    };
    let parts: Vec<&str> = rest.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.is_empty() {
        return Ok(None);
    }
    let mut builder = GitignoreBuilder::new("");
    builder.add_line(None, &format!("/{}", parts.join("/")))?;
    Ok(Some(DockerPattern { pattern: builder.build()?, back }))
}

/// The pattern of an include such as `configs/**/*.yaml`, if it is one.
pub(crate) fn glob(include: &str) -> Result<Option<Gitignore>, Error> {
    if !include.contains(['*', '?', '[']) {
        return Ok(None);
    }
    let mut builder = GitignoreBuilder::new("");
    let line = format!("/{}", include.trim_start_matches('/'));
    let place = || format!("include = [\"{include}\"] under [app]");
    builder.add_line(None, &line).map_err(|error| bad(&place(), &error))?;
    builder.build().map(Some).map_err(|error| bad(&place(), &error))
}

fn bad(place: &str, why: &ignore::Error) -> Error {
    Error::Ignore { place: place.to_owned(), why: format!("is not a pattern: {why}") }
}
