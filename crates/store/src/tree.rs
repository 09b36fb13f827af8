//! Extracted trees: `trees/<DiffID>/`, one folder for each layer, ready to be an overlay's lower.
//!
//! A [`TreeBuilder`] makes one in the scratch folder and renames it into place when it is whole.
//! Every path is walked one folder descriptor at a time without following symbolic links
//! (openat(2) with `O_NOFOLLOW`), so no entry can land outside the tree. Many threads may write
//! into one builder.
//!
//! As root of the first user namespace owners are kept; otherwise everything belongs to the
//! caller. A whiteout becomes a character device 0/0, which every user may make since Linux 5.8;
//! an opaque directory gets `user.overlay.opaque`, and `trusted.overlay.opaque` where that is
//! allowed (Documentation/filesystems/overlayfs.rst).

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RawMode, Timespec, Timestamps, Uid, XattrFlags,
    chmodat, chownat, fchmod, fchown, futimens, linkat, makedev, mkdirat, mknodat, openat,
    symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use sconce_blob::Digest;

use crate::Store;
use crate::error::{Error, at};

/// Folder descriptors kept open for the next file in the same folder.
const OPEN_FOLDERS: usize = 128;

/// Files from this size on get their blocks reserved: fewer extents, and a full disk shows early.
const RESERVE_FROM: u64 = 1 << 20;

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
    keep_owners: bool,
    umask: u32,
    folders: Mutex<HashMap<PathBuf, Arc<OwnedFd>>>,
    metas: Mutex<BTreeMap<PathBuf, Meta>>,
    whiteouts: Mutex<Vec<PathBuf>>,
    unfinished: AtomicUsize,
    done: bool,
}

/// Takes the bytes of one file, exactly as many as were announced.
#[derive(Debug)]
pub struct TreeFile<'a> {
    builder: &'a TreeBuilder,
    file: File,
    meta: Meta,
    size: u64,
    left: u64,
}

impl Store {
    /// The tree of a layer, if it was extracted.
    pub fn tree(&self, diff_id: Digest) -> Option<PathBuf> {
        Some(self.tree_path(diff_id)).filter(|path| path.exists())
    }

    /// Begins a tree.
    pub fn create_tree(&self, twice: Twice) -> Result<TreeBuilder, Error> {
        let path = self.scratch_dir()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, &path, flags, Mode::empty()).map_err(at("open", &path))?;
        let metas = BTreeMap::from([(PathBuf::new(), Meta::DIRECTORY)]);
        Ok(TreeBuilder {
            store: self.clone(),
            path,
            root: Arc::new(root),
            twice,
            keep_owners: owners_can_be_kept(),
            umask: umask(),
            folders: Mutex::default(),
            metas: Mutex::new(metas),
            whiteouts: Mutex::default(),
            unfinished: AtomicUsize::new(0),
            done: false,
        })
    }

    pub(crate) fn tree_path(&self, diff_id: Digest) -> PathBuf {
        self.root().join("trees").join(diff_id.hex())
    }
}

impl TreeBuilder {
    /// A directory. The empty path is the root of the tree.
    pub fn directory(&self, path: impl AsRef<Path>, meta: Meta) -> Result<(), Error> {
        let path = path.as_ref();
        check(path)?;
        if path.as_os_str().is_empty() {
            locked(&self.metas).insert(PathBuf::new(), meta);
            return Ok(());
        }
        match self.folder(path) {
            Err(Error::BadLayer { .. }) if self.twice == Twice::Replace => {
                // Something else has the name; its parents were checked on the way.
                let (parent, name) = self.parent(path)?;
                self.remove(&parent, name, path)?;
                self.folder(path)?;
            }
            result => drop(result?),
        }
        locked(&self.metas).insert(path.to_owned(), meta);
        Ok(())
    }

