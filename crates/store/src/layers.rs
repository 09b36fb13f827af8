//! Layers: which blob has which uncompressed bytes. `layers/<DiffID>.json`.

use std::fs;
use std::path::PathBuf;

use sconce_blob::Digest;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::error::{Error, at};
use crate::store::read_small;

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
        if !self.has_blob(layer.digest) {
            return Err(Error::MissingBlob(layer.digest));
        }
        let path = self.layer_path(layer.diff_id);
        let bytes = serde_json::to_vec(layer)
            .map_err(|error| Error::Corrupt { path: path.clone(), why: error.to_string() })?;
        self.write_small(&path, &bytes)
    }

    /// The layer with this DiffID, if its blob is here.
    pub fn layer(&self, diff_id: Digest) -> Result<Option<Layer>, Error> {
        let path = self.layer_path(diff_id);
        let Some(bytes) = read_small(&path)? else { return Ok(None) };
        let layer: Layer = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Corrupt { path, why: error.to_string() })?;
        Ok(Some(layer).filter(|layer| self.has_blob(layer.digest)))
    }

    /// Remembers `bytes` under a key, such as the outcome of a step under the digest of its
    /// inputs. What they name may be pruned: look before you rely on it.
    pub fn put_memo(&self, kind: &str, key: Digest, bytes: &[u8]) -> Result<(), Error> {
        self.write_small(&self.memo_path(kind, key), bytes)
    }

    /// What was remembered under a key.
    pub fn memo(&self, kind: &str, key: Digest) -> Result<Option<Vec<u8>>, Error> {
        read_small(&self.memo_path(kind, key))
    }

    /// Forgets what was remembered under a key.
    pub fn forget_memo(&self, kind: &str, key: Digest) -> Result<(), Error> {
        let path = self.memo_path(kind, key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(at("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn layer_path(&self, diff_id: Digest) -> PathBuf {
        self.root().join("layers").join(format!("{}.json", diff_id.hex()))
    }

    fn memo_path(&self, kind: &str, key: Digest) -> PathBuf {
        self.root().join("memo").join(format!("{kind}-{}", key.hex()))
    }
}
