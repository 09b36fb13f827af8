//! What can go wrong between a request and a lock.

use std::fmt;
use std::io;
use std::path::PathBuf;

use sconce_facts::CudaVersion;

use crate::explain::Refused;
use crate::index::IndexError;

/// A place in a text, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl Place {
    /// The place of byte `offset` in `text`.
    pub fn at(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `sconce.toml` can't be understood.
    #[error("sconce.toml, {place}: {message}")]
    Spec {
        /// Where.
        place: Place,
        /// What is wrong there.
        message: String,
        /// What to write instead.
        hint: Option<String>,
    },
    /// A file that the specification names can't be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line of a file of requirements is refused.
    #[error("{}, line {number}: {}{why}", path.display(), quoted(text))]
    Requirement {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        number: usize,
        /// What stands there.
        text: String,
        /// What is wrong with it.
        why: String,
        /// Whether something would have to be built.
        builds: bool,
    },
    /// An image tag that stands for nothing known.
    #[error("`{tag}` is not a tag that sconce knows: {why}")]
    Tag {
        /// As given.
        tag: String,
        /// What is wrong with it.
        why: String,
        /// The nearest tag that works.
        near: Option<String>,
    },
    /// What is asked for contradicts itself or the facts, before any index is asked.
    #[error("{message}")]
    Request {
        /// What contradicts what.
        message: String,
        /// What to change.
        hint: Option<String>,
    },
    /// `sconce.toml` can't be changed as asked.
    #[error("{message}")]
    Edit {
        /// What keeps from it.
        message: String,
        /// What to do instead.
        hint: Option<String>,
    },
    /// No torch fits what is asked for.
    #[error("no torch fits: {message}")]
    NoTorch {
        /// In a sentence.
        message: String,
        /// Every release looked at, newest first, and why it was refused.
        refused: Vec<Refused>,
        /// What would make one fit.
        hint: Option<String>,
    },
    /// The requirements can't be met together.
    #[error(
        "the Python requirements cannot be met:\n{words}{}",
        match sources.as_slice() {
            [] => String::new(),
            some => format!("\nthere as source only: {}", some.join(", ")),
        }
    )]
    Unsatisfiable {
        /// The resolver's words.
        words: String,
        /// Every requirement of the user's own that is there as source only.
        sources: Vec<String>,
        /// What is built from source already.
        built: Vec<String>,
        /// What was tried and refused before.
        refused: Vec<Refused>,
    },
    /// What was asked for is there only in releases that nobody can want.
    #[error("no release that fits can be meant:{}", relics.iter().map(|r| format!("\n  {r}")).collect::<String>())]
    Relics {
        /// One for each requirement, in a sentence.
        relics: Vec<String>,
        /// The Python, where it was named.
        python: Option<String>,
        /// What is built from source already.
        built: Vec<String>,
    },
    /// A package could not be built from its source distribution.
    #[error("{name} {version} could not be built from its source distribution")]
    Build {
        /// The package.
        name: String,
        /// Its version.
        version: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The project itself could not be built.
    #[error("{name} could not be built from this folder")]
    OwnBuild {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The resolver takes exception to the requirements themselves.
    #[error("the Python requirements cannot be resolved:\n{words}")]
    Resolver {
        /// Its words.
        words: String,
    },
    /// The index could not be asked.
    #[error("could not ask the {what}{}", named.as_ref().map(|named| format!(" ({named})")).unwrap_or_default())]
    Index {
        /// Which one.
        what: &'static str,
        /// Which line names what could not be asked, where one does: "requirements.txt, line 2 names https://…".
        named: Option<String>,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A pylock.toml can't be used.
    #[error("{file}: {message}")]
    Pylock {
        /// Which file, or "uv's answer".
        file: String,
        /// What is wrong with it.
        message: String,
    },
    /// The set that came back is not what torch was built with, and nothing else is left to try.
    #[error("the resolved set does not fit torch {torch}: {message}")]
    Misfit {
        /// The torch.
        torch: String,
        /// Which pin is broken by what.
        message: String,
    },
    /// What stands beside torch is built for another CUDA, and nothing else is left to try.
    #[error("torch {} and the packages beside it do not fit: {}{}{}", .0.torch, .0.message, .0.others(), or_else(&.0.instead))]
    Beside(Box<Beside>),
    /// Wheels of the set install different files at one path.
    #[error("{message}")]
    Overlap {
        /// Which packages, and what they both own.
        message: String,
        /// The ways out.
        hint: String,
    },
    /// The Debian packages can't be resolved.
    #[error("the Debian packages cannot be resolved: {words}")]
    Debian {
        /// Why.
        words: String,
    },
    /// The lock was written by a newer sconce.
    #[error("sconce.lock has version {found}; this sconce reads up to {known}")]
    LockVersion {
        /// Its version.
        found: i64,
        /// The newest one that is read here.
        known: i64,
    },
    /// The lock's text is not what its digest says.
    #[error("sconce.lock was changed after it was written: {what}")]
    LockEdited {
        /// How that shows.
        what: String,
    },
    /// The lock is not a lock.
    #[error("sconce.lock{}: {message}", place.map(|p| format!(", {p}")).unwrap_or_default())]
    LockSyntax {
        /// Where, when known.
        place: Option<Place>,
        /// What is wrong.
        message: String,
    },
    /// There is no lock, and none may be written.
    #[error("there is no sconce.lock")]
    LockMissing,
    /// The lock is older than the specification.
    #[error("sconce.lock is not of this {of}: {what}")]
    LockStale {
        /// The files that say what is needed: "sconce.toml and requirements.txt".
        of: String,
        /// What changed.
        what: String,
    },
}

/// What to do where something would have to be built.
pub(crate) const NO_BUILDS: &str = "sconce takes wheels: build one where you trust the code (`pip wheel --no-deps DIR`) and name \
     that file, or name a release that an index has as a wheel; the project's own code goes into the \
     image with `include` under [app]";

/// What is said last of packages whose wheels are on another index than the one that was asked.
pub(crate) const ELSEWHERE: &str = "which goes under `indexes`";

/// What is said of packages whose build asks for what it does not have here.
pub(crate) const NEVER_BUILT: &str = "can't be built here";

/// What is said of packages that are not what people mean who ask for them.
pub(crate) const NOT_MEANT: &str = "is not what you mean";

/// The package that the resolver found nowhere, as it says it: "Because nosuch was not found in the package registry".
pub(crate) fn unknown(words: &str) -> Option<&str> {
    let (before, _) = words.split_once(" was not found in ")?;
    before.rsplit(char::is_whitespace).next().filter(|name| !name.is_empty())
}

/// Whether the resolver speaks of torch, not only of a package whose name has it in it.
fn names_torch(words: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    words.split(|c| !plain(c)).any(|word| word == "torch")
}

/// What stands on a line, to be shown before what is wrong with it.
fn quoted(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`: ") }
}

/// The first package of which the words say that it can't be built.
fn never_built(words: &str) -> Option<&'static sconce_facts::Unbuildable> {
    let names = words.lines().filter_map(|line| line.split_once(NEVER_BUILT));
    names.map(|(name, _)| name.trim()).find_map(sconce_facts::unbuildable)
}

/// The packages that a sentence about a relic says are there as source only.
fn sources_of(relic: &str) -> Vec<&str> {
    let Some(rest) = relic.strip_suffix(" is there as source only") else { return Vec::new() };
    match rest.rsplit_once(" needs ") {
        Some((_, needed)) => needed.trim_end_matches(", which").split(", ").collect(),
        None => rest.split(' ').take(1).collect(),
    }
}

/// Package names as they stand in `sconce.toml`.
/// The key that has packages built, with those that are built already: the hint is to be written as it stands.
fn have_built(built: &[String], sources: &[&str]) -> String {
    let mut all: Vec<&str> =
        built.iter().map(String::as_str).chain(sources.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    format!(
        "have it built where you trust its code: `from-source = [{}]` under [environment]",
        names(all.into_iter())
    )
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Spec { hint, .. } | Self::Request { hint, .. } | Self::Edit { hint, .. } | Self::NoTorch { hint, .. } => {
                hint.clone()
            }
            Self::Overlap { hint, .. } => Some(hint.clone()),
            Self::Tag { tag, near, .. } => {
                let near = near.as_ref().map(|near| format!("the nearest tag that works is `{near}`"));
                near.or_else(|| tags(tag))
            }
            Self::Relics { relics, python, built } => {
                let sources: Vec<&str> = relics.iter().flat_map(|relic| sources_of(relic)).collect();
                let (stubs, sources): (Vec<&str>, Vec<&str>) = sources
                    .into_iter()
                    .partition(|name| sconce_facts::wheels_elsewhere(name).is_some());
                let mut build = match sources.is_empty() {
                    true => String::new(),
                    false => format!(", or {}", have_built(built, &sources)),
                };
                for name in stubs {
                    let has = sconce_facts::wheels_elsewhere(name).unwrap_or_default();
                    build += &format!("; the wheels of its newest release are on {has}, {ELSEWHERE}");
                }
                let other = match python {
                    None => String::new(),
                    Some(python) => format!("; or leave `python = \"{python}\"` out: another may have the newest"),
                };
                Some(format!("name the version that you want (`name==1.2`){build}{other}"))
            }
            Self::Unsatisfiable { sources, built, .. } if !sources.is_empty() => {
                let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
                Some(have_built(built, &sources))
            }
            Self::Unsatisfiable { words, .. } if words.ends_with(ELSEWHERE) => Some(
                "with the indexes that were asked no way is known; that one's address goes under `indexes` in \
                 [environment], as { name = …, url = … }"
                    .into(),
            ),
            Self::Unsatisfiable { words, .. } if never_built(words).is_some() => {
                never_built(words).map(|row| row.instead.clone())
            }
            Self::Unsatisfiable { words, .. } if words.contains(NOT_MEANT) => {
                Some("ask for what you mean instead, or leave it out".into())
            }
            Self::Unsatisfiable { words, .. } => Some(match (unknown(words), names_torch(words)) {
                (Some(name), _) => format!(
                    "no index has `{name}`: is the name right? `indexes` under [environment] names further indexes"
                ),
                (None, true) => "loosen the requirement named above, or ask for another torch".into(),
                (None, false) => "loosen the requirement named above".into(),
            }),
            Self::Requirement { builds: true, .. } => Some(NO_BUILDS.into()),
            Self::Requirement { .. } => None,
            Self::Read { source, .. } => match source.kind() {
                io::ErrorKind::InvalidData => Some("save it as UTF-8 text".into()),
                // Too large, or no regular file: its path is right.
                io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidInput => None,
                _ => Some("the path is taken from the folder of sconce.toml".into()),
            },
            Self::LockVersion { .. } => {
                Some(
                    "use the sconce that wrote it, or write it anew with `sconce lock --upgrade`".into(),
                )
            }
            Self::LockMissing => Some("write it with `sconce lock`".into()),
            Self::LockEdited { .. } => Some(
                "change sconce.toml instead, and write the lock anew with `sconce lock --upgrade`".into(),
            ),
            Self::LockSyntax { .. } => Some(
                "take back the one that was committed, or write it anew with `sconce lock --upgrade`, which takes the newest of all"
                    .into(),
            ),
            Self::LockStale { .. } => Some("bring it up to date with `sconce lock`".into()),
            Self::Misfit { .. } => Some(
                "a package index that you named holds other builds than PyPI; ask for another torch \
                 or leave the index out"
                    .into(),
            ),
            Self::Beside(beside) if !beside.instead.is_empty() => Some(format!(
                "do without it (`exclude = [\"{}\"]` under [environment]{}), or name the older versions that you want",
                beside.package, beside.and_who_needs_it()
            )),
            Self::Beside(beside) => Some(beside.ways_out()),
            Self::Resolver { .. }
            | Self::Build { .. }
            | Self::OwnBuild { .. }
            | Self::Index { .. }
            | Self::Pylock { .. }
            | Self::Debian { .. } => None,
        }
    }

    /// What was looked at and refused on the way, newest first.
    pub fn refused(&self) -> &[Refused] {
        match self {
            Self::NoTorch { refused, .. } | Self::Unsatisfiable { refused, .. } => refused,
            _ => &[],
        }
    }

    pub(crate) fn from_index(what: &'static str, error: IndexError) -> Self {
        match error {
            IndexError::NoSolution { words } if what == "Debian archive" => Self::Debian { words },
            IndexError::NoSolution { words } => Self::Unsatisfiable {
                words,
                sources: Vec::new(),
                built: Vec::new(),
                refused: Vec::new(),
            },
            IndexError::Refused { words } => Self::Resolver { words },
            IndexError::Failed(source) => Self::Index { what, named: None, source },
        }
    }
}

