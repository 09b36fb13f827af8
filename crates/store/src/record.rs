//! The records of images, `images/<manifest digest>.json`, and the documents they are made from.
//!
//! A record is a function of manifest and config; its time of modification is that of the image's
//! last use, and a shared lock on it keeps the image from being pruned.

use std::collections::BTreeMap;

use sconce_blob::Digest;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::images::Image;
use crate::layers::Layer;

/// The largest manifest, config or index that is read, bytes. Registries take 4 MiB.
pub(crate) const DOCUMENT_LIMIT: u64 = 8 << 20;

/// The largest number of layers in an image. Docker's own limit is 125.
const MAX_LAYERS: usize = 1000;

/// What an image is made of.
#[derive(Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) manifest: Digest,
    pub(crate) config: Digest,
    pub(crate) size: u64,
    pub(crate) created: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) layers: Vec<Layer>,
}

impl From<Image> for Record {
    fn from(image: Image) -> Self {
        let Image { manifest, config, layers, size, created, labels, .. } = image;
        Self { manifest, config, size, created, labels, layers }
    }
}

/// What is read of an OCI image manifest (image-spec, manifest.md); Docker's schema 2 is alike.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// An OCI content descriptor (image-spec, descriptor.md).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// The platform of a manifest in an index (image-spec, image-index.md).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
}

/// What is read of an OCI image config (image-spec, config.md).
#[derive(Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    created: Option<String>,
    #[serde(default)]
    config: Option<RunConfig>,
    pub(crate) rootfs: RootFs,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RunConfig {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
pub(crate) struct RootFs {
    pub(crate) diff_ids: Vec<Digest>,
}

/// The record of an image, from its documents. `digest` is the manifest's.
pub(crate) fn of_documents(
    digest: Digest,
    manifest: &[u8],
    config: &[u8],
) -> Result<Record, Error> {
    let bad = |why: String| Error::BadDocument { what: format!("manifest {digest}"), why };
    if manifest.len() as u64 > DOCUMENT_LIMIT || config.len() as u64 > DOCUMENT_LIMIT {
        return Err(bad(format!("it or its config is larger than {DOCUMENT_LIMIT} bytes")));
    }
    let parsed: Manifest =
        serde_json::from_slice(manifest).map_err(|error| bad(error.to_string()))?;
    let config_digest = Digest::of(config);
    if parsed.config.digest != config_digest {
        return Err(bad(format!(
            "it names the config {}, but the config given is {config_digest}",
            parsed.config.digest
        )));
    }
    let read: Config = serde_json::from_slice(config)
        .map_err(|error| bad(format!("its config can't be read: {error}")))?;
    if parsed.layers.len() != read.rootfs.diff_ids.len() {
        return Err(bad(format!(
            "it has {} layers, but its config has {} DiffIDs",
            parsed.layers.len(),
            read.rootfs.diff_ids.len()
        )));
    }
    if parsed.layers.len() > MAX_LAYERS {
        return Err(bad(format!("{} layers are too many", parsed.layers.len())));
    }
    let mut size = (manifest.len() + config.len()) as u64;
    let mut layers = Vec::new();
    for (layer, diff_id) in parsed.layers.into_iter().zip(read.rootfs.diff_ids) {
        size = size.checked_add(layer.size).ok_or_else(|| bad("its size overflows".into()))?;
        let Descriptor { digest, size, media_type, .. } = layer;
        layers.push(Layer { diff_id, digest, size, media_type });
    }
    Ok(Record {
        manifest: digest,
        config: config_digest,
        size,
        created: read.created,
        labels: read.config.and_then(|config| config.labels).unwrap_or_default(),
        layers,
    })
}
