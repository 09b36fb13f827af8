//! The base layer: Debian packages as one root file system; and the environment's skeleton.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sconce_blob::{Digest, Hasher};
use sconce_debian::{DebFile, Options, Target};
use sconce_layer::{Entry, Wheel};
use sconce_lock::{DebPin, Flavour, Lock};
use sconce_store::Layer;

use crate::builder::{Builder, NamedLayer, Trees};
use crate::error::{Error, at};
use crate::image::architecture;
use crate::later::Blobs;
use crate::progress::{Silent, Stage};
use crate::{python, toolkit, trees, venv};

const MEMO: &str = "base-layer";
/// The same where its tar is in the store and its blob is not.
const UNPACKED: &str = "base-tree";

impl Builder<'_> {
    /// The base layer of a lock, if it was made before.
    pub(crate) fn remembered_base(&self, lock: &Lock) -> Result<Option<Layer>, Error> {
        self.remembered(MEMO, key(lock))
    }

    /// The base layer of a lock that was unpacked, if its tree and its tar are still there.
    pub(crate) fn unpacked_base(&self, lock: &Lock) -> Result<Option<Layer>, Error> {
        match self.unpacked(UNPACKED, key(lock))? {
            Some(layer) if self.store.blob_path(layer.digest)?.is_some() => Ok(Some(layer)),
            _ => Ok(None),
        }
    }

    /// The base layer; with its tree if one is wanted.
    pub(crate) fn base_layer(
        &self,
        lock: &Lock,
        tree: bool,
        blobs: Blobs,
    ) -> Result<NamedLayer, Error> {
        let name = format!("debian {}", lock.facts.base);
        if let Some(layer) = self.remembered_base(lock)? {
            if tree && self.store.tree(layer.diff_id)?.is_none() {
                self.store.extract(layer.diff_id, &|_| ())?;
            }
            return Ok(NamedLayer { name, layer });
        }
        if let Some(tar) = self.unpacked_base(lock)? {
            if blobs == Blobs::Later {
                return Ok(NamedLayer { name, layer: tar });
            }
            if let Some(layer) = self.compressed(&name, &tar)? {
                self.remember(MEMO, key(lock), &layer)?;
                self.store.remove_blob(tar.digest)?;
                return Ok(NamedLayer { name, layer });
            }
            // Its tar is gone: the packages make it again.
            self.fetch_base(lock, &AtomicBool::new(false))?;
        }
        let total = lock.debs.iter().map(|deb| deb.size).sum();
        let stage = self.progress.begin("base", Some(total));
        let arch = architecture(lock.facts.machine);
        let entries = self.root_entries(arch, lock, &lock.debs, &*stage)?;
        let named = match blobs {
            Blobs::Later if tree => {
                let named = self.plain_tree(&name, entries)?;
                self.remember_unpacked(UNPACKED, key(lock), &named.layer)?;
                named
            }
            _ => {
                let named = self.plain_layer(&name, entries, tree)?;
                self.remember(MEMO, key(lock), &named.layer)?;
                named
            }
        };
        stage.end(&format!("{} Debian packages", lock.debs.len()));
        Ok(named)
    }

    /// A root file system of `debs`, which are in the store, as a layer with its tree.
    pub(crate) fn root_layer(
        &self,
        name: &str,
        arch: &str,
        lock: &Lock,
        pins: &[DebPin],
    ) -> Result<NamedLayer, Error> {
        let entries = self.root_entries(arch, lock, pins, &Silent)?;
        self.plain_layer(name, entries, true)
    }

    /// The entries of a root file system of `debs`, which are in the store.
    fn root_entries(
        &self,
        arch: &str,
        lock: &Lock,
        pins: &[DebPin],
        stage: &dyn Stage,
    ) -> Result<Vec<Entry>, Error> {
        let mut debs = Vec::with_capacity(pins.len());
        for deb in pins {
            let path = self
                .store
                .blob_path(deb.sha256)?
                .ok_or(sconce_store::Error::MissingBlob(deb.sha256))?;
            let file = File::open(&path).map_err(at("open", &path))?;
            let (name, version) = (deb.name.clone(), deb.version.clone());
            debs.push(DebFile { name, version, source: Arc::new(file) });
        }
        let options = Options {
            target: Target::new(&lock.facts.base, arch)?,
            // Scratch files have no names: they go when the entries do.
            scratch: &trees::scratch(self.store, "debs")?,
            threads: self.threads,
            progress: &|bytes| stage.advance(bytes),
        };
        Ok(sconce_debian::compose(&debs, &options)?)
    }

    /// The layer of the virtual environment's skeleton, with the toolkit of a `devel` image.
    pub(crate) fn skeleton_layer(
        &self,
        lock: &Lock,
        wheels: &[Wheel],
        trees: Trees,
    ) -> Result<NamedLayer, Error> {
        let mut entries = venv::skeleton(&lock.facts.python, python::folder(lock));
        if lock.facts.flavour == Flavour::Devel {
            entries.extend(toolkit::links(wheels, &lock.facts.python));
        }
        self.plain_layer("virtual environment", entries, trees == Trees::All)
    }
}

/// What the base is a function of.
fn key(lock: &Lock) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(b"sconce debian base 1\n");
    hasher.update(lock.facts.base.as_bytes());
    for deb in &lock.debs {
        hasher.update(deb.sha256.as_bytes());
    }
    hasher.finish()
}
