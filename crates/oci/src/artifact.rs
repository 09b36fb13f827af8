//! Artifacts: manifests of what is not an image, and the lists of those that refer to one.
//!
//! Sources: image-spec 1.1, "Guidelines for Artifact Usage"; distribution-spec 1.1, "Listing Referrers"
//! and "Referrers Tag Schema".

use std::collections::BTreeMap;

use sconce_blob::Digest;
use serde::{Deserialize, Serialize};

use crate::{Descriptor, INDEX, MANIFEST, MAX_LAYERS, MAX_MANIFEST, or_default, texts};

/// Media type of a configuration that says nothing: the two bytes `{}`.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// What a configuration that says nothing holds.
pub const EMPTY_BYTES: &[u8] = b"{}";
/// The most rows of one list. Anybody who may write to a registry adds rows: a long list is no reason to read none.
pub const MAX_REFERRERS: usize = 20_000;
/// The largest manifest of an artifact that is read, bytes: of a few files, with what is said of them.
pub const MAX_ARTIFACT: u64 = 256 << 10;

/// The manifest of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a JSON object")]
pub struct Artifact {
    schema_version: u32,
    #[serde(default, deserialize_with = "or_default")]
    media_type: String,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    artifact_type: String,
    /// Its configuration.
    pub config: Descriptor,
    /// What it is made of.
    #[serde(default, deserialize_with = "or_default")]
    pub layers: Vec<Descriptor>,
    /// The image that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// What is said of it.
    #[serde(default, deserialize_with = "texts", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Artifact {
    /// One of a kind, about an image, with one file.
    #[must_use]
    pub fn new(kind: &str, subject: Descriptor, file: Descriptor) -> Self {
        Self {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            artifact_type: kind.to_owned(),
            config: Descriptor::of(EMPTY, EMPTY_BYTES),
            layers: vec![file],
            subject: Some(subject),
            annotations: BTreeMap::new(),
        }
    }

    /// One in the form of an image that is about nothing by its fields: its tag says what it is about.
    #[must_use]
    pub fn under_tag(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            artifact_type: String::new(),
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let read: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("no manifest of an artifact: {error}"))?;
        match read.layers.len() {
            count if count > MAX_LAYERS => {
                Err(format!("{count} files; at most {MAX_LAYERS} are read"))
            }
            _ => Ok(read),
        }
    }

    /// What kind of thing it is: its own word for it, else the type of its configuration.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self.artifact_type.as_str() {
            "" => &self.config.media_type,
            kind => kind,
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Texts, numbers and maps with text keys: writing them to memory can't fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// An artifact in a list of those about an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a descriptor, which is a JSON object")]
pub struct Referrer {
    /// Which kind of manifest it is.
    #[serde(default, deserialize_with = "or_default")]
    pub media_type: String,
    /// Its SHA-256.
    pub digest: Digest,
    /// Its length, bytes.
    pub size: u64,
    /// What the list says it is. Lists are wrong about it: cosign 3.1 writes the type of the empty
    /// configuration. The manifest knows.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
    /// What is said of it.
    #[serde(default, deserialize_with = "texts", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Referrer {
    /// The row for an artifact whose manifest is `bytes`.
    #[must_use]
    pub fn of(artifact: &Artifact, bytes: &[u8]) -> Self {
        Self {
            media_type: MANIFEST.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            artifact_type: artifact.kind().to_owned(),
            annotations: artifact.annotations.clone(),
        }
    }

