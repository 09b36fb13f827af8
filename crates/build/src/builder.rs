//! The order of the work: the base beside the wheels, each from its downloads on; then bytecode and configuration.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use sconce_blob::{Digest, Hasher};
use sconce_fetch::http::Client;
use sconce_layer::{Planned, Stray};
use sconce_lock::{Leads, Lock};
use sconce_store::{Image, Layer, Store};
use serde::{Deserialize, Serialize};

use crate::bytecode::Unit;
use crate::error::Error;
use crate::later::Blobs;
use crate::progress::Progress;
use crate::trees::{self, Sources};
use crate::wheels::wheel_plans;

/// Raised when the same lock comes to give other bytes, so that nothing old is taken for it.
const RECIPE: &str = "sconce environment 5";

/// What builds need at hand.
pub struct Builder<'a> {
    /// Where everything is kept.
    pub store: &'a Store,
    /// Where everything comes from.
    pub client: &'a Client,
    /// Who watches.
    pub progress: &'a dyn Progress,
    /// How many threads may work at once.
    pub threads: usize,
    /// Where the paths of a project's lock lead.
    pub project: Option<&'a Leads>,
    /// The Debian mirror that `base.mirror` names, if any.
    pub mirror: Option<&'a str>,
}

/// Whether extracted trees are wanted beside the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trees {
    /// The image alone.
    None,
    /// A container follows.
    All,
}

/// How much of an environment must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// All of it.
    Whole,
    /// What a first command needs: see [`crate::early`].
    Startable,
}

/// A layer and what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedLayer {
    /// `debian trixie`, `torch 2.15.0`.
    pub name: String,
    /// The layer.
    #[serde(flatten)]
    pub layer: Layer,
}

/// A built environment: what a lock seals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The image's manifest digest.
    pub image: Digest,
    /// Its layers, the base first.
    pub layers: Vec<NamedLayer>,
}

/// An environment that is there.
pub(crate) struct Made {
    pub(crate) environment: Environment,
    /// Whether it is all that the lock says, or early.
    pub(crate) whole: bool,
}

/// What is made of the wheels of a lock.
struct OfWheels {
    /// What there is to compile.
    units: Vec<Unit>,
    skeleton: NamedLayer,
    /// The layers of wheels, in the order of the image.
    wheels: Vec<NamedLayer>,
    /// Python sources of layers without trees, by the number of the layer.
    sources: BTreeMap<usize, Sources>,
}

