//! Wheels to layers, and to trees in the same pass.

use std::collections::BTreeMap;
use std::fs::File;
use std::num::NonZeroUsize;
use std::sync::Arc;

use sconce_layer::{Job, LayerPlan, Parts, Planned, Unpack, Venv, Wheel, assemble_parts};
use sconce_lock::{Facts, Lock};
use sconce_store::{Layer, TreeBuilder, Twice};

use crate::builder::{Builder, NamedLayer, Trees};
use crate::error::{Error, at};
use crate::gpus::Sifter;
use crate::later::{Blobs, tar_layer};
use crate::progress::Stage;
use crate::trees::{Sources, Tree};
use crate::venv::PREFIX;

/// The memo that leads from a plan's key to its layer.
const MEMO: &str = "wheel-layer";
/// The memo that leads from a plan's key to the layer whose tree is there.
const UNPACKED: &str = "wheel-tree";
/// The memo that says of a wheel what is wrong with its RECORD, where that showed only when its files
/// were read.
const WRONG_RECORD: &str = "wrong-record";

struct Count<'a>(&'a dyn Stage);

impl sconce_layer::LayerProgress for Count<'_> {
    fn unpacked(&self, bytes: u64) {
        self.0.advance(bytes);
    }
}

/// How the wheels of a lock lie in layers, in the order of the image.
pub(crate) fn wheel_plans(lock: &Lock, wheels: &[Wheel]) -> Result<Planned, Error> {
    if wheels.is_empty() {
        return Ok(Planned::default());
    }
    let venv = Venv::new(&format!("/{PREFIX}"), &lock.facts.python)?;
    Ok(sconce_layer::plan(wheels, &venv, &lock.facts.prefer)?)
}

