//! From a registry into the store: layers are downloaded, checked and unpacked in one pass, several
//! at a time.

use std::collections::BTreeSet;
use std::fs;
use std::io::BufReader;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sconce_blob::Digest;
use sconce_oci::Descriptor;
use sconce_registry::{Image, Reference, Registry, Rights};
use sconce_store::Layer;

use crate::error::Error;
use crate::incoming::Incoming;
use crate::several::each;
use crate::{Transfer, origin};

/// Bytes taken at a time.
const PIECE: usize = 256 << 10;

/// What a pull came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The image's digest.
    pub image: Digest,
    /// Bytes that came over the network, documents included.
    pub moved: u64,
    /// Bytes of layers that were here already.
    pub here: u64,
}

impl Transfer<'_> {
    /// Takes in the image that `reference` names, for `architecture` (OCI's name: `amd64`), and gives
    /// it `names`. Layers are unpacked while they come; each is held to its digest and its DiffID.
    /// What was cut off goes on where it was, also in a later run.
    ///
    /// # Errors
    /// Those of the registry and of the store. Nothing of a layer is used that is not what its image
    /// says.
    pub fn pull(
        &self,
        reference: &Reference,
        architecture: &str,
        names: &[&str],
    ) -> Result<Pulled, Error> {
        let registry = Registry::new(self.access, reference.clone(), &Rights::Pull)?;
        let image = registry.image(architecture)?;
        self.admit(reference, &registry, &image)?;
        let layers = layers_of(&image);
        let (_, missing) = self.parted(&layers)?;
        self.take_from_peers(&missing, reference)?;
        let (here, missing) = self.parted(&layers)?;
        let sum = |layers: &[&Layer]| {
            layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size))
        };
        let (here, total) = (sum(&here), sum(&missing));
        let stage = self.progress.begin("pulling", (total > 0).then_some(total));
        let came = AtomicU64::new(0);
        let tell = |bytes: u64| {
            came.fetch_add(bytes, Ordering::Relaxed);
            stage.advance(bytes);
        };
        each(&layers, self.threads, |layer, stop| {
            self.take_layer(&registry, layer, stop, &tell)?;
            Ok(origin::note(self.store, reference, layer.digest)?)
        })?;
        // What is there already is not written, nor read.
        self.store.discard_damaged(&[image.config_blob.digest, Digest::of(&image.manifest)])?;
        let digest = self.store.put_image(names, &image.manifest, &image.config)?;
        origin::note(self.store, reference, image.config_blob.digest)?;
        stage.end(&format!("image {}, {} layers", digest.short(), layers.len()));
        Ok(Pulled { image: digest, moved: registry.moved(), here })
    }

    /// The layers whose blobs are here, and the others.
    fn parted<'l>(&self, layers: &'l [Layer]) -> Result<(Vec<&'l Layer>, Vec<&'l Layer>), Error> {
        let (mut here, mut missing) = (Vec::new(), Vec::new());
        for layer in layers {
            match self.store.has_whole(layer)? {
                true => here.push(layer),
                false => missing.push(layer),
            }
        }
        Ok((here, missing))
    }

    /// Sees to it that a layer's blob and tree are here and belong together.
    fn take_layer(
        &self,
        registry: &Registry,
        layer: &Layer,
        stop: &AtomicBool,
        tell: &(dyn Fn(u64) + Sync),
    ) -> Result<(), Error> {
        if !self.store.has_whole(layer)? {
            let _lock = self.store.lock("partial", layer.digest)?;
            // Another process may have been at it.
            if !self.store.has_whole(layer)? {
                return self.fetch_layer(registry, layer, stop, tell);
            }
        }
        Ok(self.store.take_layer(layer)?)
    }

    /// Downloads and unpacks a layer. Its lock is held.
    fn fetch_layer(
        &self,
        registry: &Registry,
        layer: &Layer,
        stop: &AtomicBool,
        tell: &(dyn Fn(u64) + Sync),
    ) -> Result<(), Error> {
        let path = self.store.partial_path(layer.digest);
        loop {
            let begun = fs::metadata(&path).map_or(0, |meta| meta.len());
            let whole = self.pass(registry, layer, &path, stop, tell);
            match whole {
                // What an earlier run left may be what was damaged (a power cut).
                Err(Error::Registry(sconce_registry::Error::WrongDigest { .. })) if begun > 0 => {}
                other => return other,
            }
        }
    }

    /// One pass over a layer: from the partial file and the network into both blob and tree.
    fn pass(
        &self,
        registry: &Registry,
        layer: &Layer,
        path: &Path,
        stop: &AtomicBool,
        tell: &(dyn Fn(u64) + Sync),
    ) -> Result<(), Error> {
        let fault = |action| move |error| sconce_store::Error::of_io(action, path, error);
        let (_, file) = self.store.open_partial(layer.digest)?;
        if file.metadata().map_err(fault("look at"))?.len() > layer.size {
            file.set_len(0).map_err(fault("empty"))?;
        }
        let blob = descriptor(layer);
        let mut incoming = Incoming::new(registry, &blob, (path, file), stop, tell);
        let source = BufReader::with_capacity(PIECE, &mut incoming);
        let unpacked = self.store.extract_layer(layer, source, &|_| {});
        let unpacked = match unpacked {
            // What this machine lacks is not a fault of the bytes.
            Err(error) if !incoming.has_failed() && !is_of_the_layer(&error) => {
                return Err(error.into());
            }
            other => other,
        };
        // Bytes with another digest explain whatever else is wrong with them.
        match incoming.finish() {
            Err(error @ Error::Registry(sconce_registry::Error::WrongDigest { .. })) => {
                self.store.remove_partial(layer.digest)?;
                return Err(error);
            }
            other => other?,
        }
        self.store.adopt(path, layer.digest, None)?;
        unpacked?;
        Ok(self.store.put_layer(layer)?)
    }
}

/// The layers of an image, each once, the largest first.
fn layers_of(image: &Image) -> Vec<Layer> {
    let mut seen = BTreeSet::new();
    let pairs = image.layers.iter().zip(&image.diff_ids);
    let mut layers: Vec<Layer> = pairs
        .filter(|(blob, diff_id)| seen.insert((blob.digest, **diff_id)))
        .map(|(blob, diff_id)| Layer {
            diff_id: *diff_id,
            digest: blob.digest,
            size: blob.size,
            media_type: blob.media_type.clone(),
        })
        .collect();
    layers.sort_by_key(|layer| std::cmp::Reverse(layer.size));
    layers
}

pub(crate) fn descriptor(layer: &Layer) -> Descriptor {
    Descriptor {
        media_type: layer.media_type.clone(),
        digest: layer.digest,
        size: layer.size,
        artifact_type: String::new(),
        annotations: Default::default(),
        platform: None,
    }
}

/// Whether an error says that the layer's bytes are bad.
fn is_of_the_layer(error: &sconce_store::Error) -> bool {
    use sconce_store::Error as E;
    matches!(error, E::BadLayer { .. } | E::WrongDigest { .. } | E::Io { .. })
}
