//! The folder of each container: what it is, how it goes, and what its root is made of.
//!
//! ```text
//! <folder>/<id>/container.json   what was asked for (`Container`)
//!               state.json       how it goes (`State`), replaced by rename
//!               socket           where the shim listens
//!               log, log.1       output of a detached container
//!               scratch/         writable layer, mount point of the stage; gone when the container is
//! ```
//!
//! A shim holds a lock on its container's folder for as long as it lives, and the kernel lets go of
//! it when the shim dies, however that happens. So a folder with `scratch` that nobody holds is
//! left over from a container that was killed; the next one that starts removes what is left.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::Container;
use crate::error::{Doing, Error};

/// Largest document that is read back.
const LARGEST: u64 = 16 << 20;
/// Digits of an id.
const ID_LENGTH: usize = 16;

/// How a container goes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Its first process, as the host counts; absent before the start and after the end.
    pub pid: Option<i32>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When its command started.
    pub started: Option<u64>,
    /// When it ended.
    pub finished: Option<u64>,
    /// The status it ended with, as a shell reports it.
    pub exit: Option<u8>,
    /// Why it could not be started or was lost.
    pub error: Option<String>,
    /// Its memory limit killed something in it.
    #[serde(default)]
    pub out_of_memory: bool,
    /// Why the end of its output is not in its log, where it is not.
    #[serde(default)]
    pub output_lost: Option<String>,
    /// The cgroups made for it, or about to be.
    #[serde(default)]
    pub cgroups: Vec<PathBuf>,
}

/// A new container's folder, locked.
pub(crate) struct Folder {
    pub(crate) id: String,
    pub(crate) path: PathBuf,
    pub(crate) lock: OwnedFd,
    /// Folders that killed containers left, with their locks.
    pub(crate) left: Vec<(PathBuf, OwnedFd)>,
}

impl Folder {
    /// Makes a folder in `parent`, which is made if missing. A name that a living container has is
    /// refused.
    pub(crate) fn new(parent: &Path, name: Option<&str>) -> Result<Self, Error> {
        if !parent.is_dir() {
            make(parent, true)?;
        }
        let parent = fs::canonicalize(parent).doing_to("finding", parent)?;
        // While this is held no other run is between making its folder and locking it.
        let door = File::open(&parent).doing_to("opening", &parent)?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&door, FlockOperation::LockExclusive))
            .doing_to("locking", &parent)?;
        let mut left = Vec::new();
        for entry in fs::read_dir(&parent).doing_to("reading", &parent)?.flatten() {
            let path = entry.path();
            let is_ours = entry.file_name().to_str().is_some_and(is_id);
            // Another user's folder cannot be opened, and is not ours to remove.
            // What ended and is kept has a record, and no scratch folder any more.
            let unfinished =
                || path.join("scratch").exists() || !path.join("container.json").exists();
            if is_ours
                && unfinished()
                && let Ok(folder) = File::open(&path)
                && rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok()
            {
                left.push((path, folder.into()));
            }
        }
        if let Some(name) = name
            && let Some(holder) = list(&parent)?.into_iter().find(|other| {
                other.container.name.as_deref() == Some(name)
                    && !left.iter().any(|(path, _)| *path == other.path)
            })
        {
            return Err(Error::NameTaken { name: name.to_owned(), id: holder.id });
        }
        let id = new_id()?;
        let path = parent.join(&id);
        make(&path, false)?;
        let lock = File::open(&path).doing_to("opening", &path)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .doing_to("locking", &path)?;
        make(&path.join("scratch"), false)?;
        Ok(Self { id, path, lock: lock.into(), left })
    }
}

/// Makes a folder that only its owner can enter, whatever the umask.
pub(crate) fn make(path: &Path, parents: bool) -> Result<(), Error> {
    fs::DirBuilder::new().mode(0o700).recursive(parents).create(path).doing_to("creating", path)
}

