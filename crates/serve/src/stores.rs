//! The store, opened anew now and then.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sconce_store::Store;

/// How long an open store is used for new requests.
const AGE: Duration = Duration::from_secs(600);

/// Opens the store.
pub type OpenStore<'a> = dyn Fn() -> Result<Store, sconce_store::Error> + Sync + 'a;

/// Hands out the open store. What was looked up in one stays there until it is closed, whatever is pruned
/// beside it: one that is never closed would keep all that was ever asked for.
pub struct Stores<'a> {
    open: &'a OpenStore<'a>,
    now: Mutex<(Instant, Store)>,
}

impl<'a> Stores<'a> {
    /// Opens the store.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn new(open: &'a OpenStore<'a>) -> Result<Self, sconce_store::Error> {
        Ok(Self { open, now: Mutex::new((Instant::now(), open()?)) })
    }

    /// The store for one request.
    pub(crate) fn get(&self) -> Result<Store, sconce_store::Error> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.0.elapsed() > AGE {
            *now = (Instant::now(), (self.open)()?);
        }
        Ok(now.1.clone())
    }
}
