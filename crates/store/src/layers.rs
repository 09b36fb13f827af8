//! Layers: which blob has which uncompressed bytes. `layers/<DiffID>.json`.

use std::path::PathBuf;

use sconce_blob::Digest;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::error::Error;
use crate::files::{list, read_small};
use crate::own::remove_file;
use crate::place::Place;

/// Kinds of memos that are no longer kept: addresses of wheels, whole, with their logins and tokens.
const RETIRED: [&str; 1] = ["url"];

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// SHA-256 of the uncompressed tar (OCI image-spec, "Layer DiffID").
    pub diff_id: Digest,
    /// SHA-256 of the blob as it is pulled.
    pub digest: Digest,
    /// The blob's length, bytes.
    pub size: u64,
    /// OCI media type of the blob.
    pub media_type: String,
}

impl Store {
    /// Notes which blob a DiffID belongs to. The blob must be in the store.
    pub fn put_layer(&self, layer: &Layer) -> Result<(), Error> {
        if !self.has_blob(layer.digest)? {
            return Err(Error::MissingBlob(layer.digest));
        }
        let path = self.place().layer(layer.diff_id);
        let bytes = serde_json::to_vec(layer)
            .map_err(|error| Error::Corrupt { path: path.clone(), why: error.to_string() })?;
        self.pin(layer.diff_id)?;
        self.mark_unsynced("layer", layer.diff_id)?;
        self.write_unsynced(&path, &bytes)
    }

    /// The layer with this DiffID, if its blob is here.
    pub fn layer(&self, diff_id: Digest) -> Result<Option<Layer>, Error> {
        self.layer_in(diff_id, self.places())
    }

    /// As [`Store::layer`], if all that its blob is made of is here as well: a wheel of a virtual one may be gone.
    pub fn whole_layer(&self, diff_id: Digest) -> Result<Option<Layer>, Error> {
        let Some(layer) = self.layer(diff_id)? else { return Ok(None) };
        match self.open_blob(layer.digest) {
            Ok(_) => Ok(Some(layer)),
            Err(Error::MissingBlob(_)) => Ok(None),
            Err(error @ Error::Corrupt { .. }) => self.or_anew(self.place(), Err(error)),
            Err(error) => Err(error),
        }
    }

    /// As [`Store::layer`], but also from stores that aren't believed: whoever inflates the blob
    /// finds out whether it is the layer's.
    pub(crate) fn layer_anywhere(&self, diff_id: Digest) -> Result<Option<Layer>, Error> {
        self.layer_in(diff_id, self.places().chain(self.untrusted()))
    }

    fn layer_in<'a>(
        &self,
        diff_id: Digest,
        places: impl Iterator<Item = &'a Place>,
    ) -> Result<Option<Layer>, Error> {
        self.pin(diff_id)?;
        let mut found = None;
        for place in places {
            found = self.or_anew(place, place.read_layer(diff_id))?;
            if found.is_some() {
                break;
            }
        }
        match found.filter(|layer| layer.diff_id == diff_id) {
            Some(layer) if self.has_blob(layer.digest)? => Ok(Some(layer)),
            _ => Ok(None),
        }
    }

    /// Remembers `bytes`, which are not empty, under a key, such as the outcome of a step under the digest
    /// of its inputs. What they name may be pruned: look before you rely on it. A power cut may take
    /// what was not settled.
    pub fn put_memo(&self, kind: &str, key: Digest, bytes: &[u8]) -> Result<(), Error> {
        debug_assert!(!bytes.is_empty(), "an empty memo of kind {kind} is never found again");
        self.write_unsynced(&self.place().memo(kind, key), bytes)
    }

    /// What was remembered under a key.
    pub fn memo(&self, kind: &str, key: Digest) -> Result<Option<Vec<u8>>, Error> {
        for place in self.places() {
            let read = self.or_anew(place, read_small(&place.memo(kind, key)))?;
            // After a power cut the name may be there without the bytes (`docs/decision/0012-memos-are-not-synced.md`).
            if let Some(bytes) = read.filter(|bytes| !bytes.is_empty()) {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// The file of what was remembered under a key.
    #[must_use]
    pub fn memo_path(&self, kind: &str, key: Digest) -> PathBuf {
        let mut paths = self.places().map(|place| place.memo(kind, key));
        let is_there = |path: &PathBuf| path.metadata().is_ok_and(|about| about.len() > 0);
        paths.find(is_there).unwrap_or_else(|| self.place().memo(kind, key))
    }

    /// Removes memos that older versions kept and nothing reads any more. One that can't be removed is told of.
    pub fn forget_retired(&self) -> Result<(), Error> {
        for path in list(&self.place().folder("memo"))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let kind = name.rsplit_once('-').map(|(kind, _)| kind);
            if kind.is_some_and(|kind| RETIRED.contains(&kind))
                && let Err(error) = remove_file(&path)
            {
                self.note(&format!(
                    "it may hold a password, and all who read the store can read it: {error}"
                ));
            }
        }
        Ok(())
    }

    /// Forgets what was remembered under a key.
    pub fn forget_memo(&self, kind: &str, key: Digest) -> Result<(), Error> {
        self.discard(&self.place().memo(kind, key))
    }
}

impl Place {
    /// The record of a layer in this store.
    pub(crate) fn read_layer(&self, diff_id: Digest) -> Result<Option<Layer>, Error> {
        let path = self.layer(diff_id);
        let Some(bytes) =
            self.whole("layer", diff_id).then(|| read_small(&path)).transpose()?.flatten()
        else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Error::Corrupt { path, why: error.to_string() })
    }
}
