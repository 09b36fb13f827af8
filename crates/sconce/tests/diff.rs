//! `sconce diff`: what is another in two locks or images, and which way.

mod index_world;
mod world;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use sconce_blob::Digest;
use sconce_lock::{DebPin, Facts, IndexKind, IndexRow, Layer, Lock, Machine, Sealed, Wheel};
use sconce_testkit::Wheel as Made;
use serde_json::Value;
use world::World;

/// A lock with these wheels and debs: name and version of each.
fn lock(wheels: &[(&str, &str)], debs: &[(&str, &str)]) -> Lock {
    let index = |name: &str, kind| IndexRow { name: name.into(), kind, url: None };
    let wheel = |&(name, version): &(&str, &str)| Wheel {
        name: name.into(),
        version: version.into(),
        file: format!("{}-{version}-py3-none-any.whl", name.replace('-', "_")),
        size: Some(1000),
        sha256: Digest::of(format!("{name} {version}").as_bytes()),
        index: "pypi".into(),
        url: None,
        variant: None,
    };
    let deb = |&(name, version): &(&str, &str)| DebPin {
        name: name.into(),
        version: version.into(),
        arch: "amd64".into(),
        path: "pool/x.deb".into(),
        size: 1000,
        sha256: Digest::of(format!("{name} {version}").as_bytes()),
        index: "trixie".into(),
    };
    Lock {
        indexes: vec![index("pypi", IndexKind::Python), index("trixie", IndexKind::Debian)],
        wheels: wheels.iter().map(wheel).collect(),
        debs: debs.iter().map(deb).collect(),
        ..Lock::of_facts(Facts::of_base(Machine::X86_64, "trixie", "3.13", "2.41"))
    }
}

fn with_torch(version: &str, cuda: &str, driver: &str, code: &[&str]) -> Lock {
    let mut lock = lock(&[("torch", version)], &[]);
    lock.facts.torch = Some(sconce_lock::TorchFacts {
        version: version.into(),
        cuda: Some(cuda.parse().unwrap()),
        driver: Some(driver.parse().unwrap()),
        architectures: code.iter().map(|sm| sm.parse().unwrap()).collect(),
        cudnn: None,
        nccl: None,
        triton: None,
    });
    lock
}

/// A world with two locks, a.lock and b.lock.
fn two(a: &Lock, b: &Lock) -> World {
    let world = World::new();
    fs::write(world.path("a.lock"), a.to_text()).unwrap();
    fs::write(world.path("b.lock"), b.to_text()).unwrap();
    world
}

#[track_caller]
fn json(world: &World, words: &[&str]) -> Value {
    let (_, out, err) = world.says(&[&["diff", "--json"], words].concat());
    serde_json::from_str(&out).unwrap_or_else(|why| panic!("{why}: {out}{err}"))
}

/// Name and way of each package that differs.
fn ways(found: &Value) -> Vec<(&str, &str)> {
    let rows = found["packages"].as_array().unwrap().iter();
    rows.map(|row| (row["name"].as_str().unwrap(), row["how"].as_str().unwrap())).collect()
}

