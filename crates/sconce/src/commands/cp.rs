//! `sconce cp`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sconce_open::held;

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
    copy(global, args).map_err(|failure| match failure.kind {
        Kind::Interrupted => failure,
        // As Docker's client ends with all that is not an option that it does not know.
        _ => failure.of_kind(Kind::No),
    })
}

fn copy(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
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
    (!container.is_empty() && !path.is_empty() && !container.starts_with(['/', '.']))
        .then_some((container, path))
}

fn out(global: &Global, container: &str, path: &str, dest: &Path) -> Result<(), Failure> {
    let one = ps::find(global, container)?;
    check_process(path)?;
    let failed = |what: &str, path: &Path, error: std::io::Error| {
        Failure::new(Kind::Storage, format!("can't {what} {}: {error}", path.display()))
    };
    let name = Path::new(path).file_name().map_or(PathBuf::from("root"), PathBuf::from);
    let dest = match dest.is_symlink() && !dest.is_dir() {
        true => followed(dest).map_err(|error| failed("follow the link", dest, error))??,
        false => dest.to_owned(),
    };
    let (folder, name) = into_which(&dest, &ps::writable_volumes(global)?, name.as_os_str())
        .map_err(|error| failed("write to", &dest, error))?;
    let place = held(&folder).join(&name);
    let shown = if dest.is_dir() { dest.join(&name) } else { dest.clone() };
    if let Ok(about) = fs::symlink_metadata(&place)
        && !(about.is_file() || about.is_dir() || about.is_symlink())
    {
        let what = format!("{} is a device, a socket or a FIFO", plain(&shown));
        return Err(Failure::new(Kind::Usage, what).hint("name a file or a folder"));
    }
    // What comes from inside is unpacked where nobody else writes; the container may have the folder that it
    // goes to.
    let store = open_store()?;
    let apart = store.scratch_dir()?;
    one.copy_out(path, &apart, &mut note)?;
    let copied = apart.join(Path::new(path).file_name().unwrap_or("root".as_ref()));
    if fs::symlink_metadata(&copied).is_err() {
        return Err(Failure::new(Kind::Usage, format!("nothing of {path} could be copied")));
    }
    let is_folder = |path: &Path| path.is_dir() && !path.is_symlink();
    if is_folder(&copied) && fs::symlink_metadata(&place).is_ok() && !is_folder(&place) {
        let what = format!("{path} is a folder, and {} is not", shown.display());
        return Err(
            Failure::new(Kind::Usage, what).hint("name a folder to copy it into, or a new name")
        );
    }
    let interrupts = sconce_run::Interrupts::listen()?;
    let done = sconce_run::put(&copied, &held(&folder), &name, &shown, &interrupts);
    done.map_err(|error| match error {
        sconce_run::Error::Interrupted(_) => error.into(),
        _ => Failure::of(Kind::Storage, &error, None),
    })
}

/// What the copy would find in the place of one process is not what a person means: its own, or nothing.
fn check_process(path: &str) -> Result<(), Failure> {
    let mut parts = Path::new(path).components().skip(1).map(|part| part.as_os_str());
    let first = parts.next();
    if first == Some(OsStr::new("proc")) && parts.clone().next().is_none() {
        let what = format!("{path} is the kernel's view of all processes, which come and go");
        return Err(Failure::new(Kind::Usage, what).hint("name a file or folder below it"));
    }
    let own = parts.next().is_some_and(|part| part == "self" || part == "thread-self");
    if first != Some(OsStr::new("proc")) || !own {
        return Ok(());
    }
    let what = format!("{path} is of the process that asks for it, and not of the container");
    let hint =
        "`sconce cp NAME:/proc/1/…` is of its first process; `sconce exec NAME cat FILE` is of cat";
    Err(Failure::new(Kind::Usage, what).hint(hint))
}

/// The folder that `dest` is, or in which it is to be, and the name there; `name` is that of what is copied.
fn into_which(
    dest: &Path,
    volumes: &[PathBuf],
    name: &OsStr,
) -> std::io::Result<(OwnedFd, OsString)> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    let (parent, last) = match sconce_run::reach(dest, volumes) {
        Ok(real) if real.is_dir() => (real, name.to_owned()),
        Ok(real) => {
            let last = real.file_name().unwrap_or(name).to_owned();
            (real.parent().unwrap_or(Path::new("/")).to_owned(), last)
        }
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => {
            let folder = dest.parent().filter(|folder| !folder.as_os_str().is_empty());
            let real = sconce_run::reach(folder.unwrap_or(Path::new(".")), volumes)?;
            (real, dest.file_name().unwrap_or(name).to_owned())
        }
        Err(error) => return Err(error),
    };
    Ok((sconce_run::hold(&parent)?, last))
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
    let unreadable =
        |error| Failure::new(Kind::Usage, format!("can't read {}: {error}", source.display()));
    let real = sconce_run::reach(source, &ps::writable_volumes(global)?).map_err(unreadable)?;
    if real.metadata().is_ok_and(|about| !about.is_file() && !about.is_dir()) {
        let what = format!("{} is a device, a socket or a FIFO", plain(source));
        return Err(Failure::new(Kind::Usage, what));
    }
    let folder = sconce_run::hold(real.parent().unwrap_or(Path::new("/"))).map_err(unreadable)?;
    let (name, from) = match real.file_name() {
        Some(name) => (PathBuf::from(name), held(&folder).join(name)),
        None => (PathBuf::from("root"), PathBuf::from("/")),
    };
    // Where it is held is nothing that a person has written.
    let from = (from.as_path(), source);
    let mut note = note;
    match one.copy_in(from, &name, path, &mut note) {
        // Not a folder there: the last part of the path is the name it gets.
        Err(sconce_run::Error::Shim { message, .. }) if message.contains("no such folder") => {
            // A folder is meant.
            if path.ends_with('/') {
                return Err(Failure::new(Kind::Usage, message));
            }
            let path = Path::new(path);
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(Failure::new(Kind::Usage, message));
            };
            // A relative path counts from `/`, as in Docker.
            let parent = Path::new("/").join(parent);
            Ok(one.copy_in(from, Path::new(name), &parent.to_string_lossy(), &mut note)?)
        }
        other => Ok(other?),
    }
}

/// A path of what is no folder: without the slash behind it.
fn plain(path: &Path) -> String {
    let text = path.display().to_string();
    match text.trim_end_matches('/') {
        "" => text,
        trimmed => trimmed.to_owned(),
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
