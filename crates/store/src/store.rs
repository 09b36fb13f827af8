//! The store's folder: where each thing lies, how it is opened, and how small files are written.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sconce_blob::Digest;

use crate::error::{Error, at};
use crate::lock::{ObjectLock, Scratch, SharedLock};

/// The format this program writes. A change that an older sconce would misread raises it.
const FORMAT: u64 = 1;

/// The largest small file (record, reference, memo) that is read, bytes.
const SMALL_LIMIT: u64 = 16 << 20;

const FOLDERS: [&str; 10] = [
    "blobs/sha256",
    "virtual",
    "trees",
    "layers",
    "images",
    "refs",
    "memo",
    "partial",
    "unsynced",
    "locks",
];

/// An open store. Clones share it; while one lives, no other process prunes.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    scratch: Scratch,
    users: SharedLock,
    next: AtomicU64,
}

/// Where the store lies when nothing else is said: `$SCONCE_HOME`, else `$XDG_DATA_HOME/sconce`,
/// else `$HOME/.local/share/sconce` (XDG Base Directory Specification: relative paths are
/// ignored). `env` looks a variable up.
pub fn default_root(env: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, Error> {
    let folder = |name| env(name).map(PathBuf::from).filter(|path| !path.as_os_str().is_empty());
    if let Some(home) = folder("SCONCE_HOME") {
        return std::path::absolute(&home).map_err(at("resolve", &home));
    }
    if let Some(data) = folder("XDG_DATA_HOME").filter(|path| path.is_absolute()) {
        return Ok(data.join("sconce"));
    }
    match folder("HOME").filter(|path| path.is_absolute()) {
        Some(home) => Ok(home.join(".local/share/sconce")),
        None => Err(Error::NoHome),
    }
}

impl Store {
    /// Opens the store in `root`, making it where there is none. Removes what killed processes
    /// left, and checks what may have suffered when the machine lost power.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, Error> {
        let root = root.as_ref();
        fs::create_dir_all(root).map_err(at("create", root))?;
        let root = root.canonicalize().map_err(at("resolve", root))?;
        let version = root.join("version");
        match read_small(&version)? {
            Some(bytes) => check_format(&root, &version, &bytes)?,
            None => {
                // `locks` and `tmp` alone are another process that makes the store right now.
                let mut entries = fs::read_dir(&root).map_err(at("list", &root))?;
                let foreign = entries.any(|entry| {
                    entry.is_ok_and(|entry| {
                        let name = entry.file_name();
                        !FOLDERS.iter().any(|ours| Some(*ours) == name.to_str())
                            && !matches!(name.to_str(), Some("blobs" | "tmp" | "version"))
                    })
                });
                if foreign {
                    return Err(Error::NotAStore(root));
                }
            }
        }
        let tmp = root.join("tmp");
        for folder in FOLDERS.iter().map(|name| root.join(name)).chain([tmp.clone()]) {
            fs::create_dir_all(&folder).map_err(at("create", &folder))?;
        }
        let users = SharedLock::shared(root.join("locks/users"))?;
        Scratch::clean(&tmp)?;
        let scratch = Scratch::create(&tmp)?;
        let inner = Inner { root, scratch, users, next: AtomicU64::new(0) };
        let store = Self { inner: Arc::new(inner) };
        store.write_small(&version, format!("{FORMAT}\n").as_bytes())?;
        store.recover()?;
        Ok(store)
    }

    /// The store's folder, absolute.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Waits for the exclusive right to make the object called `kind` and `name`, so that two
    /// processes (or threads) don't do the same work: look whether it is there once you hold it.
    pub fn lock(&self, kind: &str, name: Digest) -> Result<ObjectLock, Error> {
        ObjectLock::wait(self.lock_path(kind, name))
    }

    /// As [`Store::lock`], but `None` when another holds it.
    pub fn try_lock(&self, kind: &str, name: Digest) -> Result<Option<ObjectLock>, Error> {
        ObjectLock::attempt(self.lock_path(kind, name))
    }

    /// A fresh folder for work of this process, on the store's file system. It goes with the
    /// process, or when the last clone of this store is dropped.
    pub fn scratch_dir(&self) -> Result<PathBuf, Error> {
        let path = self.scratch_path();
        fs::create_dir(&path).map_err(at("create", &path))?;
        Ok(path)
    }

    /// Where the partial download of the file with this digest lies, whether it is there or not.
    /// Hold `lock("partial", digest)` while you touch it.
    pub fn partial_path(&self, digest: Digest) -> PathBuf {
        self.root().join("partial").join(digest.hex())
    }

    pub(crate) fn lock_path(&self, kind: &str, name: Digest) -> PathBuf {
        self.root().join("locks").join(format!("{kind}-{}", name.hex()))
    }

    pub(crate) fn users(&self) -> &SharedLock {
        &self.inner.users
    }

    /// A path in this process's scratch folder that nothing has yet.
    pub(crate) fn scratch_path(&self) -> PathBuf {
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        self.inner.scratch.path.join(number.to_string())
    }

    /// Writes a small file so that it is there whole or not at all, also after a power cut.
    /// Leaves a file alone that has these bytes already.
    pub(crate) fn write_small(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        if read_small(path)?.is_some_and(|old| old == bytes) {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(at("create", folder))?;
        }
        let temporary = self.scratch_path();
        let mut file = File::create_new(&temporary).map_err(at("create", &temporary))?;
        file.write_all(bytes).map_err(at("write", &temporary))?;
        file.sync_all().map_err(at("sync", &temporary))?;
        fs::rename(&temporary, path).map_err(at("rename into place", path))?;
        sync_parent(path)
    }
}

/// Makes the name of `path` survive a power cut.
pub(crate) fn sync_parent(path: &Path) -> Result<(), Error> {
    let Some(folder) = path.parent() else { return Ok(()) };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at("sync", folder))
}

/// Reads a small file; `None` when there is none.
pub(crate) fn read_small(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    use std::io::Read;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(SMALL_LIMIT + 1).read_to_end(&mut bytes).map_err(at("read", path))?;
    if bytes.len() as u64 > SMALL_LIMIT {
        return Err(Error::Corrupt {
            path: path.to_owned(),
            why: format!("more than {SMALL_LIMIT} bytes"),
        });
    }
    Ok(Some(bytes))
}

fn check_format(root: &Path, version: &Path, bytes: &[u8]) -> Result<(), Error> {
    let found = str::from_utf8(bytes).ok().and_then(|text| text.trim().parse::<u64>().ok());
    match found {
        Some(found) if found > FORMAT => {
            Err(Error::NewerFormat { root: root.to_owned(), found, known: FORMAT })
        }
        Some(_) => Ok(()),
        None => Err(Error::Corrupt { path: version.to_owned(), why: "not a number".to_owned() }),
    }
}
