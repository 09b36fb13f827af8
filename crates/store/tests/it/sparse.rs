//! Sparse files in layers, packed by the machine's own GNU tar in each of its forms, and maps that lie.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use sconce_store::{Error, Store};

use crate::{noise, put_layer, store};

const FORMS: [&[&str]; 4] = [
    &["--format=gnu"],
    &["--format=posix", "--sparse-version=0.0"],
    &["--format=posix", "--sparse-version=0.1"],
    &["--format=posix", "--sparse-version=1.0"],
];

/// What `tar --sparse` makes of a folder.
fn packed(folder: &Path, form: &[&str]) -> Vec<u8> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sparse", "--numeric-owner", "--sort=name", "--file=-"]);
    let made = tar.args(form).arg("--directory").arg(folder).arg("d").output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    made.stdout
}

/// A file of `size` bytes with these pieces and holes between them.
fn sparse(path: &Path, size: u64, pieces: &[(u64, &[u8])]) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    for (offset, bytes) in pieces {
        file.write_all_at(bytes, *offset).unwrap();
    }
}

fn extract(store: &Store, tar: &[u8]) -> Result<std::path::PathBuf, Error> {
    store.extract(put_layer(store, tar), &|_| {})
}

#[test]
fn files_with_holes_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let d = folder.path().join("d");
    fs::create_dir(&d).unwrap();
    let piece = noise(5000, 3);
    // More pieces than a header and one further block have.
    let pieces: Vec<(u64, &[u8])> = (0..60).map(|n| (n << 20, &piece[..])).collect();
    sparse(&d.join("many"), 60 << 20, &pieces);
    sparse(&d.join("hole at the end"), 40_000_000, &[(0, &piece)]);
    sparse(&d.join("holes alone"), 10 << 20, &[]);
    sparse(&d.join("data at the end"), (8 << 20) + 4096, &[(8 << 20, &[7; 4096])]);
    fs::write(d.join("next"), "dense").unwrap();
    // Names that need a header of their own.
    let long = d.join("n".repeat(180));
    sparse(&long, 5 << 20, &[(3 << 20, b"in the middle")]);
    let wanted: Vec<_> = fs::read_dir(&d).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(wanted.len(), 6);
    for form in FORMS {
        let bytes = packed(folder.path(), form);
        assert!(bytes.len() < 2 << 20, "{form:?} has the holes: {}", bytes.len());
        let (_folder, store) = store();
        let tree = extract(&store, &bytes).unwrap().join("d");
        assert_eq!(fs::read_dir(&tree).unwrap().count(), wanted.len(), "{form:?}");
        for path in &wanted {
            let name = path.file_name().unwrap();
            let found = tree.join(name);
            assert!(fs::read(&found).unwrap() == fs::read(path).unwrap(), "{form:?} {name:?}");
            let (was, is) = (fs::metadata(path).unwrap(), fs::metadata(&found).unwrap());
            assert_eq!((is.mtime(), is.mode()), (was.mtime(), was.mode()), "{form:?} {name:?}");
            // Holes stay holes, where the file system has some at all.
            assert!(is.blocks() <= was.blocks() + 64, "{form:?} {name:?}: {}", is.blocks());
        }
    }
}

/// The header of the old form, its sum made right again.
fn with_field(tar: &[u8], at: usize, field: &[u8]) -> Vec<u8> {
    // The first entry is the folder.
    let start = tar.chunks(512).position(|block| block[156] == b'S').unwrap() * 512;
    let mut tar = tar.to_vec();
    let header = &mut tar[start..start + 512];
    header[at..at + field.len()].copy_from_slice(field);
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar
}

#[test]
fn maps_that_lie_make_no_tree() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("d")).unwrap();
    let pieces: [(u64, &[u8]); 2] = [(0, &[1; 5000]), (10 << 20, &[2; 100])];
    sparse(&folder.path().join("d/f"), 20 << 20, &pieces);
    let old = packed(folder.path(), FORMS[0]);
    let record = |version: usize, from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let mut tar = packed(folder.path(), FORMS[version]);
        let at = tar.windows(from.len()).position(|found| found == from.as_bytes()).unwrap();
        tar[at..at + to.len()].copy_from_slice(to.as_bytes());
        tar
    };
    // realsize stands at 483, the second segment's offset and length at 410 and 422, whether more follow at 482.
    for (what, tar) in [
        ("8 GiB", with_field(&old, 483, b"77777777777\0")),
        ("a size smaller than the pieces", with_field(&old, 483, b"00000010000\0")),
        ("pieces in one another", with_field(&old, 410, b"00000000001\0")),
        ("a piece beyond the end", with_field(&old, 410, b"77777777777\0")),
        ("a longer piece", with_field(&old, 422, b"00000777777\0")),
        ("more blocks than there are", with_field(&old, 482, b"\x01")),
        ("a size of 0.0", record(1, "GNU.sparse.size=20971520", "GNU.sparse.size=00000001")),
        ("no number of 0.1", record(2, "GNU.sparse.map=0,", "GNU.sparse.map=x,")),
        ("an unknown version", record(3, "GNU.sparse.minor=0", "GNU.sparse.minor=7")),
        (
            "a size of 1.0",
            record(3, "GNU.sparse.realsize=20971520", "GNU.sparse.realsize=00000001"),
        ),
        ("a name that leaves the root", record(3, "GNU.sparse.name=d/f", "GNU.sparse.name=../")),
    ] {
        let (_folder, store) = store();
        let result = extract(&store, &tar);
        assert!(matches!(result, Err(Error::BadLayer { .. })), "{what}: {result:?}");
    }
    // Cut in the map of 1.0, and in what it is of.
    let whole = packed(folder.path(), FORMS[3]);
    let is_map = |block: &[u8]| block[1..].starts_with(b"\n0\n");
    let map = whole.chunks(512).position(is_map).unwrap() * 512;
    for at in [map + 3, map + 512, map + 600, map + 5000] {
        let (_folder, store) = store();
        assert!(extract(&store, &whole[..at]).is_err(), "{at}");
    }
}
