//! Trees: what is unpacked looks as the layer says, and nothing leaves the tree.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use sconce_blob::Digest;
use sconce_store::{Error, Layer, Meta, Store, Twice};

use crate::{header, link, noise, put_layer, store, tar};

const FILE: Meta = Meta { mode: 0o644, uid: 0, gid: 0, mtime: 0 };

fn extract(store: &Store, tar: &[u8]) -> Result<std::path::PathBuf, Error> {
    let diff_id = put_layer(store, tar);
    store.extract(diff_id, &|_| {})
}

#[test]
fn a_built_tree_has_exact_metadata() {
    let (_folder, store) = store();
    let tree = store.create_tree(Twice::Refuse).unwrap();
    tree.directory("a", Meta { mode: 0o555, ..FILE }).unwrap();
    for mode in [0o644, 0o755, 0o666, 0o4755, 0o400] {
        let meta = Meta { mode, mtime: 1_000_000_007, ..FILE };
        let mut file = tree.file(format!("a/{mode:o}"), meta, 6).unwrap();
        file.write_all(b"abc").unwrap();
        file.write_all(b"def").unwrap();
        assert!(file.write_all(b"g").is_err(), "more than announced");
    }
    drop(tree.file("a/empty", FILE, 0).unwrap());
    tree.symlink("a/link", "/etc/passwd", FILE).unwrap();
    tree.hardlink("b/c/hard", "a/755").unwrap();
    let path = tree.finish(Digest::of(b"tree")).unwrap();
    assert_eq!(store.tree(Digest::of(b"tree")).unwrap().as_ref(), Some(&path));
    let meta = |name: &str| fs::symlink_metadata(path.join(name)).unwrap();
    for mode in [0o644, 0o755, 0o666, 0o4755, 0o400] {
        let meta = meta(&format!("a/{mode:o}"));
        assert_eq!((meta.mode() & 0o7777, meta.mtime(), meta.len()), (mode, 1_000_000_007, 6));
    }
    assert_eq!((meta("a").mode() & 0o7777, meta("a").mtime()), (0o555, 0));
    assert_eq!((meta("b/c").mode() & 0o7777, meta("b/c").mtime()), (0o755, 0));
    assert_eq!((meta("").mode() & 0o7777, meta("").mtime()), (0o755, 0));
    assert_eq!(meta("a/link").mtime(), 0);
    assert_eq!(meta("b/c/hard").ino(), meta("a/755").ino());
    assert_eq!(fs::read(path.join("a/644")).unwrap(), b"abcdef");
}

#[test]
fn an_unfinished_file_makes_no_tree() {
    let (_folder, store) = store();
    let tree = store.create_tree(Twice::Refuse).unwrap();
    tree.file("a", FILE, 3).unwrap().write_all(b"ab").unwrap();
    assert!(matches!(tree.finish(Digest::of(b"t")), Err(Error::BadLayer { .. })));
    assert!(store.tree(Digest::of(b"t")).unwrap().is_none());
    let tree = store.create_tree(Twice::Refuse).unwrap();
    tree.symlink("a", "x", FILE).unwrap();
    assert!(matches!(tree.file("a", FILE, 0), Err(Error::BadLayer { .. })));
    assert!(matches!(tree.symlink("a", "x", FILE), Err(Error::BadLayer { .. })));
    assert!(matches!(tree.directory("a", FILE), Err(Error::BadLayer { .. })));
}

#[test]
fn many_threads_write_one_tree() {
    let (_folder, store) = store();
    let tree = store.create_tree(Twice::Refuse).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let tree = &tree;
            scope.spawn(move || {
                for n in 0..200_u64 {
                    let bytes = noise((n * 37) as usize, thread * 1000 + n + 1);
                    let path = format!("d{}/e{}/{thread}-{n}", n % 17, n % 23);
                    let mut file = tree.file(path, FILE, bytes.len() as u64).unwrap();
                    file.write_all(&bytes).unwrap();
                }
            });
        }
    });
    let path = tree.finish(Digest::of(b"many")).unwrap();
    for (thread, n) in [(0, 0), (3, 77), (7, 199)] {
        let found = path.join(format!("d{}/e{}/{thread}-{n}", n % 17, n % 23));
        assert!(fs::read(found).unwrap() == noise((n * 37) as usize, thread * 1000 + n + 1));
    }
}

