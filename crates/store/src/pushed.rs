//! Images whose blobs were put one by one, as a client pushes them.

use sconce_blob::Digest;
use sconce_oci::{Artifact, Document};

use crate::Store;
use crate::beside::Beside;
use crate::error::Error;
use crate::oci::each;
use crate::record::{self, DOCUMENT_LIMIT};

impl Store {
    /// Takes in an image by its manifest, whose blobs are here: its layers are unpacked and held to the DiffIDs of its
    /// configuration before it is named. Returns its digest.
    ///
    /// # Errors
    /// [`Error::MissingBlob`] where one isn't here; the documents or layers are no image's.
    pub fn put_pushed(&self, names: &[&str], manifest: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(manifest);
        let bad = |why: String| Error::BadDocument { what: format!("manifest {digest}"), why };
        let Document::Manifest(parts) = Document::parse(manifest).map_err(bad)? else {
            return Err(bad("it is an index of several images".to_owned()));
        };
        let blobs = [&parts.config].into_iter().chain(&parts.layers);
        if let Some(missing) = blobs.map(|blob| blob.digest).find(|blob| !self.has_blob(*blob)) {
            return Err(Error::MissingBlob(missing));
        }
        let config = self.read_blob(parts.config.digest, DOCUMENT_LIMIT)?;
        let record = record::of_documents(digest, manifest, &config)?;
        each(&record.layers, |layer| self.take_layer(layer))?;
        self.put_image(names, manifest, &config)
    }

    /// Keeps an artifact beside the image that it is about, which is here, and returns that image's digest; the artifact's
    /// files are here too.
    ///
    /// # Errors
    /// [`Error::MissingBlob`]; it is no artifact about an image, its files are no texts, or there is no more room.
    pub fn put_pushed_artifact(&self, manifest: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(manifest);
        let bad = |why: &str| Error::BadDocument {
            what: format!("manifest {digest}"),
            why: why.to_owned(),
        };
        let artifact = Artifact::parse(manifest).map_err(|why| bad(&why))?;
        let subject = artifact.subject.as_ref().ok_or_else(|| bad("it is about nothing"))?.digest;
        if !self.knows(subject) {
            return Err(Error::MissingBlob(subject));
        }
        let mut files = Vec::new();
        for file in [&artifact.config].into_iter().chain(&artifact.layers) {
            if !self.has_blob(file.digest) {
                return Err(Error::MissingBlob(file.digest));
            }
            files.push(self.read_blob(file.digest, DOCUMENT_LIMIT)?);
        }
        let kept = Beside::new(manifest.to_vec(), files).ok_or_else(|| bad("it holds no texts"))?;
        self.put_bytes(manifest)?;
        match self.put_beside(subject, vec![kept])? {
            0 => Ok(subject),
            _ => Err(bad("there is no more room for what is about that image")),
        }
    }
}
