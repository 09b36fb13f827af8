//! What is about an image and no part of it (distribution-spec 1.1, "Listing Referrers"): what was kept with
//! it when it was copied here, and what the lock says of an image that was built here by its tag.

use sconce_audit::attachments;
use sconce_blob::Digest;
use sconce_lock::Lock;
use sconce_oci::{Artifact, Descriptor, EMPTY_BYTES, MANIFEST, MAX_ARTIFACT, Referrer};
use sconce_store::{Beside, Error, Store};

/// The artifacts about an image. Their bytes are put among the blobs, where they are asked for next.
pub(crate) fn artifacts(
    store: &Store,
    image: Digest,
    locks: &[Lock],
) -> Result<Vec<Referrer>, Error> {
    let mut all = store.beside(image)?;
    for lock in locks {
        all.extend(of_lock(store, image, lock)?);
    }
    let mut rows: Vec<Referrer> = Vec::new();
    for kept in all {
        let Some(artifact) = kept.about(image) else { continue };
        let row = Referrer::of(&artifact, kept.manifest.as_bytes());
        if rows.iter().any(|known| known.digest == row.digest) {
            continue;
        }
        for text in kept.files.iter().chain([&kept.manifest]) {
            if !store.has_blob(Digest::of(text.as_bytes()))? {
                store.put_bytes(text.as_bytes())?;
            }
        }
        rows.push(row);
    }
    Ok(rows)
}

/// What a lock says of the image that it builds to.
fn of_lock(store: &Store, image: Digest, lock: &Lock) -> Result<Vec<Beside>, Error> {
    if lock.sealed.as_ref().is_none_or(|sealed| sealed.image != image) {
        return Ok(Vec::new());
    }
    let bytes = store.manifest(&store.image(&image.hex())?)?;
    let subject = Descriptor::of(MANIFEST, &bytes);
    let made = attachments(lock, image).into_iter().filter_map(|file| {
        let mut blob = Descriptor::of(file.kind, &file.bytes);
        let title = "org.opencontainers.image.title".to_owned();
        blob.annotations.insert(title, file.name.to_owned());
        let artifact = Artifact::new(file.kind, subject.clone(), blob);
        Beside::new(artifact.to_json(), vec![EMPTY_BYTES.to_vec(), file.bytes])
    });
    Ok(made.collect())
}

/// The manifest of an artifact that lies among the blobs.
pub(crate) fn manifest(store: &Store, digest: Digest) -> Option<Vec<u8>> {
    let blob = store.knows(digest).then(|| store.open_blob(digest).ok()).flatten()?;
    if blob.len() > MAX_ARTIFACT {
        return None;
    }
    drop(blob);
    let bytes = store.read_blob(digest, MAX_ARTIFACT).ok()?;
    Artifact::parse(&bytes).ok()?.subject.map(|_| bytes)
}