#[test]
fn nothing_leaves_the_tree() {
    let (folder, store) = store();
    let victim = folder.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("file"), "safe").unwrap();
    let victim_text = victim.to_str().unwrap();
    let into = |name: &str| (header(b'0', name, 4), &b"evil"[..]);
    let dir = |name: &str| (header(b'5', name, 0), &b""[..]);
    let symlink = |name: &str, to: &str| (link(b'2', name, to), &b""[..]);
    let hardlink = |name: &str, to: &str| (link(b'1', name, to), &b""[..]);
    let hostile = [
        tar(&[into("../evil")]),
        tar(&[into("a/../../evil")]),
        tar(&[dir("..")]),
        tar(&[symlink("l", victim_text), hardlink("h", "l/file")]),
        tar(&[hardlink("h", "../../../victim/file")]),
        tar(&[(header(b'0', "../.wh.victim", 0), b"")]),
    ];
    // Links lead where they would in a container: the tree has a folder of that name itself.
    let within = [
        (tar(&[symlink("l", victim_text), into("l/file")]), "file"),
        (tar(&[symlink("l", victim_text), dir("l/sub")]), "sub"),
        (tar(&[symlink("l", victim_text), (header(b'0', "l/.wh.file", 0), b"")]), "file"),
        (tar(&[symlink("l", victim_text), symlink("l/s", "x")]), "s"),
        (tar(&[symlink("l", victim_text), (header(b'6', "l/fifo", 0), b"")]), "fifo"),
    ];
    let beneath = victim_text.trim_start_matches('/');
    for (bytes, name) in &within {
        let tree = extract(&store, bytes).unwrap();
        assert!(fs::symlink_metadata(tree.join(beneath).join(name)).is_ok(), "{name}");
    }
    for bytes in [
        tar(&[symlink("l", ".."), into("l/evil")]),
        tar(&[dir("d"), symlink("d/l", "../.."), into("d/l/evil")]),
    ] {
        let tree = extract(&store, &bytes).unwrap();
        assert_eq!(fs::read(tree.join("evil")).unwrap(), b"evil");
    }
    for (number, bytes) in hostile.iter().enumerate() {
        let result = extract(&store, bytes);
        assert!(matches!(result, Err(Error::BadLayer { .. })), "{number}: {result:?}");
    }
    // As Docker and podman: `..` goes back, whatever is there.
    let tree = extract(&store, &tar(&[symlink("l", victim_text), into("l/../evil")])).unwrap();
    assert_eq!(fs::read(tree.join("evil")).unwrap(), b"evil");
    // A hard link to a link names the link itself; a name after `/` is below the tree's root.
    let bytes =
        tar(&[symlink("l", "../../../victim/file"), hardlink("h", "l"), into("h"), into("/abs")]);
    let tree = extract(&store, &bytes).unwrap();
    assert_eq!(fs::read(tree.join("h")).unwrap(), b"evil");
    assert_eq!(fs::read(tree.join("abs")).unwrap(), b"evil");
    // A symbolic link is replaced, not followed.
    let tree =
        extract(&store, &tar(&[symlink("l", victim_text), dir("l"), into("l/file")])).unwrap();
    assert_eq!(fs::read(tree.join("l/file")).unwrap(), b"evil");
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
    assert_eq!(fs::read(victim.join("file")).unwrap(), b"safe");
    assert!(!folder.path().join("evil").exists() && !Path::new("/abs").exists());
}