fn new_id() -> Result<String, Error> {
    let mut bytes = [0; ID_LENGTH / 2];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .doing("reading /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn is_id(name: &str) -> bool {
    name.len() == ID_LENGTH && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Writes a document so that it is there whole or not at all.
pub(crate) fn write(folder: &Path, name: &str, value: &impl Serialize) -> Result<(), Error> {
    let (path, part) = (folder.join(name), folder.join(format!("{name}.part")));
    let bytes = serde_json::to_vec(value).map_err(io::Error::from).doing_to("writing", &path)?;
    let mut options = fs::OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(&part);
    let written = opened.and_then(|mut file| file.write_all(&bytes));
    let written = written.and_then(|()| fs::rename(&part, &path));
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written.doing_to("writing", &path)
}

/// Reads a document of a container's folder.
pub(crate) fn read<T: for<'de> Deserialize<'de>>(folder: &Path, name: &str) -> io::Result<T> {
    let mut bytes = Vec::new();
    File::open(folder.join(name))?.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// A container that has a folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Sixteen hexadecimal digits.
    pub id: String,
    /// What was asked for.
    pub container: Container,
    /// How it goes.
    pub state: State,
    /// Its shim lives.
    pub alive: bool,
    pub(crate) path: PathBuf,
}

/// The containers of a folder, the newest first: those that live, and the detached ones that ended
/// and keep their record.
pub fn list(parent: &Path) -> Result<Vec<Listed>, Error> {
    let entries = match fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.doing_to("reading", parent)?,
    };
    let mut listed = Vec::new();
    for entry in entries.flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        // One that was just made, or is just being removed, has no documents.
        if is_id(&id)
            && let Ok(container) = read::<Container>(&path, "container.json")
            && let Ok(state) = read::<State>(&path, "state.json")
        {
            let alive = File::open(&path).is_ok_and(|folder| {
                rustix::fs::flock(&folder, FlockOperation::NonBlockingLockShared).is_err()
            });
            if alive || container.detach {
                listed.push(Listed { id, container, state, alive, path });
            }
        }
    }
    listed.sort_by(|a, b| b.state.created.cmp(&a.state.created).then(a.id.cmp(&b.id)));
    Ok(listed)
}

/// The container that people call `name`: by its id, its name, or a beginning of the id that only
/// one has. An id first, so that no name stands in for another's id.
pub fn find(parent: &Path, name: &str) -> Result<Listed, Error> {
    let all = list(parent)?;
    if let Some(one) = all.iter().find(|one| one.id == name) {
        return Ok(one.clone());
    }
    let named: Vec<&Listed> =
        all.iter().filter(|one| one.container.name.as_deref() == Some(name)).collect();
    let called = if named.is_empty() && !name.is_empty() {
        all.iter().filter(|one| one.id.starts_with(name)).collect()
    } else {
        named
    };
    // A name may be that of one that lives and of some that ended.
    let living: Vec<&&Listed> = called.iter().filter(|one| one.alive).collect();
    match (living.as_slice(), called.as_slice()) {
        ([one], _) => Ok((**one).clone()),
        ([], [one]) => Ok((*one).clone()),
        (_, []) => Err(Error::NoContainer(name.to_owned())),
        _ => Err(Error::Ambiguous {
            name: name.to_owned(),
            ids: called.iter().map(|one| one.id.clone()).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_what_nobody_holds_is_left_over() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["00000000000000aa", "run-x", "other"] {
            fs::create_dir_all(folder.path().join(name).join("scratch")).expect("a folder");
        }
        let ended = folder.path().join("00000000000000bb");
        fs::create_dir(&ended).expect("one that ended well");
        fs::write(ended.join("container.json"), "{}").expect("its record");
        // One whose maker was killed before it had anything.
        fs::create_dir(folder.path().join("00000000000000cc")).expect("a folder");
        let first = Folder::new(folder.path(), None).expect("a container");
        let real = fs::canonicalize(folder.path()).expect("path");
        let mut left: Vec<&PathBuf> = first.left.iter().map(|(path, _)| path).collect();
        left.sort();
        let wanted = ["00000000000000aa", "00000000000000cc"].map(|name| real.join(name));
        assert_eq!(left, wanted.iter().collect::<Vec<_>>());
        let mode = fs::metadata(&first.path).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let second = Folder::new(folder.path(), None).expect("another");
        assert!(second.left.is_empty(), "the first holds both: {:?}", second.left);
        assert_ne!(first.id, second.id);
    }

    #[test]
    fn containers_are_found_by_name_and_id() {
        let folder = tempfile::tempdir().expect("a folder");
        let make = |name: Option<&str>, detach| {
            let made = Folder::new(folder.path(), name)?;
            let mut container = Container::new(Vec::new(), folder.path(), ["true"]);
            container.name = name.map(str::to_owned);
            container.detach = detach;
            write(&made.path, "container.json", &container)?;
            write(&made.path, "state.json", &State::default())?;
            Ok::<_, Error>(made)
        };
        let train = make(Some("train"), false).expect("made");
        let other = make(None, true).expect("made");
        assert_eq!(list(folder.path()).expect("listed").len(), 2);
        assert_eq!(find(folder.path(), "train").expect("found").id, train.id);
        assert_eq!(find(folder.path(), &other.id[..9]).expect("found").id, other.id);
        let named = make(Some(&other.id), false).expect("a name like an id");
        assert_eq!(find(folder.path(), &other.id).expect("found").id, other.id);
        drop(named);
        assert!(matches!(make(Some("train"), false), Err(Error::NameTaken { .. })));
        assert!(matches!(find(folder.path(), "tr"), Err(Error::NoContainer(_))));
        assert!(matches!(find(folder.path(), ""), Err(Error::NoContainer(_))));
        drop((train, other));
        // Who was attached leaves no record; who was detached does.
        assert!(matches!(find(folder.path(), "train"), Err(Error::NoContainer(_))));
        assert_eq!(list(folder.path()).expect("listed").len(), 1);
        make(Some("train"), false).expect("the name is free again");
    }
}
