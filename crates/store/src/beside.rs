//! What is about an image and no part of it, such as signatures: OCI's artifacts, kept with the image so that
//! they go where it goes.
//!
//! They are a memo of the image, whole: no prune leaves half of one. Their bytes are texts (JSON, a lock); other
//! artifacts are not kept.

use sconce_blob::Digest;
use sconce_oci::Artifact;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::error::Error;

/// The kind of the memo; its key is the image's digest.
const MEMO: &str = "beside";
/// What is kept beside one image, bytes and artifacts.
const MAX_BYTES: usize = 4 << 20;
const MAX_COUNT: usize = 256;

/// An artifact about an image, with its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// Its manifest, the text of the document.
    pub manifest: String,
    /// Its configuration and its files, in the order of the manifest.
    pub files: Vec<String>,
}

impl Beside {
    /// From bytes; `None` where they are no texts.
    #[must_use]
    pub fn new(manifest: Vec<u8>, files: Vec<Vec<u8>>) -> Option<Self> {
        let files: Result<Vec<String>, _> = files.into_iter().map(String::from_utf8).collect();
        Some(Self { manifest: String::from_utf8(manifest).ok()?, files: files.ok()? })
    }

    /// The digest of its manifest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.manifest.as_bytes())
    }

    /// Its manifest, if it is about this image and all its files are those that it names.
    #[must_use]
    pub fn about(&self, image: Digest) -> Option<Artifact> {
        let artifact = Artifact::parse(self.manifest.as_bytes()).ok()?;
        let named = [&artifact.config].into_iter().chain(&artifact.layers).map(|file| file.digest);
        let whole = named.eq(self.files.iter().map(|file| Digest::of(file.as_bytes())));
        let is_about = artifact.subject.as_ref().is_some_and(|subject| subject.digest == image);
        (whole && is_about).then_some(artifact)
    }

    fn len(&self) -> usize {
        self.files.iter().map(String::len).sum::<usize>() + self.manifest.len()
    }
}

impl Store {
    /// Keeps these artifacts beside an image, with those that are there, as far as there is room. Returns
    /// how many could not be kept.
    ///
    /// # Errors
    /// The store can't be written to.
    pub fn put_beside(&self, image: Digest, artifacts: Vec<Beside>) -> Result<usize, Error> {
        let mut kept = self.beside(image)?;
        let mut size: usize = kept.iter().map(Beside::len).sum();
        let (before, mut left) = (kept.len(), 0);
        for artifact in artifacts {
            if kept.contains(&artifact) {
                continue;
            }
            size = size.saturating_add(artifact.len());
            if artifact.about(image).is_none() || size > MAX_BYTES || kept.len() >= MAX_COUNT {
                size -= artifact.len();
                left += 1;
                continue;
            }
            kept.push(artifact);
        }
        if kept.len() > before {
            // Texts alone: writing them to memory can't fail.
            let bytes = serde_json::to_vec(&kept).unwrap_or_default();
            // Control characters take six times their room.
            if bytes.len() > 3 * MAX_BYTES {
                return Ok(left + kept.len() - before);
            }
            self.put_memo(MEMO, image, &bytes)?;
        }
        Ok(left)
    }

    /// The artifacts that are kept beside an image; none where what is kept is damaged.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn beside(&self, image: Digest) -> Result<Vec<Beside>, Error> {
        let memo = self.memo(MEMO, image)?;
        let mut kept: Vec<Beside> =
            memo.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        kept.retain(|artifact| artifact.about(image).is_some());
        Ok(kept)
    }
}
