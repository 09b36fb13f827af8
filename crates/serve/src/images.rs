//! The images of the store by the names that a registry gives them.

use std::collections::BTreeMap;

use sconce_blob::Digest;
use sconce_oci::DOCKER_HUB;
use sconce_store::Store;

use crate::route::{is_name, is_tag};

/// What follows Docker Hub's name in `docker.io/library/alpine`: its images have it before theirs in the store and not where
/// they are asked for.
fn of_hub(name: &str) -> Option<&str> {
    let rest = name.strip_prefix(DOCKER_HUB)?.strip_prefix('/')?;
    Some(rest.strip_prefix("library/").unwrap_or(rest))
}

/// Repository and tag of a name; `None` for one that no client can ask for (a host with a port).
fn parts(name: &str) -> Option<(&str, &str)> {
    let short = of_hub(name).unwrap_or(name);
    let (repository, tag) = match short.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (short, "latest"),
    };
    (is_name(repository) && is_tag(tag)).then_some((repository, tag))
}

/// The names of the store as repositories with their tags.
pub(crate) fn repositories(
    store: &Store,
) -> Result<BTreeMap<String, BTreeMap<String, Digest>>, sconce_store::Error> {
    let mut found: BTreeMap<String, BTreeMap<String, Digest>> = BTreeMap::new();
    let names = store.names()?;
    // A name of one's own hides Docker Hub's, and `app:latest` hides `app`.
    let (ours, hubs): (Vec<_>, Vec<_>) = names.iter().partition(|(name, _)| of_hub(name).is_none());
    let (tagged, bare): (Vec<_>, Vec<_>) =
        ours.into_iter().partition(|(name, _)| name.ends_with(":latest"));
    for (name, digest) in tagged.into_iter().chain(bare).chain(hubs) {
        if let Some((repository, tag)) = parts(name) {
            let tags = found.entry(repository.to_owned()).or_default();
            tags.entry(tag.to_owned()).or_insert(*digest);
        }
    }
    Ok(found)
}

/// The image that a name means.
pub(crate) fn find(
    store: &Store,
    repository: &str,
    tag: &str,
) -> Result<Option<Digest>, sconce_store::Error> {
    Ok(repositories(store)?.get(repository).and_then(|tags| tags.get(tag)).copied())
}

/// Whether each part of an image can be sent. One that was made to be started, and pruned since, may have
/// trees alone.
pub(crate) fn is_whole(
    store: &Store,
    image: &sconce_store::Image,
) -> Result<bool, sconce_store::Error> {
    let layers = image.layers.iter().map(|layer| layer.digest);
    for digest in layers.chain([image.config, image.manifest]) {
        if !store.has_blob(digest)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The part of an image that is a file of another size than the image says, in words. Its digest would be found to be
/// another one when a client has all of it.
pub(crate) fn damaged(store: &Store, image: &sconce_store::Image) -> Option<String> {
    let mut layers = image.layers.iter();
    layers.find_map(|layer| store.check_size(layer.digest, layer.size).err()).map(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn names_as_they_are_asked_for() {
        for (name, expected) in [
            ("torch:2.15.0", Some(("torch", "2.15.0"))),
            ("demo", Some(("demo", "latest"))),
            ("lab/demo:1", Some(("lab/demo", "1"))),
            ("docker.io/library/alpine:3", Some(("alpine", "3"))),
            ("docker.io/team/app:3", Some(("team/app", "3"))),
            ("ghcr.io/team/app:1", Some(("ghcr.io/team/app", "1"))),
            ("127.0.0.1:5000/app:1", None),
            ("a@b", None),
        ] {
            assert_eq!(parts(name), expected, "{name}");
        }
    }
}
