//! Sizes that are not what is said of them: files of the store that somebody exchanged, rows of indexes, ranges of blobs.

mod world;

use std::fs;
use std::path::PathBuf;

use sconce_blob::Digest;
use sconce_testkit::{Fault, RegistryServer, Server};
use world::World;
use world::served::{Served, is};

const ECHO: &str = r#"{"Env": ["PATH=/usr/bin"], "Cmd": ["echo", "from the registry"]}"#;
/// A terabyte, of which nothing is on the disk.
const LARGE: u64 = 1 << 40;

fn done(world: &World, words: &[&str]) -> String {
    let (code, out, err) = world.says(words);
    assert_eq!(code, 0, "{words:?}\n{out}{err}");
    out
}

/// The manifest of the image in the folder `image`, and its digest.
fn manifest(world: &World) -> (Digest, serde_json::Value) {
    let read = |name: &str| fs::read(world.path("image").join(name)).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&read("index.json")).unwrap();
    let digest: Digest = index["manifests"][0]["digest"].as_str().unwrap().parse().unwrap();
    let bytes = read(&format!("blobs/sha256/{}", digest.hex()));
    (digest, serde_json::from_slice(&bytes).unwrap())
}

/// Puts another file in the place of the image's layer in the store, as one who shares it may.
fn exchange_layer(world: &World) -> PathBuf {
    let layer = manifest(world).1["layers"][0]["digest"].as_str().unwrap().replace("sha256:", "");
    let blob = world.path("store/blobs/sha256").join(&layer[..2]).join(&layer);
    fs::remove_file(&blob).unwrap();
    fs::File::create(&blob).unwrap().set_len(LARGE).unwrap();
    blob
}

#[test]
fn a_blob_of_another_size_is_not_pushed() {
    let world = World::new();
    world.image(ECHO);
    done(&world, &["copy", "oci:image", "store:lab/x:1"]);
    let blob = exchange_layer(&world);
    let registry = RegistryServer::start();
    let name = format!("{}/lab/x:1", registry.host());
    let (code, _, err) = world.says(&["push", "lab/x:1", &name]);
    assert!(code != 0 && err.contains("1099511627776 bytes"), "{code} {err}");
    let log = registry.log();
    assert!(
        !log.iter().any(|line| line.starts_with("PATCH") || line.starts_with("PUT")),
        "{log:?}"
    );
    // What it says to do helps.
    assert!(!blob.exists(), "a damaged layer goes");
    done(&world, &["copy", "oci:image", "store:lab/x:1"]);
    done(&world, &["push", "lab/x:1", &name]);
}

#[test]
fn a_blob_of_another_size_is_not_served() {
    let world = World::new();
    world.image(ECHO);
    done(&world, &["copy", "oci:image", "store:lab/x:1"]);
    let served = Served::start(&world, &[]);
    is(&served.ask("GET", "/v2/lab/x/manifests/1", "", b""), 200, "layers");
    exchange_layer(&world);
    // Who has the manifest already asks for the layer.
    let (digest, parsed) = manifest(&world);
    let layer = parsed["layers"][0]["digest"].as_str().unwrap();
    let reply = served.ask("GET", &format!("/v2/lab/x/blobs/{layer}"), "", b"");
    is(&reply, 404, "BLOB_UNKNOWN");
    for name in ["1", &digest.to_string()] {
        let reply = served.ask("GET", &format!("/v2/lab/x/manifests/{name}"), "", b"");
        is(&reply, 404, "damaged");
    }
    let log = fs::read_to_string(world.path("log")).unwrap();
    assert!(log.contains("1099511627776 bytes"), "{log}");
}

/// Nor to who has the manifest from before, and asks a server that was started since for its parts.
#[test]
fn a_blob_of_another_size_is_not_served_to_who_asks_for_it_alone() {
    let (world, there) = (World::new(), World::new());
    world.image(ECHO);
    done(&world, &["copy", "oci:image", "store:lab/x:1"]);
    let registry = RegistryServer::start();
    let name = format!("{}/lab/x:1", registry.host());
    done(&world, &["push", "lab/x:1", &name]);
    let blob = exchange_layer(&world);
    // A little longer, which could be sent whole.
    fs::write(&blob, vec![b'x'; 3 << 20]).unwrap();
    let served = Served::start(&world, &[]);
    let (_, parsed) = manifest(&world);
    let layer = parsed["layers"][0]["digest"].as_str().unwrap();
    for range in ["", "Range: bytes=0-9\r\n"] {
        let reply = served.ask("GET", &format!("/v2/lab/x/blobs/{layer}"), range, b"");
        is(&reply, 404, "BLOB_UNKNOWN");
    }
    assert!(fs::read_to_string(world.path("log")).unwrap().contains("3145728 bytes"));
    // A client that asks it first, as a peer, has the layer from where it is whole.
    let (code, _, err) = there.says(&["--peer", &served.host, "pull", &name]);
    assert_eq!(code, 0, "{err}");
}

