//! Leases: an image that is being used, and a folder for whatever uses it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use sconce_blob::Digest;

use crate::Store;
use crate::error::Error;
use crate::folders::folders_key;
use crate::images::{Image, touch};
use crate::layers::Layer;
use crate::lock::lock_shared;
use crate::place::Place;
use crate::record::Record;
use crate::scratch::Scratch;

/// Keeps an image and its trees from being pruned while it lives, also after the store is closed,
/// and holds a folder for the container that uses it.
///
/// Both hang on flock(2) locks: of the image's record, for whoever reads the store from above too, and of the folder, in which
/// is pinned what the container is made of. Such a lock belongs to the open file, not to a process: whoever
/// inherits the descriptors holds the lease as well, and it ends when the last of them is closed,
/// however their processes end.
#[derive(Debug)]
pub struct Lease {
    scratch: Scratch,
    images: Vec<File>,
}

impl Store {
    /// Notes that the image is used, and keeps it for as long as the lease lives.
    ///
    /// # Errors
    /// [`Error::NoImage`]; [`Error::Unkept`] where neither its record can be locked nor a pin be written.
    pub fn lease(&self, image: Digest) -> Result<Lease, Error> {
        let none = || Error::NoImage { name: image.to_string(), nearest: None };
        self.pin(image)?;
        let found = self.load(image, &BTreeMap::new())?.ok_or_else(none)?;
        let needed = Self::needed_by(&found);
        let own = |layer: &&Layer| self.place().find_tree(layer.diff_id).is_some();
        let (here, below): (Vec<&Layer>, Vec<&Layer>) = found.layers.iter().partition(own);
        let below = below.into_iter().filter_map(|layer| self.tree_below(layer.diff_id));
        let mut records: BTreeSet<PathBuf> = below.map(|(_, record)| record).collect();
        let is_here = found.store == self.root();
        if !is_here {
            records.insert(Place::new(found.store.clone()).image(image));
            // What is here of it is kept and pruned by a record that is here.
            let folders = self.place().find_tree(folders_key(image));
            if !here.is_empty() || folders.is_some() {
                self.put_record(&Record::from(found))?;
            }
        }
        let mut images = Vec::new();
        for record in records {
            images.extend(self.lock_below(&record)?.ok_or_else(none)?);
        }
        let record = self.place().image(image);
        let mut unlocked = None;
        match lock_shared(&record) {
            // What lies there instead, and can't be replaced, can't be locked: the pins keep the image.
            Err(Error::Corrupt { why, .. }) => unlocked = Some(why),
            lock => match lock? {
                Some(lock) => {
                    touch(&record)?;
                    images.push(lock);
                }
                None if is_here => return Err(none()),
                None => {}
            },
        }
        let scratch = Scratch::create(&self.place().folder("tmp"), self.sharing())?;
        match (self.pin_in(scratch.path(), &needed), unlocked) {
            (Ok(()), _) => {}
            (Err(error), Some(why)) => {
                return Err(Error::Unkept { image, record, why, source: Box::new(error) });
            }
            (Err(error), None) => self.note(&format!(
                "only the image's record keeps what the container is made of from being pruned: {error}"
            )),
        }
        Ok(Lease { scratch, images })
    }

    /// Keeps objects for whoever holds a scratch folder. A lock on a record goes with the record, when somebody removes or replaces it;
    /// where these can't be written, because the disk is full, that lock is what keeps the image.
    fn pin_in(&self, folder: &Path, needed: &HashSet<Digest>) -> Result<(), Error> {
        self.pins().pin_in(folder, needed, self.lock_timeout(), &|text| self.note(text))
    }

    /// What a container of an image is made of.
    fn needed_by(image: &Image) -> HashSet<Digest> {
        let layers = image.layers.iter().flat_map(|layer| [layer.digest, layer.diff_id]);
        let documents = [image.manifest, image.config, folders_key(image.manifest)];
        layers.chain(documents).collect()
    }
}

impl Lease {
    /// A folder on the store's file system that goes with the lease, or with the process.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// The descriptors that hold the lease, the folder's first, for a process that goes on when
    /// this one ends; [`Lease::from_fds`] makes a lease of them again. They are closed on exec
    /// unless that is taken off them (fcntl(2), `FD_CLOEXEC`). The folder is not removed when they
    /// are closed, but when the store is opened next.
    pub fn into_fds(self) -> Result<Vec<OwnedFd>, Error> {
        let mut fds = vec![self.scratch.into_lock()?];
        fds.extend(self.images.into_iter().map(OwnedFd::from));
        Ok(fds)
    }

    /// A lease that [`Lease::into_fds`] gave out, with the folder that [`Lease::scratch`] named.
    pub fn from_fds(scratch: PathBuf, fds: Vec<OwnedFd>) -> Result<Self, Error> {
        let mut fds = fds.into_iter();
        let folder = fds.next().ok_or_else(|| Error::Corrupt {
            path: scratch.clone(),
            why: "no lock came with it".to_owned(),
        })?;
        let scratch = Scratch::adopt(scratch, folder)?;
        Ok(Self { scratch, images: fds.map(File::from).collect() })
    }
}
