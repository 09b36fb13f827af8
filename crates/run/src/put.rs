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

/// Puts what is at `from`, a folder or file that nobody else reaches, at `name` in `folder`: under a name of its
/// own until it is whole. A file or link that is there is replaced; a folder that is there gets what `from` has, one by
/// one, beside what it has.
///
/// # Errors
/// The kernel's; `ELOOP` and `ENOTDIR` where something was exchanged for a link meanwhile, or would have to be
/// exchanged for a folder.
pub fn put(from: &Path, folder: &Path, name: &OsStr) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = Arc::new(rustix::fs::openat(CWD, folder, flags, Mode::empty())?);
    let mut waiting = vec![(from.to_owned(), folder, name.to_owned())];
    while let Some((from, folder, name)) = waiting.pop() {
        let flags = flags | OFlags::NOFOLLOW;
        let there = match fs::symlink_metadata(&from)?.is_dir() {
            true => rustix::fs::openat(&*folder, &name, flags, Mode::empty()).ok().map(Arc::new),
            false => None,
        };
        let Some(there) = there else {
            put_one(&from, &folder, &name)?;
            continue;
        };
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            waiting.push((entry.path(), Arc::clone(&there), entry.file_name()));
        }
    }
    Ok(())
}

/// Puts what is at `from` where no folder is.
fn put_one(from: &Path, folder: &Arc<OwnedFd>, name: &OsStr) -> io::Result<()> {
    let apart = OsString::from(format!(".sconce-cp-{}-{:08x}", std::process::id(), unique()));
    let is_folder = fs::symlink_metadata(from)?.is_dir();
    let placed = copy(from, folder, &apart).and_then(|()| {
        let flags = if is_folder { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
        Ok(rustix::fs::renameat_with(folder, &apart, folder, name, flags)?)
    });
    if placed.is_err() && !is_folder {
        // A folder is left: by now it may be somebody else's under that name.
        let _ = rustix::fs::unlinkat(folder, &apart, AtFlags::empty());
    }
    placed
}

fn unique() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |time| time.subsec_nanos())
}

/// A step of a copy: something to make, or a folder that is complete.
enum Step {
    Make { from: PathBuf, folder: Arc<OwnedFd>, name: OsString },
    Finish { open: Arc<OwnedFd>, about: fs::Metadata },
}

fn copy(from: &Path, folder: &Arc<OwnedFd>, name: &OsStr) -> io::Result<()> {
    let first =
        Step::Make { from: from.to_owned(), folder: Arc::clone(folder), name: name.to_owned() };
    let mut steps = vec![first];
    while let Some(step) = steps.pop() {
        let (from, folder, name) = match step {
            Step::Finish { open, about } => {
                // Only now: whoever is not root can't write into a folder that is read-only.
                finish(&File::from(open.try_clone()?), &about)?;
                continue;
            }
            Step::Make { from, folder, name } => (from, folder, name),
        };
        let about = fs::symlink_metadata(&from)?;
        let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if about.is_symlink() {
            rustix::fs::symlinkat(fs::read_link(&from)?, &*folder, &name)?;
        } else if about.is_dir() {
            rustix::fs::mkdirat(&*folder, &name, Mode::RWXU)?;
            let flags = flags | OFlags::RDONLY | OFlags::DIRECTORY;
            let open = Arc::new(rustix::fs::openat(&*folder, &name, flags, Mode::empty())?);
            steps.push(Step::Finish { open: Arc::clone(&open), about });
            for entry in fs::read_dir(&from)? {
                let entry = entry?;
                let (from, folder) = (entry.path(), Arc::clone(&open));
                steps.push(Step::Make { from, folder, name: entry.file_name() });
            }
        } else {
            let flags = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let made = rustix::fs::openat(&*folder, &name, flags, Mode::RUSR | Mode::WUSR)?;
            let mut made = File::from(made);
            io::copy(&mut File::open(&from)?, &mut made)?;
            finish(&made, &about)?;
        }
    }
    Ok(())
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
        fs::create_dir_all(at("from/sub")).expect("made");
        fs::write(at("from/sub/f"), "text").expect("written");
        fs::set_permissions(at("from/sub/f"), fs::Permissions::from_mode(0o751)).expect("mode");
        fs::set_permissions(at("from/sub"), fs::Permissions::from_mode(0o555)).expect("mode");
        symlink("/nowhere", at("from/l")).expect("a link");
        fs::create_dir(at("to")).expect("made");
        put(&at("from"), &at("to"), OsStr::new("x")).expect("placed");
        assert_eq!(fs::read(at("to/x/sub/f")).expect("read"), b"text");
        let mode = |name: &str| fs::metadata(at(name)).expect("there").mode() & 0o777;
        assert_eq!((mode("to/x/sub/f"), mode("to/x/sub")), (0o751, 0o555));
        assert_eq!(fs::read_link(at("to/x/l")).expect("a link"), Path::new("/nowhere"));
        let time = |name: &str| fs::metadata(at(name)).expect("there").modified().expect("time");
        assert_eq!(time("to/x/sub/f"), time("from/sub/f"));
        // A folder that is there gets what is new, a link in its place is not followed.
        fs::write(at("from/new"), "new").expect("written");
        put(&at("from"), &at("to"), OsStr::new("x")).expect("placed");
        assert_eq!(fs::read(at("to/x/new")).expect("read"), b"new");
        fs::create_dir(at("theirs")).expect("made");
        symlink("../theirs", at("to/z")).expect("a link");
        assert!(put(&at("from"), &at("to"), OsStr::new("z")).is_err());
        assert_eq!(fs::read_dir(at("theirs")).expect("read").count(), 0);
        fs::write(at("outside"), "theirs").expect("written");
        symlink("../outside", at("to/y")).expect("a link");
        put(&at("from/sub/f"), &at("to"), OsStr::new("y")).expect("placed");
        assert_eq!(fs::read(at("outside")).expect("read"), b"theirs");
        assert_eq!(fs::read(at("to/y")).expect("read"), b"text");
        fs::set_permissions(at("from/sub"), fs::Permissions::from_mode(0o755)).expect("mode");
        fs::set_permissions(at("to/x/sub"), fs::Permissions::from_mode(0o755)).expect("mode");
    }
}
