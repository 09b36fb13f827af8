//! What can go wrong in the store, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use sconce_blob::Digest;
use sconce_oci::name::host_of;

use crate::damage;
use crate::remove::under;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("can't {action} {}: {source}", path.display())]
    Io {
        /// What was tried, a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The disk, a quota or the file size limit is used up.
    #[error("no space left to {action} {}: {source}", path.display())]
    NoSpace {
        /// What was tried, a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Which limit was met.
        #[source]
        source: io::Error,
    },
    /// The store's folder can't be written.
    #[error("can't {action} {}: {source}", path.display())]
    NotWritable {
        /// What was tried, a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Read-only file system, or no permission.
        #[source]
        source: io::Error,
    },
    /// What is written out of the store has no room in its place, or may not be written there.
    #[error("can't {action} {}: {source}", path.display())]
    Output {
        /// What was tried, a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Neither `SCONCE_HOME`, `XDG_DATA_HOME` nor `HOME` is set to an absolute path.
    #[error("no folder for the store: neither SCONCE_HOME, XDG_DATA_HOME nor HOME is set")]
    NoHome,
    /// The store belongs to somebody else.
    #[error("the store {} belongs to uid {owner}; you are uid {you}", shell(root))]
    NotYours {
        /// The store.
        root: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who calls.
        you: u32,
    },
    /// Root would make a store in a folder of somebody else.
    #[error(
        "the store {} would be made in {}, which belongs to uid {owner}: they could neither use nor remove what root makes there",
        shell(root),
        shell(folder)
    )]
    NotYourFolder {
        /// The store that would be made.
        root: PathBuf,
        /// The folder that is there.
        folder: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// A part of the store belongs to somebody else.
    #[error("{} belongs to uid {owner}, but the store it is in to uid {of}", shell(path))]
    Mixed {
        /// The store.
        root: PathBuf,
        /// The part.
        path: PathBuf,
        /// Whose that is.
        owner: u32,
        /// Whose the store is.
        of: u32,
    },
    /// Others can write to the store, and nothing says that they should.
    #[error("others can write to the store {}: {} has mode {mode:04o}", shell(root), shell(path))]
    Exposed {
        /// The store.
        root: PathBuf,
        /// The store or a folder in it.
        path: PathBuf,
        /// The mode.
        mode: u32,
    },
    /// The store was opened to users for whom it was not made.
    #[error(
        "the store {} was made with mode {made:04o} and has {mode:04o} now: {}",
        shell(root),
        match made & 0o077 {
            0 => "what lies in it stays closed to other users, and its trees have owners, set-user-ID bits and device nodes that no other user may reach",
            _ => "what lies in it stays closed to those whom it was opened to",
        }
    )]
    OpenedLater {
        /// The store.
        root: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Its group.
        group: u32,
        /// The mode that its folders were made with.
        made: u32,
        /// What it has now.
        mode: u32,
    },
    /// A folder that should be the caller's alone is not.
    #[error("{} must be a folder of mode 0700 that you own", shell(.0))]
    NotPrivate(PathBuf),
    /// Something else is in the place of a layer's tree.
    #[error("{} is not the tree of a layer: {source}", shell(path))]
    NotATree {
        /// Where.
        path: PathBuf,
        /// Why it can't be used as a folder.
        #[source]
        source: io::Error,
    },
    /// The request would change a store that is read-only here.
    #[error("{what} is in the store {}, which is read-only here", shell(store))]
    ReadOnly {
        /// What was to be changed.
        what: String,
        /// The store.
        store: PathBuf,
    },
    /// An image can't be kept from being pruned while it is used.
    #[error("nothing would keep image {} from being pruned while it is used: its record can't be locked ({}: {why}), and {source}", image.short(), record.display())]
    Unkept {
        /// The image.
        image: Digest,
        /// Where its record belongs.
        record: PathBuf,
        /// What is wrong with what lies there.
        why: String,
        /// Why no pin is written.
        source: Box<Error>,
    },
    /// An image that was found lacks a part, which another store had.
    #[error(
        "image {image} is incomplete: blob {missing} is neither in this store nor in one below it"
    )]
    Incomplete {
        /// The image.
        image: Digest,
        /// The part.
        missing: Digest,
        /// What the image is called.
        names: Vec<String>,
    },
    /// A folder could not be removed, or not all of it.
    #[error("can't remove {}{}: {source}", shell(left.first().unwrap_or(path)), and_more(left, *more))]
    Unremovable {
        /// The folder.
        path: PathBuf,
        /// What stayed: paths below it, at most 16.
        left: Vec<PathBuf>,
        /// How many paths more there are.
        more: usize,
        /// The uids of what stayed.
        owners: Vec<u32>,
        /// Why the first stayed.
        #[source]
        source: io::Error,
    },
    /// The folder holds other things.
    #[error("{} is not a sconce store: it has files but no `version`", .0.display())]
    NotAStore(PathBuf),
    /// The store was made by a newer sconce.
    #[error("the store {} has format {found}; this sconce knows up to {known}", root.display())]
    NewerFormat {
        /// The store.
        root: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format this program reads.
        known: u64,
    },
    /// The bytes are not those that were promised.
    #[error("{what} has digest {actual}, not {expected}")]
    WrongDigest {
        /// Which file or stream.
        what: String,
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A blob is not in the store.
    #[error("blob {0} is not in the store")]
    MissingBlob(Digest),
    /// The store doesn't know which blob has these uncompressed bytes.
    #[error("no layer with DiffID {0} is in the store")]
    MissingLayer(Digest),
    /// A file of the store, or one handed to it, is damaged.
    #[error("{} is damaged: {why}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// What lies among the names of images is none.
    #[error("{} is not the name of an image: {why}", shell(path))]
    BadReference {
        /// The file, or what is in its place.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// An archive is packed in a way that is not read.
    #[error("{} is compressed with {program}, which sconce doesn't read", what.display())]
    Packed {
        /// The archive.
        what: PathBuf,
        /// Who unpacks it.
        program: &'static str,
    },
    /// A layer holds something that must not be unpacked.
    #[error("layer {layer}, entry `{entry}`: {why}")]
    BadLayer {
        /// The layer's DiffID, or what it is called before that is known.
        layer: String,
        /// The entry's path, lossily decoded.
        entry: String,
        /// What is wrong with it.
        why: String,
    },
    /// A document (manifest, config, index) can't be used.
    #[error("{what}: {why}")]
    BadDocument {
        /// Which document.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A name that no image can have.
    #[error("`{name}` can't name an image: {why}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// No image has this name or digest.
    #[error("no image `{name}` in the store")]
    NoImage {
        /// What was asked for.
        name: String,
        /// A name that looks much like it.
        nearest: Option<String>,
    },
    /// A short digest that several images begin with.
    #[error("`{name}` could mean {} images: {}", candidates.len(), candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Their digests.
        candidates: Vec<String>,
        /// One of them has it as its name.
        is_name: bool,
    },
    /// Another process uses the store.
    #[error("another sconce is using the store {}", .0.display())]
    Busy(PathBuf),
    /// A lock was not to be had.
    #[error("{holder} has locked {}, which was waited for {seconds} s", .path.display())]
    Locked {
        /// The locked file or folder.
        path: PathBuf,
        /// Who has it, in words.
        holder: String,
        /// The same as a number, where that process is stopped.
        stopped: Option<u32>,
        /// How long it was waited for.
        seconds: u64,
    },
    /// `SCONCE_LOCK_TIMEOUT` is no number.
    #[error("SCONCE_LOCK_TIMEOUT is `{0}`, and no number of seconds")]
    BadTimeout(String),
    /// The destination is there already.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// Whoever was told of the bytes written wants no more.
    #[error("interrupted")]
    Interrupted,
    /// Somebody put something else in the place of what was written.
    #[error("{} is not what was written: it was exchanged meanwhile", .0.display())]
    Exchanged(PathBuf),
}

impl Error {
    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoSpace { path, source, .. } => {
                if is_of_inodes(source) {
                    format!(
                        "remove files from the file system of {} (`df -i` counts them; `sconce prune` removes what no image uses), or point SCONCE_HOME at another one",
                        path.display()
                    )
                } else if source.raw_os_error() == Some(Errno::FBIG.raw_os_error()) {
                    "raise the file size limit (`ulimit -f`)".to_owned()
                } else {
                    format!(
                        "free space on the disk of {} (`sconce prune` removes what no image uses), or point SCONCE_HOME at a larger one",
                        path.display()
                    )
                }
            }
            Self::Output { path, source, .. } => {
                match source.raw_os_error().map(Errno::from_raw_os_error) {
                    Some(Errno::FBIG) => "raise the file size limit (`ulimit -f`)".to_owned(),
                    _ if is_of_inodes(source) => {
                        let place = shell(path.parent().unwrap_or(path));
                        format!(
                            "remove files from the file system of {place} (`df -i` counts them), or write to another place"
                        )
                    }
                    Some(Errno::NOSPC | Errno::DQUOT) => {
                        let place = shell(path.parent().unwrap_or(path));
                        format!("free space on the disk of {place}, or write to another place")
                    }
                    _ => "name a place that you may write to".to_owned(),
                }
            }
            Self::NotWritable { .. } => {
                "point SCONCE_HOME at a folder that you may write".to_owned()
            }
            Self::NotYours { root, you: 0, owner } => format!(
                "run sconce as uid {owner}, without sudo; or give root a store of its own: `export SCONCE_HOME=/root/.local/share/sconce`; beside that, root can use the images of this one: `export SCONCE_STORES={}`",
                shell(root)
            ),
            Self::NotYours { root, .. } => format!(
                "point SCONCE_HOME at a folder of your own; beside that, you can use the images of this store: `export SCONCE_STORES={}`",
                shell(root)
            ),
            Self::NotYourFolder { root, owner, .. } => format!(
                "run sconce as uid {owner}, without sudo; or give root a store of its own: `export SCONCE_HOME=/root/.local/share/sconce`; or make this folder root's: `mkdir -p -m 700 {}`",
                shell(root)
            ),
            Self::Mixed { root, of, .. } => format!(
                "`{}chown -R {of} {}` gives all of it to the store's owner, if you trust what is in it",
                sudo(),
                shell(root)
            ),
            Self::Exposed { root, mode, .. } if mode & 0o1000 != 0 => format!(
                "use a folder of its own: `export SCONCE_HOME={}`",
                shell(&root.join("sconce"))
            ),
            Self::Exposed { root, .. } if root.join("trees").exists() => format!(
                "`chmod 700 {}` makes it yours alone; a store for a group begins empty: `install -d -g GROUP -m 2770 FOLDER`",
                shell(root)
            ),
            Self::Exposed { root, .. } => format!(
                "`chmod 700 {0}` makes it yours alone; `chmod 2770 {0}` shares it with its group on purpose",
                shell(root)
            ),
            Self::OpenedLater { root, owner, group, made, mode } => {
                opened_later(root, *owner, *group, *made, *mode)
            }
            Self::NotPrivate(path) => not_private(path),
            Self::NotATree { path, .. } => {
                format!("`rm -f {}` removes it, and the layer is unpacked again", shell(path))
            }
            Self::ReadOnly { .. } => {
                "only the owner of that store can remove its images".to_owned()
            }
            // What lies there is in the place of a file that is made anew.
            Self::Unkept { record, source, .. } => match source.hint() {
                Some(hint) => hint,
                None => format!("`rm -rf {}`: it is made anew", shell(record)),
            },
            Self::Incomplete { image, names, .. } => {
                // A registry has it by that name, if it was pulled.
                match names.iter().find(|name| host_of(name).is_some()) {
                    Some(name) => format!("`sconce pull {name}` fetches what is missing"),
                    None => format!(
                        "build it again, or copy it in again from where it came; `sconce rmi {}` removes what is left of it",
                        image.short()
                    ),
                }
            }
            Self::Unremovable { path, left, owners, source, .. } => {
                let cause = source.raw_os_error().map(Errno::from_raw_os_error);
                return unremovable_hint(path, left.first().unwrap_or(path), owners, cause);
            }
            Self::NoHome => "set SCONCE_HOME to a folder with some tens of GB free".to_owned(),
            Self::NotAStore(_) => {
                "point SCONCE_HOME at an empty folder, or at one that does not exist yet".to_owned()
            }
            Self::NewerFormat { .. } => {
                "use the newer sconce, or another SCONCE_HOME for this one".to_owned()
            }
            Self::MissingBlob(_) | Self::MissingLayer(_) => {
                "build the image again: what is missing is downloaded or made anew".to_owned()
            }
            Self::WrongDigest { .. } => {
                "get the file again; if it stays so, its source has changed or is damaged"
                    .to_owned()
            }
            Self::NoImage { nearest: Some(nearest), .. } => {
                format!("did you mean `{nearest}`? `sconce images` lists what is there")
            }
            Self::NoImage { name, .. } if name.starts_with("sha256:") => {
                "`sconce images --all` lists what is there, by digest too; a registry's comes by `sconce pull HOST/NAME@sha256:…`".to_owned()
            }
            Self::NoImage { name, .. } if !name.contains(['/', '@']) && !name.is_empty() => {
                format!(
                    "`sconce images` lists what is there; Docker Hub's comes by `sconce pull {name}` or as `docker://{name}`"
                )
            }
            Self::NoImage { .. } => "`sconce images` lists what is there".to_owned(),
            Self::Ambiguous { name, is_name: true, .. } => format!(
                "`store:{name}` is the image of that name; more digits are the other one's"
            ),
            Self::Ambiguous { .. } => "give more digits".to_owned(),
            Self::Busy(_) => "wait until it is done, then try again".to_owned(),
            Self::Packed { program, .. } => {
                format!("unpack it on the way: `{program} -dc FILE | sconce pull -`")
            }
            Self::BadReference { path, .. } => format!(
                "`rm -r {}` takes the name away; the image stays, and `sconce images --all` lists it",
                shell(path)
            ),
            Self::Locked { stopped: Some(pid), .. } => {
                format!("`kill -CONT {pid}` lets it go on; try again when it has ended")
            }
            Self::Locked { .. } => {
                "try again when that has ended; `export SCONCE_LOCK_TIMEOUT=3600` waits an hour for it".to_owned()
            }
            Self::BadTimeout(_) => "`export SCONCE_LOCK_TIMEOUT=600` waits ten minutes".to_owned(),
            Self::Corrupt { path, .. } => return damage::hint(path),
            Self::Exists(_) => "name another file or folder, or remove this one".to_owned(),
            Self::Exchanged(_) => "write to a folder that nobody else can write to".to_owned(),
            Self::Interrupted
            | Self::Io { .. }
            | Self::BadLayer { .. }
            | Self::BadDocument { .. }
            | Self::BadName { .. } => return None,
        })
    }
}

