//! The bundle of certificate authorities and the links that OpenSSL finds one by.
//!
//! What `update-ca-certificates` does: every `.crt` below `/usr/share/ca-certificates` gets a
//! link in `/etc/ssl/certs`, another one named by its subject's hash, and a place in the bundle.
//! Source: update-ca-certificates(8); OpenSSL's `X509_NAME_hash_ex` and its canonical form of a
//! name (`crypto/x509/x_name.c`); ITU-T X.690 for DER; RFC 5280 §4.1 for a certificate.

use std::collections::BTreeMap;

use base64::Engine;
use sconce_layer::{Content, Kind, Meta};
use sha1::{Digest, Sha1};

use super::tree::Tree;
use crate::Error;

const FOLDER: &str = "usr/share/ca-certificates";
const MAX_CERTIFICATE: u64 = 1 << 20;
/// The most certificates; Mozilla's set has 150.
const MAX_CERTIFICATES: usize = 4096;

pub(super) fn add(tree: &mut Tree) -> Result<(), Error> {
    let files = tree.below(FOLDER).filter(|(path, node)| {
        path.ends_with(".crt") && matches!(node.kind, Kind::File(_) | Kind::Symlink { .. })
    });
    let paths: Vec<String> =
        files.map(|(path, _)| path.to_owned()).take(MAX_CERTIFICATES).collect();
    if paths.is_empty() {
        return Ok(());
    }
    let (mut bundle, mut list) = (Vec::new(), String::new());
    let mut hashes: BTreeMap<u32, u32> = BTreeMap::new();
    for path in &paths {
        let pem = tree.read(path, MAX_CERTIFICATE)?;
        let fault = || Error::Compose {
            path: path.clone(),
            reason: "it is not a certificate that can be read".into(),
        };
        let hash = subject_hash(&pem_to_der(&pem).ok_or_else(fault)?).ok_or_else(fault)?;
        let name = path.rsplit('/').next().unwrap_or_default().trim_end_matches(".crt");
        // As the script has it: `tr ' ()' '_==' | tr ',' '_'`.
        let name: String = name
            .chars()
            .map(|c| match c {
                ' ' | ',' => '_',
                '(' | ')' => '=',
                c => c,
            })
            .collect();
        link(tree, &format!("etc/ssl/certs/{name}.pem"), &format!("/{path}"))?;
        let number = hashes.entry(hash).or_default();
        link(tree, &format!("etc/ssl/certs/{hash:08x}.{number}"), &format!("{name}.pem"))?;
        *number += 1;
        bundle.extend_from_slice(&pem);
        if !pem.ends_with(b"\n") {
            bundle.push(b'\n');
        }
        list.push_str(path.get(FOLDER.len() + 1..).unwrap_or_default());
        list.push('\n');
    }
    let bundle = Kind::File(Content::bytes(bundle));
    tree.add("etc/ssl/certs/ca-certificates.crt", bundle, Meta::FILE)?;
    tree.add("etc/ca-certificates.conf", Kind::File(Content::bytes(list.into_bytes())), Meta::FILE)
}

fn link(tree: &mut Tree, path: &str, target: &str) -> Result<(), Error> {
    tree.add(path, Kind::Symlink { target: target.to_owned() }, Meta::SYMLINK)
}

/// The first certificate of a PEM file (RFC 7468).
fn pem_to_der(pem: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pem).ok()?;
    let (_, rest) = text.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let body: String = body.split_ascii_whitespace().collect();
    base64::engine::general_purpose::STANDARD.decode(body).ok()
}

// DER tags (X.690 §8.1.2, X.680 §8.6).
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const T61_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const VISIBLE_STRING: u8 = 0x1a;
const UNIVERSAL_STRING: u8 = 0x1c;
const BMP_STRING: u8 = 0x1e;
/// `[0] EXPLICIT Version`.
const VERSION: u8 = 0xa0;

