//! Packages byte by byte to a root file system: what comes out, and what is refused.

mod world;

use std::sync::Arc;

use expect_test::{Expect, expect};
use sconce_debian::{Deb, DebFile, Error, Options, Target, compose};
use sconce_layer::{Content, Entry, Kind};
use world::{TarBuilder, ar, deb};

fn tar() -> TarBuilder {
    TarBuilder::default()
}

fn root(debs: &[(&str, Vec<u8>)], threads: usize) -> Result<Vec<Entry>, Error> {
    let scratch = tempfile::tempdir().unwrap();
    let packages: Vec<_> = debs
        .iter()
        .map(|(name, bytes)| DebFile {
            name: (*name).into(),
            version: "1".into(),
            source: Arc::new(bytes.clone()),
        })
        .collect();
    let target = Target::new("trixie", "amd64").unwrap();
    compose(&packages, &Options { target, scratch: scratch.path(), threads, progress: &|_| {} })
}

fn show(entries: &[Entry]) -> String {
    let line = |entry: &Entry| {
        let meta = entry.meta;
        let kind = match &entry.kind {
            Kind::Directory => "/".to_owned(),
            Kind::Symlink { target } => format!(" -> {target}"),
            Kind::Hardlink { target } => format!(" = {target}"),
            Kind::File(Content::Bytes(bytes)) => format!(" {}", bytes.len()),
            Kind::File(Content::Range { source, offset, len }) => {
                let mut bytes = vec![0; *len as usize];
                source.read_exact_at(&mut bytes, *offset).unwrap();
                format!(" {:?}", String::from_utf8_lossy(&bytes))
            }
            Kind::File(Content::Path { .. }) => unreachable!(),
        };
        format!("{:o} {}{kind}\n", meta.mode, entry.path)
    };
    entries.iter().map(line).collect()
}

fn words(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(below) => format!("{error}: {below}"),
        None => error.to_string(),
    }
}

fn check(debs: &[(&str, Vec<u8>)], expect: Expect) {
    let text = match root(debs, 2) {
        Ok(entries) => show(&entries),
        Err(error) => {
            assert!(error.hint().is_some());
            words(&error)
        }
    };
    expect.assert_eq(&text);
}

