//! Blobs, virtual blobs, and what the store makes of damage.

use std::fs;
use std::io::Read;

use sconce_blob::{Assembly, Digest};
use sconce_store::{Error, Options, Store, default_root};

use crate::{header, noise, put_layer, store, tar};

fn read(store: &Store, digest: Digest) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.open_blob(digest).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_root_follows_the_environment() {
    let root = |pairs: &[(&str, &str)]| {
        default_root(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
    };
    assert_eq!(root(&[("HOME", "/h")]).unwrap().to_str(), Some("/h/.local/share/sconce"));
    assert_eq!(
        root(&[("HOME", "/h"), ("XDG_DATA_HOME", "/x")]).unwrap().to_str(),
        Some("/x/sconce")
    );
    assert_eq!(
        root(&[("HOME", "/h"), ("XDG_DATA_HOME", "x"), ("SCONCE_HOME", "")]).unwrap().to_str(),
        Some("/h/.local/share/sconce")
    );
    assert_eq!(root(&[("HOME", "/h"), ("SCONCE_HOME", "/s")]).unwrap().to_str(), Some("/s"));
    assert!(matches!(root(&[]), Err(Error::NoHome)));
}

#[test]
fn a_virtual_blob_reads_like_a_real_one() {
    let (_folder, store) = store();
    let (a, b) = (noise(300_000, 1), noise(1000, 2));
    let (a_digest, b_digest) = (store.put_bytes(&a).unwrap(), store.put_bytes(&b).unwrap());
    let mut assembly = Assembly::default();
    let mut want = Vec::new();
    for (literal, digest, blob, start, len) in [
        (&b"head"[..], a_digest, &a, 5, 299_000),
        (b"", b_digest, &b, 0, 1000),
        (b"middle", a_digest, &a, 299_999, 1),
        (b"tail", b_digest, &b, 999, 0),
    ] {
        assembly.literal(literal);
        assembly.blob(digest, start as u64, len as u64);
        want.extend_from_slice(literal);
        want.extend_from_slice(&blob[start..start + len]);
    }
    let digest = Digest::of(&want);
    store.put_virtual(digest, &assembly).unwrap();
    assert!(store.has_blob(digest).unwrap() && store.blob_path(digest).unwrap().is_none());
    assert_eq!(store.open_blob(digest).unwrap().len(), want.len() as u64);
    assert!(read(&store, digest) == want);
    store.verify(digest).unwrap();
    assert_eq!(store.assembly(digest).unwrap().unwrap(), assembly);
    for skipped in [0, 3, 4, 299_003, 299_004, 300_005, want.len() as u64] {
        let mut reader = store.open_blob(digest).unwrap();
        reader.skip(skipped);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert!(rest == want[skipped as usize..], "after {skipped}");
    }
}

#[test]
fn a_virtual_blob_needs_its_parts() {
    let (_folder, store) = store();
    let part = store.put_bytes(b"part").unwrap();
    let mut missing = Assembly::default();
    missing.blob(Digest::of(b"nowhere"), 0, 1);
    assert!(matches!(store.put_virtual(part, &missing), Err(Error::MissingBlob(_))));
    for (offset, len) in [(0, 5), (4, 1), (u64::MAX, 1)] {
        let mut beyond = Assembly::default();
        beyond.blob(part, offset, len);
        let put = store.put_virtual(Digest::of(b"x"), &beyond);
        assert!(matches!(put, Err(Error::Corrupt { .. })), "{offset}+{len}: {put:?}");
    }
    let lying = Assembly { literals: b"more".to_vec(), ..Assembly::default() };
    assert!(store.put_virtual(Digest::of(b"x"), &lying).is_err());
    assert!(!store.has_blob(Digest::of(b"x")).unwrap());
}

#[test]
fn damage_on_disk_is_found() {
    let (_folder, store) = store();
    let part = store.put_bytes(b"part").unwrap();
    let mut assembly = Assembly::default();
    assembly.literal(b"a ");
    assembly.blob(part, 0, 4);
    let digest = Digest::of(b"a part");
    store.put_virtual(digest, &assembly).unwrap();
    let file = store.root().join("virtual").join(&digest.hex()[..2]).join(digest.hex());
    let whole = fs::read(&file).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert!(matches!(store.open_blob(digest), Err(Error::Corrupt { .. })), "byte {at}");
        fs::write(&file, &whole[..at]).unwrap();
        assert!(matches!(store.open_blob(digest), Err(Error::Corrupt { .. })), "cut at {at}");
    }
    fs::write(&file, &whole).unwrap();
    // A part that was cut off must not read as a shorter blob.
    let path = store.blob_path(part).unwrap().unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"par").unwrap();
    let mut bytes = Vec::new();
    assert!(store.open_blob(digest).unwrap().read_to_end(&mut bytes).is_err());
    assert!(matches!(store.verify(part), Err(Error::WrongDigest { .. })));
}

