//! The store, opened anew now and then.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sconce_blob::Digest;
use sconce_oci::Document;
use sconce_store::{Image, Leftovers, Store};

/// How long an open store is used for new requests.
const AGE: Duration = Duration::from_secs(600);

/// The most blobs whose sizes are remembered: those of some thousand images.
const MAX_TOLD: usize = 100_000;

/// How long it is not looked again for a blob that no image has: wheels and Debian packages are asked for by the hundred.
const PAUSE: Duration = Duration::from_secs(5);

/// Opens the store.
pub type OpenStore<'a> = dyn Fn() -> Result<Store, sconce_store::Error> + Sync + 'a;

/// Hands out the open store. What was looked up in one stays there until it is closed, whatever is pruned
/// beside it: one that is never closed would keep all that was ever asked for.
pub struct Stores<'a> {
    open: &'a OpenStore<'a>,
    now: Mutex<(Instant, Store)>,
    /// Of those that have been opened and may still be in use.
    leftovers: Mutex<Vec<Leftovers>>,
    /// The sizes of blobs, as the manifests of images have them.
    sizes: Mutex<Sizes>,
}

impl<'a> Stores<'a> {
    /// Opens the store.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn new(open: &'a OpenStore<'a>) -> Result<Self, sconce_store::Error> {
        let store = open()?;
        let leftovers = Mutex::new(vec![store.leftovers()]);
        let now = Mutex::new((Instant::now(), store));
        Ok(Self { open, now, leftovers, sizes: Mutex::default() })
    }

    /// The store for one request.
    pub(crate) fn get(&self) -> Result<Store, sconce_store::Error> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.0.elapsed() > AGE {
            let store = (self.open)()?;
            let mut leftovers = self.leftovers.lock().unwrap_or_else(PoisonError::into_inner);
            leftovers.retain(Leftovers::may_be);
            leftovers.push(store.leftovers());
            *now = (Instant::now(), store);
        }
        Ok(now.1.clone())
    }

    /// Removes what is begun and not whole, wherever it is: for the end of the process.
    pub(crate) fn clear(&self) {
        let leftovers = self.leftovers.lock().unwrap_or_else(PoisonError::into_inner);
        leftovers.iter().for_each(Leftovers::remove);
    }

    /// Notes the sizes of an image's blobs, of which a client is told.
    pub(crate) fn told(&self, image: &Image, manifest: &[u8]) {
        let mut sizes = self.sizes();
        sizes.note(image);
        if let Ok(Document::Manifest(read)) = Document::parse(manifest) {
            sizes.of.insert(read.config.digest, read.config.size);
        }
    }

    /// The size of a blob that an image of the store names; nothing where none does. A client may ask for a blob first, with
    /// the manifest that it has from before: then the images are looked through.
    pub(crate) fn size(&self, store: &Store, blob: Digest) -> Option<u64> {
        {
            let mut sizes = self.sizes();
            if let Some(size) = sizes.of.get(&blob) {
                return Some(*size);
            }
            if sizes.looked.is_some_and(|looked| looked.elapsed() < PAUSE) {
                return None;
            }
            sizes.looked = Some(Instant::now());
        }
        // An image that can't be read is said when it is asked for.
        let images = store.images().unwrap_or_default();
        let mut sizes = self.sizes();
        images.iter().for_each(|image| sizes.note(image));
        sizes.of.get(&blob).copied()
    }

    fn sizes(&self) -> MutexGuard<'_, Sizes> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sizes of blobs.
#[derive(Default)]
struct Sizes {
    of: HashMap<Digest, u64>,
    /// When all images were looked through.
    looked: Option<Instant>,
}

impl Sizes {
    fn note(&mut self, image: &Image) {
        if self.of.len() > MAX_TOLD {
            self.of.clear();
        }
        self.of.extend(image.layers.iter().map(|layer| (layer.digest, layer.size)));
    }
}