/// OpenSSL's hash of a certificate's subject: the first four bytes, little-endian, of the SHA-1
/// of the name in canonical form.
pub(super) fn subject_hash(certificate: &[u8]) -> Option<u32> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (mut rest, _) = expect(certificate, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        (_, rest) = expect(rest, VERSION)?;
    }
    // serialNumber, signature, issuer, validity
    for _ in 0..4 {
        rest = element(rest)?.2;
    }
    let (mut subject, _) = expect(rest, SEQUENCE)?;
    let mut canonical = Vec::new();
    while !subject.is_empty() {
        let (mut set, after) = expect(subject, SET)?;
        subject = after;
        let mut attributes = Vec::new();
        while !set.is_empty() {
            let (attribute, after) = expect(set, SEQUENCE)?;
            set = after;
            attributes.push(canonical_attribute(attribute)?);
        }
        // SET OF: the encodings in ascending order (X.690 §11.6).
        attributes.sort();
        canonical.extend(encode(SET, &attributes.concat()));
    }
    let digest = Sha1::digest(&canonical);
    let first: [u8; 4] = digest.get(..4)?.try_into().ok()?;
    Some(u32::from_le_bytes(first))
}

/// An attribute with its text in lower case, blanks trimmed and folded, as UTF-8.
fn canonical_attribute(attribute: &[u8]) -> Option<Vec<u8>> {
    let (oid, value) = expect(attribute, OID)?;
    let (tag, content, _) = element(value)?;
    let mut body = encode(OID, oid);
    let text = match tag {
        UTF8_STRING | PRINTABLE_STRING | IA5_STRING | VISIBLE_STRING => content.to_vec(),
        T61_STRING => content.iter().map(|&byte| char::from(byte)).collect::<String>().into_bytes(),
        BMP_STRING => wide(content, 2)?,
        UNIVERSAL_STRING => wide(content, 4)?,
        _ => {
            body.extend_from_slice(value.get(..value.len() - element(value)?.2.len())?);
            return Some(encode(SEQUENCE, &body));
        }
    };
    // C's isspace in the C locale, bytewise.
    let space = |byte: &u8| matches!(byte, b' ' | 0x09..=0x0d);
    let words = text.split(space).filter(|word| !word.is_empty());
    let folded = words.map(<[u8]>::to_ascii_lowercase).collect::<Vec<_>>().join(&b' ');
    body.extend(encode(UTF8_STRING, &folded));
    Some(encode(SEQUENCE, &body))
}

/// Big-endian code points of `width` bytes as UTF-8.
fn wide(content: &[u8], width: usize) -> Option<Vec<u8>> {
    let units = content.chunks(width).map(|unit| {
        let point = unit.iter().fold(0u32, |point, &byte| point << 8 | u32::from(byte));
        char::from_u32(point).filter(|_| unit.len() == width)
    });
    units.collect::<Option<String>>().map(String::into_bytes)
}

/// Tag, content and what follows the first element. Long tags don't occur in certificates.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0usize, |n, &byte| n << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    (tag & 0x1f != 0x1f).then_some((tag, content, rest))
}

fn expect(bytes: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = element(bytes)?;
    (tag == wanted).then_some((content, rest))
}

fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match content.len() {
        len @ 0..0x80 => bytes.push(len as u8),
        len => {
            let digits = len.to_be_bytes();
            let digits: Vec<u8> = digits.into_iter().skip_while(|&byte| byte == 0).collect();
            bytes.push(0x80 | digits.len() as u8);
            bytes.extend(digits);
        }
    }
    bytes.extend_from_slice(content);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `openssl req -x509`; the hashes are what `openssl x509 -hash` prints.
    const CERTIFICATES: [(&[u8], u32); 3] = [
        // Capitals, and blanks before, between and after.
        (include_bytes!("../../tests/data/certificates/plain.crt"), 0x84261e28),
        // Letters beyond ASCII, and two attributes in one set.
        (include_bytes!("../../tests/data/certificates/utf8.crt"), 0x1aab10f7),
        // A BMPString.
        (include_bytes!("../../tests/data/certificates/bmp.crt"), 0x14dc3ff4),
    ];

    #[test]
    fn hashes_are_openssl_s() {
        for (pem, hash) in CERTIFICATES {
            assert_eq!(subject_hash(&pem_to_der(pem).unwrap()), Some(hash), "{hash:08x}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let der = pem_to_der(CERTIFICATES[1].0).unwrap();
        for at in 0..der.len() {
            let _ = subject_hash(&der[..at]);
            for value in [0x00, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = der.clone();
                changed[at] = value;
                let _ = subject_hash(&changed);
            }
        }
        assert_eq!(pem_to_der(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"), None);
    }
}