/// What a layer says of a file under its second name counts, as in Docker and podman.
#[test]
fn hard_links_have_modes_of_their_own() {
    let (_folder, store) = store();
    let hard = |name: &str, to: &str, mode: u32, mtime: u64| {
        let mut header = link(b'1', name, to);
        header.set_mode(mode);
        header.set_mtime(mtime);
        header.set_cksum();
        (header, &b""[..])
    };
    let file = |name: &str| (header(b'0', name, 4), &b"text"[..]);
    let bytes = tar(&[
        file("a"),
        hard("b", "a", 0o600, 7),
        hard("c", "x/../b", 0o4755, 9),
        (link(b'2', "l", "a"), b""),
        hard("m", "l", 0o600, 7),
    ]);
    let tree = extract(&store, &bytes).unwrap();
    for name in ["a", "b", "c"] {
        let about = fs::metadata(tree.join(name)).unwrap();
        assert_eq!((about.mode() & 0o7777, about.mtime(), about.nlink()), (0o4755, 9, 3), "{name}");
    }
    assert!(tree.join("m").is_symlink());
    let folder = (header(b'5', "d", 0), &b""[..]);
    let error = extract(&store, &tar(&[folder, hard("h", "d", 0o755, 0)])).unwrap_err();
    assert!(matches!(error, Error::BadLayer { .. }), "{error:?}");
    assert!(error.to_string().contains("a hard link to d, which is a folder"), "{error}");
}

/// A header may claim any size: no block is reserved for what can't come.
#[test]
fn what_is_claimed_beyond_the_bound_is_not_reserved() {
    let (_folder, store) = store();
    let mut first = header(b'0', "a", 0);
    first.set_size(3 << 30);
    first.set_cksum();
    let error = extract(&store, &tar(&[(first, b"")])).unwrap_err();
    assert!(error.to_string().contains("more than 400 times its size"), "{error}");
}

#[test]
fn damaged_layers_make_no_tree() {
    let (_folder, store) = store();
    let good = tar(&[(header(b'0', "a", 5000), &noise(5000, 9))]);
    let mut huge = header(b'0', "a", 0);
    huge.as_old_mut().size = *b"77777777777\0";
    huge.set_cksum();
    let mut long = header(b'L', "././@LongLink", 0);
    long.set_size(1 << 30);
    long.set_cksum();
    let mut bad_sum = good.clone();
    bad_sum[0] ^= 1;
    for (name, bytes) in [
        ("cut in a file", good[..3000].to_vec()),
        ("cut in a header", good[..300].to_vec()),
        ("more bytes said than there are", tar(&[(huge, b"")])),
        ("a name of a gigabyte", tar(&[(long, b"")])),
        ("wrong header sum", bad_sum),
        ("sparse file", tar(&[(header(b'S', "a", 0), b"")])),
        ("cut gzip", {
            let mut gzip = gzip(&good);
            gzip.truncate(gzip.len() - 20);
            gzip
        }),
    ] {
        let diff_id = put_layer(&store, &bytes);
        let result = store.extract(diff_id, &|_| {});
        assert!(result.is_err(), "{name}: {result:?}");
        assert!(store.tree(diff_id).unwrap().is_none(), "{name}");
    }
}

