//! Sigstore bundles: a signed statement in a DSSE envelope.
//!
//! Source: sigstore `protobuf-specs`, `sigstore_bundle.proto` v0.3; DSSE 1.0, "PAE"; what cosign 3.1
//! writes. Entries of transparency logs and timestamps may be in a bundle. They are not read: nothing
//! is proved by them here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::json;
use crate::key::{PrivateKey, PublicKey};
use crate::statement::{PAYLOAD, Statement};
use crate::{Error, MAX_DOCUMENT};

/// Media type of a bundle, and the type of the artifact that brings one.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// Annotation of a manifest that brings a bundle: what is in it, and the value for a statement.
pub const CONTENT: (&str, &str) = ("dev.sigstore.bundle.content", "dsse-envelope");
/// Annotation of a manifest that brings a bundle: the kind of its predicate.
pub const PREDICATE_TYPE: &str = "dev.sigstore.bundle.predicateType";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bundle {
    media_type: String,
    #[serde(default)]
    verification_material: Material,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dsse_envelope: Option<Envelope>,
    #[serde(default, skip_serializing)]
    message_signature: Option<IgnoredAny>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<Hint>,
    #[serde(default, skip_serializing)]
    certificate: Option<IgnoredAny>,
    #[serde(default, skip_serializing)]
    x509_certificate_chain: Option<IgnoredAny>,
}

#[derive(Serialize, Deserialize)]
struct Hint {
    #[serde(default)]
    hint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
struct Signature {
    sig: String,
}

/// A bundle whose form is right. Nothing in it is proved yet.
pub(crate) struct Opened {
    payload: Vec<u8>,
    signature: Vec<u8>,
    hint: String,
    /// It is signed with a short-lived key that a certificate vouches for ("keyless").
    pub(crate) has_certificate: bool,
}

impl Opened {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(format!("it has more than {MAX_DOCUMENT} bytes"));
        }
        let bundle: Bundle =
            json::parse(bytes).map_err(|error| format!("it is not a sigstore bundle: {error}"))?;
        if bundle.media_type != BUNDLE {
            return Err(format!("it is a `{}`, where `{BUNDLE}` is read", bundle.media_type));
        }
        if bundle.message_signature.is_some() {
            return Err("it holds a bare signature and no statement".to_owned());
        }
        let envelope = bundle.dsse_envelope.ok_or("it holds no statement")?;
        if envelope.payload_type != PAYLOAD {
            return Err(format!("its payload is a `{}`", envelope.payload_type));
        }
        let [signature] = envelope.signatures.as_slice() else {
            return Err(format!("it has {} signatures, not one", envelope.signatures.len()));
        };
        let bytes = |text: &str, what: &str| {
            STANDARD.decode(text).map_err(|_| format!("its {what} is not base64"))
        };
        let material = bundle.verification_material;
        Ok(Self {
            payload: bytes(&envelope.payload, "payload")?,
            signature: bytes(&signature.sig, "signature")?,
            has_certificate: material.certificate.is_some()
                || material.x509_certificate_chain.is_some(),
            hint: material.public_key.map(|key| key.hint).unwrap_or_default(),
        })
    }

    /// Which key it says it was signed with, where it says so in a fingerprint's form.
    pub(crate) fn hint(&self) -> Option<&str> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
        let hint = self.hint.as_str();
        (hint.len() == 44 && hint.chars().all(plain)).then_some(hint)
    }

    pub(crate) fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.has_signed(&signed_bytes(&self.payload), &self.signature)
    }

    /// What it says: true only once a key has signed it.
    pub(crate) fn statement(&self) -> Result<Statement, String> {
        Statement::parse(&self.payload)
    }
}

/// What is really signed: the payload with its type and the lengths of both (DSSE, "PAE").
fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD} {} ", PAYLOAD.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

impl Statement {
    /// Signs it into a bundle. The same statement and key give the same bytes.
    ///
    /// # Errors
    /// As [`PrivateKey::sign`].
    pub fn sign(&self, key: &PrivateKey) -> Result<Vec<u8>, Error> {
        let payload = self.to_json();
        let sig = STANDARD.encode(key.sign(&signed_bytes(&payload))?);
        let hint = key.public()?.hint();
        let bundle = Bundle {
            media_type: BUNDLE.to_owned(),
            verification_material: Material {
                public_key: Some(Hint { hint }),
                ..Material::default()
            },
            dsse_envelope: Some(Envelope {
                payload: STANDARD.encode(payload),
                payload_type: PAYLOAD.to_owned(),
                signatures: vec![Signature { sig }],
            }),
            message_signature: None,
        };
        // Texts alone: writing them to memory can't fail.
        Ok(serde_json::to_vec(&bundle).unwrap_or_default())
    }
}
