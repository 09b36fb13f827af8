//! A path walked name by name: its links are read here and not by the kernel, so that each step can be judged.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, openat, readlinkat};
use rustix::io::Errno;

/// The most links on the way to a folder, as the kernel has it (path_resolution(7)).
const MOST_LINKS: u32 = 40;

/// What of a path is still to be walked.
pub(crate) struct Walk {
    /// The next one last.
    todo: Vec<OsString>,
    links: u32,
}

impl Walk {
    /// Along an absolute path, from [`top`].
    pub(crate) fn along(path: &Path) -> Self {
        Self { todo: parts(path), links: 0 }
    }

    /// The next name, or `..`.
    pub(crate) fn next(&mut self) -> Option<OsString> {
        self.todo.pop()
    }

    /// Goes along another path first, from [`top`].
    pub(crate) fn first_along(&mut self, path: &Path) {
        self.todo.extend(parts(path));
    }

    /// Goes on where a link leads: whether that begins at [`top`], else it is in the link's folder.
    ///
    /// # Errors
    /// The kernel's; there were too many.
    pub(crate) fn follow(&mut self, link: &OwnedFd) -> io::Result<bool> {
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(Errno::LOOP.into());
        }
        let target = readlinkat(link, "", Vec::new())?.into_bytes();
        let target = PathBuf::from(OsString::from_vec(target));
        self.first_along(&target);
        Ok(target.is_absolute())
    }
}

/// Where absolute paths begin.
pub(crate) fn top() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, "/", flags, Mode::empty())?)
}

/// Opens what is in a folder under a name, a link too, to be looked at.
pub(crate) fn look_at(folder: &OwnedFd, name: &OsString) -> rustix::io::Result<OwnedFd> {
    openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

pub(crate) fn is_link(about: &Stat) -> bool {
    FileType::from_raw_mode(about.st_mode) == FileType::Symlink
}

/// The names and `..` of a path, the last first.
fn parts(path: &Path) -> Vec<OsString> {
    let named = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(named).collect()
}
