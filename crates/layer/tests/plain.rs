//! Plain entries to layers.

use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::process::Command;
use std::sync::{Arc, Mutex};

use expect_test::expect;
use flate2::read::MultiGzDecoder;
use sconce_blob::Digest;
use sconce_layer::{
    Content, Entry, Error, Kind, Layer, Meta, Unpack, compress_tar, plain, plain_tar,
};

fn entry(path: &str, kind: Kind) -> Entry {
    let meta = match kind {
        Kind::Directory => Meta::DIRECTORY,
        Kind::Symlink { .. } => Meta::SYMLINK,
        _ => Meta::FILE,
    };
    Entry { path: path.into(), kind, meta }
}

fn file(path: &str, bytes: &[u8]) -> Entry {
    entry(path, Kind::File(Content::bytes(bytes)))
}

fn symlink(path: &str, target: &str) -> Entry {
    entry(path, Kind::Symlink { target: target.into() })
}

fn hardlink(path: &str, target: &str) -> Entry {
    entry(path, Kind::Hardlink { target: target.into() })
}

fn make(entries: Vec<Entry>, threads: usize) -> Result<(Layer, Vec<u8>), Error> {
    let mut blob = Vec::new();
    let threads = NonZeroUsize::new(threads).unwrap();
    let layer = plain(entries, &mut blob, None, threads, &())?;
    assert_eq!(layer.digest, Digest::of(&blob));
    assert_eq!(layer.size, blob.len() as u64);
    Ok((layer, blob))
}

/// Text that compresses and is nowhere the same.
fn text(len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 32);
    let mut n = 1u64;
    while out.len() < len {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        out.extend(format!("line {:x} of it\n", n >> 40).bytes());
    }
    out.truncate(len);
    out
}

fn everything(folder: &std::path::Path) -> Vec<Entry> {
    let disk = folder.join("on-disk");
    std::fs::write(&disk, text(3_000_000)).unwrap();
    let long = format!("usr/share/{}/{}", "d".repeat(80), "f".repeat(80));
    let range = Content::Range { source: Arc::new(text(500_000)), offset: 1000, len: 300_000 };
    let owned = Meta { mode: 0o1777, uid: 1000, gid: 5_000_000, mtime: 1_700_000_000 };
    vec![
        symlink("lib", "usr/lib"),
        file("usr/bin/perl", b"#!ELF"),
        hardlink("usr/bin/aperl5", "usr/bin/perl"),
        hardlink("usr/bin/zperl", "usr/bin/perl"),
        file("empty", b""),
        Entry { meta: owned, ..entry("tmp", Kind::Directory) },
        entry("usr/large", Kind::File(Content::Path { path: disk, len: 3_000_000 })),
        entry("usr/range", Kind::File(range)),
        file(&long, b"long"),
        symlink("usr/\u{e4}", &"t".repeat(150)),
    ]
}

