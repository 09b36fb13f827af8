//! Locks that are right, changed, of another version, or no locks at all.

use expect_test::{Expect, expect};

use crate::document::{
    DebPin, Facts, IndexKind, IndexRow, Inputs, Layer, Lock, PythonPin, Sealed, TorchFacts, Wheel,
};
use crate::source::{FIRST_RECIPE, OwnProject, Rebuilt, Source};
use crate::spec::{App, Flavour};
use crate::{Error, write};
use sconce_blob::Digest;

fn lock() -> Lock {
    let digest = Digest::of(b"x");
    Lock {
        spec: digest,
        inputs: None,
        facts: Facts {
            machine: "x86_64".parse().unwrap(),
            base: "trixie".into(),
            python: "3.13".into(),
            glibc: "2.41".into(),
            flavour: Flavour::Runtime,
            bytecode: true,
            gpus: Vec::new(),
            prefer: Vec::new(),
            torch: Some(TorchFacts {
                version: "2.15.0".into(),
                cuda: Some("13.2".parse().unwrap()),
                driver: Some("580.65.06".parse().unwrap()),
                architectures: vec!["sm_75".parse().unwrap(), "sm_90a".parse().unwrap()],
                cudnn: Some("9.26.0.51".into()),
                nccl: None,
                triton: Some("3.9.0".into()),
            }),
        },
        python: None,
        app: App {
            env: [("A B".to_owned(), "quo\"te\\ \n\u{1}é".to_owned())].into(),
            command: vec!["python".into(), "train.py".into()],
            ..App::default()
        },
        indexes: vec![
            IndexRow { name: "pypi".into(), kind: IndexKind::Python, url: None },
            IndexRow { name: "trixie".into(), kind: IndexKind::Debian, url: None },
        ],
        wheels: vec![Wheel {
            name: "foo-bar".into(),
            version: "1.0+cu1".into(),
            file: "foo_bar-1.0+cu1-py3-none-any.whl".into(),
            size: Some(5),
            sha256: digest,
            index: "pypi".into(),
            url: None,
            variant: None,
        }],
        sources: Vec::new(),
        project: None,
        build_debs: Vec::new(),
        debs: vec![DebPin {
            name: "libc6".into(),
            version: "2.41-12".into(),
            arch: "amd64".into(),
            path: "pool/main/g/glibc/libc6_2.41-12_amd64.deb".into(),
            size: 7,
            sha256: digest,
            index: "trixie".into(),
        }],
        sealed: None,
    }
}

fn sealed() -> Lock {
    let digest = Digest::of(b"y");
    let layer = Layer { name: "debian".into(), diff_id: digest, digest, size: 9 };
    Lock { sealed: Some(Sealed { image: digest, layers: vec![layer] }), ..lock() }
}

fn promised() -> Lock {
    let mut lock = sealed();
    lock.facts.gpus = vec!["8.0".parse().unwrap(), "9.0".parse().unwrap()];
    lock
}

fn with_inputs() -> Lock {
    let inputs = Inputs { wheels: Digest::of(b"w"), debs: Digest::of(b"d") };
    Lock { inputs: Some(inputs), ..promised() }
}

fn with_python() -> Lock {
    let mut lock = lock();
    lock.facts.python = "3.13t".into();
    lock.python = Some(PythonPin {
        version: "3.13.15".into(),
        build: Some("20260814".into()),
        file: "cpython-3.13.15+20260814.tar.gz".into(),
        size: Some(9),
        sha256: Digest::of(b"x"),
        url: None,
    });
    lock
}

