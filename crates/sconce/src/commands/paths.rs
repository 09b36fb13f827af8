//! Paths that a person names, of which a container may have a part as its volume.
//!
//! Docker follows every link. Here a person's own links are followed too, and one in a folder that a container can
//! write to is an error: the container may have made it, and it would lead whoever reads or writes there as it wants. Known are the
//! volumes of containers that run, and of those that ended and are still listed.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use sconce_oci::Transport;
use sconce_open::held;
use sconce_start::Target;

use crate::error::{Failure, Kind};

/// How long a FIFO is waited for without a word.
const IN_SILENCE: Duration = Duration::from_secs(2);

/// A path as it is to be used.
pub struct Reached {
    /// Without links as far as it is there.
    pub real: PathBuf,
    /// There was a link in it, or it is in a container's volume, where one may come at any time.
    pub guarded: bool,
}

/// Where `path` leads, whether something is there or not.
pub fn reach(path: &Path) -> io::Result<Reached> {
    reach_beside(path, &volumes())
}

fn reach_beside(path: &Path, volumes: &[PathBuf]) -> io::Result<Reached> {
    let given = std::path::absolute(path)?;
    let mut missing: Vec<OsString> = Vec::new();
    let mut there = given.as_path();
    let mut real = loop {
        match sconce_run::reach(there, volumes) {
            // A link to what is not there is whoever opens it to name.
            Err(error) if error.kind() == ErrorKind::NotFound && !there.is_symlink() => {
                let (Some(parent), Some(name)) = (there.parent(), there.file_name()) else {
                    return Err(error);
                };
                missing.push(name.to_owned());
                there = parent;
            }
            reached => break reached?,
        }
    };
    real.extend(missing.iter().rev());
    let guarded = real != given || volumes.iter().any(|volume| real.starts_with(volume));
    Ok(Reached { real, guarded })
}

/// The folders that containers can write to. Where there is no store there are none, and none is made.
fn volumes() -> Vec<PathBuf> {
    let found = || -> Option<Vec<PathBuf>> {
        let root = sconce_store::default_root(|name| std::env::var_os(name)).ok()?;
        if !root.is_dir() {
            return None;
        }
        let store = sconce_store::Store::open(&root).ok()?;
        let all = sconce_run::list(&store.containers().ok()?).ok()?;
        let volumes = all.into_iter().flat_map(|one| one.container.volumes);
        Some(volumes.filter(|volume| !volume.read_only).map(|volume| volume.source).collect())
    };
    found().unwrap_or_default()
}

/// Opens a folder that [`reach`] found, and makes what is missing of it: no link that comes into its path meanwhile is
/// followed.
pub fn make(real: &Path) -> io::Result<OwnedFd> {
    let mut missing = Vec::new();
    let mut there = real;
    let mut open = loop {
        match sconce_run::hold(there) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let (Some(parent), Some(name)) = (there.parent(), there.file_name()) else {
                    return Err(error);
                };
                missing.push(name);
                there = parent;
            }
            held => break held?,
        }
    };
    for name in missing.into_iter().rev() {
        match mkdirat(&open, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        open = openat(&open, name, flags, Mode::empty())?;
    }
    Ok(open)
}

/// [`reach`] for an option, which is named where it fails.
pub fn of_option(option: &str, path: &Path) -> Result<PathBuf, Failure> {
    match reach(path) {
        Ok(reached) if reached.guarded => Ok(reached.real),
        Ok(_) => Ok(path.to_owned()),
        // A link of the kernel's, such as those of `<(…)` and /dev/stdin, leads to what has no path.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(path.to_owned()),
        Err(error) => {
            let what = format!("{option} '{}': {error}", path.display());
            Err(Failure::new(Kind::Usage, what))
        }
    }
}

/// [`of_option`] where the option may be left out.
pub fn of_given(option: &str, path: Option<&Path>) -> Result<Option<PathBuf>, Failure> {
    path.map(|path| of_option(option, path)).transpose()
}

