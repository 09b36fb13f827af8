//! What travels with an image: the lock, SBOM and provenance that `sconce push` puts beside it, and how they and
//! signatures go where the image goes.

mod index_world;
mod world;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use sconce_blob::Digest;
use sconce_lock::Lock;
use sconce_testkit::{RegistryServer, Wheel};
use world::World;

const KEY: &str = include_str!("../../sign/tests/cosign/plain.key");
const PUBLIC: &str = include_str!("../../sign/tests/cosign/plain.pub");
const ECHO: &str = r#"{"Env": ["PATH=/usr/bin"], "Cmd": ["echo", "from the registry"]}"#;

fn project() -> index_world::World {
    index_world::with_python(&[Wheel::new("a", "1.0").file("a.py", &[b'x'; 200_000])])
}

fn json(said: &(i32, String)) -> serde_json::Value {
    assert_eq!(said.0, 0, "{}", said.1);
    let start = said.1.find('{').unwrap_or_else(|| panic!("{}", said.1));
    serde_json::from_str(&said.1[start..]).unwrap_or_else(|error| panic!("{error}: {}", said.1))
}

fn done(world: &World, words: &[&str]) -> String {
    let (code, out, err) = world.says(words);
    assert_eq!(code, 0, "{words:?}\n{out}{err}");
    out
}

/// The kinds of what is beside an image.
fn beside(world: &World, name: &str) -> Vec<String> {
    let all: serde_json::Value =
        serde_json::from_str(&done(world, &["show", "--json", name])).unwrap();
    let rows = all["beside"].as_array().unwrap().iter();
    let mut kinds: Vec<String> = rows.map(|row| row["kind"].as_str().unwrap().to_owned()).collect();
    kinds.sort();
    kinds
}

const KINDS: [&str; 3] = [
    "application/vnd.cyclonedx+json",
    "application/vnd.in-toto+json",
    "application/vnd.sconce.lock.v1",
];

#[test]
fn a_push_brings_the_lock_and_an_empty_store_moves_no_layer() {
    for lists in [true, false] {
        let registry = RegistryServer::start();
        if lists {
            registry.list_referrers();
        }
        let name = format!("{}/team/app:1", registry.host());
        let mut world = project();
        world.locks();
        let first = json(&world.sconce(&["push", "--json", ".", &name]));
        assert_eq!((&first["beside"], &first["left"]), (&3.into(), &serde_json::json!([])));
        let reader = World::new();
        assert_eq!(beside(&reader, &name), KINDS);
        let lock = fs::read_to_string(world.path("project/sconce.lock")).unwrap();
        let print = |what: &str| done(&reader, &["show", &name, "--print", what]);
        assert_eq!(print("lock"), lock);
        let image = first["image"].as_str().unwrap();
        assert!(print("sbom").contains(image) && print("sbom").contains("pkg:pypi/a@1.0"));
        let said: serde_json::Value = serde_json::from_str(&print("provenance")).unwrap();
        assert_eq!(said["subject"][0]["digest"]["sha256"], image.replace("sha256:", ""));
        // Of the image alone nobody knows from which file a package came; the lock that its label names says it.
        done(&reader, &["copy", &name, "store:team/app:1"]);
        let sha256 = Lock::parse(&lock).unwrap().wheels[0].sha256.hex();
        assert!(done(&reader, &["sbom", "team/app:1"]).contains(&sha256));
        // Nobody has signed them.
        fs::write(reader.path("plain.pub"), PUBLIC).unwrap();
        let words = ["show", &name, "--key", "plain.pub", "--print", "lock"];
        let (code, out, err) = reader.says(&words);
        assert!(code == 1 && out.is_empty() && err.contains("signed by none"), "{code} {err}");
        assert_eq!(reader.says(&["verify-signature", &name, "--key", "plain.pub"]).0, 1);

        // Another machine with the folder alone: nothing but documents moves, and nothing new is listed.
        world.env.push(("SCONCE_HOME", world.path("other").display().to_string()));
        let (asked, before) = (world.index.server.requests().len(), registry.log().len());
        let again = json(&world.sconce(&["push", "--json", ".", &name]));
        assert_eq!(again["image"], first["image"]);
        assert_eq!(world.index.server.requests().len(), asked, "wheels or indexes were asked for");
        let log = registry.log().split_off(before);
        let uploads = log.iter().filter(|line| line.contains("/blobs/uploads/"));
        let begun = uploads.filter(|line| line.starts_with("POST")).count();
        assert_eq!(begun, 1, "only whether it may write: {log:?}");
        assert!(!log.iter().any(|line| line.starts_with("PATCH")), "{log:?}");
        assert!(!log.iter().any(|line| line.starts_with("GET /v2/team/app/blobs/")), "{log:?}");
        assert!(again["moved"].as_u64().unwrap() < 20_000, "{again}");
        assert_eq!(beside(&reader, &name), KINDS);
        let tags = registry.tags("team/app").len();
        assert_eq!(tags, if lists { 1 } else { 2 });

        let alone = format!("{}/team/alone:1", registry.host());
        let row = json(&world.sconce(&["push", "--json", "--image-only", ".", &alone]));
        assert_eq!(row["beside"], 0);
        assert!(beside(&reader, &alone).is_empty());
    }
}

