//! Garbage collection beside whatever else goes on: what no image and no process needs goes.
//!
//! Objects are chosen and moved away while nobody can pin any (`pins.rs`), which takes as long as
//! the renames, and deleted afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use sconce_blob::Digest;
use sconce_oci::name::plain_name;

use crate::Store;
use crate::disk::bytes_below;
use crate::error::Error;
use crate::sweep::{Claim, Sweep};

/// What may go. What a container or another process uses always stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which images go.
    pub images: Which,
    /// How much may stay, bytes on disk. As long as the store takes no more, nothing goes but
    /// images unused for the time of [`Which::UnusedFor`]; else what no image needs goes, and then
    /// one image after the other, the one used longest ago first.
    pub keep_bytes: Option<u64>,
    /// Only say what would go.
    pub dry_run: bool,
}

/// Which images go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those without a name.
    Unnamed,
    /// Those without a name, and those not used for this long.
    UnusedFor(Duration),
    /// All of them.
    All,
}

/// What a prune removed, or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Bytes on disk.
    pub bytes: u64,
    /// Images, each by its names or digest.
    pub images: Vec<String>,
    /// Images that would have gone, but are in use, each by its names or digest.
    pub in_use: Vec<String>,
    /// Blobs and virtual blobs.
    pub blobs: usize,
    /// Extracted trees.
    pub trees: usize,
}

/// What became of an image whose name was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The names that are gone.
    pub names: Vec<String>,
    /// The image they meant, if it is gone too: no name was left, and nobody uses it.
    pub image: Option<Digest>,
    /// Whether it stayed, without a name, because a container or another process uses it.
    pub in_use: bool,
    /// Bytes on disk that are free now.
    pub bytes: u64,
}

impl Store {
    /// Removes images by `policy`, then every blob, tree and record that neither an image left nor
    /// another process needs, interrupted downloads included. `keep` are blobs to spare, such as
    /// those of locks in use. What this process itself looked up or put is not spared: call it when
    /// no other thread is at work. Stores below are not touched. [`Error::Busy`] when another process
    /// keeps prunes out, which happens only when the disk is too full for it to write its pins.
    pub fn prune(&self, policy: &Policy, keep: &[Digest]) -> Result<Pruned, Error> {
        if !policy.dry_run {
            self.remove_leftovers()?;
            self.forget_retired()?;
            self.settle()?;
        }
        let mut sweep = Sweep::new(self);
        // Without the lock first: sizes and the parts of virtual blobs take longest to find out.
        let plan = sweep.plan(policy, keep, Claim::Look)?;
        if policy.dry_run {
            let mut pruned = plan.pruned;
            for object in plan.objects {
                pruned.bytes += sweep.size(&object.path)?;
                pruned.count(object.kind);
            }
            return Ok(pruned);
        }
        let done = self.pins().exclusively(|| {
            let plan = sweep.plan(policy, keep, Claim::Remove)?;
            Ok((plan.pruned, sweep.move_away(plan.objects)?))
        })?;
        let (mut pruned, moved) = done.ok_or_else(|| Error::Busy(self.root().to_owned()))??;
        for (kind, trash) in moved {
            let bytes = bytes_below(&trash)?;
            if self.remove_or_set_aside(&trash) {
                pruned.bytes += bytes;
                pruned.count(kind);
            }
        }
        Ok(pruned)
    }

    /// Removes a name, or all names of the image with a digest or its first digits. An image that
    /// has no name left goes, with all that only it needs, unless it is in use.
    pub fn remove_image(&self, word: &str) -> Result<Removed, Error> {
        if let Some(digest) = self.place().named(word)? {
            self.alone(word, digest)?;
        }
        self.remove_called(word)
    }

    /// As [`Store::remove_image`]; a name is not held to the digests that begin with it.
    pub fn remove_called(&self, word: &str) -> Result<Removed, Error> {
        let (digest, names) = match self.place().named(word)? {
            Some(digest) => (digest, vec![plain_name(word)]),
            None => {
                let image = match self.image(word) {
                    Err(Error::Incomplete { image, .. }) => image,
                    Err(Error::Corrupt { .. }) => self.by_digest(word)?,
                    result => result?.manifest,
                };
                let names = self.place().names()?.into_iter();
                (image, names.filter(|(_, of)| *of == image).map(|(name, _)| name).collect())
            }
        };
        if names.is_empty()
            && let Ok(Some(image)) = self.load(digest, &BTreeMap::new())
            && image.store != self.root()
        {
            return Err(Error::ReadOnly { what: format!("`{word}`"), store: image.store });
        }
        let mut removed = Removed::default();
        let mut sweep = Sweep::new(self);
        let done = self.pins().exclusively(|| {
            for name in names {
                self.remove_name(&name)?;
                removed.names.push(name);
            }
            let others = sweep.others()?;
            let named = self.place().names()?.into_values().any(|of| of == digest);
            if named || self.place().image(digest).symlink_metadata().is_err() {
                return Ok(Vec::new());
            }
            let image = match self.load(digest, &BTreeMap::new()) {
                Err(damage @ Error::Corrupt { .. }) => Err(damage),
                image => match image? {
                    Some(image) => Ok(image),
                    None => return Ok(Vec::new()),
                },
            };
            let free = !others.contains(&digest);
            if !(free && sweep.claim(digest, &BTreeMap::new(), Claim::Remove)?) {
                removed.in_use = true;
                return Ok(Vec::new());
            }
            removed.image = Some(digest);
            let objects = match image {
                Ok(image) => sweep.only_of(&image, &others)?,
                Err(damage) => {
                    let then = "it is removed; what else is left of the image goes with the next `sconce prune`";
                    self.note_damaged(&damage, then);
                    Vec::new()
                }
            };
            sweep.move_away(objects)
        })?;
        for (_, trash) in done.ok_or_else(|| Error::Busy(self.root().to_owned()))?? {
            let bytes = bytes_below(&trash)?;
            if self.remove_or_set_aside(&trash) {
                removed.bytes += bytes;
            }
        }
        Ok(removed)
    }
}
