//! The store's folder: how it is opened, what is made in it, and with which modes.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::fs::OFlags;
use sconce_blob::{Assembly, Digest};

use crate::access::{self, Sharing};
use crate::error::{Error, at, shell};
use crate::files::{list, not_opened, open_folder, read_small};
use crate::lock::{Wanted, patiently};
use crate::lowers::{Lower, LowerRoot};
use crate::own::{self, make_folder, sync_parent};
use crate::pins::Pins;
use crate::place::{FOLDERS, Place};
use crate::remove::remove_own;
use crate::scratch::{self, Scratch};

/// The format this program writes. A change that an older sconce would misread raises it: 2 came
/// with prunes beside other processes, which one of format 1 would not spare.
pub(crate) const FORMAT: u64 = 2;

/// What the file of a private store says to who looks.
const PRIVATE_MARK_SAYS: &str = "Trees here have the owners, modes and device nodes of their layers: \
    this store can't be opened to other users by chmod.\n";

/// An open store. Clones share it; while one lives, no prune of another process takes what was
/// found or put through it.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    place: Place,
    sharing: Sharing,
    lowers: Vec<Lower>,
    /// Images of stores below that are kept from being pruned, by the path of their record. `None`
    /// where another user keeps them locked.
    held: Mutex<HashMap<PathBuf, Option<File>>>,
    pins: Pins,
    /// Assemblies of virtual blobs that are being read, by their paths.
    assemblies: Mutex<HashMap<PathBuf, Weak<Assembly>>>,
    scratch: Scratch,
    next: AtomicU64,
    options: Options,
    /// Whether it was said that trees in this store lack what layers have.
    stripped_noted: AtomicBool,
    /// Whether what lies among the names and is none was said.
    no_names_noted: AtomicBool,
    /// What was said of damaged files.
    damage_noted: Mutex<HashSet<String>>,
}

/// What a process has begun to write into a store and not finished; it does not keep the store open.
#[derive(Debug)]
pub struct Leftovers(Weak<Inner>);

