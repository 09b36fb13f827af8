//! Folders on disk as part of a tree.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{Bytes, LET_READ, MAX_DEPTH, Node, PART, Root, Tree};
use crate::Error;

/// Folders of one LD_LIBRARY_PATH.
const MAX_FOLDERS: usize = 256;

impl Tree {
    /// One folder on disk.
    ///
    /// # Errors
    /// [`Error::Open`] when a folder in it can't be listed.
    pub fn folder(path: &Path) -> Result<Self, Error> {
        let mut tree = Self::new();
        tree.add_folder(path, "")?;
        Ok(tree)
    }

    /// An LD_LIBRARY_PATH, in which folders that are this tree's own are called as they are in it: what lies there is no
    /// other copy.
    pub fn own_folders(&self, library_path: &str) -> String {
        let own = |folder: &str| {
            let path = Path::new(folder);
            if !path.is_absolute() || self.is_directory(folder) {
                return None;
            }
            let path = path.canonicalize().ok()?;
            self.roots.iter().find_map(|root| {
                let rest = path.strip_prefix(root.path.canonicalize().ok()?).ok()?.to_str()?;
                (!rest.is_empty()).then(|| format!("/{}{rest}", root.below))
            })
        };
        let folders = library_path.split([':', ';']).take(MAX_FOLDERS);
        let folders = folders.map(|folder| own(folder).unwrap_or_else(|| folder.to_owned()));
        folders.collect::<Vec<_>>().join(":")
    }

    /// Layers extracted on disk, the top one first, merged as overlayfs would: OCI whiteouts
    /// (`.wh.` names) and overlay ones (a character device) hide what is below them.
    ///
    /// # Errors
    /// [`Error::Open`] when a folder in one of them can't be listed.
    pub fn layers(top_first: &[PathBuf]) -> Result<Self, Error> {
        let mut tree = Self::new();
        for layer in top_first.iter().rev() {
            tree.add_folder(layer, "")?;
        }
        Ok(tree)
    }

    /// Puts a folder on disk over what is already there, at `below` in the tree.
    ///
    /// # Errors
    /// [`Error::Open`] when a folder in it can't be listed.
    pub fn add_folder(&mut self, path: &Path, below: &str) -> Result<(), Error> {
        self.begin_layer();
        let root = self.roots.len() as u32;
        let prefix = if below.is_empty() { String::new() } else { format!("{below}/") };
        self.roots.push(Root { path: path.to_owned(), below: prefix });
        // The folder itself must be there; what lies in it may vanish or be closed to us.
        let list = |source| Error::Open { path: path.to_owned(), source };
        let first = fs::read_dir(path).map_err(list)?;
        let mut pending = vec![(Some(first), path.to_owned(), below.to_owned(), 0)];
        while let Some((listing, folder, name, depth)) = pending.pop() {
            let listing = match listing.map_or_else(|| fs::read_dir(&folder), Ok) {
                Ok(listing) => listing,
                Err(error) => {
                    self.trouble(&name, &error.to_string(), LET_READ);
                    continue;
                }
            };
            for entry in listing {
                let added = entry.and_then(|entry| self.add_entry(&entry, root, &name));
                match added {
                    Ok(Some((folder, child))) if depth < MAX_DEPTH => {
                        pending.push((None, folder, child, depth + 1));
                    }
                    Ok(Some((_, child))) => {
                        let why = format!("more than {MAX_DEPTH} folders below each other");
                        self.trouble(&child, &why, PART);
                    }
                    Ok(None) => {}
                    Err(error) => self.trouble(&name, &error.to_string(), LET_READ),
                }
                // Nothing more would be taken.
                if self.room.over {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Adds what one entry of a folder on disk is, in the directory `name`; a folder is given back.
    fn add_entry(
        &mut self,
        entry: &fs::DirEntry,
        root: u32,
        name: &str,
    ) -> io::Result<Option<(PathBuf, String)>> {
        // A name that is no UTF-8 is no library, and Python packages have none.
        let Ok(part) = entry.file_name().into_string() else { return Ok(None) };
        let child = if name.is_empty() { part.clone() } else { format!("{name}/{part}") };
        let kind = entry.file_type()?;
        if let Some(victim) = part.strip_prefix(".wh.") {
            self.whiteout(name, victim);
        } else if kind.is_dir() {
            self.insert(&child, Node::Directory);
            if is_opaque(&entry.path()) {
                self.remove_below(&format!("{child}/"));
            }
            return Ok(Some((entry.path(), child)));
        } else if kind.is_symlink() {
            let target = fs::read_link(entry.path())?;
            let target = target.to_string_lossy().into_owned().into_boxed_str();
            self.insert(&child, Node::Link(target));
        } else if kind.is_file() {
            let metadata = entry.metadata()?;
            let size = metadata.len();
            self.insert(&child, Node::File { size, bytes: Bytes::Disk(root) });
            self.mode(&child, metadata.mode());
        } else if kind.is_char_device() {
            self.remove(&child);
        }
        Ok(None)
    }
}

/// Whether overlayfs shows nothing of lower layers in this directory (Linux, `overlayfs.rst`,
/// "whiteouts and opaque directories"). A file system without such attributes has none.
fn is_opaque(directory: &Path) -> bool {
    ["user.overlay.opaque", "trusted.overlay.opaque"].iter().any(|name| {
        let mut value = [0; 4];
        let n = rustix::fs::lgetxattr(directory, *name, &mut value);
        n.is_ok_and(|n| value[..n] == *b"y")
    })
}
