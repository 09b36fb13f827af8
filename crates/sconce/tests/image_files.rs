//! Images written as files, by `sconce copy` and `sconce build --output` as a user starts them.

mod world;

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sconce_blob::Digest;
use sconce_store::Store;
use world::World;

/// Bytes of a layer whose copy takes long enough to be interrupted.
const LARGE: u64 = 1 << 29;

/// An image `large:1` of one layer of [`LARGE`] bytes, which nobody could unpack.
fn put_large(world: &World) {
    let store = Store::open(world.path("store")).unwrap();
    let zeros = || std::io::repeat(0).take(LARGE);
    let (layer, size) = store.put_stream(zeros(), "zeros", None).unwrap();
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = format!(
        r#"{{"architecture": "{arch}", "os": "linux", "rootfs": {{"type": "layers", "diff_ids": ["{layer}"]}}}}"#
    );
    let manifest = format!(
        r#"{{"schemaVersion": 2, "config": {{"mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": "{}", "size": {}}}, "layers": [{{"mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": "{layer}", "size": {size}}}]}}"#,
        Digest::of(config.as_bytes()),
        config.len()
    );
    store.put_image(&["large:1"], manifest.as_bytes(), config.as_bytes()).unwrap();
}

fn names(world: &World, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(world.path(folder)).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Sends `signal` once something is there to be left behind: the exit code, if there was one.
fn interrupted(world: &World, to: &str, signal: Signal) -> Option<i32> {
    let mut copy = world.sconce(&["copy", "large:1", to]).spawn().unwrap();
    let begun = Instant::now();
    while names(world, "to").is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing is written");
        std::thread::sleep(Duration::from_millis(1));
    }
    kill_process(Pid::from_child(&copy), signal).unwrap();
    copy.wait().unwrap().code()
}

#[test]
fn what_was_interrupted_leaves_nothing() {
    let world = World::new();
    put_large(&world);
    fs::create_dir(world.path("to")).unwrap();
    for to in ["oci:to/x", "docker-archive:to/x"] {
        for signal in [Signal::INT, Signal::TERM] {
            assert_eq!(interrupted(&world, to, signal), Some(128 + signal.as_raw()), "{to}");
            assert_eq!(names(&world, "to"), Vec::<String>::new(), "{to}");
        }
        // Nobody can hear KILL: what it leaves goes with the next that writes there.
        assert_eq!(interrupted(&world, to, Signal::KILL), None, "{to}");
        let left = names(&world, "to");
        assert!(left.len() == 1 && left[0].starts_with(".x.partial-"), "{left:?}");
        // Somebody else's, that of another place, and one that is being written.
        for kept in [".x.partial-", ".x.partial-a", ".y.partial-1", ".x.partial-2"] {
            fs::create_dir(world.path("to").join(kept)).unwrap();
        }
        let written = fs::File::open(world.path("to/.x.partial-2")).unwrap();
        rustix::fs::flock(&written, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let (code, out, err) = world.says(&["copy", "large:1", to]);
        assert_eq!(code, 0, "{out}{err}");
        let mut found = names(&world, "to");
        found.sort();
        let rest = [".x.partial-", ".x.partial-2", ".x.partial-a", ".y.partial-1", "x"];
        assert_eq!(found, rest, "{to}");
        drop(written);
        fs::remove_dir_all(world.path("to")).unwrap();
        fs::create_dir(world.path("to")).unwrap();
    }
}

/// Of two that write to one place at once, one is refused and nothing is replaced.
#[test]
fn what_came_meanwhile_is_not_replaced() {
    let world = World::new();
    put_large(&world);
    fs::create_dir(world.path("to")).unwrap();
    let mut copy = world.sconce(&["copy", "large:1", "docker-archive:to/x"]).spawn().unwrap();
    let begun = Instant::now();
    while names(&world, "to").is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing is written");
        std::thread::sleep(Duration::from_millis(1));
    }
    fs::write(world.path("to/x"), "mine").unwrap();
    assert_eq!(copy.wait().unwrap().code(), Some(7));
    assert_eq!(fs::read_to_string(world.path("to/x")).unwrap(), "mine");
    assert_eq!(names(&world, "to"), ["x"]);
}

