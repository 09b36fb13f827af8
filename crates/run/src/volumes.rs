//! Volumes, taken hold of before anything of the container is mounted.
//!
//! A bind-mount of a folder shows every mount below it. Made late, a volume above the store would
//! show the container's own root, with its /proc as it was before it was masked. So each volume's
//! tree of mounts is cloned (open_tree(2)) while there is nothing of the container in it, gets its
//! attributes as a whole, mounts below included (mount_setattr(2)), and waits in a folder in memory
//! for libcontainer to bind it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, move_mount, open_tree,
};

use crate::error::{Doing, Error};
use crate::{Volume, os};

/// A volume that is held: its tree, and what it is to be.
pub(crate) struct Held {
    tree: OwnedFd,
    is_folder: bool,
    /// Folders below it that are to be covered.
    covered: Vec<PathBuf>,
}

/// A volume at the place from which libcontainer binds it.
pub(crate) struct Staged {
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
}

/// Takes hold of volumes; the sources are real paths. `nosuid` is for user namespaces, where other
/// people's setuid programs have no business. Of the `hidden` folders those that a volume would
/// show are remembered.
pub(crate) fn hold(
    volumes: &[Volume],
    nosuid: bool,
    hidden: &[PathBuf],
) -> Result<Vec<Held>, Error> {
    volumes.iter().map(|volume| hold_one(volume, nosuid, hidden)).collect()
}

fn hold_one(volume: &Volume, nosuid: bool, hidden: &[PathBuf]) -> Result<Held, Error> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let opening = || format!("opening the volume {}", volume.source.display());
    let handle =
        without_links(CWD, &volume.source).map_err(|error| exchanged(&volume.source, error))?;
    let tree = open_tree(&handle, "", flags | OpenTreeFlags::AT_EMPTY_PATH).doing(opening())?;
    // Device files work in /dev only, from where --device brings them.
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    if nosuid {
        attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID;
    }
    if volume.read_only {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    os::set_mount_attributes(tree.as_fd(), attributes.bits().into())
        .doing_to("restricting the volume", &volume.source)?;
    let about = rustix::fs::fstat(&tree).doing_to("looking at", &volume.source)?;
    let is_folder =
        rustix::fs::FileType::from_raw_mode(about.st_mode) == rustix::fs::FileType::Directory;
    let covered = hidden
        .iter()
        .filter_map(|folder| folder.strip_prefix(&volume.source).ok())
        .map(Path::to_owned)
        .collect();
    Ok(Held { tree, is_folder, covered })
}

/// Attaches what is held below `stage`, which is made.
pub(crate) fn stage(
    held: Vec<Held>,
    volumes: &[Volume],
    stage: &Path,
) -> Result<Vec<Staged>, Error> {
    if held.is_empty() {
        return Ok(Vec::new());
    }
    std::fs::create_dir(stage).doing_to("creating", stage)?;
    let mut staged = Vec::with_capacity(held.len());
    for ((number, held), volume) in held.into_iter().enumerate().zip(volumes) {
        let source = stage.join(number.to_string());
        match held.is_folder {
            true => std::fs::create_dir(&source).doing_to("creating", &source)?,
            false => std::fs::write(&source, "").doing_to("creating", &source)?,
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(held.tree.as_fd(), "", CWD, &source, flags)
            .doing_to("attaching the volume", &volume.source)?;
        for below in &held.covered {
            cover(held.tree.as_fd(), below).doing(format!(
                "hiding {} in the volume {}",
                volume.source.join(below).display(),
                volume.source.display()
            ))?;
        }
        let (target, read_only) = (volume.target.clone(), volume.read_only);
        staged.push(Staged { source, target, read_only });
    }
    Ok(staged)
}

/// Makes a folder at a path that was resolved before, and those above it, if they are missing: whether it
/// was.
pub(crate) fn make_resolved(path: &Path) -> Result<bool, Error> {
    let fault = |error| exchanged(path, error);
    match without_links(CWD, path) {
        Err(Errno::NOENT) => {}
        found => return found.map(|_| false).map_err(fault),
    }
    let mut folder = without_links(CWD, Path::new("/")).map_err(fault)?;
    for name in path.components().skip(1) {
        let name = Path::new(name.as_os_str());
        match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(fault(error)),
        }
        folder = without_links(&folder, name).map_err(fault)?;
    }
    Ok(true)
}

/// Opens what is at a path, and no link on the way: the path was resolved before, so that one that is there
/// by now leads elsewhere.
pub(crate) fn without_links(from: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(from, path, flags, Mode::empty(), resolve)
}

fn exchanged(path: &Path, error: Errno) -> Error {
    match error {
        Errno::LOOP => Error::Invalid {
            option: "volume",
            given: path.display().to_string(),
            why: "a link has come into its path since it was looked at".to_owned(),
        },
        _ => Error::Os {
            what: format!("opening the volume {}", path.display()),
            source: error.into(),
        },
    }
}

/// Covers a folder of a volume with an empty one that nobody can write to.
fn cover(tree: impl AsFd, below: &Path) -> std::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let path = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    let folder = rustix::fs::openat2(tree, path, flags, Mode::empty(), resolve)?;
    let place = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&folder));
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::RDONLY;
    Ok(rustix::mount::mount("tmpfs", place, "tmpfs", flags, Some(c"mode=0555,size=4k"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_resolved_follows_no_link() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().canonicalize().expect("real").join(name);
        assert!(make_resolved(&at("new/below")).expect("made"));
        assert!(!make_resolved(&at("new/below")).expect("there"));
        std::fs::create_dir(at("elsewhere")).expect("a folder");
        std::fs::rename(at("new"), at("old")).expect("renamed");
        std::os::unix::fs::symlink(at("elsewhere"), at("new")).expect("a link");
        for path in ["new", "new/below", "new/not/there"] {
            let error = make_resolved(&at(path)).expect_err("a link").to_string();
            assert!(error.contains("a link has come into its path"), "{error}");
        }
        assert_eq!(std::fs::read_dir(at("elsewhere")).expect("read").count(), 0);
    }
}