/// A package beside torch that is built for another CUDA.
#[derive(Debug, Clone)]
pub struct Beside {
    /// The torch.
    pub torch: String,
    /// Which package is built for what.
    pub message: String,
    /// That package.
    pub package: String,
    /// The newest torch that has what it wants, as sconce.toml writes it.
    pub fits: Option<String>,
    /// The newest CUDA that it wants and for which there is a build of this torch.
    pub cuda: Option<CudaVersion>,
    /// Releases with which it would fit, each with the torch that it fits: "bitsandbytes 0.50.2".
    pub releases: Vec<(String, String)>,
    /// What keeps other torches away, where it is another package: the torch, and in a sentence.
    pub others: Vec<(String, String)>,
    /// What else would be years older with a torch that it fits.
    pub instead: Vec<String>,
    /// The user's own requirement without which all of it can be had.
    pub loosened: Option<Loosened>,
    /// What of the set needs that package.
    pub needed_by: Vec<String>,
}

/// A requirement of the user's own, and what there is without it.
#[derive(Debug, Clone)]
pub struct Loosened {
    /// "ctranslate2<4.5".
    pub bound: String,
    /// "ctranslate2 4.8.5".
    pub release: String,
    /// The torch that it fits.
    pub torch: String,
}

impl Beside {
    /// "; and beside torch 2.10.0, …"
    fn others(&self) -> String {
        let others = self.others.iter();
        others.map(|(torch, message)| format!("; and with torch {torch}: {message}")).collect()
    }