impl Leftovers {
    /// Whether the store is still open: once it is closed nothing is left.
    #[must_use]
    pub fn may_be(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Removes it from under whoever is at work with it: for a process that ends. What can't be removed, the next command in
    /// the store removes or says.
    pub fn remove(&self) {
        if let Some(inner) = self.0.upgrade() {
            let _ = remove_own(inner.scratch.path());
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("root", &self.place.root()).finish_non_exhaustive()
    }
}

/// Takes a remark for a person, one or two sentences without a full stop at the end.
pub type Note = Box<dyn Fn(&str) + Send + Sync>;

/// Removes what it can of the folder it is given.
pub type Remover = Box<dyn Fn(&Path) -> io::Result<()> + Send + Sync>;

/// How a store is opened.
#[derive(Default)]
pub struct Options {
    /// Stores to read where this one lacks something, the first to be asked first.
    pub lowers: Vec<LowerRoot>,
    /// Hears what a person should know and what stops nobody: lower stores that are left out,
    /// leftovers that can't be removed, what trees of a shared store lack.
    pub note: Option<Note>,
    /// Is asked to remove a dead process's folder where [`remove_tree`] can't: files that a
    /// rootless container made under other ids. It is called while the folder is locked.
    pub remover: Option<Remover>,
    /// How long to wait for a lock, whoever holds it ([`lock_timeout`](crate::lock_timeout)).
    pub lock_timeout: Option<Duration>,
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
    /// Opens the store in `root` alone, making it where there is none.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(root, Options::default())
    }

    /// Opens the store in `root`, making it where there is none. Refuses one that belongs to
    /// somebody else or that others can write to without being declared a group's store
    /// (`docs/store.md`). Removes what killed processes left, and checks what may have suffered
    /// when the machine lost power.
    pub fn open_with(root: impl AsRef<Path>, options: Options) -> Result<Self, Error> {
        let root = root.as_ref();
        access::make_root(root)?;
        let root = root.canonicalize().map_err(at("resolve", root))?;
        let folder = open_folder(&root).map_err(at("open", &root))?;
        let meta = folder.metadata().map_err(at("look at", &root))?;
        access::check_owner(&root, &meta)?;
        // Before it is read, which its chmod need not allow.
        access::check_not_opened(&root, &meta, Sharing::of(meta.mode()))?;
        let format = check_format(&root)?;
        let sharing = access::close(&root, &folder)?;
        let place = Place::new(root);
        if format != Some(FORMAT) {
            // Others of a group may be at it: the folders are there before the version is.
            let note = |text: &str| options.note.iter().for_each(|note| note(text));
            patiently(&folder, Wanted::Alone, place.root(), options.lock_timeout, &note)?;
        }
        for name in FOLDERS {
            make_folder(&place.folder(name), sharing.folders())?;
        }
        let note = |text: &str| options.note.iter().for_each(|note| note(text));
        if sharing.is_group() {
            // By whoever is first, as all others: who makes it can move what others have in it.
            make_folder(&place.folder("containers"), sharing.folders())?;
        }
        for name in ["tmp", "containers"] {
            hold(&place.folder(name), &meta, sharing)?;
        }
        let scratch = Scratch::create(&place.folder("tmp"), sharing)?;
        let lock = place.folder("locks/gc");
        let gc = open_gc_lock(&lock, sharing)?;
        let pins = Pins::new(scratch.path().to_owned(), gc, lock);
        let lowers =
            options.lowers.iter().filter_map(|lower| Lower::open(lower, place.root(), &note));
        let lowers = lowers.collect();
        let inner = Inner {
            place,
            sharing,
            lowers,
            held: Mutex::default(),
            pins,
            assemblies: Mutex::default(),
            scratch,
            next: AtomicU64::new(0),
            options,
            stripped_noted: AtomicBool::new(false),
            no_names_noted: AtomicBool::new(false),
            damage_noted: Mutex::default(),
        };
        let store = Self { inner: Arc::new(inner) };
        store.write_small(&store.place().folder("version"), format!("{FORMAT}\n").as_bytes())?;
        if sharing.is_private() {
            let mark = store.place().folder(access::PRIVATE_MARK);
            // The next one writes it where no room is left: a prune must not fail for that.
            drop(store.write_unsynced(&mark, PRIVATE_MARK_SAYS.as_bytes()));
        }
        drop(folder);
        store.clean()?;
        store.recover()?;
        Ok(store)
    }

    /// The store's folder, absolute.
    pub fn root(&self) -> &Path {
        self.place().root()
    }

    /// Every folder that the store is made of, links followed: its own, those of the stores below it, and
    /// what folders in them lead to where they are links.
    pub fn folders(&self) -> Vec<PathBuf> {
        let lowers = self.lowers().iter().map(|lower| &lower.place);
        let mut found = Vec::new();
        for root in std::iter::once(self.place()).chain(lowers).map(Place::root) {
            found.push(root.canonicalize().unwrap_or_else(|_| root.to_owned()));
            let mut waiting = vec![(root.to_owned(), 2)];
            while let Some((folder, deep)) = waiting.pop() {
                // What can't be listed can't be run from either.
                for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                    match entry.file_type() {
                        Ok(kind) if kind.is_symlink() => {
                            let real = entry.path().canonicalize().ok();
                            found.extend(real.filter(|path| path.is_dir()));
                        }
                        // In trees are files of images, and what links there mean is theirs to say.
                        Ok(kind) if kind.is_dir() && deep > 1 => {
                            let deep = if entry.file_name() == "blobs" { deep } else { deep - 1 };
                            waiting.push((entry.path(), deep));
                        }
                        _ => {}
                    }
                }
            }
        }
        found
    }

    /// Where programs may lie that are run outside of containers: in a store that is its owner's alone. From another,
    /// nothing is.
    pub fn tools(&self) -> Option<PathBuf> {
        self.sharing().is_private().then(|| self.root().join("tools"))
    }

    /// Where the state of running containers lies, made if it isn't there: of mode 0700, and in a
    /// store of several users one for each. Nothing of the store looks into it.
    pub fn containers(&self) -> Result<PathBuf, Error> {
        let mut path = self.place().folder("containers");
        if self.sharing().is_private() {
            make_folder(&path, 0o700)?;
            return Ok(path);
        }
        make_folder(&path, self.sharing().folders())?;
        let meta = fs::metadata(self.root()).map_err(at("look at", self.root()))?;
        // Here and not each time that it is opened: who only looks has nothing there to lose.
        let mut others = Vec::new();
        for folder in [&path, &self.place().folder("tmp")] {
            others.extend(hold(folder, &meta, self.sharing())?.map(|uid| (uid, shell(folder))));
        }
        self.note_owners(&others, meta.uid());
        path.push(rustix::process::geteuid().as_raw().to_string());
        // Another member may have put something else there.
        if path.symlink_metadata().is_ok_and(|there| !there.is_dir()) {
            return Err(Error::NotPrivate(path));
        }
        make_folder(&path, 0o700)?;
        access::check_private(&path)?;
        Ok(path)
    }

