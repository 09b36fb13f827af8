//! OCI's documents, and Docker's of the same fields: what they hold, how large they may be, and
//! what makes one valid; and the compressions of layers.
//!
//! Sources: image-spec 1.1 (descriptor.md, manifest.md, image-index.md, config.md);
//! distribution-spec 1.1; Docker's "Image Manifest Version 2, Schema 2". Go writes `null` where
//! nothing is set, so `null` is the same as a missing field everywhere.

mod artifact;
mod compression;
mod config;
mod document;
mod hub;
mod kinds;
pub mod name;
mod transport;
mod turn;

use std::collections::BTreeMap;
use std::fmt;

use sconce_blob::Digest;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

pub use artifact::{
    Artifact, EMPTY, EMPTY_BYTES, MAX_ARTIFACT, MAX_REFERRERS, Referrer, list_of, referrers_tag,
};
pub use compression::{Packing, Zstd, unpacked, unpacked_layer};
pub use config::{Config, Process};
pub use document::{Document, Index, Manifest};
pub use hub::{DOCKER_HUB, DOCKER_HUB_HOSTS, DOCKER_HUB_REGISTRY};
pub use kinds::{Role, role};
pub use transport::Transport;

/// Media type of an image's configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of a layer as it is, without compression.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Docker's media type of a manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's media type of an index.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// The largest manifest or index that is read, bytes: what registries must take
/// (distribution-spec, "Pushing Manifests").
pub const MAX_MANIFEST: u64 = 4 << 20;
/// The largest configuration that is read, bytes.
pub const MAX_CONFIG: u64 = 8 << 20;
/// The most layers of an image. Linux mounts 500 with overlayfs, Docker takes 125.
pub const MAX_LAYERS: usize = 500;
/// How often an index may lead to another one.
pub const MAX_NESTING: usize = 4;

/// A blob by its digest ("Content descriptors").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a descriptor, which is a JSON object")]
pub struct Descriptor {
    /// What it is.
    #[serde(default, deserialize_with = "or_default")]
    pub media_type: String,
    /// Its SHA-256.
    pub digest: Digest,
    /// Its length, bytes.
    pub size: u64,
    /// What kind of artifact it is; in an index only, and there of what is not an image.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
    /// What is said of it.
    #[serde(default, deserialize_with = "texts", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What it runs on; in an index only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// Of bytes at hand.
    #[must_use]
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            artifact_type: String::new(),
            annotations: BTreeMap::new(),
            platform: None,
        }
    }
}

/// What an image runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(expecting = "a platform, which is a JSON object")]
pub struct Platform {
    /// Go's name of the processor: `amd64`, `arm64`.
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    /// `linux`.
    #[serde(default, deserialize_with = "or_default")]
    pub os: String,
}

impl Platform {
    /// Whether it is Linux on this processor.
    #[must_use]
    pub fn is_linux_on(&self, architecture: &str) -> bool {
        self.os == "linux" && self.architecture == architecture
    }
}

/// What is written, or the default where that is `null`.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Annotations. A name that stands there twice is refused: of its two values, readers take different ones.
fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Texts;
    impl<'de> Visitor<'de> for Texts {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("an object of texts")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut texts = BTreeMap::new();
            while let Some((name, text)) = map.next_entry::<String, String>()? {
                if texts.contains_key(&name) {
                    return Err(de::Error::custom(format!("`{name}` stands there twice")));
                }
                texts.insert(name, text);
            }
            Ok(texts)
        }
    }
    from.deserialize_any(Texts)
}