#[test]
fn a_standalone_python_has_a_table_of_its_own() {
    let text = with_python().to_text();
    assert_eq!(Lock::parse(&text).unwrap(), with_python());
    let table = text.split("\n\n").find(|table| table.starts_with("[python]")).unwrap();
    expect![[r#"
        [python]
        version = "3.13.15"
        build = "20260814"
        file = "cpython-3.13.15+20260814.tar.gz"
        size = 9
        sha256 = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881""#]]
    .assert_eq(table);
    assert!(text.contains("\nversion = 5\n"), "{text}");
    for (from, to) in [
        ("version = \"3.13.15\"", "version = \"3.12.15\""),
        ("build = \"20260814\"", "build = \"../up\""),
        ("build = \"20260814\"\n", ""),
        ("+20260814.tar.gz", "/../x.tar.gz"),
        (".tar.gz", ".zip"),
        ("4881\"\n", "4881\"\nurl = \"/etc/passwd\"\n"),
    ] {
        let other = text.replacen(from, to, 1);
        assert_ne!(other, text, "{from}");
        assert!(Lock::parse(&resigned(&other)).is_err(), "{to} was read");
    }
}

/// A text with a right digest over whatever stands after it.
fn from_source() -> Lock {
    let digest = Digest::of(b"x");
    let mut lock = with_inputs();
    let wheel = |name: &str, index: &str| Wheel {
        name: name.into(),
        version: "1.0".into(),
        file: format!("{name}-1.0-py3-none-any.whl"),
        size: None,
        sha256: digest,
        index: index.into(),
        url: None,
        variant: None,
    };
    lock.indexes.push(IndexRow { name: "source".into(), kind: IndexKind::Python, url: None });
    lock.wheels.push(wheel("wooden", "source"));
    lock.sources = vec![Source {
        name: "wooden".into(),
        file: "wooden-1.0.tar.gz".into(),
        size: Some(3),
        sha256: digest,
        index: "pypi".into(),
        flavour: Flavour::Devel,
        architectures: vec!["9.0".into()],
        recipe: FIRST_RECIPE,
        rebuilt: Some(Rebuilt::Differs),
        wheels: vec![lock.wheels[0].clone(), wheel("setuptools", "pypi")],
    }];
    lock.build_debs =
        lock.debs.iter().map(|deb| DebPin { name: "make".into(), ..deb.clone() }).collect();
    lock
}

fn resigned(text: &str) -> String {
    let body = text.splitn(4, '\n').nth(3).unwrap();
    let version = text.lines().nth(1).unwrap();
    let digest = Digest::of(body.as_bytes());
    format!("{}{version}\ndigest = \"{digest}\"\n{body}", write::HEADER)
}

#[track_caller]
fn wrong(text: &str, expected: Expect) {
    let error = Lock::parse(text).unwrap_err();
    assert!(error.hint().is_some());
    expected.assert_eq(&error.to_string());
}

#[test]
fn text_and_back() {
    let mut other_recipe = from_source();
    assert!(other_recipe.to_text().contains("\nversion = 4\n"));
    other_recipe.sources[0].recipe = 2;
    assert!(other_recipe.to_text().contains("\nversion = 6\n"));
    for lock in [lock(), sealed(), promised(), with_inputs(), from_source(), other_recipe] {
        let text = lock.to_text();
        assert_eq!(Lock::parse(&text).unwrap(), lock);
        assert_eq!(resigned(&text), text);
    }
    assert_eq!(lock().digest(), sealed().digest());
    assert_ne!(lock().to_text(), sealed().to_text());
    assert!(lock().to_text().contains("\nversion = 1\n"));
    assert!(promised().to_text().contains("\nversion = 2\n"));
    assert!(with_inputs().to_text().contains("\nversion = 3\n"));
    assert!(from_source().to_text().contains("\nversion = 4\n"));
}

#[test]
fn a_variant_stands_in_its_own_field() {
    let mut lock = lock();
    let plain = lock.to_text();
    for wheel in &mut lock.wheels {
        wheel.file = "foo_bar-1.0+cu1-py3-none-any-cu13.whl".into();
        wheel.variant = Some("cu13".into());
    }
    let text = lock.to_text();
    assert!(text.contains("\nversion = 4\n") && text.contains("\nvariant = \"cu13\"\n"), "{text}");
    assert_eq!(Lock::parse(&text).unwrap(), lock);
    wrong(
        &resigned(&text.replace("variant = \"cu13\"", "variant = \"cu12\"")),
        expect!["sconce.lock: foo_bar-1.0+cu1-py3-none-any-cu13.whl is no such variant"],
    );
    wrong(
        &resigned(&text.replace("variant = \"cu13\"\n", "")),
        expect!["sconce.lock: foo_bar-1.0+cu1-py3-none-any-cu13.whl is no such variant"],
    );
    let file = "file = \"foo_bar-1.0+cu1-py3-none-any.whl\"";
    wrong(
        &resigned(&plain.replace(file, "file = \"foo_bar-1.0+cu1-py3-none-any-cu13.whl\"")),
        expect!["sconce.lock: foo_bar-1.0+cu1-py3-none-any-cu13.whl is no such variant"],
    );
}

#[test]
fn changed_by_hand() {
    let text = lock().to_text();
    wrong(
        &text.replace("580.65.06", "525.60.13"),
        expect!["sconce.lock was changed after it was written: its digest is not that of its text"],
    );
    wrong(
        &format!("{text}\n"),
        expect!["sconce.lock was changed after it was written: its digest is not that of its text"],
    );
    wrong(
        &format!("# mine\n{text}"),
        expect!["sconce.lock was changed after it was written: its first lines are others"],
    );
    wrong(
        &text.replace('\n', "\r\n"),
        expect!["sconce.lock was changed after it was written: its first lines are others"],
    );
    wrong(
        &resigned(&format!("{text}# mine\n")),
        expect![
            "sconce.lock was changed after it was written: its text is not the one that sconce writes for it"
        ],
    );
}

#[test]
fn of_another_version() {
    let text = lock().to_text();
    wrong(
        &text.replace("version = 1\n", "version = 7\nnews = true\n"),
        expect!["sconce.lock has version 7; this sconce reads up to 6"],
    );
    wrong(
        &text.replace("version = 1\n", "version = 0\n"),
        expect!["sconce.lock: there never was a version 0"],
    );
}

#[test]
fn values_that_no_sconce_writes() {
    let text = lock().to_text();
    let change = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        resigned(&text.replace(from, to))
    };
    wrong("", expect!["sconce.lock, line 1, column 1: missing field `version`"]);
    wrong(
        "version = ",
        expect![
            "sconce.lock, line 1, column 11: string values must be quoted, expected literal string"
        ],
    );
    wrong(
        &change("pool/main/g", "../../etc"),
        expect![
            "sconce.lock: deb `libc6` has no path in an archive: `../../etc/glibc/libc6_2.41-12_amd64.deb`"
        ],
    );
    wrong(
        &change("\"pool/main", "\"/pool/main"),
        expect![
            "sconce.lock: deb `libc6` has no path in an archive: `/pool/main/g/glibc/libc6_2.41-12_amd64.deb`"
        ],
    );
    wrong(
        &change("foo_bar-1.0+cu1-py3", "../foo_bar-1.0+cu1-py3"),
        expect!["sconce.lock: `../foo_bar-1.0+cu1-py3-none-any.whl` is not a wheel's file name"],
    );
    wrong(
        &change("foo_bar-1.0+cu1-py3", "other-1.0+cu1-py3"),
        expect!["sconce.lock: other-1.0+cu1-py3-none-any.whl is not a wheel of foo-bar 1.0+cu1"],
    );
    wrong(
        &change("index = \"pypi\"", "index = \"lab\""),
        expect!["sconce.lock: wheel `foo-bar` names no index of this lock: `lab`"],
    );
    wrong(
        &change("size = 5", "size = -5"),
        expect!["sconce.lock, line 40, column 8: invalid value: integer `-5`, expected u64"],
    );
    wrong(
        &change("bytecode = true", "bytecode = true\nmore = 1"),
        expect![
            "sconce.lock, line 13, column 1: unknown field `more`, expected one of `platform`, `base`, `python`, `glibc`, `flavour`, `bytecode`, `gpus`, `prefer`"
        ],
    );
    let promised = promised().to_text();
    wrong(
        &resigned(&promised.replace("[\"8.0\", \"9.0\"]", "[\"9.0\", \"8.0\"]")),
        expect!["sconce.lock: `gpus` are not sorted, or one stands twice"],
    );
    wrong(
        &resigned(&text.replace("version = 1", "version = 2")),
        expect![
            "sconce.lock was changed after it was written: its text is not the one that sconce writes for it"
        ],
    );
    wrong(&change("\"runtime\"", "\"fast\""), expect!["sconce.lock: unknown flavour `fast`"]);
}

/// Changes bytes of a real lock at random places: an error or a lock, never a panic, and never another lock.
#[test]
fn mutations_never_panic() {
    let text = sealed().to_text();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for _ in 0..2000 {
        let mut bytes = text.clone().into_bytes();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(3) {
                0 => bytes[at] = u8::try_from(random(256)).unwrap(),
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"\"[]={}\n#.'"[random(10)]),
            }
        }
        let Ok(mutated) = String::from_utf8(bytes) else { continue };
        if mutated != text {
            assert!(Lock::parse(&mutated).is_err(), "{mutated}");
        }
        // Behind a right digest the parser itself is reached.
        if mutated.matches('\n').count() > 3 {
            match Lock::parse(&resigned(&mutated)) {
                Ok(lock) => assert_eq!(lock.to_text(), resigned(&mutated)),
                Err(Error::LockSyntax { .. } | Error::LockEdited { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn a_project_that_is_installed() {
    let mut lock = from_source();
    let source = lock.sources.remove(0);
    lock.wheels.retain(|wheel| wheel.name != "wooden");
    lock.app.install = true;
    lock.project = Some(OwnProject {
        name: "my-tool".into(),
        requires: vec!["hatchling".into()],
        flavour: source.flavour,
        architectures: Vec::new(),
        wheels: source.wheels,
    });
    let text = lock.to_text();
    assert_eq!(Lock::parse(&text).unwrap(), lock);
    assert!(text.contains("\nversion = 5\n") && text.contains("\ninstall = true\n"), "{text}");
    for (from, to, why) in [
        ("install = true\n", "", "`install` and [project] do not go together"),
        ("name = \"my-tool\"", "name = \"../up\"", "`../up` is not a name of a project"),
        ("name = \"my-tool\"", "name = \"foo-bar\"", "the project `foo-bar` is a wheel as well"),
        ("with = [\"foo-bar\"]", "with = [\"foo\"]", "there is no wheel `foo`"),
    ] {
        let other = text.replacen(from, to, 1);
        assert_ne!(other, text, "{from}");
        let error = Lock::parse(&resigned(&other)).unwrap_err().to_string();
        assert!(error.ends_with(why), "{error}");
    }
}

#[test]
fn wheels_from_source() {
    let text = from_source().to_text();
    // A wheel that the lock has stands by its name alone.
    assert!(text.contains("\nwith = [\"foo-bar\"]\n"), "{text}");
    assert_eq!(text.matches("foo_bar-1.0+cu1-py3-none-any.whl").count(), 1);
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        Lock::parse(&resigned(&text.replace(from, to))).unwrap_err().to_string()
    };
    let ends = |error: String, end: &str| assert!(error.ends_with(end), "{error}");
    let not_the_same = "the wheels from `source` and the sources are not the same packages";
    ends(changed("index = \"source\"", "index = \"pypi\""), not_the_same);
    ends(changed("[[source]]\nname = \"wooden\"", "[[source]]\nname = \"wooly\""), not_the_same);
    ends(changed("with = [\"foo-bar\"]", "with = [\"foo\"]"), "there is no wheel `foo`");
    ends(
        changed("with = [\"foo-bar\"]", "with = [\"wooden\"]"),
        "source `wooden` is built with `wooden`, which is built",
    );
    ends(
        changed("file = \"wooden-1.0.tar.gz\"", "file = \"../wooden-1.0.tar.gz\""),
        "`../wooden-1.0.tar.gz` is not a file name of a source distribution",
    );
    let setuptools =
        format!("sha256 = \"{}\"\nindex = \"pypi\"\n\n[[deb]]", Digest::of(b"x").hex());
    let elsewhere = setuptools.replace("\n\n", "\nurl = \"file:///etc/x.whl\"\n\n");
    ends(
        changed(&setuptools, &elsewhere),
        "source `wooden` is built with `setuptools` from an address",
    );
    assert!(changed("rebuilt = \"differs\"", "rebuilt = \"perhaps\"").contains("perhaps"));
}

#[test]
fn the_container_of_a_wheel_from_source() {
    let lock = from_source();
    let container = lock.sources[0].container(&lock);
    let names = |lock: &Lock| -> Vec<String> {
        let wheels = lock.wheels.iter().map(|wheel| wheel.name.clone());
        wheels.chain(lock.debs.iter().map(|deb| deb.name.clone())).collect()
    };
    assert_eq!(names(&container), ["foo-bar", "setuptools", "libc6", "make"]);
    // It does not depend on what the image is for.
    let other = Lock {
        spec: Digest::of(b"y"),
        app: App { workdir: "/w".into(), ..App::default() },
        ..lock.clone()
    };
    assert_eq!(lock.sources[0].container(&other).digest(), container.digest());
}
