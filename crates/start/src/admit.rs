//! What a policy file asks of an image before it starts, or leaves the store under another name: each way to it is looked at.

use sconce_blob::Digest;
use sconce_oci::name::plain_name;
use sconce_registry::Reference;
use sconce_store::Image;
use sconce_transfer::{Origin, Transfer};

use crate::error::Error;
use crate::target::{Target, has_name};

/// Whether the policy lets an image of the store start that a person means by `target`. It is asked of each name that is meant: as of
/// what is in that registry, and as of what a client pushed under it. An image without any name is a client's that only a client has brought,
/// else of unknown origin. What was built here is nobody else's.
///
/// # Errors
/// It does not, or the store or a registry can't be read.
pub fn admit_stored(
    transfer: &Transfer<'_>,
    target: &Target,
    image: &Image,
    architecture: &str,
) -> Result<(), Error> {
    for reference in pulled_as(target, image) {
        transfer.admit_stored(&reference, image.manifest, architecture)?;
    }
    for name in meant(target, image) {
        if transfer.store.is_pushed(&name, image.manifest)? {
            transfer.admit_from(Origin::Pushed, &name, image.manifest)?;
        }
    }
    match target.project() {
        None if image.names.is_empty() => {
            let origin = match transfer.store.is_pushed_image(image.manifest)? {
                true => Origin::Pushed,
                false => Origin::Files,
            };
            Ok(transfer.admit_from(origin, &image.manifest.short(), image.manifest)?)
        }
        _ => Ok(()),
    }
}

/// Whether the policy lets an image in that comes from a layout or an archive.
///
/// # Errors
/// It does not, or the store can't be read.
pub fn admit_file(transfer: &Transfer<'_>, text: &str, image: Digest) -> Result<(), Error> {
    Ok(transfer.admit_from(Origin::Files, text, image)?)
}

/// The names of registries under which an image of the store is meant: a policy may ask for its
/// signature. One that was built here, or that a person gave a name of their own, is nobody else's; by
/// its digest it is meant under all its names.
#[must_use]
pub fn pulled_as(target: &Target, image: &Image) -> Vec<Reference> {
    let whole = |name: &str| Reference::parse(name).ok().filter(|read| read.to_string() == name);
    if let Target::Reference(text) = target
        && !image.names.contains(&plain_name(text))
        && !image.names.iter().any(|name| has_name(text, name))
    {
        return Vec::from_iter(Reference::parse(text).ok());
    }
    match target.project() {
        Some(_) => Vec::new(),
        None => meant(target, image).iter().filter_map(|name| whole(name)).collect(),
    }
}

/// The names of the image that are meant: one, or all of them where it is named by its digest.
fn meant(target: &Target, image: &Image) -> Vec<String> {
    let named = |text: &str| Some(plain_name(text)).filter(|name| image.names.contains(name));
    let one_or_all =
        |text: &str| named(text).map_or_else(|| image.names.clone(), |name| vec![name]);
    match target {
        Target::Image(text) | Target::Stored(text) => one_or_all(text),
        // A file of that name changes nothing of which image it is.
        Target::Path(path) => one_or_all(&path.to_string_lossy()),
        Target::Reference(text) => {
            let full = || Reference::parse(text).ok().and_then(|read| named(&read.to_string()));
            let one = named(text).or_else(full);
            let by_digest = || image.names.iter().filter(|name| has_name(text, name)).cloned();
            one.map_or_else(|| by_digest().collect(), |one| vec![one])
        }
        Target::Tag(project) => project.name().and_then(|name| named(&name)).into_iter().collect(),
        // A folder's image was built just now.
        Target::Folder(_) | Target::Layout { .. } | Target::Archive { .. } => Vec::new(),
    }
}