    /// Reads a list: an index.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub fn list(bytes: &[u8]) -> Result<Vec<Self>, String> {
        #[derive(Deserialize)]
        struct List {
            #[serde(default, deserialize_with = "or_default")]
            manifests: Vec<Referrer>,
        }
        // serde takes an array for a struct, and an empty one for an empty list.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err("no list of artifacts: it is not a JSON object".to_owned());
        }
        let List { manifests } = serde_json::from_slice(bytes)
            .map_err(|error| format!("no list of artifacts: {error}"))?;
        match manifests.len() {
            count if count > MAX_REFERRERS => {
                Err(format!("{count} artifacts; at most {MAX_REFERRERS} are read"))
            }
            _ => Ok(manifests),
        }
    }

    /// The list with this row behind what is there; `None` where it is in it already. What others wrote
    /// stays as it is.
    ///
    /// # Errors
    /// What is there is no list, or would become too long.
    pub fn add_to(&self, list: Option<&[u8]>) -> Result<Option<Vec<u8>>, String> {
        let there = list.map(Self::list).transpose()?.unwrap_or_default();
        if there.iter().any(|row| row.digest == self.digest) {
            return Ok(None);
        }
        let wrong = |error: serde_json::Error| format!("no list of artifacts: {error}");
        let mut document = match list {
            Some(bytes) => serde_json::from_slice(bytes).map_err(wrong)?,
            None => serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}),
        };
        if document["manifests"].is_null() {
            document["manifests"] = serde_json::json!([]);
        }
        let row = serde_json::to_value(self).map_err(wrong)?;
        let rows = document["manifests"].as_array_mut().ok_or("no list of artifacts")?;
        rows.push(row);
        let bytes = serde_json::to_vec(&document).map_err(wrong)?;
        match there.len() < MAX_REFERRERS && bytes.len() as u64 <= MAX_MANIFEST {
            true => Ok(Some(bytes)),
            false => Err(format!("the list of artifacts is full, with {}", there.len())),
        }
    }
}

/// A list of artifacts.
#[must_use]
pub fn list_of(rows: &[Referrer]) -> Vec<u8> {
    let list = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": rows});
    list.to_string().into_bytes()
}

/// The tag of the list of artifacts about an image, in registries that make none themselves.
#[must_use]
pub fn referrers_tag(image: Digest) -> String {
    format!("sha256-{}", image.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_what_others_wrote() {
        let subject = Descriptor::of(MANIFEST, b"image");
        let artifact = Artifact::new("a/b", subject, Descriptor::of("c/d", b"file"));
        let bytes = artifact.to_json();
        assert_eq!(Artifact::parse(&bytes).unwrap(), artifact);
        assert_eq!(artifact.kind(), "a/b");
        let row = Referrer::of(&artifact, &bytes);
        let first = row.add_to(None).unwrap().unwrap();
        assert_eq!(row.add_to(Some(&first)).unwrap(), None);
        assert_eq!(Referrer::list(&first).unwrap(), std::slice::from_ref(&row));
        let theirs = br#"{"schemaVersion":2,"x":1,"manifests":null}"#;
        let text = String::from_utf8(row.add_to(Some(theirs)).unwrap().unwrap()).unwrap();
        assert!(text.starts_with(r#"{"schemaVersion":2,"x":1,"manifests":[{"#), "{text}");
        for text in ["[]", "{", r#"{"manifests":[{}]}"#, r#"{"manifests":{}}"#] {
            assert!(row.add_to(Some(text.as_bytes())).is_err(), "{text}");
        }
        let row = String::from_utf8(serde_json::to_vec(&row).unwrap()).unwrap();
        let many = format!(r#"{{"manifests":[{}]}}"#, vec![row; MAX_REFERRERS + 1].join(","));
        assert!(Referrer::list(many.as_bytes()).unwrap_err().contains("20001 artifacts"));
    }

    #[test]
    fn what_stands_there_twice_is_refused() {
        let digest = Digest::of(b"x");
        let row = format!(r#"{{"digest":"{digest}","size":1,"annotations":{{"a":"1","a":"2"}}}}"#);
        let manifest = format!(r#"{{"schemaVersion":2,"config":{row}}}"#);
        assert!(
            Artifact::parse(manifest.as_bytes()).unwrap_err().contains("`a` stands there twice")
        );
        let list = format!(r#"{{"manifests":[{row}]}}"#);
        assert!(Referrer::list(list.as_bytes()).unwrap_err().contains("`a` stands there twice"));
        let null = row.replace(r#"{"a":"1","a":"2"}"#, "null");
        assert!(Referrer::list(format!(r#"{{"manifests":[{null}]}}"#).as_bytes()).is_ok());
    }
}