    /// A fresh folder for work of this process, on the store's file system. It goes with the
    /// process, or when the last clone of this store is dropped.
    pub fn scratch_dir(&self) -> Result<PathBuf, Error> {
        let path = self.scratch_path();
        make_folder(&path, self.sharing().making())?;
        Ok(path)
    }

    /// Opens the partial download of the file with this digest, making it where there is none, and says where it lies.
    /// Hold `lock("partial", digest)` meanwhile.
    ///
    /// # Errors
    /// The store can't be written to.
    pub fn open_partial(&self, digest: Digest) -> Result<(PathBuf, File), Error> {
        let path = self.partial_path(digest);
        // What is no file of this user's alone may be another's, under a second name.
        match own::open_made(&path, OFlags::RDWR) {
            Ok(Some(file)) => return Ok((path, file)),
            Ok(None) => self.discard(&path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at("open", &path)(error)),
        }
        let file = own::create(&path, 0o600).map_err(at("create", &path))?;
        Ok((path, file))
    }

    /// Removes the partial download of the file with this digest, which is not what was wanted.
    ///
    /// # Errors
    /// The store can't be written to.
    pub fn remove_partial(&self, digest: Digest) -> Result<(), Error> {
        own::remove_file(&self.partial_path(digest)).map(drop)
    }

    /// Where the partial download of the file with this digest lies, whether it is there or not, to be looked at. Open it
    /// with [`Store::open_partial`].
    pub fn partial_path(&self, digest: Digest) -> PathBuf {
        let mut name = digest.hex();
        if !self.sharing().is_private() {
            // Only who began a file can go on with it.
            name.push_str(&format!(".{}", rustix::process::geteuid().as_raw()));
        }
        self.place().folder("partial").join(name)
    }

    pub(crate) fn place(&self) -> &Place {
        &self.inner.place
    }

    pub(crate) fn sharing(&self) -> Sharing {
        self.inner.sharing
    }

    pub(crate) fn lowers(&self) -> &[Lower] {
        &self.inner.lowers
    }

