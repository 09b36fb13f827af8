//! Media types: which there are of images, and what a manifest with others is.
//!
//! Sources: image-spec 1.1 (media-types.md); Docker's "Image Manifest Version 2, Schema 2"; containerd's `images/mediatypes.go` for Docker's
//! layers with zstd. OCI's and Docker's stand side by side in one manifest: containerd and skopeo take that, and tools make it. What a layer is packed with its
//! bytes say, as for those.

use crate::{CONFIG, DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST, Manifest};

/// What a media type is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One image's manifest.
    Manifest,
    /// A list of manifests.
    Index,
    /// The configuration of an image.
    Config,
    /// A layer of an image.
    Layer,
}

const KNOWN: [(&str, Role); 18] = [
    (MANIFEST, Role::Manifest),
    (DOCKER_MANIFEST, Role::Manifest),
    (INDEX, Role::Index),
    (DOCKER_INDEX, Role::Index),
    (CONFIG, Role::Config),
    ("application/vnd.docker.container.image.v1+json", Role::Config),
    ("application/vnd.oci.image.layer.v1.tar", Role::Layer),
    ("application/vnd.oci.image.layer.v1.tar+gzip", Role::Layer),
    ("application/vnd.oci.image.layer.v1.tar+zstd", Role::Layer),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar", Role::Layer),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Role::Layer),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", Role::Layer),
    ("application/vnd.docker.image.rootfs.diff.tar", Role::Layer),
    ("application/vnd.docker.image.rootfs.diff.tar.gzip", Role::Layer),
    ("application/vnd.docker.image.rootfs.diff.tar.zstd", Role::Layer),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar", Role::Layer),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Role::Layer),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar.zstd", Role::Layer),
];

/// What it is a media type of; nothing where it is of nothing that belongs to images.
#[must_use]
pub fn role(media_type: &str) -> Option<Role> {
    KNOWN.iter().find(|(known, _)| *known == media_type).map(|(_, role)| *role)
}

impl Manifest {
    /// What it is of, if that is no image: its own word for it, else the type of its configuration. A missing type says nothing: images of
    /// old tools have none.
    #[must_use]
    pub fn artifact(&self) -> Option<String> {
        let config = self.config.media_type.as_str();
        let is_image = role(config) == Some(Role::Config);
        match (self.artifact_type.as_str(), config) {
            _ if is_image => None,
            ("", "") => None,
            ("", kind) | (kind, _) => Some(short(kind)),
        }
    }

    /// That all its layers can be an image's.
    ///
    /// # Errors
    /// In words, which can't.
    pub fn check_layers(&self) -> Result<(), String> {
        let kinds = self.layers.iter().map(|layer| layer.media_type.as_str());
        let odd =
            kinds.into_iter().find(|kind| !kind.is_empty() && role(kind) != Some(Role::Layer));
        match odd {
            None => Ok(()),
            Some(kind) if kind.ends_with("+encrypted") => Err(format!(
                "it has an encrypted layer (`{}`), which sconce doesn't read",
                short(kind)
            )),
            Some(kind) => Err(format!("`{}` is no layer of an image", short(kind))),
        }
    }

    /// That it says of each of its parts what that is: what is not said, other programs guess.
    ///
    /// # Errors
    /// In words, of which it does not.
    pub fn check_types(&self) -> Result<(), String> {
        let silent = |kind: &str| kind.is_empty();
        match silent(&self.config.media_type) {
            true => Err("its configuration has no media type".to_owned()),
            false if self.layers.iter().any(|layer| silent(&layer.media_type)) => {
                Err("a layer has no media type".to_owned())
            }
            false => Ok(()),
        }
    }
}

/// A stranger's word for a type, as it can stand in a sentence.
fn short(kind: &str) -> String {
    kind.chars().filter(char::is_ascii_graphic).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Document;

    fn manifest(artifact: &str, config: &str, layer: &str) -> Manifest {
        let digest = sconce_blob::Digest::of(b"x");
        let row = |kind| format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":1}}"#);
        let text = format!(
            r#"{{"schemaVersion":2,"artifactType":"{artifact}","config":{},"layers":[{}]}}"#,
            row(config),
            row(layer)
        );
        match Document::parse(text.as_bytes()) {
            Ok(Document::Manifest(manifest)) => manifest,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_an_image() {
        let docker = "application/vnd.docker.container.image.v1+json";
        let helm = "application/vnd.cncf.helm.config.v1+json";
        for (artifact, config, expected) in [
            ("", CONFIG, None),
            ("", docker, None),
            ("", "", None),
            ("x/y", CONFIG, None),
            ("", helm, Some(helm)),
            ("x/y", helm, Some("x/y")),
            ("x/y", "", Some("x/y")),
            ("", crate::EMPTY, Some(crate::EMPTY)),
        ] {
            let found = manifest(artifact, config, "").artifact();
            assert_eq!(found.as_deref(), expected, "{artifact} {config}");
        }
        for (layer, is_layer, is_said) in [
            (crate::LAYER, true, true),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", true, true),
            ("", true, false),
            ("text/html", false, true),
            (CONFIG, false, true),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", false, true),
        ] {
            let read = manifest("", docker, layer);
            let found = (read.check_layers().is_ok(), read.check_types().is_ok());
            assert_eq!(found, (is_layer, is_said), "{layer}");
        }
        assert!(manifest("", "", crate::LAYER).check_types().is_err());
    }
}
