//! What registries have beside an image, gathered for a verdict, and what of it is kept.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sconce_blob::Digest;
use sconce_oci::{Artifact, Document, MAX_REFERRERS, Referrer, referrers_tag};
use sconce_registry::{Error as RegistryError, Registry};
use sconce_sign::{BUNDLE, Evidence, Finding, MAX_DOCUMENT, PublicKey, SIGNATURE, SIMPLE_SIGNING};
use sconce_store::Store;
use serde::{Deserialize, Serialize};

/// What all files beside an image may have together, bytes.
const MAX_ALL: u64 = 64 << 20;
/// The kind of the memo; its key is the image's digest.
const MEMO: &str = "signed";

/// Something beside an image.
#[derive(Clone, Debug)]
pub struct Beside {
    /// The digest that it is about: of the manifest, or of an index that led there.
    pub about: Digest,
    /// The digest of its own manifest.
    pub digest: Digest,
    /// What it says it is.
    pub kind: String,
    /// Its size, bytes.
    pub size: u64,
    /// The tag that it stands under, where it is none of the list's.
    pub tag: Option<String>,
    /// What may be a signature or an attestation.
    pub evidence: Option<Evidence>,
}

/// All that is beside an image. What is listed and can't be had is evidence too: that something is
/// missing.
pub(crate) fn gather(registry: &Registry, images: &[Digest]) -> Result<Vec<Beside>, RegistryError> {
    let mut found = Vec::new();
    let mut left = MAX_ALL;
    for image in images {
        for row in registry.referrers(*image)? {
            if found.len() >= MAX_REFERRERS {
                found.push(missing(*image, &row, "there are too many to read"));
                break;
            }
            found.push(one(registry, *image, &row, &mut left)?);
        }
        found.extend(tagged(registry, *image, &mut left)?);
    }
    Ok(found)
}

fn missing(about: Digest, row: &Referrer, why: &str) -> Beside {
    Beside {
        about,
        digest: row.digest,
        kind: row.artifact_type.clone(),
        size: row.size,
        tag: None,
        evidence: Some(Evidence::Missing(why.to_owned())),
    }
}

/// One row of a list. A registry that is down is an error; one that has not what it lists, or something
/// that can't be read, is an answer.
fn one(
    registry: &Registry,
    about: Digest,
    row: &Referrer,
    left: &mut u64,
) -> Result<Beside, RegistryError> {
    let artifact = match registry.artifact(row) {
        Ok(artifact) => artifact,
        Err(error) => return Ok(missing(about, row, &answered(error)?)),
    };
    let size = artifact.layers.iter().fold(0, |sum: u64, file| sum.saturating_add(file.size));
    let kind = artifact.kind().to_owned();
    // The files say what they are, whatever the artifact says: nothing that is a bundle is passed over.
    let evidence = match artifact.layers.iter().find(|file| file.media_type == BUNDLE) {
        None if kind == BUNDLE => Some(Evidence::Missing("it has no bundle".to_owned())),
        None => None,
        Some(file) => Some(match read(registry, file, left)? {
            Ok(bytes) => Evidence::Bundle(bytes),
            Err(why) => Evidence::Missing(why),
        }),
    };
    Ok(Beside { about, digest: row.digest, kind, size, tag: None, evidence })
}

/// What stands under the tag of the older form.
fn tagged(
    registry: &Registry,
    about: Digest,
    left: &mut u64,
) -> Result<Vec<Beside>, RegistryError> {
    let tag = format!("{}.sig", referrers_tag(about));
    let Some(bytes) = registry.under_tag(&tag)? else { return Ok(Vec::new()) };
    let beside = |size: u64, evidence| Beside {
        about,
        digest: Digest::of(&bytes),
        kind: SIMPLE_SIGNING.to_owned(),
        size,
        tag: Some(tag.clone()),
        evidence: Some(evidence),
    };
    let artifact = match Artifact::parse(&bytes) {
        Ok(artifact) => artifact,
        Err(why) => return Ok(vec![beside(0, Evidence::Missing(why))]),
    };
    let mut found = Vec::new();
    for file in artifact.layers.iter().filter(|file| file.media_type == SIMPLE_SIGNING) {
        let evidence = match file.annotations.get(SIGNATURE) {
            None => Evidence::Missing("it has no signature".to_owned()),
            Some(signature) => match read(registry, file, left)? {
                Ok(payload) => Evidence::Simple { payload, signature: signature.clone() },
                Err(why) => Evidence::Missing(why),
            },
        };
        found.push(beside(file.size, evidence));
    }
    Ok(found)
}

