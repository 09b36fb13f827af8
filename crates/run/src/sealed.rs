//! A copy of this program that no container can change.
//!
//! A process of a container can reach the program that started it: a script whose interpreter is
//! `/proc/self/exe`, or `/proc/1/exe`, leads to the host's file, and root inside may then write to
//! it (CVE-2019-5736). So everything near a container runs from a copy: the same file seen through
//! an overlay of lower layers only, which the kernel never lets anyone write to or chmod and whose
//! pages are shared with the file; where overlays cannot be mounted, a sealed memfd
//! (memfd_create(2)), which costs the program's size in memory. runc does the same in that order.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// Folders that every machine has. An overlay needs a second lower layer, any folder that is neither
/// below nor above the program's own: the kernel refuses layers that overlap.
const SPARE: [&str; 3] = ["/dev/shm", "/usr/lib", "/var"];

/// A descriptor to execute.
pub(crate) fn program() -> io::Result<OwnedFd> {
    let copy = SPARE.iter().map(|spare| through_overlay(Path::new(spare))).find_map(Result::ok);
    copy.map_or_else(in_memory, Ok)
}

fn through_overlay(spare: &Path) -> io::Result<OwnedFd> {
    let path = std::fs::read_link("/proc/self/exe")?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    if spare.starts_with(folder) || folder.starts_with(spare) {
        return Err(Errno::LOOP.into());
    }
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // `:` separates layers and `\` escapes (Documentation/filesystems/overlayfs.rst).
    let mut lower = Vec::new();
    for (folder, end) in [(folder, Some(b':')), (spare, None)] {
        for byte in folder.as_os_str().as_bytes() {
            if matches!(byte, b':' | b'\\') {
                lower.push(b'\\');
            }
            lower.push(*byte);
        }
        lower.extend(end);
    }
    rustix::mount::fsconfig_set_string(context.as_fd(), "lowerdir", lower.as_slice())?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let tree = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = rustix::fs::openat(&tree, name, flags, Mode::empty())?;
    // The path may lead to another file by now: an upgrade replaced it. Inode numbers don't tell, an
    // overlay may have its own (overlayfs.rst, "Inode properties").
    let (mine, found) = (rustix::fs::stat("/proc/self/exe")?, rustix::fs::fstat(&copy)?);
    if (mine.st_size, mine.st_mtime, mine.st_mtime_nsec, mine.st_ctime, mine.st_ctime_nsec)
        != (found.st_size, found.st_mtime, found.st_mtime_nsec, found.st_ctime, found.st_ctime_nsec)
    {
        return Err(Errno::STALE.into());
    }
    Ok(copy)
}

fn in_memory() -> io::Result<OwnedFd> {
    const MFD_EXEC: u32 = 0x10; // linux/memfd.h, Linux 6.3; older kernels refuse the flag
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let executable = flags | MemfdFlags::from_bits_retain(MFD_EXEC);
    let copy = match rustix::fs::memfd_create("sconce", executable) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("sconce", flags)?,
        other => other?,
    };
    // By reads and writes: pages that splice or sendfile still hold cannot be sealed.
    let mut program = std::fs::File::open("/proc/self/exe")?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match program.read(&mut buffer)? {
            0 => break,
            count => crate::streams::write_all(&copy, buffer.get(..count).unwrap_or_default())?,
        }
    }
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    for _ in 0..50 {
        match rustix::fs::fcntl_add_seals(&copy, seals) {
            // Another process's look at memory pins pages for a moment.
            Err(Errno::BUSY) => std::thread::sleep(std::time::Duration::from_millis(10)),
            other => return Ok(other.map(|()| copy)?),
        }
    }
    Err(Errno::BUSY.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_copy_shares_the_programs_memory() {
        let copy = program().expect("a copy");
        let kind = rustix::fs::fstatfs(&copy).expect("its file system").f_type;
        assert_eq!(kind, 0x794c_7630, "no overlay"); // linux/magic.h
    }

    /// Where the program lies in a folder that would be the second layer, another is taken.
    #[test]
    fn layers_that_overlap_are_refused() {
        let me = std::env::current_exe().expect("this program");
        let folder = me.parent().expect("a folder");
        for spare in [folder, folder.parent().expect("a folder")] {
            assert!(through_overlay(spare).is_err(), "{}", spare.display());
        }
    }

    #[test]
    fn a_copy_cannot_be_changed() {
        let me = std::fs::read("/proc/self/exe").expect("this program");
        let mode = std::fs::metadata("/proc/self/exe").expect("metadata").permissions().mode();
        for copy in [program().expect("a copy"), in_memory().expect("in memory")] {
            let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
            let mut same = Vec::new();
            File::open(&path).expect("opens").read_to_end(&mut same).expect("reads");
            assert!(same == me);
            // A memfd can be opened for writing; every write is refused.
            if let Ok(file) = File::options().write(true).open(&path) {
                assert!(std::os::unix::fs::FileExt::write_at(&file, b"x", 0).is_err());
                assert!(file.set_len(0).is_err());
            }
            // A chmod of a memfd's own inode reaches no file.
            let _ = std::fs::set_permissions(&path, PermissionsExt::from_mode(0o4777));
        }
        let after = std::fs::metadata("/proc/self/exe").expect("metadata").permissions().mode();
        assert_eq!((std::fs::read("/proc/self/exe").expect("me") == me, after), (true, mode));
    }
}
