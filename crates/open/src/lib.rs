//! Opening the files that people, projects and images hand us.
//!
//! A document may be a FIFO that nobody writes to, a link to `/dev/zero`, or a link out of the
//! folder it was found in. So every document is opened here: regular files only, looked at before
//! they are opened (opening some devices has effects), read up to a limit, and, where they belong
//! to a folder, beneath that folder by the kernel's own walk ([`Folder`]; openat2(2)).
//!
//! Errors are [`io::Error`]s, as those of `std::fs`: the caller names the path. What was refused
//! here and not by the kernel has a [`Refusal`] inside.
//!
//! Files of the kernel (`/proc`, `/sys`) and files that sconce wrote itself need none of this.

mod closed;
mod folder;
mod layers;
mod object;
mod own;
mod refusal;
mod walk;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

pub use closed::closed_folder;
pub use folder::{Folder, Found};
pub use layers::Layers;
pub use object::{json, of_value};
pub use own::own_folder;
pub use refusal::Refusal;

/// Opens a regular file for reading. Links are followed, as whoever named the path expects.
///
/// # Errors
/// The kernel's, and [`Refusal::Kind`] for what is not a regular file.
pub fn file(path: &Path) -> io::Result<File> {
    regular(rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// The bytes of a regular file.
///
/// # Errors
/// Those of [`file()`], and [`Refusal::TooLarge`] for one of more than `limit` bytes.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    bounded(file(path)?, limit)
}

/// The text of a regular file.
///
/// # Errors
/// Those of [`read`], and [`Refusal::NotText`].
pub fn read_to_string(path: &Path, limit: u64) -> io::Result<String> {
    text(read(path, limit)?)
}

/// The bytes of a regular file; `None` where nothing is at the path.
///
/// # Errors
/// Those of [`read`].
pub fn read_if_there(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    match read(path, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The text of a file that a person named on the command line. As [`read_to_string`], but
/// `/dev/stdin` and `/dev/fd/N` (which a shell makes of `<(command)`) are read to their end
/// whatever stands behind them: the person has opened it.
///
/// # Errors
/// Those of [`read_to_string`].
pub fn read_argument(path: &Path, limit: u64) -> io::Result<String> {
    if !is_descriptor(path) {
        return read_to_string(path, limit);
    }
    text(bounded(File::open(path)?, limit)?)
}

/// As [`file()`], of a path that was resolved before: a link that has come into it since is refused.
///
/// # Errors
/// Those of [`file()`], and [`Refusal::Replaced`].
pub fn file_unfollowed(path: &Path) -> io::Result<File> {
    regular(unfollowed(path, OFlags::PATH)?)
}

/// The text of a regular file at a path that was resolved before, as [`file_unfollowed`].
///
/// # Errors
/// Those of [`read_to_string`], and [`Refusal::Replaced`].
pub fn read_to_string_unfollowed(path: &Path, limit: u64) -> io::Result<String> {
    text(bounded(file_unfollowed(path)?, limit)?)
}

/// The text of a file that a person named, at the path that was resolved for it: as [`read_to_string_unfollowed`], but of the
/// kernel's own links below `/dev` and `/proc` as [`read_argument`].
///
/// # Errors
/// Those of [`read_to_string`], and [`Refusal::Replaced`].
pub fn read_resolved(path: &Path, limit: u64) -> io::Result<String> {
    match is_kernels(path) {
        true => read_argument(path, limit),
        false => read_to_string_unfollowed(path, limit),
    }
}

/// The FIFO at a path that a person named and that was resolved before, opened as soon as somebody writes to it; `None` where
/// something else is. A link that has come into the path since is refused.
///
/// # Errors
/// The kernel's, and [`Refusal::Replaced`].
pub fn pipe_resolved(path: &Path) -> io::Result<Option<File>> {
    let handle = match is_kernels(path) {
        true => rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?,
        false => unfollowed(path, OFlags::PATH)?,
    };
    match FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode) {
        FileType::Fifo => Ok(Some(reopen(&handle, OFlags::RDONLY)?.into())),
        _ => Ok(None),
    }
}

/// Whether links on the way are the kernel's: no container has such a folder as its volume.
fn is_kernels(path: &Path) -> bool {
    ["/dev", "/proc"].iter().any(|folder| path.starts_with(folder))
}

/// The path of what is open, links followed: that which the kernel found (proc_pid_fd(5)).
///
/// # Errors
/// The kernel's, and [`Refusal::NoProc`].
pub fn real_path(open: impl AsFd) -> io::Result<PathBuf> {
    std::fs::read_link(held(open)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Refusal::NoProc.into(),
        _ => error,
    })
}

/// A path to the very thing that is open, for those that take paths; good as long as it is open.
pub fn held(open: impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", open.as_fd().as_raw_fd()).into()
}

/// Who this process acts as.
pub fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether an error says that nothing is at a path.
pub fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// All of a file, up to `limit` bytes.
///
/// # Errors
/// The kernel's, and [`Refusal::TooLarge`].
pub fn bounded(file: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(Refusal::TooLarge { limit }.into());
    }
    Ok(bytes)
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        Refusal::NotText { line: before.filter(|byte| **byte == b'\n').count() + 1 }.into()
    })
}

/// Whether a path is spelt as one of our own descriptors. Links to those don't count: a project
/// could have one.
fn is_descriptor(path: &Path) -> bool {
    let parts: Option<Vec<&str>> = path
        .components()
        .filter(|part| *part != Component::RootDir)
        .map(|part| part.as_os_str().to_str())
        .collect();
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    path.is_absolute()
        && match parts.as_deref() {
            Some(["dev", "stdin"]) => true,
            Some(["dev", "fd", n] | ["proc", "self", "fd", n]) => number(n),
            _ => false,
        }
}

/// Opens what `handle`, an `O_PATH` descriptor, stands for, if that is a regular file.
fn regular(handle: OwnedFd) -> io::Result<File> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode);
    if kind != FileType::RegularFile {
        return Err(Refusal::Kind(refusal::name(kind)).into());
    }
    // A regular file of the kernel may wait for ever (/proc/kmsg): it then answers EAGAIN.
    reopen(&handle, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).map(File::from)
}

/// Opens a path in which no part may be a link.
fn unfollowed(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(CWD, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Err(Errno::LOOP) => Err(dangling(path).unwrap_or(Refusal::Replaced).into()),
        Err(Errno::NOSYS) => Err(Refusal::OldKernel.into()),
        other => Ok(other?),
    }
}

/// The link in a path that leads to nothing: it was there when the path was resolved, and could not be followed.
fn dangling(path: &Path) -> Option<Refusal> {
    let leads_nowhere = |at: &&Path| {
        at.is_symlink() && std::fs::metadata(at).is_err_and(|error| is_missing(&error))
    };
    let link = path.ancestors().find(leads_nowhere)?;
    Some(Refusal::Dangling { link: link.to_owned(), target: std::fs::read_link(link).ok()? })
}

/// Opens the very file that an `O_PATH` descriptor stands for (proc_pid_fd(5)).
fn reopen(handle: impl AsFd, flags: OFlags) -> io::Result<OwnedFd> {
    match rustix::fs::openat(CWD, held(handle), flags | OFlags::CLOEXEC, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => Err(Refusal::NoProc.into()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests;
