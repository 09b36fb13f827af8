//! What a name means: a tag, a digest and the name of an image in a registry are never something that lies in the folder one is in,
//! and no image gets a name that means something else.

mod world;

use std::fs;

use sconce_blob::Digest;
use world::World;
use world::detached::ok;
use world::served::{Served, is};

const ECHO: &str = r#"{"Env": ["PATH=/usr/bin"], "Cmd": ["echo", "from the store"]}"#;
const MANIFEST: &str = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";

/// A world whose store has an image `good`, with its digest.
fn with_image() -> (World, Digest) {
    let world = World::new();
    world.image(ECHO);
    ok(&world, &["copy", "oci:image", "store:good"]);
    let image = ok(&world, &["images", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&image).unwrap();
    let image = rows[0]["digest"].as_str().unwrap().parse().unwrap();
    (world, image)
}

/// A layout of another image.
fn decoy(world: &World, path: &str) {
    fs::create_dir_all(world.path(path).parent().unwrap()).unwrap();
    fs::rename(world.path("image"), world.path("kept")).unwrap();
    world.image(&ECHO.replace("from the store", "decoy"));
    fs::rename(world.path("image"), world.path(path)).unwrap();
    fs::rename(world.path("kept"), world.path("image")).unwrap();
}

#[test]
fn no_image_is_called_as_another_one_is_found() {
    let (world, image) = with_image();
    let short = image.short();
    let whole = image.to_string();
    let begun = format!("sha256:{short}");
    let latest = format!("{short}:latest");
    let served = Served::start(&world, &["--writable"]);
    let manifest = fs::read(world.path("image").join("blobs/sha256").join({
        let index = fs::read_to_string(world.path("image/index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_str(&index).unwrap();
        index["manifests"][0]["digest"].as_str().unwrap().replace("sha256:", "")
    }))
    .unwrap();
    for name in [&*short, &whole, &begun, &latest, "store:good", "oci:x", "dir:x"] {
        for words in [
            vec!["copy", "good", &format!("store:{name}")],
            vec!["load", "--into", "docker", "--tag", name, "good"],
        ] {
            let (code, _, err) = world.says(&words);
            assert!(code == 2 && err.contains("no name of an image"), "{words:?}: {code} {err}");
        }
        // A project's.
        let toml = format!("[image]\nname = \"{name}\"\n[environment]\ntorch = \"none\"\n");
        fs::create_dir_all(world.path("project")).unwrap();
        fs::write(world.path("project/sconce.toml"), toml).unwrap();
        let (code, _, err) = world.says(&["build", "./project"]);
        assert!(code != 0 && err.contains("`name` must be a name"), "{name}: {code} {err}");
        // A client's.
        let (repository, tag) = name.split_once(':').unwrap_or((name, "latest"));
        let path = format!("/v2/{repository}/manifests/{tag}");
        let reply = served.ask("PUT", &path, MANIFEST, &manifest);
        is(&reply, 400, "_INVALID");
        // What stands in the store's folder of names all the same, a program's that did not know better.
        fs::write(world.path("store/refs").join(name), format!("{whole}\n")).unwrap();
        let (_, err) = (ok(&world, &["images"]), world.says(&["images"]).2);
        assert!(err.contains("is not the name of an image"), "{name}: {err}");
        fs::remove_file(world.path("store/refs").join(name)).unwrap();
    }
    assert_eq!(ok(&world, &["run", "-q", "--gpus", "none", &short]), "from the store\n");
}

/// Words of hex digits that are shorter than what is printed of a digest are names, and where one is both it is neither.
#[test]
fn a_name_that_begins_a_digest_is_said_to_be_both() {
    let (world, image) = with_image();
    decoy(&world, "other");
    let digits = &image.hex()[..7];
    ok(&world, &["copy", "oci:other", &format!("store:{digits}")]);
    for words in [&["run", "-q", "--gpus", "none"][..], &["rmi"], &["inspect"]] {
        let (code, out, err) = world.says(&[words, &[digits]].concat());
        assert!(code != 0 && err.contains("could mean 2 images"), "{words:?}: {code} {out}{err}");
    }
    let name = format!("store:{digits}");
    assert_eq!(ok(&world, &["run", "-q", "--gpus", "none", &name]), "decoy\n");
    ok(&world, &["rmi", &name]);
    ok(&world, &["copy", "oci:image", &name]);
    assert_eq!(ok(&world, &["run", "-q", "--gpus", "none", digits]), "from the store\n");
}

#[test]
fn what_lies_in_the_folder_is_no_tag_and_no_image_of_a_registry() {
    let (world, image) = with_image();
    let registry = World::new();
    registry.image(ECHO);
    ok(&registry, &["copy", "oci:image", "store:app:1"]);
    let served = Served::start(&registry, &["--writable"]);
    // A registry's name: neither without a word.
    let name = format!("{}/app:1", served.host);
    decoy(&world, &name);
    for words in [
        &["copy", &name, "store:prod"][..],
        &["push", &name, &format!("{}/x:1", served.host)],
        &["run", "-q", "--gpus", "none", &name],
        &["inspect", &name],
        &["load", "--into", "docker", &name],
    ] {
        let (code, out, err) = world.says(words);
        assert!(code == 125 || code == 2, "{words:?}: {code} {out}{err}");
        assert!(err.contains("of something in this folder") && !out.contains("decoy"), "{err}");
        assert!(err.contains(&format!("`docker://{name}` the image")), "{err}");
    }
    let run = |name: &str| ok(&world, &["run", "-q", "--gpus", "none", name]);
    assert_eq!(run(&format!("./{name}")), "decoy\n");
    assert_eq!(run(&format!("docker://{name}")), "from the store\n");
    // A link there is something too.
    let link = name.replace("app", "link");
    std::os::unix::fs::symlink(world.path(&name), world.path(&link)).unwrap();
    let (code, _, err) = world.says(&["copy", &link, "store:prod"]);
    assert!(code == 2 && err.contains("of something in this folder"), "{err}");

    // A tag and a digest are themselves, and that is said.
    ok(&world, &["copy", "oci:image", "store:torch:2.15.0"]);
    decoy(&world, "torch:2.15.0");
    decoy(&world, &image.short());
    for name in ["torch:2.15.0", &image.short()] {
        let (code, out, err) = world.says(&["run", "-q", "--gpus", "none", name]);
        assert_eq!((code, out.as_str()), (0, "from the store\n"), "{err}");
        assert!(err.contains(&format!("what has that name here is `./{name}`")), "{err}");
        assert_eq!(run(&format!("./{name}")), "decoy\n");
    }
    // Any other name is a folder's first, and whoever meant the store's is told.
    decoy(&world, "good");
    let (_, out, err) = world.says(&["run", "-q", "--gpus", "none", "good"]);
    assert!(out == "decoy\n" && err.contains("the store is `store:good`"), "{out}{err}");
    assert_eq!(run("store:good"), "from the store\n");
    let there = format!("{}/x:1", served.host);
    for words in [
        &["push", "good", &there][..],
        &["push", "good", "./good", &there],
        &["copy", "good", "store:copied"],
        &["inspect", "good"],
        &["launch", "--dry-run", "--ranks", "1", "good", "--", "main.py"],
        &["launch", "--ranks", "1", "good", "--", "main.py"],
        &["verify", "--gpus", "none", "good"],
    ] {
        let (_, out, err) = world.says(words);
        let said = err.matches("\nnote: `good` is").count()
            + usize::from(err.starts_with("note: `good` is"));
        assert_eq!(said, 1, "{words:?}: {out}{err}");
    }
    // Another folder is read by `inspect` alone.
    fs::create_dir(world.path("copied")).unwrap();
    let (_, out, err) = world.says(&["inspect", "copied"]);
    assert!(err.contains("the store is `store:copied`"), "{out}{err}");
    assert_eq!(ok(&world, &["run", "-q", "--gpus", "none", "copied"]), "decoy\n");
}

/// The folder of all names is no name's file.
#[test]
fn no_name_at_all_is_no_image() {
    let (world, _) = with_image();
    for words in [
        &["rmi", ""][..],
        &["rmi", "store:"],
        &["rmi", "--force", "store:"],
        &["run", ""],
        &["run", "store:"],
        &["inspect", ""],
        &["copy", "", "store:x"],
        &["copy", "good", "store:"],
        &["push", "", "localhost:1/x:1"],
    ] {
        let (code, out, err) = world.says(words);
        assert!(code != 0 && err.contains("error: "), "{words:?}: {code} {out}{err}");
        assert!(!err.contains("refs") && !err.contains("rm -r"), "{words:?}: {err}");
        assert!(ok(&world, &["images"]).contains("good"), "{words:?}");
    }
}
