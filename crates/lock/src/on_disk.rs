//! Whether what a person's files name on this machine is there, before uv is asked: uv passes over a folder that
//! is not there or speaks of it without the line that names it.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::Error;
use crate::requirements::RequirementsFile;
use crate::requirements_txt::Ask;
use crate::spec::{Requirements, Spec};
use crate::spots::{Must, of_spec, refused, spots};

/// How a wheel begins (APPNOTE.TXT, 4.3.7).
const ZIP: &[u8] = b"PK\x03\x04";
/// How the last record of an archive begins (APPNOTE.TXT, 4.3.16); behind it are at most 65,557 bytes.
const END: &[u8] = b"PK\x05\x06";
const TAIL: u64 = 65_557;

/// Looks at every file and folder that the requirements and indexes of a specification name, and at what the files
/// say of each other.
///
/// # Errors
/// One is not there, can't be read or is something else; with the file and the line that names it.
pub(crate) fn check(spec: &Spec) -> Result<(), Error> {
    for spot in spots(spec) {
        if let Some(path) = spot.path(spec) {
            at(&path, spot.must).map_err(|why| spot.refused(spec, why))?;
        }
    }
    let Requirements::File(file) = &spec.environment.requirements else { return Ok(()) };
    one_default(file)?;
    let declared = |name: &str| spec.environment.indexes.iter().any(|index| index.name == name);
    for project in &file.projects {
        let mut unknown = project.sources.undeclared.iter();
        if let Some((number, text, index)) = unknown.find(|(.., index)| !declared(index)) {
            let why = format!(
                "it names the index `{index}`, and neither [[tool.uv.index]] nor `indexes` in sconce.toml has one of \
                 that name"
            );
            return Err(refused(&project.path, *number, text, why));
        }
    }
    Ok(())
}

/// There is one default index.
fn one_default(file: &RequirementsFile) -> Result<(), Error> {
    let of_lines = file.lines.iter().filter_map(|line| match &line.ask {
        Ask::Option(text) => Some((line.file.as_path(), line.number, text.as_str())),
        Ask::Requirement(_) | Ask::RequireHashes | Ask::File { .. } => None,
    });
    let of_projects = file.projects.iter().flat_map(|project| {
        let options = project.sources.options.iter();
        options.map(|(number, text)| (project.path.as_path(), *number, text.as_str()))
    });
    let mut defaults =
        of_lines.chain(of_projects).filter(|(.., text)| text.starts_with("--index-url "));
    let first = defaults.next();
    match (first, defaults.next()) {
        (Some((path, line, _)), Some((file, number, text))) => {
            let why = format!(
                "{}, line {line} names a default index already: name the others with `--extra-index-url`, or \
                 without `default = true`",
                path.display()
            );
            Err(refused(file, number, text, why))
        }
        _ => Ok(()),
    }
}

/// What is wrong with a place of this machine, in words.
fn at(path: &Path, must: Must) -> Result<(), String> {
    let shown = path.display();
    let unreadable = |error: io::Error| match sconce_open::is_missing(&error) {
        true => format!("there is no {shown}"),
        false => format!("{shown} can't be read: {error}"),
    };
    let is_folder = fs::metadata(path).map_err(unreadable)?.is_dir();
    if is_folder && must != Must::Wheel {
        return fs::read_dir(path).map(drop).map_err(unreadable);
    }
    match must {
        Must::Folder => Err(format!("{shown} is not a folder")),
        Must::Links => {
            sconce_open::file_unfollowed(path).map_err(unreadable)?;
            match path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("whl")) {
                true => Err(format!(
                    "{shown} is a wheel: name its folder, or the wheel itself as a requirement"
                )),
                false => Ok(()),
            }
        }
        Must::Wheel => match archive(path).map_err(unreadable)? {
            Some(fault) => Err(format!("{shown} is not a wheel: {fault}")),
            None => Ok(()),
        },
    }
}

/// What shows in a few bytes that a file is no whole zip archive.
pub(crate) fn archive(path: &Path) -> io::Result<Option<&'static str>> {
    let mut file = sconce_open::file_unfollowed(path)?;
    let mut begins = Vec::new();
    (&mut file).take(ZIP.len() as u64).read_to_end(&mut begins)?;
    if begins != ZIP {
        return Ok(Some("it is not a zip archive"));
    }
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
    let mut ends = Vec::new();
    file.take(TAIL).read_to_end(&mut ends)?;
    let has_end = ends.windows(END.len()).any(|bytes| bytes == END);
    Ok((!has_end).then_some("it is a zip archive that was cut off"))
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
