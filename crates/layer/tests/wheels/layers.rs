//! Wheels to layers: what is installed, which bytes come out, and that readers take them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::world::{Draft, Made, Member, Opened, Tree, make, make_preferring, open, venv};
use expect_test::expect;
use flate2::read::MultiGzDecoder;
use sconce_blob::Digest;
use sconce_layer::{Error, Job, Layer, OWN_LAYER, Wheel, assemble_all, plan};

/// One of everything that a wheel can hold.
fn everything() -> Draft {
    let long = format!("demo/{}/{}.py", "d".repeat(60), "n".repeat(60));
    let points =
        "[console_scripts]\ndemo = demo.cli:main\n\n[gui_scripts]\nwin = demo.gui:App.run\n";
    Draft::new("demo")
        .file("demo/__init__.py", b"")
        .file("demo/cli.py", b"def main(): ...\n")
        .member(Member::stored("demo/stored.bin", &vec![7; 70_000]))
        .member(Member { descriptor: true, ..Member::deflated("demo/later.txt", b"later\n") })
        .member(Member { wide: true, ..Member::deflated("demo/wide.txt", b"wide\n") })
        .member(Member { mode: 0o100_755, ..Member::deflated("demo/tool.sh", b"#!/bin/sh\n") })
        .member(Member::stored("demo/sub/", b""))
        .file(&long, b"x = 1\n")
        .file("demo/\u{e4}.txt", b"umlaut\n")
        .file("{}.data/purelib/pure.py", b"pure\n")
        .file("{}.data/platlib/plat.py", b"plat\n")
        .file("{}.data/headers/demo.h", b"header\n")
        .file("{}.data/data/share/demo/x.txt", b"data\n")
        .file("{}.data/scripts/run", b"#!python -E\nprint(1)\n")
        .file("{}.data/scripts/native", b"\x7fELF not really\n")
        .file("{}.data/scripts/demo-script.py", b"#!python\nold wrapper\n")
        .file("{}.dist-info/INSTALLER", b"pip\n")
        .file("{}.dist-info/entry_points.txt", points.as_bytes())
}

fn unpacked(blob: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    MultiGzDecoder::new(blob).read_to_end(&mut tar).unwrap();
    tar
}

