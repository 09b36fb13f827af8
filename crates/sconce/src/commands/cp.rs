//! `sconce cp`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::Global;
use crate::commands::ps;
use crate::context::open_store;
use crate::error::{Failure, Kind};

/// Copy a file or folder out of a running container, or into one
///
/// As `cp -r`: into DEST where that is a folder, else under its name; a folder of that name that is there gets
/// what is copied beside what it has. Copied files belong to who
/// copies; inside, to root. Symbolic links stay links.
#[derive(clap::Args)]
pub struct Args {
    /// CONTAINER:PATH or a path of this machine
    source: String,
    /// A path of this machine or CONTAINER:PATH
    dest: String,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    if args.source == "-" || args.dest == "-" {
        let what = "`cp` copies files and folders, not tar streams";
        let hint = "`sconce exec NAME tar -c PATH` writes one; a file of that name is `./-`";
        return Err(Failure::new(Kind::Usage, what).hint(hint));
    }
    match (inside(&args.source), inside(&args.dest)) {
        (Some((container, path)), None) => out(global, container, path, Path::new(&args.dest))?,
        (None, Some((container, path))) => into(global, Path::new(&args.source), container, path)?,
        _ => {
            let what = "one of the two must be CONTAINER:PATH, the other a path of this machine";
            return Err(Failure::new(Kind::Usage, what)
                .hint("a path of this machine that holds a colon is written ./name:x"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `NAME:PATH`; what begins like a path is one.
fn inside(given: &str) -> Option<(&str, &str)> {
    let (container, path) = given.split_once(':')?;
    (!container.is_empty() && !container.starts_with(['/', '.'])).then_some((container, path))
}

fn out(global: &Global, container: &str, path: &str, dest: &Path) -> Result<(), Failure> {
    let one = ps::find(global, container)?;
    let failed = |what: &str, path: &Path, error: std::io::Error| {
        Failure::new(Kind::Storage, format!("can't {what} {}: {error}", path.display()))
    };
    let name = Path::new(path).file_name().map_or(PathBuf::from("root"), PathBuf::from);
    let place = match dest.is_symlink() && !dest.is_dir() {
        true => followed(dest).map_err(|error| failed("follow the link", dest, error))??,
        false => dest.to_owned(),
    };
    let place = if place.is_dir() { place.join(&name) } else { place };
    if let Ok(about) = fs::symlink_metadata(&place)
        && !(about.is_file() || about.is_dir() || about.is_symlink())
    {
        let what = format!("{} is a device, a socket or a FIFO", place.display());
        return Err(Failure::new(Kind::Usage, what).hint("name a file or a folder"));
    }
    let parent = match place.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    // What comes from inside is unpacked where nobody else writes; the container may have the folder that it
    // goes to.
    let store = open_store()?;
    let apart = store.scratch_dir()?;
    one.copy_out(path, &apart, &mut note)?;
    let copied = apart.join(&name);
    if fs::symlink_metadata(&copied).is_err() {
        return Err(Failure::new(Kind::Usage, format!("nothing of {path} could be copied")));
    }
    let is_folder = |path: &Path| path.is_dir() && !path.is_symlink();
    if is_folder(&copied) && fs::symlink_metadata(&place).is_ok() && !is_folder(&place) {
        let what = format!("{path} is a folder, and {} is none", place.display());
        return Err(
            Failure::new(Kind::Usage, what).hint("name a folder to copy it into, or a new name")
        );
    }
    let name = place.file_name().unwrap_or(name.as_os_str());
    sconce_run::put(&copied, &parent, name).map_err(|error| failed("write", &place, error))
}

/// Where a link to a file leads, as Docker follows it; one that leads out of its folder may have come from
/// the container with an earlier copy.
fn followed(link: &Path) -> std::io::Result<Result<PathBuf, Failure>> {
    let real = link.canonicalize()?;
    let folder = match link.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.canonicalize()?,
        _ => std::env::current_dir()?.canonicalize()?,
    };
    if real.starts_with(folder) {
        return Ok(Ok(real));
    }
    let what = format!("{} is a link that leads out of its folder", link.display());
    let hint = format!("name {} itself, or remove the link", real.display());
    Ok(Err(Failure::new(Kind::Usage, what).hint(hint)))
}

fn into(global: &Global, source: &Path, container: &str, path: &str) -> Result<(), Failure> {
    let one = ps::find(global, container)?;
    if source.metadata().is_ok_and(|about| !about.is_file() && !about.is_dir()) {
        let what = format!("{} is a device, a socket or a FIFO", source.display());
        return Err(Failure::new(Kind::Usage, what));
    }
    let name = source
        .canonicalize()
        .map_err(|error| {
            Failure::new(Kind::Usage, format!("can't read {}: {error}", source.display()))
        })?
        .file_name()
        .map_or(PathBuf::from("root"), PathBuf::from);
    match one.copy_in(source, &name, path, &mut note) {
        // Not a folder there: the last part of the path is the name it gets.
        Err(sconce_run::Error::Shim { message, .. }) if message.contains("no such folder") => {
            let path = Path::new(path);
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(Failure::new(Kind::Usage, message));
            };
            Ok(one.copy_in(source, Path::new(name), &parent.to_string_lossy(), &mut note)?)
        }
        other => Ok(other?),
    }
}

fn note(text: &str) {
    eprintln!("note: {text}");
}

#[cfg(test)]
mod tests {
    use super::inside;

    #[test]
    fn paths_and_containers() {
        assert_eq!(inside("train:/out/x"), Some(("train", "/out/x")));
        for path in ["/a:b", "./a:b", "../a:b", "plain", ":x"] {
            assert_eq!(inside(path), None, "{path}");
        }
    }
}
