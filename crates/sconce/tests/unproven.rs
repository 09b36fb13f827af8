//! What is not whole, or not proven, passes for neither: a signature of which nothing is here, a manifest with other bytes than those
//! that are signed, an image of which a part is missing.

mod world;

use std::fs;
use std::path::PathBuf;

use sconce_blob::Digest;
use sconce_testkit::RegistryServer;
use world::World;
use world::served::{Served, is};

const ECHO: &str = r#"{"Env": ["PATH=/usr/bin"], "Cmd": ["echo", "from the registry"]}"#;
const PLAIN: &str = include_str!("../../sign/tests/cosign/plain.key");
const PLAIN_PUBLIC: &str = include_str!("../../sign/tests/cosign/plain.pub");

fn done(world: &World, words: &[&str]) -> String {
    let (code, out, err) = world.says(words);
    assert_eq!(code, 0, "{words:?}\n{out}{err}");
    out
}

fn blob(world: &World, digest: Digest) -> PathBuf {
    let hex = digest.hex();
    world.path("store/blobs/sha256").join(&hex[..2]).join(hex)
}

/// An image that is signed in the registry, pulled to a store of its own: that, its name and its digest.
fn pulled(registry: &RegistryServer) -> (World, String, Digest) {
    let (world, there) = (World::new(), World::new());
    world.image(ECHO);
    let name = format!("{}/team/app:1", registry.host());
    done(&world, &["push", "oci:image", &name]);
    for world in [&world, &there] {
        fs::write(world.path("plain.key"), PLAIN).unwrap();
        fs::write(world.path("plain.pub"), PLAIN_PUBLIC).unwrap();
    }
    let digest = done(&there, &["pull", &name]).trim().parse().unwrap();
    done(&world, &["sign", &name, "--key", "plain.key"]);
    (there, name, digest)
}

/// A policy that came after the image wants a signature that is in the registry alone.
#[test]
fn a_signature_that_is_not_here() {
    let registry = RegistryServer::start();
    let (there, name, _) = pulled(&registry);
    let run = ["run", "-q", "--gpus", "none", "--pull", "never", name.as_str()];
    assert_eq!(done(&there, &run), "from the registry\n");
    let folder = there.path("home/.config/sconce");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("plain.pub"), PLAIN_PUBLIC).unwrap();
    let rule = format!(
        "version = 1\n[[images]]\nname = \"{}/team\"\nkeys = [\"plain.pub\"]\n",
        registry.host()
    );
    fs::write(folder.join("policy.toml"), rule).unwrap();
    let (code, _, err) = there.says(&run);
    let why = "is not taken: can't tell whether one of the keys for it has signed it: what would prove it is not in the store";
    let hint = format!("`sconce pull {name}`");
    assert!(code == 125 && err.contains(why) && err.contains(&hint), "{code} {err}");
    // The hint holds.
    done(&there, &["pull", &name]);
    assert_eq!(done(&there, &run), "from the registry\n");
}

/// What the store has under a signed digest, with other bytes, is signed by nobody.
#[test]
fn a_manifest_with_other_bytes() {
    let registry = RegistryServer::start();
    let (there, name, digest) = pulled(&registry);
    let stored = format!("store:{name}");
    let words = ["verify-signature", "--key", "plain.pub", stored.as_str()];
    assert!(done(&there, &words).starts_with("yes: "));
    let path = blob(&there, digest);
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    for other in [[&bytes[..], b"\n"].concat(), bytes[..bytes.len() - 1].to_vec()] {
        fs::write(&path, other).unwrap();
        let (code, out, err) = there.says(&words);
        assert!(code != 0 && !out.contains("yes"), "{code} {out}{err}");
    }
}

/// Under the record of a signed image lies that of another: what is started is what was signed.
#[test]
fn a_record_of_another_image() {
    let registry = RegistryServer::start();
    let (there, name, digest) = pulled(&registry);
    there.image(r#"{"Env": ["PATH=/usr/bin"], "Cmd": ["echo", "from nobody"]}"#);
    done(&there, &["copy", "oci:image", "store:other"]);
    let other = fs::read_to_string(there.path("store/refs/other")).unwrap();
    let record = |digest: &str| there.path("store/images").join(format!("{digest}.json"));
    let other = record(other.trim().strip_prefix("sha256:").unwrap());
    let own = record(&digest.hex());
    fs::remove_file(&own).unwrap();
    fs::copy(other, own).unwrap();
    let run = ["run", "--gpus", "none", "--pull", "never", name.as_str()];
    let (code, out, err) = there.says(&run);
    assert_eq!((code, out.as_str()), (0, "from the registry\n"), "{err}");
    assert!(err.contains("it is of the image"), "{err}");
}

/// By its tag and by its digest an image is there whole, or not.
#[test]
fn an_image_that_lacks_a_layer() {
    let registry = RegistryServer::start();
    let (there, name, digest) = pulled(&registry);
    done(&there, &["copy", &format!("store:{name}"), "store:lab/app:1"]);
    let served = Served::start(&there, &[]);
    let get = |wanted: &str| served.ask("GET", &format!("/v2/lab/app/manifests/{wanted}"), "", b"");
    for wanted in ["1", &digest.to_string()] {
        is(&get(wanted), 200, "layers");
    }
    let manifest: serde_json::Value = serde_json::from_str(&get("1").body).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    fs::remove_file(blob(&there, layer)).unwrap();
    for wanted in ["1", &digest.to_string()] {
        is(&get(wanted), 404, "were pruned");
    }
}

/// A manifest or a configuration with other bytes is no part of an image that is there.
#[test]
fn documents_that_are_damaged_are_not_served() {
    let registry = RegistryServer::start();
    let (there, name, digest) = pulled(&registry);
    done(&there, &["copy", &format!("store:{name}"), "store:lab/app:1"]);
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(blob(&there, digest)).unwrap()).unwrap();
    let config = manifest["config"]["digest"].as_str().unwrap().parse().unwrap();
    for part in [config, digest] {
        let path = blob(&there, part);
        let bytes = fs::read(&path).unwrap();
        for other in [[&bytes[..], b" "].concat(), bytes[1..].to_vec(), Vec::new()] {
            fs::remove_file(&path).unwrap();
            fs::write(&path, other).unwrap();
            let served = Served::start(&there, &[]);
            for (method, wanted) in [("GET", "1"), ("HEAD", "1"), ("GET", &*digest.to_string())] {
                let path = format!("/v2/lab/app/manifests/{wanted}");
                let answer = served.ask(method, &path, "", b"");
                is(&answer, 404, if method == "GET" { "is damaged" } else { "" });
            }
        }
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
}
