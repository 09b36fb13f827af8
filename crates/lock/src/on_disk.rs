//! Whether what a person's files name on this machine is there, before uv is asked: uv passes over a folder that
//! is not there or speaks of it without the line that names it.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use toml_edit::{Document, Item, Value};

use crate::error::{Error, Place as TextPlace};
use crate::place::{Place, is_place, place, variables};
use crate::requirements::RequirementsFile;
use crate::requirements_txt::Ask;
use crate::spec::{Requirements, Spec};

/// What has to be at a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Must {
    Folder,
    /// A folder, or a page of links (`--find-links`).
    Links,
    Wheel,
}

/// How a wheel begins (APPNOTE.TXT, 4.3.7).
const ZIP: &[u8] = b"PK\x03\x04";

/// Looks at every file and folder that the requirements and indexes of a specification name.
///
/// # Errors
/// One is not there, can't be read or is something else; with the file and the line that names it.
pub(crate) fn check(spec: &Spec) -> Result<(), Error> {
    let environment = &spec.environment;
    match &environment.requirements {
        Requirements::List(list) => {
            for (at, text) in list.iter().enumerate() {
                let fault = look(spec, direct(text), Must::Wheel);
                fault.map_err(|why| of_spec(&spec.text, "requirements", Some(at), why))?;
            }
        }
        Requirements::File(file) => of_file(spec, file)?,
    }
    for (at, index) in environment.indexes.iter().enumerate() {
        let fault = look(spec, Some(&index.url), Must::Folder);
        fault.map_err(|why| of_spec(&spec.text, "indexes", Some(at), why))?;
    }
    Ok(())
}

fn of_file(spec: &Spec, file: &RequirementsFile) -> Result<(), Error> {
    for line in file.lines.iter().chain(&file.constraints) {
        let (what, fault) = match &line.ask {
            Ask::Requirement(text) => (text.as_str(), look(spec, direct(text), Must::Wheel)),
            Ask::Option(text) => {
                let (option, target) = text.split_once(' ').unwrap_or((text, ""));
                (option, look(spec, Some(target).filter(|text| !text.is_empty()), must(option)))
            }
            Ask::RequireHashes | Ask::File { .. } => continue,
        };
        fault.map_err(|why| refused(&line.file, line.number, what, why))?;
    }
    for project in &file.projects {
        let folder = project.path.parent().unwrap_or(Path::new(""));
        for direct in &project.sources.direct {
            let Place::Local(path) = &direct.place else { continue };
            if variables(path).next().is_none() {
                let fault = at(spec, &folder.join(path), Must::Wheel);
                fault.map_err(|why| refused(&project.path, direct.number, &direct.text, why))?;
            }
        }
        for (number, name, url) in &project.sources.indexes {
            let fault = look(spec, Some(url), Must::Folder);
            fault.map_err(|why| refused(&project.path, *number, name, why))?;
        }
        for (number, option) in &project.sources.options {
            let (option, target) = option.split_once(' ').unwrap_or((option, ""));
            let fault = look(spec, Some(target), must(option));
            fault.map_err(|why| refused(&project.path, *number, option, why))?;
        }
    }
    Ok(())
}

fn must(option: &str) -> Must {
    if option == "--find-links" { Must::Links } else { Must::Folder }
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

/// What is wrong with a place of this machine, in words.
fn look(spec: &Spec, target: Option<&str>, must: Must) -> Result<(), String> {
    let Some(target) = target.filter(|text| variables(text).next().is_none()) else {
        return Ok(());
    };
    match place(target) {
        Place::Network(_) => Ok(()),
        Place::Local(path) => at(spec, Path::new(&path), must),
    }
}

fn at(spec: &Spec, path: &Path, must: Must) -> Result<(), String> {
    // Of what is in no folder, a tag or a text, nothing can be said.
    if spec.leads.folder().as_os_str().is_empty() {
        return Ok(());
    }
    let path = spec.leads.real(path).unwrap_or_else(|| spec.leads.folder().join(path));
    let shown = path.display();
    let unreadable = |error: io::Error| match sconce_open::is_missing(&error) {
        true => format!("there is no {shown}"),
        false => format!("{shown} can't be read: {error}"),
    };
    let is_folder = fs::metadata(&path).map_err(unreadable)?.is_dir();
    if is_folder && must != Must::Wheel {
        return fs::read_dir(&path).map(drop).map_err(unreadable);
    }
    match must {
        Must::Folder => Err(format!("{shown} is no folder")),
        Must::Links => {
            sconce_open::file_unfollowed(&path).map_err(unreadable)?;
            match path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("whl")) {
                true => Err(format!(
                    "{shown} is a wheel: name its folder, or the wheel itself as a requirement"
                )),
                false => Ok(()),
            }
        }
        Must::Wheel => {
            let mut begins = Vec::new();
            let file = sconce_open::file_unfollowed(&path).map_err(unreadable)?;
            file.take(ZIP.len() as u64).read_to_end(&mut begins).map_err(unreadable)?;
            match begins == ZIP {
                true => Ok(()),
                false => Err(format!("{shown} is no wheel: it is not a zip archive")),
            }
        }
    }
}

fn refused(file: &Path, number: usize, text: &str, why: String) -> Error {
    let text = text.chars().take(120).collect();
    Error::Requirement { path: file.to_owned(), number, text, why, builds: false }
}

/// An error of `requirements` in `sconce.toml`: the file that it names can't be read.
pub(crate) fn unreadable(text: &str, path: &Path, error: &io::Error) -> Error {
    let shown = path.display();
    let why = match sconce_open::is_missing(error) {
        true => format!("there is no {shown}"),
        false => format!("{shown} can't be read: {error}"),
    };
    of_spec(text, "requirements", None, why)
}

/// An error of a key under [environment], or of one item of its list.
fn of_spec(text: &str, key: &str, item: Option<usize>, why: String) -> Error {
    let span = || {
        let document = Document::parse(text).ok()?;
        let value = document.get("environment")?.get(key)?;
        let inner = item.and_then(|at| match value {
            Item::ArrayOfTables(tables) => tables.get(at)?.span(),
            value => value.as_array()?.get(at).and_then(Value::span),
        });
        inner.or_else(|| value.span())
    };
    Error::Spec {
        place: TextPlace::at(text, span().map_or(0, |span| span.start)),
        message: format!("`{key}`: {why}"),
        hint: Some("a relative path is taken from the folder of sconce.toml".into()),
    }
}
