//! Keys of each kind, as openssl makes them, and what it signed with them: `printf sample | openssl dgst -sign`.

use sconce_sign::{PrivateKey, PublicKey};

const SAMPLE: &[u8] = b"sample";

/// A kind: private key, public key, a signature of `SAMPLE` with the hash that belongs to it.
type Key = (&'static str, &'static [u8], &'static [u8], &'static [u8]);

const KEYS: [Key; 4] = [
    (
        "P-384",
        include_bytes!("keys/p384.key"),
        include_bytes!("keys/p384.pub"),
        include_bytes!("keys/p384.sig"),
    ),
    (
        "P-521",
        include_bytes!("keys/p521.key"),
        include_bytes!("keys/p521.pub"),
        include_bytes!("keys/p521.sig"),
    ),
    (
        "RSA",
        include_bytes!("keys/rsa.key"),
        include_bytes!("keys/rsa.pub"),
        include_bytes!("keys/rsa.sig"),
    ),
    (
        "Ed25519",
        include_bytes!("keys/ed25519.key"),
        include_bytes!("keys/ed25519.pub"),
        include_bytes!("keys/ed25519.sig"),
    ),
];

#[test]
fn what_openssl_signed_is_verified() {
    for (kind, _, public, signature) in KEYS {
        let key = PublicKey::parse(public).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert!(key.has_signed(SAMPLE, signature), "{kind}");
        assert_eq!(key.to_pem().as_bytes(), public, "{kind}");
        for (other, _, public, _) in KEYS {
            let theirs = PublicKey::parse(public).unwrap();
            assert_eq!(theirs.has_signed(SAMPLE, signature), kind == other, "{kind} {other}");
            assert_eq!(theirs == key, kind == other);
        }
        assert!(!key.has_signed(b"Sample", signature), "{kind}");
        assert!(!key.has_signed(SAMPLE, b"") && !key.has_signed(SAMPLE, &[0; 5000]), "{kind}");
        for at in 0..signature.len() {
            for bit in [1, 128] {
                let mut changed = signature.to_vec();
                changed[at] ^= bit;
                assert!(!key.has_signed(SAMPLE, &changed), "{kind}: byte {at}");
            }
            assert!(!key.has_signed(SAMPLE, &signature[..at]), "{kind}");
        }
        let longer = [signature, &[0]].concat();
        assert!(!key.has_signed(SAMPLE, &longer), "{kind}");
    }
}

/// The hash belongs to the key. With P-384 there are two: cosign before 3 signed with SHA-256.
#[test]
fn another_hash_is_no_signature() {
    let signed = |public: &[u8], signature: &[u8]| {
        PublicKey::parse(public).unwrap().has_signed(SAMPLE, signature)
    };
    assert!(signed(KEYS[0].2, include_bytes!("keys/p384-sha256.sig")));
    assert!(!signed(KEYS[0].2, include_bytes!("keys/p384-sha512.sig")));
    assert!(!signed(KEYS[2].2, include_bytes!("keys/rsa-sha512.sig")));
}

#[test]
fn signatures_are_the_same_each_time() {
    for (kind, private, public, signature) in KEYS {
        if kind == "P-521" {
            let error = PrivateKey::parse(private, None).unwrap_err().to_string();
            assert!(error.contains("P-521") && error.contains("not made"), "{error}");
            continue;
        }
        let key =
            PrivateKey::parse(private, None).unwrap_or_else(|error| panic!("{kind}: {error}"));
        let public = PublicKey::parse(public).unwrap();
        assert_eq!(key.public().unwrap(), public, "{kind}");
        let signed = key.sign(SAMPLE).unwrap();
        assert_eq!(key.sign(SAMPLE).unwrap(), signed, "{kind}");
        assert!(public.has_signed(SAMPLE, &signed), "{kind}");
        // openssl's EC signatures have a random number in them.
        assert!(kind == "P-384" || signed == signature, "{kind}");
    }
    for (other, same) in [
        (&include_bytes!("keys/rsa-pkcs1.key")[..], KEYS[2].2),
        (&include_bytes!("keys/p384-sec1.key")[..], KEYS[0].2),
    ] {
        let key = PrivateKey::parse(other, None).unwrap().public().unwrap();
        assert_eq!(key, PublicKey::parse(same).unwrap());
    }
}

/// RFC 6979, A.2.6: P-384 with SHA-384, message "sample".
#[test]
fn signatures_of_p384_are_those_of_rfc_6979() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let x = "6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5";
    let r = "94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C81A648152E44ACF96E36DD1E80FABE46";
    let s = "99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94FA329C145786E679E7B82C71A38628AC8";
    let mut der = vec![0x30, 62, 2, 1, 1, 4, 48];
    der.extend(bytes(x));
    der.extend([0xa0, 7, 6, 5, 0x2b, 0x81, 4, 0, 0x22]);
    let pem = format!(
        "-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----\n",
        STANDARD.encode(der)
    );
    let key = PrivateKey::parse(pem.as_bytes(), None).unwrap();
    let expected = [&[0x30, 102, 2, 49, 0][..], &bytes(r), &[2, 49, 0], &bytes(s)].concat();
    assert_eq!(key.sign(SAMPLE).unwrap(), expected);
}

/// RFC 8032, section 7.3: Ed25519ph, which cosign signs with, message "abc".
#[test]
fn prehashed_ed25519_is_verified() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let seed = "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42";
    let signature = "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41\
        31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406";
    let mut der = vec![0x30, 46, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 34, 4, 32];
    der.extend(bytes(seed));
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der)
    );
    let key = PrivateKey::parse(pem.as_bytes(), None).unwrap().public().unwrap();
    assert!(key.has_signed(b"abc", &bytes(signature)));
    assert!(!key.has_signed(b"abd", &bytes(signature)));
}

#[test]
fn keys_that_are_not_taken_are_named() {
    for (file, says) in [
        (&include_bytes!("keys/small.pub")[..], "2048 to 4096 bits"),
        (&include_bytes!("keys/ed448.pub")[..], "an Ed448 key"),
    ] {
        let error = PublicKey::parse(file).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    // The point of order 1: whoever signs nothing has a signature by it.
    let weak = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n-----END PUBLIC KEY-----\n";
    assert!(PublicKey::parse(weak.as_bytes()).is_err());
}

/// Every byte of a file changed: read or refused, and no panic.
#[test]
fn damaged_keys_do_no_harm() {
    for (_, private, public, _) in KEYS {
        for file in [private, public] {
            for at in 0..file.len() {
                for change in [0x01, 0x10] {
                    let mut bytes = file.to_vec();
                    bytes[at] ^= change;
                    drop(PublicKey::parse(&bytes));
                    // An RSA key is proved whole when it is read, which takes its time.
                    if private.len() < 1000 || at % 16 == 0 {
                        drop(PrivateKey::parse(&bytes, None));
                    }
                }
            }
        }
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
