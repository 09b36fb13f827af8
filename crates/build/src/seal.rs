//! The seal: what a lock promised, and what was built.

use sconce_lock::{Lock, Sealed};

use crate::builder::Environment;
use crate::error::Error;

/// The lock with the seal of what it builds to.
pub fn seal(lock: &Lock, built: &Environment) -> Lock {
    let layers = built.layers.iter().map(|named| sconce_lock::Layer {
        name: named.name.clone(),
        diff_id: named.layer.diff_id,
        digest: named.layer.digest,
        size: named.layer.size,
    });
    let sealed = Sealed { image: built.image, layers: layers.collect() };
    Lock { sealed: Some(sealed), ..lock.clone() }
}

/// Compares what was built with what the lock promised, if it is sealed.
pub(crate) fn check(lock: &Lock, built: &Environment) -> Result<(), Error> {
    let Some(sealed) = &lock.sealed else { return Ok(()) };
    if sealed.image == built.image {
        return Ok(());
    }
    let differs = sealed.layers.iter().zip(&built.layers).find(|(promised, layer)| {
        promised.diff_id != layer.layer.diff_id || promised.digest != layer.layer.digest
    });
    let first = match differs {
        Some((promised, layer)) => format!(
            "the first layer that differs is `{}`: {} was promised, {} was built",
            promised.name, promised.digest, layer.layer.digest
        ),
        None if sealed.layers.len() != built.layers.len() => {
            format!("{} layers were promised, {} built", sealed.layers.len(), built.layers.len())
        }
        None => "the layers are the same, the configuration differs".into(),
    };
    Err(Error::Seal { promised: sealed.image, built: built.image, first })
}
