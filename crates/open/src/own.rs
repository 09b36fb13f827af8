//! Folders whose path nobody else can lead elsewhere.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2};
use rustix::io::Errno;

use crate::walk::{self, Walk};

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

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
    let mut folder = walk::top()?;
    let mut walk = Walk::along(path);
    while let Some(part) = walk.next() {
        let next = walk::look_at(&folder, &part)?;
        if !walk::is_link(&fstat(&next)?) {
            folder = next;
            continue;
        }
        if may_be_anybodys(&fstat(&folder)?) {
            return Err(io::Error::other(format!(
                "`{}` is a link, in a folder that others can write to: it may lead anywhere",
                part.display()
            )));
        }
        if walk.follow(&next)? {
            folder = walk::top()?;
        }
    }
    Ok(openat(&folder, ".", FOLDER, Mode::empty())?)
}

/// Whether others than root and the caller may have made what is in a folder.
fn may_be_anybodys(folder: &Stat) -> bool {
    let you = rustix::process::geteuid().as_raw();
    !(folder.st_uid == 0 || folder.st_uid == you) || folder.st_mode & 0o022 != 0
}
