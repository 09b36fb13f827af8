//! Folders that nobody but the caller can put anything into: the only ones whose programs are run.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, chmodat, fstat, mkdirat};
use rustix::io::Errno;

use crate::walk::{self, Walk};

/// Sees to it that there is a folder at an absolute path which the caller alone may enter (mode 0700), and that nobody but
/// root and the caller can exchange any folder or link on the way to it. What is missing is made. Whoever could exchange
/// it would have the caller run programs of theirs.
///
/// # Errors
/// The kernel's; a folder or link on the way that is another's or that others can write to, named.
pub fn closed_folder(path: &Path) -> io::Result<()> {
    let mut folder = walk::top()?;
    // Where root has no number, as in a user namespace, its folders have that of the topmost.
    let top = fstat(&folder)?.st_uid;
    let mut named = PathBuf::from("/");
    // Behind a folder that only root or the caller enters, modes make no difference.
    let mut closed = false;
    let mut walk = Walk::along(path);
    while let Some(part) = walk.next() {
        if part == ".." {
            // Links have led here: what is above was judged when it was passed, or is now.
            named.pop();
            walk.first_along(&named);
            (folder, named, closed) = (walk::top()?, PathBuf::from("/"), false);
            continue;
        }
        let next = open_or_make(&folder, &part)?;
        let about = fstat(&next)?;
        let shown = named.join(&part);
        if ![0, top, rustix::process::geteuid().as_raw()].contains(&about.st_uid) {
            let why = format!("`{}` belongs to uid {}", shown.display(), about.st_uid);
            return Err(io::Error::other(why));
        }
        if walk::is_link(&about) {
            if walk.follow(&next)? {
                (folder, named, closed) = (walk::top()?, PathBuf::from("/"), false);
            }
            continue;
        }
        // In a folder with the sticky bit others make things, and exchange none of another's (inode(7)).
        if !closed && about.st_mode & 0o022 != 0 && about.st_mode & 0o1000 == 0 {
            let mode = about.st_mode & 0o7777;
            let why = format!("others can write to `{}` (mode {mode:04o})", shown.display());
            return Err(io::Error::other(why));
        }
        closed |= about.st_mode & 0o077 == 0;
        (folder, named) = (next, shown);
    }
    if fstat(&folder)?.st_mode & 0o077 == 0 {
        return Ok(());
    }
    Ok(chmodat(CWD, crate::held(&folder), Mode::RWXU, rustix::fs::AtFlags::empty())?)
}

fn open_or_make(folder: &OwnedFd, name: &OsString) -> io::Result<OwnedFd> {
    match walk::look_at(folder, name) {
        Err(Errno::NOENT) => {}
        opened => return Ok(opened?),
    }
    match mkdirat(folder, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(walk::look_at(folder, name)?),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_folder_is_closed_only_where_nobody_else_can_exchange_it() {
        let world = tempfile::tempdir().expect("a folder");
        let at = |name: &str| world.path().join(name);
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
        };
        mode(world.path(), 0o755);
        closed_folder(&at("a/b")).expect("made");
        assert_eq!(fs::metadata(at("a/b")).expect("there").mode() & 0o777, 0o700);
        // One that was open is closed.
        mode(&at("a"), 0o755);
        mode(&at("a/b"), 0o755);
        closed_folder(&at("a/b")).expect("closed");
        assert_eq!(fs::metadata(at("a/b")).expect("there").mode() & 0o777, 0o700);
        // One's own links lead on, up as well.
        symlink("../a", at("a/up")).expect("a link");
        symlink(at("a"), at("link")).expect("a link");
        closed_folder(&at("link/up/b")).expect("one's own links");
        symlink("loop", at("loop")).expect("a link");
        assert!(closed_folder(&at("loop/b")).is_err());
        for (open, good) in [(0o775, false), (0o777, false), (0o2770, false), (0o1777, true)] {
            mode(&at("a"), open);
            let said = closed_folder(&at("link/b"));
            assert_eq!(said.is_ok(), good, "{open:o}: {said:?}");
        }
        // Behind a closed one it makes no difference.
        mode(&at("a"), 0o775);
        mode(world.path(), 0o700);
        closed_folder(&at("a/b")).expect("nobody gets there");
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(at("a"), Some(65534), None).expect("given away");
            let said = closed_folder(&at("a/b")).expect_err("another's").to_string();
            assert!(said.contains("belongs to uid 65534"), "{said}");
            std::os::unix::fs::lchown(at("link"), Some(65534), None).expect("given away");
            let said = closed_folder(&at("link/b")).expect_err("another's").to_string();
            assert!(said.contains("link` belongs to uid 65534"), "{said}");
        }
    }
}
