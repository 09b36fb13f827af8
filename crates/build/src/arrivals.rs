//! Layers of large wheels, made while other wheels are still downloaded.
//!
//! A wheel with a layer of its own has the same one whatever else is in the environment, unless the lock prefers
//! one package's files to another's. It is remembered by its plan's key like every layer: the build that follows
//! finds it there, and one that has no use for it is none the worse.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

use sconce_layer::{LayerPlan, Venv, own_layer, plan_own};
use sconce_lock::{Lock, Wheel};

use crate::builder::{Builder, Trees};
use crate::error::Error;
use crate::later::Blobs;
use crate::progress::Stage;
use crate::venv::PREFIX;

impl Builder<'_> {
    /// Downloads the wheels of a lock that are missing; into trees, large ones are unpacked as they arrive.
    pub(crate) fn fetch_and_unpack(
        &self,
        lock: &Lock,
        (trees, blobs): (Trees, Blobs),
        cancel: &AtomicBool,
    ) -> Result<(), Error> {
        if trees == Trees::None || !lock.facts.prefer.is_empty() {
            return self.fetch_wheels(lock, cancel, &|_| {});
        }
        let (arrived, arrivals) = channel::<String>();
        std::thread::scope(|scope| {
            let unpacker = std::thread::Builder::new().name("arrivals".to_owned());
            let begun = unpacker
                .spawn_scoped(scope, move || self.unpack_arrivals(lock, blobs, &arrivals, cancel));
            // Without that thread, or after its end, nobody listens: all is unpacked in the end.
            let fetched = self.fetch_wheels(lock, cancel, &|file| {
                let _ = arrived.send(file.to_owned());
            });
            drop(arrived);
            drop(begun);
            fetched
        })
    }

    fn unpack_arrivals(
        &self,
        lock: &Lock,
        blobs: Blobs,
        arrivals: &Receiver<String>,
        cancel: &AtomicBool,
    ) {
        let sizes: Option<Vec<u64>> = lock.wheels.iter().map(|wheel| wheel.size).collect();
        let Some(least) = sizes.map(|sizes| own_layer(&sizes)) else { return };
        let mut stage = None;
        let mut count = 0;
        while let Ok(file) = arrivals.recv() {
            let files: Vec<String> = std::iter::once(file).chain(arrivals.try_iter()).collect();
            let large = |wheel: &&Wheel| {
                wheel.size.is_some_and(|size| size >= least) && files.contains(&wheel.file)
            };
            let large: Vec<&Wheel> = lock.wheels.iter().filter(large).collect();
            if large.is_empty() {
                continue;
            }
            let stage = stage.get_or_insert_with(|| self.progress.begin("unpacking", None));
            // An error shows again where the layer is needed, and there it is reported.
            match self.unpack_own(lock, &large, blobs, &**stage) {
                Ok(made) if !cancel.load(Ordering::Relaxed) => count += made,
                _ => return,
            }
        }
        if let Some(stage) = stage {
            stage.end(&format!("{count} layers of wheels"));
        }
    }

    /// Makes the layers of these wheels that are not there: how many.
    fn unpack_own(
        &self,
        lock: &Lock,
        wheels: &[&Wheel],
        blobs: Blobs,
        stage: &dyn Stage,
    ) -> Result<usize, Error> {
        let venv = Venv::new(&format!("/{PREFIX}"), &lock.facts.python)?;
        let mut plans: Vec<LayerPlan> = Vec::with_capacity(wheels.len());
        for wheel in wheels {
            let plan = plan_own(&self.open_wheel(wheel)?, &venv)?;
            if self.remembered_wheels(&plan)?.is_none() && self.unpacked_wheels(&plan)?.is_none() {
                plans.push(plan);
            }
        }
        let all: Vec<usize> = (0..plans.len()).collect();
        Ok(self.assemble(&plans, &all, (Trees::All, blobs), &BTreeMap::new(), stage)?.len())
    }
}
