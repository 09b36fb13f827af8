//! What can be said of an image that a lock builds to: its parts (an SBOM), and what it was built from; and the
//! files that say so beside the image in a registry.
//!
//! All are functions of the lock alone: no clock, no machine, no random number is in them.
//!
//! Sources: SLSA provenance v1; in-toto attestation framework, "Statement" v1. Media types: IANA's registry, but for
//! the lock's own.

use sconce_blob::Digest;
use sconce_lock::Lock;
use serde_json::{Value, json};

use crate::bill::{Bill, Said};

/// How the image is built, as provenance names it: docs/signatures.md says what that means.
const BUILD_TYPE: &str = "urn:x-sconce:build:v1";
const BUILDER: &str = "urn:x-sconce:builder:v1";

/// Media type of a lock.
pub const LOCK_FILE: &str = "application/vnd.sconce.lock.v1";
/// Media type of an SBOM.
pub const SBOM_FILE: &str = "application/vnd.cyclonedx+json";
/// Media type of provenance: an in-toto statement.
pub const PROVENANCE_FILE: &str = "application/vnd.in-toto+json";

/// A file that says something of an image, as it is put beside it. Nobody has signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its media type.
    pub kind: &'static str,
    /// What a file of it is called.
    pub name: &'static str,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What is put beside an image: its lock, unless something of it is private ([`Lock::private`]), its SBOM, its
/// provenance. The same lock and image give the same bytes.
#[must_use]
pub fn attachments(lock: &Lock, image: Digest) -> Vec<Attachment> {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "image", "digest": {"sha256": image.hex()}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": provenance(lock),
    });
    let mut files = Vec::new();
    if lock.private().is_empty() {
        let bytes = lock.to_text().into_bytes();
        files.push(Attachment { kind: LOCK_FILE, name: "sconce.lock", bytes });
    }
    files.extend([
        Attachment {
            kind: SBOM_FILE,
            name: "sbom.cdx.json",
            bytes: bom(lock, image).to_string().into_bytes(),
        },
        Attachment {
            kind: PROVENANCE_FILE,
            name: "provenance.json",
            bytes: statement.to_string().into_bytes(),
        },
    ]);
    files
}

/// The parts of an image, as CycloneDX 1.6: those that its lock puts there, not the user's own files.
#[must_use]
pub fn bom(lock: &Lock, image: Digest) -> Value {
    Bill { digest: image, built: true, ..Bill::of_lock("image", lock, &Said::new(), false) }
        .cyclonedx()
}

/// How an image was built, as SLSA provenance v1: from a lock, and from each file that it names. It is the
/// word of whoever signs it; nobody else has seen the build.
#[must_use]
pub fn provenance(lock: &Lock) -> Value {
    let parts = Bill::of_lock("image", lock, &Said::new(), false).parts;
    let from: Vec<Value> = parts
        .iter()
        .filter_map(|part| part.purl.as_ref().zip(part.sha256))
        .map(|(purl, sha256)| json!({"uri": purl, "digest": {"sha256": sha256.hex()}}))
        .collect();
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"lock": {"sha256": lock.digest().hex()}},
            "internalParameters": {},
            "resolvedDependencies": from,
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": {"sconce": env!("CARGO_PKG_VERSION")}},
        },
    })
}
