//! `sconce serve` as a user starts it, and other homes that pull from it.

mod index_world;
mod world;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use sconce_store::Store;
use sconce_testkit::{RegistryServer, Wheel};
use world::World;

const ECHO: &str = r#"{"Env": ["PATH=/usr/bin"], "Cmd": ["echo", "from the store"]}"#;

/// A server that ends with the test.
struct Served {
    child: Child,
    host: String,
}

impl Served {
    fn start(world: &World, words: &[&str]) -> Self {
        let mut words = words.to_vec();
        words.splice(0..0, ["serve", "--listen", "127.0.0.1:0"]);
        Self::by(world.sconce(&words))
    }

    fn by(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let host = line.trim().strip_prefix("http://").expect("its address").to_owned();
        Self { child, host }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn done(world: &World, words: &[&str]) -> String {
    let (code, out, err) = world.says(words);
    assert_eq!(code, 0, "{words:?}\n{out}{err}");
    out
}

#[test]
fn what_one_store_has_another_runs() {
    let (here, there) = (World::new(), World::new());
    here.image(ECHO);
    done(&here, &["copy", "oci:image", "store:lab/demo:1"]);
    let served = Served::start(&here, &["--no-build"]);
    let name = format!("{}/lab/demo:1", served.host);
    assert_eq!(done(&there, &["run", "-q", "--gpus", "none", &name]), "from the store\n");
    let digest = done(&there, &["pull", &name]);
    assert!(done(&here, &["images", "--json"]).contains(digest.trim()));
    let by_digest = format!("{}/lab/demo@{}", served.host, digest.trim());
    assert_eq!(done(&World::new(), &["pull", &by_digest]), digest);
    let (code, _, err) = there.says(&["pull", &format!("{}/lab/none:1", served.host)]);
    assert!(code == 5 && err.contains("has no lab/none:1"), "{code} {err}");
    let (code, _, err) = there.says(&["push", "oci:image", &format!("{}/lab/new:1", served.host)]);
    assert_ne!(code, 0, "{err}");
    let (code, _, err) = here.says(&["serve", "--listen", &served.host]);
    assert!(code == 8 && err.contains("another program listens there"), "{code} {err}");
}

/// A page whose name was made to mean this machine's address reads nothing (DNS rebinding).
#[test]
fn a_host_of_another_name_is_refused() {
    let here = World::new();
    here.image(ECHO);
    done(&here, &["copy", "oci:image", "store:lab/demo:1"]);
    let words = ["--no-build", "--host-name", "registry.example", "--host-name", ".cluster.local"];
    let served = Served::start(&here, &words);
    let ask = |path: &str, host: &str| {
        let mut stream = TcpStream::connect(&served.host).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    for path in ["/v2/", "/v2/_catalog", "/v2/lab/demo/manifests/1", "/locks/torch:2.15.0"] {
        let refused = ask(path, "page.example:5000");
        assert!(refused.starts_with("HTTP/1.1 421 "), "{path}: {refused}");
        assert!(refused.contains("--host-name page.example"), "{refused}");
        assert!(!refused.contains("lab/demo"), "{refused}");
    }
    let own = String::from_utf8(Command::new("uname").arg("-n").output().unwrap().stdout).unwrap();
    for host in [&served.host, "localhost", "registry.example:5000", "a.cluster.local", own.trim()]
    {
        let there = ask("/v2/lab/demo/manifests/1", host);
        assert!(there.starts_with("HTTP/1.1 200 "), "{host}: {there}");
    }
    let (code, _, err) = here.says(&["serve", "--host-name", "registry.example:5000"]);
    assert!(code == 2 && err.contains("no port"), "{code} {err}");
}

/// Layers come from a machine that has them, and only documents from the registry.
#[test]
fn a_peer_is_asked_for_layers_before_the_registry() {
    let registry = RegistryServer::start();
    let name = format!("{}/lab/demo:1", registry.host());
    let (here, there) = (World::new(), World::new());
    here.image(ECHO);
    done(&here, &["push", "oci:image", &name]);
    let served = Served::start(&here, &["--no-build"]);
    let layers = || {
        let blobs =
            registry.log().into_iter().filter(|line| line.starts_with("GET /v2/lab/demo/blobs/"));
        blobs.count() - 1
    };
    let row = done(&there, &["--peer", &served.host, "pull", "--json", &name]);
    assert_eq!(layers(), 0, "{:?}", registry.log());
    let row: serde_json::Value = serde_json::from_str(&row).unwrap();
    assert!(row[0]["moved"].as_u64().unwrap() < 2000, "{row}");
    assert_eq!(done(&there, &["run", "-q", "--gpus", "none", &name]), "from the store\n");

    // One that is gone, and one that has other things: the registry has it all.
    let empty = World::new();
    let other = Served::start(&World::new(), &["--no-build"]);
    let peers = format!("127.0.0.1:1,{}", other.host);
    let output = empty.sconce(&["pull", &name]).env("SCONCE_PEERS", peers).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(layers(), 2, "its configuration and its layer again");
    let (code, _, err) = empty.says(&["--peer", "node1/path", "pull", &name]);
    assert!(code != 0 && err.contains("HOST:PORT"), "{err}");
}

#[test]
fn an_archive_over_standard_input_runs_and_is_loaded_into_engines() {
    let world = World::new();
    world.image(ECHO);
    done(&world, &["copy", "oci:image", "docker-archive:image.tar"]);
    for words in
        [["run", "-q", "--gpus", "none", "-"], ["run", "-q", "--gpus", "none", "docker-archive:-"]]
    {
        let archive = std::fs::File::open(world.path("image.tar")).unwrap();
        let output = World::new().sconce(&words).stdin(archive).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "from the store\n", "{said}");
    }
    let (code, _, err) = world.says(&["run", "--gpus", "none", "-"]);
    assert!(code == 125 && err.contains("not an image's archive"), "{code} {err}");

    done(&world, &["copy", "oci:image", "store:lab/x:1"]);
    assert_eq!(done(&world, &["run", "-q", "--gpus", "none", "lab/x:1"]), "from the store\n");
    // An engine that keeps what it is given, one that refuses it, and none.
    let script = "#!/bin/sh\n[ \"$*\" = load ] && exec cat >loaded.tar\n";
    let bin = world.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let engine = |name: &str, text: &str| {
        let path = bin.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    engine("docker", script);
    engine("podman", "#!/bin/sh\nexit 3\n");
    let load = |name: &str| {
        let path = format!("{}:/usr/bin:/bin", bin.display());
        let path = if name == "containerd" { bin.display().to_string() } else { path };
        let mut command = world.sconce(&["load", "lab/x:1", "--into", name]);
        world::texts(&command.env("PATH", path).output().unwrap())
    };
    let (code, out, err) = load("docker");
    assert!(code == 0 && out.starts_with("sha256:"), "{code} {err}");
    let other = World::new();
    std::fs::copy(world.path("loaded.tar"), other.path("x.tar")).unwrap();
    assert_eq!(done(&other, &["run", "-q", "--gpus", "none", "x.tar"]), "from the store\n");
    let saved = std::fs::read(world.path("loaded.tar")).unwrap();
    assert!(String::from_utf8_lossy(&saved[..8192]).contains("docker.io/lab/x:1"));
    let (code, _, err) = load("podman");
    assert!(code == 8 && err.contains("`podman load` did not take the image"), "{code} {err}");
    let (code, _, err) = load("containerd");
    assert!(code == 8 && err.contains("there is no `ctr` on this machine"), "{code} {err}");
}

/// What the store has lost of an image is named before the engine is asked, with the way to have it again.
#[test]
fn an_image_that_is_not_whole_is_not_loaded() {
    use std::fs;
    let (world, registry) = (World::new(), RegistryServer::start());
    world.image(ECHO);
    let name = format!("{}/team/app:1", registry.host());
    done(&world, &["push", "oci:image", &name]);
    fs::create_dir(world.path("bin")).unwrap();
    let docker = world.path("bin/docker");
    fs::write(&docker, "#!/bin/sh\necho called >>called\ncat >loaded.tar\n").unwrap();
    fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).unwrap();
    let there = World::new();
    let says = |words: &[&str]| {
        let mut command = there.sconce(words);
        let path = format!("{}:/usr/bin:/bin", world.path("bin").display());
        world::texts(&command.env("PATH", path).output().unwrap())
    };
    done(&there, &["pull", &name]);
    let layer = sconce_blob::Digest::of(&fs::read(world.path("layer.tar")).unwrap());
    let hex = layer.hex();
    let blob = there.path("store/blobs/sha256").join(&hex[..2]).join(&hex);
    let load = ["load", name.as_str(), "--into", "docker"];
    fs::remove_file(&blob).unwrap();
    let (code, _, err) = says(&load);
    let words = format!("error: image {name} is not whole: blob {layer} is not in the store\n");
    assert!(code == 7 && err.contains(&words), "{code} {err}");
    let hint = format!("`sconce pull {name}`");
    assert!(err.contains(&hint) && !there.path("called").exists(), "{err}");
    // The hint holds.
    done(&there, &["pull", &name]);
    assert_eq!(says(&load).0, 0);
    // One that is cut off is named too.
    let whole = fs::read(&blob).unwrap();
    fs::write(&blob, &whole[..whole.len() - 1]).unwrap();
    let (code, _, err) = says(&load);
    assert!(
        code == 6 && err.contains(&format!("{} is damaged: it has", blob.display())),
        "{code} {err}"
    );
    assert!(err.contains(&hint), "{err}");
    done(&there, &["pull", &name]);
    assert_eq!(fs::read(&blob).unwrap(), whole);
    // And what is damaged is found on the way, whatever the engine makes of the rest.
    let damaged = [&whole[..whole.len() - 1], b"x"].concat();
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, damaged).unwrap();
    fs::write(&docker, "#!/bin/sh\ncat >/dev/null\nexit 1\n").unwrap();
    let (code, _, err) = says(&load);
    assert!(code == 6 && err.contains("has digest"), "{code} {err}");
}

/// Of an image for several platforms the engine gets the one that is asked for.
#[test]
fn an_image_for_another_platform_is_loaded() {
    use std::fs;
    let world = World::new();
    let other = if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" };
    world.image_for(other, &ECHO.replace("the store", "another machine"));
    done(&world, &["copy", "--platform", other, "oci:image", "oci:both:1"]);
    fs::remove_dir_all(world.path("image")).unwrap();
    world.image(ECHO);
    // One tag means images of two platforms, as in layouts that buildx writes.
    done(&world, &["copy", "oci:image", "oci:both:2"]);
    let index = fs::read_to_string(world.path("both/index.json")).unwrap();
    let index = index.replace(r#"ref.name":"2""#, r#"ref.name":"1""#);
    fs::write(world.path("both/index.json"), index).unwrap();
    fs::create_dir(world.path("bin")).unwrap();
    let docker = world.path("bin/docker");
    fs::write(&docker, "#!/bin/sh\nexec cat >loaded.tar\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&docker, mode).unwrap();
    let load = |image: &str, words: &[&str]| {
        let mut command = world.sconce(&["load", image, "--into", "docker"]);
        let path = format!("{}:/usr/bin:/bin", world.path("bin").display());
        world::texts(&command.args(words).env("PATH", path).output().unwrap())
    };
    let (code, _, err) = load("oci:both:1", &[]);
    assert_eq!(code, 0, "{err}");
    let other_machine = World::new();
    fs::copy(world.path("loaded.tar"), other_machine.path("x.tar")).unwrap();
    let run = ["run", "-q", "--gpus", "none", "x.tar"];
    assert_eq!(done(&other_machine, &run), "from the store\n");
    let platform = format!("linux/{other}");
    let (code, out, err) = load("oci:both:1", &["--platform", &platform]);
    assert_eq!(code, 0, "{err}");
    let expected = done(&world, &["copy", "--platform", other, "oci:both:1", "store:theirs"]);
    assert_eq!(out, expected);
    // What is for one platform is no other's.
    let (code, _, err) = load("theirs", &["--platform", "linux/riscv64"]);
    assert!(code == 2 && err.contains(&format!("is for {other}, not for riscv64")), "{code} {err}");
    assert_eq!(load("theirs", &["--platform", &platform]).1, expected);
}

/// A registry that can't be written to is found before anything is built.
#[test]
fn a_push_is_tried_before_the_build() {
    let registry = RegistryServer::start();
    registry.guard("Basic nobody");
    let world = World::new();
    std::fs::create_dir(world.path("project")).unwrap();
    std::fs::write(world.path("project/sconce.toml"), "[environment]\ntorch = false\n").unwrap();
    let name = format!("{}/lab/demo:1", registry.host());
    let (code, _, err) = world.says(&["push", "project", &name]);
    assert!(code == 5 && err.contains("sconce login"), "{code} {err}");
    assert!(!world.path("project/sconce.lock").exists(), "it was locked first");
}

/// Two homes and one index: a wheel comes from it once.
#[test]
fn a_peer_is_asked_for_wheels_before_their_index() {
    let wheel = Wheel::new("a", "1.0").file("a/__init__.py", b"a = 1");
    let path = |world: &index_world::World| world.index.path(&wheel.file_name());
    let mut world = index_world::World::new(std::slice::from_ref(&wheel));
    let digest = world.locks().wheels[0].sha256;
    // Without Debian packages there is nothing to build on: that comes after the download.
    world.sconce(&["build"]);
    assert!(Store::open(world.path("store")).unwrap().blob_path(digest).unwrap().is_some());
    let asked = world.index.server.requests().len();
    let mut server = Command::new(env!("CARGO_BIN_EXE_sconce"));
    server.args(["serve", "--no-build", "--listen", "127.0.0.1:0"]);
    let served = Served::by({
        server.env("SCONCE_HOME", world.path("store")).env("SCONCE_STORES", "");
        server
    });
    world.env.push(("SCONCE_HOME", world.path("second").display().to_string()));
    world.env.push(("SCONCE_PEERS", served.host.clone()));
    let (_, said) = world.sconce(&["build"]);
    assert!(
        Store::open(world.path("second")).unwrap().blob_path(digest).unwrap().is_some(),
        "{said}"
    );
    assert_eq!(world.index.server.requests().len(), asked, "{said}");

    // A third one, whose peers are gone, has it from the index.
    drop(served);
    world.env.push(("SCONCE_HOME", world.path("third").display().to_string()));
    let before = world.index.server.requests_for(&path(&world)).len();
    let (_, said) = world.sconce(&["build"]);
    assert!(
        Store::open(world.path("third")).unwrap().blob_path(digest).unwrap().is_some(),
        "{said}"
    );
    assert_eq!(world.index.server.requests_for(&path(&world)).len(), before + 1, "{said}");
}
