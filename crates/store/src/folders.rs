//! What an overlay of an image is mounted from, also where the image's trees belong to another user or group.
//!
//! A container without root runs in a user namespace that has the caller's own user and group alone, and a range
//! of subordinate ids. The kernel lets nobody there change a folder whose owner or group the namespace doesn't have, not even by
//! copying it up (user_namespaces(7), overlayfs.rst). So for trees of another user, or of a group that is not the
//! caller's first, a tree of folders goes on top: all folders that the layers show together, of the caller and their first
//! group, and otherwise empty. Files below them stay the other user's: they can be read, removed and replaced, but not
//! changed in place.
//!
//! In a store whose group is not the caller's first, the other members can't empty such a tree. It lies in a folder of
//! the store's group, which they can move out of the way when they prune; what is in it goes with its owner's next prune.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, fgetxattr, fstat, statat};
use sconce_blob::Digest;

use crate::Store;
use crate::error::{Error, at};
use crate::images::Image;
use crate::layers::Layer;
use crate::meta::{MODE, Meta, Rules, owners_can_be_kept};
use crate::own::{self, make_folder};
use crate::remove::under;
use crate::walk::{Cursor, Entering};

/// What the tree of folders is called in a folder that others can move.
const WITHIN: &str = "folders";

/// The mark of a folder that hides what is below it (`Documentation/filesystems/overlayfs.rst`).
const OPAQUE: &str = "user.overlay.opaque";

impl Store {
    /// What to mount an image from, the top folder first: the trees of its layers, which must all
    /// have been extracted, below the tree of their folders where one is needed.
    pub fn mount_layers(&self, image: &Image) -> Result<Vec<PathBuf>, Error> {
        let tree =
            |layer: &Layer| self.tree(layer.diff_id)?.ok_or(Error::MissingLayer(layer.diff_id));
        let mut trees = image.layers.iter().rev().map(tree).collect::<Result<Vec<_>, _>>()?;
        // overlayfs looks for no mark at the root of a layer: what such a one hides is left out here.
        if let Some(top) = trees.iter().position(|tree| is_opaque(tree)) {
            trees.truncate(top + 1);
        }
        if are_anothers(&trees)? {
            let key = folders_key(image.manifest);
            self.pin(key)?;
            let _lock = self.lock("tree", key)?;
            let folders = self.place().tree(key);
            if self.place().find_tree(key).is_none() {
                let fresh = self.scratch_dir()?;
                self.make_folders(&trees, &fresh)?;
                self.mark_unsynced("tree", key)?;
                own::rename(&fresh, &folders).map_err(at("rename into place", &folders))?;
            }
            trees.insert(0, self.within(&folders)?);
        }
        Ok(trees)
    }

    /// The tree of all folders that `trees`, the top one first, show together, if any of them belongs
    /// to another user. It goes with this process.
    pub fn folders_over(&self, trees: &[PathBuf]) -> Result<Option<PathBuf>, Error> {
        let make = || {
            let fresh = self.scratch_dir()?;
            self.make_folders(trees, &fresh)
        };
        are_anothers(trees)?.then(make).transpose()
    }

    /// Where the tree of folders is that was made in `folder`.
    fn within(&self, folder: &Path) -> Result<PathBuf, Error> {
        let group = fs::metadata(self.root()).map_err(at("look at", self.root()))?.gid();
        let first = rustix::process::getegid().as_raw();
        Ok(match self.sharing().is_group() && group != first {
            true => folder.join(WITHIN),
            false => folder.to_owned(),
        })
    }

    /// Makes the tree of folders in `fresh`, which is empty, and says where.
    fn make_folders(&self, trees: &[PathBuf], fresh: &Path) -> Result<PathBuf, Error> {
        let mut folders = BTreeMap::new();
        for tree in trees.iter().rev() {
            merge(tree, &mut folders)?;
        }
        let rules = Rules::of(self.sharing());
        let root = self.within(fresh)?;
        let apart = root != fresh;
        if apart {
            // Before its mode is set it may have the bit that gives what is made in it the store's group.
            make_folder(&root, 0o700)?;
            own::give_to_first_group(&root).map_err(at("set the group of", &root))?;
            own::set_folder_mode(fresh, rules.mode(Meta::DIRECTORY, true))
                .map_err(at("set the mode of", fresh))?;
        }
        let making = if apart { 0o700 } else { self.sharing().making() & !0o055 };
        for path in folders.keys() {
            make_folder(&root.join(path), making)?;
        }
        // The top shows through the container's root, and whoever prunes moves it.
        folders.insert(PathBuf::new(), Meta::DIRECTORY.mode);
        // From the inside out: a mode may close a folder.
        for (path, mode) in folders.into_iter().rev() {
            // The caller's first group need not be one that writes the store.
            let closed = if apart { 0o020 } else { 0 };
            let mode = rules.mode(Meta { mode, ..Meta::DIRECTORY }, true) & !closed;
            let path = under(&root, &path);
            own::set_folder_mode(&path, mode).map_err(at("set the mode of", &path))?;
        }
        Ok(root)
    }
}

