//! Files of an image whose layers are folders on disk, found as overlayfs would show them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, OFlags, ResolveFlags};

use crate::folder::{Folder, Found};
use crate::refusal::Refusal;

/// Links followed for one path (Linux' own limit, `MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// The layers of an image, extracted on disk, the top one first. Nothing is followed out of them.
#[derive(Debug)]
pub struct Layers {
    folders: Vec<Folder>,
}

impl Layers {
    /// Opens the layers.
    ///
    /// # Errors
    /// The kernel's, for one that is not there.
    pub fn open<P: AsRef<Path>>(top_first: impl IntoIterator<Item = P>) -> io::Result<Self> {
        let folders = top_first.into_iter().map(|path| Folder::root(path.as_ref()));
        let folders: io::Result<Vec<_>> = folders.collect();
        let mut folders = folders?;
        // The walk below follows links itself, over all layers.
        folders.iter_mut().for_each(|folder| folder.follow_nothing());
        Ok(Self { folders })
    }

    /// The bytes of a regular file of the image, links followed inside it; `None` where it has none.
    ///
    /// # Errors
    /// The kernel's, [`Refusal::Kind`] for what is not a regular file, and [`Refusal::TooLarge`] for
    /// one of more than `limit` bytes.
    pub fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let mut todo: Vec<OsString> = parts(path);
        let mut done = PathBuf::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == OsStr::new("..") {
                done.pop();
                continue;
            }
            let here = done.join(&part);
            let Some((folder, found)) = self.top(&here)? else { return Ok(None) };
            match found {
                Found::Folder => done = here,
                Found::Link(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(rustix::io::Errno::LOOP.into());
                    }
                    let target = Path::new(&target);
                    if target.is_absolute() {
                        done = PathBuf::new();
                    }
                    todo.extend(parts(target));
                }
                Found::File { .. } if todo.is_empty() => {
                    return folder.read(&here, limit).map(Some);
                }
                Found::File { .. } => return Ok(None),
            }
        }
        Err(Refusal::Kind(crate::refusal::name(FileType::Directory)).into())
    }

    /// What the image has at a path without links in it, and the layer that brings it.
    fn top(&self, path: &Path) -> io::Result<Option<(&Folder, Found)>> {
        for folder in &self.folders {
            match folder.look(path) {
                Ok(found) => return Ok(Some((folder, found))),
                // overlayfs' mark for what was deleted is a character device: nothing is there.
                Err(error) if Refusal::of(&error) == Some(&DELETED) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // The layer has something else in the place of a folder: it hides all below.
                Err(error) if is_hidden(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
            if folder.hides_below(path) {
                return Ok(None);
            }
        }
        Ok(None)
    }
}

const DELETED: Refusal = Refusal::Kind("a character device");

fn is_hidden(error: &io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    matches!(errno, Some(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP))
}

/// The parts of a path, the last one first, as a stack of what is to be walked.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    parts.rev().map(|part| part.as_os_str().to_owned()).collect()
}

impl Folder {
    fn follow_nothing(&mut self) {
        self.resolve |= ResolveFlags::NO_SYMLINKS;
    }

    /// Whether a folder above `path` shows nothing of lower layers (Linux, `overlayfs.rst`,
    /// "whiteouts and opaque directories").
    fn hides_below(&self, path: &Path) -> bool {
        let above = path.ancestors().skip(1).filter(|part| !part.as_os_str().is_empty());
        above.into_iter().any(|part| {
            let Ok(fd) = self.handle(part, OFlags::RDONLY | OFlags::DIRECTORY) else {
                return false;
            };
            ["user.overlay.opaque", "trusted.overlay.opaque"].iter().any(|name| {
                let mut value = [0u8; 4];
                let n = rustix::fs::fgetxattr(&fd, *name, &mut value).unwrap_or(0);
                value.get(..n) == Some(b"y")
            })
        })
    }
}
