//! Keys and their hashes, as sigstore has them: EC on P-256 with SHA-256, which is what `cosign
//! generate-key-pair` makes, on P-384 with SHA-384, on P-521 with SHA-512; RSA with PKCS#1 v1.5 and SHA-256;
//! Ed25519.
//!
//! Source: sigstore's `pkg/signature/algorithm_registry.go` (the default of each key), RFC 8017, RFC 8032.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Digest as _, Sha512};
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::ecdsa::signature::{Signer, Verifier};
use p256::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePublicKey, PrivateKeyInfo, SubjectPublicKeyInfoRef,
};
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::traits::PublicKeyParts;
use rsa::{Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey};
use sconce_blob::Digest;

use crate::error::Error;
use crate::pem::{self, Block};
use crate::secret::{self, Encrypted};

/// Kinds of keys that are not taken, by the identifier of their algorithm, for messages.
/// Source: RFC 3279, RFC 8410; the second is for curves, RFC 5480.
const KINDS: [(&str, &str); 6] = [
    (RSA, "an RSA key, which must have 2048 to 4096 bits"),
    ("1.2.840.10045.2.1", "an EC key of another curve"),
    (ED25519, "an Ed25519 key that can't be read"),
    ("1.3.101.110", "an X25519 key"),
    ("1.3.101.111", "an X448 key"),
    ("1.3.101.113", "an Ed448 key"),
];
const RSA: &str = "1.2.840.113549.1.1.1";
const ED25519: &str = "1.3.101.112";

/// Bits of an RSA key. Shorter ones can be factored; sigstore knows no longer ones.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// What stands before a SHA-256 in a signature of RSA (RFC 8017, section 9.2, note 1).
const SHA256_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];
/// What stands before an Ed25519 key in its DER: of a public one and of a private one (RFC 8410).
const ED25519_PUBLIC: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

const MAKE: &str = "make one with `cosign generate-key-pair`, or `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out sign.key` and `openssl pkey -in sign.key -pubout -out sign.pub`";

/// A key that signs. The same bytes always get the same signature.
pub struct PrivateKey(Signing);

/// Those whose signatures are a function of key and bytes: ECDSA by RFC 6979, the others by themselves. The
/// library for P-521 knows no such signatures.
enum Signing {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    Ed25519(Box<ed25519_dalek::SigningKey>),
    Rsa(Box<RsaPrivateKey>),
}

/// A key that signatures are held against.
#[derive(Clone)]
pub struct PublicKey {
    key: Verifying,
    der: Vec<u8>,
}

#[derive(Clone)]
enum Verifying {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    P521(p521::ecdsa::VerifyingKey),
    Ed25519(ed25519_dalek::VerifyingKey),
    Rsa(RsaPublicKey),
}

