//! in-toto statements: what a bundle's payload says of which image.
//!
//! Source: in-toto attestation framework, "Statement" v1; cosign's `specs/BUNDLE_SPEC.md`. A plain
//! signature is a statement whose predicate says nothing.

use std::collections::BTreeMap;

use sconce_blob::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json;

/// Media type of a statement.
pub(crate) const PAYLOAD: &str = "application/vnd.in-toto+json";
/// What a statement says it is. cosign's older attestations say v0.1, of the same fields.
const TYPES: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
/// The predicate of a plain signature.
pub const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";
/// The predicate of an SBOM, as `cosign attest --type cyclonedx` has it.
pub const SBOM: &str = "https://cyclonedx.org/bom";
/// The predicate of how an image was built, as `cosign attest --type slsaprovenance1` has it.
pub const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
/// The predicate of a lock: `{"lock": TEXT}`.
pub const LOCK: &str = "urn:x-sconce:lock:v1";

/// What is said of images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    /// What kind of thing is said: [`SIGNED`], `https://cyclonedx.org/bom`.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// What is said.
    #[serde(default)]
    pub predicate: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
    // cosign writes it, empty, and no name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<String, Value>>,
}

impl Statement {
    /// Something said of one image.
    #[must_use]
    pub fn new(image: Digest, predicate_type: &str, predicate: Value) -> Self {
        let digest = BTreeMap::from([("sha256".to_owned(), image.hex())]);
        Self {
            kind: TYPES[0].to_owned(),
            subject: vec![Subject { digest, annotations: Some(BTreeMap::new()) }],
            predicate_type: predicate_type.to_owned(),
            predicate,
        }
    }

    /// That the image is signed, and nothing else.
    #[must_use]
    pub fn signed(image: Digest) -> Self {
        Self::new(image, SIGNED, Value::Object(serde_json::Map::new()))
    }

    pub(crate) fn parse(payload: &[u8]) -> Result<Self, String> {
        let read: Self = json::parse(payload)
            .map_err(|error| format!("what is signed is not an in-toto statement: {error}"))?;
        match TYPES.contains(&read.kind.as_str()) {
            true => Ok(read),
            false => Err(format!("what is signed says that it is `{}`", read.kind)),
        }
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        // Texts and maps with text keys: writing them to memory can't fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The images it speaks of.
    pub(crate) fn images(&self) -> Vec<Digest> {
        let hex = |subject: &Subject| {
            let hex = subject.digest.get("sha256")?;
            format!("sha256:{hex}").parse().ok()
        };
        self.subject.iter().filter_map(hex).collect()
    }
}