    fn ways_out(&self) -> String {
        let mut ways = Vec::new();
        if let Some(torch) = &self.fits {
            ways.push(format!("leave the version of torch open, or ask for {torch}"));
        }
        for (release, torch) in &self.releases {
            ways.push(format!("ask for {release}, which fits torch {torch}"));
        }
        if let Some(Loosened { bound, release, torch }) = &self.loosened {
            ways.push(format!("loosen `{bound}`: {release} fits torch {torch}"));
        }
        if let Some(cuda) = self.cuda {
            ways.push(format!("say `cuda = \"{cuda}\"`, for which there is a build of this torch"));
        }
        if ways.is_empty() {
            ways.push(format!(
                "no release of {} is known that fits torch {}; `exclude = [\"{}\"]` under [environment] leaves it out{}",
                self.package, self.torch, self.package, self.and_who_needs_it()
            ));
        }
        ways.join("; or ")
    }

    /// ", and faster-whisper 1.2.0 needs it"
    fn and_who_needs_it(&self) -> String {
        match self.needed_by.as_slice() {
            [] => String::new(),
            [one] => format!(", and {one} needs it"),
            some => format!(", and {} need it", some.join(", ")),
        }
    }
}

/// What an older torch would mean for the rest.
fn or_else(instead: &[String]) -> String {
    match instead {
        [] => String::new(),
        some => format!("; with a torch that it fits, {}", some.join("; ")),
    }
}

/// Which tags there are, of a repository that people know.
fn tags(tag: &str) -> Option<String> {
    if !crate::Spec::is_tag(tag) || crate::Spec::is_ngc(tag) {
        return None;
    }
    let (repository, _) = tag.split_once(':').unwrap_or((tag, ""));
    let oldest = &sconce_facts::releases().first()?.version;
    let newest = sconce_facts::newest_release();
    let theirs = match repository.contains('/') {
        true => format!("; an image of Docker Hub's with that tag is `docker://{tag}`"),
        false => String::new(),
    };
    Some(format!(
        "a tag is `latest` or begins with a release of torch, from {oldest} to {0}: `{repository}:{0}`, `{repository}:{0}-cuda{1}-runtime`{theirs}",
        newest.version, newest.cuda
    ))
}
