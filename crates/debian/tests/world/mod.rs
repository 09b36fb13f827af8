//! Small worlds for tests: keys, signed archives in memory, packages byte by byte.
#![allow(dead_code, reason = "each test uses some of it")]

use std::cell::RefCell;
use std::collections::BTreeMap;

use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, KeyType, SecretKeyParamsBuilder, SignedSecretKey,
    SubkeyParamsBuilder,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{Password, Timestamp};
use sconce_blob::Digest;
use sconce_debian::{Fetch, FetchError, Keyring};

/// 2026-11-23, noon.
pub const NOW: u64 = 1_795_435_200;

/// A key that signs archives; `with_subkey` as Debian's do it.
pub struct Key(SignedSecretKey);

impl Key {
    pub fn new(with_subkey: bool) -> Self {
        Self::of_kind(KeyType::Ed25519Legacy, with_subkey)
    }

    /// An RSA key: the kind that can still sign with SHA-1.
    pub fn rsa() -> Self {
        Self::of_kind(KeyType::Rsa(2048), false)
    }

    fn of_kind(kind: KeyType, with_subkey: bool) -> Self {
        let mut params = SecretKeyParamsBuilder::default();
        params
            .key_type(kind.clone())
            .can_certify(true)
            .can_sign(!with_subkey)
            .primary_user_id("Test Archive <test@example.invalid>".into());
        if with_subkey {
            let mut subkey = SubkeyParamsBuilder::default();
            subkey.key_type(kind).can_sign(true);
            params.subkey(subkey.build().unwrap());
        }
        Self(params.build().unwrap().generate(rand::thread_rng()).unwrap())
    }

    pub fn keyring(&self) -> Keyring {
        let mut keyring = Keyring::default();
        keyring.add(&self.public()).unwrap();
        keyring
    }

    pub fn public(&self) -> Vec<u8> {
        self.0.to_public_key().to_bytes().unwrap()
    }

    pub fn sign(&self, text: &str) -> String {
        self.sign_with(text, HashAlgorithm::Sha256, NOW)
    }

    pub fn sign_with(&self, text: &str, hash: HashAlgorithm, time: u64) -> String {
        match self.0.secret_subkeys.first() {
            Some(subkey) => sign(&subkey.key, text, hash, time),
            None => sign(&self.0.primary_key, text, hash, time),
        }
    }
}

fn sign(key: &impl pgp::types::SigningKey, text: &str, hash: HashAlgorithm, time: u64) -> String {
    let mut config = SignatureConfig::v4(SignatureType::Text, key.algorithm(), hash);
    config.hashed_subpackets = vec![
        Subpacket::regular(SubpacketData::SignatureCreationTime(Timestamp::from_secs(time as u32)))
            .unwrap(),
        Subpacket::regular(SubpacketData::IssuerFingerprint(key.fingerprint())).unwrap(),
    ];
    let message = CleartextSignedMessage::new(text, config, key, &Password::empty()).unwrap();
    message.to_armored_string(ArmorOptions::default()).unwrap()
}

/// An archive in memory, by address.
#[derive(Default)]
pub struct Archive {
    pub files: BTreeMap<String, Vec<u8>>,
    pub asked: RefCell<Vec<String>>,
    /// What was read of lists.
    pub kept: RefCell<BTreeMap<Digest, Vec<u8>>>,
    /// Whether there is no place to keep it.
    pub full: bool,
    /// Whether nobody waits any more.
    pub cancelled: bool,
}

impl Fetch for Archive {
    fn get(&self, url: &str, limit: u64) -> Result<Option<Vec<u8>>, FetchError> {
        self.asked.borrow_mut().push(url.to_owned());
        match self.files.get(url) {
            Some(bytes) if bytes == b"(unreachable)" => Err("no route to it".into()),
            Some(bytes) if bytes.len() as u64 > limit => Err("too large".into()),
            found => Ok(found.cloned()),
        }
    }

    fn kept(&self, list: Digest) -> Option<Vec<u8>> {
        self.kept.borrow().get(&list).cloned()
    }

    fn keep(&self, list: Digest, brief: &[u8]) -> Result<(), FetchError> {
        if self.full {
            return Err("no space left".into());
        }
        self.kept.borrow_mut().insert(list, brief.to_vec());
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled
    }
}

impl Archive {
    /// Adds a suite with this list of packages; `change` may spoil the `Release` before signing.
    pub fn suite(
        &mut self,
        mirror: &str,
        suite: &str,
        packages: &str,
        key: &Key,
        change: impl Fn(String) -> String,
    ) {
        let path = "main/binary-amd64/Packages";
        let release = format!(
            "Origin: Debian\nSuite: stable\nCodename: {suite}\nVersion: 13.8\n\
             Date: Sat, 21 Nov 2026 09:15:44 UTC\nValid-Until: Sat, 28 Nov 2026 09:15:44 UTC\n\
             Acquire-By-Hash: yes\nComponents: main\nSHA256:\n {} {} {path}\n",
            Digest::of(packages.as_bytes()).hex(),
            packages.len()
        );
        let base = format!("{mirror}/dists/{suite}");
        let signed = key.sign(&change(release));
        self.files.insert(format!("{base}/InRelease"), signed.into_bytes());
        self.files.insert(format!("{base}/{path}"), packages.as_bytes().to_vec());
    }
}

/// A stanza of `Packages`.
pub fn listed(name: &str, version: &str) -> String {
    format!(
        "Package: {name}\nVersion: {version}\nArchitecture: amd64\nSize: 1\n\
         Filename: pool/{name}_{version}.deb\nSHA256: {}\n\n",
        "0".repeat(64)
    )
}

/// A tar, entry by entry.
#[derive(Default, Clone)]
pub struct TarBuilder(pub Vec<u8>);

impl TarBuilder {
    pub fn entry(self, kind: u8, name: &str, link: &str, content: &[u8]) -> Self {
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(if kind == b'5' { b"0000755\0" } else { b"0000644\0" });
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        header[136..148].copy_from_slice(b"14000000000\0");
        header[156] = kind;
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header[257..265].copy_from_slice(b"ustar  \0");
        self.push(header, content)
    }

    /// A header with its checksum set, and content padded.
    pub fn push(mut self, mut header: [u8; 512], content: &[u8]) -> Self {
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(header);
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn dir(self, name: &str) -> Self {
        self.entry(b'5', name, "", b"")
    }

    pub fn file(self, name: &str, content: &str) -> Self {
        self.entry(b'0', name, "", content.as_bytes())
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(b'2', name, target, b"")
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// An ar of members.
pub fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let len = content.len();
        bytes.extend(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{len:<10}`\n", 0, 0, 0, 100644).bytes(),
        );
        bytes.extend(*content);
        bytes.resize(bytes.len().next_multiple_of(2), b'\n');
    }
    bytes
}

/// A .deb of version 1 with these files; `fields` are lines of control.
pub fn deb(name: &str, fields: &str, data: TarBuilder) -> Vec<u8> {
    let control = format!("Package: {name}\nVersion: 1\nArchitecture: amd64\n{fields}");
    let control = TarBuilder::default().dir("./").file("./control", &control).end();
    ar(&[("debian-binary", b"2.0\n"), ("control.tar", &control), ("data.tar", &data.end())])
}