#[test]
fn versions_are_compared_as_python_and_debian_do() {
    let mut b = lock(
        &[
            ("added", "1"),
            ("final", "2.0"),
            ("local", "2.9.1+cu128"),
            ("longer", "1.0.0"),
            ("number", "1.10.0"),
            ("older", "1.9"),
            ("rebuilt", "1"),
            ("same", "1"),
        ],
        &[
            ("base", "1.0~rc1-1"),
            ("epoch", "1:0.1"),
            ("libc6", "2.36-9+deb12u10"),
            ("odd", "not a version"),
        ],
    );
    b.wheels[6].sha256 = Digest::of(b"another file");
    b.facts.gpus = vec!["8.0".parse().unwrap()];
    let a = lock(
        &[
            ("final", "2.0rc1"),
            ("gone", "1"),
            ("local", "2.9.1+cu126"),
            ("longer", "1.0"),
            ("number", "1.9.0"),
            ("older", "1.10"),
            ("rebuilt", "1"),
            ("same", "1"),
        ],
        &[("base", "1.0-1"), ("epoch", "2.0"), ("libc6", "2.36-9+deb12u9"), ("odd", "1")],
    );
    let a = Lock { facts: Facts { gpus: vec!["9.0".parse().unwrap()], ..a.facts }, ..a };
    let world = two(&a, &b);
    let found = json(&world, &["a.lock", "b.lock"]);
    assert_eq!(found["facts"][0]["how"], "changed", "GPUs are not older than others");
    let expected = [
        ("added", "added"),
        ("final", "newer"),
        ("gone", "removed"),
        ("local", "newer"),
        ("longer", "changed"),
        ("number", "newer"),
        ("older", "older"),
        ("rebuilt", "other-file"),
        ("base", "older"),
        ("epoch", "newer"),
        ("libc6", "newer"),
        ("odd", "changed"),
    ];
    assert_eq!(ways(&found), expected);
    assert_eq!(found["verdict"], "differs");
    let (code, page, err) = world.says(&["diff", "a.lock", "b.lock"]);
    assert_eq!((code, &*err), (1, ""));
    for line in [
        "  + added 1\n",
        "  - gone 1\n",
        "  number 1.9.0 -> 1.10.0\n",
        "  older 1.10 -> 1.9 (older)\n",
        "  rebuilt 1 (the same version from another file)\n",
        "  libc6 2.36-9+deb12u9 -> 2.36-9+deb12u10\n",
    ] {
        assert!(page.contains(line), "{line}{page}");
    }
    let (code, page, _) = world.says(&["diff", "--markdown", "a.lock", "b.lock"]);
    assert_eq!(code, 1);
    assert!(page.starts_with("### `a.lock` → `b.lock`\n"), "{page}");
    assert!(page.contains("| `older` | `1.10` | `1.9` | older |\n"), "{page}");
    // A table has as many cells in each line.
    let rows = page.lines().filter(|line| line.starts_with('|'));
    assert!(
        rows.clone().count() > 12 && rows.clone().all(|row| row.matches('|').count() == 5),
        "{page}"
    );
}

#[test]
fn the_same_is_said_by_the_exit_code() {
    let mut sealed = lock(&[("a", "1")], &[]);
    let plain = sealed.clone();
    let (diff_id, digest) = (Digest::of(b"tar"), Digest::of(b"blob"));
    let layer = Layer { name: "debian".into(), diff_id, digest, size: 1 << 20 };
    sealed.sealed = Some(Sealed { image: Digest::of(b"image"), layers: vec![layer] });
    let world = two(&plain, &sealed);
    for words in [["diff", "a.lock", "a.lock"], ["diff", "a.lock", "b.lock"]] {
        let (code, out, err) = world.says(&words);
        assert_eq!((code, &*out, &*err), (0, "", "nothing differs\n"), "{words:?}");
    }
    assert_eq!(json(&world, &["a.lock", "b.lock"])["verdict"], "same");
    let (code, page, _) = world.says(&["diff", "--markdown", "a.lock", "b.lock"]);
    assert!(code == 0 && page.contains("Nothing differs."), "{page}");
    // What it was made for is another, and what is in it the same.
    let other = Lock { spec: Digest::of(b"another sconce.toml"), ..plain };
    fs::write(world.path("b.lock"), other.to_text()).unwrap();
    let (code, _, err) = world.says(&["diff", "a.lock", "b.lock"]);
    assert!(code == 0 && err.contains("what the locks were made for differs"), "{code} {err}");
    // Another layer of the same packages is another image.
    let mut rebuilt = sealed.clone();
    rebuilt.sealed.as_mut().unwrap().layers[0].diff_id = Digest::of(b"other");
    rebuilt.sealed.as_mut().unwrap().layers[0].size = 2 << 20;
    fs::write(world.path("a.lock"), sealed.to_text()).unwrap();
    fs::write(world.path("b.lock"), rebuilt.to_text()).unwrap();
    let found = json(&world, &["a.lock", "b.lock"]);
    assert_eq!(
        (&found["verdict"], &found["layers"]["new"]),
        (&"differs".into(), &(2 << 20).into())
    );
}

