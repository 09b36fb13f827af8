//! cosign's encrypted private keys: a PKCS#8 key in NaCl's secretbox (XSalsa20-Poly1305), under a key
//! that scrypt makes of the password.
//!
//! Source: `pkg/cosign/keys.go` and `encrypted` of secure-systems-lab's `go-securesystemslib`. The
//! block is JSON: {"kdf": {"name", "params": {"N", "r", "p"}, "salt"}, "cipher": {"name", "nonce"},
//! "ciphertext"}.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::Aead;
use crypto_secretbox::{KeyInit, XSalsa20Poly1305};
use serde::Deserialize;

use crate::error::Error;
use crate::json;

/// The labels of such a block: today's, and that of keys from before cosign 2.
pub(crate) const LABELS: [&str; 2] =
    ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"];

/// What scrypt may cost: cosign writes N = 2^15 (older) or 2^16, which takes 64 MiB. A file must not make
/// this machine spend more than 256 MiB.
const LOG_N: std::ops::RangeInclusive<u8> = 14..=18;
const R: u32 = 8;
const P: u32 = 1;
const KEY: usize = 32;
const NONCE: usize = 24;

/// An encrypted key, read and not opened yet.
#[derive(Debug)]
pub(crate) struct Encrypted {
    log_n: u8,
    salt: Vec<u8>,
    nonce: Vec<u8>,
    ciphertext: Vec<u8>,
}

#[derive(Deserialize)]
struct Document {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Deserialize)]
struct Params {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

impl Encrypted {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let wrong = |why: &str| {
            let hint = "a key of `cosign generate-key-pair` is read, and so is PKCS#8";
            Error::key(format!("the encrypted key can't be read: {why}"), hint)
        };
        let Document { kdf, cipher, ciphertext } =
            json::parse(bytes).map_err(|error| wrong(&error.to_string()))?;
        let Params { n, r, p } = kdf.params;
        let log_n = u8::try_from(n.trailing_zeros()).unwrap_or(u8::MAX);
        if kdf.name != "scrypt" || cipher.name != "nacl/secretbox" {
            return Err(wrong(&format!("`{}` with `{}`", kdf.name, cipher.name)));
        }
        if !n.is_power_of_two() || !LOG_N.contains(&log_n) || (r, p) != (R, P) {
            return Err(wrong(&format!("scrypt with N={n}, r={r}, p={p}")));
        }
        let bytes = |text: &str| STANDARD.decode(text).map_err(|_| wrong("it is not base64"));
        let nonce = bytes(&cipher.nonce)?;
        if nonce.len() != NONCE {
            return Err(wrong("its nonce has not 24 bytes"));
        }
        Ok(Self { log_n, salt: bytes(&kdf.salt)?, nonce, ciphertext: bytes(&ciphertext)? })
    }

    /// The PKCS#8 key inside.
    pub(crate) fn open(&self, password: &[u8]) -> Result<Vec<u8>, Error> {
        let params = scrypt::Params::new(self.log_n, R, P, KEY).map_err(|_| Error::Password)?;
        let mut key = [0; KEY];
        scrypt::scrypt(password, &self.salt, &params, &mut key).map_err(|_| Error::Password)?;
        let nonce = crypto_secretbox::Nonce::from_slice(&self.nonce);
        let opened = XSalsa20Poly1305::new(&key.into()).decrypt(nonce, &*self.ciphertext);
        opened.map_err(|_| Error::Password)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_does_not_decide_what_scrypt_costs() {
        let document = |n: u64, r: u32, p: u32, name: &str| {
            format!(
                r#"{{"kdf":{{"name":"scrypt","params":{{"N":{n},"r":{r},"p":{p}}},"salt":"AA=="}},
                    "cipher":{{"name":"{name}","nonce":"{}"}},"ciphertext":""}}"#,
                STANDARD.encode([0; NONCE])
            )
        };
        let read = |text: &str| Encrypted::parse(text.as_bytes());
        assert!(read(&document(1 << 16, 8, 1, "nacl/secretbox")).is_ok());
        for (n, r, p) in
            [(1 << 30, 8, 1), (0, 8, 1), (65537, 8, 1), (1 << 16, 800, 1), (1 << 16, 8, 9)]
        {
            assert!(read(&document(n, r, p, "nacl/secretbox")).is_err(), "{n} {r} {p}");
        }
        assert!(read(&document(1 << 16, 8, 1, "none")).is_err());
        assert!(read("{}").is_err());
    }
}