#[test]
fn a_layer_of_many_gzip_members_is_read_whole() {
    let (_folder, store) = store();
    let content = noise(700_000, 3);
    let plain = tar(&[(header(b'0', "a", content.len()), &content), (header(b'5', "d/", 0), b"")]);
    let blob: Vec<u8> = plain.chunks(100_000).flat_map(gzip).collect();
    let (digest, diff_id) = (store.put_bytes(&blob).unwrap(), Digest::of(&plain));
    let media_type = "application/vnd.oci.image.layer.v1.tar+gzip".to_owned();
    let layer = Layer { diff_id, digest, size: blob.len() as u64, media_type };
    store.put_layer(&layer).unwrap();
    let seen = std::sync::atomic::AtomicU64::new(0);
    let count = |n| {
        seen.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    };
    let trees = store.extract_all(&[diff_id, diff_id], 3, &count).unwrap();
    assert!(fs::read(trees[0].join("a")).unwrap() == content);
    assert_eq!(seen.into_inner(), plain.len() as u64);
    // The same bytes under another DiffID are a lie.
    let wrong = Layer { diff_id: Digest::of(b"lie"), ..layer };
    store.put_layer(&wrong).unwrap();
    let result = store.extract(wrong.diff_id, &|_| {});
    assert!(matches!(result, Err(Error::WrongDigest { .. })), "{result:?}");
    assert!(store.tree(wrong.diff_id).unwrap().is_none());
}

