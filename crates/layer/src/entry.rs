//! What stands in a layer, before it is a tar: paths, kinds and their metadata.
//!
//! This is the type that other crates hand in (a Debian root, bytecode, an application) and that
//! [`Unpack`](crate::Unpack) receives. The rules for paths are in [`check_path`].

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Owner, permissions and time of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Meta {
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time, whole seconds since 1970.
    pub mtime: u64,
}

impl Meta {
    /// A directory of root, 0755, time 0: what every directory of a wheel layer has.
    pub const DIRECTORY: Self = Self::root(0o755);
    /// A file of root, 0644, time 0.
    pub const FILE: Self = Self::root(0o644);
    /// A program of root, 0755, time 0.
    pub const PROGRAM: Self = Self::root(0o755);
    /// A symbolic link of root, 0777, time 0.
    pub const SYMLINK: Self = Self::root(0o777);

    /// Owned by root, time 0.
    pub const fn root(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0, mtime: 0 }
    }
}

/// One path of a layer.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Relative to the root of the file system, without `/` or `./` before it or `/` after it:
    /// `usr/bin/env`. See [`check_path`].
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Whose it is and who may use it.
    pub meta: Meta,
}

/// What an [`Entry`] is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File(Content),
    /// A symbolic link; the target is any text without NUL, as it will stand in the link.
    Symlink {
        /// Where it points.
        target: String,
    },
    /// Another name of a regular file of the same layer.
    Hardlink {
        /// The path of that file, written as [`Entry::path`] is.
        target: String,
    },
}

/// The bytes of a regular file.
#[derive(Clone)]
pub enum Content {
    /// In memory: for small and generated files.
    Bytes(Arc<[u8]>),
    /// A piece of something larger, such as an unpacked `data.tar` in a temporary file.
    Range {
        /// What is read.
        source: Arc<dyn ReadAt>,
        /// Where the file starts in it, bytes.
        offset: u64,
        /// The file's length, bytes.
        len: u64,
    },
    /// A file on disk, opened when its turn comes. It must still have this length then.
    Path {
        /// Where it is.
        path: PathBuf,
        /// Its length, bytes.
        len: u64,
    },
}

impl Content {
    /// Content in memory.
    pub fn bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self::Bytes(bytes.into())
    }

    /// Its length, bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Range { len, .. } | Self::Path { len, .. } => *len,
        }
    }

    /// Whether the file is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Range { offset, len, .. } => write!(f, "Range({offset}+{len})"),
            Self::Path { path, len } => write!(f, "Path({}, {len})", path.display()),
        }
    }
}

/// Bytes that can be read anywhere, by several threads at once.
pub trait ReadAt: Send + Sync {
    /// Reads some bytes at `offset`; 0 only at the end. As `pread(2)`.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// How many bytes there are.
    fn size(&self) -> io::Result<u64>;

    /// Fills `buf` from `offset`, or fails with [`io::ErrorKind::UnexpectedEof`].
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl ReadAt for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let piece = &self[start..];
        let n = piece.len().min(buf.len());
        buf[..n].copy_from_slice(&piece[..n]);
        Ok(n)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// Why a text can't be a path in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PathFault {
    #[error("the path is empty")]
    Empty,
    #[error("the path is absolute")]
    Absolute,
    #[error("the path has a `..` or `.` or empty part")]
    Traversal,
    #[error("the path holds a NUL or a line break")]
    Control,
    #[error("a part begins with `.wh.`: in an image's layer that deletes what lies below it")]
    Whiteout,
    #[error("the path is longer than {MAX_PATH} bytes, or a part of it than {MAX_PART}")]
    TooLong,
}

/// The longest path in a layer, bytes: PATH_MAX less room for the folder it is unpacked into.
pub const MAX_PATH: usize = 3072;
/// The longest part of a path, bytes (NAME_MAX).
pub const MAX_PART: usize = 255;

/// A path in a layer is relative, of plain parts joined by one `/`: no `.`, `..`, empty part,
/// NUL or line break, and within the limits of the kernel. Nor does a part begin as a whiteout
/// (OCI image specification, layer.md): a file of that name would delete another, or not, as the
/// layer is unpacked here or there. Backslashes are plain characters here, as they are for the
/// kernel.
pub fn check_path(path: &str) -> Result<(), PathFault> {
    if path.is_empty() {
        return Err(PathFault::Empty);
    }
    if path.starts_with('/') {
        return Err(PathFault::Absolute);
    }
    if path.bytes().any(|byte| matches!(byte, 0 | b'\n' | b'\r')) {
        return Err(PathFault::Control);
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(PathFault::Traversal);
    }
    if path.split('/').any(|part| part.starts_with(".wh.")) {
        return Err(PathFault::Whiteout);
    }
    if path.len() > MAX_PATH || path.split('/').any(|part| part.len() > MAX_PART) {
        return Err(PathFault::TooLong);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_leave_the_target_are_refused() {
        let long = "a".repeat(256);
        for (path, fault) in [
            ("", PathFault::Empty),
            ("/etc/passwd", PathFault::Absolute),
            ("../x", PathFault::Traversal),
            ("a/../b", PathFault::Traversal),
            ("./a", PathFault::Traversal),
            ("a//b", PathFault::Traversal),
            ("a/", PathFault::Traversal),
            ("a\0b", PathFault::Control),
            ("a\nb", PathFault::Control),
            (&long, PathFault::TooLong),
            ("a/.wh.b", PathFault::Whiteout),
            (".wh..wh..opq", PathFault::Whiteout),
            (".wh./b", PathFault::Whiteout),
        ] {
            assert_eq!(check_path(path), Err(fault), "{path:?}");
        }
        for path in ["a", "usr/bin/[", "...", "a/..b", "a\\b", "ä/ö", ".whl", "a.wh.b"] {
            assert_eq!(check_path(path), Ok(()), "{path:?}");
        }
    }

    #[test]
    fn reading_past_the_end_is_an_error() {
        let source = vec![1u8, 2, 3];
        let mut buf = [0; 2];
        source.read_exact_at(&mut buf, 1).unwrap();
        assert_eq!(buf, [2, 3]);
        let error = source.read_exact_at(&mut buf, 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(source.read_exact_at(&mut buf, u64::MAX).is_err());
    }
}
