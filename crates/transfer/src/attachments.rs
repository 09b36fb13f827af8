//! What goes with an image: artifacts that are put beside it, and those that are there and go where it goes.

use std::collections::BTreeMap;

use sconce_audit::Attachment;
use sconce_blob::Digest;
use sconce_oci::{Artifact, Descriptor, Document, MANIFEST, Referrer, referrers_tag};
use sconce_registry::{Error as RegistryError, Reference, Registry, Rights};
use sconce_sign::BUNDLE;
use sconce_store::Beside;

use crate::Transfer;
use crate::error::Error;
use crate::push::Blobs;

/// The most artifacts of one image that are copied, and the most bytes of one and of all.
const MAX_COUNT: usize = 256;
const MAX_BYTES: u64 = 64 << 20;
const MAX_ALL: u64 = 256 << 20;
/// The most bytes of one that are kept in the store.
const MAX_KEPT: u64 = 4 << 20;
/// What stands under a tag of its own beside an image: cosign's older signatures and attestations.
const TAGS: [&str; 2] = ["sig", "att"];
/// The annotation of a file's name, which `oras pull` gives it (image-spec, "Pre-Defined Annotation Keys").
const TITLE: &str = "org.opencontainers.image.title";

/// What became of the artifacts of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// How many are there now.
    pub count: usize,
    /// Bytes that went over the network for them.
    pub moved: u64,
    /// What was left out, and why.
    pub left: Vec<String>,
}

impl Transfer<'_> {
    /// Puts files beside the image with this digest, and what is kept beside it in the store. That a
    /// registry does not take one is said, and no error: the image is there.
    ///
    /// # Errors
    /// Those of the network and of the store.
    pub fn attach(
        &self,
        to: &Reference,
        image: Digest,
        files: &[Attachment],
    ) -> Result<Carried, Error> {
        let kept = self.store.beside(image)?;
        let mut carried = Carried::default();
        if files.is_empty() && kept.is_empty() {
            return Ok(carried);
        }
        let exact = Reference { tag: None, digest: Some(image), ..to.clone() };
        let registry = Registry::new(self.access, exact, &Rights::Push(Vec::new()))?;
        let subject = registry.named()?.descriptor;
        for file in files {
            let put = || {
                let mut blob = registry.put_bytes(file.kind, &file.bytes)?;
                blob.annotations.insert(TITLE.to_owned(), file.name.to_owned());
                registry.attach(&Artifact::new(file.kind, subject.clone(), blob))
            };
            carried.note(file.name, put().map(drop))?;
        }
        for artifact in &kept {
            let Some(read) = artifact.about(image) else { continue };
            let put = || {
                let parts = [&read.config].into_iter().chain(&read.layers);
                for (part, text) in parts.zip(&artifact.files) {
                    registry.put_bytes(&part.media_type, text.as_bytes())?;
                }
                registry.attach_bytes(&read, artifact.manifest.as_bytes())
            };
            carried.note(read.kind(), put().map(drop))?;
        }
        carried.moved = registry.moved();
        Ok(carried)
    }

    /// Copies what is beside an image from one registry to another.
    pub(crate) fn carry(
        &self,
        from: &Registry,
        to: &Reference,
        image: Digest,
    ) -> Result<Carried, Error> {
        let target = Registry::new(self.access, to.clone(), &Rights::Push(Vec::new()))?;
        let mut carried = Carried::default();
        let mut left = MAX_ALL;
        for row in self.rows(from, image, &mut carried)? {
            let mut copy = || {
                let (artifact, bytes) = from.artifact(&row)?;
                about(from, &artifact, image)?;
                self.copy_files(from, &target, &artifact, &mut left)?;
                target.attach_bytes(&artifact, &bytes).map(drop)
            };
            carried.note(&row.digest.short(), copy())?;
        }
        for end in TAGS {
            let tag = format!("{}.{end}", referrers_tag(image));
            let Some(bytes) = from.under_tag(&tag)? else { continue };
            let mut copy = || {
                let artifact = Artifact::parse(&bytes).map_err(|why| wrong(from, why))?;
                self.copy_files(from, &target, &artifact, &mut left)?;
                let kind = match Document::parse(&bytes) {
                    Ok(Document::Manifest(manifest)) => manifest.media_type,
                    _ => None,
                };
                let kind = kind.as_deref().unwrap_or(MANIFEST);
                target.put_bytes_under_tag(&tag, kind, &bytes).map(drop)
            };
            carried.note(&tag, copy())?;
        }
        carried.moved = target.moved();
        Ok(carried)
    }

    /// Takes what is beside an image in its registry into the store.
    ///
    /// # Errors
    /// Those of the network and of the store.
    pub fn keep_beside(&self, from: &Reference, image: Digest) -> Result<Carried, Error> {
        let registry = Registry::new(self.access, from.clone(), &Rights::Pull)?;
        let mut carried = Carried::default();
        let (mut kept, mut left) = (Vec::new(), 2 * MAX_KEPT);
        for row in self.rows(&registry, image, &mut carried)? {
            let mut take = || -> Result<(), RegistryError> {
                let (artifact, bytes) = registry.artifact(&row)?;
                about(&registry, &artifact, image)?;
                let parts = || [&artifact.config].into_iter().chain(&artifact.layers);
                let size = size_of(parts());
                if size > MAX_KEPT.min(left) {
                    let why = format!("{size} bytes are too many to be kept");
                    return Err(wrong(&registry, why));
                }
                left -= size;
                let files: Result<Vec<Vec<u8>>, _> =
                    parts().map(|part| registry.small_blob(part, MAX_KEPT)).collect();
                let text = Beside::new(bytes, files?)
                    .ok_or_else(|| wrong(&registry, "it is not a text".to_owned()))?;
                kept.push(text);
                Ok(())
            };
            carried.note(&row.digest.short(), take())?;
        }
        let full = self.store.put_beside(image, kept)?;
        if full > 0 {
            carried.count = carried.count.saturating_sub(full);
            carried.left.push(format!("{full} for which there is no room"));
        }
        carried.moved = registry.moved();
        Ok(carried)
    }

    /// The artifacts about an image that are copied.
    fn rows(
        &self,
        from: &Registry,
        image: Digest,
        carried: &mut Carried,
    ) -> Result<Vec<Referrer>, Error> {
        let listed = from.referrers(image, BUNDLE)?;
        let mut rows = listed.rows;
        // Signatures first: what somebody else put there in numbers must not keep them back.
        rows.sort_by_key(|row| row.artifact_type != BUNDLE);
        if rows.len() > MAX_COUNT || listed.cut.is_some() || listed.others {
            carried.left.push(format!("all but {MAX_COUNT} of {} or more", rows.len()));
            rows.truncate(MAX_COUNT);
        }
        Ok(rows)
    }

    /// Sends the files of an artifact.
    fn copy_files(
        &self,
        from: &Registry,
        to: &Registry,
        artifact: &Artifact,
        left: &mut u64,
    ) -> Result<(), RegistryError> {
        let parts: BTreeMap<Digest, &Descriptor> = [&artifact.config]
            .into_iter()
            .chain(&artifact.layers)
            .map(|part| (part.digest, part))
            .collect();
        let size = size_of(parts.values().copied());
        if size > MAX_BYTES.min(*left) {
            return Err(wrong(from, format!("{size} bytes are too many to be copied")));
        }
        *left -= size;
        for part in parts.into_values() {
            if !to.has_blob(part.digest)? {
                to.put_blob(part, None, &Blobs::Registry(from).quietly(part))?;
            }
        }
        Ok(())
    }
}

