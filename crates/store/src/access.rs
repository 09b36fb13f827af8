//! Whose a store is and who else may read or write it, judged before anything in it is believed.
//!
//! The mode of the store's folder says it (`docs/store.md`, "Who may use a store"): with the
//! setgid bit (inode(7)) the group's and the others' bits mean what they say, without it the store
//! is its owner's alone. Whom it was made for stays: what lies in it has the modes, owners and device nodes of that
//! time, and no chmod of its folder changes them.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use crate::error::{Error, at};

/// Where a store for all users of a machine lies, made and filled by root.
pub const MACHINE_STORE: &str = "/var/lib/sconce/store";

/// What a machine store is made with: its owner writes, all may read.
const READ_BY_ALL: u32 = 0o2755;

const SETGID: u32 = 0o2000;
const STICKY: u32 = 0o1000;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// The file of a store that is or was private: its trees have set-user-ID bits, owners and device nodes, whatever
/// modes `chmod -R` has given its folders since.
pub(crate) const PRIVATE_MARK: &str = "private";

/// Folders whose owner and mode are looked at beside the store's own.
const CHECKED: [&str; 8] =
    ["blobs", "blobs/sha256", "virtual", "trees", "layers", "images", "refs", "memo"];

/// Who may use a store: the mode that its folders have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sharing(u32);

impl Sharing {
    const PRIVATE: Self = Self(0o700);

    /// What the mode of a store's folder says.
    pub(crate) fn of(mode: u32) -> Self {
        match mode & SETGID != 0 && mode & 0o077 != 0 {
            true => Self(mode & 0o2777 | 0o700),
            false => Self::PRIVATE,
        }
    }

    /// Whether it is its owner's alone.
    pub(crate) fn is_private(self) -> bool {
        self == Self::PRIVATE
    }

    /// Whether a group writes it together.
    pub(crate) fn is_group(self) -> bool {
        self.0 & GROUP_WRITES != 0
    }

    /// The mode of the store's folders.
    pub(crate) fn folders(self) -> u32 {
        self.0
    }

    /// The mode of the store's own folder, and of those in which each member has things of their own that are used by
    /// their path: with the sticky bit (inode(7)) no other member can put something else in their place.
    pub(crate) fn held(self) -> u32 {
        if self.is_group() { self.0 | STICKY } else { self.0 }
    }

    /// The mode of files that are not blobs. Who may not read them does not get past the folder.
    pub(crate) fn files(self) -> u32 {
        0o644 | self.0 & GROUP_WRITES
    }

    /// The mode of a folder in which a tree is made. What is made in it is the group's, whatever the group of who makes
    /// it: else the other members could not remove it.
    pub(crate) fn making(self) -> u32 {
        if self.is_group() { 0o2755 } else { 0o755 }
    }

    /// The mode of a process's own folder under `tmp/`. A group looks there for what is in use.
    pub(crate) fn scratch(self) -> u32 {
        if self.is_group() { 0o2750 } else { 0o700 }
    }
}

