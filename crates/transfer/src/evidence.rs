//! What registries have beside an image, gathered for a verdict, and what of it is kept.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sconce_blob::Digest;
use sconce_oci::{Artifact, Descriptor, Document, EMPTY, Referrer, referrers_tag};
use sconce_registry::{Error as RegistryError, Registry};
use sconce_sign::{BUNDLE, Evidence, Finding, MAX_DOCUMENT, PublicKey, SIGNATURE, SIMPLE_SIGNING};
use sconce_store::Store;
use serde::{Deserialize, Serialize};

/// What all files beside an image may have together, bytes: bundles, and those of the older form.
const MAX_ALL: u64 = 64 << 20;
const MAX_TAGGED: u64 = 32 << 20;
/// Up to this size a file is read as it is found; larger ones last. A signature has some hundred bytes.
const SMALL: u64 = 64 << 10;
/// The most manifests of artifacts that are read, and for how long.
const MAX_READ: usize = 1000;
const MAX_TIME: Duration = Duration::from_secs(120);
/// The most of a kind that is kept of what proved one image's signatures, the newest.
const MAX_KEPT: usize = 32;
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
    /// The one file of an artifact that is neither.
    pub file: Option<Descriptor>,
}

/// What was found beside an image.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) beside: Vec<Beside>,
    /// Why there may be more that could be a signature.
    pub(crate) unread: Option<String>,
    /// Whether there is more that says that it is something else.
    pub(crate) others: bool,
}

/// What is beside an image, until `enough` says that it is. What is listed and can't be had is evidence
/// too: that something is missing.
///
/// Anybody who may write to the repository can put anything there, any number of times. So what says that it
/// is a signature is read first, small files before large ones, and all of it is bounded.
pub(crate) fn gather(
    registry: &Registry,
    images: &[Digest],
    enough: &mut dyn FnMut(&Evidence) -> bool,
) -> Result<Found, RegistryError> {
    // One has nothing of the other's: who fills the one tag hides no bundle.
    let (mut left, mut left_of_tags) = (MAX_ALL, MAX_TAGGED);
    let end = Instant::now() + MAX_TIME;
    let mut found = Found::default();
    let mut is_enough = |beside: &Beside| beside.evidence.as_ref().is_some_and(&mut *enough);
    for image in images {
        found.beside.extend(tagged(registry, *image, &mut left_of_tags)?);
    }
    if found.beside.iter().any(&mut is_enough) {
        return Ok(found);
    }
    let mut rows = Vec::new();
    for image in images {
        let listed = registry.referrers(*image, BUNDLE)?;
        found.unread = found.unread.or(listed.cut);
        found.others |= listed.others;
        rows.extend(listed.rows.into_iter().map(|row| (*image, row)));
    }
    rows.sort_by_key(|(_, row)| rank(&row.artifact_type));
    let mut large = Vec::new();
    for (count, (image, row)) in rows.iter().enumerate() {
        if count >= MAX_READ || Instant::now() > end {
            found.others = true;
            if rank(&row.artifact_type) < 2 {
                let why = format!("of {} artifacts {count} were read", rows.len());
                found.unread.get_or_insert(why);
            }
            break;
        }
        let (mut beside, file) = look(registry, *image, row)?;
        match file {
            Some(file) if file.size > SMALL => {
                large.push((beside, file));
                continue;
            }
            Some(file) => beside.evidence = Some(bundle(registry, &file, &mut left)?),
            None => {}
        }
        let stop = is_enough(&beside);
        found.beside.push(beside);
        if stop {
            return Ok(found);
        }
    }
    large.sort_by_key(|(_, file)| file.size);
    for (mut beside, file) in large {
        beside.evidence = Some(match Instant::now() > end {
            true => Evidence::Missing("there was no time left to read it".to_owned()),
            false => bundle(registry, &file, &mut left)?,
        });
        let stop = is_enough(&beside);
        found.beside.push(beside);
        if stop {
            break;
        }
    }
    Ok(found)
}