#[test]
fn whiteouts_become_overlays_own() {
    let (_folder, store) = store();
    let empty = |name: &str| (header(b'0', name, 0), &b""[..]);
    let dir = |name: &str| (header(b'5', name, 0), &b""[..]);
    let bytes = tar(&[
        empty("a/.wh.gone"),
        empty("b/.wh..wh..opq"),
        empty("b/new"),
        empty("kept"),
        empty(".wh.kept"),
        empty(".wh.again"),
        dir("again"),
        empty(".wh..wh.plnk"),
        empty(".wh..."),
    ]);
    let tree = extract(&store, &bytes).unwrap();
    let gone = fs::symlink_metadata(tree.join("a/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert!(fs::metadata(tree.join("kept")).unwrap().is_file());
    let opaque = |name: &str| {
        let mut value = [0; 8];
        rustix::fs::lgetxattr(tree.join(name), "user.overlay.opaque", &mut value)
            .is_ok_and(|n| value[..n] == *b"y")
    };
    assert!(opaque("b") && opaque("again") && !opaque("a"));
    let mut names: Vec<_> =
        fs::read_dir(&tree).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "again", "b", "kept"]);
    assert_eq!(fs::metadata(&tree).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn links_of_a_layer_lead_where_they_do_inside() {
    let (folder, store) = store();
    fs::create_dir(folder.path().join("usr")).unwrap();
    let empty = |name: &str| (header(b'0', name, 0), &b""[..]);
    let dir = |name: &str| (header(b'5', name, 0), &b""[..]);
    let to = |name: &str, target: &str| (link(b'2', name, target), &b""[..]);
    let out = folder.path().display().to_string();
    let tree = extract(
        &store,
        &tar(&[
            dir("usr/lib"),
            to("lib", "usr/lib"),
            to("abs", "/usr/lib"),
            to("up", "../../../../usr/./lib/../lib"),
            to("out", &out),
            to("chain", "a/b"),
            to("a", "usr"),
            to("usr/b", "new/deep"),
            empty("lib/x"),
            empty("abs/y"),
            empty("up/z"),
            empty("out/usr/mine"),
            empty("chain/w"),
            (link(b'1', "lib/hard", "abs/y"), b""),
            empty("lib/.wh.gone"),
            empty("chain/.wh..wh..opq"),
            dir("chain/sub"),
            to("swap", "usr"),
            dir("swap"),
            empty("swap/own"),
        ]),
    )
    .unwrap();
    for name in ["lib/x", "lib/y", "lib/z", "lib/hard", "new/deep/w"] {
        assert!(fs::symlink_metadata(tree.join("usr").join(name)).unwrap().is_file(), "{name}");
    }
    assert!(fs::symlink_metadata(tree.join("usr/new/deep/sub")).unwrap().is_dir());
    assert!(fs::symlink_metadata(tree.join("lib")).unwrap().is_symlink());
    let gone = fs::symlink_metadata(tree.join("usr/lib/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let opaque = |name: &str| {
        let mut value = [0; 8];
        rustix::fs::lgetxattr(tree.join(name), "user.overlay.opaque", &mut value).is_ok()
    };
    assert!(opaque("usr/new/deep") && !opaque("usr"));
    // A folder takes the place of a link, and nothing is written outside.
    assert!(fs::symlink_metadata(tree.join("swap")).unwrap().is_dir());
    assert!(tree.join("swap/own").is_file() && !tree.join("usr/own").exists());
    assert!(tree.join(out.trim_start_matches('/')).join("usr/mine").is_file());
    assert_eq!(fs::read_dir(folder.path().join("usr")).unwrap().count(), 0);

    // What leads nowhere ends soon.
    let deep = "u/".repeat(40) + "../";
    for (entries, says) in [
        (vec![to("l", "m"), to("m", "l"), empty("l/x")], "too many symbolic links"),
        (vec![to("l", "l/l"), empty("l/x")], "too many symbolic links"),
        (vec![empty("f"), empty("f/x")], "is something else"),
        (vec![empty("f"), to("l", "f"), empty("l/x")], "is something else"),
        (vec![empty("f"), to("l", "f"), empty("l/.wh.x")], "is something else"),
        (vec![to("l", &deep), to("u", "l"), empty("u/x")], "too many symbolic links"),
    ] {
        let error = extract(&store, &tar(&entries)).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn a_device_that_is_overlays_whiteout_hides_for_everyone() {
    let (folder, store) = store();
    let device = |name: &str, number: Option<u32>| {
        let mut header = header(b'3', name, 0);
        if let Some(number) = number {
            header.set_device_major(number).unwrap();
            header.set_device_minor(number).unwrap();
        } else {
            header.as_mut_bytes()[329..345].copy_from_slice(b"no\0\0\0\0\0\0no\0\0\0\0\0\0");
        }
        header.set_cksum();
        header
    };
    let bytes = tar(&[(header(b'0', "a", 0), b""), (device("a", Some(0)), b"")]);
    let shared = folder.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o2755)).unwrap();
    for store in [store, Store::open(&shared).unwrap()] {
        let hidden = fs::symlink_metadata(extract(&store, &bytes).unwrap().join("a")).unwrap();
        assert!(hidden.file_type().is_char_device() && hidden.rdev() == 0);
        // A number that can't be read is not 0.
        let error = extract(&store, &tar(&[(device("b", None), b"")])).unwrap_err();
        assert!(error.to_string().contains("a device without its number"), "{error}");
    }
}

#[test]
fn long_names_in_both_forms() {
    let (_folder, store) = store();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let pax_line = |key: &str, value: &str| {
        let body = format!(" {key}={value}\n");
        let mut len = body.len() + 1;
        while len != body.len() + len.to_string().len() {
            len = body.len() + len.to_string().len();
        }
        format!("{len}{body}")
    };
    let pax = pax_line("path", &long) + &pax_line("uid", "0");
    for bytes in [
        tar(&[
            (header(b'L', "././@LongLink", long.len() + 1), format!("{long}\0").as_bytes()),
            (header(b'0', "short", 2), b"hi"),
        ]),
        tar(&[(header(b'x', "pax", pax.len()), pax.as_bytes()), (header(b'0', "short", 2), b"hi")]),
    ] {
        let tree = extract(&store, &bytes).unwrap();
        assert_eq!(fs::read(tree.join(&long)).unwrap(), b"hi");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A record of a pax header, with the length of all of it in front.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut len = rest.len();
    while len != rest.len() + len.to_string().len() {
        len = rest.len() + len.to_string().len();
    }
    [len.to_string().into_bytes(), rest].concat()
}

/// Overlayfs' own attributes, and containers' of overlays without root, are dropped wherever they stand: a layer hides what is below it by
/// whiteouts alone.
#[test]
fn attributes_of_overlayfs_never_reach_a_tree() {
    let (_folder, store) = store();
    let mut records = Vec::new();
    for name in ["trusted", "user"] {
        for (key, value) in [
            ("opaque", "y"),
            ("opaque", "x"),
            ("whiteout", "y"),
            ("redirect", "/etc"),
            ("metacopy", ""),
        ] {
            let key = format!("SCHILY.xattr.{name}.overlay.{key}");
            records.extend(record(&key, value.as_bytes()));
        }
    }
    let mut folder = header(b'5', "folder", 0);
    folder.set_mode(0o755);
    folder.set_cksum();
    let tree = extract(
        &store,
        &tar(&[
            (header(b'x', "pax", records.len()), &records),
            (folder, b""),
            (header(b'x', "pax", records.len()), &records),
            (header(b'0', "folder/file", 0), b""),
        ]),
    )
    .unwrap();
    for name in ["folder", "folder/file"] {
        let mut list = vec![0; 4096];
        let n = rustix::fs::llistxattr(tree.join(name), &mut list[..]).unwrap_or(0);
        let list = String::from_utf8_lossy(&list[..n]).into_owned();
        assert!(!list.contains("overlay"), "{name}: {list}");
    }
}

/// What a pax header says and no file can have is the layer's fault, and never cut to what fits: an owner of 2^32 would be root.
#[test]
fn what_no_file_can_have_is_refused() {
    for (key, value, why) in [
        ("uid", "4294967296".into(), "the number of an owner is not"),
        ("uid", "4294967295".into(), "the number of an owner is not"),
        ("gid", "-1".into(), "the number of an owner is not"),
        ("path", "a\0b".into(), "a zero byte"),
        ("path", format!("a/{}", "b".repeat(256)), "more than 255 bytes"),
    ] {
        let (_folder, store) = store();
        let record = record(key, value.as_bytes());
        let layer =
            tar(&[(header(b'x', "pax", record.len()), &record), (header(b'0', "short", 1), b"s")]);
        let error = extract(&store, &layer).unwrap_err();
        assert!(matches!(error, Error::BadLayer { .. }), "{key} {value}: {error:?}");
        assert!(error.to_string().contains(why), "{key} {value}: {error}");
    }
}

#[test]
fn pax_records_say_more_than_a_header_can() {
    let (_folder, store) = store();
    let long = format!("{}/name", "d".repeat(200));
    let records = [
        record("path", long.as_bytes()),
        // A size of 8 GiB and more has no room in a header: there it may say anything.
        record("size", b"600"),
        record("SCHILY.xattr.user.note", b"two\nlines=\0"),
        record("SCHILY.xattr.user.overlay.opaque", b"y"),
    ]
    .concat();
    let tree = extract(
        &store,
        &tar(&[
            (header(b'x', "pax", records.len()), &records),
            (header(b'0', "short", 0), &[7; 600]),
            (header(b'0', "next", 1), b"n"),
        ]),
    )
    .unwrap();
    assert_eq!(fs::read(tree.join(&long)).unwrap(), [7; 600]);
    assert_eq!(fs::read(tree.join("next")).unwrap(), b"n");
    let mut value = [0; 32];
    let read = |name: &str, value: &mut [u8]| rustix::fs::lgetxattr(tree.join(&long), name, value);
    match read("user.note", &mut value) {
        // Root keeps them, where the file system can.
        Ok(n) => assert_eq!(&value[..n], b"two\nlines=\0"),
        Err(error) => assert!(
            matches!(error, rustix::io::Errno::NOTSUP | rustix::io::Errno::NODATA),
            "{error}"
        ),
    }
    assert!(read("user.overlay.opaque", &mut value).is_err());
    let sparse = b"22 GNU.sparse.major=1\n";
    for bad in
        [&b"9 a"[..], b"x path=y\n", b"999 path=y\n", b"8 path\n\n", b"12 size=-1 \n", sparse]
    {
        let bad = tar(&[(header(b'x', "pax", bad.len()), bad), (header(b'0', "a", 0), b"")]);
        assert!(matches!(extract(&store, &bad), Err(Error::BadLayer { .. })));
    }
}