#[test]
fn a_wheel_is_installed_as_pip_would() {
    let made = make(vec![everything().open().unwrap()], 1).unwrap();
    let tree = &made.trees[0];
    expect![[r#"
        0755 opt/
        0755 opt/venv/
        0755 opt/venv/bin/
        0755 opt/venv/include/
        0755 opt/venv/include/site/
        0755 opt/venv/include/site/python3.13/
        0755 opt/venv/include/site/python3.13/demo/
        0755 opt/venv/lib/
        0755 opt/venv/lib/python3.13/
        0755 opt/venv/lib/python3.13/site-packages/
        0755 opt/venv/lib/python3.13/site-packages/demo/
        0755 opt/venv/lib/python3.13/site-packages/demo-1.0.dist-info/
        0755 opt/venv/lib/python3.13/site-packages/demo/dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd/
        0755 opt/venv/share/
        0755 opt/venv/share/demo/
        0755 opt/venv/bin/demo 110
        0755 opt/venv/bin/native 16
        0755 opt/venv/bin/run 32
        0755 opt/venv/bin/win 112
        0644 opt/venv/include/site/python3.13/demo/demo.h 7
        0644 opt/venv/lib/python3.13/site-packages/demo-1.0.dist-info/INSTALLER 7
        0644 opt/venv/lib/python3.13/site-packages/demo-1.0.dist-info/METADATA 46
        0644 opt/venv/lib/python3.13/site-packages/demo-1.0.dist-info/RECORD 1609
        0644 opt/venv/lib/python3.13/site-packages/demo-1.0.dist-info/WHEEL 41
        0644 opt/venv/lib/python3.13/site-packages/demo-1.0.dist-info/entry_points.txt 77
        0644 opt/venv/lib/python3.13/site-packages/demo/__init__.py 0
        0644 opt/venv/lib/python3.13/site-packages/demo/cli.py 16
        0644 opt/venv/lib/python3.13/site-packages/demo/dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd/nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn.py 6
        0644 opt/venv/lib/python3.13/site-packages/demo/later.txt 6
        0644 opt/venv/lib/python3.13/site-packages/demo/stored.bin 70000
        0755 opt/venv/lib/python3.13/site-packages/demo/tool.sh 10
        0644 opt/venv/lib/python3.13/site-packages/demo/wide.txt 5
        0644 opt/venv/lib/python3.13/site-packages/demo/ä.txt 7
        0644 opt/venv/lib/python3.13/site-packages/plat.py 5
        0644 opt/venv/lib/python3.13/site-packages/pure.py 5
        0644 opt/venv/share/demo/x.txt 5
    "#]].assert_eq(&tree.listing());
    let site = "opt/venv/lib/python3.13/site-packages";
    expect![[r#"
        ../../../bin/demo,sha256=6wZkD5eZvqrPTBoUDcrVoa0cSMPJ484ekqSE53-Qi3U,110
        ../../../bin/native,sha256=boR4QrxF1YK2EaFFTSEwWNr8IRF0vP87qSxQwryk6go,16
        ../../../bin/run,sha256=qnLk2Db4y5EWyEuOvsYXbL0BJtk-rw7i9qoOJ0mULl8,32
        ../../../bin/win,sha256=--GwcwrRdL97HJu-mUKQPTiHyoJH57tvzvbVWz1sNsI,112
        ../../../include/site/python3.13/demo/demo.h,sha256=Vl8Sn0cn7LmGgU4CeN0tCyFSEVmsGaEpJAOCYwLWJGI,7
        demo-1.0.dist-info/INSTALLER,sha256=83mqiXdE0Fk22qcnyw_Pt-vkBIsEJyptOiRKFUCUGzU,7
        demo-1.0.dist-info/METADATA,sha256=NKonpgZPlYtBt4GiF_KQ_Qq1-WUeK25Kzas0G3uTwwU,46
        demo-1.0.dist-info/WHEEL,sha256=pOC2U1k6hCf_vkZe7h2snGRWx-C20Xjuc3a02KQn2OY,41
        demo-1.0.dist-info/entry_points.txt,sha256=Wp0-FV8sxxsPaJLoFe8BUNdiu7kjgbA6GtXP9oRbKi4,77
        demo/__init__.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0
        demo/cli.py,sha256=GDgtV2mvt98UfkC_pPNIzYezG5Bz-WrlfH_PiDrh664,16
        demo/dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd/nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn.py,sha256=nia_NpkRxFwkPGhBR7I_yeHc_PJX0pmhxjIBam_NM_Q,6
        demo/later.txt,sha256=C9cibqhomE2X1RfMw1wLyaBNk-gcWiW2yOre0IhiaUQ,6
        demo/stored.bin,sha256=T3csrUWlaEYa65PtjjRRQi5bqS2UwBozVcsC51xLOH4,70000
        demo/tool.sh,sha256=qAdtPSjSHgIBKyDq99v3VAmmJ3E0Q5Al8oLjaOMwWr8,10
        demo/wide.txt,sha256=y9qU_sx-R8YRKWoilxq46NgQD_qidMW8WQ25lobBYwI,5
        demo/ä.txt,sha256=7v6rzpomh-yudAv3ka1OdotkLsg3zAXpZ3sl3gmOJUc,7
        plat.py,sha256=ZqRl_b2yQJaLmqK5pJZ5hqqNXHJCSsx3dFwKEBecUu4,5
        pure.py,sha256=T6ciGWgfATF7CVDYIqK988NJCK3hGzKrzgjZRE0pBiA,5
        ../../../share/demo/x.txt,sha256=Zmey0aq2oAyqWu5a-K2fFGXlZ6vxwgnRVyfVez6Pbl8,5
        demo-1.0.dist-info/RECORD,,
    "#]].assert_eq(&tree.text(&format!("{site}/demo-1.0.dist-info/RECORD")));
    expect![[r##"
        #!/opt/venv/bin/python
        import sys

        from demo.gui import App

        if __name__ == "__main__":
            sys.exit(App.run())
    "##]]
    .assert_eq(&tree.text("opt/venv/bin/win"));
    assert_eq!(tree.text("opt/venv/bin/run"), "#!/opt/venv/bin/python\nprint(1)\n");
    assert_eq!(tree.text(&format!("{site}/demo-1.0.dist-info/INSTALLER")), "sconce\n");
}

#[test]
fn golden_digests() {
    let made = make(vec![everything().open().unwrap()], 1).unwrap();
    // Another digest is another format: raise the version in docs/format/wheel-layer.md.
    expect![[r#"
        Layer {
            diff_id: sha256:04d3febd7e59b322ecf0a86cb8e4d819e678e89e6ea5c0446dd28e7ab4af8d47,
            digest: sha256:42e8ccfa0a672e551f8ccb7c988c9155e94cdf3f66892752f0597ef8c4ca4fd2,
            size: 104830,
        }"#]]
    .assert_eq(&format!("{:#?}", made.layers[0]));
}

#[test]
fn threads_do_not_show_in_the_digests() {
    // Two wheels with a layer of their own and files large enough to be piped.
    let noise = |seed: u32, len: usize| -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..len).map(|_| next()).collect()
    };
    let large = |name: &str, seed| {
        Draft::new(name)
            .file(&format!("{name}/large.so"), &noise(seed, 5 << 20))
            .member(Member::stored(&format!("{name}/stored.so"), &noise(seed + 1, 3 << 20)))
            .file(&format!("{name}/exact"), &noise(seed + 2, 2 << 20))
            .bytes()
    };
    let drafts =
        [("demo", everything().bytes()), ("one", large("one", 1)), ("two", large("two", 7))];
    let wheels = || -> Vec<Opened> {
        drafts.iter().map(|(name, bytes)| open(name, bytes.clone()).unwrap()).collect()
    };
    let alone = make(wheels(), 1).unwrap();
    assert_eq!(alone.names, ["one 1.0", "two 1.0", "demo 1.0"]);
    for threads in [2, 3, 16] {
        let mut given = wheels();
        given.reverse();
        let made = make(given, threads).unwrap();
        assert_eq!(made.layers, alone.layers, "{threads} threads");
        for (tree, other) in made.trees.iter().zip(&alone.trees) {
            assert!(tree.files() == other.files(), "{threads} threads");
        }
    }
    for (layer, blob) in alone.layers.iter().zip(&alone.blobs) {
        assert_eq!(layer.diff_id, Digest::of(&unpacked(blob)));
    }
}

/// Eight large files, the sixth of so many MiB.
fn ahead(sixth: usize) -> Draft {
    let file = |draft: Draft, n: usize| {
        let len = if n == 5 { sixth << 20 } else { 5 << 20 };
        let mut bytes = vec![7; len];
        bytes[n] = 0;
        draft.file(&format!("big/{n}/lib.so"), &bytes)
    };
    (0..8).fold(Draft::new("big"), file)
}

#[test]
fn files_inflated_before_their_turn_do_not_show() {
    // More bytes than may wait for their turn on two threads (32 MiB each).
    let wheel = || vec![ahead(70).open().unwrap()];
    let alone = make(wheel(), 1).unwrap();
    for threads in [2, 4, 24] {
        let made = make(wheel(), threads).unwrap();
        assert_eq!(made.layers, alone.layers, "{threads} threads");
        assert!(made.trees[0].files() == alone.trees[0].files(), "{threads} threads");
        let lines = made.trees[0].listing();
        assert_eq!(lines.lines().collect::<BTreeSet<_>>().len(), lines.lines().count());
    }
}

#[test]
fn a_failure_in_a_large_file_ends_the_work_on_any_number_of_threads() {
    for threads in [1, 2, 3, 8] {
        let mut draft = Draft::new("big").file("big/x", &vec![3; 12 << 20]);
        draft.members.last_mut().unwrap().crc ^= 1;
        let error = make(vec![draft.open().unwrap()], threads).err();
        assert!(matches!(error, Some(Error::Content { .. })), "{error:?}");
        let mut draft = Draft::new("big").file("big/x", &vec![3; 12 << 20]);
        draft.members.last_mut().unwrap().content[0] = 4;
        let error = make(vec![draft.open().unwrap()], threads).err();
        assert!(matches!(error, Some(Error::Hash { .. })), "{error:?}");
    }
    // The first, while others wait for a turn that does not come, and the last.
    for (threads, at) in [(2, "big/0"), (2, "big/7"), (24, "big/0"), (24, "big/7")] {
        let mut draft = ahead(5);
        let member = draft.members.iter_mut().find(|one| one.name.starts_with(at.as_bytes()));
        member.unwrap().crc ^= 1;
        let error = make(vec![draft.open().unwrap()], threads).err();
        assert!(matches!(error, Some(Error::Content { .. })), "{error:?}");
    }
}

#[test]
fn two_wheels_may_share_a_file_but_not_a_path() {
    let wheel = |name: &str, init: &[u8]| {
        let draft = Draft::new(name).file("shared/__init__.py", init);
        draft.file(&format!("shared/{name}.so"), b"so").open().unwrap()
    };
    let made = make(vec![wheel("b", b""), wheel("a", b"")], 2).unwrap();
    assert_eq!(made.names, ["2 wheels"]);
    let listing = made.trees[0].listing();
    assert_eq!(listing.matches("shared/__init__.py").count(), 1);
    let error = make(vec![wheel("b", b"# b\n"), wheel("a", b"")], 2).err().unwrap();
    expect!["`opt/venv/lib/python3.13/site-packages/shared/__init__.py` comes from a-1.0-py3-none-any.whl and, with other content, from b-1.0-py3-none-any.whl"].assert_eq(&error.to_string());
    let file = Draft::new("a").file("x", b"").open().unwrap();
    let folder = Draft::new("b").file("x/y", b"").open().unwrap();
    let error = make(vec![folder, file], 1).err().unwrap();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
}

#[test]
fn one_small_wheel_more_changes_one_shared_layer() {
    let wheel = |name: &str| {
        let draft = Draft::new(name).file("nvidia/__init__.py", b"");
        draft.file(&format!("{name}.py"), name.as_bytes()).open().unwrap()
    };
    let names: Vec<String> = (0..20).map(|number| format!("small{number:02}")).collect();
    let made = |count: usize| make(names[..count].iter().map(|name| wheel(name)).collect(), 2);
    let before = made(19).unwrap();
    let after = made(20).unwrap();
    expect!["5 wheels (1 of 4), 4 wheels (2 of 4), 4 wheels (3 of 4), 6 wheels (4 of 4)"]
        .assert_eq(&before.names.join(", "));
    let kept = |made: &Made| -> std::collections::BTreeSet<Digest> {
        made.layers.iter().map(|layer| layer.diff_id).collect()
    };
    assert_eq!(kept(&after).intersection(&kept(&before)).count(), 3);
    // A file that all of them have is in the layer of the first.
    let shared = |tree: &Tree| tree.listing().matches("nvidia/__init__.py").count();
    assert_eq!(after.trees.iter().map(shared).sum::<usize>(), 1);
    assert_eq!(made(8).unwrap().names, ["8 wheels"]);
}

#[test]
fn strays_at_the_top_of_site_packages_are_no_conflict() {
    let wheel = |name: &str, path: &str| {
        let draft = Draft::new(name).file(path, name.as_bytes());
        draft.file("LICENSE", name.as_bytes()).open().unwrap()
    };
    let planned = |path: &str| {
        let wheels = [wheel("b", path), wheel("a", path)].map(|opened| opened.wheel);
        plan(&wheels, &venv(), &[])
    };
    for path in ["tests/__init__.py", "docs/conf.py", "setup.py", "README.md"] {
        let strays = planned(path).unwrap().strays;
        assert_eq!((strays.len(), strays[0].more), (1, 1), "{path}: {strays:?}");
        assert!(strays[0].first.starts_with("a-") && strays[0].second.starts_with("b-"));
    }
    for path in ["cv2/__init__.py", "module.py", "module.so", "utils/x.py", "x.pth"] {
        let error = planned(path).err().expect("a conflict").to_string();
        assert!(error.contains(path), "{error}");
    }
    let made = make(vec![wheel("b", "b/x.py"), wheel("a", "a/x.py")], 1).unwrap();
    let seen = made.trees[0].text("opt/venv/lib/python3.13/site-packages/LICENSE");
    assert_eq!(seen, "a", "the first by name is the one that is seen");
}

#[test]
fn the_files_of_a_preferred_wheel_win_wherever_it_lies() {
    let wheel = |name: &str, more: usize| {
        let draft = Draft::new(name).file("cv2/x.so", name.as_bytes());
        let draft = draft.file("LICENSE", name.as_bytes()).file(&format!("cv2/{name}.py"), b"");
        // A wheel of this size has a layer of its own.
        draft.member(Member::stored(&format!("{name}.bin"), &vec![7; more]))
    };
    let own = OWN_LAYER as usize;
    for (a, b, prefer) in
        [(1, 1, "b"), (1, 1, "a"), (own, own, "b"), (own, own, "a"), (own, 1, "a"), (1, own, "b")]
    {
        let wheels = || vec![wheel("a", a).open().unwrap(), wheel("b", b).open().unwrap()];
        assert!(make(wheels(), 1).is_err());
        let made = make_preferring(&[prefer], wheels(), 1).unwrap();
        let texts = |path: &str| -> Vec<String> {
            let path = format!("opt/venv/lib/python3.13/site-packages/{path}");
            let text = |tree: &Tree| tree.files().get(&path).cloned();
            let found = made.trees.iter().filter_map(text);
            found.map(|bytes| String::from_utf8(bytes).unwrap()).collect()
        };
        for path in ["cv2/x.so", "LICENSE"] {
            assert_eq!(texts(path), [prefer], "{path} of {a} and {b}");
        }
        // Neither loses what only it has, and RECORD names what is there.
        let loser = if prefer == "a" { "b" } else { "a" };
        let record = texts(&format!("{loser}-1.0.dist-info/RECORD")).concat();
        assert!(record.contains(&format!("cv2/{loser}.py")), "{record}");
        assert!(!record.contains("cv2/x.so"), "{record}");
    }
    // A file where the other has a folder.
    let drafts = [Draft::new("a").file("x", b""), Draft::new("b").file("x/y", b"")];
    for (prefer, there, gone) in [("a", "x", "x/y"), ("b", "x/y", "x")] {
        let wheels = drafts.each_ref().map(|draft| draft.open().unwrap());
        let made = make_preferring(&[prefer], wheels.into(), 1).unwrap();
        let listing = made.trees[0].listing();
        let has = |path: &str| listing.contains(&format!("/site-packages/{path} 0\n"));
        assert!(has(there) && !has(gone), "{listing}");
    }
}

#[test]
fn system_tar_and_gzip_take_the_layer() {
    let folder = tempfile::tempdir().unwrap();
    let made = make(vec![everything().open().unwrap()], 1).unwrap();
    let blob = folder.path().join("layer.tar.gz");
    std::fs::write(&blob, &made.blobs[0]).unwrap();
    run(Command::new("gzip").arg("-t").arg(&blob));
    run(Command::new("tar").arg("xzf").arg(&blob).arg("-C").arg(folder.path()));
    for (path, bytes) in made.trees[0].files() {
        assert_eq!(std::fs::read(folder.path().join(&path)).unwrap(), bytes, "{path}");
    }
}

#[test]
fn every_file_starts_at_a_gzip_header() {
    // What eStargz asks of a layer that is read in pieces.
    let made = make(vec![everything().open().unwrap()], 1).unwrap();
    let blob = &made.blobs[0];
    let starts: Vec<&[u8]> =
        blob.windows(10).filter(|ten| *ten == b"\x1f\x8b\x08\0\0\0\0\0\0\xff").collect();
    let full = made.trees[0].files().values().filter(|bytes| !bytes.is_empty()).count();
    assert_eq!(starts.len(), 2 * full + 1);
}

#[test]
fn another_implementation_of_the_format_page_gets_the_same_digests() {
    let folder = tempfile::tempdir().unwrap();
    let wheels = [
        everything(),
        Draft::new("second").file("second.py", b"2\n").file("demo/__init__.py", b""),
        // Its RECORD names a file that isn't there, and not all that are.
        Draft {
            record: Some("ghost.py,,\nthird.py,sha256=x,\n".to_owned()),
            ..Draft::new("third").file("third.py", b"3\n")
        },
    ];
    let made = make(wheels.iter().map(|draft| draft.open().unwrap()).collect(), 1).unwrap();
    let paths = wheels.iter().map(|draft| {
        let path = folder.path().join(format!("{}-1.0-py3-none-any.whl", draft.name));
        std::fs::write(&path, draft.bytes()).unwrap();
        path
    });
    assert_eq!(second_implementation(paths), made.layers[0]);
}

#[test]
#[ignore = "takes real wheels, in the folder that SCONCE_WHEELS names"]
fn another_implementation_agrees_on_real_wheels() {
    /// The second implementation holds all of a wheel in memory.
    const MOST: u64 = 64 << 20;
    let folder = std::env::var_os("SCONCE_WHEELS").expect("SCONCE_WHEELS names a folder");
    let mut compared = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        if !name.ends_with(".whl") || file.metadata().unwrap().len() > MOST {
            continue;
        }
        let source = Arc::new(File::open(file.path()).unwrap());
        let digest = Digest::of(&std::fs::read(file.path()).unwrap());
        let plans =
            plan(&[Wheel::open(&name, digest, source).unwrap()], &venv(), &[]).unwrap().layers;
        let jobs = [Job { plan: &plans[0], unpack: None }];
        let layers = assemble_all(&jobs, NonZeroUsize::new(2).unwrap(), &()).unwrap();
        assert_eq!(second_implementation([file.path()]), layers[0], "{name}");
        compared += 1;
    }
    assert!(compared > 0, "no wheels there");
}

/// What the Python implementation makes of wheels that share a layer.
fn second_implementation(wheels: impl IntoIterator<Item = PathBuf>) -> Layer {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wheels/wheel_layer.py");
    let mut command = Command::new("python3");
    command.arg(script).args(["/opt/venv", "3.13"]).args(wheels);
    let output = run(&mut command);
    let fields: Vec<&str> = output.split_whitespace().collect();
    Layer {
        diff_id: fields[0].parse().unwrap(),
        digest: fields[1].parse().unwrap(),
        size: fields[2].parse().unwrap(),
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