/// The order in which artifacts are read, by what a list says they are: bundles; what it does not tell, as
/// in lists of cosign's; others, which may still bring one.
fn rank(kind: &str) -> u8 {
    match kind {
        BUNDLE => 0,
        "" | EMPTY => 1,
        _ => 2,
    }
}

/// One row of a list, and the bundle that it brings, which is still to be read. A registry that is down is an
/// error; one that has not what it lists, or something that can't be read, is an answer.
fn look(
    registry: &Registry,
    about: Digest,
    row: &Referrer,
) -> Result<(Beside, Option<Descriptor>), RegistryError> {
    let mut beside = Beside {
        about,
        digest: row.digest,
        kind: row.artifact_type.clone(),
        size: row.size,
        tag: None,
        evidence: None,
        file: None,
    };
    let artifact = match registry.artifact(row) {
        Ok((artifact, _)) => artifact,
        Err(error) => {
            let why = answered(error)?;
            // What says that it is something else is nothing that is missing here.
            beside.evidence = (rank(&row.artifact_type) < 2).then_some(Evidence::Missing(why));
            return Ok((beside, None));
        }
    };
    beside.kind = artifact.kind().to_owned();
    beside.size = artifact.layers.iter().fold(0, |sum: u64, file| sum.saturating_add(file.size));
    // The files say what they are, whatever the artifact says: nothing that is a bundle is passed over.
    let mut bundles = artifact.layers.iter().filter(|file| file.media_type == BUNDLE);
    match (bundles.next(), bundles.count()) {
        (Some(file), 0) => return Ok((beside, Some(file.clone()))),
        (Some(_), more) => {
            let why = format!("it holds {} bundles, and not one", more + 1);
            beside.evidence = Some(Evidence::Missing(why));
        }
        (None, _) if beside.kind == BUNDLE => {
            beside.evidence = Some(Evidence::Missing("it has no bundle".to_owned()));
        }
        (None, _) => {
            if let [file] = artifact.layers.as_slice() {
                beside.file = Some(file.clone());
            }
        }
    }
    Ok((beside, None))
}

fn bundle(
    registry: &Registry,
    file: &Descriptor,
    left: &mut u64,
) -> Result<Evidence, RegistryError> {
    Ok(match read(registry, file, left)? {
        Ok(bytes) => Evidence::Bundle(bytes),
        Err(why) => Evidence::Missing(why),
    })
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
        file: None,
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
    file: &Descriptor,
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
        | RegistryError::Fetch(sconce_fetch::Error::TooLarge { .. })
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
#[derive(Default, PartialEq, Serialize, Deserialize)]
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
        // Under another name it may have been proved to other keys.
        let before = Self::read(store, image);
        let kept = Self {
            indexes: with(&before.indexes, kept.indexes),
            bundles: with(&before.bundles, kept.bundles),
            simple: with(&before.simple, kept.simple),
        };
        if kept == before {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&kept).unwrap_or_default();
        store.put_memo(MEMO, image, &bytes)
    }

    fn read(store: &Store, image: Digest) -> Self {
        let memo = store.memo(MEMO, image).ok().flatten();
        memo.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// The digests that an image goes by, and the evidence; none where nothing is kept or it is damaged.
    pub(crate) fn of(store: &Store, image: Digest) -> (Vec<Digest>, Vec<Evidence>) {
        let kept = Self::read(store, image);
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

/// What was kept, and behind it what is new, each once: chains of indexes stay in their order.
fn with<T: Clone + PartialEq>(before: &[T], new: Vec<T>) -> Vec<T> {
    let mut all: Vec<T> = before.iter().filter(|row| !new.contains(row)).cloned().collect();
    all.extend(new);
    let over = all.len().saturating_sub(MAX_KEPT);
    all.drain(..over);
    all
}
