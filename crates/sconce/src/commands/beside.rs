//! What a lock says of an image goes with the image into registries.

use sconce_blob::Digest;
use sconce_lock::{Lock, Sealed};
use sconce_oci::Document;
use sconce_registry::Reference;
use sconce_start::Target;
use sconce_transfer::{Carried, Transfer};

use crate::context::Context;
use crate::error::Failure;

/// Puts beside an image in a registry what the lock of its project says, and what is kept beside it in the
/// store. `manifest` has the bytes of the image's document.
pub fn attach(
    context: &Context,
    transfer: &Transfer<'_>,
    target: Option<&Target>,
    manifest: &[u8],
    to: &Reference,
) -> Result<Carried, Failure> {
    let image = Digest::of(manifest);
    let lock = match target {
        Some(Target::Folder(project) | Target::Tag(project)) => {
            context.builder(None).existing_lock(project)?
        }
        _ => None,
    };
    let lock = lock.filter(|lock| builds(lock, image, manifest));
    let Some(lock) = lock else { return Ok(transfer.attach(to, image, &[])?) };
    let mut carried = transfer.attach(to, image, &sconce_audit::attachments(&lock, image))?;
    if let Some(first) = lock.private().first() {
        carried.left.push(format!("sconce.lock, for {first}"));
    }
    Ok(carried)
}

/// Says what went with an image, and what was left behind.
pub fn told(carried: &Carried) {
    if carried.count > 0 {
        eprintln!("beside it: {} (`sconce show` lists them)", files(carried.count));
    }
    for left in &carried.left {
        eprintln!("note: not put beside it: {}", crate::commands::show::shown(left));
    }
}

fn files(count: usize) -> String {
    if count == 1 { "1 artifact".to_owned() } else { format!("{count} artifacts") }
}

/// Whether an image is what a lock builds to, or has one more layer, that of the user's own files, which no
/// lock covers (docs/decision/0002-what-a-seal-covers.md).
pub fn builds(lock: &Lock, image: Digest, manifest: &[u8]) -> bool {
    let Some(sealed) = &lock.sealed else { return false };
    sealed.image == image || lies_on(sealed, manifest)
}

fn lies_on(sealed: &Sealed, manifest: &[u8]) -> bool {
    let Ok(Document::Manifest(manifest)) = Document::parse(manifest) else { return false };
    let Some((_, below)) = manifest.layers.split_last() else { return false };
    !sealed.layers.is_empty()
        && below.iter().map(|layer| layer.digest).eq(sealed.layers.iter().map(|layer| layer.digest))
}
