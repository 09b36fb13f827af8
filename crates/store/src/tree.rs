//! Extracted trees: `trees/<DiffID>/`, one folder for each layer, ready to be an overlay's lower.
//!
//! A [`TreeBuilder`] makes one in the scratch folder and renames it into place when it is whole.
//! Every path is walked one folder descriptor at a time without following symbolic links
//! (openat(2) with `O_NOFOLLOW`), so no entry can land outside the tree; where a layer made elsewhere goes
//! through its own links, they are followed by us, beneath the tree (`tree/paths.rs`). Many threads may
//! write into one builder.
//!
//! As root of the first user namespace owners are kept; otherwise everything belongs to the
//! caller. In a store that others can read, modes and owners of layers are not theirs to use on this
//! machine: everything belongs to the caller, folders have mode 0755 (0775 where a group writes, so
//! that each of it can prune), files 0755 or 0644, and there are no device nodes or capabilities.
//!
//! A whiteout becomes a character device 0/0, which every user may make since Linux 5.8;
//! an opaque directory gets `user.overlay.opaque`, and `trusted.overlay.opaque` where that is
//! allowed (Documentation/filesystems/overlayfs.rst).

mod file;
mod paths;

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawMode, XattrFlags, chmodat, linkat, makedev, mknodat,
    openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use sconce_blob::Digest;
use sconce_open::{held, own_folder};

use crate::Store;
use crate::error::{Error, at};
use crate::meta::{Meta, Rules, times};
use crate::own;
use crate::remove::{remove_below, remove_own};
use paths::{Spot, check};

pub use file::TreeFile;

/// Files from this size on get their blocks reserved: fewer extents, and a full disk shows early.
const RESERVE_FROM: u64 = 1 << 20;

/// What happens when a path comes twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twice {
    /// It is an error (directories may repeat).
    Refuse,
    /// The later entry takes the place of the earlier one, as container engines do.
    Replace,
}

/// A tree that is being made. Dropped unfinished, it is removed.
#[derive(Debug)]
pub struct TreeBuilder {
    store: Store,
    path: PathBuf,
    root: Arc<OwnedFd>,
    twice: Twice,
    rules: Rules,
    folders: Mutex<HashMap<PathBuf, Arc<OwnedFd>>>,
    metas: Mutex<BTreeMap<PathBuf, Meta>>,
    whiteouts: Mutex<Vec<PathBuf>>,
    unfinished: AtomicUsize,
    done: bool,
}

impl Store {
    /// The tree of a layer, if it was extracted, here or in a store below whose trees can be taken as
    /// they are. Root takes none without the modes and owners of the layer: it can have them.
    ///
    /// # Errors
    /// A lock of the store is not to be had: it is not known.
    pub fn tree(&self, diff_id: Digest) -> Result<Option<PathBuf>, Error> {
        self.pin(diff_id)?;
        let path = self.place().tree(diff_id);
        // Any member of a group's store may have put something else there.
        if path.symlink_metadata().is_ok() {
            own_folder(&path).map_err(|source| Error::NotATree { path, source })?;
        }
        Ok(self.place().find_tree(diff_id).or_else(|| {
            let (tree, image) = self.tree_below(diff_id)?;
            self.hold(&image).ok()?.then_some(tree)
        }))
    }

    /// The tree of a layer in a store below, and the record of the image that keeps it.
    pub(crate) fn tree_below(&self, diff_id: Digest) -> Option<(PathBuf, PathBuf)> {
        let root = rustix::process::geteuid().is_root();
        let mut usable =
            self.lowers().iter().filter(|lower| lower.trusted && (lower.exact || !root));
        usable.find_map(|lower| lower.find_tree(diff_id))
    }

    /// Begins a tree.
    pub fn create_tree(&self, twice: Twice) -> Result<TreeBuilder, Error> {
        let path = self.scratch_dir()?;
        let root = own::open_folder(&path).map_err(at("open", &path))?.into();
        let metas = BTreeMap::from([(PathBuf::new(), Meta::DIRECTORY)]);
        Ok(TreeBuilder {
            store: self.clone(),
            path,
            root: Arc::new(root),
            twice,
            rules: Rules::of(self.sharing()),
            folders: Mutex::default(),
            metas: Mutex::new(metas),
            whiteouts: Mutex::default(),
            unfinished: AtomicUsize::new(0),
            done: false,
        })
    }
}