#[test]
fn gpus_and_drivers_that_a_newer_torch_loses() {
    let old = with_torch("2.10.0", "12.8", "525.60.13", &["sm_70", "sm_80", "sm_90"]);
    let new = with_torch("2.15.0", "13.2", "580.65.06", &["sm_80", "sm_90", "sm_100"]);
    let world = two(&old, &new);
    let found = json(&world, &["a.lock", "b.lock"]);
    let capabilities = |found: &Value, what: &str| {
        let rows = found["gpus"][what].as_array().unwrap().iter();
        rows.map(|row| row["capability"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let lost = capabilities(&found, "lost");
    assert!(lost.contains(&"7.0".into()) && !lost.contains(&"9.0".into()), "{lost:?}");
    assert!(capabilities(&found, "gained").contains(&"10.0".into()));
    let fact = |what: &str| {
        let mut rows = found["facts"].as_array().unwrap().iter();
        let row = rows.find(|row| row["what"] == what).unwrap();
        format!("{} {} {}", row["before"], row["after"], row["how"]).replace('"', "")
    };
    assert_eq!(fact("driver"), "525.60.13 580.65.06 newer");
    assert_eq!(fact("cuda"), "12.8 13.2 newer");
    let (_, page, _) = world.says(&["diff", "a.lock", "b.lock"]);
    assert!(page.contains("GPUs lost: 7.0 (") && page.contains("V100"), "{page}");
    // Back: what was lost is gained, and older.
    let (_, back, _) = world.says(&["diff", "b.lock", "a.lock"]);
    assert!(
        back.contains("GPUs gained: 7.0 (") && back.contains("580.65.06 -> 525.60.13 (older)"),
        "{back}"
    );
    // Code for a V100 beside a CUDA whose drivers no longer run one serves none.
    let code = with_torch("2.15.0", "13.2", "590.10", &["sm_70", "sm_80", "sm_90"]);
    fs::write(world.path("b.lock"), code.to_text()).unwrap();
    assert!(capabilities(&json(&world, &["a.lock", "b.lock"]), "lost").contains(&"7.0".into()));
    // Where nobody knows what a torch has code for, no GPU is called lost.
    let unknown = with_torch("2.15.0", "13.2", "580.65.06", &[]);
    fs::write(world.path("b.lock"), unknown.to_text()).unwrap();
    let found = json(&world, &["a.lock", "b.lock"]);
    assert!(capabilities(&found, "lost").is_empty());
    assert!(found["gpus"]["unknown"].as_str().unwrap().contains("b.lock"), "{found}");
    let (_, page, _) = world.says(&["diff", "a.lock", "b.lock"]);
    assert!(page.contains("GPUs lost or gained: can't tell"), "{page}");
}

#[test]
fn a_variable_is_named_and_its_value_is_not() {
    let mut a = lock(&[], &[]);
    a.app.env.insert("TOKEN".into(), "secret-one".into());
    let mut b = a.clone();
    b.app.env.insert("TOKEN".into(), "secret-two".into());
    let world = two(&a, &b);
    for form in [
        &["diff", "a.lock", "b.lock"][..],
        &["diff", "--json", "a.lock", "b.lock"],
        &["diff", "--markdown", "a.lock", "b.lock"],
    ] {
        let (code, out, err) = world.says(form);
        assert!(code == 1 && out.contains("variable TOKEN"), "{out}{err}");
        assert!(!format!("{out}{err}").contains("secret"), "{out}{err}");
    }
}

#[test]
fn locks_that_are_none() {
    let mut lock = lock(&[("a", "1")], &[]);
    let world = two(&lock, &lock);
    let text = lock.to_text();
    let newer = text.replacen("version = 1", "version = 999", 1);
    assert_ne!(text, newer);
    let line = text.trim_end().rfind('\n').unwrap() + 1;
    fs::write(world.path("cut.lock"), &text[..line]).unwrap();
    fs::write(world.path("within.lock"), &text[..line + 3]).unwrap();
    fs::write(world.path("newer.lock"), newer).unwrap();
    fs::write(world.path("noise.lock"), [0xff, 0xfe, 0, 1]).unwrap();
    fs::write(world.path("empty.lock"), "").unwrap();
    let huge = fs::File::create(world.path("huge.lock")).unwrap();
    huge.set_len(1 << 30).unwrap();
    fs::create_dir(world.path("folder")).unwrap();
    fs::create_dir(world.path("project")).unwrap();
    fs::write(world.path("project/sconce.toml"), "").unwrap();
    // None of these is an answer: 0 and 1 are.
    for (name, code, says) in [
        ("cut.lock", 6, "digest"),
        ("within.lock", 3, ""),
        ("newer.lock", 3, "999"),
        ("noise.lock", 7, "noise.lock"),
        ("empty.lock", 3, ""),
        ("huge.lock", 7, "huge.lock"),
        ("missing.lock", 2, "missing.lock"),
        ("./missing.lock", 2, "missing.lock"),
        ("folder", 2, ""),
        ("project", 2, "sconce lock project"),
        ("torch:2.15.0", 2, "sconce lock torch:2.15.0"),
        ("sha256:0000000000000000000000000000000000000000000000000000000000000000", 2, ""),
        ("registry.example/team/app:1", 2, "sconce pull registry.example/team/app:1"),
    ] {
        for words in [["diff", "a.lock", name], ["diff", name, "a.lock"]] {
            let (found, out, err) = world.says(&words);
            assert_eq!((found, &*out), (code, ""), "{words:?}: {err}");
            assert!(err.contains(says) && err.starts_with("error: "), "{words:?}: {err}");
        }
    }
    assert_eq!(world.says(&["diff", "-", "-"]).0, 2);
    assert_eq!(world.says(&["diff", "a.lock"]).0, 2);
    assert_eq!(world.says(&["diff", "--json", "--markdown", "a.lock", "b.lock"]).0, 2);
    // A version of a Debian package can be any text: none moves a cursor, and none gets out of its cell.
    let other = "1\u{1b}[2J`|<img src=x>@all";
    lock.debs.push(DebPin {
        name: "a".into(),
        version: other.into(),
        arch: "amd64".into(),
        path: "x.deb".into(),
        size: 1,
        sha256: Digest::of(b""),
        index: "trixie".into(),
    });
    fs::write(world.path("b.lock"), lock.to_text()).unwrap();
    for form in ["--markdown", "--json", "-q"] {
        let (code, out, _) = world.says(&["diff", form, "a.lock", "b.lock"]);
        assert!(code == 1 && !out.contains('\u{1b}'), "{form}: {out}");
    }
    let (_, out, _) = world.says(&["diff", "--markdown", "a.lock", "b.lock"]);
    assert!(out.contains("`1?[2J?\\|<img src=x>@all`"), "{out}");
}

/// For another Python there is another file of the same version; the same file with other bytes is never expected.
#[test]
fn files_for_another_python() {
    let mut a = lock(&[("native", "1"), ("pure", "1")], &[]);
    let mut b =
        Lock { facts: Facts::of_base(Machine::X86_64, "bookworm", "3.11", "2.36"), ..a.clone() };
    a.wheels[0].file = "native-1-cp313-cp313-linux_x86_64.whl".into();
    b.wheels[0].file = "native-1-cp311-cp311-linux_x86_64.whl".into();
    b.wheels[0].sha256 = Digest::of(b"another");
    b.wheels[1].sha256 = Digest::of(b"another");
    let world = two(&a, &b);
    assert_eq!(ways(&json(&world, &["a.lock", "b.lock"])), [("pure", "other-file")]);
}

/// `git show HEAD:sconce.lock | sconce diff - .`, and `<(…)`.
#[test]
fn a_lock_from_a_pipe() {
    let (a, b) = (lock(&[("a", "1")], &[]), lock(&[("a", "2")], &[]));
    let world = two(&a, &b);
    let mut command = world.sconce(&["diff", "-", "b.lock"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(a.to_text().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (code, out, _) = world::texts(&output);
    assert!(code == 1 && out.contains("a 1 -> 2"), "{code} {out}");
    let script = format!("{} diff <(cat a.lock) b.lock", env!("CARGO_BIN_EXE_sconce"));
    let mut bash = Command::new("bash");
    bash.args(["-c", &script]).current_dir(world.path("")).env("SCONCE_HOME", world.path("store"));
    let (code, out, err) = world::texts(&bash.output().unwrap());
    assert!(code == 1 && out.contains("a 1 -> 2"), "{code} {out}{err}");
}

/// Images of the store by what lies in them; what can't be read is no "nothing differs".
#[test]
fn images_by_their_files() {
    let world = World::new();
    let site = "root/usr/lib/python3.13/site-packages";
    let put = |path: &str, text: &str| {
        let path = world.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let make = |name: &str| {
        let mut tar = Command::new("tar");
        tar.args([
            "--create",
            "--sort=name",
            "--mtime=@0",
            "--numeric-owner",
            "--owner=0",
            "--group=0",
            "--file",
        ]);
        tar.arg(world.path("layer.tar")).arg("--directory").arg(world.path("root")).arg(".");
        assert!(tar.status().unwrap().success());
        world.image("{}");
        let (code, _, err) = world.says(&["copy", "oci:image", &format!("store:{name}")]);
        assert_eq!(code, 0, "{err}");
    };
    put(&format!("{site}/a-1.9.dist-info/METADATA"), "Name: a\nVersion: 1.9\n");
    put(&format!("{site}/a/_vendor/b-1.dist-info/METADATA"), "Name: b\nVersion: 1\n");
    put("root/var/lib/dpkg/status.d/c", "Package: c\nVersion: 1.0~rc1\nSource: d (2)\n");
    make("one");
    assert_eq!(world.says(&["diff", "one", "store:one"]).0, 0);
    fs::rename(
        world.path(&format!("{site}/a-1.9.dist-info")),
        world.path(&format!("{site}/a-1.10.dist-info")),
    )
    .unwrap();
    put(&format!("{site}/a-1.10.dist-info/METADATA"), "Name: A\nVersion: 1.10\n");
    put("root/var/lib/dpkg/status.d/c", "Package: c\nVersion: 1.0\n");
    make("two");
    let found = json(&world, &["one", "two"]);
    assert_eq!(ways(&found), [("a", "newer"), ("c", "newer")]);
    assert_eq!(found["layers"]["rows"][0]["same"], false);
    let digest = found["before"]["digest"].as_str().unwrap();
    assert_eq!(world.says(&["diff", digest, "one"]).0, 0);
    // A package whose name can't be read may be any.
    put(&format!("{site}/x-1.dist-info/METADATA"), "Name: x\nVersion: \u{1b}[2J\n");
    make("three");
    let (code, out, err) = world.says(&["diff", "three", "three"]);
    assert!(code == 12 && out.is_empty() && err.contains("x-1.dist-info"), "{code} {out}{err}");
    let (code, out, err) = world.says(&["diff", "two", "three"]);
    assert!(code == 1 && !format!("{out}{err}").contains('\u{1b}'), "{code} {out}{err}");
    let (code, _, err) = world.says(&["diff", "one", "oci:image"]);
    assert!(code == 2 && err.contains("sconce pull oci:image"), "{code} {err}");
}

/// A lock against the image that was built from it, and against that of an earlier one.
#[test]
fn a_lock_against_an_image() {
    let world = index_world::with_python(&[Made::new("a", "1.0").file("a.py", b"")]);
    let lock = world.path("project/sconce.lock");
    let run = |words: &[&str]| world.sconce(words);
    assert_eq!(run(&["build", "."]).0, 0);
    let (code, said) = run(&["diff", ".", "project"]);
    assert!(code == 0 && said.ends_with("nothing differs\n"), "{code} {said}");
    assert_eq!(run(&["diff", "store:project", "sconce.lock"]).0, 0);
    let mut other = Lock::parse(&fs::read_to_string(&lock).unwrap()).unwrap();
    other.wheels[0].version = "1.1".into();
    other.wheels[0].file = "a-1.1-py3-none-any.whl".into();
    fs::write(world.path("project/other.lock"), other.to_text()).unwrap();
    let (code, said) = run(&["diff", "project", "other.lock"]);
    assert!(code == 1 && said.contains("  a 1.0 -> 1.1\n"), "{code} {said}");
}