#[test]
fn usr_is_merged_and_what_nobody_reads_is_left_out() {
    let a = tar()
        .dir("./")
        .dir("./lib/")
        .dir("./bin/")
        .file("./bin/tool", "tool")
        .symlink("./bin/alias", "tool")
        .entry(b'1', "./bin/hard", "./bin/tool", b"")
        .file("./lib/x.so", "x")
        .dir("./usr/")
        .dir("./usr/share/")
        .dir("./usr/share/doc/")
        .dir("./usr/share/doc/a/")
        .file("./usr/share/doc/a/copyright", "free")
        .file("./usr/share/doc/a/changelog", "long")
        .dir("./usr/share/doc/empty/")
        .file("./usr/share/doc/empty/changelog", "long");
    let b = tar().file("./usr/bin/other", "").symlink("./usr/share/doc/b", "a");
    let debs = [("b", deb("b", "", b)), ("a", deb("a", "", a))];
    check(
        &debs,
        expect![[r#"
            777 bin -> usr/bin
            777 lib -> usr/lib
            755 usr/
            755 usr/bin/
            777 usr/bin/alias -> tool
            644 usr/bin/hard = usr/bin/tool
            644 usr/bin/other 0
            644 usr/bin/tool "tool"
            755 usr/lib/
            644 usr/lib/x.so "x"
            755 usr/share/
            755 usr/share/doc/
            755 usr/share/doc/a/
            644 usr/share/doc/a/copyright "free"
            777 usr/share/doc/b -> a
            755 var/
            755 var/lib/
            755 var/lib/dpkg/
            755 var/lib/dpkg/status.d/
            644 var/lib/dpkg/status.d/a 71
            644 var/lib/dpkg/status.d/b 71
        "#]],
    );
    // Neither threads nor the order given show.
    let once = show(&root(&debs, 1).unwrap());
    for threads in [0, 2, 8] {
        let [b, a] = debs.clone();
        assert_eq!(show(&root(&[a, b], threads).unwrap()), once);
    }
}

/// Trivy, Syft and Grype find a package by its stanza, match advisories by `Source` and its version, and the release by os-release.
#[test]
fn scanners_find_each_package_with_its_source() {
    let extra = "Source: glibc (2.36-9)\n";
    let libc = tar().file("./usr/share/doc/libc6/copyright", "free");
    let release = "ID=debian\nVERSION_ID=\"13\"\n";
    let base_files = tar()
        .file("./usr/lib/os-release", release)
        .symlink("./etc/os-release", "../usr/lib/os-release");
    let debs =
        [("libc6", deb("libc6", extra, libc)), ("base-files", deb("base-files", "", base_files))];
    let entries = root(&debs, 1).unwrap();
    let text = |path: &str| {
        let entry = entries.iter().find(|entry| entry.path == path);
        match &entry.unwrap_or_else(|| panic!("{path} is not there")).kind {
            Kind::File(Content::Bytes(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
            Kind::File(Content::Range { source, offset, len }) => {
                let mut bytes = vec![0; *len as usize];
                source.read_exact_at(&mut bytes, *offset).unwrap();
                String::from_utf8(bytes).unwrap()
            }
            _ => panic!("{path} is no file"),
        }
    };
    let stanza = text("var/lib/dpkg/status.d/libc6");
    for line in
        ["Package: libc6", "Version: 1", "Source: glibc (2.36-9)", "Status: install ok installed"]
    {
        assert!(stanza.lines().any(|found| found == line), "{line}: {stanza}");
    }
    assert!(stanza.lines().any(|line| line.starts_with("Architecture: ")), "{stanza}");
    assert!(text("var/lib/dpkg/status.d/base-files").contains("Package: base-files\n"));
    assert_eq!(text("usr/lib/os-release"), release);
    assert_eq!(text("usr/share/doc/libc6/copyright"), "free");
    // A list of dpkg's own beside them would have Trivy read each package twice.
    let others = entries.iter().filter(|entry| entry.path == "var/lib/dpkg/status");
    assert_eq!(others.count(), 0);
}

#[test]
fn effects_of_scripts_are_there() {
    let passwd = "root:*:0:0:root:/root:/bin/bash\nnobody:*:65534:65534:n:/x:/y\n";
    let base_passwd = tar()
        .file("./usr/share/base-passwd/passwd.master", passwd)
        .file("./usr/share/base-passwd/group.master", "root:*:0:\nshadow:*:42:\n");
    let base_files = tar().dir("./var/").dir("./var/run/").dir("./root/");
    let mawk = tar().file("./usr/bin/mawk", "mawk");
    let entries = root(
        &[
            ("base-passwd", deb("base-passwd", "", base_passwd)),
            ("base-files", deb("base-files", "", base_files)),
            ("mawk", deb("mawk", "", mawk)),
        ],
        1,
    )
    .unwrap();
    let text = show(&entries);
    for line in [
        "777 var/run -> /run",
        "777 usr/bin/awk -> /etc/alternatives/awk",
        "777 etc/alternatives/awk -> /usr/bin/mawk",
        "1777 run/lock/",
        "755 usr/local/sbin/apt-get 265",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} in\n{text}");
    }
    let bytes = |path: &str| {
        let entry = entries.iter().find(|entry| entry.path == path).unwrap();
        let Kind::File(Content::Bytes(bytes)) = &entry.kind else { panic!("{path}") };
        String::from_utf8_lossy(bytes).into_owned()
    };
    assert_eq!(bytes("etc/passwd"), passwd.replace(":*:", ":x:"));
    assert!(bytes("etc/shadow").starts_with("root:*::0:99999:7:::\n"));
    assert!(bytes("usr/local/sbin/apt-get").starts_with("#!/bin/sh\n"));
}

#[test]
fn two_claims_to_one_path() {
    let one = || tar().file("./etc/x", "1");
    let two = || tar().file("./etc/x", "2");
    check(
        &[("a", deb("a", "", one())), ("b", deb("b", "", two()))],
        expect!["/etc/x comes from two packages, a and b, with different content"],
    );
    let wins = |debs: &[(&str, Vec<u8>)], content: &str| {
        let text = show(&root(debs, 1).unwrap());
        assert!(text.contains(&format!("etc/x \"{content}\"")), "{text}");
    };
    wins(&[("a", deb("a", "", one())), ("b", deb("b", "", one()))], "1");
    wins(&[("a", deb("a", "", one())), ("b", deb("b", "Replaces: a (<< 2)\n", two()))], "2");
    wins(&[("a", deb("a", "Replaces: b\n", one())), ("b", deb("b", "", two()))], "1");
    check(
        &[("a", deb("a", "", one())), ("b", deb("b", "Replaces: a (<< 1)\n", two()))],
        expect!["/etc/x comes from two packages, a and b, with different content"],
    );
}

#[test]
fn nothing_is_written_through_a_link() {
    check(
        &[("a", deb("a", "", tar().symlink("./etc/x", "/root").file("./etc/x/y", "")))],
        expect!["/etc/x/y from a would be written through the link /etc/x"],
    );
    check(
        &[
            ("a", deb("a", "", tar().symlink("./etc/x", "../../.."))),
            ("b", deb("b", "", tar().file("./etc/x/y", ""))),
        ],
        expect!["/etc/x/y from b would be written through the link /etc/x"],
    );
    check(
        &[("a", deb("a", "", tar().file("./etc/x", "").file("./etc/x/y", "")))],
        expect!["/etc/x/y from a stands under /etc/x, which is not a directory"],
    );
    check(
        &[("a", deb("a", "", tar().dir("./etc/x/").symlink("./etc/x", "y")))],
        expect!["a 1: data.tar, byte 0: /etc/x stands twice"],
    );
    check(
        &[("a", deb("a", "", tar().entry(b'1', "./etc/x", "./etc/shadow", b"")))],
        expect!["/etc/x: the file it is another name of, /etc/shadow, isn't there"],
    );
}

#[test]
fn hostile_entries() {
    for (kind, name, link, expected) in [
        (b'0', "../x", "", "the path has a `..`"),
        (b'0', "./a/../../x", "", "the path has a `..`"),
        (b'0', "/etc/x", "", "the path is absolute"),
        (b'5', "/", "", "an absolute path"),
        (b'1', "./x", "../../etc/shadow", "the path has a `..`"),
        (b'2', "./x", "", "a link to nowhere"),
        (b'3', "./x", "", "a device node"),
        (b'6', "./x", "", "a device node or pipe"),
        (b'S', "./x", "", "a sparse file"),
        (b'Z', "./x", "", "unknown kind 90"),
        (b'0', "./", "", "the root is not a directory"),
    ] {
        let bytes = deb("a", "", tar().dir("./").entry(kind, name, link, b""));
        let error = words(&root(&[("a", bytes)], 1).unwrap_err());
        assert!(error.starts_with("a 1: data.tar, byte 512: "), "{error}");
        assert!(error.contains(expected), "{name}: {error}");
    }
    let named = [("a", deb("b", "", tar()))];
    check(&named, expect!["a 1 holds package b 1, but a 1 was asked for"]);
}

/// Reads a .deb to its end.
fn read(bytes: &[u8]) -> Result<u64, sconce_debian::DebError> {
    let source = bytes.to_vec();
    let deb = Deb::open(&source)?;
    deb.control()?;
    let mut tar = deb.data()?;
    let (mut total, mut buf) = (0, [0; 4096]);
    while tar.next_entry()?.is_some() {
        loop {
            match tar.read(&mut buf)? {
                0 => break,
                n => total += n as u64,
            }
        }
    }
    Ok(total)
}

#[test]
fn a_deb_cut_off_or_changed_anywhere_is_refused_or_read_without_a_panic() {
    let long = "./".to_owned() + &"x".repeat(90);
    let whole = deb("a", "", tar().file("./f", &"y".repeat(700)).file(&long, "z"));
    assert_eq!(read(&whole).unwrap(), 701);
    for end in 0..whole.len() {
        assert!(read(&whole[..end]).is_err(), "cut at {end}");
    }
    for at in 0..whole.len() {
        for change in [0x00, 0xff, whole[at] ^ 0x01, whole[at] ^ 0x80] {
            let mut changed = whole.clone();
            changed[at] = change;
            let _ = read(&changed);
        }
    }
}

#[test]
fn long_names_and_sizes() {
    let name = format!("./{}/f", "d".repeat(200));
    let gnu = tar().entry(b'L', "././@LongLink", "", name.as_bytes()).file("./short", "abc");
    assert!(show(&root(&[("a", deb("a", "", gnu))], 1).unwrap()).contains("/f \"abc\""));

    let record = |key: &str, value: &str| {
        let body = format!(" {key}={value}\n");
        let len = (1..).find(|n: &usize| n.to_string().len() + body.len() == *n).unwrap();
        format!("{len}{body}")
    };
    let pax = record("path", &name) + &record("mtime", "1.5");
    let pax = tar().entry(b'x', "pax", "", pax.as_bytes()).file("./short", "abc");
    assert!(show(&root(&[("a", deb("a", "", pax))], 1).unwrap()).contains("/f \"abc\""));

    for hostile in ["9999999999999999999 path=x\n", "x", "5 a\n", "0 path=x\n", "11 size=abc\n"] {
        let bytes = deb("a", "", tar().entry(b'x', "pax", "", hostile.as_bytes()).file("./f", ""));
        assert!(read(&bytes).is_err(), "{hostile}");
    }
    // A size far beyond the file, in octal and in base 256.
    let mut header = [0u8; 512];
    header[..3].copy_from_slice(b"./f");
    for field in [100..108, 108..116, 116..124] {
        header[field].copy_from_slice(b"0000000\0");
    }
    header[156] = b'0';
    for size in [b"77777777777\0".to_vec(), [&[0x80u8][..], &[0x0f; 11]].concat()] {
        header[124..136].copy_from_slice(&size);
        assert!(read(&deb("a", "", tar().push(header, b""))).is_err());
    }
}

#[test]
fn members_must_stand_in_order() {
    let control = tar().file("./control", "Package: a\nVersion: 1\n").end();
    let data = tar().end();
    let version: (&str, &[u8]) = ("debian-binary", b"2.0\n");
    let open =
        |members: &[(&str, &[u8])]| read(&ar(members)).map(|_| ()).map_err(|e| e.to_string());
    let (control, data) = (("control.tar", &control[..]), ("data.tar", &data[..]));
    assert_eq!(open(&[version, control, data]), Ok(()));
    assert_eq!(open(&[version, ("_x", b"y"), control, data, ("more", b"")]), Ok(()));
    for (members, expected) in [
        (&[version, data, control][..], "`data.tar` where control.tar must stand"),
        (&[version, control, ("data.tar.rar", b"")], "unknown compression"),
        (&[("debian-binary", b"3.0\n"), control, data], "no .deb of format 2"),
        (&[version, control], "ar, byte"),
    ] {
        let error = open(members).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_bomb_is_refused() {
    use std::io::Write;
    // 512 MiB of zeros in one file.
    let mut header = [0u8; 512];
    header[..3].copy_from_slice(b"./f");
    for field in [100..108, 108..116, 116..124] {
        header[field].copy_from_slice(b"0000000\0");
    }
    header[124..136].copy_from_slice(b"04000000000\0");
    header[156] = b'0';
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&tar().push(header, b"").0).unwrap();
    for _ in 0..512 {
        gzip.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let data = gzip.finish().unwrap();
    let control = tar().file("./control", "Package: a\nVersion: 1\n").end();
    let bytes =
        ar(&[("debian-binary", b"2.0\n"), ("control.tar", &control), ("data.tar.gz", &data)]);
    let error = read(&bytes).unwrap_err().to_string();
    assert!(error.contains("unpacks to more than is sensible"), "{error}");
}