    /// The store and those below it that are believed.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        let lowers = self.lowers().iter().filter(|lower| lower.trusted);
        std::iter::once(self.place()).chain(lowers.map(|lower| &lower.place))
    }

    /// The stores below it of which only what a digest proves is believed.
    pub(crate) fn untrusted(&self) -> impl Iterator<Item = &Place> {
        self.lowers().iter().filter(|lower| !lower.trusted).map(|lower| &lower.place)
    }

    pub(crate) fn pins(&self) -> &Pins {
        &self.inner.pins
    }

    pub(crate) fn assemblies(&self) -> MutexGuard<'_, HashMap<PathBuf, Weak<Assembly>>> {
        self.inner.assemblies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, HashMap<PathBuf, Option<File>>> {
        self.inner.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was said of damaged files.
    pub(crate) fn noted(&self) -> &Mutex<HashSet<String>> {
        &self.inner.damage_noted
    }

    pub(crate) fn note(&self, text: &str) {
        self.inner.options.note.iter().for_each(|note| note(text));
    }

    /// Whether the names are looked at for the first time.
    pub(crate) fn is_first_look_at_names(&self) -> bool {
        !self.inner.no_names_noted.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn lock_timeout(&self) -> Option<Duration> {
        self.inner.options.lock_timeout
    }

    /// Keeps an object for as long as this store is open. Look for it, or put it, afterwards.
    ///
    /// # Errors
    /// [`Error::Locked`]: a prune has the pins, and does not go on.
    pub(crate) fn pin(&self, digest: Digest) -> Result<(), Error> {
        self.pins().pin(digest, self.lock_timeout(), &|text| self.note(text))
    }

    /// Says once that trees here lack what their layers have.
    pub(crate) fn note_stripped(&self) {
        if !self.inner.stripped_noted.swap(true, Ordering::Relaxed) {
            self.note(&format!(
                "other users can read the store {}, so set-user-ID bits, file capabilities and device nodes are not extracted",
                self.root().display()
            ));
        }
    }

    /// Says who else can move and remove what this user has in folders of a group's store.
    fn note_owners(&self, folders: &[(u32, String)], owner: u32) {
        let Some((first, _)) = folders.first() else { return };
        let paths = |glue: &str| {
            let paths: Vec<&str> = folders.iter().map(|(_, path)| &**path).collect();
            paths.join(glue)
        };
        let (belongs, it) = if folders.len() == 1 { ("belongs", "it") } else { ("belong", "them") };
        let uids = match folders.iter().find(|(uid, _)| uid != first) {
            Some((second, _)) => format!("uids {first} and {second}"),
            None => format!("uid {first}"),
        };
        self.note(&format!(
            "{} {belongs} to {uids}, who can move and remove what you have in {it}; `{}chown {owner} {}` gives {it} to the store's owner",
            paths(" and "),
            crate::error::sudo(),
            paths(" "),
        ));
    }

    /// What would be left in the store if this process ended now, without closing it.
    #[must_use]
    pub fn leftovers(&self) -> Leftovers {
        Leftovers(Arc::downgrade(&self.inner))
    }

    pub(crate) fn scratch(&self) -> &Path {
        self.inner.scratch.path()
    }

    /// A path in this process's scratch folder that nothing has yet.
    pub(crate) fn scratch_path(&self) -> PathBuf {
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        self.scratch().join(number.to_string())
    }

    /// Makes a file of this store's mode for small files, whatever the umask.
    pub(crate) fn create(&self, path: &Path) -> Result<File, Error> {
        own::create(path, self.sharing().files()).map_err(at("create", path))
    }

    /// Makes a folder of the store that may be there.
    pub(crate) fn folder(&self, path: &Path) -> Result<(), Error> {
        if self.sharing().is_private() || own::look(path).map_err(at("look at", path))?.is_some() {
            return make_folder(path, self.sharing().folders());
        }
        // It must appear with the mode it keeps: another user may be waiting to write into it. And
        // it must not take the place of theirs, which would be gone for whoever is about to.
        let fresh = self.scratch_path();
        make_folder(&fresh, self.sharing().folders())?;
        match own::rename_new(&fresh, path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                own::remove_folder(&fresh).map(drop)
            }
            // Not every file system knows the flag (rename(2)).
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                own::remove_folder(&fresh)?;
                make_folder(path, self.sharing().folders())
            }
            Err(error) => Err(at("create", path)(error)),
        }
    }

    /// Writes a small file so that it is there whole or not at all, also after a power cut.
    /// Leaves a file alone that has these bytes already.
    pub(crate) fn write_small(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        match self.write_part(path, bytes)? {
            None => Ok(()),
            Some((part, file)) => {
                file.sync_all().map_err(at("sync", &part))?;
                own::rename(&part, path).map_err(at("rename into place", path))?;
                sync_parent(path)
            }
        }
    }

    /// As [`Store::write_small`], but a power cut may leave the old file, none, or an empty one.
    pub(crate) fn write_unsynced(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        match self.write_part(path, bytes)? {
            None => Ok(()),
            Some((part, _)) => own::rename(&part, path).map_err(at("rename into place", path)),
        }
    }

    /// A file with these bytes that is to be renamed to `path`; none where they are there already.
    fn write_part(&self, path: &Path, bytes: &[u8]) -> Result<Option<(PathBuf, File)>, Error> {
        match read_small(path) {
            Ok(Some(old)) if old == bytes => return Ok(None),
            // No file could be renamed into the place of a folder.
            Err(Error::Corrupt { path: damaged, .. }) if damaged == path => self.discard(path)?,
            read => drop(read?),
        }
        if let Some(folder) = path.parent() {
            self.folder(folder)?;
        }
        let temporary = self.scratch_path();
        let mut file = self.create(&temporary)?;
        file.write_all(bytes).map_err(at("write", &temporary))?;
        Ok(Some((temporary, file)))
    }

    /// Removes the folders of dead processes.
    fn clean(&self) -> Result<(), Error> {
        let fault = |error: Error| self.note(&error.to_string());
        scratch::for_each_dead(
            &self.place().folder("tmp"),
            |path| {
                self.remove_or_set_aside(path);
            },
            fault,
        )
    }

    /// Takes a file or folder out of the store and removes it: a kill in the middle leaves nothing
    /// that looks whole.
    pub(crate) fn discard(&self, path: &Path) -> Result<(), Error> {
        let trash = self.scratch_path();
        match own::rename(path, &trash) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // A folder of another member of a group can't be moved, as its `..` would change (rename(2)). Empty, it can be removed.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return self.remove(path);
            }
            result => result.map_err(at("remove", path))?,
        }
        self.remove_or_set_aside(&trash);
        Ok(())
    }

    /// Removes a folder that nobody uses: whether all of it is gone. What stays of it is moved to `leftovers/`, where it
    /// is in nobody's way, and said.
    pub(crate) fn remove_or_set_aside(&self, path: &Path) -> bool {
        let Err(error) = self.remove(path) else { return true };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let left = self.place().folder("leftovers");
        let aside = (0..1000)
            .map(|number| left.join(format!("{name}.{number}")))
            .find(|aside| own::look(aside).is_ok_and(|there| there.is_none()))
            .filter(|aside| own::rename(path, aside).is_ok());
        self.note_leftover(&error.moved(path, aside.as_deref().unwrap_or(path)));
        false
    }

    /// Removes a folder, with the help of [`Options::remover`] where there is one.
    fn remove(&self, path: &Path) -> Result<(), Error> {
        let first = remove_own(path);
        match (&first, &self.inner.options.remover) {
            (Err(Error::Unremovable { .. }), Some(remover)) if remover(path).is_ok() => {
                remove_own(path)
            }
            _ => first,
        }
    }

    /// Tries once more to remove what could not be removed before, and says what still can't.
    pub(crate) fn remove_leftovers(&self) -> Result<(), Error> {
        for path in list(&self.place().folder("leftovers"))? {
            if let Err(error) = self.remove(&path) {
                self.note_leftover(&error);
            }
        }
        Ok(())
    }

    pub(crate) fn note_leftover(&self, error: &Error) {
        let you = rustix::process::geteuid().as_raw();
        if let Error::Unremovable { path, owners, .. } = error
            && let Some(owner) = owners.iter().find(|owner| **owner != you)
            && self.sharing().is_group()
        {
            let path = shell(path);
            return self.note(&format!(
                "{path} holds files of uid {owner}, which only they can remove: their next `sconce prune` does"
            ));
        }
        let hint = error.hint().map_or(String::new(), |hint| format!("; {hint}"));
        self.note(&format!("files are left that can't be removed: {error}{hint}"));
    }
}