impl Builder<'_> {
    /// The wheels of a lock, opened and checked.
    pub(crate) fn open_wheels(&self, lock: &Lock) -> Result<Vec<Wheel>, Error> {
        let mut wheels = Vec::with_capacity(lock.wheels.len());
        for wheel in &lock.wheels {
            let opened = self.open_wheel(wheel)?;
            if let Some(why) = opened.unsound_record() {
                self.progress.note(&format!(
                    "{}: {why}; RECORD is made from the files, as the wheel has the hash that the lock names",
                    wheel.file
                ));
            }
            wheels.push(opened);
        }
        Ok(wheels)
    }

    /// A wheel of a lock, opened and checked.
    pub(crate) fn open_wheel(&self, wheel: &sconce_lock::Wheel) -> Result<Wheel, Error> {
        let path = self
            .store
            .blob_path(wheel.sha256)?
            .ok_or(sconce_store::Error::MissingBlob(wheel.sha256))?;
        let file = File::open(&path).map_err(at("open", &path))?;
        Ok(match self.store.memo(WRONG_RECORD, wheel.sha256)? {
            None => Wheel::open(&wheel.file, wheel.sha256, Arc::new(file))?,
            Some(why) => {
                let why = String::from_utf8_lossy(&why);
                Wheel::open_without_record(&wheel.file, wheel.sha256, Arc::new(file), &why)?
            }
        })
    }

    /// Notes that the RECORD of a wheel of the lock is wrong. False if that was known, or is no
    /// reason for `error`.
    pub(crate) fn note_wrong_record(&self, lock: &Lock, error: &Error) -> Result<bool, Error> {
        let Error::Layer(sconce_layer::Error::Hash { wheel, entry, .. }) = error else {
            return Ok(false);
        };
        let Some(wheel) = lock.wheels.iter().find(|locked| locked.file == *wheel) else {
            return Ok(false);
        };
        if self.store.memo(WRONG_RECORD, wheel.sha256)?.is_some() {
            return Ok(false);
        }
        let why = format!("the hash of `{entry}` in RECORD is another file's");
        self.store.put_memo(WRONG_RECORD, wheel.sha256, why.as_bytes())?;
        Ok(true)
    }

    /// The layer of a plan, if it was made before.
    pub(crate) fn remembered_wheels(&self, plan: &LayerPlan) -> Result<Option<Layer>, Error> {
        self.remembered(MEMO, plan.key())
    }

    /// The layer of a plan that was unpacked before, if its tree is still there.
    pub(crate) fn unpacked_wheels(&self, plan: &LayerPlan) -> Result<Option<Layer>, Error> {
        self.unpacked(UNPACKED, plan.key())
    }

    /// The layers of `plans`, in the order of the image. The Python sources of those whose number
    /// is in `sources` are kept there.
    pub(crate) fn wheel_layers(
        &self,
        facts: &Facts,
        plans: &[LayerPlan],
        (trees, blobs): (Trees, Blobs),
        sources: &BTreeMap<usize, Sources>,
    ) -> Result<Vec<NamedLayer>, Error> {
        let mut layers: Vec<Option<NamedLayer>> = Vec::new();
        // Those whose blobs alone are missing.
        let mut unpacked: Vec<(usize, Layer)> = Vec::new();
        for (at, plan) in plans.iter().enumerate() {
            let known = self.remembered_wheels(plan)?;
            let usable = self.has_gpu_code(plan) && !sources.contains_key(&at);
            let mut found = match known.filter(|_| usable) {
                Some(layer) if trees != Trees::None => {
                    self.store.tree(layer.diff_id)?.map(|_| layer)
                }
                known => known,
            };
            if found.is_none()
                && usable
                && let Some(layer) = self.unpacked_wheels(plan)?
            {
                match blobs {
                    Blobs::Now => unpacked.push((at, layer)),
                    Blobs::Later => found = Some(layer),
                }
            }
            layers.push(found.map(|layer| NamedLayer { name: plan.name().to_owned(), layer }));
        }
        let promised = |builder: &Self| builder.check_gpus(facts, plans);
        self.digest_unpacked(plans, unpacked, &mut layers)?;
        let missing: Vec<usize> = (0..plans.len()).filter(|&at| layers[at].is_none()).collect();
        if missing.is_empty() {
            promised(self)?;
            return Ok(layers.into_iter().flatten().collect());
        }
        let unpacked = missing.iter().map(|&at| plans[at].unpacked()).sum();
        let stage = self.progress.begin("building", Some(unpacked));
        let made = self.assemble(plans, &missing, (trees, blobs), sources, &*stage)?;
        stage.end(&format!("{} layers of wheels", made.len()));
        promised(self)?;
        for (at, layer) in missing.into_iter().zip(made) {
            layers[at] = Some(layer);
        }
        Ok(layers.into_iter().flatten().collect())
    }

    /// Makes the blobs of layers that are unpacked.
    fn digest_unpacked(
        &self,
        plans: &[LayerPlan],
        unpacked: Vec<(usize, Layer)>,
        layers: &mut [Option<NamedLayer>],
    ) -> Result<(), Error> {
        let job = |(at, _): &(usize, Layer)| Job { plan: &plans[*at], unpack: None };
        let jobs: Vec<Job> = unpacked.iter().map(job).collect();
        let threads = NonZeroUsize::new(self.threads).unwrap_or(NonZeroUsize::MIN);
        let made = assemble_parts(&jobs, Parts::Blob, threads, &())?;
        for ((at, layer), blob) in unpacked.into_iter().zip(made) {
            let Some((digest, size)) = blob.blob else { continue };
            let plan = &plans[at];
            self.store.put_virtual(digest, plan.assembly())?;
            let media_type = sconce_layer::Layer::MEDIA_TYPE.into();
            let layer = Layer { digest, size, media_type, ..layer };
            self.remember(MEMO, plan.key(), &layer)?;
            layers[at] = Some(NamedLayer { name: plan.name().to_owned(), layer });
        }
        Ok(())
    }

    /// Makes the layers of those of `plans` whose numbers are in `missing`.
    pub(crate) fn assemble(
        &self,
        plans: &[LayerPlan],
        missing: &[usize],
        (trees, blobs): (Trees, Blobs),
        sources: &BTreeMap<usize, Sources>,
        stage: &dyn Stage,
    ) -> Result<Vec<NamedLayer>, Error> {
        let mut builders: Vec<TreeBuilder> = Vec::new();
        if trees == Trees::All {
            for _ in missing {
                builders.push(self.store.create_tree(Twice::Refuse)?);
            }
        }
        let unpackers: Vec<Tree> = builders.iter().map(Tree).collect();
        let sifters: Vec<Sifter> = missing
            .iter()
            .enumerate()
            .map(|(at, plan)| {
                Sifter::new(match (unpackers.get(at), sources.get(plan)) {
                    (Some(tree), _) => Some(tree as &dyn Unpack),
                    (None, Some(sources)) => Some(sources as &dyn Unpack),
                    (None, None) => None,
                })
            })
            .collect();
        let jobs: Vec<Job> = missing
            .iter()
            .zip(&sifters)
            .map(|(&plan, sifter)| Job { plan: &plans[plan], unpack: Some(sifter) })
            .collect();
        let threads = NonZeroUsize::new(self.threads).unwrap_or(NonZeroUsize::MIN);
        let parts = match blobs {
            Blobs::Later if trees == Trees::All => Parts::Tree,
            _ => Parts::All,
        };
        let made = assemble_parts(&jobs, parts, threads, &Count(stage))?;
        drop(jobs);
        for (&at, sifter) in missing.iter().zip(sifters) {
            self.remember_gpu_code(&plans[at], sifter)?;
        }
        drop(unpackers);
        let mut builders = builders.into_iter();
        let mut layers = Vec::with_capacity(made.len());
        for (&at, made) in missing.iter().zip(made) {
            let plan = &plans[at];
            let Some((diff_id, len)) = made.tar else { continue };
            if let Some((digest, _)) = made.blob {
                self.store.put_virtual(digest, plan.assembly())?;
            }
            if let Some(builder) = builders.next() {
                builder.finish(diff_id)?;
            }
            let layer = match made.blob {
                Some((digest, size)) => {
                    let media_type = sconce_layer::Layer::MEDIA_TYPE.into();
                    let layer = Layer { diff_id, digest, size, media_type };
                    self.remember(MEMO, plan.key(), &layer)?;
                    layer
                }
                None => {
                    let layer = tar_layer(diff_id, len);
                    self.remember_unpacked(UNPACKED, plan.key(), &layer)?;
                    layer
                }
            };
            layers.push(NamedLayer { name: plan.name().to_owned(), layer });
        }
        Ok(layers)
    }
}
