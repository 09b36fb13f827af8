//! Starting before an image is whole. A container needs the trees of its layers; to compile all bytecode of torch
//! takes longer than most first commands, and syncing the disk longer still.
//!
//! An early image has all layers but those of bytecode that are missing, and no name; nothing of it is in the lock.
//! What the whole image is does not depend on it: bytecode is compiled from the layers, which no container can
//! change. Whoever starts from it sees to it that [`Builder::ready`] runs soon, beside the container
//! or after it. When that failed once, the next start waits for the whole image: then its error is seen.

use sconce_blob::Digest;
use sconce_lock::Lock;

use crate::builder::{Builder, Environment, Made, NamedLayer, environment_key};
use crate::bytecode::Unit;
use crate::error::Error;

/// The memo that leads from an environment's key to the early one.
const MEMO: &str = "early-environment";

/// The memo that says why the rest was not made after an early start.
const FAILED: &str = "unfinished";

/// More files than this are compiled after the start. Two cores took 1.7 and 2.6 s for as many [measured].
const MOST_BEFORE: usize = 500;

impl Builder<'_> {
    /// The early environment under a key, if there is one that can be started.
    pub(crate) fn early(&self, key: Digest) -> Result<Option<Made>, Error> {
        let Some(bytes) = self.store.memo(MEMO, key)? else { return Ok(None) };
        if self.store.memo(FAILED, key)?.is_some() {
            return Ok(None);
        }
        let Ok(environment) = serde_json::from_slice::<Environment>(&bytes) else {
            return Ok(None);
        };
        let there = self.image(environment.image).is_ok();
        Ok(there.then_some(Made { environment, whole: false }))
    }

    /// Whether to start before the bytecode that is missing is compiled.
    pub(crate) fn starts_early(
        &self,
        lock: &Lock,
        units: &[Unit],
        layers: &[NamedLayer],
    ) -> Result<bool, Error> {
        if let Some(why) = self.store.memo(FAILED, environment_key(lock))? {
            self.progress.note(&format!(
                "this image could not be finished beside its last start ({}); now the start waits for it",
                String::from_utf8_lossy(&why)
            ));
            return Ok(false);
        }
        Ok(self.count_missing(lock, units, layers)? > MOST_BEFORE)
    }

    /// Whether the rest was not made after an early start.
    pub(crate) fn failed_before(&self, lock: &Lock) -> Result<bool, Error> {
        Ok(self.store.memo(FAILED, environment_key(lock))?.is_some())
    }

    /// Puts an early environment into the store.
    pub(crate) fn put_early(
        &self,
        lock: &Lock,
        layers: Vec<NamedLayer>,
        key: Digest,
    ) -> Result<Made, Error> {
        let image = self.put_image(lock, &layers)?;
        let environment = Environment { image, layers };
        let bytes = serde_json::to_vec(&environment).map_err(|e| Error::Memo(e.to_string()))?;
        self.store.put_memo(MEMO, key, &bytes)?;
        Ok(Made { environment, whole: false })
    }

    /// Removes the early environment under a key, now that there is a whole one.
    pub(crate) fn forget_early(&self, key: Digest) -> Result<(), Error> {
        self.store.forget_memo(FAILED, key)?;
        let Some(bytes) = self.store.memo(MEMO, key)? else { return Ok(()) };
        self.store.forget_memo(MEMO, key)?;
        if let Ok(environment) = serde_json::from_slice::<Environment>(&bytes) {
            // Where a container or another process keeps it, `sconce prune` takes it later.
            use sconce_store::Error as E;
            match self.store.remove_image(&environment.image.hex()) {
                Ok(_) | Err(E::NoImage { .. } | E::Busy(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Notes why the whole image could not be made after an early start.
    pub fn note_unfinished(&self, lock: &Lock, why: &str) -> Result<(), Error> {
        Ok(self.store.put_memo(FAILED, environment_key(lock), why.as_bytes())?)
    }

    /// Whether no other process is building this lock's environment.
    pub fn is_unattended(&self, lock: &Lock) -> Result<bool, Error> {
        Ok(self.store.try_lock("environment", environment_key(lock))?.is_some())
    }
}
