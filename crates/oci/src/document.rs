//! Manifests and indexes, and which image of an index is meant.

use sconce_blob::Digest;
use serde::{Deserialize, Serialize};

use crate::{Descriptor, INDEX, MANIFEST, MAX_LAYERS, or_default};

/// An image: its configuration and layers ("Image manifest").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    schema_version: u32,
    /// Which kind of manifest it says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artifact it says it is.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub(crate) artifact_type: String,
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, the base first.
    #[serde(default, deserialize_with = "or_default")]
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    /// One of OCI's kind.
    #[must_use]
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        let media_type = Some(MANIFEST.to_owned());
        Self { schema_version: 2, media_type, artifact_type: String::new(), config, layers }
    }

    /// Its bytes.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        json(self)
    }
}

/// Several images, or one with its names ("Image index").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    schema_version: u32,
    /// Which kind of index it says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The images, or other indexes.
    #[serde(default, deserialize_with = "or_default")]
    pub manifests: Vec<Descriptor>,
}

impl Index {
    /// One of OCI's kind.
    #[must_use]
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: Some(INDEX.to_owned()), manifests }
    }

    /// Its bytes.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        json(self)
    }

    /// The entry for Linux on a processor. An index of one entry need not say for whom it is.
    ///
    /// # Errors
    /// The processors that there are images for.
    pub fn choose(&self, architecture: &str) -> Result<&Descriptor, Vec<String>> {
        let platform = |row: &'_ Descriptor| row.platform.clone().unwrap_or_default();
        if let Some(row) = self.manifests.iter().find(|row| platform(row).is_linux_on(architecture))
        {
            return Ok(row);
        }
        match self.manifests.as_slice() {
            [row] if row.platform.is_none() => Ok(row),
            rows => Err(rows
                .iter()
                .map(platform)
                .filter(|platform| platform.os == "linux")
                .map(|platform| platform.architecture)
                .collect()),
        }
    }
}

/// What may stand behind the name of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several.
    Index(Index),
}

impl Document {
    /// Reads one. Which of the two it is, its fields say: media types are left out and wrong.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        // Its words are a client's to read.
        #[serde(rename_all = "camelCase", expecting = "a JSON object")]
        struct Either {
            #[serde(default, deserialize_with = "or_default")]
            schema_version: u32,
            media_type: Option<String>,
            #[serde(default, deserialize_with = "or_default")]
            artifact_type: String,
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
            manifests: Option<Vec<Descriptor>>,
        }
        let Either { schema_version, media_type, artifact_type, config, layers, manifests } =
            serde_json::from_slice(bytes)
                .map_err(|error| format!("no manifest of an OCI or Docker image: {error}"))?;
        if schema_version == 1 {
            return Err("a manifest of Docker's schema 1, which engines no longer take".to_owned());
        }
        match (config, manifests) {
            (Some(config), None) => {
                let layers = layers.unwrap_or_default();
                match layers.len() {
                    count if count > MAX_LAYERS => {
                        Err(format!("{count} layers; at most {MAX_LAYERS} can be mounted"))
                    }
                    _ => Ok(Self::Manifest(Manifest {
                        schema_version,
                        media_type,
                        artifact_type,
                        config,
                        layers,
                    })),
                }
            }
            (None, Some(manifests)) => {
                Ok(Self::Index(Index { schema_version, media_type, manifests }))
            }
            (Some(_), Some(_)) => Err("it is a manifest and an index at once".to_owned()),
            (None, None) => Err("it names neither a configuration nor manifests".to_owned()),
        }
    }

    /// The digest that its bytes have, where they have the one that is wanted.
    ///
    /// # Errors
    /// The digest they have instead.
    pub fn check(bytes: &[u8], wanted: Option<Digest>) -> Result<Digest, Digest> {
        let actual = Digest::of(bytes);
        if wanted.is_none_or(|wanted| wanted == actual) { Ok(actual) } else { Err(actual) }
    }
}

/// Texts, numbers and maps with text keys: writing them to memory can't fail.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn row(platform: &str) -> String {
        format!(r#"{{"digest":"{DIGEST}","size":1,"platform":{platform}}}"#)
    }

    #[test]
    fn the_fields_say_what_it_is() {
        let config = format!(r#"{{"mediaType":null,"digest":"{DIGEST}","size":1}}"#);
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":null}}"#);
        assert!(matches!(Document::parse(manifest.as_bytes()), Ok(Document::Manifest(_))));
        let index = r#"{"mediaType":"application/json","manifests":[]}"#;
        assert!(matches!(Document::parse(index.as_bytes()), Ok(Document::Index(_))));
        let many = vec![config.clone(); 1000].join(",");
        for (text, why) in [
            ("{}".to_owned(), "neither"),
            ("[]".to_owned(), "no manifest"),
            (format!(r#"{{"config":{config},"manifests":[]}}"#), "at once"),
            (format!(r#"{{"config":{config},"layers":[{many}]}}"#), "1000 layers"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), "schema 1"),
            (r#"{"config":{"digest":"../../etc/passwd","size":1}}"#.to_owned(), "not a SHA-256"),
            (format!(r#"{{"config":{{"digest":"{DIGEST}","size":-1}}}}"#), "no manifest"),
        ] {
            let error = Document::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn the_image_for_a_processor() {
        let index = |rows: &[String]| {
            let text = format!(r#"{{"manifests":[{}]}}"#, rows.join(","));
            match Document::parse(text.as_bytes()) {
                Ok(Document::Index(index)) => index,
                other => panic!("{other:?}"),
            }
        };
        let amd = row(r#"{"architecture":"amd64","os":"linux"}"#);
        let windows = row(r#"{"architecture":"amd64","os":"windows"}"#);
        let attestation = row(r#"{"architecture":"unknown","os":"unknown"}"#);
        let both = index(&[windows.clone(), attestation, amd]);
        assert_eq!(both.choose("amd64").unwrap().platform.as_ref().unwrap().os, "linux");
        assert_eq!(both.choose("arm64").unwrap_err(), ["amd64"]);
        assert!(index(&[windows]).choose("amd64").is_err());
        assert!(index(&[row("null")]).choose("arm64").is_ok());
        assert!(index(&[]).choose("amd64").is_err());
    }
}