impl TreeBuilder {
    /// Where it is until it is finished.
    pub(crate) fn place(&self) -> &Path {
        &self.path
    }

    /// A directory. The empty path is the root of the tree.
    pub fn directory(&self, path: impl AsRef<Path>, meta: Meta) -> Result<(), Error> {
        let path = path.as_ref();
        check(path)?;
        if path.as_os_str().is_empty() {
            locked(&self.metas).insert(PathBuf::new(), meta);
            return Ok(());
        }
        let spot = self.spot(path)?;
        match self.folder(&spot.path) {
            Err(Error::BadLayer { .. }) if self.twice == Twice::Replace => {
                // Something else has the name.
                self.remove(&spot)?;
                self.folder(&spot.path)?;
            }
            result => drop(result?),
        }
        locked(&self.metas).insert(spot.path.into_owned(), meta);
        Ok(())
    }

    /// A regular file of `size` bytes.
    pub fn file(
        &self,
        path: impl AsRef<Path>,
        meta: Meta,
        size: u64,
    ) -> Result<TreeFile<'_>, Error> {
        self.file_with(path.as_ref(), meta, size, size)
    }

    /// A regular file of `size` bytes, of which `filled` will be written and the others are holes.
    pub(crate) fn file_with(
        &self,
        path: &Path,
        meta: Meta,
        size: u64,
        filled: u64,
    ) -> Result<TreeFile<'_>, Error> {
        let spot = self.spot(path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode((meta.mode & 0o777) as RawMode);
        let file =
            self.make(&spot, |parent, name| openat(parent, name, flags, mode).map(File::from))?;
        if size >= RESERVE_FROM && filled == size {
            match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, size) {
                // Only a saving: some file systems can't.
                Err(error) if matches!(error, Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => {
                    return Err(at("write", &self.path.join(&spot.path))(error));
                }
                _ => {}
            }
        }
        if meta.mode & 0o6000 != 0 {
            self.left_out();
        }
        self.unfinished.fetch_add(1, Ordering::Relaxed);
        let file = TreeFile { builder: self, file, meta, size, left: size };
        if size == 0 {
            file.complete().map_err(at("write", &self.path.join(&spot.path)))?;
        }
        Ok(file)
    }

    /// A symbolic link. Its target may be any text.
    pub fn symlink(
        &self,
        path: impl AsRef<Path>,
        target: impl AsRef<Path>,
        meta: Meta,
    ) -> Result<(), Error> {
        let spot = self.spot(path.as_ref())?;
        self.make(&spot, |parent, name| symlinkat(target.as_ref(), parent, name))?;
        self.describe(&spot, meta, None)
    }

    /// Another name of a file that has been given before.
    pub fn hardlink(&self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<(), Error> {
        let (path, target) = (path.as_ref(), target.as_ref());
        let (old, spot) = (self.spot(target)?, self.spot(path)?);
        if old.path == spot.path {
            return Err(bad(path, "it is a hard link to itself"));
        }
        let made = self.make(&spot, |parent, name| {
            linkat(&*old.parent, old.name, parent, name, AtFlags::empty())
        });
        let wrong = |why: &str| {
            Err(bad(path, &format!("it is a hard link to {}, which {why}", target.display())))
        };
        match made {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                wrong("is not in this layer")
            }
            Err(_) if is_folder(&old) => wrong("is a folder, and has one name only"),
            made => made,
        }
    }

    /// Gives a file under its other name what a layer says there: the last word counts, as in Docker and podman. Of a
    /// link to a symbolic link nothing is changed.
    pub(crate) fn describe_link(&self, path: &Path, meta: Meta) -> Result<(), Error> {
        let spot = self.spot(path)?;
        let fault = || at("look at", &self.path.join(&spot.path));
        let made = statat(&*spot.parent, spot.name, AtFlags::SYMLINK_NOFOLLOW).map_err(fault())?;
        if FileType::from_raw_mode(made.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let owner = (made.st_uid, made.st_gid) != (meta.uid, meta.gid);
        let mode = self.rules.mode(meta, false);
        // Changing the owner takes capabilities away (chown(2)): not where it is the same.
        if !(owner && self.rules.keep_owners()) && made.st_mode & 0o7777 == mode {
            return Ok(());
        }
        self.describe(&spot, meta, Some(Mode::from_raw_mode(mode as RawMode)))
    }

    /// A device node or named pipe of a layer made elsewhere. Devices are left out where they can't
    /// be made, as rootless engines do, and where others could open them. The character device 0/0, which
    /// opens nothing, is overlayfs' own whiteout: who packs the changes of an overlay has some. It is made
    /// for everyone, so that one image shows the same to all; Docker and podman show that too.
    pub(crate) fn node(
        &self,
        path: &Path,
        meta: Meta,
        kind: FileType,
        device: u64,
    ) -> Result<(), Error> {
        let hides = kind == FileType::CharacterDevice && device == makedev(0, 0);
        let is_device = !hides && matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        if is_device && !self.rules.keep_owners() {
            self.left_out();
            return Ok(());
        }
        let spot = self.spot(path)?;
        let made = self.make(&spot, |parent, name| {
            match mknodat(parent, name, kind, Mode::empty(), device) {
                // Root of a container may lack the right to.
                Err(Errno::PERM) if is_device => Ok(false),
                result => result.map(|()| true),
            }
        })?;
        if !made || hides {
            return Ok(());
        }
        let mode = Mode::from_raw_mode(self.rules.mode(meta, false) as RawMode);
        self.describe(&spot, meta, Some(mode))
    }

    /// Gives something that can't be opened its owner, mode and time.
    fn describe(&self, spot: &Spot<'_>, meta: Meta, mode: Option<Mode>) -> Result<(), Error> {
        let (parent, name) = (&*spot.parent, spot.name);
        let fault = || at("write", &self.path.join(&spot.path));
        self.rules.own(parent, name, meta).map_err(fault())?;
        if let Some(mode) = mode {
            chmodat(parent, name, mode, AtFlags::empty()).map_err(fault())?;
        }
        utimensat(parent, name, &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(fault())
    }

    /// Hides `path` of the layers below. Where this layer has something of that name itself, before
    /// or after, that is what shows (OCI image-spec, layer.md, "Whiteouts").
    pub fn whiteout(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = self.without_links(path.as_ref())?;
        locked(&self.whiteouts).push(path.into_owned());
        Ok(())
    }

    fn apply_whiteout(&self, path: &Path) -> Result<(), Error> {
        let spot = self.spot(path)?;
        let (device, none) = (makedev(0, 0), Mode::empty());
        let made = mknodat(&*spot.parent, spot.name, FileType::CharacterDevice, none, device);
        match made {
            // A directory of this layer is what shows, but without what is below it.
            Err(Errno::EXIST) => match self.folder(&spot.path) {
                Ok(_) => self.mark_opaque(&spot.path),
                Err(_) => Ok(()),
            },
            result => result.map_err(at("create", &self.path.join(&spot.path))),
        }
    }

    /// Hides all that the layers below have in the directory `path`.
    pub fn opaque(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        check(path)?;
        let path = self.followed(path)?;
        self.folder(&path)?;
        self.mark_opaque(&path)
    }

    /// Marks a folder of the tree; no link is on the way to it.
    fn mark_opaque(&self, path: &Path) -> Result<(), Error> {
        let full = self.path.join(path);
        let folder = self.folder(path)?;
        let set = |name| rustix::fs::setxattr(held(&folder), name, b"y", XattrFlags::empty());
        set("user.overlay.opaque").map_err(at("mark opaque", &full))?;
        match set("trusted.overlay.opaque") {
            Err(error) if self.rules.keep_owners() => Err(at("mark opaque", &full)(error)),
            _ => Ok(()),
        }
    }

    /// Extended attributes a file needs to work, such as `security.capability`; kept as root.
    pub(crate) fn xattr(&self, path: &Path, name: &str, value: &[u8]) -> Result<(), Error> {
        if !self.rules.keep_owners() {
            self.left_out();
            return Ok(());
        }
        let spot = self.spot(path)?;
        let full = self.path.join(&spot.path);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&*spot.parent, spot.name, flags, Mode::empty());
        let file = file.map_err(at("open", &full))?;
        match rustix::fs::setxattr(held(&file), name, value, XattrFlags::empty()) {
            // The file system has none.
            Err(Errno::NOTSUP) => Ok(()),
            Err(Errno::INVAL) => Err(bad(path, "the kernel takes no such attribute")),
            result => result.map_err(at("set an attribute of", &full)),
        }
    }

    /// Gives the directories their metadata and puts the tree in its place, unless the same one
    /// came there before. The caller has computed `diff_id` over the bytes it unpacked.
    pub fn finish(mut self, diff_id: Digest) -> Result<PathBuf, Error> {
        if self.unfinished.load(Ordering::Acquire) > 0 {
            return Err(bad(Path::new(""), "a file got fewer bytes than were announced"));
        }
        for path in std::mem::take(&mut *locked(&self.whiteouts)) {
            self.apply_whiteout(&path)?;
        }
        for (path, meta) in std::mem::take(&mut *locked(&self.metas)) {
            self.finish_folder(&path, meta)?;
        }
        let target = self.store.place().tree(diff_id);
        self.store.pin(diff_id)?;
        self.store.mark_unsynced("tree", diff_id)?;
        match own::rename(&self.path, &target) {
            Ok(()) => self.done = true,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) => {}
            Err(error) => return Err(at("rename into place", &target)(error)),
        }
        Ok(target)
    }

    fn finish_folder(&self, path: &Path, mut meta: Meta) -> Result<(), Error> {
        let full = self.path.join(path);
        let fault = || at("write", &full);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = match path.file_name() {
            None => {
                // Only who may write a folder may move it, and a mounted root shows its own mode.
                meta.mode |= 0o700;
                openat(&*self.root, ".", flags, Mode::empty())
            }
            Some(name) => {
                let parent = self.folder(path.parent().unwrap_or(Path::new("")))?;
                openat(&*parent, name, flags, Mode::empty())
            }
        }
        .map_err(fault())?;
        self.rules.apply(&folder, meta, true).map_err(fault())
    }

    /// Tells the user, once, what trees of a shared store lack.
    fn left_out(&self) {
        if !self.store.sharing().is_private() {
            self.store.note_stripped();
        }
    }

    /// Makes one entry, taking care of what has its name already.
    fn make<T>(
        &self,
        spot: &Spot<'_>,
        make: impl Fn(&OwnedFd, &OsStr) -> rustix::io::Result<T>,
    ) -> Result<T, Error> {
        let fault = || at("create", &self.path.join(&spot.path));
        match make(&spot.parent, spot.name) {
            Err(Errno::EXIST) if self.twice == Twice::Replace => {
                self.remove(spot)?;
                make(&spot.parent, spot.name).map_err(fault())
            }
            Err(Errno::EXIST) => Err(bad(&spot.path, "it comes twice")),
            result => result.map_err(fault()),
        }
    }

    fn remove(&self, spot: &Spot<'_>) -> Result<(), Error> {
        let path = &*spot.path;
        match unlinkat(&*spot.parent, spot.name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                locked(&self.folders).clear();
                locked(&self.metas).retain(|folder, _| !folder.starts_with(path));
                let full = self.path.join(path);
                let name = CString::new(spot.name.as_bytes());
                let name = name.map_err(|_| at("remove", &full)(Errno::INVAL))?;
                remove_below(&*spot.parent, &name, &full)
            }
            result => result.map_err(at("remove", &self.path.join(path))),
        }
    }
}

impl Drop for TreeBuilder {
    fn drop(&mut self) {
        if !self.done {
            // What stays behind goes with the scratch folder.
            let _ = remove_own(&self.path);
        }
    }
}

fn is_folder(spot: &Spot<'_>) -> bool {
    statat(&*spot.parent, spot.name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|about| FileType::from_raw_mode(about.st_mode) == FileType::Directory)
}

fn bad(path: &Path, why: &str) -> Error {
    Error::BadLayer {
        layer: "being unpacked".to_owned(),
        entry: path.display().to_string(),
        why: why.to_owned(),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
