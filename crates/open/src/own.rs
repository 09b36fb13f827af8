//! Folders whose path nobody else can lead elsewhere.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2, readlinkat,
};
use rustix::io::Errno;

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The most links on the way to a folder, as the kernel has it (path_resolution(7)).
pub(crate) const MOST_LINKS: u32 = 40;

/// Opens a folder by its absolute path. A link on the way counts only where nobody but root or the caller can have put it:
/// whoever may write a folder can move root's own links into it, so the owner of a link proves nothing.
///
/// # Errors
/// The kernel's; a link that may be anybody's.
pub fn own_folder(path: &Path) -> io::Result<OwnedFd> {
    match openat2(CWD, path, FOLDER, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Err(Errno::LOOP) => walk(path),
        opened => Ok(opened?),
    }
}

/// The same step by step: each link is judged by the folder that it was found in.
fn walk(path: &Path) -> io::Result<OwnedFd> {
    let top = || openat(CWD, "/", FOLDER, Mode::empty());
    let mut folder = top()?;
    let mut todo = parts(path);
    let mut links = 0;
    while let Some(part) = todo.pop() {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = openat(&folder, &part, flags, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&next)?.st_mode) != FileType::Symlink {
            folder = next;
            continue;
        }
        if may_be_anybodys(&fstat(&folder)?) {
            return Err(io::Error::other(format!(
                "`{}` is a link, in a folder that others can write to: it may lead anywhere",
                part.display()
            )));
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(Errno::LOOP.into());
        }
        let target = readlinkat(&next, "", Vec::new())?.into_bytes();
        let target = PathBuf::from(OsString::from_vec(target));
        if target.is_absolute() {
            folder = top()?;
        }
        todo.extend(parts(&target));
    }
    Ok(openat(&folder, ".", FOLDER, Mode::empty())?)
}

/// Whether others than root and the caller may have made what is in a folder.
fn may_be_anybodys(folder: &Stat) -> bool {
    let you = rustix::process::geteuid().as_raw();
    !(folder.st_uid == 0 || folder.st_uid == you) || folder.st_mode & 0o022 != 0
}

/// The names and `..` of a path, the last first.
pub(crate) fn parts(path: &Path) -> Vec<OsString> {
    let named = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(named).collect()
}
