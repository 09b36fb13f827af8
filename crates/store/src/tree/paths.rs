//! The way to an entry: folder by folder below the tree's root, no link followed by the kernel.
//!
//! A layer made elsewhere may go through a link that it has itself, as `lib -> usr/lib` and then `lib/x`.
//! It leads where it would for a process with the tree as its root (chroot(2)): an absolute one from
//! there, and `..` at the root stays there. Links of lower layers are not seen: a folder takes their place, as in Docker
//! and podman, whose layers are folders of an overlay too.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, mkdirat, openat, readlinkat};
use rustix::io::Errno;

use super::{TreeBuilder, Twice, bad, locked};
use crate::error::{Error, at};
use crate::meta::Meta;
use crate::walk::PATH_MAX;

/// Folder descriptors kept open for the next file in the same folder.
const OPEN_FOLDERS: usize = 128;

/// The most links on the way to one entry, as the kernel has it (path_resolution(7)).
const MOST_LINKS: u32 = 40;

/// The most folders entered on the way to one entry, those in the targets of links counted: a path without links
/// has no more than half of [`PATH_MAX`].
const MOST_STEPS: u32 = 2 * PATH_MAX as u32;

/// Where an entry goes.
pub(super) struct Spot<'p> {
    /// The folder it is in.
    pub(super) parent: Arc<OwnedFd>,
    /// Its name there.
    pub(super) name: &'p OsStr,
    /// Its path, on which no link is.
    pub(super) path: Cow<'p, Path>,
}

