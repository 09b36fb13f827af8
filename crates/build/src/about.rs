//! What can be said of an image that a lock builds to: its parts (an SBOM), and what it was built from; and the
//! files that say so beside the image in a registry.
//!
//! All are functions of the lock alone: no clock, no machine, no random number is in them.
//!
//! Sources: CycloneDX 1.6; SLSA provenance v1; in-toto attestation framework, "Statement" v1; purl-spec, types
//! `pypi`, `deb`, `generic`. Media types: IANA's registry, but for the lock's own.

use sconce_blob::Digest;
use sconce_lock::{DebPin, Lock, Wheel};
use serde_json::{Value, json};

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

/// One thing that is in the image.
struct Part<'a> {
    name: &'a str,
    version: &'a str,
    purl: String,
    sha256: Digest,
}

/// The parts of an image, as CycloneDX 1.6: those that its lock puts there, not the user's own files.
#[must_use]
pub fn bom(lock: &Lock, image: Digest) -> Value {
    let components: Vec<Value> = parts(lock)
        .iter()
        .map(|part| {
            json!({
                "type": "library",
                "bom-ref": part.purl,
                "name": part.name,
                "version": part.version,
                "purl": part.purl,
                "hashes": [{"alg": "SHA-256", "content": part.sha256.hex()}],
            })
        })
        .collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": {"components": [{
                "type": "application", "name": "sconce", "version": env!("CARGO_PKG_VERSION"),
            }]},
            "component": {
                "type": "container",
                "name": "image",
                "version": image,
                "hashes": [{"alg": "SHA-256", "content": image.hex()}],
            },
        },
        "components": components,
    })
}

/// How an image was built, as SLSA provenance v1: from a lock, and from each file that it names. It is the
/// word of whoever signs it; nobody else has seen the build.
#[must_use]
pub fn provenance(lock: &Lock) -> Value {
    let from: Vec<Value> = parts(lock)
        .iter()
        .map(|part| json!({"uri": part.purl, "digest": {"sha256": part.sha256.hex()}}))
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

fn parts(lock: &Lock) -> Vec<Part<'_>> {
    let distro = match sconce_facts::base(&lock.facts.base) {
        Ok(base) => format!("debian-{}", base.debian),
        Err(_) => lock.facts.base.clone(),
    };
    let python = lock.python.iter().map(|pin| Part {
        name: "cpython",
        version: &pin.version,
        purl: format!("pkg:generic/cpython@{}", coded(&pin.version)),
        sha256: pin.sha256,
    });
    let wheels = lock.wheels.iter().map(|wheel: &Wheel| Part {
        name: &wheel.name,
        version: &wheel.version,
        purl: format!("pkg:pypi/{}@{}", coded(&wheel.name), coded(&wheel.version)),
        sha256: wheel.sha256,
    });
    let debs = lock.debs.iter().map(|deb: &DebPin| Part {
        name: &deb.name,
        version: &deb.version,
        purl: format!(
            "pkg:deb/debian/{}@{}?arch={}&distro={}",
            coded(&deb.name),
            coded(&deb.version),
            coded(&deb.arch),
            coded(&distro)
        ),
        sha256: deb.sha256,
    });
    python.chain(wheels).chain(debs).collect()
}

/// A part of a purl: what is not a letter, digit or `.-_~` is written by its bytes (purl-spec, "Character
/// encoding"; a colon stays).
fn coded(text: &str) -> String {
    let mut coded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                coded.push(char::from(byte));
            }
            _ => coded.push_str(&format!("%{byte:02X}")),
        }
    }
    coded
}

#[cfg(test)]
mod tests {
    #[test]
    fn purls_are_coded() {
        for (text, expected) in [
            ("2.36-9+deb12u14", "2.36-9%2Bdeb12u14"),
            ("1:2.3~rc1", "1:2.3~rc1"),
            ("a b/c@d", "a%20b%2Fc%40d"),
        ] {
            assert_eq!(super::coded(text), expected);
        }
    }
}