/// A container puts links into its volume: no image is written through them.
#[test]
fn no_link_of_a_volume_is_followed() {
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin"]}"#);
    for folder in ["vol", "outside", "mine"] {
        fs::create_dir(world.path(folder)).unwrap();
    }
    let script = "ln -s ../outside /vol/t; sleep 1000";
    let words = ["run", "-q", "-d", "--gpus", "none", "--name", "hostile", "-v", "./vol:/vol"];
    let (code, _, err) = world.says(&[&words[..], &["oci:image", "sh", "-c", script]].concat());
    assert_eq!(code, 0, "{err}");
    let begun = Instant::now();
    while !world.path("vol/t").is_symlink() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the link is not there");
        std::thread::sleep(Duration::from_millis(10));
    }
    for to in ["oci:vol/t/x", "docker-archive:vol/t/x"] {
        let (code, _, err) = world.says(&["copy", "oci:image", to]);
        assert!(code == 7 && err.contains("vol/t is a link in a volume of a container"), "{err}");
    }
    assert_eq!(names(&world, "outside"), Vec::<String>::new());
    // A person's own link is followed.
    symlink("mine", world.path("short")).unwrap();
    let (code, _, err) = world.says(&["copy", "oci:image", "oci:short/x"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(names(&world, "mine"), ["x"]);
    let (code, _, err) = world.says(&["rm", "-f", "hostile"]);
    assert_eq!(code, 0, "{err}");
}

/// An image of several names is written under the one that was asked for: engines tag it so, and nothing else.
#[test]
fn an_archive_has_the_name_that_was_asked_for() {
    let world = World::new();
    world.image(r#"{"Env": []}"#);
    for name in ["alpine", "hello", "lab/demo:2"] {
        done(&world, &["copy", "oci:image", &format!("store:{name}")]);
    }
    for (asked, tags) in [
        ("hello", r#"["hello:latest"]"#),
        ("alpine", r#"["alpine:latest"]"#),
        ("lab/demo:2", r#"["lab/demo:2"]"#),
    ] {
        let file = world.path("out.tar");
        done(&world, &["copy", asked, "docker-archive:out.tar"]);
        let tar = Command::new("tar").arg("xOf").arg(&file).arg("manifest.json").output().unwrap();
        let said = String::from_utf8(tar.stdout).unwrap().replace([' ', '\n'], "");
        assert!(said.contains(&format!("\"RepoTags\":{tags}")), "{asked}: {said}");
        fs::remove_file(&file).unwrap();
    }
}

/// A file or folder is no registry's name: nothing is asked of Docker Hub.
#[test]
fn files_are_not_pushed_to() {
    let world = World::new();
    world.image(r#"{"Env": []}"#);
    for words in [
        ["push", "oci:image", "docker-archive:x.tar"],
        ["push", "oci:image", "oci:x:1"],
        ["push", "oci:image", "store:x"],
        ["pull", "--quiet", "oci:image:nosuch"],
    ] {
        let (code, _, err) = world.says(&words);
        assert!(code == 2 && err.contains("sconce copy SOURCE DESTINATION"), "{words:?}: {err}");
    }
}

fn done(world: &World, words: &[&str]) -> String {
    let (code, out, err) = world.says(words);
    assert_eq!(code, 0, "{words:?}: {out}{err}");
    out
}

/// Several images in one layout, added one after the other and at once; each is found by its tag.
#[test]
fn a_layout_has_an_image_for_each_tag() {
    let world = World::new();
    let mut images = Vec::new();
    for number in 0..6 {
        world.image(&format!(r#"{{"Env": ["PATH=/usr/bin", "N={number}"]}}"#));
        let image = done(&world, &["copy", "oci:image", &format!("store:n{number}")]);
        images.push(image.trim().to_owned());
    }
    done(&world, &["copy", "n0", "oci:one:first"]);
    // Without a tag nothing is added; what is no layout stays as it is.
    fs::create_dir(world.path("other")).unwrap();
    fs::write(world.path("other/file"), "mine").unwrap();
    for to in ["oci:one", "oci:other:x"] {
        let (code, _, err) = world.says(&["copy", "n1", to]);
        assert!(code == 7 && err.contains("exists already"), "{to}: {code} {err}");
        assert_eq!(err.contains("`oci:one:TAG` adds to the layout"), to == "oci:one", "{err}");
    }
    done(&world, &["copy", "n1", "oci:one:second"]);
    done(&world, &["copy", "n2", "oci:one:second"]);
    for (tag, image) in [("first", &images[0]), ("second", &images[2])] {
        let out = done(&world, &["copy", &format!("oci:one:{tag}"), "store:again"]);
        assert_eq!(out.trim(), image);
    }
    // At once into a folder that is not there.
    for _ in 0..4 {
        let start = |n: usize| {
            let words = ["copy", &format!("n{n}"), &format!("oci:all:t{n}")].map(str::to_owned);
            world.sconce(&words.each_ref().map(String::as_str)).spawn().unwrap()
        };
        let copies: Vec<_> = (0..6).map(start).collect();
        copies.into_iter().for_each(|mut copy| assert!(copy.wait().unwrap().success()));
        for (n, image) in images.iter().enumerate() {
            let out = done(&world, &["copy", &format!("oci:all:t{n}"), "store:again"]);
            assert_eq!(out.trim(), image);
        }
        let left = names(&world, "all/blobs/sha256");
        assert!(left.iter().all(|name| name.len() == 64), "{left:?}");
        fs::remove_dir_all(world.path("all")).unwrap();
    }
    // A blob that is not what its name says is not taken for one.
    let blobs = world.path("one/blobs/sha256");
    fs::write(blobs.join(images[2].strip_prefix("sha256:").unwrap()), "rot").unwrap();
    let (code, _, err) = world.says(&["copy", "n2", "oci:one:third"]);
    assert!(code != 0 && err.contains("one/blobs/sha256"), "{code} {err}");
}

/// The name of an image behind its archive, as skopeo has it: what it is called in there, and which of those in there is meant.
#[test]
fn archives_have_a_name_behind_the_file() {
    let world = World::new();
    world.image(r#"{"Env": ["A=1"]}"#);
    let one = done(&world, &["copy", "oci:image", "store:one"]);
    world.image(r#"{"Env": ["A=2"]}"#);
    done(&world, &["copy", "oci:image", "store:two"]);
    let manifest = |file: &str| {
        let tar =
            Command::new("tar").arg("xOf").arg(world.path(file)).arg("manifest.json").output();
        String::from_utf8(tar.unwrap().stdout).unwrap().replace([' ', '\n'], "")
    };
    for (name, tags) in [
        ("foo:1", "foo:1"),
        ("foo", "foo:latest"),
        ("lab/demo:2", "lab/demo:2"),
        ("lab/demo", "lab/demo:latest"),
        ("localhost:5000/foo:1", "localhost:5000/foo:1"),
    ] {
        let place = format!("docker-archive:out.tar:{name}");
        assert_eq!(done(&world, &["copy", "one", &place]), one, "{name}");
        let said = manifest("out.tar");
        assert!(said.contains(&format!("\"RepoTags\":[\"{tags}\"]")), "{name}: {said}");
        // In again by that name, and by no other.
        for words in [&["pull", &place][..], &["copy", &place, "store:again"]] {
            assert_eq!(done(&world, words).lines().last(), one.lines().last(), "{words:?}");
        }
        if name.contains([':', '/']) {
            done(&world, &["copy", &place, "docker-archive:again.tar"]);
            let said = manifest("again.tar");
            assert!(said.contains(&format!("\"RepoTags\":[\"{tags}\"]")), "{name}: {said}");
            fs::remove_file(world.path("again.tar")).unwrap();
        }
        let other = "docker-archive:out.tar:other:1";
        let (code, _, err) = world.says(&["pull", other]);
        assert!(code != 0 && err.contains("`other:1`"), "{name}: {code} {err}");
        fs::remove_file(world.path("out.tar")).unwrap();
    }
    done(&world, &["copy", "one", "oci-archive:out.tar:v2"]);
    assert!(manifest("out.tar").contains("\"RepoTags\":[\"one:v2\"]"), "{}", manifest("out.tar"));
    let piped = world.sconce(&["copy", "one", "docker-archive:-:foo:1"]).output().unwrap();
    fs::write(world.path("piped.tar"), piped.stdout).unwrap();
    assert!(manifest("piped.tar").contains("\"RepoTags\":[\"foo:1\"]"));
    // What is no name is refused, and nothing is written.
    for place in [
        "docker-archive:new.tar:Foo:1",
        "docker-archive:new.tar:foo:1:2",
        "oci-archive:new.tar:a b",
    ] {
        for words in [&["copy", "one", place][..], &["build", "--output", place]] {
            let (code, _, err) = world.says(words);
            assert!(code == 2 && err.contains("behind the file is not a name"), "{words:?}: {err}");
        }
    }
    assert!(!world.path("new.tar").exists());
    // Docker's older form, with two images: as podman and skopeo write it.
    let folder = world.path("saved");
    fs::create_dir(&folder).unwrap();
    let mut rows = Vec::new();
    for (name, from) in [("foo:1", "one"), ("foo:2", "two")] {
        let file = format!("{from}.tar");
        done(&world, &["copy", from, &format!("docker-archive:{file}:{name}")]);
        let mut tar = Command::new("tar");
        tar.arg("xf").arg(world.path(&file)).arg("-C").arg(&folder);
        assert!(tar.status().unwrap().success());
        let mut row: serde_json::Value = serde_json::from_str(&manifest(&file)).unwrap();
        row[0]["RepoTags"] = serde_json::json!([format!("docker.io/library/{name}")]);
        rows.push(row[0].take());
    }
    fs::write(folder.join("manifest.json"), serde_json::to_vec(&rows).unwrap()).unwrap();
    for name in ["index.json", "oci-layout"] {
        fs::remove_file(folder.join(name)).unwrap();
    }
    let mut tar = Command::new("tar");
    tar.arg("cf").arg(world.path("both.tar")).arg("-C").arg(&folder).arg(".");
    assert!(tar.status().unwrap().success());
    for (name, row) in [("foo:1", &rows[0]), ("foo:2", &rows[1])] {
        let from = format!("docker-archive:both.tar:{name}");
        done(&world, &["copy", &from, "docker-archive:chosen.tar"]);
        let said = manifest("chosen.tar");
        assert!(said.contains(row["Config"].as_str().unwrap()), "{name}: {said}");
        assert!(said.contains(&format!("\"RepoTags\":[\"{name}\"]")), "{name}: {said}");
        fs::remove_file(world.path("chosen.tar")).unwrap();
    }
    for (place, says) in [("both.tar", "several images"), ("both.tar:foo", "name or tag `foo`")] {
        let (code, _, err) = world.says(&["pull", &format!("docker-archive:{place}")]);
        assert!(code == 3 && err.contains(says), "{place}: {code} {err}");
    }
}

/// A zstd frame of raw blocks (RFC 8878, 3.1.1), whose window is as large as a block may be.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3];
    for block in bytes.chunks(128 << 10) {
        frame.extend_from_slice(&(block.len() as u32 * 8).to_le_bytes()[..3]);
        frame.extend_from_slice(block);
    }
    // The last block, an empty one.
    frame.extend_from_slice(&[1, 0, 0]);
    frame
}

/// Archives over standard output and input, as they are and packed.
#[test]
fn archives_go_through_pipes() {
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin"], "Cmd": ["echo", "it runs"]}"#);
    let image = done(&world, &["copy", "oci:image", "store:it"]).trim().to_owned();
    for to in ["docker-archive:-", "oci-archive:-"] {
        let output = world.sconce(&["copy", "it", to]).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains(&image));
        fs::write(world.path("it.tar"), output.stdout).unwrap();
        done(&world, &["copy", "it", &to.replace(":-", ":file.tar")]);
        assert!(
            fs::read(world.path("it.tar")).unwrap() == fs::read(world.path("file.tar")).unwrap()
        );
        fs::remove_file(world.path("file.tar")).unwrap();
    }
    let (code, _, err) = world.says(&["copy", "--json", "it", "docker-archive:-"]);
    assert!(code == 2 && err.contains("--json"), "{code} {err}");
    let (code, _, err) = world.says(&["build", "-o", "docker-archive:-"]);
    assert!(code == 2 && err.contains("sconce copy NAME docker-archive:-"), "{code} {err}");

    let tar = fs::read(world.path("it.tar")).unwrap();
    let gzip = Command::new("gzip").arg("-1c").arg(world.path("it.tar")).output().unwrap().stdout;
    let packed = [("plain", tar.clone()), ("gzip", gzip), ("zstd", zstd(&tar))];
    for (how, bytes) in &packed {
        fs::write(world.path("it.packed"), bytes).unwrap();
        let from = fs::File::open(world.path("it.packed")).unwrap();
        let run = ["run", "-q", "--gpus", "none"];
        let piped = world.sconce(&[&run[..], &["-"]].concat()).stdin(from).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&piped.stdout), "it runs\n", "{how} {piped:?}");
        for from in ["docker-archive:it.packed", "oci-archive:it.packed"] {
            assert_eq!(done(&world, &[&run[..], &[from]].concat()), "it runs\n", "{how}");
            assert_eq!(done(&world, &["pull", from]).trim(), image, "{how}");
        }
        // One that is cut off is said to be, and none of it is an image.
        fs::write(world.path("it.packed"), &bytes[..bytes.len() / 2]).unwrap();
        let (code, _, err) = world.says(&["copy", "docker-archive:it.packed", "store:half"]);
        assert!(code == 6 && err.contains("it.packed"), "{how}: {code} {err}");
    }
    for (head, program) in [(&b"\xfd7zXZ\0rest"[..], "xz"), (b"BZh91AY", "bzip2")] {
        fs::write(world.path("it.packed"), head).unwrap();
        for words in [["pull", "docker-archive:it.packed"], ["pull", "-"]] {
            let from = fs::File::open(world.path("it.packed")).unwrap();
            let output = world.sconce(&words).stdin(from).output().unwrap();
            let err = String::from_utf8_lossy(&output.stderr);
            assert!(err.contains(&format!("is compressed with {program}")), "{err}");
            assert!(err.contains(&format!("`{program} -dc FILE | sconce pull -`")), "{err}");
        }
    }
}