/// Puts the image of the folder `image` into a server at `/v2/app`; the path of its layer and that's size.
fn put(world: &World, server: &Server) -> (String, usize) {
    let manifest = manifest(world).0;
    let mut layer = (String::new(), 0);
    for entry in fs::read_dir(world.path("image/blobs/sha256")).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        let digest = Digest::of(&bytes);
        let kind = if digest == manifest { "manifests" } else { "blobs" };
        let path = format!("/v2/app/{kind}/{digest}");
        if bytes.len() > layer.1 {
            layer = (path.clone(), bytes.len());
        }
        server.put(&path, bytes.clone());
        if kind == "manifests" {
            server.put("/v2/app/manifests/latest", bytes);
        }
    }
    layer
}

#[test]
fn a_range_that_lies_is_refused() {
    let world = World::new();
    world.image(ECHO);
    let server = Server::start();
    let (layer, size) = put(&world, &server);
    let name = server.url("/app").replace("http://", "");
    let larger = size as u64 + 1;
    for (fault, says) in [
        (Fault::WrongRange(7), "it sends those from 7 on".to_owned()),
        (Fault::WrongTotal(larger), format!("the blob has {larger} bytes")),
        (Fault::WrongTotal(1), "the blob has 1 bytes".to_owned()),
    ] {
        let home = World::new();
        server.once(&layer, Fault::CutAfter(size / 2));
        server.once(&layer, fault.clone());
        let before = server.requests_for(&layer).len();
        let (code, _, err) = home.says(&["pull", &name]);
        assert!(
            code == 5 && err.contains(&says) && err.contains("Content-Range"),
            "{fault:?}: {err}"
        );
        assert_eq!(server.requests_for(&layer).len(), before + 2, "{fault:?}: it asked again");
        assert_eq!(done(&home, &["images", "--all", "--json"]).trim(), "[]");
        // What came before the lie is good, and the rest comes from one that does not lie.
        done(&home, &["pull", &name]);
        let asked = server.requests_for(&layer);
        assert!(asked.last().unwrap().header("range").is_some(), "{asked:?}");
    }
}

#[test]
fn an_index_must_say_the_size_of_its_images() {
    let world = World::new();
    world.image(ECHO);
    let server = Server::start();
    put(&world, &server);
    let (digest, _) = manifest(&world);
    let real = fs::metadata(world.path("image/blobs/sha256").join(digest.hex())).unwrap().len();
    let index = |size: u64| {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        format!(
            r#"{{"schemaVersion": 2, "manifests": [{{"mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": "{digest}", "size": {size}, "platform": {{"os": "linux", "architecture": "{architecture}"}}}}]}}"#
        )
    };
    let name = format!("{}:1", server.url("/app").replace("http://", ""));
    let other = RegistryServer::start();
    let there = format!("{}/app:1", other.host());
    for size in [real + 1, real - 1, 1] {
        server.put("/v2/app/manifests/1", index(size));
        fs::write(world.path("image/index.json"), index(size)).unwrap();
        for words in [
            &["pull", &name][..],
            &["copy", &name, &there],
            &["copy", "--all", &name, &there],
            &["copy", "oci:image", "store:x"],
        ] {
            let (code, _, err) = world.says(words);
            let says = format!("has {real} bytes");
            assert!(
                code != 0 && err.contains(&says) && err.contains(&size.to_string()),
                "{words:?} {err}"
            );
        }
    }
    assert_eq!(other.tags("app"), Vec::<String>::new());
    server.put("/v2/app/manifests/1", index(real));
    fs::write(world.path("image/index.json"), index(real)).unwrap();
    done(&world, &["pull", &name]);
    done(&world, &["copy", "oci:image", "store:x"]);
}