/// Sees to it that in a group's store what each member has in a folder is theirs alone to move and remove. Its owner can
/// do both all the same: as root it is given to the owner of the store; to others it is said who that is.
fn hold(folder: &Path, store: &Metadata, sharing: Sharing) -> Result<Option<u32>, Error> {
    if !sharing.is_group() {
        return Ok(None);
    }
    let Some(about) = own::look(folder).map_err(at("look at", folder))? else { return Ok(None) };
    let mut other = None;
    let you = rustix::process::geteuid().as_raw();
    if you == 0 && about.st_uid != store.uid() {
        own::give_to(folder, store.uid()).map_err(at("set the owner of", folder))?;
    } else if ![0, you, store.uid()].contains(&about.st_uid) {
        other = Some(about.st_uid);
    }
    if about.st_mode & 0o7777 == sharing.held() || you != 0 && you != about.st_uid {
        return Ok(other);
    }
    own::set_folder_mode(folder, sharing.held()).map_err(at("set the mode of", folder))?;
    Ok(other)
}

fn open_gc_lock(path: &Path, sharing: Sharing) -> Result<File, Error> {
    loop {
        match own::open_lock(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result.map_err(|error| not_opened(path, error)),
        }
        match own::create(path, sharing.files()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result.map_err(at("create", path)),
        }
    }
}

/// The format of the store at `root`; `None` when it is none.
pub(crate) fn format_of(root: &Path) -> Result<Option<u64>, Error> {
    let version = root.join("version");
    let Some(bytes) = read_small(&version)? else { return Ok(None) };
    match str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok()) {
        Some(format) => Ok(Some(format)),
        None => Err(Error::Corrupt { path: version, why: "not a number".to_owned() }),
    }
}

/// That the folder is a store this program can read, or can become one.
fn check_format(root: &Path) -> Result<Option<u64>, Error> {
    let format = format_of(root)?;
    match format {
        Some(found) if found > FORMAT => {
            return Err(Error::NewerFormat { root: root.to_owned(), found, known: FORMAT });
        }
        Some(_) => {}
        None => {
            // Our folders alone are another process that makes the store right now.
            for path in list(root)? {
                let name = path.file_name().unwrap_or_default();
                if !FOLDERS
                    .iter()
                    .chain(&["containers", "version", access::PRIVATE_MARK])
                    .any(|ours| *ours == name)
                {
                    return Err(Error::NotAStore(root.to_owned()));
                }
            }
        }
    }
    Ok(format)
}
