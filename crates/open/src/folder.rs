//! A folder, and what is opened beneath it by the kernel's own walk.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::refusal::{self, Refusal};
use crate::{bounded, regular, unfollowed};

/// How often a walk is tried again that the kernel gave up because something was renamed meanwhile
/// (openat2(2), EAGAIN).
const TRIES: usize = 16;

/// An open folder. Whatever is named beneath it is found by openat2(2), so that no link leads out
/// of it, also when somebody swaps folders for links meanwhile.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    /// As it was named, for messages.
    name: PathBuf,
    pub(crate) resolve: ResolveFlags,
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What is at a path beneath a folder; the last part is not followed.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A folder.
    Folder,
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// Bytes.
        len: u64,
    },
    /// A symbolic link, and what stands in it.
    Link(OsString),
}

impl Folder {
    /// A folder of a person's, by its path. A link beneath it that leads out of it is an error.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::with(path, ResolveFlags::BENEATH)
    }

    /// The root of an image on disk. Links beneath it mean what they mean to a process whose root
    /// it is: absolute ones begin there, and `..` ends there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn root(path: &Path) -> io::Result<Self> {
        Self::with(path, ResolveFlags::IN_ROOT)
    }

    /// As [`Folder::open`], of a path that was resolved before: a link that has come into it since is
    /// refused.
    ///
    /// # Errors
    /// The kernel's, and [`Refusal::Replaced`].
    pub fn open_unfollowed(path: &Path) -> io::Result<Self> {
        let fd = unfollowed(path, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(Self::of(fd, path, ResolveFlags::BENEATH))
    }

    fn with(path: &Path, resolve: ResolveFlags) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        Ok(Self::of(fd, path, resolve))
    }

    fn of(fd: OwnedFd, path: &Path, resolve: ResolveFlags) -> Self {
        Self { fd, name: path.to_owned(), resolve: resolve | ResolveFlags::NO_MAGICLINKS }
    }

    /// Opens a regular file beneath it.
    ///
    /// # Errors
    /// The kernel's, and each [`Refusal`] but those of reading.
    pub fn file(&self, path: &Path) -> io::Result<File> {
        regular(self.handle(path, OFlags::PATH)?)
    }

    /// The bytes of a regular file beneath it.
    ///
    /// # Errors
    /// Those of [`Folder::file`], and [`Refusal::TooLarge`] for one of more than `limit` bytes.
    pub fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        bounded(self.file(path)?, limit)
    }

    /// What is at a path beneath it.
    ///
    /// # Errors
    /// The kernel's, [`Refusal::Kind`] for what no image holds, and those of leading out.
    pub fn look(&self, path: &Path) -> io::Result<Found> {
        let handle = self.handle(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let about = rustix::fs::fstat(&handle)?;
        match FileType::from_raw_mode(about.st_mode) {
            FileType::Directory => Ok(Found::Folder),
            FileType::RegularFile => {
                Ok(Found::File { mode: about.st_mode & 0o7777, len: about.st_size as u64 })
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&handle, "", Vec::new())?;
                Ok(Found::Link(OsString::from_vec(target.into_bytes())))
            }
            other => Err(Refusal::Kind(refusal::name(other)).into()),
        }
    }

    /// The names in a folder beneath it, sorted, without `.` and `..`.
    ///
    /// # Errors
    /// The kernel's, and those of leading out.
    pub fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let fd = self.handle(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(fd)? {
            let name = entry?.file_name().to_owned().into_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        names.sort();
        Ok(names)
    }

    /// Opens a path beneath it with these flags.
    pub(crate) fn handle(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = flags | OFlags::CLOEXEC;
        for _ in 0..TRIES {
            match rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), self.resolve) {
                Err(Errno::AGAIN) => {}
                Err(Errno::XDEV) => return Err(self.way_out(path).into()),
                Err(Errno::NOSYS) => return Err(Refusal::OldKernel.into()),
                other => return Ok(other?),
            }
        }
        Err(Refusal::Changing.into())
    }

    /// Names the link through which `path` leaves the folder. It is for the message alone, after
    /// the kernel has refused.
    fn way_out(&self, path: &Path) -> Refusal {
        let folder = self.name.clone();
        let mut walked = PathBuf::new();
        for part in path.components() {
            let Component::Normal(name) = part else { break };
            walked.push(name);
            let flags = OFlags::PATH | OFlags::NOFOLLOW;
            let walk = |path: &Path, flags| {
                rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), self.resolve)
            };
            let leaves = matches!(walk(&walked, OFlags::PATH), Err(Errno::XDEV));
            if !leaves {
                continue;
            }
            let Ok(handle) = walk(&walked, flags) else { break };
            let Ok(target) = rustix::fs::readlinkat(&handle, "", Vec::new()) else { break };
            let target = OsString::from_vec(target.into_bytes()).into();
            return Refusal::LeadsOut { folder, link: walked, target };
        }
        Refusal::Outside { folder }
    }
}