impl Builder<'_> {
    /// The image of a lock: from the store if it was built before, else built now. If the lock is
    /// sealed, the image is the one it promises, or this is an error.
    pub fn environment(&self, lock: &Lock, trees: Trees) -> Result<Environment, Error> {
        self.environment_until(lock, trees, Until::Whole).map(|made| made.environment)
    }

    /// The environment of a lock, whole or startable.
    pub(crate) fn environment_until(
        &self,
        lock: &Lock,
        trees: Trees,
        until: Until,
    ) -> Result<Made, Error> {
        let key = environment_key(lock);
        let made = match self.made_before(key, trees, until)? {
            Some(made) => made,
            None => {
                let _alone = self.store.lock("environment", key)?;
                match self.made_before(key, trees, until)? {
                    Some(made) => made,
                    None => self.build(lock, trees, until, key)?,
                }
            }
        };
        crate::seal::check(lock, &made)?;
        if trees == Trees::All {
            let image = self.image(made.environment.image)?;
            trees::extract(self.store, &image, self.threads, self.progress)?;
        }
        Ok(made)
    }

    fn made_before(&self, key: Digest, trees: Trees, until: Until) -> Result<Option<Made>, Error> {
        if let Some(environment) = self.built(key, trees)? {
            return Ok(Some(Made { environment, whole: true }));
        }
        match until {
            Until::Whole => Ok(None),
            Until::Startable => self.early(key),
        }
    }

    /// The environment under `key`, if it was built and nothing of it was pruned since.
    fn built(&self, key: Digest, trees: Trees) -> Result<Option<Environment>, Error> {
        let Some(bytes) = self.store.memo("environment", key)? else { return Ok(None) };
        // What can't be read is made again.
        let Ok(environment) = serde_json::from_slice::<Environment>(&bytes) else {
            return Ok(None);
        };
        let Ok(image) = self.image(environment.image) else { return Ok(None) };
        for layer in &image.layers {
            // An image that may go elsewhere is no good without its blobs, nor one without a tree that has to be
            // unpacked from them.
            let needed = trees == Trees::None || self.store.tree(layer.diff_id)?.is_none();
            if needed && self.store.whole_layer(layer.diff_id)?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(environment))
    }

    /// The image of this digest.
    pub fn image(&self, digest: Digest) -> Result<Image, Error> {
        Ok(self.store.image(&digest.hex())?)
    }

    fn build(&self, lock: &Lock, trees: Trees, until: Until, key: Digest) -> Result<Made, Error> {
        self.build_missing(lock)?;
        loop {
            match self.build_once(lock, trees, until, key) {
                // One wheel more is known for it each time: the others' layers are there by now.
                Err(error) if self.note_wrong_record(lock, &error)? => {}
                Err(Error::Layer(_) | Error::Debian(_) | Error::Python { .. })
                    if self.mend_inputs(lock)? => {}
                result => return result,
            }
        }
    }

    fn build_once(
        &self,
        lock: &Lock,
        trees: Trees,
        until: Until,
        key: Digest,
    ) -> Result<Made, Error> {
        self.check_offline(lock)?;
        let blobs = self.blobs(lock, until)?;
        let (base, made) = self.side_by_side(lock, trees, blobs)?;
        let OfWheels { mut units, skeleton, wheels, sources } = made;
        let mut layers = base;
        layers.push(skeleton);
        layers.extend(wheels);
        let missing = units.iter().any(Unit::is_missing);
        if missing && until == Until::Startable && self.starts_early(lock, &units, &layers)? {
            layers.extend(units.into_iter().filter_map(Unit::into_layer));
            return self.put_early(lock, layers, key);
        }
        if blobs == Blobs::Later {
            // The guess was wrong: the rest is made now, of what is there.
            return self.build_once(lock, trees, Until::Whole, key);
        }
        if missing {
            if trees == Trees::None {
                // It is compiled in the base's tree, also where the base was there before.
                self.base(lock, (true, Blobs::Now), &AtomicBool::new(false))?;
            }
            self.compile(lock, &mut units, &layers, &sources, trees)?;
        }
        layers.extend(units.into_iter().filter_map(Unit::into_layer));
        layers.extend(self.kept_wheels(lock, trees)?);
        let image = self.put_image(lock, &layers)?;
        let environment = Environment { image, layers };
        let bytes = serde_json::to_vec(&environment).map_err(|e| Error::Memo(e.to_string()))?;
        self.store.put_memo("environment", key, &bytes)?;
        self.forget_early(key)?;
        self.store.settle()?;
        Ok(Made { environment, whole: true })
    }

    /// The base, and beside it what is made of wheels: neither waits for the other's downloads.
    fn side_by_side(
        &self,
        lock: &Lock,
        trees: Trees,
        blobs: Blobs,
    ) -> Result<(Vec<NamedLayer>, OfWheels), Error> {
        let cancel = AtomicBool::new(false);
        // A failure on one side cancels the downloads of the other.
        fn cancelling<T>(cancel: &AtomicBool, result: Result<T, Error>) -> Result<T, Error> {
            cancel.fetch_or(result.is_err(), Ordering::Relaxed);
            result
        }
        // Bytecode of a new base is compiled in its tree.
        let new = lock.facts.bytecode && self.remembered_base(lock)?.is_none();
        let tree = new || trees == Trees::All;
        let (base, rest) = std::thread::scope(|scope| {
            let base = scope.spawn(|| cancelling(&cancel, self.base(lock, (tree, blobs), &cancel)));
            let rest = cancelling(&cancel, self.made_of_wheels(lock, (trees, blobs), &cancel));
            (base.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), rest)
        });
        match (base, rest) {
            (Ok(base), Ok(rest)) => Ok((base, rest)),
            (Err(base), Err(error)) if base.is_cancelled() => Err(error),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// The base, and a standalone Python where the lock has one.
    fn base(
        &self,
        lock: &Lock,
        (tree, blobs): (bool, Blobs),
        cancel: &AtomicBool,
    ) -> Result<Vec<NamedLayer>, Error> {
        self.fetch_base(lock, cancel)?;
        let mut layers = vec![self.base_layer(lock, tree, blobs)?];
        if let Some(pin) = &lock.python {
            layers.push(self.python_layer(pin, &lock.facts.python, tree)?);
        }
        Ok(layers)
    }

    /// What is made of wheels.
    fn made_of_wheels(
        &self,
        lock: &Lock,
        (trees, blobs): (Trees, Blobs),
        cancel: &AtomicBool,
    ) -> Result<OfWheels, Error> {
        self.fetch_and_unpack(lock, (trees, blobs), cancel)?;
        let wheels = self.open_wheels(lock)?;
        let Planned { layers: plans, strays } = wheel_plans(lock, &wheels)?;
        for Stray { path, more, first, second } in strays {
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            self.progress.note(&format!(
                "{first} and {second} both put {path}{more} at the top of site-packages: one of the two is there"
            ));
        }
        let units = self.bytecode_units(lock, &plans)?;
        let skeleton = self.skeleton_layer(lock, &wheels, trees)?;
        let sources = match trees {
            Trees::None => self.wanted_sources(&units, &plans)?,
            Trees::All => BTreeMap::new(),
        };
        let wheels = self.wheel_layers(&lock.facts, &plans, (trees, blobs), &sources)?;
        Ok(OfWheels { units, skeleton, wheels, sources })
    }

    /// After a fault in what was downloaded: removes what is damaged.
    fn mend_inputs(&self, lock: &Lock) -> Result<bool, Error> {
        let wheels = lock.wheels.iter().map(|wheel| wheel.sha256);
        let wheels = wheels.chain(lock.python.iter().map(|python| python.sha256));
        let inputs: Vec<Digest> = wheels.chain(lock.debs.iter().map(|deb| deb.sha256)).collect();
        let mended = self.store.mend_blobs(&inputs)?;
        if mended > 0 {
            self.progress.note(&format!("{mended} damaged files of the store are fetched again"));
        }
        Ok(mended > 0)
    }

    /// The layer remembered under a key, if it is still in the store.
    pub(crate) fn remembered(&self, kind: &str, key: Digest) -> Result<Option<Layer>, Error> {
        let Some(bytes) = self.store.memo(kind, key)? else { return Ok(None) };
        // What can't be read is made again.
        match String::from_utf8_lossy(&bytes).trim().parse() {
            Ok(diff_id) => Ok(self.store.whole_layer(diff_id)?),
            Err(_) => Ok(None),
        }
    }

    /// Remembers a layer under the digest of what it was made from.
    pub(crate) fn remember(&self, kind: &str, key: Digest, layer: &Layer) -> Result<(), Error> {
        self.store.put_layer(layer)?;
        Ok(self.store.put_memo(kind, key, layer.diff_id.to_string().as_bytes())?)
    }
}

pub(crate) fn environment_key(lock: &Lock) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(RECIPE.as_bytes());
    hasher.update(lock.digest().as_bytes());
    hasher.finish()
}
