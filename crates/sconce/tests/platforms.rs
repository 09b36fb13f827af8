//! Images for two processors, built from one sconce.toml on one machine.

mod index_world;

use std::fs;
use std::process::Command;

use sconce_blob::Digest;
use sconce_lock::Lock;
use sconce_testkit::{RegistryServer, Wheel};

/// A project without Debian packages: its Python is a build of its own, which there is for both processors.
fn project() -> index_world::World {
    let wheel = Wheel::new("a", "1.0").file("a.py", b"x");
    let mut world = index_world::World::on("3.10", &[wheel]);
    world.first_lock("sconce.arm64.lock", "aarch64", "3.10");
    world.asks("python = \"3.9\"\nbytecode = false\n[app]\ninclude = [\".\"]");
    fs::write(world.path("project/app.py"), "print(1)").unwrap();
    let mut rows = Vec::new();
    for machine in ["x86_64", "aarch64"] {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "mkdir -p python/bin python/lib/python3.9
            echo {machine} >python/bin/python3.9 && chmod 755 python/bin/python3.9
            ln -s python3.9 python/bin/python3 && echo 'import sys' >python/lib/python3.9/os.py
            tar --create --gzip --file x.tar.gz python"
        );
        let made = Command::new("sh").args(["-ec", &script]).current_dir(folder.path()).status();
        assert!(made.unwrap().success());
        let bytes = fs::read(folder.path().join("x.tar.gz")).unwrap();
        let path = format!(
            "/pythons/cpython-3.9.99%2B1-{machine}-unknown-linux-gnu-install_only_stripped.tar.gz"
        );
        world.index.server.put(&path, bytes.clone());
        rows.push(format!(
            r#""{machine}": {{"name": "cpython", "arch": {{"family": "{machine}", "variant": null}}, "os": "linux",
            "libc": "gnu", "major": 3, "minor": 9, "patch": 99, "prerelease": "", "variant": null, "build": "1",
            "url": "{}", "sha256": "{}"}}"#,
            world.index.server.url(&path),
            Digest::of(&bytes).hex()
        ));
    }
    world.index.server.put("/list.json", format!("{{{}}}", rows.join(",")));
    world.env.push(("UV_PYTHON_DOWNLOADS_JSON_URL", world.index.server.url("/list.json")));
    world
}

#[test]
fn one_project_is_pushed_for_two_processors() {
    let world = project();
    let registry = RegistryServer::start();
    let name = format!("{}/team/app:1", registry.host());
    let push = ["push", "--platform", "linux/amd64", "--platform", "linux/arm64", ".", &name];
    let (code, said) = world.sconce(&push);
    assert_eq!(code, 0, "{said}");
    let read = |world: &index_world::World, name: &str| {
        Lock::parse(&fs::read_to_string(world.path("project").join(name)).unwrap()).unwrap()
    };
    let (own, other) = (read(&world, "sconce.lock"), read(&world, "sconce.arm64.lock"));
    assert_eq!((own.facts.machine.debian(), other.facts.machine.debian()), ("amd64", "arm64"));
    assert!(own.sealed.is_some() && other.sealed.is_some());
    let index = registry.manifest("team/app", "1").unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let rows = index["manifests"].as_array().unwrap();
    let architectures: Vec<&str> =
        rows.iter().map(|row| row["platform"]["architecture"].as_str().unwrap()).collect();
    assert_eq!(architectures, ["amd64", "arm64"]);
    // The wheel's layer is the same one, and so are the project's own files.
    let layers = |row: &serde_json::Value| {
        let manifest = registry.manifest("team/app", row["digest"].as_str().unwrap()).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let layers = manifest["layers"].as_array().unwrap().iter();
        layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (amd, arm) = (layers(&rows[0]), layers(&rows[1]));
    assert_eq!(amd.last(), arm.last());
    assert_eq!(amd.iter().filter(|layer| !arm.contains(layer)).count(), 1, "{amd:?} {arm:?}");

    // Again: the same bytes, and the lock of each beside its image.
    let (code, again) = world.sconce(&push);
    assert_eq!((code, again.lines().last()), (0, said.lines().last()), "{again}");
    for row in rows {
        let exact = format!("{}/team/app@{}", registry.host(), row["digest"].as_str().unwrap());
        let arch = row["platform"]["architecture"].as_str().unwrap();
        let (code, said) = world.sconce(&["show", "--platform", arch, &exact, "--print", "lock"]);
        let machine = if arch == "arm64" { "aarch64" } else { "x86_64" };
        assert!(code == 0 && said.contains(&format!("platform = \"{machine}\"")), "{code} {said}");
    }

    // From an empty store nothing is fetched and nothing built: the registry has all layers.
    let mut empty = world;
    empty.env.push(("SCONCE_HOME", empty.path("empty").display().to_string()));
    let asked = empty.index.server.requests().len();
    let (code, third) = empty.sconce(&push);
    assert_eq!((code, third.lines().last()), (0, said.lines().last()), "{third}");
    assert_eq!(empty.index.server.requests().len(), asked, "{third}");
    let images = empty.sconce(&["images"]).1;
    assert!(!images.contains("project"), "{images}");
    empty.env.pop();
    let world = empty;

    // A lock alone, beside the other, which stays.
    fs::remove_file(world.path("project/sconce.arm64.lock")).unwrap();
    let before = fs::read_to_string(world.path("project/sconce.lock")).unwrap();
    world.first_lock("sconce.arm64.lock", "aarch64", "3.10");
    let (code, said) = world.sconce(&["lock", "--platform", "linux/arm64", "--check"]);
    assert!(code == 1, "{said}");
    let (code, said) = world.sconce(&["lock", "--platform", "linux/arm64"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(world.sconce(&["lock", "--platform", "arm64", "--check"]).0, 0);
    assert_eq!(read(&world, "sconce.arm64.lock").wheels, other.wheels);
    assert_eq!(fs::read_to_string(world.path("project/sconce.lock")).unwrap(), before);

    // One of them alone; the image has the processor in its name, and the other keeps its own.
    let (code, said) = world.sconce(&["build", "--locked", "--platform", "linux/arm64"]);
    assert_eq!(code, 0, "{said}");
    let names = world.sconce(&["images"]).1;
    assert!(names.contains("project-arm64") && names.contains("project "), "{names}");
    let foreign = if cfg!(target_arch = "aarch64") { "linux/amd64" } else { "linux/arm64" };
    let (code, said) = world.sconce(&["run", "--platform", foreign, "."]);
    assert!(code == 125 && said.contains("nothing is emulated"), "{code} {said}");
    for (words, says) in [
        (vec!["build", "--platform", "linux/s390x"], "nothing is built for that"),
        (vec!["lock", "--platform", "linux/s390x"], "nothing is built for that"),
        (vec!["push", "--platform", "arm64", "oci:a", "oci:b", &name], "--platform is for one"),
    ] {
        let (code, said) = world.sconce(&words);
        assert!(code == 2 && said.contains(says), "{words:?}: {code} {said}");
    }
}
