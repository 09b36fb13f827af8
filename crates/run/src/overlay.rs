//! The image's layers and a writable one, mounted as one root.
//!
//! Each layer is reached through a short symbolic link below the stage, and the mount is made
//! from there: the option string stays within the kernel's one page for as many layers as an
//! image may have, and no layer's path can hold a `:` or `,` that the kernel would read as its
//! own (Documentation/filesystems/overlayfs.rst).

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::error::{Doing, Error};

/// A mounted root.
pub(crate) struct Overlay {
    /// Where the merged tree is.
    pub(crate) root: PathBuf,
    /// Where changes go.
    pub(crate) upper: PathBuf,
    /// Changes are kept in memory: the scratch folder's file system cannot hold them.
    pub(crate) in_memory: bool,
}

/// Mounts `lowers` (the top one first) below a new writable layer in `scratch`, at `root` on the
/// `stage` in memory that lies in `scratch`. `user_xattrs` is for user namespaces, where the
/// kernel keeps the overlay's marks in `user.*` (Linux 5.11).
pub(crate) fn mount(
    lowers: &[PathBuf],
    scratch: &Path,
    stage: &Path,
    user_xattrs: bool,
    keep_upper: bool,
) -> Result<Overlay, Error> {
    let root = stage.join("root");
    let links = stage.join("l");
    for folder in [&root, &links] {
        std::fs::create_dir(folder).doing_to("creating", folder)?;
    }
    // The kernel takes no folder twice (ELOOP). A layer that is there again further down shows nothing there: whatever it
    // has at a path, the upper one has at the same path, above all that the lower one could show or hide.
    let mut seen = BTreeSet::new();
    let lowers: Vec<&PathBuf> = lowers.iter().filter(|lower| seen.insert(*lower)).collect();
    let mut names = Vec::with_capacity(lowers.len());
    // The kernel would follow a link that somebody put in a tree's place, to whatever is private to who runs this: so it gets
    // the folders that are open here, and not their paths.
    let mut open = Vec::with_capacity(lowers.len());
    for (index, lower) in lowers.iter().enumerate() {
        let name = format!("l/{index:x}");
        let folder = sconce_open::own_folder(lower).doing_to("opening", lower)?;
        let held = sconce_open::held(&folder);
        std::os::unix::fs::symlink(&held, stage.join(&name)).doing_to("linking to", lower)?;
        open.push(folder);
        names.push(name);
    }
    // The folder the process stands in is part of the mount's options, so stand there.
    std::env::set_current_dir(stage).doing_to("entering", stage)?;
    let lowerdir = names.join(":");
    let marks = if user_xattrs { ",userxattr" } else { "" };
    let attempt = |writable: &str, volatile: &str| -> Result<(), Errno> {
        let options = format!(
            "lowerdir={lowerdir},upperdir={writable}upper,workdir={writable}work{marks}{volatile}\0"
        );
        let options = std::ffi::CStr::from_bytes_until_nul(options.as_bytes()).ok();
        rustix::mount::mount("overlay", "root", "overlay", MountFlags::NODEV, options)
    };
    let prepare = |writable: &Path| -> Result<(), Error> {
        for name in ["upper", "work"] {
            let folder = writable.join(name);
            std::fs::create_dir_all(&folder).doing_to("creating", &folder)?;
            // In the store of a group it has that group, which a user namespace need not know: the kernel then refuses
            // what is made in it, as no capability counts for it (user_namespaces(7), "Capabilities").
            let own = rustix::process::getegid();
            rustix::fs::chown(&folder, None, Some(own))
                .doing_to("changing the group of", &folder)?;
            rustix::fs::chmod(&folder, Mode::from_raw_mode(0o755))
                .doing_to("changing the mode of", &folder)?;
        }
        Ok(())
    };
    prepare(scratch)?;
    // `volatile` (Linux 5.10): the changes are thrown away, so nothing need wait for a disk.
    let on_disk = match attempt("../", ",volatile") {
        Err(Errno::INVAL) => attempt("../", ""),
        other => other,
    };
    let failed = |errno: Errno| Error::Overlay { layers: lowers.len(), source: errno.into() };
    match on_disk {
        Ok(()) => Ok(Overlay { root, upper: scratch.join("upper"), in_memory: false }),
        // Overlays and network file systems cannot hold another overlay's changes.
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::REMOTE | Errno::XDEV) if !keep_upper => {
            let memory = stage.join("m");
            std::fs::create_dir(&memory).doing_to("creating", &memory)?;
            rustix::mount::mount("tmpfs", &memory, "tmpfs", MountFlags::NODEV, Some(c"mode=0755"))
                .doing_to("mounting a tmpfs on", &memory)?;
            prepare(&memory)?;
            attempt("m/", "").map_err(failed)?;
            Ok(Overlay { root, upper: memory.join("upper"), in_memory: true })
        }
        Err(errno) => Err(failed(errno)),
    }
}

impl Overlay {
    /// Takes the root down; the changes stay below [`Overlay::upper`] if they are on disk.
    pub(crate) fn unmount(&self) -> io::Result<()> {
        Ok(rustix::mount::unmount(&self.root, UnmountFlags::DETACH)?)
    }
}
