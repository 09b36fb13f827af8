//! Walking a tree of folders, however deep and hostile, with two descriptors and no recursion.
//!
//! Paths are never used: each step is openat(2) of one name with `O_NOFOLLOW`, and the way back is
//! `..`, held against the device and inode that were met on the way down, as fts(3) does. Mounts
//! are not entered.

use std::ffi::{CStr, CString, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, SeekFrom, StatxFlags, chmodat, fchmod, openat,
    seek, statx,
};
use rustix::io::Errno;

/// Bytes of directory entries read at a time (getdents64(2)).
const ENTRIES: usize = 32 << 10;

/// The longest path the kernel takes (`PATH_MAX` in linux/limits.h).
pub(crate) const PATH_MAX: usize = 4096;

/// Whether folders on the way are made readable and writable for their owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entering {
    /// As they are.
    AsIs,
    /// With mode 0700 where the caller owns them and they have less.
    OpenUp,
}

/// An open folder and the way back to where the walk began.
#[derive(Debug)]
pub(crate) struct Cursor {
    folder: OwnedFd,
    id: Id,
    /// The folders on the way here: what each is called in its parent, and the parent's id.
    way: Vec<(CString, Id)>,
    entering: Entering,
}

/// What tells one folder from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Id {
    dev: (u32, u32),
    ino: u64,
    /// The mount it was reached through (statx(2), Linux 5.8): a bind mount has the device of what
    /// it shows.
    mount: u64,
}

impl Cursor {
    /// Opens the folder `name` of `parent`, where the walk begins.
    pub(crate) fn open(parent: impl AsFd, name: &CStr, entering: Entering) -> Result<Self, Errno> {
        let (folder, id) = open(parent.as_fd(), name, entering)?;
        Ok(Self { folder, id, way: Vec::new(), entering })
    }

    /// The folder at hand.
    pub(crate) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Enters a folder of the one at hand; `EXDEV` when something is mounted there.
    pub(crate) fn down(&mut self, name: &CStr) -> Result<(), Errno> {
        let (folder, id) = open(self.folder.as_fd(), name, self.entering)?;
        if (id.dev, id.mount) != (self.id.dev, self.id.mount) {
            return Err(Errno::XDEV);
        }
        self.folder = folder;
        self.way.push((name.to_owned(), std::mem::replace(&mut self.id, id)));
        Ok(())
    }

    /// Goes back up and gives the name of the folder it left; `None` where the walk began.
    /// `ESTALE` when somebody moved the folder meanwhile.
    pub(crate) fn up(&mut self) -> Result<Option<CString>, Errno> {
        let Some((name, parent)) = self.way.pop() else { return Ok(None) };
        let (folder, id) = open(self.folder.as_fd(), c"..", Entering::AsIs)?;
        if id != parent {
            return Err(Errno::STALE);
        }
        (self.folder, self.id) = (folder, id);
        Ok(Some(name))
    }

    /// Calls `visit` with the name and kind of each entry of the folder at hand. The kind is
    /// `Unknown` where the file system doesn't say. Entries may be removed on the way.
    pub(crate) fn entries(&self, mut visit: impl FnMut(&CStr, FileType)) -> Result<(), Errno> {
        let mut buffer = vec![MaybeUninit::uninit(); ENTRIES];
        seek(&self.folder, SeekFrom::Start(0))?;
        let mut entries = RawDir::new(&self.folder, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                visit(name, entry.file_type());
            }
        }
        Ok(())
    }

    /// Where `name` in the folder at hand lies, seen from where the walk began. Cut off at a folder
    /// where no system call could take the whole.
    pub(crate) fn path_of(&self, name: &CStr) -> PathBuf {
        let mut path = PathBuf::new();
        for part in self.way.iter().map(|(name, _)| name.as_c_str()).chain([name]) {
            if path.as_os_str().len() + part.count_bytes() >= PATH_MAX {
                break;
            }
            path.push(OsStr::from_bytes(part.to_bytes()));
        }
        path
    }
}

fn open(parent: BorrowedFd<'_>, name: &CStr, entering: Entering) -> Result<(OwnedFd, Id), Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let read = || openat(parent, name, flags | OFlags::RDONLY, Mode::empty());
    let folder = match read() {
        Err(Errno::ACCESS) if entering == Entering::OpenUp => {
            // Without reading rights only a path descriptor can be had, and fchmod(2) takes none:
            // /proc leads to what it stands for (open(2), `O_PATH`).
            let handle = openat(parent, name, flags | OFlags::PATH, Mode::empty())?;
            let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
            chmodat(CWD, link, Mode::RWXU, AtFlags::empty()).map_err(|_| Errno::ACCESS)?;
            read()?
        }
        result => result?,
    };
    let wanted = StatxFlags::MODE | StatxFlags::UID | StatxFlags::INO | StatxFlags::MNT_ID;
    let meta = statx(&folder, "", AtFlags::EMPTY_PATH, wanted)?;
    let owner = rustix::process::geteuid().as_raw();
    if entering == Entering::OpenUp && meta.stx_uid == owner && meta.stx_mode & 0o700 != 0o700 {
        fchmod(&folder, Mode::RWXU)?;
    }
    let id = Id {
        dev: (meta.stx_dev_major, meta.stx_dev_minor),
        ino: meta.stx_ino,
        mount: meta.stx_mnt_id,
    };
    Ok((folder, id))
}
