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
/// As `docker cp`: into DEST where that is a folder, else under its name; a folder of that name that is there gets
/// what is copied beside what it has. `FOLDER/.` is what the folder holds, without the folder. Copied files belong to who
/// copies; inside, to root. Symbolic links stay links; one of this machine that SOURCE itself is, `-L` follows.
#[derive(clap::Args)]
pub struct Args {
    /// Copy what SOURCE leads to, where it is a symbolic link of this machine
    #[arg(short = 'L', long)]
    follow_link: bool,
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
        (Some(_), None) if args.follow_link => {
            let what = "`-L` follows links of this machine, and none in a container";
            let hint = "`sconce exec NAME readlink -f PATH` says where one leads: copy that";
            return Err(Failure::new(Kind::Usage, what).hint(hint));
        }
        (Some((container, path)), None) => out(global, container, path, Path::new(&args.dest))?,
        (None, Some((container, path))) => {
            into(global, Path::new(&args.source), args.follow_link, container, path)?;
        }
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
    let (whole, path) = (path, without_dot(path));
    let name = Path::new(path).file_name().map_or(PathBuf::from("root"), PathBuf::from);
    let is_meant_as_folder = is_folders(&dest.to_string_lossy());
    let dest = match dest.is_symlink() && !dest.is_dir() {
        true => followed(dest).map_err(|error| failed("follow the link", dest, error))??,
        false => dest.to_owned(),
    };
    let (folder, name) =
        into_which(&dest, &ps::writable_volumes(global)?, name.as_os_str(), whole != path)
            .map_err(|error| failed("write to", &dest, error))?;
    let place = held(&folder).join(&name);
    let shown = if dest.is_dir() && whole == path { dest.join(&name) } else { dest.clone() };
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
    if is_folders(whole) && copied.symlink_metadata().is_ok_and(|about| about.is_file()) {
        return Err(Failure::new(Kind::Usage, format!("{path} is not a folder")).hint(format!(
            "`sconce cp {container}:{} …` copies the file",
            path.trim_end_matches('/')
        )));
    }
    if is_meant_as_folder && !is_folder(&copied) && !dest.is_dir() {
        let what = format!("{} is not a folder that is there", dest.display());
        return Err(Failure::new(Kind::Usage, what)
            .hint("make it first, or leave the slash away for a file of that name"));
    }
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

/// As Docker has it: what is in the folder is meant, and not the folder itself.
fn without_dot(path: &str) -> &str {
    match path.strip_suffix("/.") {
        Some("") => "/",
        Some(folder) => folder,
        None => path,
    }
}

/// Whether a path is written as that of a folder.
fn is_folders(path: &str) -> bool {
    path.ends_with('/') || path.ends_with("/.")
}

/// The folder that `dest` is, or in which it is to be, and the name there; `name` is that of what is copied. With `contents` what is copied
/// is what a folder holds, and not the folder.
fn into_which(
    dest: &Path,
    volumes: &[PathBuf],
    name: &OsStr,
    contents: bool,
) -> std::io::Result<(OwnedFd, OsString)> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    let (parent, last) = match sconce_run::reach(dest, volumes) {
        Ok(real) if real.is_dir() && !(contents && real.file_name().is_some()) => {
            (real, name.to_owned())
        }
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

fn into(
    global: &Global,
    source: &Path,
    follow_link: bool,
    container: &str,
    path: &str,
) -> Result<(), Failure> {
    let one = ps::find(global, container)?;
    let unreadable =
        |error| Failure::new(Kind::Usage, format!("can't read {}: {error}", source.display()));
    let volumes = ps::writable_volumes(global)?;
    let written = source.to_string_lossy();
    // As Docker has it, a link is copied and not what it leads to, but for one that is written as a folder.
    let is_link = !follow_link && !is_folders(&written) && source.is_symlink();
    let real = match (is_link, source.parent(), source.file_name()) {
        (true, Some(above), Some(name)) => {
            let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            sconce_run::reach(above, &volumes).map(|above| above.join(name))
        }
        _ => sconce_run::reach(source, &volumes),
    };
    let real = real.map_err(unreadable)?;
    if !is_link && real.metadata().is_ok_and(|about| !about.is_file() && !about.is_dir()) {
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
    let is_folder = real.is_dir() && !is_link;
    if is_folders(&written) && !is_folder {
        return Err(Failure::new(Kind::Usage, format!("{} is not a folder", plain(source))));
    }
    let mut note = note;
    if is_folder && (written.ends_with("/.") || written == ".") {
        // A folder of that name that is there gets what this one holds.
        let to = Path::new("/").join(without_dot(path));
        return match (to.parent(), to.file_name()) {
            (Some(parent), Some(name)) => {
                let parent = parent.to_string_lossy();
                Ok(one.copy_in(from, Path::new(name), &parent, &mut note)?)
            }
            // Nothing is above the container's root that could have it.
            _ => copy_each(&one, &real, source),
        };
    }
    match one.copy_in(from, &name, path, &mut note) {
        // Not a folder there: the last part of the path is the name it gets.
        Err(sconce_run::Error::Shim { message, .. }) if message.contains("no such folder") => {
            // A folder is meant, and no file becomes one.
            if is_folders(path) && !is_folder {
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

/// Copies what a folder holds into the container's root.
fn copy_each(one: &sconce_run::Listed, folder: &Path, called: &Path) -> Result<(), Failure> {
    let unreadable =
        |error| Failure::new(Kind::Usage, format!("can't read {}: {error}", called.display()));
    let folder = sconce_run::hold(folder).map_err(unreadable)?;
    let mut note = note;
    for entry in fs::read_dir(held(&folder)).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let (from, called) = (held(&folder).join(&name), called.join(&name));
        one.copy_in((&from, &called), Path::new(&name), "/", &mut note)?;
    }
    Ok(())
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