    /// A regular file of `size` bytes.
    pub fn file(
        &self,
        path: impl AsRef<Path>,
        meta: Meta,
        size: u64,
    ) -> Result<TreeFile<'_>, Error> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Special bits come after the owner, who would clear them (chown(2)).
        let mode = Mode::from_raw_mode((meta.mode & 0o777) as RawMode);
        let file = self.make(&parent, name, path, |parent, name| {
            openat(parent, name, flags, mode).map(File::from)
        })?;
        if size >= RESERVE_FROM {
            match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, size) {
                // Only a saving: some file systems can't.
                Err(error) if matches!(error, Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => {
                    return Err(at("write", &self.path.join(path))(error));
                }
                _ => {}
            }
        }
        self.unfinished.fetch_add(1, Ordering::Relaxed);
        let file = TreeFile { builder: self, file, meta, size, left: size };
        if size == 0 {
            file.complete().map_err(at("write", &self.path.join(path)))?;
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
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        self.make(&parent, name, path, |parent, name| symlinkat(target.as_ref(), parent, name))?;
        let fault = || at("write", &self.path.join(path));
        if self.keep_owners && (meta.uid, meta.gid) != (0, 0) {
            let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
            chownat(&*parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(fault())?;
        }
        utimensat(&*parent, name, &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(fault())
    }

    /// Another name of a file that has been given before.
    pub fn hardlink(&self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<(), Error> {
        let (path, target) = (path.as_ref(), target.as_ref());
        let (old_parent, old_name) = self.parent(target)?;
        let (parent, name) = self.parent(path)?;
        if path == target {
            return Err(bad(path, "it is a hard link to itself"));
        }
        self.make(&parent, name, path, |parent, name| {
            linkat(&*old_parent, old_name, parent, name, AtFlags::empty())
        })
    }

    /// A device node or named pipe of a layer made elsewhere. Only root can make devices; without
    /// that right they are left out, as rootless engines do.
    pub(crate) fn node(
        &self,
        path: &Path,
        meta: Meta,
        kind: FileType,
        device: u64,
    ) -> Result<(), Error> {
        if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) && !self.keep_owners {
            return Ok(());
        }
        let (parent, name) = self.parent(path)?;
        self.make(&parent, name, path, |parent, name| {
            mknodat(parent, name, kind, Mode::empty(), device)
        })?;
        let fault = || at("write", &self.path.join(path));
        if self.keep_owners {
            let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
            chownat(&*parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(fault())?;
        }
        chmodat(&*parent, name, Mode::from_raw_mode(meta.mode as RawMode), AtFlags::empty())
            .map_err(fault())?;
        utimensat(&*parent, name, &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(fault())
    }

    /// Hides `path` of the layers below. Where this layer has something of that name itself, before
    /// or after, that is what shows (OCI image-spec, layer.md, "Whiteouts").
    pub fn whiteout(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        check(path)?;
        locked(&self.whiteouts).push(path.to_owned());
        Ok(())
    }

    fn apply_whiteout(&self, path: &Path) -> Result<(), Error> {
        let (parent, name) = self.parent(path)?;
        let made = mknodat(&*parent, name, FileType::CharacterDevice, Mode::empty(), makedev(0, 0));
        match made {
            // A directory of this layer is what shows, but without what is below it.
            Err(Errno::EXIST) => match self.folder(path) {
                Ok(_) => self.opaque(path),
                Err(_) => Ok(()),
            },
            result => result.map_err(at("create", &self.path.join(path))),
        }
    }

    /// Hides all that the layers below have in the directory `path`.
    pub fn opaque(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        check(path)?;
        self.folder(path)?;
        let full = self.path.join(path);
        let set = |name| rustix::fs::lsetxattr(&full, name, b"y", XattrFlags::empty());
        set("user.overlay.opaque").map_err(at("mark opaque", &full))?;
        match set("trusted.overlay.opaque") {
            Err(error) if self.keep_owners => Err(at("mark opaque", &full)(error)),
            _ => Ok(()),
        }
    }

    /// Extended attributes a file needs to work, such as `security.capability`; kept as root.
    pub(crate) fn xattr(&self, path: &Path, name: &str, value: &[u8]) -> Result<(), Error> {
        if !self.keep_owners {
            return Ok(());
        }
        self.parent(path)?;
        let full = self.path.join(path);
        match rustix::fs::lsetxattr(&full, name, value, XattrFlags::empty()) {
            // The file system has none.
            Err(Errno::NOTSUP) => Ok(()),
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
            self.dress_folder(&path, meta)?;
        }
        let target = self.store.tree_path(diff_id);
        self.store.mark_unsynced("tree", diff_id)?;
        match fs::rename(&self.path, &target) {
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

    fn dress_folder(&self, path: &Path, meta: Meta) -> Result<(), Error> {
        let full = self.path.join(path);
        let fault = || at("write", &full);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = match path.file_name() {
            None => openat(&*self.root, ".", flags, Mode::empty()),
            Some(name) => {
                let parent = self.folder(path.parent().unwrap_or(Path::new("")))?;
                openat(&*parent, name, flags, Mode::empty())
            }
        }
        .map_err(fault())?;
        self.dress(&folder, meta, 0o777).map_err(fault())
    }

    /// Sets owner, mode and time of an open file that was made with mode `made`.
    fn dress(&self, file: impl AsFd, meta: Meta, made: u32) -> rustix::io::Result<()> {
        let mut exact = made & !self.umask == meta.mode;
        if self.keep_owners && (meta.uid, meta.gid) != (0, 0) {
            fchown(&file, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))?;
            exact &= meta.mode & 0o7000 == 0;
        }
        if !exact {
            fchmod(&file, Mode::from_raw_mode((meta.mode & 0o7777) as RawMode))?;
        }
        futimens(&file, &times(meta.mtime))
    }

    /// Makes one entry, taking care of what has its name already.
    fn make<T>(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &Path,
        make: impl Fn(&OwnedFd, &OsStr) -> rustix::io::Result<T>,
    ) -> Result<T, Error> {
        match make(parent, name) {
            Err(Errno::EXIST) if self.twice == Twice::Replace => {
                self.remove(parent, name, path)?;
                make(parent, name).map_err(at("create", &self.path.join(path)))
            }
            Err(Errno::EXIST) => Err(bad(path, "it comes twice")),
            result => result.map_err(at("create", &self.path.join(path))),
        }
    }

    fn remove(&self, parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<(), Error> {
        match unlinkat(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                locked(&self.folders).clear();
                locked(&self.metas).retain(|folder, _| !folder.starts_with(path));
                crate::remove::all(&self.path.join(path))
            }
            result => result.map_err(at("remove", &self.path.join(path))),
        }
    }

    fn parent<'p>(&self, path: &'p Path) -> Result<(Arc<OwnedFd>, &'p OsStr), Error> {
        check(path)?;
        let name = path.file_name().ok_or_else(|| bad(path, "it has no name"))?;
        Ok((self.folder(path.parent().unwrap_or(Path::new("")))?, name))
    }

    /// Opens a folder of the tree, making what is missing on the way.
    fn folder(&self, path: &Path) -> Result<Arc<OwnedFd>, Error> {
        if path.as_os_str().is_empty() {
            return Ok(self.root.clone());
        }
        if let Some(folder) = locked(&self.folders).get(path) {
            return Ok(folder.clone());
        }
        let parent = self.folder(path.parent().unwrap_or(Path::new("")))?;
        let name = path.file_name().ok_or_else(|| bad(path, "it has no name"))?;
        let open = || {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(&*parent, name, flags, Mode::empty())
        };
        let folder = match open() {
            Err(Errno::NOENT) => {
                match mkdirat(&*parent, name, Mode::from_raw_mode(0o777)) {
                    Ok(()) => {
                        locked(&self.metas).entry(path.to_owned()).or_insert(Meta::DIRECTORY);
                    }
                    // Another thread was faster.
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err(at("create", &self.path.join(path))(error)),
                }
                open()
            }
            result => result,
        };
        let folder = Arc::new(folder.map_err(|error| match error {
            Errno::NOTDIR | Errno::LOOP => {
                bad(path, "it is used as a directory, but is something else")
            }
            error => at("open", &self.path.join(path))(error),
        })?);
        let mut folders = locked(&self.folders);
        if folders.len() >= OPEN_FOLDERS {
            folders.clear();
        }
        folders.insert(path.to_owned(), folder.clone());
        Ok(folder)
    }
}

impl Drop for TreeBuilder {
    fn drop(&mut self) {
        if !self.done {
            // What stays behind goes with the scratch folder.
            let _ = crate::remove::all(&self.path);
        }
    }
}

impl TreeFile<'_> {
    /// Everything is written: the metadata comes last, so that the time stays what it is.
    fn complete(&self) -> io::Result<()> {
        self.builder.dress(&self.file, self.meta, self.meta.mode & 0o777)?;
        self.builder.unfinished.fetch_sub(1, Ordering::Release);
        Ok(())
    }
}

impl Write for TreeFile<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.len() as u64 > self.left {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("more than the {} bytes announced", self.size),
            ));
        }
        let n = self.file.write(buf)?;
        self.left -= n as u64;
        if n > 0 && self.left == 0 {
            self.complete()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Only plain names, one below the other.
fn check(path: &Path) -> Result<(), Error> {
    if path.is_absolute() {
        return Err(bad(path, "the path is absolute"));
    }
    match path.components().all(|part| matches!(part, Component::Normal(_))) {
        true => Ok(()),
        false => Err(bad(path, "the path has a `..` or `.` part")),
    }
}

fn bad(path: &Path, why: &str) -> Error {
    Error::BadLayer {
        layer: "being unpacked".to_owned(),
        entry: path.display().to_string(),
        why: why.to_owned(),
    }
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Root of a namespace that has all ids (user_namespaces(7)) may give files to anyone.
fn owners_can_be_kept() -> bool {
    rustix::process::geteuid().is_root()
        && fs::read_to_string("/proc/self/uid_map")
            .is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]))
}

/// This process's umask, read without changing it (proc(5), Linux 4.7). Where it can't be read
/// every mode is set by hand.
fn umask() -> u32 {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
            u32::from_str_radix(line.trim(), 8).ok()
        })
        .unwrap_or(0o777)
}
