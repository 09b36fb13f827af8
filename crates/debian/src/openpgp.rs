//! Clear-signed text: who signed it, and whether that is someone we trust.
//!
//! The packets, the arithmetic and the text's normal form are rPGP's. The policy is here:
//! a key counts when its own self-signature says that it signs and it has neither expired nor
//! been revoked; a signature counts when it was made with SHA-256 or stronger by such a key.
//! Source: RFC 9580, §5.2 (signatures), §7 (cleartext framework), §10.1 (transferable keys).

use std::fmt;
use std::io::Cursor;

use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails, Tag, Timestamp};

/// The largest signed text, bytes. Bookworm's `InRelease` has 151,000.
pub(crate) const MAX_SIGNED: usize = 16 << 20;
/// The largest keyring, bytes. Debian's whole one has 56,000.
const MAX_KEYRING: usize = 16 << 20;
/// The most signatures looked at in one message.
const MAX_SIGNATURES: usize = 32;
/// How far a signature's time may lie ahead of the clock, seconds: clocks differ.
const CLOCK_SKEW: u64 = 24 * 3600;

/// Debian's archive keys for bookworm and trixie; see `data/keys/README.md`.
const DEBIAN_KEYS: [&[u8]; 6] = [
    include_bytes!("../data/keys/debian-archive-bookworm-automatic.gpg"),
    include_bytes!("../data/keys/debian-archive-bookworm-security-automatic.gpg"),
    include_bytes!("../data/keys/debian-archive-bookworm-stable.gpg"),
    include_bytes!("../data/keys/debian-archive-trixie-automatic.gpg"),
    include_bytes!("../data/keys/debian-archive-trixie-security-automatic.gpg"),
    include_bytes!("../data/keys/debian-archive-trixie-stable.gpg"),
];

/// Why a signed text or a keyring is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// Not a clear-signed text at all.
    #[error("it isn't a clear-signed text")]
    Unsigned,
    /// The text is framed as signed but is malformed.
    #[error("the signed text is malformed: {reason}")]
    Malformed {
        /// What rPGP says.
        reason: String,
    },
    /// The keys can't be read.
    #[error("no OpenPGP key in it can be read: {reason}")]
    Keys {
        /// What rPGP says.
        reason: String,
    },
    /// No signature is by a key of the keyring.
    #[error("none of its signatures is by a trusted key; it is signed by {}", issuers.join(", "))]
    Untrusted {
        /// Fingerprints or key ids.
        issuers: Vec<String>,
    },
    /// A trusted key's signature doesn't match the text.
    #[error("the signature of {key} doesn't match the text: it was changed after signing")]
    Mismatch {
        /// Its fingerprint.
        key: String,
    },
    /// A trusted key signed with a broken hash.
    #[error("the signature of {key} rests on {hash}, which is too weak")]
    Weak {
        /// Its fingerprint.
        key: String,
        /// The hash algorithm.
        hash: String,
    },
    /// The signature or its key doesn't count at this time.
    #[error("the signature of {key} doesn't count: {reason}")]
    Invalid {
        /// Its fingerprint.
        key: String,
        /// Why.
        reason: &'static str,
    },
}

impl SignatureError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Untrusted { .. } => "if the mirror signs with a key of its own, name that key \
                 with `Signed-By` in apt's sources"
                .into(),
            Self::Mismatch { .. } | Self::Unsigned | Self::Malformed { .. } => {
                "the mirror or a proxy on the way changed it; use another mirror".into()
            }
            Self::Weak { .. } => "the archive must be signed with SHA-256 or better".into(),
            Self::Invalid { .. } => "check this machine's clock; else use another mirror".into(),
            Self::Keys { .. } => return None,
        })
    }
}

/// Keys whose signatures are believed.
#[derive(Clone, Default)]
pub struct Keyring {
    keys: Vec<SignedPublicKey>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({} keys)", self.keys.len())
    }
}

impl Keyring {
    /// Debian's own archive keys, as shipped in its `debian-archive-keyring`.
    pub fn debian() -> Result<Self, SignatureError> {
        let mut keyring = Self::default();
        for bytes in DEBIAN_KEYS {
            keyring.add(bytes)?;
        }
        Ok(keyring)
    }

