//! What cosign 3.1.1 wrote is read, and what is signed here has the same form. The files in `cosign` are
//! from a key of `cosign generate-key-pair` (password `secret`), with which it signed an image in both
//! forms.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sconce_blob::Digest;
use sconce_sign::{
    Claim, Error, Evidence, Finding, PrivateKey, PublicKey, SIGNATURE, Statement, Verdict, judge,
};

const KEY: &[u8] = include_bytes!("cosign/cosign.key");
const PUBLIC: &[u8] = include_bytes!("cosign/cosign.pub");
const BUNDLE: &[u8] = include_bytes!("cosign/bundle.json");
const PAYLOAD: &[u8] = include_bytes!("cosign/tag-payload.json");
const IMAGE: &str = "sha256:e02027d6ce3d8f53c26ce53916d34183856e627c7e1b48635c76932e8e8c45ef";
/// `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`.
const PLAIN: &[u8] = include_bytes!("cosign/plain.key");

fn image() -> Digest {
    IMAGE.parse().unwrap()
}

fn public() -> PublicKey {
    PublicKey::parse(PUBLIC).unwrap()
}

fn simple() -> Evidence {
    let manifest: serde_json::Value =
        serde_json::from_slice(include_bytes!("cosign/tag-manifest.json")).unwrap();
    let signature = manifest["layers"][0]["annotations"][SIGNATURE].as_str().unwrap().to_owned();
    Evidence::Simple { payload: PAYLOAD.to_vec(), signature }
}

#[test]
fn signatures_of_cosign_are_read() {
    for evidence in [Evidence::Bundle(BUNDLE.to_vec()), simple()] {
        let found = evidence.examine(&[image()], &[public()]);
        assert_eq!(found, Finding::Proved { key: 0, image: image(), claim: Claim::Signed });
        assert_eq!(judge(&[found]), Verdict::Yes { key: 0, image: image() });
        // Of the index or of the manifest behind it: which one is said.
        let other = Digest::of(b"other");
        let found = evidence.examine(&[other, image()], &[public()]);
        assert_eq!(judge(&[found]), Verdict::Yes { key: 0, image: image() });
        let elsewhere = evidence.examine(&[other], &[public()]);
        assert_eq!(elsewhere, Finding::OtherImage(vec![image()]));
        let key = PrivateKey::parse(PLAIN, None).unwrap().public().unwrap();
        let strange = evidence.examine(&[image()], &[key]);
        assert!(matches!(strange, Finding::OtherKey { .. }), "{strange:?}");
        assert!(matches!(judge(&[elsewhere, strange]), Verdict::No(_)));
        assert!(matches!(evidence.examine(&[image()], &[]), Finding::OtherKey { .. }));
    }
    assert_eq!(judge(&[]), Verdict::No("there is no signature".to_owned()));
}

#[test]
fn a_key_of_cosign_is_opened_and_signs_as_cosign_does() {
    assert_eq!(PrivateKey::parse(KEY, None).unwrap_err(), Error::Locked);
    assert_eq!(PrivateKey::parse(KEY, Some(b"wrong")).unwrap_err(), Error::Password);
    let key = PrivateKey::parse(KEY, Some(b"secret")).unwrap();
    assert_eq!(key.public().unwrap(), public());
    assert_eq!(public().to_pem().as_bytes(), PUBLIC);
    // All but the signature, which is another one each time there, is the same byte for byte.
    let ours: serde_json::Value =
        serde_json::from_slice(&Statement::signed(image()).sign(&key).unwrap()).unwrap();
    let mut theirs: serde_json::Value = serde_json::from_slice(BUNDLE).unwrap();
    theirs["dsseEnvelope"]["signatures"] = ours["dsseEnvelope"]["signatures"].clone();
    assert_eq!(ours.to_string(), theirs.to_string());
    let Evidence::Simple { payload, .. } =
        Evidence::sign_simple(&key, "127.0.0.1:5601/t/img", image()).unwrap()
    else {
        panic!()
    };
    assert_eq!(payload, PAYLOAD);
}

#[test]
fn the_same_is_signed_the_same_way_each_time() {
    let key = PrivateKey::parse(PLAIN, None).unwrap();
    let sign = || Statement::signed(image()).sign(&key).unwrap();
    assert_eq!(sign(), sign());
    let bytes = b"sample";
    assert!(key.public().unwrap().has_signed(bytes, &key.sign(bytes).unwrap()));
    assert!(!key.public().unwrap().has_signed(b"Sample", &key.sign(bytes).unwrap()));
}

/// Test vector of RFC 6979, A.2.5: P-256 with SHA-256, message "sample".
#[test]
fn signatures_are_those_of_rfc_6979() {
    let x = "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721";
    let r = "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716";
    let s = "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8";
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    };
    // SEC 1: SEQUENCE { 1, OCTET STRING, [0] { OID of P-256 } }.
    let mut der = vec![0x30, 49, 2, 1, 1, 4, 32];
    der.extend(bytes(x));
    der.extend([0xa0, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]);
    let pem = format!(
        "-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----\n",
        STANDARD.encode(der)
    );
    let key = PrivateKey::parse(pem.as_bytes(), None).unwrap();
    let mut expected = vec![0x30, 70, 2, 33, 0];
    expected.extend(bytes(r));
    expected.extend([2, 33, 0]);
    expected.extend(bytes(s));
    assert_eq!(key.sign(b"sample").unwrap(), expected);
}

