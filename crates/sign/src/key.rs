//! Keys: EC on the curve P-256 with SHA-256, what `cosign generate-key-pair` and `openssl` make.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p256::SecretKey;
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{DerSignature, SigningKey, VerifyingKey};
use p256::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePublicKey, PrivateKeyInfo, SubjectPublicKeyInfoRef,
};
use sconce_blob::Digest;

use crate::error::Error;
use crate::pem::{self, Block};
use crate::secret::{self, Encrypted};

/// Kinds of keys by the identifier of their algorithm, for messages.
/// Source: RFC 3279, RFC 8410; the second is a curve, RFC 5480.
const KINDS: [(&str, &str); 4] = [
    ("1.2.840.113549.1.1.1", "an RSA key"),
    ("1.2.840.10045.2.1", "an EC key of another curve"),
    ("1.3.101.112", "an Ed25519 key"),
    ("1.3.101.113", "an Ed448 key"),
];

const MAKE: &str = "make one with `cosign generate-key-pair`, or `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out sign.key` and `openssl pkey -in sign.key -pubout -out sign.pub`";

/// A key that signs.
pub struct PrivateKey(SigningKey);

/// A key that signatures are held against.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
    der: Vec<u8>,
}

impl PrivateKey {
    /// Reads a PEM file: PKCS#8, SEC 1 (`EC PRIVATE KEY`), or cosign's encrypted form, for which a
    /// password is needed.
    ///
    /// # Errors
    /// [`Error::Key`] for another kind, [`Error::Locked`] where a password is needed and not given,
    /// [`Error::Password`] for a wrong one.
    pub fn parse(file: &[u8], password: Option<&[u8]>) -> Result<Self, Error> {
        let block = only(file, "a private key", |label| label.ends_with("PRIVATE KEY"))?;
        match block.label.as_str() {
            "PRIVATE KEY" => Self::of_pkcs8(&block.bytes),
            "EC PRIVATE KEY" => SecretKey::from_sec1_der(&block.bytes)
                .map(|key| Self(key.into()))
                .map_err(|_| other_kind("an EC key of another curve", "")),
            label if secret::LABELS.contains(&label) => {
                let encrypted = Encrypted::parse(&block.bytes)?;
                Self::of_pkcs8(&encrypted.open(password.ok_or(Error::Locked)?)?)
            }
            "ENCRYPTED PRIVATE KEY" => Err(Error::key(
                "the key is encrypted in PKCS#8's own way, which is not read",
                "`cosign import-key-pair --key FILE` encrypts it as cosign does; `openssl pkey -in FILE -out PLAIN` leaves it plain",
            )),
            label => Err(other_kind("", label)),
        }
    }

    fn of_pkcs8(der: &[u8]) -> Result<Self, Error> {
        SigningKey::from_pkcs8_der(der).map(Self).map_err(|_| {
            let info = PrivateKeyInfo::try_from(der).ok();
            other_kind(kind(info.map(|info| info.algorithm.oid.to_string())), "")
        })
    }

    /// Signs bytes: DER of ECDSA over their SHA-256. The same bytes always get the same signature
    /// (RFC 6979).
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let signature: DerSignature = self.0.sign(bytes);
        signature.as_bytes().to_vec()
    }

    /// What its signatures are held against.
    ///
    /// # Errors
    /// None that is known: a key that was read can be written.
    pub fn public(&self) -> Result<PublicKey, Error> {
        PublicKey::of(*self.0.verifying_key())
    }
}

/// Nothing of the key is ever shown.
impl fmt::Debug for PrivateKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("PrivateKey")
    }
}

impl PublicKey {
    /// Reads a PEM file (`PUBLIC KEY`).
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn parse(file: &[u8]) -> Result<Self, Error> {
        let block = only(file, "a public key", |label| label == "PUBLIC KEY")?;
        let key = VerifyingKey::from_public_key_der(&block.bytes).map_err(|_| {
            let info = SubjectPublicKeyInfoRef::try_from(&*block.bytes).ok();
            other_kind(kind(info.map(|info| info.algorithm.oid.to_string())), "")
        })?;
        Self::of(key)
    }

    fn of(key: VerifyingKey) -> Result<Self, Error> {
        let der = key.to_public_key_der().map_err(|_| other_kind("", "PUBLIC KEY"))?;
        Ok(Self { key, der: der.into_vec() })
    }

    /// SHA-256 of its DER.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.der)
    }

    /// The fingerprint as bundles name it, in base64: which key to try, and no proof of anything.
    #[must_use]
    pub fn hint(&self) -> String {
        STANDARD.encode(self.fingerprint().as_bytes())
    }

    /// Its PEM file.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode("PUBLIC KEY", &self.der)
    }

    /// Whether this key signed these bytes; a signature that is none is no.
    #[must_use]
    pub fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let signature = DerSignature::try_from(signature);
        signature.is_ok_and(|signature| self.key.verify(bytes, &signature).is_ok())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PublicKey({})", self.fingerprint())
    }
}

/// The one block of a file that is meant. Of two keys in one file none is guessed at.
fn only(file: &[u8], what: &str, is_meant: impl Fn(&str) -> bool) -> Result<Block, Error> {
    let text = std::str::from_utf8(file)
        .map_err(|_| Error::key(format!("this is no PEM file with {what}"), MAKE))?;
    let blocks = pem::blocks(text).map_err(|why| Error::key(why, MAKE))?;
    let others: Vec<String> = blocks.iter().map(|block| format!("`{}`", block.label)).collect();
    let mut meant = blocks.into_iter().filter(|block| is_meant(&block.label));
    match (meant.next(), meant.next()) {
        (Some(block), None) => Ok(block),
        (Some(_), Some(_)) => Err(Error::key(
            format!("there is more than one key where {what} should be"),
            "put each into a file of its own",
        )),
        (None, _) if others.is_empty() => {
            Err(Error::key(format!("this is no PEM file with {what}"), MAKE))
        }
        (None, _) => {
            Err(Error::key(format!("where {what} should be there is {}", others.join(", ")), MAKE))
        }
    }
}

fn kind(oid: Option<String>) -> &'static str {
    let known = oid.and_then(|oid| KINDS.iter().find(|(known, _)| *known == oid));
    known.map_or("", |(_, kind)| kind)
}

fn other_kind(kind: &str, label: &str) -> Error {
    let what = match (kind, label) {
        ("", "") => "it can't be read".to_owned(),
        ("", label) => format!("it is a `{label}`"),
        (kind, _) => format!("it is {kind}"),
    };
    Error::key(format!("only EC keys of the curve P-256 are taken; {what}"), MAKE)
}
