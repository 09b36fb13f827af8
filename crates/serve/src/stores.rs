//! The store, opened anew now and then.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sconce_blob::Digest;
use sconce_store::{Leftovers, Store};

/// How long an open store is used for new requests.
const AGE: Duration = Duration::from_secs(600);

/// The most layers whose sizes are remembered: those of some thousand images.
const MAX_TOLD: usize = 100_000;

/// Opens the store.
pub type OpenStore<'a> = dyn Fn() -> Result<Store, sconce_store::Error> + Sync + 'a;

/// Hands out the open store. What was looked up in one stays there until it is closed, whatever is pruned
/// beside it: one that is never closed would keep all that was ever asked for.
pub struct Stores<'a> {
    open: &'a OpenStore<'a>,
    now: Mutex<(Instant, Store)>,
    /// Of those that have been opened and may still be in use.
    leftovers: Mutex<Vec<Leftovers>>,
    /// The sizes of layers, as manifests that clients were given have them.
    told: Mutex<HashMap<Digest, u64>>,
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
        Ok(Self { open, now, leftovers, told: Mutex::default() })
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

    /// A client was told of these layers.
    pub(crate) fn told(&self, layers: impl Iterator<Item = (Digest, u64)>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() > MAX_TOLD {
            told.clear();
        }
        told.extend(layers);
    }

    /// The size of a layer that some client was told of.
    pub(crate) fn size_told(&self, layer: Digest) -> Option<u64> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).get(&layer).copied()
    }
}
