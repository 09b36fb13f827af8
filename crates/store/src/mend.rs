//! What is damaged goes, so that the next build makes it or fetches it again.

use std::io;

use sconce_blob::Digest;

use crate::Store;
use crate::error::Error;
use crate::layers::Layer;
use crate::sweep::parts_of;

impl Store {
    /// Reads the blobs of `layers` and removes from this store those that are damaged or lack a part,
    /// with the part that is to blame. How many layers that were. It takes as long as reading them:
    /// call it when something turned out to be wrong.
    pub fn mend_layers(&self, layers: &[Layer]) -> Result<usize, Error> {
        let mut mended = 0;
        for layer in layers {
            if !self.has_blob(layer.digest)? {
                continue;
            }
            // One of another size may be too large to be read.
            let is_whole = self.check_size(layer.digest, layer.size).is_ok();
            if is_whole && !self.is_damaged(layer.digest)? {
                continue;
            }
            // A description that can't be read is damaged itself.
            if let Ok(Some(assembly)) = self.assembly(layer.digest) {
                self.mend_blobs(&parts_of(&assembly).into_iter().collect::<Vec<_>>())?;
            }
            self.discard(&self.place().virtual_blob(layer.digest))?;
            self.discard(&self.place().blob(layer.digest))?;
            mended += 1;
        }
        Ok(mended)
    }

    /// Whether the blob of a layer is here. One of another size than its image says, whose bytes are not those of its digest
    /// either, is not: it is said, and removed from this store, to be fetched anew.
    ///
    /// # Errors
    /// It can't be read, or not be removed.
    pub fn has_whole(&self, layer: &Layer) -> Result<bool, Error> {
        if !self.has_blob(layer.digest)? {
            return Ok(false);
        }
        let Err(damage) = self.check_size(layer.digest, layer.size) else { return Ok(true) };
        // Where they are, it is the image that lies: what another image needs stays.
        if !self.is_damaged(layer.digest)? {
            return Ok(true);
        }
        self.note_damaged(&damage, "it is fetched anew");
        self.discard(&self.place().blob(layer.digest))?;
        Ok(false)
    }

    /// Removes from this store those of an image's documents that are not what their names say, and says so: whoever has them at
    /// hand puts them anew.
    ///
    /// # Errors
    /// One can't be read, or not be removed.
    pub fn discard_damaged(&self, documents: &[Digest]) -> Result<(), Error> {
        for digest in documents {
            match self.place().document(*digest) {
                Err(damage @ (Error::WrongDigest { .. } | Error::Corrupt { .. })) => {
                    self.note_damaged(&damage, "it is fetched anew");
                    self.discard(&self.place().blob(*digest))?;
                }
                Ok(_) | Err(Error::MissingBlob(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads blobs and removes from this store those that are not what their names say. How many that
    /// were.
    pub fn mend_blobs(&self, digests: &[Digest]) -> Result<usize, Error> {
        let mut mended = 0;
        for digest in digests {
            let Some(path) = self.place().find_blob(*digest) else { continue };
            if self.is_damaged(*digest)? {
                self.discard(&path)?;
                mended += 1;
            }
        }
        Ok(mended)
    }

    fn is_damaged(&self, digest: Digest) -> Result<bool, Error> {
        match self.verify(digest) {
            Ok(()) => Ok(false),
            // A disk that can't be read is no reason to remove anything.
            Err(Error::WrongDigest { .. } | Error::MissingBlob(_) | Error::Corrupt { .. }) => {
                Ok(true)
            }
            Err(error) => match std::error::Error::source(&error).and_then(|e| e.downcast_ref()) {
                // A part that was cut off.
                Some(cause) if io::Error::kind(cause) == io::ErrorKind::UnexpectedEof => Ok(true),
                _ => Err(error),
            },
        }
    }
}