fn read(
    registry: &Registry,
    file: &sconce_oci::Descriptor,
    left: &mut u64,
) -> Result<Result<Vec<u8>, String>, RegistryError> {
    if file.size > MAX_DOCUMENT.min(*left) {
        return Ok(Err(format!("{} bytes are too many", file.size)));
    }
    *left -= file.size;
    match registry.small_blob(file, MAX_DOCUMENT) {
        Ok(bytes) => Ok(Ok(bytes)),
        Err(error) => answered(error).map(Err),
    }
}

/// What a registry answered, in words; a registry that did not answer is an error.
fn answered(error: RegistryError) -> Result<String, RegistryError> {
    match error {
        RegistryError::NotFound { .. }
        | RegistryError::Answer { .. }
        | RegistryError::WrongDigest { .. } => Ok(error.to_string()),
        error => Err(error),
    }
}

/// The digests that an image goes by: its own, and those of the indexes that name it, as these bytes
/// prove.
pub(crate) fn names_of(image: Digest, indexes: &[Vec<u8>]) -> Vec<Digest> {
    let mut names = vec![image];
    for bytes in indexes.iter().rev() {
        if let Ok(Document::Index(index)) = Document::parse(bytes)
            && index.manifests.iter().any(|row| names.contains(&row.digest))
        {
            names.push(Digest::of(bytes));
        }
    }
    names
}

/// What proved a signature, kept so that the image can be started without asking its registry. It is
/// no word of the store's: all of it is verified again each time.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    indexes: Vec<String>,
    bundles: Vec<String>,
    simple: Vec<(String, String)>,
}

impl Kept {
    pub(crate) fn note(
        store: &Store,
        image: Digest,
        indexes: &[Vec<u8>],
        found: &[Beside],
        keys: &[PublicKey],
    ) -> Result<(), sconce_store::Error> {
        let names = names_of(image, indexes);
        let mut kept = Self {
            indexes: indexes.iter().map(|bytes| STANDARD.encode(bytes)).collect(),
            ..Self::default()
        };
        for evidence in found.iter().filter_map(|beside| beside.evidence.as_ref()) {
            if !matches!(evidence.examine(&names, keys), Finding::Proved { .. }) {
                continue;
            }
            match evidence {
                Evidence::Bundle(bytes) => kept.bundles.push(STANDARD.encode(bytes)),
                Evidence::Simple { payload, signature } => {
                    kept.simple.push((STANDARD.encode(payload), signature.clone()));
                }
                Evidence::Missing(_) => {}
            }
        }
        let bytes = serde_json::to_vec(&kept).unwrap_or_default();
        store.put_memo(MEMO, image, &bytes)
    }

    /// The digests that an image goes by, and the evidence; none where nothing is kept or it is damaged.
    pub(crate) fn of(store: &Store, image: Digest) -> (Vec<Digest>, Vec<Evidence>) {
        let memo = store.memo(MEMO, image).ok().flatten();
        let kept: Self =
            memo.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let decoded = |texts: &[String]| -> Vec<Vec<u8>> {
            texts.iter().filter_map(|text| STANDARD.decode(text).ok()).collect()
        };
        let names = names_of(image, &decoded(&kept.indexes));
        let bundles = decoded(&kept.bundles).into_iter().map(Evidence::Bundle);
        let simple = kept.simple.into_iter().filter_map(|(payload, signature)| {
            Some(Evidence::Simple { payload: STANDARD.decode(payload).ok()?, signature })
        });
        (names, bundles.chain(simple).collect())
    }
}
