//! What was copied out of a container, put where a person wants it.
//!
//! The folder it goes to may be a volume of that very container, which can exchange whatever is made there
//! for a link as soon as it is made. So the files come to a folder that nobody else reaches, and from there each is
//! made by its name in a folder that is held open, following no link.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileTimes};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};

use crate::error::{Doing, Error};
use crate::holes;
use crate::signals::Interrupts;

/// Puts what is at `from`, a folder or file that nobody else reaches, at `name` in `folder`: under a name of its
/// own until it is whole. A file or link that is there is replaced; a folder that is there gets what `from` has, one by
/// one, beside what it has. What fails leaves nothing half-written. `shown` is the place in the caller's words.
///
/// # Errors
/// The kernel's, naming what could not be written; `ELOOP` and `ENOTDIR` where something was exchanged for a link
/// meanwhile, or would have to be exchanged for a folder. [`Error::Interrupted`].
pub fn put(
    from: &Path,
    folder: &Path,
    name: &OsStr,
    shown: &Path,
    interrupts: &Interrupts,
) -> Result<(), Error> {
    let copy = Copy { from, shown, interrupts };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = rustix::fs::openat(CWD, folder, flags, Mode::empty());
    let folder = Arc::new(open.doing_to("opening", folder)?);
    let mut waiting = vec![(from.to_owned(), folder, name.to_owned())];
    while let Some((from, folder, name)) = waiting.pop() {
        let flags = flags | OFlags::NOFOLLOW;
        let is_folder = copy.at(&from, fs::symlink_metadata(&from))?.is_dir();
        let there = match is_folder {
            true => rustix::fs::openat(&*folder, &name, flags, Mode::empty()).ok().map(Arc::new),
            false => None,
        };
        let Some(there) = there else {
            copy.place(&from, &folder, &name)?;
            continue;
        };
        for entry in copy.at(&from, fs::read_dir(&from))? {
            let entry = copy.at(&from, entry)?;
            waiting.push((entry.path(), Arc::clone(&there), entry.file_name()));
        }
    }
    Ok(())
}

/// One call of [`put`].
struct Copy<'a> {
    from: &'a Path,
    shown: &'a Path,
    interrupts: &'a Interrupts,
}

/// A step of a copy: something to make, or a folder that is complete.
enum Step {
    Make { from: PathBuf, folder: Arc<OwnedFd>, name: OsString },
    Finish { from: PathBuf, open: Arc<OwnedFd>, about: fs::Metadata },
}

impl Copy<'_> {
    /// An error about the copy of `from`.
    fn at<T, E: Into<io::Error>>(&self, from: &Path, result: Result<T, E>) -> Result<T, Error> {
        let below = from.strip_prefix(self.from).unwrap_or(from);
        let path = match below.as_os_str().is_empty() {
            true => self.shown.to_owned(),
            false => self.shown.join(below),
        };
        result.doing_to("writing", path)
    }

    /// Puts what is at `from` where no folder is.
    fn place(&self, from: &Path, folder: &Arc<OwnedFd>, name: &OsStr) -> Result<(), Error> {
        let apart = OsString::from(format!(".sconce-cp-{}-{:08x}", std::process::id(), unique()));
        let mut made = None;
        let placed = self.copy(from, folder, &apart, &mut made).and_then(|()| {
            let flags = if made.is_some() { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
            self.at(from, rustix::fs::renameat_with(folder, &apart, folder, name, flags))
        });
        if placed.is_err() {
            let flags = match made {
                None => AtFlags::empty(),
                Some(made) => {
                    clear(&made);
                    AtFlags::REMOVEDIR
                }
            };
            // By now it may be somebody else's under that name: of a folder it removes an empty one at most.
            let _ = rustix::fs::unlinkat(folder, &apart, flags);
        }
        placed
    }

    /// Copies `from` to `name` in `folder`; `made` is the folder that was made for it.
    fn copy(
        &self,
        from: &Path,
        folder: &Arc<OwnedFd>,
        name: &OsStr,
        made: &mut Option<Arc<OwnedFd>>,
    ) -> Result<(), Error> {
        let first =
            Step::Make { from: from.to_owned(), folder: Arc::clone(folder), name: name.to_owned() };
        let mut steps = vec![first];
        while let Some(step) = steps.pop() {
            self.check()?;
            let (from, folder, name) = match step {
                Step::Finish { from, open, about } => {
                    // Only now: whoever is not root can't write into a folder that is read-only.
                    self.at(&from, open.try_clone().and_then(|open| finish(&open.into(), &about)))?;
                    continue;
                }
                Step::Make { from, folder, name } => (from, folder, name),
            };
            let about = self.at(&from, fs::symlink_metadata(&from))?;
            if !about.is_dir() {
                self.at(&from, self.copy_file(&from, &about, &folder, &name))?;
                continue;
            }
            let open = Arc::new(self.at(&from, make_folder(&folder, &name))?);
            made.get_or_insert_with(|| Arc::clone(&open));
            let entries = self.at(&from, fs::read_dir(&from))?;
            steps.push(Step::Finish { from: from.clone(), open: Arc::clone(&open), about });
            for entry in entries {
                let entry = self.at(&from, entry)?;
                let (from, folder) = (entry.path(), Arc::clone(&open));
                steps.push(Step::Make { from, folder, name: entry.file_name() });
            }
        }
        // The last file may be cut short.
        self.check()
    }

    fn check(&self) -> Result<(), Error> {
        self.interrupts.came().map_or(Ok(()), |signal| Err(Error::Interrupted(signal)))
    }

    fn copy_file(
        &self,
        from: &Path,
        about: &fs::Metadata,
        folder: &OwnedFd,
        name: &OsStr,
    ) -> io::Result<()> {
        if about.is_symlink() {
            return Ok(rustix::fs::symlinkat(fs::read_link(from)?, folder, name)?);
        }
        let flags =
            OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let made = rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?;
        let made = File::from(made);
        holes::copy(&File::open(from)?, &made, &|| self.interrupts.came().is_none())?;
        finish(&made, about)
    }
}

