//! Image configuration, manifest and index as canonical JSON (OCI image-spec 1.1).
//!
//! Equal images have equal bytes: keys stand in the order of the structures below, maps are
//! sorted, what is empty is left out, and nothing stands between tokens.

use std::collections::{BTreeMap, BTreeSet};

use sconce_blob::Digest;
pub use sconce_oci::{CONFIG, Descriptor, INDEX, MANIFEST, Platform};
use serde::Serialize;

use crate::Layer;

/// How a container of the image starts ("Image configuration", `config`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Start {
    /// User and group, as names or numbers: `1000:1000`. Empty for root.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Ports it listens on: `6006/tcp`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", serialize_with = "as_keys")]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value`, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// What is always run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Its default arguments, or the default command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Where it runs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// What the image says of itself.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that ends it: `SIGTERM`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
}

/// What an image is for and made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// RFC 3339; [`Config::new`] says 1970.
    pub created: String,
    /// Go's name of the processor: `amd64` or `arm64`.
    pub architecture: String,
    /// How a container starts.
    pub start: Start,
    /// The layers, base first, each with the line that `history` has for it.
    pub layers: Vec<(Layer, String)>,
}

impl Config {
    /// An image without layers, made in 1970 for Linux.
    pub fn new(architecture: &str) -> Self {
        Self {
            created: "1970-01-01T00:00:00Z".to_owned(),
            architecture: architecture.to_owned(),
            start: Start::default(),
            layers: Vec::new(),
        }
    }

    /// The configuration's bytes; their digest is the image id.
    pub fn to_json(&self) -> Vec<u8> {
        let created = self.created.as_str();
        json(&ConfigJson {
            created,
            architecture: &self.architecture,
            os: "linux",
            config: &self.start,
            rootfs: RootfsJson {
                kind: "layers",
                diff_ids: self.layers.iter().map(|(layer, _)| layer.diff_id).collect(),
            },
            history: self
                .layers
                .iter()
                .map(|(_, created_by)| HistoryJson { created, created_by })
                .collect(),
        })
    }

    /// The manifest that names this configuration and its layers.
    pub fn manifest(&self, annotations: BTreeMap<String, String>) -> Manifest {
        let layers = self.layers.iter().map(|(layer, _)| Descriptor {
            media_type: layer.media_type().to_owned(),
            digest: layer.digest,
            size: layer.size,
            artifact_type: String::new(),
            annotations: BTreeMap::new(),
            platform: None,
        });
        Manifest {
            config: Descriptor::of(CONFIG, &self.to_json()),
            layers: layers.collect(),
            annotations,
        }
    }

    /// The platform, as an index says it.
    pub fn platform(&self) -> Platform {
        Platform { architecture: self.architecture.clone(), os: "linux".to_owned() }
    }
}

#[derive(Serialize)]
struct ConfigJson<'a> {
    created: &'a str,
    architecture: &'a str,
    os: &'static str,
    config: &'a Start,
    rootfs: RootfsJson,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    history: Vec<HistoryJson<'a>>,
}

#[derive(Serialize)]
struct RootfsJson {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: Vec<Digest>,
}

#[derive(Serialize)]
struct HistoryJson<'a> {
    created: &'a str,
    created_by: &'a str,
}

/// An image: its configuration and layers ("Image manifest").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The configuration.
    pub config: Descriptor,
    /// The layers, base first.
    pub layers: Vec<Descriptor>,
    /// What is said of the image.
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// The manifest's bytes; their digest is the image's.
    pub fn to_json(&self) -> Vec<u8> {
        json(&ManifestJson {
            schema_version: 2,
            media_type: MANIFEST,
            config: Some(&self.config),
            layers: Some(&self.layers),
            manifests: None,
            annotations: &self.annotations,
        })
    }
}

/// Several images, or one with its names ("Image index").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// The images.
    pub manifests: Vec<Descriptor>,
    /// What is said of them all.
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// The index's bytes.
    pub fn to_json(&self) -> Vec<u8> {
        json(&ManifestJson {
            schema_version: 2,
            media_type: INDEX,
            config: None,
            layers: None,
            manifests: Some(&self.manifests),
            annotations: &self.annotations,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestJson<'a> {
    schema_version: u8,
    media_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'a Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<&'a [Descriptor]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifests: Option<&'a [Descriptor]>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

/// `{"6006/tcp":{}}`: a set, as Go's encoder wrote one.
fn as_keys<S: serde::Serializer>(set: &BTreeSet<String>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(set.iter().map(|key| (key, BTreeMap::<(), ()>::new())))
}

/// Structures of texts, numbers and maps with text keys: writing them to memory can't fail.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(bytes: Vec<u8>, expected: Expect) {
        expected.assert_eq(std::str::from_utf8(&bytes).unwrap());
    }

    fn image() -> Config {
        let layer = Layer { diff_id: Digest::of(b"tar"), digest: Digest::of(b"blob"), size: 1234 };
        let mut config = Config::new("amd64");
        config.layers.push((layer, "torch 2.15.0".to_owned()));
        config.start = Start {
            env: vec!["PATH=/opt/venv/bin:/usr/bin".into(), "LANG=C.UTF-8".into()],
            cmd: vec!["python".into()],
            working_dir: "/app".into(),
            exposed_ports: ["6006/tcp".into()].into(),
            labels: [("b".into(), "\"2\"".into()), ("a".into(), "1".into())].into(),
            ..Start::default()
        };
        config
    }

    #[test]
    fn config_manifest_and_index_are_canonical() {
        let config = image();
        check(
            config.to_json(),
            expect![[
                r#"{"created":"1970-01-01T00:00:00Z","architecture":"amd64","os":"linux","config":{"ExposedPorts":{"6006/tcp":{}},"Env":["PATH=/opt/venv/bin:/usr/bin","LANG=C.UTF-8"],"Cmd":["python"],"WorkingDir":"/app","Labels":{"a":"1","b":"\"2\""}},"rootfs":{"type":"layers","diff_ids":["sha256:90aebae315675cbf04612de4f7d5874850f48e0b8dd82becbeaa47ca93f5ebfb"]},"history":[{"created":"1970-01-01T00:00:00Z","created_by":"torch 2.15.0"}]}"#
            ]],
        );
        let manifest = config.manifest(BTreeMap::new());
        check(
            manifest.to_json(),
            expect![[
                r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:d1bda10f56a8d558a0f8e0e3e0a6ea3410fc9a53426d20cf9e5a01202b36c772","size":422},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b8","size":1234}]}"#
            ]],
        );
        let mut entry = Descriptor::of(MANIFEST, &manifest.to_json());
        entry.platform = Some(config.platform());
        let index = Index { manifests: vec![entry], ..Index::default() };
        check(
            index.to_json(),
            expect![[
                r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:2dcf4db8b7477192a934222af1f9b891be8af5e4d682f7d15b88f82d5210f0e6","size":402,"platform":{"architecture":"amd64","os":"linux"}}]}"#
            ]],
        );
    }

    #[test]
    fn what_is_empty_is_left_out() {
        check(
            Config::new("arm64").to_json(),
            expect![[
                r#"{"created":"1970-01-01T00:00:00Z","architecture":"arm64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#
            ]],
        );
    }
}