#[test]
fn golden_digest_on_any_number_of_threads_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let (layer, blob) = make(everything(folder.path()), 1).unwrap();
    // Another digest is another format: raise the version in docs/format/wheel-layer.md.
    expect![[r#"
        Layer {
            diff_id: sha256:d75a04221ea80c60e8f14c40cd98affdb869fc60245c82e376a71afe8a4e8361,
            digest: sha256:678a5dd37ffd74f61fd0391074fc8fd26b9663580f26d19d126349e74d6129bb,
            size: 860070,
        }"#]]
    .assert_eq(&format!("{layer:#?}"));
    for threads in [2, 7] {
        let mut entries = everything(folder.path());
        entries.reverse();
        assert_eq!(make(entries, threads).unwrap(), (layer, blob.clone()), "{threads} threads");
    }
    let mut tar = Vec::new();
    MultiGzDecoder::new(&blob[..]).read_to_end(&mut tar).unwrap();
    assert_eq!(Digest::of(&tar), layer.diff_id);
}

#[test]
fn the_tar_alone_and_its_compression_make_the_same_layer() {
    let folder = tempfile::tempdir().unwrap();
    let (layer, blob) = make(everything(folder.path()), 2).unwrap();
    let mut tar = Vec::new();
    plain_tar(everything(folder.path()), &mut tar, None).unwrap();
    assert_eq!(Digest::of(&tar), layer.diff_id);
    for threads in [1, 3] {
        let mut again = Vec::new();
        let threads = NonZeroUsize::new(threads).unwrap();
        assert_eq!(compress_tar(&tar[..], "it", &mut again, threads).unwrap(), layer);
        assert_eq!(again, blob);
    }
}

#[test]
fn system_tar_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let (_, blob) = make(everything(folder.path()), 2).unwrap();
    let path = folder.path().join("layer.tar.gz");
    std::fs::write(&path, blob).unwrap();
    let output = Command::new("tar")
        .args(["--numeric-owner", "--utc", "-tvzf"])
        .arg(&path)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listing = String::from_utf8(output.stdout).unwrap();
    // Columns are as wide as the widest before them.
    let plain: Vec<String> =
        listing.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    expect![[r#"
        -rw-r--r-- 0/0 0 1970-01-01 00:00 empty
        lrwxrwxrwx 0/0 0 1970-01-01 00:00 lib -> usr/lib
        drwxrwxrwt 1000/5000000 0 2023-11-14 22:13 tmp/
        drwxr-xr-x 0/0 0 1970-01-01 00:00 usr/
        drwxr-xr-x 0/0 0 1970-01-01 00:00 usr/bin/
        -rw-r--r-- 0/0 5 1970-01-01 00:00 usr/bin/aperl5
        hrw-r--r-- 0/0 0 1970-01-01 00:00 usr/bin/perl link to usr/bin/aperl5
        hrw-r--r-- 0/0 0 1970-01-01 00:00 usr/bin/zperl link to usr/bin/aperl5
        -rw-r--r-- 0/0 3000000 1970-01-01 00:00 usr/large
        -rw-r--r-- 0/0 300000 1970-01-01 00:00 usr/range
        drwxr-xr-x 0/0 0 1970-01-01 00:00 usr/share/
        drwxr-xr-x 0/0 0 1970-01-01 00:00 usr/share/dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd/
        -rw-r--r-- 0/0 4 1970-01-01 00:00 usr/share/dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd/ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff
        lrwxrwxrwx 0/0 0 1970-01-01 00:00 usr/ä -> tttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt"#]].assert_eq(&plain.join("\n"));
}

fn refused(entries: Vec<Entry>) -> String {
    let error = make(entries, 1).expect_err("it was accepted");
    assert!(error.hint().is_some());
    error.to_string()
}

#[test]
fn what_no_file_system_holds_is_refused() {
    let check = |entries, expected: expect_test::Expect| expected.assert_eq(&refused(entries));
    check(
        vec![file("../x", b"")],
        expect!["`../x` can't stand in a layer: the path has a `..` or `.` or empty part"],
    );
    check(vec![file("/x", b"")], expect!["`/x` can't stand in a layer: the path is absolute"]);
    check(vec![file("x", b""), file("x", b"")], expect!["`x` comes twice"]);
    check(
        vec![symlink("lib", "usr/lib"), file("lib/x", b"")],
        expect!["`lib/x` lies under `lib`, which is not a directory"],
    );
    check(
        vec![file("a", b""), file("a/b/c", b"")],
        expect!["`a/b/c` lies under `a`, which is not a directory"],
    );
    check(
        vec![hardlink("a", "b")],
        expect!["the hard link `a` points to `b`, which is not a file of this layer"],
    );
    check(
        vec![symlink("b", "c"), hardlink("a", "b")],
        expect!["the hard link `a` points to `b`, which is not a file of this layer"],
    );
    let other = Entry { meta: Meta::root(0o700), ..entry("d", Kind::Directory) };
    check(vec![entry("d", Kind::Directory), other], expect!["`d` comes twice"]);
    let same = vec![entry("d", Kind::Directory), entry("d", Kind::Directory)];
    make(same, 1).unwrap();
}

#[test]
fn a_file_that_changed_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    std::fs::write(&path, b"12345").unwrap();
    for len in [4, 6] {
        let entries = vec![entry("x", Kind::File(Content::Path { path: path.clone(), len }))];
        assert!(matches!(make(entries, 1), Err(Error::Changed { .. })), "{len}");
    }
    let range = Content::Range { source: Arc::new(vec![1u8; 10]), offset: 5, len: 6 };
    assert!(matches!(make(vec![entry("x", Kind::File(range))], 1), Err(Error::Changed { .. })));
    let gone = Content::Path { path: folder.path().join("gone"), len: 1 };
    assert!(matches!(make(vec![entry("x", Kind::File(gone))], 1), Err(Error::Read { .. })));
}

/// A disk that is full after some bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(self.0);
        self.0 -= n;
        if n == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(n) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_ends_it_with_the_right_advice() {
    let entries = (0..8).map(|n| file(&format!("f{n}"), &text(1 << 20))).collect();
    let error = plain(entries, &mut Full(300_000), None, NonZeroUsize::new(3).unwrap(), &());
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Write(_)), "{error}");
    assert_eq!(error.hint().as_deref(), Some("free some space on the disk"));
}

#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Unpack for Lines {
    fn directory(&self, path: &str, _: &Meta) -> io::Result<()> {
        self.0.lock().unwrap().push(format!("{path}/"));
        Ok(())
    }

    fn file(&self, path: &str, _: &Meta, size: u64) -> io::Result<Box<dyn Write + Send + '_>> {
        self.0.lock().unwrap().push(format!("{path} {size}"));
        Ok(Box::new(io::sink()))
    }

    fn symlink(&self, path: &str, target: &str, _: &Meta) -> io::Result<()> {
        self.0.lock().unwrap().push(format!("{path} -> {target}"));
        Ok(())
    }

    fn hardlink(&self, path: &str, target: &str) -> io::Result<()> {
        self.0.lock().unwrap().push(format!("{path} = {target}"));
        Ok(())
    }
}

#[test]
fn it_is_unpacked_in_the_order_of_the_tar() {
    let lines = Lines::default();
    let entries =
        vec![file("b/z", b"12"), hardlink("b/a", "b/z"), symlink("b-c", "b"), file("b/sub/x", b"")];
    let threads = NonZeroUsize::new(2).unwrap();
    plain(entries, &mut io::sink(), Some(&lines), threads, &()).unwrap();
    expect![[r#"
        b/
        b-c -> b
        b/a 2
        b/sub/
        b/sub/x 0
        b/z = b/a"#]]
    .assert_eq(&lines.0.into_inner().unwrap().join("\n"));
}
