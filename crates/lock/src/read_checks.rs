//! What the rows of a lock must be, each by itself and beside the others: names once, files of their packages, indexes that
//! are there, paths that are plain.

use std::collections::BTreeSet;

use crate::document::{DebPin, IndexKind, IndexRow, PythonPin, Wheel};
use crate::wheel_name::WheelName;

/// No honest lock has more wheels or debs.
const LIMIT_PACKAGES: usize = 20_000;

pub(crate) fn check_indexes(indexes: &[IndexRow]) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for index in indexes {
        if !names.insert((&index.name, index.kind.as_str())) {
            return Err(format!("index `{}` stands twice", index.name));
        }
    }
    Ok(())
}

pub(crate) fn known(name: &str, kind: IndexKind, indexes: &[IndexRow]) -> bool {
    indexes.iter().any(|index| index.name == name && index.kind == kind)
}

/// Its file name and release become parts of an address.
pub(crate) fn check_python(pin: &PythonPin, python: &str) -> Result<(), String> {
    let PythonPin { version, build, file, size: _, sha256: _, url } = pin;
    let plain = |text: &str| {
        (1..=200).contains(&text.len())
            && !text.starts_with('.')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c))
    };
    let minor = version.rsplit_once('.').map_or("", |(minor, _)| minor);
    if minor != python.trim_end_matches('t') || !plain(version) {
        return Err(format!("Python {version:?} is no Python {python:?}"));
    }
    if !plain(file) || !file.ends_with(".tar.gz") {
        return Err(format!("{file:?} is not an archive of Python"));
    }
    let web = |url: &String| {
        ["https://", "http://", "file://"].iter().any(|scheme| url.starts_with(scheme))
    };
    match (url, build) {
        (Some(url), _) if !web(url) => Err(format!("{url:?} is not an address of Python")),
        (_, Some(build)) if !plain(build) => Err(format!("{build:?} is not a build of Python")),
        (None, None) => Err(format!("{file} has neither a build nor an address")),
        _ => Ok(()),
    }
}

pub(crate) fn check_wheels(wheels: &[Wheel], indexes: &[IndexRow]) -> Result<(), String> {
    if wheels.len() > LIMIT_PACKAGES {
        return Err(format!("more than {LIMIT_PACKAGES} wheels"));
    }
    let mut names = BTreeSet::new();
    for wheel in wheels {
        let file: WheelName = wheel.file.parse().map_err(|error| format!("{error}"))?;
        if file.name != wheel.name || wheel.version.parse().as_ref() != Ok(&file.version) {
            return Err(format!(
                "{} is not a wheel of {} {}",
                wheel.file, wheel.name, wheel.version
            ));
        }
        if file.variant != wheel.variant {
            return Err(format!("{} is no such variant", wheel.file));
        }
        if !names.insert(&wheel.name) {
            return Err(format!("wheel `{}` stands twice", wheel.name));
        }
        if !known(&wheel.index, IndexKind::Python, indexes) {
            return Err(format!(
                "wheel `{}` names no index of this lock: `{}`",
                wheel.name, wheel.index
            ));
        }
    }
    Ok(())
}

pub(crate) fn check_debs(debs: &[DebPin], indexes: &[IndexRow]) -> Result<(), String> {
    if debs.len() > LIMIT_PACKAGES {
        return Err(format!("more than {LIMIT_PACKAGES} debs"));
    }
    let mut names = BTreeSet::new();
    for deb in debs {
        if !is_plain_path(&deb.path) || !deb.path.ends_with(".deb") {
            return Err(format!("deb `{}` has no path in an archive: `{}`", deb.name, deb.path));
        }
        if !names.insert((&deb.name, &deb.arch)) {
            return Err(format!("deb `{}` stands twice", deb.name));
        }
        if !known(&deb.index, IndexKind::Debian, indexes) {
            return Err(format!("deb `{}` names no index of this lock: `{}`", deb.name, deb.index));
        }
    }
    Ok(())
}

/// Relative, without `.`, `..`, empty parts, control characters and what addresses give a meaning to.
fn is_plain_path(path: &str) -> bool {
    path.len() <= 1024
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !path.contains(|c: char| c.is_control() || "\\?#".contains(c))
}
