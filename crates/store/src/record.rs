//! The records of images, `images/<manifest digest>.json`, and the documents they are made from.
//!
//! A record is a function of manifest and config; its time of modification is that of the image's
//! last use, and a shared lock on it keeps the image from being pruned.

use std::collections::BTreeMap;

use sconce_blob::Digest;
use sconce_oci::{Config, Descriptor, Document, Manifest};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::images::Image;
use crate::layers::Layer;

/// The largest manifest, config or index that is read, bytes.
pub(crate) const DOCUMENT_LIMIT: u64 = sconce_oci::MAX_CONFIG;

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
    let parsed = match Document::parse(manifest).map_err(bad)? {
        Document::Manifest(manifest) => manifest,
        Document::Index(_) => return Err(bad("it is an index of several images".to_owned())),
    };
    check_image(&parsed).map_err(bad)?;
    let read = Config::parse(config).map_err(bad)?;
    read.check(config, &parsed).map_err(bad)?;
    let mut size = (manifest.len() + config.len()) as u64;
    let mut layers = Vec::new();
    for (layer, diff_id) in parsed.layers.into_iter().zip(read.diff_ids()) {
        size = size.checked_add(layer.size).ok_or_else(|| bad("its size overflows".into()))?;
        let Descriptor { digest, size, media_type, .. } = layer;
        layers.push(Layer { diff_id: *diff_id, digest, size, media_type });
    }
    let labels = read.process.labels.unwrap_or_default().into_iter();
    Ok(Record {
        manifest: digest,
        config: parsed.config.digest,
        size,
        created: read.created,
        labels: labels.map(|(key, value)| (key, value.unwrap_or_default())).collect(),
        layers,
    })
}

/// That a manifest is of an image.
pub(crate) fn check_image(manifest: &Manifest) -> Result<(), String> {
    match manifest.artifact() {
        None => Ok(()),
        Some(kind) => Err(format!("it is an artifact of type `{kind}`, and no image")),
    }
}