fn make_folder(above: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    rustix::fs::mkdirat(above, name, Mode::RWXU)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(above, name, flags, Mode::empty())?)
}

/// Removes what is in an open folder, as far as it can be.
fn clear(folder: &OwnedFd) {
    let held = sconce_open::held(folder);
    for entry in fs::read_dir(&held).into_iter().flatten().flatten() {
        let _ = sconce_store::remove_tree(&held.join(entry.file_name()));
    }
}

pub(crate) fn unique() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |time| time.subsec_nanos())
}

fn finish(made: &File, about: &fs::Metadata) -> io::Result<()> {
    made.set_permissions(fs::Permissions::from_mode(about.mode() & 0o777))?;
    made.set_times(FileTimes::new().set_modified(about.modified()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_tree_arrives_as_it_is_and_follows_no_link() {
        let world = tempfile::tempdir().expect("a folder");
        let at = |name: &str| world.path().join(name);
        let interrupts = Interrupts::listen().expect("signals");
        fs::create_dir_all(at("from/sub")).expect("made");
        fs::write(at("from/sub/f"), "text").expect("written");
        fs::set_permissions(at("from/sub/f"), fs::Permissions::from_mode(0o751)).expect("mode");
        fs::set_permissions(at("from/sub"), fs::Permissions::from_mode(0o555)).expect("mode");
        symlink("/nowhere", at("from/l")).expect("a link");
        fs::create_dir(at("to")).expect("made");
        put(&at("from"), &at("to"), OsStr::new("x"), Path::new("x"), &interrupts).expect("placed");
        assert_eq!(fs::read(at("to/x/sub/f")).expect("read"), b"text");
        let mode = |name: &str| fs::metadata(at(name)).expect("there").mode() & 0o777;
        assert_eq!((mode("to/x/sub/f"), mode("to/x/sub")), (0o751, 0o555));
        assert_eq!(fs::read_link(at("to/x/l")).expect("a link"), Path::new("/nowhere"));
        let time = |name: &str| fs::metadata(at(name)).expect("there").modified().expect("time");
        assert_eq!(time("to/x/sub/f"), time("from/sub/f"));
        // A folder that is there gets what is new, a link in its place is not followed.
        fs::write(at("from/new"), "new").expect("written");
        put(&at("from"), &at("to"), OsStr::new("x"), Path::new("x"), &interrupts).expect("placed");
        assert_eq!(fs::read(at("to/x/new")).expect("read"), b"new");
        fs::create_dir(at("theirs")).expect("made");
        symlink("../theirs", at("to/z")).expect("a link");
        assert!(put(&at("from"), &at("to"), OsStr::new("z"), Path::new("x"), &interrupts).is_err());
        assert_eq!(fs::read_dir(at("theirs")).expect("read").count(), 0);
        fs::write(at("outside"), "theirs").expect("written");
        symlink("../outside", at("to/y")).expect("a link");
        put(&at("from/sub/f"), &at("to"), OsStr::new("y"), Path::new("x"), &interrupts)
            .expect("placed");
        assert_eq!(fs::read(at("outside")).expect("read"), b"theirs");
        assert_eq!(fs::read(at("to/y")).expect("read"), b"text");
        fs::set_permissions(at("from/sub"), fs::Permissions::from_mode(0o755)).expect("mode");
        // What can't be copied is named, and nothing of the folder is left.
        let _socket = std::os::unix::net::UnixListener::bind(at("from/sub/s")).expect("a socket");
        fs::create_dir(at("empty")).expect("made");
        let error =
            put(&at("from"), &at("empty"), OsStr::new("y"), Path::new("out/y"), &interrupts);
        let error = error.expect_err("a socket can't be read").to_string();
        assert!(error.contains("out/y/sub/s"), "{error}");
        assert_eq!(fs::read_dir(at("empty")).expect("read").count(), 0);
        fs::set_permissions(at("to/x/sub"), fs::Permissions::from_mode(0o755)).expect("mode");
    }
}
