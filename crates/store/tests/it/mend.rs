//! What is damaged on disk is found out and goes; what is sound stays.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::images::put_image;
use crate::store;

fn writable(path: &Path) -> fs::File {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    OpenOptions::new().write(true).open(path).unwrap()
}

#[test]
fn damaged_layers_go_with_the_part_that_is_to_blame() {
    let (_folder, store) = store();
    put_image(&store, &["a:1"], 1);
    put_image(&store, &["b:1"], 2);
    let layers = |name: &str| store.image(name).unwrap().layers;
    let (a, b) = (layers("a:1"), layers("b:1"));
    assert_eq!(store.mend_layers(&a).unwrap(), 0);
    let part = |layer: &sconce_store::Layer| {
        let assembly = store.assembly(layer.digest).unwrap().unwrap();
        assembly.segments.iter().find_map(|segment| match segment {
            sconce_blob::Segment::Blob { digest, .. } => Some(*digest),
            sconce_blob::Segment::Literal { .. } => None,
        })
    };

    // A real blob that was changed.
    let base = store.blob_path(a[0].digest).unwrap().unwrap();
    std::os::unix::fs::FileExt::write_at(&writable(&base), b"x", 700).unwrap();
    assert_eq!(store.mend_layers(&a).unwrap(), 1);
    assert!(!store.has_blob(a[0].digest).unwrap() && store.has_blob(a[1].digest).unwrap());

    // The part of a virtual one that was cut off.
    let part_of_b = part(&b[1]).unwrap();
    writable(&store.blob_path(part_of_b).unwrap().unwrap()).set_len(100).unwrap();
    assert_eq!(store.mend_layers(&b).unwrap(), 1);
    assert!(!store.has_blob(b[1].digest).unwrap() && store.blob_path(part_of_b).unwrap().is_none());

    // A part that is gone, and then nothing more is wrong.
    fs::remove_file(store.blob_path(part(&a[1]).unwrap()).unwrap().unwrap()).unwrap();
    assert_eq!(store.mend_layers(&a).unwrap(), 1);
    assert_eq!(store.mend_layers(&[a, b].concat()).unwrap(), 0);
}

#[test]
fn damaged_blobs_go() {
    let (_folder, store) = store();
    let digests = [&b"one"[..], b"two"].map(|bytes| store.put_bytes(bytes).unwrap());
    writable(&store.blob_path(digests[1]).unwrap().unwrap()).set_len(0).unwrap();
    assert_eq!(store.mend_blobs(&digests).unwrap(), 1);
    assert!(store.has_blob(digests[0]).unwrap() && !store.has_blob(digests[1]).unwrap());
}