    /// Adds the keys of a keyring file, binary or armoured. Keys that rPGP doesn't know are left
    /// out; a file without any key that can be used is an error.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), SignatureError> {
        let fault = |reason: String| SignatureError::Keys { reason };
        if bytes.len() > MAX_KEYRING {
            return Err(fault("larger than 16 MiB".into()));
        }
        let (keys, _) = SignedPublicKey::from_reader_many(Cursor::new(bytes))
            .map_err(|error| fault(error.to_string()))?;
        let mut last = None;
        let before = self.keys.len();
        // Each key takes two bytes at the least, which bounds the loop even where rPGP goes on
        // after an error.
        for key in keys.take(bytes.len() / 2) {
            match key {
                Ok(key) => self.keys.push(key),
                Err(error) => last = Some(error.to_string()),
            }
        }
        if self.keys.len() == before {
            return Err(fault(last.unwrap_or_else(|| "it is empty".into())));
        }
        Ok(())
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The text that a trusted key has signed, in the form that was signed: what stands outside
    /// the signed part is refused, so nothing unsigned can be read by mistake. `now` is in
    /// seconds since 1970.
    pub fn verify(&self, signed: &[u8], now: u64) -> Result<Signed, SignatureError> {
        // rPGP lists bytes that it can't place, which may be all of them.
        let malformed = |reason: String| {
            let shown = reason.split(" [").next().unwrap_or_default();
            SignatureError::Malformed { reason: shown.chars().take(200).collect() }
        };
        if signed.len() > MAX_SIGNED {
            return Err(malformed("larger than 16 MiB".into()));
        }
        if !signed.starts_with(b"-----BEGIN PGP SIGNED MESSAGE-----") {
            return Err(SignatureError::Unsigned);
        }
        let text = std::str::from_utf8(signed).map_err(|error| malformed(error.to_string()))?;
        let (message, _) = CleartextSignedMessage::from_string(text)
            .map_err(|error| malformed(error.to_string()))?;
        let text = message.signed_text();
        let mut refusal = None;
        for signature in message.signatures().iter().take(MAX_SIGNATURES) {
            match self.check(signature, &text, now) {
                Ok(Some(signer)) => return Ok(Signed { text, signer }),
                Ok(None) => {}
                Err(error) => refusal = Some(error),
            }
        }
        Err(refusal.unwrap_or_else(|| SignatureError::Untrusted {
            issuers: message.signatures().iter().take(MAX_SIGNATURES).map(issuer).collect(),
        }))
    }

    /// The signer's fingerprint if the signature counts, nothing if its key isn't ours.
    fn check(
        &self,
        signature: &Signature,
        text: &str,
        now: u64,
    ) -> Result<Option<String>, SignatureError> {
        // A key may be here twice, once renewed: one that counts is enough.
        let mut refusal = None;
        for key in &self.keys {
            let subkey = key.public_subkeys.iter().find(|subkey| issued(signature, *subkey));
            let subkey = subkey.filter(|_| !issued(signature, key));
            if subkey.is_none() && !issued(signature, key) {
                continue;
            }
            let name = format!("{:X}", subkey.map_or(key.fingerprint(), KeyDetails::fingerprint));
            match by(signature, key, subkey, text, now, &name) {
                Ok(()) => return Ok(Some(name)),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        refusal.map_or(Ok(None), Err)
    }
}

/// A text with its signature found good.
#[derive(Debug, Clone)]
pub struct Signed {
    /// Exactly what was signed, with CR LF line ends.
    pub text: String,
    /// Fingerprint of the key or subkey, upper-case hexadecimal.
    pub signer: String,
}

/// Whether the signature names this key as its issuer.
fn issued(signature: &Signature, key: &impl KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        return signature.issuer_key_id().into_iter().any(|id| *id == key.legacy_key_id());
    }
    fingerprints.into_iter().any(|fingerprint| *fingerprint == key.fingerprint())
}

fn issuer(signature: &Signature) -> String {
    if let Some(fingerprint) = signature.issuer_fingerprint().first() {
        return format!("{fingerprint:X}");
    }
    match signature.issuer_key_id().first() {
        Some(id) => format!("{id}").to_uppercase(),
        None => "a key it doesn't name".into(),
    }
}

/// Whether the signature over `text` is by this key, or its subkey, and counts.
fn by(
    signature: &Signature,
    key: &SignedPublicKey,
    subkey: Option<&SignedPublicSubKey>,
    text: &str,
    now: u64,
    name: &str,
) -> Result<(), SignatureError> {
    let key_name = || name.to_owned();
    counts(signature, now, name)?;
    may_sign(key, subkey, now)
        .map_err(|reason| SignatureError::Invalid { key: key_name(), reason })?;
    let verified = match subkey {
        None => signature.verify(&key.primary_key, text.as_bytes()),
        Some(subkey) => signature.verify(&subkey.key, text.as_bytes()),
    };
    verified.map_err(|_| SignatureError::Mismatch { key: key_name() })
}

/// Whether the kind, hash and time of a signature over a text are fit.
fn counts(signature: &Signature, now: u64, key: &str) -> Result<(), SignatureError> {
    let invalid = |reason| Err(SignatureError::Invalid { key: key.to_owned(), reason });
    if !matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary)) {
        return invalid("it is not a signature over a document");
    }
    match signature.hash_alg() {
        Some(hash) if is_strong(hash) => {}
        hash => {
            let hash = hash.map_or("an unknown hash".into(), |hash| hash.to_string());
            return Err(SignatureError::Weak { key: key.to_owned(), hash });
        }
    }
    let Some(created) = signature.created() else {
        return invalid("it has no date");
    };
    if seconds(created) > now.saturating_add(CLOCK_SKEW) {
        return invalid("its date is still to come");
    }
    if over(created, signature.signature_expiration_time(), now) {
        return invalid("it has expired");
    }
    Ok(())
}

