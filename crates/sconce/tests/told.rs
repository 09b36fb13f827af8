//! What `sconce lock` says beside the lock that it writes: of extras that there are not, of packages that are not in it, and of
//! what only `sconce build` can see.

mod index_world;

#[path = "../../inspect/src/forge.rs"]
mod forge;

use std::fs;

use forge::Library;
use index_world::World;
use sconce_inspect::fatbin;
use sconce_testkit::Wheel;

#[track_caller]
fn lock(world: &World, words: &[&str]) -> String {
    let (code, said) = world.sconce(&[&["lock"], words].concat());
    assert_eq!(code, 0, "{said}");
    said
}

/// Where no line can move, one that takes long says so.
#[test]
fn a_resolver_that_takes_long() {
    let world = World::new(&[Wheel::new("a", "1.0")]);
    fs::write(world.path("waits"), "10.5").unwrap();
    let said = lock(&world, &[]);
    assert!(said.contains("locking          10 s so far\n"), "{said}");
}

#[test]
fn an_extra_that_there_is_not() {
    let wheel = |metadata: &str| Wheel::new("a", "1.0").metadata(metadata).file("a.py", b"x = 1\n");
    let asked = |metadata: &str, asks: &str| {
        let world = World::new(&[wheel(metadata)]);
        let toml = format!("[environment]\ntorch = false\nrequirements = [\"{asks}\"]\n");
        fs::write(world.path("project/sconce.toml"), toml).unwrap();
        lock(&world, &[])
    };
    let two = "Provides-Extra: socks\nProvides-Extra: Use_Chardet\n";
    let words = "note: a 1.0 has no extra `nope`: it has socks, use-chardet";
    let said = asked(two, "a[nope,socks]>=1");
    assert!(said.contains(words) && !said.contains("`socks`"), "{said}");
    let said = asked("", "a[nope]");
    assert!(said.contains("note: a 1.0 has no extra `nope`: it has none"), "{said}");
    let said = asked(two, "a[socks,use.chardet]");
    assert!(!said.contains("no extra"), "{said}");
}

#[test]
fn an_upgrade_of_what_is_not_in_the_lock() {
    let mut world = World::new(&[Wheel::new("a", "1.0").file("a.py", b"x = 1\n")]);
    // A lock from nothing asks for Debian's packages, which are not to be had.
    world.env.push(("SCONCE_DEBIAN_MIRROR", "http://127.0.0.1:9/debian".to_owned()));
    world.asks("exclude = []");
    let words = "note: `nope` is not in the lock";
    lock(&world, &[]);
    assert!(lock(&world, &["--upgrade-package", "nope"]).contains(words));
    assert!(!lock(&world, &["--upgrade-package", "A"]).contains("is not in the lock"));
    fs::remove_file(world.path("project/sconce.lock")).unwrap();
    let (_, said) = world.sconce(&["lock", "--upgrade-package", "nope"]);
    assert!(said.contains("note: `nope` is in no lock: there is none yet"), "{said}");
}

/// GPUs that are named are a promise, and what packages beside torch have for them their wheels alone tell.
#[test]
fn code_for_gpus_that_a_build_looks_at() {
    let tag = "cp313-cp313-manylinux_2_28_x86_64";
    let native = |name: &str, needed: &[&str]| {
        let module = Library::new("").needs(needed).build();
        let wheel = Wheel::new(name, "1.0").tag(tag).metadata("Summary: for CUDA\n");
        wheel.file(&format!("{name}/core.so"), &module)
    };
    let on_gpu = native("fast", &["libcublas.so.12", "libc.so.6"]);
    let on_cpu = native("plain", &["libc.so.6"]);
    let words = "note: whether fast 1.0 has code for v100 is not known before its wheel is here: `sconce build` looks at it";
    let world = World::new(&[on_gpu.clone(), on_cpu.clone()]);
    world.asks("gpus = [\"v100\"]");
    let said = lock(&world, &[]);
    assert!(said.contains(words) && !said.contains("whether plain"), "{said}");
    // A driver is looked at for torch alone.
    let world = World::new(std::slice::from_ref(&on_gpu));
    world.asks("driver = \"535.104.05\"");
    let words =
        "whether fast 1.0 runs with it, `sconce inspect --for GPU --driver 535.104.05 FOLDER` says";
    let said = lock(&world, &[]);
    assert!(said.contains(words), "{said}");
    // Where no GPU is named nothing is promised.
    let world = World::new(&[on_gpu]);
    world.asks("exclude = []");
    assert!(!lock(&world, &[]).contains("has code for"), "no GPU is named");
}

/// A pyproject.toml with a fault is the project's file all the same: the fault is told.
#[test]
fn a_pyproject_with_a_fault() {
    let head = "[project]\nname = \"x\"\nversion = \"1\"\n";
    for (rest, says) in [
        ("dependencies = [\"six=>1\"]\n", "six=>1"),
        ("dependencies = [\"six\"]\n[tool.uv.sources]\nsix = {git = \"https://x/y\"}\n", "six"),
        ("dependencies = [\"six\"]\nrequires-python = \"banana\"\n", "banana"),
    ] {
        let world = World::new(&[]);
        for name in ["sconce.toml", "sconce.lock"] {
            std::fs::remove_file(world.path("project").join(name)).ok();
        }
        std::fs::write(world.path("project/pyproject.toml"), format!("{head}{rest}")).unwrap();
        let (code, said) = world.sconce(&["lock", "."]);
        let is_told = said.contains("pyproject.toml") && said.contains(says);
        assert!(
            code != 0 && is_told && !said.contains("has no sconce.toml"),
            "{rest}: {code} {said}"
        );
    }
}