impl PrivateKey {
    /// Reads a PEM file: PKCS#8, SEC 1 (`EC PRIVATE KEY`), PKCS#1 (`RSA PRIVATE KEY`), or cosign's encrypted
    /// form, for which a password is needed.
    ///
    /// # Errors
    /// [`Error::Key`] for another kind, [`Error::Locked`] where a password is needed and not given,
    /// [`Error::Password`] for a wrong one.
    pub fn parse(file: &[u8], password: Option<&[u8]>) -> Result<Self, Error> {
        let block = only(file, "a private key", |label| label.ends_with("PRIVATE KEY"))?;
        let der = &*block.bytes;
        match block.label.as_str() {
            "PRIVATE KEY" => Self::of_pkcs8(der),
            "EC PRIVATE KEY" => {
                let p256 =
                    || p256::SecretKey::from_sec1_der(der).map(|key| Signing::P256(key.into()));
                let p384 =
                    || p384::SecretKey::from_sec1_der(der).map(|key| Signing::P384(key.into()));
                match p256().or_else(|_| p384()) {
                    Ok(key) => Ok(Self(key)),
                    Err(_) if p521::SecretKey::from_sec1_der(der).is_ok() => Err(random()),
                    Err(_) => Err(other_kind("an EC key of another curve", "")),
                }
            }
            "RSA PRIVATE KEY" => Self::of_rsa(RsaPrivateKey::from_pkcs1_der(der).ok()),
            label if secret::LABELS.contains(&label) => {
                let encrypted = Encrypted::parse(der)?;
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
        if let Ok(key) = p256::ecdsa::SigningKey::from_pkcs8_der(der) {
            return Ok(Self(Signing::P256(key)));
        }
        if let Ok(key) = p384::ecdsa::SigningKey::from_pkcs8_der(der) {
            return Ok(Self(Signing::P384(key)));
        }
        if p521::SecretKey::from_pkcs8_der(der).is_ok() {
            return Err(random());
        }
        let info = PrivateKeyInfo::try_from(der).ok();
        let oid = info.as_ref().map(|info| info.algorithm.oid.to_string());
        match (oid.as_deref(), info) {
            (Some(RSA), _) => Self::of_rsa(RsaPrivateKey::from_pkcs8_der(der).ok()),
            (Some(ED25519), Some(info)) => {
                // An OCTET STRING of 32 bytes in an OCTET STRING (RFC 8410, section 7).
                let seed = info.private_key.strip_prefix(&[4, 32]);
                let seed: Option<[u8; 32]> = seed.and_then(|seed| seed.try_into().ok());
                let seed = seed.ok_or_else(|| other_kind(kind(Some(ED25519)), ""))?;
                Ok(Self(Signing::Ed25519(Box::new(ed25519_dalek::SigningKey::from_bytes(&seed)))))
            }
            (oid, _) => Err(other_kind(kind(oid), "")),
        }
    }

    fn of_rsa(key: Option<RsaPrivateKey>) -> Result<Self, Error> {
        let key = key.filter(|key| RSA_BITS.contains(&key.n().bits()) && key.validate().is_ok());
        key.map(|key| Self(Signing::Rsa(Box::new(key))))
            .ok_or_else(|| other_kind(kind(Some(RSA)), ""))
    }

    /// Signs bytes, with the hash that belongs to the key.
    ///
    /// # Errors
    /// [`Error::Key`]: it can't sign with this key.
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(match &self.0 {
            Signing::P256(key) => {
                let signature: p256::ecdsa::DerSignature = key.sign(bytes);
                signature.as_bytes().to_vec()
            }
            Signing::P384(key) => {
                let signature: p384::ecdsa::DerSignature = key.sign(bytes);
                signature.as_bytes().to_vec()
            }
            Signing::Ed25519(key) => key.sign(bytes).to_bytes().to_vec(),
            Signing::Rsa(key) => key
                .sign(pkcs1(), Digest::of(bytes).as_bytes())
                .map_err(|_| Error::key("the RSA key can't sign", MAKE))?,
        })
    }

    /// What its signatures are held against.
    ///
    /// # Errors
    /// None that is known: a key that was read can be written.
    pub fn public(&self) -> Result<PublicKey, Error> {
        PublicKey::of(match &self.0 {
            Signing::P256(key) => Verifying::P256(*key.verifying_key()),
            Signing::P384(key) => Verifying::P384(*key.verifying_key()),
            Signing::Ed25519(key) => Verifying::Ed25519(key.verifying_key()),
            Signing::Rsa(key) => Verifying::Rsa(key.to_public_key()),
        })
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
        let der = &*block.bytes;
        let info = SubjectPublicKeyInfoRef::try_from(der).ok();
        let oid = info.map(|info| info.algorithm.oid.to_string());
        let key = match oid.as_deref() {
            Some(RSA) => RsaPublicKey::from_public_key_der(der)
                .ok()
                .filter(|key| RSA_BITS.contains(&key.n().bits()))
                .map(Verifying::Rsa),
            Some(ED25519) => {
                let bytes = der.strip_prefix(&ED25519_PUBLIC);
                let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
                let key = bytes.and_then(|b| ed25519_dalek::VerifyingKey::from_bytes(&b).ok());
                key.filter(|key| !key.is_weak()).map(Verifying::Ed25519)
            }
            _ => {
                let p256 = p256::ecdsa::VerifyingKey::from_public_key_der(der).map(Verifying::P256);
                let p384 = || p384::ecdsa::VerifyingKey::from_public_key_der(der);
                let p521 = || p521::PublicKey::from_public_key_der(der).ok();
                let p521 = || p521::ecdsa::VerifyingKey::from_affine(*p521()?.as_affine()).ok();
                p256.or_else(|_| p384().map(Verifying::P384))
                    .ok()
                    .or_else(|| p521().map(Verifying::P521))
            }
        };
        Self::of(key.ok_or_else(|| other_kind(kind(oid.as_deref()), ""))?)
    }

    fn of(key: Verifying) -> Result<Self, Error> {
        let der = match &key {
            Verifying::P256(key) => key.to_public_key_der(),
            Verifying::P384(key) => key.to_public_key_der(),
            Verifying::P521(key) => p521::PublicKey::from_affine(*key.as_affine())
                .map_err(|_| other_kind("", "PUBLIC KEY"))?
                .to_public_key_der(),
            Verifying::Rsa(key) => key.to_public_key_der(),
            Verifying::Ed25519(bytes) => {
                let der = [&ED25519_PUBLIC[..], bytes.as_bytes()].concat();
                return Ok(Self { key, der });
            }
        };
        let der = der.map_err(|_| other_kind("", "PUBLIC KEY"))?.into_vec();
        Ok(Self { key, der })
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
        match &self.key {
            Verifying::P256(key) => p256::ecdsa::DerSignature::try_from(signature)
                .is_ok_and(|signature| key.verify(bytes, &signature).is_ok()),
            // SHA-256 is what cosign before 3 signed with, and what `cosign verify` of 3.1 still takes alone.
            Verifying::P384(key) => {
                p384::ecdsa::Signature::from_der(signature).is_ok_and(|signature| {
                    key.verify(bytes, &signature).is_ok()
                        || key.verify_prehash(Digest::of(bytes).as_bytes(), &signature).is_ok()
                })
            }
            Verifying::P521(key) => p521::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify(bytes, &signature).is_ok()),
            // cosign signs the hash of what is signed (Ed25519ph) where it does not say otherwise, others the
            // bytes; no signature is one of both.
            Verifying::Ed25519(key) => {
                ed25519_dalek::Signature::from_slice(signature).is_ok_and(|signature| {
                    let hashed = Sha512::new_with_prefix(bytes);
                    key.verify_strict(bytes, &signature).is_ok()
                        || key.verify_prehashed_strict(hashed, None, &signature).is_ok()
                })
            }
            Verifying::Rsa(key) => {
                key.verify(pkcs1(), Digest::of(bytes).as_bytes(), signature).is_ok()
            }
        }
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PublicKey({})", self.fingerprint())
    }
}

fn pkcs1() -> Pkcs1v15Sign {
    Pkcs1v15Sign { hash_len: Some(32), prefix: Box::new(SHA256_INFO) }
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

fn kind(oid: Option<&str>) -> &'static str {
    let known = oid.and_then(|oid| KINDS.iter().find(|(known, _)| *known == oid));
    known.map_or("", |(_, kind)| kind)
}

fn other_kind(kind: &str, label: &str) -> Error {
    let what = match (kind, label) {
        ("", "") => "it can't be read".to_owned(),
        ("", label) => format!("it is a `{label}`"),
        (kind, _) => format!("it is {kind}"),
    };
    let taken = "keys are taken of the kinds EC P-256, P-384 and P-521, RSA and Ed25519";
    Error::key(format!("{taken}; {what}"), MAKE)
}

fn random() -> Error {
    Error::key(
        "the key is an EC key of the curve P-521: its signatures are verified, but not made, as they would be other ones each time",
        MAKE,
    )
}