/// A registry that takes images and no artifacts: the image is there, and what is missing is said.
#[test]
fn a_registry_that_takes_no_artifacts_has_the_image() {
    let registry = RegistryServer::start();
    registry.take_no_artifacts();
    let name = format!("{}/team/app:1", registry.host());
    let world = project();
    world.locks();
    let (code, said) = world.sconce(&["push", ".", &name]);
    assert!(code == 0 && said.contains("not put beside it: sconce.lock"), "{code} {said}");
    assert!(registry.manifest("team/app", "1").is_some());
}

/// A server that ends with the test.
struct Served(Child, String);

impl Served {
    fn start(world: &World) -> Self {
        let mut command = world.sconce(&["serve", "--listen", "127.0.0.1:0", "--no-build"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let host = line.trim().strip_prefix("http://").expect("its address").to_owned();
        Self(child, host)
    }

    fn ask(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.1).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn signatures_go_where_the_image_goes() {
    let (from, to) = (RegistryServer::start(), RegistryServer::start());
    from.list_referrers();
    let world = World::new();
    fs::write(world.path("plain.key"), KEY).unwrap();
    fs::write(world.path("plain.pub"), PUBLIC).unwrap();
    world.image(ECHO);
    let name = format!("{}/team/app:1", from.host());
    done(&world, &["push", "oci:image", &name]);
    done(&world, &["sign", &name, "--key", "plain.key", "--form", "both"]);
    let verify = |name: &str| world.says(&["verify-signature", name, "--key", "plain.pub"]);

    // From one that lists to one that does not, both forms.
    let other = format!("{}/else/where:2", to.host());
    let row: serde_json::Value =
        serde_json::from_str(&done(&world, &["copy", "--json", &name, &other])).unwrap();
    assert_eq!((&row["beside"], &row["left"]), (&2.into(), &serde_json::json!([])));
    assert_eq!(verify(&other).0, 0);
    assert_eq!(beside(&world, &other), beside(&world, &name));
    let alone = format!("{}/else/alone:2", to.host());
    done(&world, &["copy", "--image-only", &name, &alone]);
    assert_eq!(verify(&alone).0, 1);

    // By a layout and another home.
    done(&world, &["copy", &name, "oci:signed:v1"]);
    let index = fs::read_to_string(world.path("signed/index.json")).unwrap();
    assert!(index.contains("\"artifactType\":\"application/vnd.dev.sigstore.bundle"), "{index}");
    let third = format!("{}/third/app:1", to.host());
    let there = World::new();
    let layout = format!("oci:{}", world.path("signed").display());
    done(&there, &["copy", &layout, &third]);
    assert_eq!(verify(&third).0, 0);
    // What is in the layout runs, whatever is beside it.
    assert_eq!(done(&there, &["run", "-q", "--gpus", "none", &layout]), "from the registry\n");

    // From the store, by `sconce serve`.
    let home = World::new();
    done(&home, &["copy", &name, "store:lab/app:1"]);
    // That a layout lists more than the image is said of one that was written.
    let note = "note: the layout lists 1 artifact besides the image";
    fs::create_dir_all(home.path("full/there")).unwrap();
    let (code, _, err) = home.says(&["copy", "lab/app:1", "oci:full"]);
    assert!(code == 7 && !err.contains(note), "{code} {err}");
    let (code, _, err) = home.says(&["copy", "lab/app:1", "oci:free"]);
    assert!(code == 0 && err.contains(note), "{code} {err}");
    let served = Served::start(&home);
    let local = format!("{}/lab/app:1", served.1);
    let (code, out, err) = verify(&local);
    assert!(code == 0, "{code} {out}{err}");
    assert_eq!(beside(&world, &local), ["application/vnd.dev.sigstore.bundle.v0.3+json"]);
    let digest = Digest::of(&from.manifest("team/app", "1").unwrap());
    let path = format!("/v2/lab/app/referrers/{digest}");
    let all = served.ask(&path);
    assert!(all.starts_with("HTTP/1.1 200 ") && all.contains("sigstore.bundle"), "{all}");
    assert!(all.contains("Content-Type: application/vnd.oci.image.index.v1+json"), "{all}");
    let none = served.ask(&format!("{path}?artifactType=text%2Fplain"));
    assert!(none.contains("OCI-Filters-Applied: artifactType"), "{none}");
    assert!(none.contains("\"manifests\":[]"), "{none}");
    let unknown = served.ask(&format!("/v2/lab/app/referrers/{}", Digest::of(b"none")));
    assert!(unknown.starts_with("HTTP/1.1 200 ") && unknown.contains("\"manifests\":[]"));
    // And on from there.
    let last = format!("{}/last/app:1", to.host());
    done(&there, &["copy", &local, &last]);
    assert_eq!(verify(&last).0, 0);
}
