//! "Simple signing": the older form, a payload as a layer with its signature as an annotation.
//!
//! Source: cosign's `specs/SIGNATURE_SPEC.md`; containers-signature(5) has the payload.

use sconce_blob::Digest;
use serde::{Deserialize, Serialize};

use crate::MAX_DOCUMENT;
use crate::json;

/// Media type of a payload.
pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation that its signature stands in, in base64.
pub const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// What cosign's payloads say they are.
const KIND: &str = "cosign container image signature";

#[derive(Serialize, Deserialize)]
pub(crate) struct Payload {
    critical: Critical,
    #[serde(default)]
    optional: Option<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct Critical {
    identity: Identity,
    image: ImageDigest,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize, Deserialize)]
struct Identity {
    #[serde(rename = "docker-reference")]
    docker_reference: String,
}

#[derive(Serialize, Deserialize)]
struct ImageDigest {
    #[serde(rename = "docker-manifest-digest")]
    docker_manifest_digest: Digest,
}

impl Payload {
    /// The image that a payload speaks of. The name it was signed under is not looked at: images are
    /// copied to other registries, and cosign does not look at it either.
    pub(crate) fn image(bytes: &[u8]) -> Result<Digest, String> {
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(format!("it has more than {MAX_DOCUMENT} bytes"));
        }
        let payload: Self = json::parse(bytes)
            .map_err(|error| format!("what is signed is not a payload of cosign's: {error}"))?;
        match payload.critical.kind == KIND {
            true => Ok(payload.critical.image.docker_manifest_digest),
            false => Err(format!("what is signed says that it is `{}`", payload.critical.kind)),
        }
    }

    /// The payload for an image of a repository, `HOST/NAME`.
    pub(crate) fn of(repository: &str, image: Digest) -> Vec<u8> {
        let payload = Self {
            critical: Critical {
                identity: Identity { docker_reference: repository.to_owned() },
                image: ImageDigest { docker_manifest_digest: image },
                kind: KIND.to_owned(),
            },
            optional: None,
        };
        // Texts alone: writing them to memory can't fail.
        serde_json::to_vec(&payload).unwrap_or_default()
    }
}
