//! Manifests and indexes, as far as reading an image needs them.
//!
//! Source: image-spec "Image Manifest", "Image Index"; Docker's "Image Manifest Version 2,
//! Schema 2", which has the same fields.

use sconce_blob::Digest;
use serde::Deserialize;

/// Media types that are asked for.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";
/// Kernels stop at 500 layers, engines at 127.
const MAX_LAYERS: usize = 512;

/// A blob of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Its SHA-256.
    pub digest: Digest,
    /// Its length, bytes.
    pub size: u64,
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// For which processor, in an index.
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Platform {
    architecture: String,
    os: String,
}

/// An index or a manifest: one of the two lists is there.
#[derive(Deserialize)]
pub(crate) struct Document {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

/// An image whose layers are still in the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The digest of its manifest.
    pub digest: Digest,
    /// Its configuration, the bytes of the document.
    pub config: Vec<u8>,
    /// Its layers, the base first.
    pub layers: Vec<Descriptor>,
    /// The DiffID of each.
    pub diff_ids: Vec<Digest>,
}

/// Where a document leads.
pub(crate) enum Next {
    /// To another document: the manifest for a processor.
    Document(Descriptor),
    /// To an image.
    Image { config: Descriptor, layers: Vec<Descriptor> },
    /// Nowhere for this processor; these are there.
    Elsewhere(Vec<String>),
}

impl Document {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let document: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("no manifest of an OCI or Docker image: {error}"))?;
        if document.layers.len() > MAX_LAYERS {
            return Err(format!("{} layers; at most {MAX_LAYERS} here", document.layers.len()));
        }
        Ok(document)
    }

    pub(crate) fn next(self, architecture: &str) -> Next {
        if let Some(config) = self.config {
            return Next::Image { config, layers: self.layers };
        }
        let fits = |row: &&Descriptor| {
            let platform = row.platform.as_ref();
            platform.is_some_and(|is| is.os == "linux" && is.architecture == architecture)
        };
        match self.manifests.iter().find(fits) {
            Some(row) => Next::Document(row.clone()),
            // An index of one image need not say for whom it is.
            None => match self.manifests.as_slice() {
                [row] if row.platform.is_none() => Next::Document(row.clone()),
                rows => {
                    let platforms = rows.iter().filter_map(|row| row.platform.as_ref());
                    let known = platforms.filter(|is| is.os == "linux");
                    Next::Elsewhere(known.map(|is| is.architecture.clone()).collect())
                }
            },
        }
    }
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    architecture: String,
    rootfs: Rootfs,
}

#[derive(Deserialize)]
struct Rootfs {
    diff_ids: Vec<Digest>,
}

/// The processor and the DiffIDs of a configuration.
pub(crate) fn config(bytes: &[u8]) -> Result<(String, Vec<Digest>), String> {
    let config: Config = serde_json::from_slice(bytes)
        .map_err(|error| format!("no configuration of an image: {error}"))?;
    Ok((config.architecture, config.rootfs.diff_ids))
}