/// Makes the folder of a store where there is none.
pub(crate) fn make_root(root: &Path) -> Result<(), Error> {
    if fs::metadata(root).is_ok() {
        return Ok(());
    }
    let you = rustix::process::geteuid().as_raw();
    let mut above = root.ancestors().skip(1);
    let existing = above.find_map(|folder| Some((folder, fs::metadata(folder).ok()?)));
    // `sudo` may keep HOME: what root makes there its owner could neither write nor remove.
    let theirs = |meta: &Metadata| you == 0 && meta.uid() != 0 && meta.mode() & STICKY == 0;
    if let Some((folder, meta)) = existing.filter(|(_, meta)| theirs(meta)) {
        let root = root.to_owned();
        return Err(Error::NotYourFolder { root, folder: folder.to_owned(), owner: meta.uid() });
    }
    if let Some(parent) = root.parent() {
        fs::create_dir_all(parent).map_err(at("create", parent))?;
    }
    match DirBuilder::new().mode(0o700).create(root) {
        Ok(()) => {
            let mode = if is_machine(root) { READ_BY_ALL } else { 0o700 };
            let permissions = Permissions::from_mode(mode);
            fs::set_permissions(root, permissions).map_err(at("set the mode of", root))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(at("create", root)(error)),
    }
}

/// That the store at `root` belongs to who calls, or to a group of theirs.
pub(crate) fn check_owner(root: &Path, meta: &Metadata) -> Result<(), Error> {
    match is_ours(meta) {
        true => Ok(()),
        false => Err(Error::NotYours {
            root: root.to_owned(),
            owner: meta.uid(),
            you: rustix::process::geteuid().as_raw(),
        }),
    }
}

/// That nobody else can have written into the caller's store, which is closed to others unless it
/// is declared shared.
pub(crate) fn close(root: &Path, folder: &File) -> Result<Sharing, Error> {
    let meta = folder.metadata().map_err(at("look at", root))?;
    let mode = meta.mode() & 0o7777;
    let exposed = |path: &Path, mode: u32| Error::Exposed {
        root: root.to_owned(),
        path: path.to_owned(),
        mode: mode & 0o7777,
    };
    let mut sharing = Sharing::of(mode);
    if is_machine(root) && sharing.is_private() && mode & 0o077 == 0o055 {
        sharing = Sharing(READ_BY_ALL);
    }
    if mode & OTHERS_WRITE != 0 || (sharing.is_private() && mode & GROUP_WRITES != 0) {
        return Err(exposed(root, mode));
    }
    for name in CHECKED {
        let path = root.join(name);
        let Ok(part) = fs::symlink_metadata(&path) else { continue };
        let (owner, mode) = (part.uid(), part.mode());
        let group = sharing.is_group() && part.gid() == meta.gid();
        if !(group || owner == meta.uid()) {
            return Err(Error::Mixed { root: root.to_owned(), path, owner, of: meta.uid() });
        }
        // Behind a folder of mode 0700 it makes no difference.
        let writable = mode & OTHERS_WRITE != 0 || (mode & GROUP_WRITES != 0 && !group);
        if writable && meta.mode() & 0o077 != 0 {
            return Err(exposed(&path, mode));
        }
    }
    check_not_opened(root, &meta, sharing)?;
    let mut held = sharing.held();
    let made = made_with(root, &meta).map_or(sharing, Sharing::of);
    if sharing.is_private() && !made.is_private() {
        // Others may come back: until then it is kept as it was made for them.
        (sharing, held) = (made, Sharing::PRIVATE.folders());
    }
    let you = rustix::process::geteuid().as_raw();
    if mode != held && (meta.uid() == you || you == 0 && sharing.is_group()) {
        let permissions = Permissions::from_mode(held);
        folder.set_permissions(permissions).map_err(at("set the mode of", root))?;
    }
    // A file system may take no modes at all (vfat, some network ones).
    let now = folder.metadata().map_err(at("look at", root))?.mode() & 0o7777;
    match now & 0o077 & !sharing.folders() {
        0 => Ok(sharing),
        open if open & 0o022 == 0 => Ok(Sharing(sharing.folders() | open)),
        _ => Err(exposed(root, now)),
    }
}

/// The mode that a store's folders were made with; `None` while it is made. `folder` is the store's own.
fn made_with(root: &Path, folder: &Metadata) -> Option<u32> {
    // Written once all folders have their modes.
    fs::symlink_metadata(root.join("version")).ok()?;
    let mark = fs::symlink_metadata(root.join(PRIVATE_MARK));
    if mark.is_ok_and(|mark| mark.is_file() && mark.uid() == folder.uid()) {
        return Some(Sharing::PRIVATE.folders());
    }
    let trees = fs::symlink_metadata(root.join("trees")).ok()?;
    // A link to another disk is a private store's.
    Some(if trees.is_dir() { trees.mode() & 0o2777 } else { Sharing::PRIVATE.folders() })
}

/// That a store is not open to users for whom it was not made. `folder` is its own. One that all can write to is
/// refused for that.
pub(crate) fn check_not_opened(
    root: &Path,
    folder: &Metadata,
    sharing: Sharing,
) -> Result<(), Error> {
    if folder.mode() & OTHERS_WRITE != 0 {
        return Ok(());
    }
    // Not by the setgid bit, which a copy of a shared store may have lost.
    match made_with(root, folder).filter(|made| sharing.folders() & 0o077 & !made != 0) {
        None => Ok(()),
        Some(made) => Err(Error::OpenedLater {
            root: root.to_owned(),
            owner: folder.uid(),
            group: folder.gid(),
            made,
            mode: sharing.folders(),
        }),
    }
}

/// That a folder is the caller's and nobody else can look into it.
pub(crate) fn check_private(path: &Path) -> Result<(), Error> {
    let meta = fs::symlink_metadata(path).map_err(at("look at", path))?;
    let yours = meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw();
    match yours && meta.mode() & 0o077 == 0 {
        true => Ok(()),
        false => Err(Error::NotPrivate(path.to_owned())),
    }
}

/// Whether what a store holds can be believed without being checked: it and its folders belong to
/// root or the caller and nobody else can write there, or it is a store of the caller's group.
pub(crate) fn is_trusted(root: &Path, folder: &Metadata) -> bool {
    let you = rustix::process::geteuid().as_raw();
    let group = |meta: &Metadata| {
        is_shared_by_group(folder) && is_member(folder.gid()) && meta.gid() == folder.gid()
    };
    let good = |meta: &Metadata| {
        let others = match group(meta) {
            // Nobody gets past the store's own folder.
            _ if folder.mode() & 0o077 == 0 => 0,
            true => OTHERS_WRITE,
            false => OTHERS_WRITE | GROUP_WRITES,
        };
        (meta.uid() == 0 || meta.uid() == you || group(meta)) && meta.mode() & others == 0
    };
    good(folder)
        && CHECKED
            .iter()
            .all(|name| fs::symlink_metadata(root.join(name)).is_ok_and(|meta| good(&meta)))
}

/// Whether the store's trees have the modes and owners of their layers: those that others may read
/// have not.
pub(crate) fn has_exact_trees(root: &Path, folder: &Metadata) -> bool {
    Sharing::of(folder.mode()).is_private()
        && made_with(root, folder).is_none_or(|made| Sharing::of(made).is_private())
}

fn is_ours(meta: &Metadata) -> bool {
    meta.uid() == rustix::process::geteuid().as_raw()
        || (is_shared_by_group(meta) && is_member(meta.gid()))
}

fn is_shared_by_group(meta: &Metadata) -> bool {
    meta.mode() & (SETGID | GROUP_WRITES | OTHERS_WRITE) == SETGID | GROUP_WRITES
}

fn is_member(group: u32) -> bool {
    rustix::process::getegid().as_raw() == group
        || rustix::process::getgroups()
            .is_ok_and(|groups| groups.iter().any(|member| member.as_raw() == group))
}

fn is_machine(root: &Path) -> bool {
    root == Path::new(MACHINE_STORE)
}
