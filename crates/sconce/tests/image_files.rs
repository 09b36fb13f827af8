//! Images written as files, by `sconce copy` and `sconce build --output` as a user starts them.

mod world;

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
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
            assert_eq!(interrupted(&world, to, signal), Some(130), "{to}");
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
