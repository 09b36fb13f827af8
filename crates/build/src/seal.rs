//! The seal: what a lock promised, and what was built.

use sconce_lock::{Lock, Sealed};

use crate::builder::{Environment, Made, NamedLayer};
use crate::error::Error;
use crate::later::is_tar;

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

/// Compares what was made with what the lock promised, if it is sealed: of an early environment the
/// layers that are there.
pub(crate) fn check(lock: &Lock, made: &Made) -> Result<(), Error> {
    let Some(sealed) = &lock.sealed else { return Ok(()) };
    let built = &made.environment;
    if sealed.image == built.image {
        return Ok(());
    }
    let differs = |promised: &sconce_lock::Layer, layer: &NamedLayer| {
        // A layer's DiffID is of all that a container sees of it; its blob may be made after the start.
        let blob = !is_tar(&layer.layer) && promised.digest != layer.layer.digest;
        promised.diff_id != layer.layer.diff_id || blob
    };
    let pairs: Vec<_> = match made.whole {
        true => sealed.layers.iter().zip(&built.layers).collect(),
        false => {
            let named = |layer: &NamedLayer| {
                sealed.layers.iter().find(|promised| promised.name == layer.name)
            };
            built.layers.iter().filter_map(|layer| Some((named(layer)?, layer))).collect()
        }
    };
    let first = pairs.iter().find(|(promised, layer)| differs(promised, layer));
    let complete = pairs.len() == built.layers.len();
    let first = match first {
        // The same wheels in other layers.
        Some((promised, layer)) if promised.name != layer.name => {
            format!("where the layer `{}` was promised, `{}` was built", promised.name, layer.name)
        }
        Some((promised, layer)) => format!(
            "the first layer that differs is `{}`: {} was promised, {} was built",
            promised.name, promised.digest, layer.layer.digest
        ),
        None if !made.whole && complete => return Ok(()),
        None if sealed.layers.len() != built.layers.len() => {
            format!("{} layers were promised, {} built", sealed.layers.len(), built.layers.len())
        }
        None => "the layers are the same, the configuration differs".into(),
    };
    Err(Error::Seal { promised: sealed.image, built: built.image, first })
}
