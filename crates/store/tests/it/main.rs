//! The store as its callers meet it, in one binary.

mod crash;
mod images;
mod layers;
mod lowers;
mod mend;
mod neighbours;
mod opened;
mod process;
mod prune;
mod remove;
mod sharing;
mod sparse;
mod trees;

use sconce_blob::Digest;
use sconce_store::Store;

/// A store in a folder that goes when the test is over.
fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("home")).unwrap();
    (folder, store)
}

/// Bytes that neither compress nor repeat, the same for the same seed.
fn noise(len: usize, mut seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // xorshift64 (Marsaglia 2003)
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.extend_from_slice(&seed.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A tar of these headers and contents.
fn tar(entries: &[(tar::Header, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (header, content) in entries {
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// A tar header with any name, however bad.
fn header(kind: u8, name: &str, size: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size as u64);
    header.set_cksum();
    header
}

fn link(kind: u8, name: &str, target: &str) -> tar::Header {
    let mut header = header(kind, name, 0);
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_cksum();
    header
}

/// Stores a tar, uncompressed, as a layer and gives its DiffID.
fn put_layer(store: &Store, tar: &[u8]) -> Digest {
    let digest = store.put_bytes(tar).unwrap();
    let media_type = "application/vnd.oci.image.layer.v1.tar".to_owned();
    let size = tar.len() as u64;
    store.put_layer(&sconce_store::Layer { diff_id: digest, digest, size, media_type }).unwrap();
    digest
}
