//! Which line of a person's files an error of the resolver's is about: uv speaks of `zqtext==1.0` and of addresses, and
//! knows no lines.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::on_disk::archive;
use crate::place::{Place, place};
use crate::spec::Spec;
use crate::spots::{Must, Spot, spots};
use crate::wheel_name::{WheelName, normalise};

/// Answers of a server that says of a file that it is not there (RFC 9110, 15.5), as uv writes them.
const GONE: &[&str] = &["404", "410"];

/// The most files of a folder that are looked at.
const MOST: usize = 20_000;

/// The error with the file and the line that names what it is about, where they are known.
pub(crate) fn with_line(spec: &Spec, error: Error) -> Error {
    match error {
        Error::Resolver { words } => damaged(spec, &words).unwrap_or(Error::Resolver { words }),
        Error::Pylock { file, message } => {
            let spots = spots(spec);
            let spot = spots.iter().find(|spot| {
                let name = spot.target.rsplit('/').next().unwrap_or_default();
                spot.must == Must::Wheel && message.starts_with(&format!("{name} "))
            });
            match spot {
                Some(spot) => spot.refused(spec, message),
                None => Error::Pylock { file, message },
            }
        }
        Error::Index { what, named: None, source } => {
            let words = source.to_string();
            let spots = spots(spec);
            let spot = spots.iter().find(|spot| is_about(spot, &words));
            if let Some(spot) = spot.filter(|spot| spot.must == Must::Wheel)
                && let Some(status) = GONE
                    .iter()
                    .find(|status| words.contains(&format!("HTTP status client error ({status} ")))
            {
                return spot.refused(
                    spec,
                    format!("the server has no such file (its answer is {status})"),
                );
            }
            let named =
                spot.map(|spot| format!("{} names {}", spot.named(spec), shown(&spot.target)));
            Error::Index { what, named, source }
        }
        error => error,
    }
}

/// The error of a wheel on this machine that is not what its name says, with the line that names it or its folder.
pub(crate) fn wheel(spec: &Spec, path: &Path, why: &str) -> Error {
    let why = format!("{}: {why}", path.display());
    let spots = spots(spec);
    let names = |spot: &&Spot<'_>| {
        let at = spot.path(spec);
        at.is_some_and(|at| at == path || path.parent() == Some(at.as_path()))
    };
    match spots.iter().find(names) {
        Some(spot) => spot.refused(spec, why),
        None => Error::Resolver { words: why },
    }
}

/// Whether the resolver speaks of what stands at an address.
fn is_about(spot: &Spot<'_>, words: &str) -> bool {
    let Place::Network(url) = place(&spot.target) else { return false };
    let url = shown(&url);
    let url = url.trim_end_matches('/');
    let starts = |(at, _): (usize, &str)| {
        let behind = words.get(at + url.len()..).and_then(|rest| rest.chars().next());
        behind.is_none_or(|c| "/`)>#?,;".contains(c) || c.is_whitespace())
    };
    !url.is_empty() && words.match_indices(url).any(starts)
}

/// An address without what nobody else should see, and without its fragment.
fn shown(url: &str) -> String {
    let url = crate::wheel_name::without_credentials(url);
    url.split('#').next().unwrap_or_default().to_owned()
}

/// A wheel on this machine that uv can't read.
fn damaged(spec: &Spec, words: &str) -> Option<Error> {
    let mut parts = words.split('`');
    let what = parts.nth(1)?;
    let path = match what.split_once(" @ ") {
        Some((_, url)) => match place(url) {
            Place::Local(path) => PathBuf::from(path),
            Place::Network(_) => return None,
        },
        None => {
            let (name, version) = what.split_once("==")?;
            let spots = spots(spec);
            let mut folders = spots.iter().filter_map(|spot| spot.path(spec));
            folders.find_map(|folder| wheel_in(&folder, name, version))?
        }
    };
    if !path.is_file() {
        return None;
    }
    let cause = words.lines().rev().find_map(|line| line.trim().strip_prefix("cause: "));
    let why = match archive(&path) {
        Ok(Some(fault)) => fault.to_owned(),
        Ok(None) => cause
            .unwrap_or("uv can't read it")
            .trim_start_matches("The wheel is invalid: ")
            .to_owned(),
        Err(error) => error.to_string(),
    };
    Some(wheel(spec, &path, &format!("it is not a wheel that can be read: {why}")))
}

/// The wheel of a release in a folder.
fn wheel_in(folder: &Path, name: &str, version: &str) -> Option<PathBuf> {
    let version = version.parse().ok()?;
    let entries = fs::read_dir(folder).ok()?.take(MOST).flatten();
    let is = |path: &PathBuf| {
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        let wheel = file.parse::<WheelName>();
        wheel.is_ok_and(|wheel| wheel.name == normalise(name) && wheel.version == version)
    };
    entries.map(|entry| entry.path()).find(is)
}
