//! `tmpcopyup`: a file system in memory that begins with what is below it. An option of runc's that podman gives for
//! `--tmpfs` and `--read-only`; the kernel has none of it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, fchown, lchown, symlink};
use std::path::{Path, PathBuf};

use libcontainer::oci_spec::runtime::Mount;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{OpenTreeFlags, open_tree};

const OPTION: &str = "tmpcopyup";
/// Folders in folders are followed so far: a file system in memory has no more that anybody needs.
const DEEPEST: usize = 64;

/// Takes the option out of mounts, for libcontainer; the places that had it.
pub(super) fn take(mounts: &mut [Mount]) -> Vec<PathBuf> {
    let mut places = Vec::new();
    for mount in mounts {
        let mut options = mount.options().clone().unwrap_or_default();
        let before = options.len();
        options.retain(|option| option != OPTION);
        if options.len() < before {
            places.push(mount.destination().clone());
            mount.set_options(Some(options));
        }
    }
    places
}

/// Fills the mounts at these places. In the container's root, before its process has given up anything.
pub(super) fn fill(places: &[PathBuf]) -> io::Result<()> {
    if places.is_empty() {
        return Ok(());
    }
    // The root without what is mounted on it.
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let root = open_tree(CWD, "/", flags)?;
    for place in places {
        let place = fs::canonicalize(place)?;
        let Ok(below) = place.strip_prefix("/") else { continue };
        match folder(&root, below) {
            Ok(from) => copy(&from, &place, DEEPEST)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn folder(from: &OwnedFd, name: impl AsRef<Path>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    Ok(rustix::fs::openat2(from, name.as_ref(), flags, Mode::empty(), resolve)?)
}

/// Copies what is in a folder. What stands at a place already is another mount's and stays; devices and pipes are left out.
fn copy(from: &OwnedFd, to: &Path, left: usize) -> io::Result<()> {
    let Some(left) = left.checked_sub(1) else { return Ok(()) };
    for entry in rustix::fs::Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let target = to.join(name_of(name));
        let about = rustix::fs::statat(from, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
        let (user, group) = (Some(about.st_uid), Some(about.st_gid));
        let mode = fs::Permissions::from_mode(about.st_mode & 0o7777);
        let made = match rustix::fs::FileType::from_raw_mode(about.st_mode) {
            rustix::fs::FileType::Directory => match fs::create_dir(&target) {
                Ok(()) => {
                    copy(&folder(from, name_of(name))?, &target, left)?;
                    lchown(&target, user, group).and_then(|()| fs::set_permissions(&target, mode))
                }
                other => other,
            },
            rustix::fs::FileType::Symlink => {
                let leads = rustix::fs::readlinkat(from, name, Vec::new())?;
                symlink(name_of(&leads), &target).and_then(|()| lchown(&target, user, group))
            }
            rustix::fs::FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let open = rustix::fs::openat(from, name, flags, Mode::empty())?;
                match fs::OpenOptions::new().write(true).create_new(true).open(&target) {
                    Ok(mut made) => io::copy(&mut fs::File::from(open), &mut made)
                        .and_then(|_| fchown(made.as_fd(), user, group))
                        .and_then(|()| made.set_permissions(mode)),
                    Err(error) => Err(error),
                }
            }
            _ => Ok(()),
        };
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    Ok(())
}

fn name_of(name: &std::ffi::CStr) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()))
}