fn is_strong(hash: HashAlgorithm) -> bool {
    matches!(hash, HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512)
}

fn seconds(time: Timestamp) -> u64 {
    u64::from(time.as_secs())
}

/// Whether something of this lifetime is over; none and zero mean for ever.
fn over(created: Timestamp, lifetime: Option<pgp::types::Duration>, now: u64) -> bool {
    let lifetime = lifetime.map_or(0, |lifetime| u64::from(lifetime.as_secs()));
    lifetime != 0 && seconds(created) + lifetime <= now
}

/// Whether the key, or its subkey, is made for signing and alive.
fn may_sign(
    key: &SignedPublicKey,
    subkey: Option<&SignedPublicSubKey>,
    now: u64,
) -> Result<(), &'static str> {
    let primary = &key.primary_key;
    if key.details.revocation_signatures.iter().any(|s| s.verify_key(primary).is_ok()) {
        return Err("its key was revoked");
    }
    let of_users = key.details.users.iter().flat_map(|user| {
        let good = |s: &&Signature| {
            s.typ() != Some(SignatureType::CertRevocation)
                && issued(s, primary)
                && strong(s)
                && s.verify_certification(primary, Tag::UserId, &user.id).is_ok()
        };
        user.signatures.iter().filter(good)
    });
    let direct = key.details.direct_signatures.iter();
    let direct = direct.filter(|s| strong(s) && s.verify_key(primary).is_ok());
    let newest = of_users.chain(direct).max_by_key(|s| s.created().map(seconds));
    let Some(own) = newest else {
        return Err("its key has no valid self-signature");
    };
    if over(primary.created_at(), own.key_expiration_time(), now) {
        return Err("its key has expired");
    }
    let Some(subkey) = subkey else {
        return if own.key_flags().sign() { Ok(()) } else { Err("its key isn't for signing") };
    };
    let mut binding: Option<&Signature> = None;
    for signature in &subkey.signatures {
        if !strong(signature) || signature.verify_subkey_binding(primary, &subkey.key).is_err() {
            continue;
        }
        if signature.typ() == Some(SignatureType::SubkeyRevocation) {
            return Err("its subkey was revoked");
        }
        if binding
            .is_none_or(|known| known.created().map(seconds) < signature.created().map(seconds))
        {
            binding = Some(signature);
        }
    }
    let Some(binding) = binding else {
        return Err("its subkey isn't bound to a trusted key");
    };
    if over(subkey.key.created_at(), binding.key_expiration_time(), now) {
        return Err("its subkey has expired");
    }
    // The subkey's own word that it belongs to the key: else a key could claim another's subkey.
    let back = binding.embedded_signature();
    let back =
        back.filter(|s| strong(s) && s.verify_primary_key_binding(&subkey.key, primary).is_ok());
    if !binding.key_flags().sign() || back.is_none() {
        return Err("its subkey isn't for signing");
    }
    Ok(())
}

fn strong(signature: &Signature) -> bool {
    signature.hash_alg().is_some_and(is_strong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_table() {
        let table = include_str!("../data/keys/README.md");
        let keyring = Keyring::debian().unwrap();
        assert_eq!(keyring.len(), 6);
        for key in &keyring.keys {
            let fingerprint = format!("{:X}", key.primary_key.fingerprint());
            assert!(table.contains(&fingerprint), "{fingerprint}");
            // Every one may sign, itself or by its subkey, from 2026 to 2030.
            for now in [1_767_225_600, 1_893_456_000] {
                let subkey = key.public_subkeys.first();
                assert_eq!(may_sign(key, subkey, now), Ok(()), "{fingerprint}");
            }
            assert!(may_sign(key, None, 2_100_000_000).is_err(), "{fingerprint} expires");
        }
    }

    #[test]
    fn what_is_malformed_is_said_in_a_line() {
        let signed = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\ntext\n\
            -----BEGIN PGP SIGNATURE-----\n\niQ==\n-----END PGP SIGNATURE-----\n";
        let keyring = Keyring::debian().unwrap();
        for text in [signed.repeat(2), signed.repeat(2000), signed.replace("iQ==", "!!!!")] {
            let words = keyring.verify(text.as_bytes(), 0).unwrap_err().to_string();
            assert!(words.len() < 300 && !words.contains(", "), "{words}");
        }
    }

    #[test]
    fn a_subkey_of_another_key_does_not_count() {
        let keyring = Keyring::debian().unwrap();
        let (a, b) = (&keyring.keys[0], &keyring.keys[3]);
        let foreign = b.public_subkeys.first();
        assert!(foreign.is_some() && may_sign(a, foreign, 1_767_225_600).is_err());
    }
}