/// Another member of a group may have made it: what can't be a description is told by its first bytes or its size.
#[test]
fn a_description_that_can_be_none_is_not_read() {
    let (_folder, store) = store();
    let digest = Digest::of(b"a part");
    let path = store.root().join("virtual").join(&digest.hex()[..2]).join(digest.hex());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let says = |start: &[u8], length: u64| {
        fs::write(&path, start).unwrap();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
        let memory = |key: &str| {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with(key)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        let before = memory("VmHWM:");
        let Err(Error::Corrupt { why, .. }) = store.open_blob(digest) else { panic!() };
        (why, memory("VmHWM:") - before)
    };
    const MOST: u64 = 128 << 20;
    let (why, _) = says(b"SCONCEV1", MOST + 1);
    assert_eq!(why, format!("{} bytes, of at most {MOST}", MOST + 1));
    let (why, kib) = says(b"SCONCEV2", MOST);
    assert!(why == "not a virtual blob of this format" && kib < 64 << 10, "{why}: {kib} KiB");
    assert_eq!(says(b"SCONCEV1", 1 << 20).0, "its checksum doesn't fit");
}

#[test]
fn other_bytes_than_expected_are_refused() {
    let (folder, store) = store();
    let expected = Digest::of(b"right");
    let error = store.put_stream(&b"wrong"[..], "the file", Some(expected)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&expected.to_string()), "{text}");
    assert!(text.contains(&Digest::of(b"wrong").to_string()), "{text}");
    let file = folder.path().join("file");
    fs::write(&file, b"wrong").unwrap();
    assert!(matches!(store.put_file(&file, Some(expected)), Err(Error::WrongDigest { .. })));
    assert!(!store.has_blob(expected).unwrap() && !store.has_blob(Digest::of(b"wrong")).unwrap());
    assert_eq!(store.put_file(&file, None).unwrap(), Digest::of(b"wrong"));
    assert_eq!(fs::read(&file).unwrap(), b"wrong");
}

#[test]
fn only_a_store_is_opened_as_one() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "").unwrap();
    assert!(matches!(Store::open(folder.path()), Err(Error::NotAStore(_))));
    let (_folder, store) = store();
    let root = store.root().to_owned();
    drop(store);
    fs::write(root.join("version"), "3\n").unwrap();
    let error = Store::open(&root).unwrap_err();
    assert!(matches!(error, Error::NewerFormat { found: 3, known: 2, .. }), "{error}");
    fs::write(root.join("version"), "one\n").unwrap();
    assert!(matches!(Store::open(&root), Err(Error::Corrupt { .. })));
}

/// A prune that does not go on holds the lock of all pins: what is there is not known then.
#[test]
fn a_lock_waited_for_in_vain_is_not_an_answer() {
    let (folder, store) = store();
    let layer = put_layer(&store, &tar(&[(header(b'0', "file", 0), b"")]));
    store.extract(layer, &|_| {}).unwrap();
    let blob = store.layer(layer).unwrap().unwrap().digest;
    drop(store);
    let gc = std::fs::File::open(folder.path().join("home/locks/gc")).unwrap();
    rustix::fs::flock(&gc, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let lock_timeout = Some(std::time::Duration::from_secs(1));
    let options = Options { lock_timeout, ..Options::default() };
    let store = Store::open_with(folder.path().join("home"), options).unwrap();
    assert!(matches!(store.has_blob(blob), Err(Error::Locked { .. })));
    assert!(matches!(store.blob_path(blob), Err(Error::Locked { .. })));
    assert!(matches!(store.missing([blob], |blob| *blob), Err(Error::Locked { .. })));
    assert!(matches!(store.tree(layer), Err(Error::Locked { .. })));
    drop(gc);
    assert!(store.has_blob(blob).unwrap() && store.tree(layer).unwrap().is_some());
}