/// Whether any of these trees belongs to another user, or to another group than the caller's first, which makes no
/// difference to root.
fn are_anothers(trees: &[PathBuf]) -> Result<bool, Error> {
    let you = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    for tree in trees {
        let meta = fs::metadata(tree).map_err(at("look at", tree))?;
        if (meta.uid(), meta.gid()) != you {
            return Ok(!owners_can_be_kept());
        }
    }
    Ok(false)
}

/// Whether the layer of a tree hides all that is below it.
fn is_opaque(tree: &Path) -> bool {
    let mut mark = [0; 8];
    rustix::fs::lgetxattr(tree, OPAQUE, &mut mark).is_ok()
}

/// What the tree of an image's folders is called. Each user of a store has one, for each group that is their first.
pub(crate) fn folders_key(image: Digest) -> Digest {
    let (you, first) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Digest::of(format!("folders of {image} for {you}:{first}").as_bytes())
}

/// Adds the folders of a tree to those of the layers below it, with their modes, and takes away what
/// the tree hides of them.
fn merge(tree: &Path, folders: &mut BTreeMap<PathBuf, u32>) -> Result<(), Error> {
    let fault = || at("read", tree);
    let name = CString::new(tree.as_os_str().as_encoded_bytes())
        .map_err(|_| fault()(rustix::io::Errno::INVAL))?;
    let mut cursor = Cursor::open(CWD, &name, Entering::AsIs).map_err(fault())?;
    let mut levels = vec![folders_in(&cursor, folders).map_err(fault())?];
    while let Some(level) = levels.last_mut() {
        match level.pop() {
            None => {
                levels.pop();
                cursor.up().map_err(fault())?;
            }
            Some(name) => {
                let path = cursor.path_of(&name);
                cursor.down(&name).map_err(fault())?;
                let mut mark = [0; 8];
                if fgetxattr(cursor.folder(), OPAQUE, &mut mark).is_ok() {
                    hide(&path, folders);
                }
                folders.insert(path, mode(&cursor).map_err(fault())?);
                levels.push(folders_in(&cursor, folders).map_err(fault())?);
            }
        }
    }
    Ok(())
}

/// The names of the folders in the folder at hand. Everything else hides a folder of its name.
fn folders_in(
    cursor: &Cursor,
    folders: &mut BTreeMap<PathBuf, u32>,
) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    cursor.entries(|name, kind| {
        let is_folder = match kind {
            FileType::Directory => true,
            FileType::Unknown => statat(cursor.folder(), name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|meta| FileType::from_raw_mode(meta.st_mode) == FileType::Directory),
            _ => false,
        };
        if is_folder {
            names.push(name.to_owned());
        } else {
            hide(&cursor.path_of(name), folders);
        }
    })?;
    Ok(names)
}

/// Takes away a folder and all below it.
fn hide(path: &Path, folders: &mut BTreeMap<PathBuf, u32>) {
    // Paths are in the order of their parts: what is below a folder follows it.
    let below = folders.range(path.to_owned()..).map(|(below, _)| below);
    let hidden: Vec<PathBuf> = below.take_while(|below| below.starts_with(path)).cloned().collect();
    for path in hidden {
        folders.remove(&path);
    }
}

/// The mode that the layer gave the folder at hand.
fn mode(cursor: &Cursor) -> rustix::io::Result<u32> {
    let mut text = [0; 8];
    let kept = fgetxattr(cursor.folder(), MODE, &mut text)
        .ok()
        .and_then(|len| u32::from_str_radix(str::from_utf8(text.get(..len)?).ok()?, 8).ok());
    Ok(match kept {
        Some(mode) => mode & 0o1777,
        None => fstat(cursor.folder())?.st_mode & 0o1777,
    })
}
