//! The places that a person's files name, each with the line that names it: wheels, folders, indexes.

use std::path::{Path, PathBuf};

use toml_edit::{Document, Item, Value};

use crate::error::{Error, Place as TextPlace};
use crate::place::{Place, is_place, place, variables};
use crate::requirements::RequirementsFile;
use crate::requirements_txt::Ask;
use crate::spec::{Requirements, Spec};

/// What has to be at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Must {
    Folder,
    /// A folder, or a page of links (`--find-links`).
    Links,
    Wheel,
}

/// A place, and what names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spot<'a> {
    /// The address or path, as it is written.
    pub target: String,
    pub must: Must,
    by: By<'a>,
}

/// What names a place.
#[derive(Debug, Clone, PartialEq, Eq)]
enum By<'a> {
    /// A key under [environment] in sconce.toml, or one item of its list.
    Key(&'a str, Option<usize>),
    /// A line of a file, and what of it is shown.
    Line(&'a Path, usize, String),
}

/// Every place that the requirements and indexes of a specification name, in the order of their lines.
pub(crate) fn spots(spec: &Spec) -> Vec<Spot<'_>> {
    let environment = &spec.environment;
    let mut found = Vec::new();
    match &environment.requirements {
        Requirements::List(list) => {
            for (at, text) in list.iter().enumerate() {
                let by = By::Key("requirements", Some(at));
                found.extend(direct(text).map(|target| Spot::new(target, Must::Wheel, by)));
            }
        }
        Requirements::File(file) => of_file(file, &mut found),
    }
    for (at, index) in environment.indexes.iter().enumerate() {
        found.push(Spot::new(&index.url, Must::Folder, By::Key("indexes", Some(at))));
    }
    found
}

fn of_file<'a>(file: &'a RequirementsFile, found: &mut Vec<Spot<'a>>) {
    for line in file.lines.iter().chain(&file.constraints) {
        let by = |what: &str| By::Line(&line.file, line.number, what.to_owned());
        match &line.ask {
            Ask::Requirement(text) => {
                found.extend(direct(text).map(|target| Spot::new(target, Must::Wheel, by(text))));
            }
            Ask::Option(text) => found.extend(of_option(text, by)),
            Ask::RequireHashes | Ask::File { .. } => {}
        }
    }
    for project in &file.projects {
        let folder = project.path.parent().unwrap_or(Path::new(""));
        let by = |number| move |what: &str| By::Line(&project.path, number, what.to_owned());
        for direct in &project.sources.direct {
            let target = match &direct.place {
                Place::Local(path) => folder.join(path).to_string_lossy().into_owned(),
                Place::Network(url) => url.clone(),
            };
            found.push(Spot::new(&target, Must::Wheel, by(direct.number)(&direct.text)));
        }
        for (number, name, url) in &project.sources.indexes {
            found.push(Spot::new(url, Must::Folder, by(*number)(name)));
        }
        for (number, option) in &project.sources.options {
            found.extend(of_option(option, by(*number)));
        }
    }
}

fn of_option<'a>(text: &str, by: impl Fn(&str) -> By<'a>) -> Option<Spot<'a>> {
    let (option, target) = text.split_once(' ')?;
    let must = if option == "--find-links" { Must::Links } else { Must::Folder };
    (!target.is_empty()).then(|| Spot::new(target, must, by(option)))
}

/// The address of a requirement that has one, in the form in which uv gets it.
fn direct(text: &str) -> Option<&str> {
    let target = match text.split_once('@') {
        Some((name, target)) if !name.contains([':', '/']) => target.trim(),
        _ if is_place(text) => text,
        _ => return None,
    };
    target.split([' ', '\t', '[']).next()
}

impl<'a> Spot<'a> {
    fn new(target: &str, must: Must, by: By<'a>) -> Self {
        Self { target: target.to_owned(), must, by }
    }

    /// The path on this machine, links followed; `None` for what is on the network, or has variables that only uv
    /// fills in.
    pub fn path(&self, spec: &Spec) -> Option<PathBuf> {
        // Of what is in no folder, a tag or a text, nothing can be said.
        if spec.leads.folder().as_os_str().is_empty() || variables(&self.target).next().is_some() {
            return None;
        }
        let Place::Local(path) = place(&self.target) else { return None };
        let path = Path::new(&path);
        Some(spec.leads.real(path).unwrap_or_else(|| spec.leads.folder().join(path)))
    }

    /// The error of a file that names a place with which something is wrong.
    pub fn refused(&self, spec: &Spec, why: String) -> Error {
        match &self.by {
            By::Key(key, item) => of_spec(&spec.text, key, *item, why),
            By::Line(file, number, text) => refused(file, *number, text, why),
        }
    }

    /// Where it is named, in words: "requirements.txt, line 2".
    pub fn named(&self, spec: &Spec) -> String {
        match &self.by {
            By::Key(key, item) => {
                let line = place_of(&spec.text, key, *item).line;
                format!("sconce.toml, line {line}")
            }
            By::Line(file, number, _) => format!("{}, line {number}", file.display()),
        }
    }
}

/// The error of a line in a file of requirements.
pub(crate) fn refused(file: &Path, number: usize, text: &str, why: String) -> Error {
    let text = text.chars().take(120).collect();
    Error::Requirement { path: file.to_owned(), number, text, why, builds: false }
}

/// An error of a key under [environment], or of one item of its list.
pub(crate) fn of_spec(text: &str, key: &str, item: Option<usize>, why: String) -> Error {
    Error::Spec {
        place: place_of(text, key, item),
        message: format!("`{key}`: {why}"),
        hint: Some("a relative path is taken from the folder of sconce.toml".into()),
    }
}

fn place_of(text: &str, key: &str, item: Option<usize>) -> TextPlace {
    let span = || {
        let document = Document::parse(text).ok()?;
        let value = document.get("environment")?.get(key)?;
        let inner = item.and_then(|at| match value {
            Item::ArrayOfTables(tables) => tables.get(at)?.span(),
            value => value.as_array()?.get(at).and_then(Value::span),
        });
        inner.or_else(|| value.span())
    };
    TextPlace::at(text, span().map_or(0, |span| span.start))
}
