//! Owners, modes and times of what is extracted: as the layer says in a private store, harmless in
//! one that other users can read.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, RawMode, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown,
    fsetxattr, fstat, futimens,
};

use crate::access::Sharing;

/// Owner, permissions and time of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time, whole seconds since 1970.
    pub mtime: i64,
}

impl Meta {
    /// A directory of root, 0755, time 0: what a parent gets that no entry describes.
    pub const DIRECTORY: Self = Self { mode: 0o755, uid: 0, gid: 0, mtime: 0 };
}

/// The extended attribute that keeps the mode of a layer's folder, in octal digits, where the folder
/// itself must have another.
pub(crate) const MODE: &str = "user.sconce.mode";

/// What becomes of the metadata of a layer in a store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    sharing: Sharing,
    keep_owners: bool,
}

impl Rules {
    pub(crate) fn of(sharing: Sharing) -> Self {
        Self { sharing, keep_owners: sharing.is_private() && owners_can_be_kept() }
    }

    /// Whether files get the owners of the layer, and with them device nodes and capabilities.
    pub(crate) fn keep_owners(self) -> bool {
        self.keep_owners
    }

    /// Sets owner, mode and time of an open file or folder, whatever the umask, the parent's setgid
    /// bit or its default ACL made of them.
    pub(crate) fn apply(
        self,
        file: impl AsFd,
        meta: Meta,
        is_folder: bool,
    ) -> rustix::io::Result<()> {
        let made = fstat(&file)?;
        if self.keep_owners && (made.st_uid, made.st_gid) != (meta.uid, meta.gid) {
            fchown(&file, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))?;
        }
        // After the owner: changing it clears special bits (chown(2)).
        let mode = self.mode(meta, is_folder);
        if made.st_mode & 0o7777 != mode {
            fchmod(&file, Mode::from_raw_mode(mode as RawMode))?;
        }
        if is_folder && mode != meta.mode {
            // For `folders.rs`; some file systems have no attributes.
            let text = format!("{:o}", meta.mode & 0o7777);
            let _ = fsetxattr(&file, MODE, text.as_bytes(), XattrFlags::empty());
        }
        futimens(&file, &times(meta.mtime))
    }

    /// Sets the owner of something that can't be opened.
    pub(crate) fn own(self, parent: &OwnedFd, name: &OsStr, meta: Meta) -> rustix::io::Result<()> {
        if !self.keep_owners {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
        chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// The mode an entry gets.
    pub(crate) fn mode(self, meta: Meta, is_folder: bool) -> u32 {
        match is_folder {
            _ if self.sharing.is_private() => meta.mode & 0o7777,
            // Any member may prune, and so must be able to empty it.
            true if self.sharing.is_group() => 0o775,
            true => 0o755,
            false if meta.mode & 0o111 != 0 => 0o755,
            false => 0o644,
        }
    }
}

/// Both times of a file, whole seconds since 1970.
pub(crate) fn times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Root of a namespace that has all ids (user_namespaces(7)) may give files to anyone.
pub(crate) fn owners_can_be_kept() -> bool {
    rustix::process::geteuid().is_root()
        && fs::read_to_string("/proc/self/uid_map")
            .is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]))
}