impl Error {
    /// The same of what is written to `to`, a place of the user's: what helps a store does not help there.
    pub(crate) fn of_output(self, to: &Path) -> Self {
        let beside = to.parent().unwrap_or(to);
        match self {
            Self::NoSpace { action, path, source } | Self::NotWritable { action, path, source }
                if path.starts_with(beside) =>
            {
                // Its name until it was whole is nobody's to look for.
                let below = path.strip_prefix(beside).unwrap_or(&path).components().next();
                let is_partial = below.is_some_and(|part| {
                    part.as_os_str().as_encoded_bytes().starts_with(b".") && path.as_path() != to
                });
                let path = if is_partial { to.to_owned() } else { path };
                Self::Output { action, path, source }
            }
            other => other,
        }
    }

    /// The same after the folder it tells of was moved.
    pub(crate) fn moved(mut self, from: &Path, to: &Path) -> Self {
        if let Self::Unremovable { path, left, .. } = &mut self {
            for path in left.iter_mut().chain([path]) {
                if let Ok(below) = path.strip_prefix(from) {
                    *path = under(to, below);
                }
            }
        }
        self
    }

    /// A failed file operation: `action` is a verb, as in "can't {action} {path}". A full disk and
    /// missing rights are told apart.
    pub fn of_io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC) if has_no_inodes(&path) => {
                Self::NoSpace { action, path, source: io::Error::new(source.kind(), NoInodes) }
            }
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => {
                Self::NoSpace { action, path, source }
            }
            Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) => {
                Self::NotWritable { action, path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }
}