impl Carried {
    /// Counts an artifact. What one registry does not have or another does not take is left out; one that
    /// does not answer is an error.
    fn note(&mut self, name: &str, done: Result<(), RegistryError>) -> Result<(), Error> {
        use sconce_fetch::Error as FetchError;
        match done {
            Ok(()) => self.count += 1,
            Err(
                error @ (RegistryError::NotFound { .. }
                | RegistryError::Denied { .. }
                | RegistryError::Answer { .. }
                | RegistryError::WrongDigest { .. }
                | RegistryError::Damaged { .. }
                | RegistryError::Source { .. }
                | RegistryError::Fetch(FetchError::TooLarge { .. })),
            ) => self.left.push(format!("{name}: {error}")),
            Err(RegistryError::Fetch(error @ FetchError::Status { status: 400..=499, .. })) => {
                self.left.push(format!("{name}: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn size_of<'a>(parts: impl Iterator<Item = &'a Descriptor>) -> u64 {
    parts.fold(0, |sum, part| sum.saturating_add(part.size))
}

/// That an artifact is about this image: a list may name others.
fn about(from: &Registry, artifact: &Artifact, image: Digest) -> Result<(), RegistryError> {
    match &artifact.subject {
        Some(subject) if subject.digest == image => Ok(()),
        _ => Err(wrong(from, "it is about another image".to_owned())),
    }
}

fn wrong(from: &Registry, why: String) -> RegistryError {
    let Reference { host, repository, .. } = from.reference();
    RegistryError::Answer { url: format!("{host}/{repository}"), why }
}