#[test]
fn what_is_signed_must_be_what_it_is_taken_for() {
    let key = PrivateKey::parse(PLAIN, None).unwrap();
    let public = key.public().unwrap();
    let find =
        |bytes: Vec<u8>| Evidence::Bundle(bytes).examine(&[image()], std::slice::from_ref(&public));
    // An attestation of the same key is not a signature.
    let sbom = Statement::new(image(), "https://cyclonedx.org/bom", serde_json::json!({"a": 1}));
    let found = find(sbom.sign(&key).unwrap());
    assert!(matches!(&found, Finding::Proved { claim: Claim::Attested(_), .. }), "{found:?}");
    assert!(matches!(judge(&[found]), Verdict::No(why) if why.contains("attestation")));
    // Other types than those that are signed for.
    let good = String::from_utf8(Statement::signed(image()).sign(&key).unwrap()).unwrap();
    for (from, to) in [
        ("bundle.v0.3+json", "bundle.v0.2+json"),
        ("vnd.in-toto+json", "vnd.other+json"),
        (r#""signatures":[{"#, r#""signatures":[{"sig":""},{"#),
        (r#""signatures":[{"#, r#""signatures":[],"x":[{"#),
        (r#""dsseEnvelope""#, r#""messageSignature":{},"dsseEnvelope""#),
        (r#""payload":"#, r#""payload":"AAAA","payload":"#),
    ] {
        assert!(good.contains(from), "{from}");
        let found = find(good.replacen(from, to, 1).into_bytes());
        assert!(matches!(found, Finding::Unreadable(_)), "{from}: {found:?}");
        assert!(matches!(judge(&[found]), Verdict::CantTell(_)));
    }
    // What can't be read does not hide what can.
    let findings = [find(b"{}".to_vec()), find(good.into_bytes())];
    assert!(matches!(judge(&findings), Verdict::Yes { .. }));
}

#[test]
fn keys_that_are_not_taken_are_named() {
    for (file, says) in [
        (&b"nothing"[..], "no PEM file"),
        (b"\xff", "no PEM file"),
        (KEY, "a public key should be there is `ENCRYPTED SIGSTORE PRIVATE KEY`"),
        (&[PUBLIC, PUBLIC].concat()[..], "more than one key"),
    ] {
        let error = PublicKey::parse(file).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert!(
        PrivateKey::parse(PUBLIC, None)
            .unwrap_err()
            .to_string()
            .contains("a private key should be there is `PUBLIC KEY`")
    );
}

/// Every byte of what cosign wrote, changed in several ways: nothing panics, and where a signature still
/// counts, what is signed is what was signed.
#[test]
fn no_changed_byte_makes_another_truth() {
    let wanted = |bytes: &[u8]| -> Option<Vec<u8>> {
        let bundle: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str()?).ok()
    };
    let mut proved = 0;
    for at in 0..BUNDLE.len() {
        for change in [0x01, 0x02, 0x20, 0x80] {
            let mut bytes = BUNDLE.to_vec();
            bytes[at] ^= change;
            let found = Evidence::Bundle(bytes.clone()).examine(&[image()], &[public()]);
            if let Finding::Proved { image: signed, .. } = found {
                proved += 1;
                assert_eq!((signed, wanted(&bytes)), (image(), wanted(BUNDLE)));
            }
        }
        let _ = Evidence::Bundle(BUNDLE[..at].to_vec()).examine(&[image()], &[public()]);
    }
    // Only names of fields that are not needed, and the hint, may change.
    assert!((1..900).contains(&proved), "{proved}");
    let Evidence::Simple { signature, .. } = simple() else { panic!() };
    for at in 0..PAYLOAD.len() {
        let mut payload = PAYLOAD.to_vec();
        payload[at] ^= 1;
        let found = Evidence::Simple { payload, signature: signature.clone() };
        let found = found.examine(&[image()], &[public()]);
        assert!(matches!(found, Finding::OtherKey { .. }), "{found:?}");
    }
    for (file, parse) in [
        (PUBLIC, (&|file: &[u8]| drop(PublicKey::parse(file))) as &dyn Fn(&[u8])),
        (PLAIN, &|file: &[u8]| drop(PrivateKey::parse(file, None))),
        (KEY, &|file: &[u8]| drop(PrivateKey::parse(file, None))),
    ] {
        for at in 0..file.len() {
            for change in [0x01, 0x10, 0x80] {
                let mut bytes = file.to_vec();
                bytes[at] ^= change;
                parse(&bytes);
            }
            parse(&file[..at]);
        }
    }
}