impl TreeBuilder {
    /// Finds where an entry goes, making the folders above it.
    pub(super) fn spot<'p>(&self, path: &'p Path) -> Result<Spot<'p>, Error> {
        check(path)?;
        let name = path.file_name().ok_or_else(|| bad(path, "it has no name"))?;
        match self.folder(above(path)) {
            Ok(parent) => Ok(Spot { parent, name, path: Cow::Borrowed(path) }),
            Err(Error::BadLayer { .. }) if self.twice == Twice::Replace => {
                let path = self.without_links(path)?;
                Ok(Spot { parent: self.folder(above(&path))?, name, path })
            }
            Err(error) => Err(error),
        }
    }

    /// A path with the links above its last part followed, as far as it is there. Nothing is made.
    pub(super) fn without_links<'p>(&self, path: &'p Path) -> Result<Cow<'p, Path>, Error> {
        check(path)?;
        let name = path.file_name().ok_or_else(|| bad(path, "it has no name"))?;
        match self.followed(above(path))? {
            Cow::Borrowed(_) => Ok(Cow::Borrowed(path)),
            Cow::Owned(above) => {
                let real = above.join(name);
                check(&real)?;
                Ok(Cow::Owned(real))
            }
        }
    }

    /// Where a folder is, all links followed as far as it is there. Nothing is made.
    pub(super) fn followed<'p>(&self, folder: &'p Path) -> Result<Cow<'p, Path>, Error> {
        if self.twice == Twice::Refuse {
            return Ok(Cow::Borrowed(folder));
        }
        let mut real = PathBuf::new();
        // The folder `real`: open, missing, or not looked for yet.
        let mut at_real = Place::Open(self.root.clone());
        let mut todo = parts(folder);
        let (mut links, mut steps) = (0, 0);
        while let Some(part) = todo.pop() {
            if part == ".." {
                if real.pop() {
                    at_real = Place::Unknown;
                }
                continue;
            }
            if matches!(at_real, Place::Unknown) {
                at_real = self.find(&real, &mut steps)?;
            }
            steps += 1;
            if steps > MOST_STEPS || real.as_os_str().len() >= PATH_MAX {
                return Err(bad(folder, "its links lead through too many folders"));
            }
            let Place::Open(parent) = &at_real else {
                real.push(part);
                continue;
            };
            match readlinkat(&**parent, part.as_os_str(), Vec::new()) {
                Ok(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(bad(folder, "too many symbolic links are on the way to it"));
                    }
                    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                    if target.is_absolute() {
                        real = PathBuf::new();
                        at_real = Place::Open(self.root.clone());
                    }
                    todo.extend(parts(&target));
                }
                // It is none.
                Err(Errno::INVAL | Errno::NOENT) => {
                    let next = self.step(parent, &part, &real.join(&part))?;
                    real.push(part);
                    at_real = next;
                }
                Err(error) => return Err(at("read", &self.path.join(&real).join(part))(error)),
            }
        }
        Ok(Cow::Owned(real))
    }

    /// Opens a folder on whose path no link is.
    fn find(&self, folder: &Path, steps: &mut u32) -> Result<Place, Error> {
        let (mut place, mut path) = (Place::Open(self.root.clone()), PathBuf::new());
        for part in folder {
            let Place::Open(parent) = &place else { break };
            *steps += 1;
            path.push(part);
            place = self.step(parent, part, &path)?;
        }
        Ok(place)
    }

    /// Opens the folder `path`, whose name is `part`, where it is there.
    fn step(&self, parent: &OwnedFd, part: &OsStr, path: &Path) -> Result<Place, Error> {
        match open(parent, part) {
            Ok(folder) => Ok(Place::Open(Arc::new(folder))),
            Err(Errno::NOENT) => Ok(Place::Missing),
            Err(error) => Err(self.unusable(path, error)),
        }
    }

    fn unusable(&self, path: &Path, error: Errno) -> Error {
        match error {
            Errno::NOTDIR | Errno::LOOP => {
                bad(path, "it is used as a directory, but is something else")
            }
            error => at("open", &self.path.join(path))(error),
        }
    }

    /// Opens a folder of the tree, making what is missing on the way.
    pub(super) fn folder(&self, path: &Path) -> Result<Arc<OwnedFd>, Error> {
        let mut missing = Vec::new();
        let mut folder = self.root.clone();
        for above in path.ancestors().filter(|above| !above.as_os_str().is_empty()) {
            if let Some(known) = locked(&self.folders).get(above) {
                folder = known.clone();
                break;
            }
            missing.push(above);
        }
        while let Some(next) = missing.pop() {
            folder = self.enter(&folder, next)?;
        }
        Ok(folder)
    }

    /// Opens the folder `path`, which is in `parent`, making it if it is missing.
    fn enter(&self, parent: &OwnedFd, path: &Path) -> Result<Arc<OwnedFd>, Error> {
        let name = path.file_name().ok_or_else(|| bad(path, "it has no name"))?;
        let folder = match open(parent, name) {
            Err(Errno::NOENT) => {
                match mkdirat(parent, name, Mode::RWXU) {
                    Ok(()) => {
                        locked(&self.metas).entry(path.to_owned()).or_insert(Meta::DIRECTORY);
                    }
                    // Another thread was faster.
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err(at("create", &self.path.join(path))(error)),
                }
                open(parent, name)
            }
            result => result,
        };
        let folder = Arc::new(folder.map_err(|error| self.unusable(path, error))?);
        let mut folders = locked(&self.folders);
        if folders.len() >= OPEN_FOLDERS {
            folders.clear();
        }
        folders.insert(path.to_owned(), folder.clone());
        Ok(folder)
    }
}

/// What is known of a folder on the way.
enum Place {
    Open(Arc<OwnedFd>),
    Missing,
    Unknown,
}

fn open(parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

fn above(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
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

/// Only plain names, one below the other.
pub(super) fn check(path: &Path) -> Result<(), Error> {
    if path.is_absolute() {
        return Err(bad(path, "the path is absolute"));
    }
    if path.as_os_str().len() >= PATH_MAX {
        return Err(bad(path, "the path is longer than a path can be"));
    }
    match path.components().all(|part| matches!(part, Component::Normal(_))) {
        true => Ok(()),
        false => Err(bad(path, "the path has a `..` or `.` part")),
    }
}
