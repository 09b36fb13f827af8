//! Images that others built, as they come: a layer that hides all below it, images for other machines.

mod world;

use std::fs;
use std::process::Command;

use sconce_blob::Digest;
use world::World;

const LIST: &str = r#"{"Env": ["PATH=/usr/bin"], "Cmd": ["ls", "/"]}"#;

fn tar(world: &World, script: &str) {
    let made = Command::new("sh").args(["-ec", script]).current_dir(world.path("")).status();
    assert!(made.unwrap().success());
}

/// An OCI layout `DIR` of these layers, the base first.
fn layout(world: &World, dir: &str, os: &str, layers: &[&str]) {
    let layers: Vec<Vec<u8>> =
        layers.iter().map(|name| fs::read(world.path(name)).unwrap()).collect();
    let ids: Vec<String> =
        layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = format!(
        r#"{{"architecture": "{arch}", "os": "{os}", "config": {LIST}, "rootfs": {{"type": "layers", "diff_ids": [{}]}}}}"#,
        ids.join(",")
    );
    let describe = |kind: &str, bytes: &[u8]| {
        format!(
            r#"{{"mediaType": "application/vnd.oci.image.{kind}", "digest": "{}", "size": {}}}"#,
            Digest::of(bytes),
            bytes.len()
        )
    };
    let rows: Vec<String> = layers.iter().map(|layer| describe("layer.v1.tar", layer)).collect();
    let manifest = format!(
        r#"{{"schemaVersion": 2, "config": {}, "layers": [{}]}}"#,
        describe("config.v1+json", config.as_bytes()),
        rows.join(",")
    );
    let index = format!(
        r#"{{"schemaVersion": 2, "manifests": [{}]}}"#,
        describe("manifest.v1+json", manifest.as_bytes())
    );
    let blobs = world.path(dir).join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    for bytes in layers.iter().map(Vec::as_slice).chain([config.as_bytes(), manifest.as_bytes()]) {
        fs::write(blobs.join(Digest::of(bytes).hex()), bytes).unwrap();
    }
    fs::write(world.path(dir).join("index.json"), index).unwrap();
    fs::write(world.path(dir).join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

#[test]
fn an_opaque_layer_hides_all_below_it() {
    let world = World::new();
    world.image(LIST);
    tar(
        &world,
        "mkdir -p low/deep mark && echo x >low/below && echo x >low/deep/file
        : >mark/.wh..wh..opq
        tar --create --file low.tar --directory low .
        cp layer.tar top.tar && tar --append --file top.tar --directory mark .wh..wh..opq",
    );
    let run = |dir: &str| world.says(&["run", "-q", "--gpus", "none", &format!("oci:{dir}")]);
    layout(&world, "plain", "linux", &["low.tar", "layer.tar"]);
    let (code, out, err) = run("plain");
    assert!(code == 0 && out.contains("below\n") && out.contains("deep\n"), "{code} {out}{err}");
    layout(&world, "opaque", "linux", &["low.tar", "top.tar"]);
    let (code, out, err) = run("opaque");
    assert!(code == 0 && out.contains("usr\n"), "{code} {out}{err}");
    assert!(!out.contains("below") && !out.contains("deep"), "{out}");
}

/// Builders repeat layers, the empty one above all; the kernel mounts no folder twice.
#[test]
fn a_layer_that_is_there_twice() {
    let world = World::new();
    world.image(LIST);
    tar(
        &world,
        "mkdir -p a/d b/d e && echo a >a/d/a && echo a >a/both && echo b >b/d/b && : >b/.wh.both
        for layer in a b e; do tar --create --file $layer.tar --directory $layer .; done",
    );
    for (dir, layers) in [
        ("adjacent", &["layer.tar", "a.tar", "a.tar", "b.tar", "a.tar"][..]),
        ("apart", &["layer.tar", "a.tar", "b.tar", "a.tar"]),
        ("empty", &["a.tar", "e.tar", "layer.tar", "e.tar", "b.tar", "a.tar", "e.tar"]),
    ] {
        layout(&world, dir, "linux", layers);
        let list = ["run", "-q", "--gpus", "none", &format!("oci:{dir}"), "ls", "/", "/d"];
        let (code, out, err) = world.says(&list);
        assert!(
            code == 0 && out.contains("both\n") && out.contains("/d:\na\nb\n"),
            "{dir}: {out}{err}"
        );
    }
}

#[test]
fn a_layer_goes_through_its_own_links() {
    let world = World::new();
    world.image(LIST);
    // As `podman run` has it: the file is where the link leads, in the container.
    tar(
        &world,
        "mkdir -p low/real/lib && ln -s /real/lib low/through && ln -s ../../../real low/up
        tar --create --file low.tar --directory low real through up
        mkdir -p file/through file/up && echo inside >file/through/x && echo above >file/up/y
        tar --append --file low.tar --directory file through/x up/y
        chmod 700 low && tar --append --file low.tar --directory low --no-recursion .",
    );
    layout(&world, "links", "linux", &["low.tar", "layer.tar"]);
    let read = |path: &str| world.says(&["run", "-q", "--gpus", "none", "oci:links", "cat", path]);
    for (path, text) in
        [("/real/lib/x", "inside\n"), ("/through/x", "inside\n"), ("/real/y", "above\n")]
    {
        let (code, out, err) = read(path);
        assert!(code == 0 && out == text, "{path}: {code} {out}{err}");
    }
    // The root of a container is open to all its users, whatever folder its layers were packed from.
    let about = ["run", "-q", "--gpus", "none", "oci:links", "stat", "-c", "%a %u:%g", "/"];
    let (code, out, err) = world.says(&about);
    assert!(code == 0 && out == "755 0:0\n", "{code} {out}{err}");
}

#[test]
fn an_image_for_another_machine_is_refused_before_anything_is_unpacked() {
    let world = World::new();
    world.image(LIST);
    let other = if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" };
    layout(&world, "windows", "windows", &["layer.tar"]);
    world.image_for(other, LIST);
    for (dir, says) in [("windows", "it is for windows/"), ("image", other)] {
        let (code, out, err) = world.says(&["run", "--gpus", "none", &format!("oci:{dir}")]);
        assert!(code == 125 && out.is_empty() && err.contains(says), "{dir}: {code} {out}{err}");
        assert_eq!(err.lines().filter(|line| line.starts_with("error:")).count(), 1, "{err}");
        let trees = fs::read_dir(world.path("store/trees")).map_or(0, Iterator::count);
        assert_eq!(trees, 0, "{dir}");
    }
    // One that is in the store, taken for another machine.
    let archive = ["copy", "--platform", other, "oci:image", "store:theirs"];
    assert_eq!(world.says(&archive).0, 0);
    let (code, _, err) = world.says(&["run", "--gpus", "none", "theirs"]);
    assert!(code == 125 && err.contains(&format!("the image is for {other}")), "{code} {err}");
}