/// ENOSPC where it is not bytes that are missing: users look at `df`, see room and believe neither.
#[derive(Debug, thiserror::Error)]
#[error("no inodes left: the file system has room, but can hold no more files")]
struct NoInodes;

fn is_of_inodes(source: &io::Error) -> bool {
    source.get_ref().is_some_and(|inner| inner.is::<NoInodes>())
}

/// Whether the file system of a path, or of what is there above it, counts inodes and has none left.
fn has_no_inodes(path: &Path) -> bool {
    let disk = path.ancestors().find_map(|path| rustix::fs::statvfs(path).ok());
    disk.is_some_and(|disk| disk.f_files > 0 && disk.f_favail == 0)
}

impl From<Error> for io::Error {
    /// For interfaces that speak `io::Error`; the store's error is its source and its text.
    fn from(error: Error) -> Self {
        match &error {
            Error::Io { source, .. }
            | Error::NoSpace { source, .. }
            | Error::NotWritable { source, .. } => Self::new(source.kind(), error),
            _ => Self::other(error),
        }
    }
}

/// Turns an [`io::Error`] (or an errno) into an [`Error`] that says what was done to which file.
pub(crate) fn at<E: Into<io::Error>>(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> Error + use<E> {
    let path = path.to_owned();
    move |error| Error::of_io(action, &path, error.into())
}

fn unremovable_hint(
    path: &Path,
    first: &Path,
    owners: &[u32],
    cause: Option<Errno>,
) -> Option<String> {
    let you = rustix::process::geteuid().as_raw();
    let (path, first, sudo) = (shell(path), shell(first), sudo());
    match cause {
        Some(Errno::XDEV | Errno::BUSY) => {
            Some(format!("something is mounted there: `{sudo}umount {first}`, then try again"))
        }
        Some(Errno::ACCESS | Errno::PERM) if you != 0 && owners.iter().any(|uid| *uid != you) => {
            Some(format!("it holds files of another user: `{sudo}rm -rf {path}`"))
        }
        Some(Errno::PERM) => Some(format!(
            "it may be marked immutable or append-only: `{sudo}chattr -R -f -i -a {path}`, then try again"
        )),
        _ => None,
    }
}

/// How the images of a store come into one that is for those whom it was opened to.
fn opened_later(root: &Path, owner: u32, group: u32, made: u32, mode: u32) -> String {
    let you = rustix::process::geteuid().as_raw();
    let who = match you == owner {
        true => String::new(),
        false => format!("for uid {owner}, whose it is: "),
    };
    let mut fresh = root.as_os_str().to_owned();
    fresh.push("-shared");
    let (old, fresh) = (shell(root), shell(Path::new(&fresh)));
    format!(
        "{who}`chmod {made:o} {old}` closes it again; a shared store begins empty: `install -d -g {group} -m {mode:o} {fresh}`; each image goes there by `SCONCE_HOME={old} sconce copy NAME oci:moved` and `SCONCE_HOME={fresh} sconce copy oci:moved store:NAME`, and `rm -r moved` before the next"
    )
}

/// Who can remove a folder that should be the caller's alone: its owner, and that of the folder with the sticky bit that
/// it lies in.
fn not_private(path: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let you = rustix::process::geteuid().as_raw();
    match std::fs::symlink_metadata(path) {
        Ok(about) if you != 0 && about.uid() != you => {
            format!("uid {} or root can remove it: `{}rm -rf {}`", about.uid(), sudo(), shell(path))
        }
        _ => format!("remove it: `rm -rf {}`", shell(path)),
    }
}

/// What a command that root must run begins with.
pub(crate) fn sudo() -> &'static str {
    if rustix::process::geteuid().is_root() { "" } else { "sudo " }
}

/// A path as a shell takes it.
#[must_use]
pub fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    match text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

fn and_more(left: &[PathBuf], more: usize) -> String {
    match (left.len() + more).saturating_sub(1) {
        0 => String::new(),
        more => format!(" and {more} more"),
    }
}
