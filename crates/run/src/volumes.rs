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
    // The path was judged without links: one that is there by now leads elsewhere.
    let handle = rustix::fs::openat2(
        CWD,
        &volume.source,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
    .doing(opening())?;
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
        staged.push(Staged { source, target: volume.target.clone() });
    }
    Ok(staged)
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