/// A target as a person names it; where it is a path, one that no link in a container's volume is part of.
///
/// # Errors
/// Such a link.
pub fn target(text: &str) -> Result<Cow<'_, str>, Failure> {
    let given = Cow::Borrowed(text);
    if Target::is_name(text) {
        static SAID: Once = Once::new();
        if let Some(beside) = Target::beside_name(text) {
            SAID.call_once(|| eprintln!("note: {beside}"));
        }
        return Ok(given);
    }
    let (prefix, rest) = match Transport::split(text) {
        Some((Transport::Layout | Transport::Archive, rest)) => {
            (text.strip_suffix(rest).unwrap_or_default(), rest)
        }
        _ => ("", text),
    };
    let (path, tag) = match rest.split_once(':') {
        Some((path, _)) if !prefix.is_empty() => rest.split_at(path.len()),
        _ => (rest, ""),
    };
    if path.is_empty() || path == "-" {
        return Ok(given);
    }
    // Without a link in it no store need be opened to ask whose it is. What is not there may be a name, and no path.
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let plain = match whole.canonicalize() {
        Ok(real) => real == whole,
        Err(_) => !has_link(&whole),
    };
    if plain {
        return Ok(given);
    }
    let real = of_option("the path", Path::new(path))?;
    Ok(match real.to_str() {
        Some(real) => Cow::Owned(format!("{prefix}{real}{tag}")),
        None => given,
    })
}

/// Whether a part of the path is a link.
fn has_link(path: &Path) -> bool {
    path.ancestors().any(Path::is_symlink)
}

/// The text of a file that a person named for an option, up to `limit` bytes, by no link in a container's volume.
pub fn read(option: &str, path: &Path, limit: u64) -> Result<String, Failure> {
    let real = of_option(option, path)?;
    sconce_open::read_resolved(&real, limit).map_err(|error| {
        Failure::new(Kind::Storage, format!("can't read {}: {error}", path.display()))
    })
}

/// Writes new files into a folder, which is made where it is missing; each comes whole or not at all, and takes the place of what
/// has its name, be that a link.
pub fn write_all(folder: &Path, files: &[(String, Vec<u8>)]) -> io::Result<()> {
    let open = make(&reach(folder)?.real)?;
    let folder = held(&open);
    for (name, bytes) in files {
        let part = folder.join(format!(".{name}.{}.part", std::process::id()));
        let written = OpenOptions::new().write(true).create_new(true).open(&part);
        let written = written.and_then(|mut file| file.write_all(bytes));
        if let Err(error) = written.and_then(|()| fs::rename(&part, folder.join(name))) {
            if error.kind() != ErrorKind::AlreadyExists {
                let _ = fs::remove_file(&part);
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Does `work`, which reads `path`; where that is a FIFO whose writer is late, says so.
pub fn while_reading<T>(path: &Path, work: impl FnOnce() -> T) -> T {
    use std::os::unix::fs::FileTypeExt;
    if !fs::metadata(path).is_ok_and(|about| about.file_type().is_fifo()) {
        return work();
    }
    let (done, waits) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if waits.recv_timeout(IN_SILENCE) == Err(RecvTimeoutError::Timeout) {
                let path = path.display();
                eprintln!("note: {path} is a FIFO: waiting for what is to write into it");
            }
        });
        let answer = work();
        drop(done);
        answer
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_not_there_is_reached_through_what_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        fs::create_dir_all(at("vol/sub")).unwrap();
        fs::create_dir(at("mine")).unwrap();
        symlink("vol", at("short")).unwrap();
        symlink(at("mine"), at("vol/out")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        let volumes = [at("vol")];
        let reached = |path: &str| reach_beside(&at(path), &volumes).map(|r| (r.real, r.guarded));
        assert_eq!(reached("mine/x/y").unwrap(), (at("mine/x/y"), false));
        assert_eq!(reached("short/x/y").unwrap(), (at("vol/x/y"), true));
        assert_eq!(reached("vol/sub").unwrap(), (at("vol/sub"), true));
        for path in ["vol/out", "vol/out/x", "short/out/x/y"] {
            let error = reached(path).unwrap_err().to_string();
            assert!(error.contains("is a link in a volume of a container"), "{path}: {error}");
        }
        assert_eq!(reached("dangling").unwrap_err().kind(), ErrorKind::NotFound);
        // A link that comes once the path is known is not followed.
        let (real, _) = reached("vol/sub/new/newer").unwrap();
        fs::rename(at("vol/sub"), at("vol/moved")).unwrap();
        symlink(at("mine"), at("vol/sub")).unwrap();
        assert!(make(&real).is_err() && !at("mine/new").exists());
        fs::remove_file(at("vol/sub")).unwrap();
        make(&real).unwrap();
        assert!(real.is_dir());
    }
}
