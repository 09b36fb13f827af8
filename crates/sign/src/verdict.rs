//! What a file beside an image proves of it, and what all of them come to.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sconce_blob::Digest;

use crate::bundle::Opened;
use crate::error::Error;
use crate::key::{PrivateKey, PublicKey};
use crate::simple::Payload;
use crate::statement::{SIGNED, Statement};

/// Something that was found beside an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A sigstore bundle.
    Bundle(Vec<u8>),
    /// A payload with its signature in base64.
    Simple {
        /// What is signed.
        payload: Vec<u8>,
        /// The annotation.
        signature: String,
    },
    /// What could not be had, and why.
    Missing(String),
}

/// What a key has signed of the image.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// That it is signed.
    Signed,
    /// Something else: an SBOM, how it was built.
    Attested(Box<Statement>),
}

/// What one piece of evidence proves.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// One of the keys has signed something of the image.
    Proved {
        /// Which key, counted from 0.
        key: usize,
        /// Which of the digests.
        image: Digest,
        /// What.
        claim: Claim,
    },
    /// None of the keys has signed it.
    OtherKey {
        /// The fingerprint of the key that it names, in base64. Nothing proves that.
        hint: Option<String>,
        /// It was signed with a certificate, which is not looked at.
        has_certificate: bool,
    },
    /// A key has signed it, but of other images.
    OtherImage(Vec<Digest>),
    /// It can't be read, so that nothing is known.
    Unreadable(String),
}

impl Evidence {
    /// Signs a payload for an image of a repository (`HOST/NAME`), in the older form.
    ///
    /// # Errors
    /// As [`PrivateKey::sign`].
    pub fn sign_simple(key: &PrivateKey, repository: &str, image: Digest) -> Result<Self, Error> {
        let payload = Payload::of(repository, image);
        let signature = STANDARD.encode(key.sign(&payload)?);
        Ok(Self::Simple { payload, signature })
    }

    /// What a bundle claims, which nobody has to have signed: to be shown, not to be believed.
    #[must_use]
    pub fn claimed(&self) -> Option<Statement> {
        match self {
            Self::Bundle(bytes) => Opened::parse(bytes).ok()?.statement().ok(),
            Self::Simple { .. } | Self::Missing(_) => None,
        }
    }

    /// What this proves of an image that goes by `images`: the digest of its manifest, and of the
    /// indexes that led to it. Any of them counts, as a signed index names its manifests by digest.
    #[must_use]
    pub fn examine(&self, images: &[Digest], keys: &[PublicKey]) -> Finding {
        match self {
            Self::Missing(why) => Finding::Unreadable(why.clone()),
            Self::Bundle(bytes) => {
                let bundle = match Opened::parse(bytes) {
                    Ok(bundle) => bundle,
                    Err(why) => return Finding::Unreadable(why),
                };
                let Some(key) = keys.iter().position(|key| bundle.is_signed_by(key)) else {
                    return Finding::OtherKey {
                        hint: bundle.hint().map(str::to_owned),
                        has_certificate: bundle.has_certificate,
                    };
                };
                // Only now is there somebody who said it.
                let statement = match bundle.statement() {
                    Ok(statement) => statement,
                    Err(why) => return Finding::Unreadable(why),
                };
                let named = statement.images();
                let Some(image) = named.iter().find(|named| images.contains(named)).copied() else {
                    return Finding::OtherImage(named);
                };
                let claim = match statement.predicate_type == SIGNED {
                    true => Claim::Signed,
                    false => Claim::Attested(Box::new(statement)),
                };
                Finding::Proved { key, image, claim }
            }
            Self::Simple { payload, signature } => {
                let Ok(signature) = STANDARD.decode(signature) else {
                    return Finding::Unreadable("its signature is not base64".to_owned());
                };
                let Some(key) = keys.iter().position(|key| key.has_signed(payload, &signature))
                else {
                    return Finding::OtherKey { hint: None, has_certificate: false };
                };
                match Payload::image(payload) {
                    Ok(image) if images.contains(&image) => {
                        Finding::Proved { key, image, claim: Claim::Signed }
                    }
                    Ok(image) => Finding::OtherImage(vec![image]),
                    Err(why) => Finding::Unreadable(why),
                }
            }
        }
    }
}

/// Whether one of the keys has signed the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Yes {
        /// Which key, counted from 0.
        key: usize,
        /// The digest that is signed: of the manifest, or of an index that names it.
        image: Digest,
    },
    /// No: all that is there was read, and none of it is a signature of these keys on this image.
    No(String),
    /// Something that is there could not be read.
    CantTell(String),
}

/// What all findings come to. Attestations are no signatures: who has signed an SBOM of an image has not
/// signed the image.
#[must_use]
pub fn judge(findings: &[Finding]) -> Verdict {
    let mut unread = None;
    let (mut others, mut elsewhere, mut attested, mut certified) = (0, 0, 0, 0);
    for finding in findings {
        match finding {
            Finding::Proved { key, image, claim: Claim::Signed } => {
                return Verdict::Yes { key: *key, image: *image };
            }
            Finding::Proved { .. } => attested += 1,
            Finding::OtherKey { has_certificate: true, .. } => certified += 1,
            Finding::OtherKey { .. } => others += 1,
            Finding::OtherImage(_) => elsewhere += 1,
            Finding::Unreadable(why) => unread = unread.or(Some(why)),
        }
    }
    if let Some(why) = unread {
        return Verdict::CantTell(format!("something beside the image can't be read: {why}"));
    }
    let counted = [
        (others, "by another key"),
        (certified, "by a certificate, which is not checked"),
        (elsewhere, "of another image"),
        (attested, "by the key, but an attestation and no signature"),
    ];
    let words: Vec<String> = counted
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    match words.is_empty() {
        true => Verdict::No("there is no signature".to_owned()),
        false => Verdict::No(format!("none of what is there is a signature: {}", words.join(", "))),
    }
}
