//! Pruning: what goes, what stays, and who is not disturbed.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use sconce_blob::Digest;
use sconce_store::{Error, Lease, Meta, Policy, Store, Twice, Which};

use crate::crash::{check_everything, put_everything};
use crate::images::put_image;
use crate::process::{child_on_a_small_disk, child_process, listen, need_root, said, say};
use crate::{noise, store};

const EVERYTHING: Policy = Policy { images: Which::All, keep_bytes: None, dry_run: false };

/// A process that a test beside this one forked has the lock of a lease as well, until it runs its program.
fn wait_for_lease_to_end(store: &Store) {
    let dry = Policy { dry_run: true, ..EVERYTHING };
    let is_free = || store.prune(&dry, &[]).unwrap().in_use.is_empty();
    assert!((0..500).any(|_| is_free() || {
        std::thread::sleep(Duration::from_millis(10));
        false
    }));
}

#[test]
fn prune_takes_what_no_image_needs() {
    let (_folder, store) = store();
    let named = put_image(&store, &["a:1"], 1);
    let unnamed = put_image(&store, &[], 2);
    let spared = store.put_bytes(b"of a lock in use").unwrap();
    let loose = store.put_bytes(b"of nothing").unwrap();
    fs::write(store.partial_path(loose), b"half").unwrap();
    let layers = |name: &str| store.image(name).unwrap().layers;
    let (named_layers, unnamed_layers) = (layers("a:1"), layers(&unnamed.hex()));
    for layer in named_layers.iter().chain(&unnamed_layers) {
        store.extract(layer.diff_id, &|_| {}).unwrap();
    }
    let policy = |images, dry_run| Policy { images, keep_bytes: None, dry_run };
    let lease = store.lease(unnamed).unwrap();
    let kept = store.prune(&policy(Which::All, true), &[spared, loose]).unwrap();
    assert_eq!(kept.images, ["a:1"]);
    assert_eq!(kept.in_use, [unnamed.to_string()]);
    drop(lease);
    wait_for_lease_to_end(&store);
    let dry = store.prune(&policy(Which::Unnamed, true), &[spared]).unwrap();
    assert!(store.has_blob(loose).unwrap() && store.partial_path(loose).exists());
    let done = store.prune(&policy(Which::Unnamed, false), &[spared]).unwrap();
    assert_eq!(dry, done);
    assert_eq!((done.images.len(), done.trees), (1, 1));
    // Manifest, config, virtual layer and its wheel of the one; the loose one.
    assert_eq!(done.blobs, 5);
    assert!(done.bytes > 0);
    assert!(!store.has_blob(loose).unwrap() && !store.partial_path(loose).exists());
    assert!(store.has_blob(spared).unwrap());
    assert!(store.tree(unnamed_layers[1].diff_id).unwrap().is_none());
    let image = store.image("a:1").unwrap();
    assert_eq!(image.manifest, named);
    for layer in &image.layers {
        store.verify(layer.digest).unwrap();
        assert!(store.tree(layer.diff_id).unwrap().is_some());
    }
    let unused = policy(Which::UnusedFor(Duration::from_secs(3600)), false);
    assert!(store.prune(&unused, &[]).unwrap().images.is_empty());
    store.prune(&policy(Which::All, false), &[]).unwrap();
    assert!(store.images().unwrap().is_empty() && store.names().unwrap().is_empty());
    let files = |name: &str| fs::read_dir(store.root().join(name)).unwrap().count();
    assert_eq!((files("trees"), files("layers"), files("images"), files("refs")), (0, 0, 0, 0));
}

/// Makes an image look as if it was used so long ago.
fn age(store: &Store, image: Digest, seconds: u64) {
    let path = store.root().join("images").join(format!("{}.json", image.hex()));
    let then = SystemTime::now() - Duration::from_secs(seconds);
    fs::File::options().append(true).open(path).unwrap().set_modified(then).unwrap();
}

#[test]
fn prune_by_size_takes_the_oldest_until_the_rest_fits() {
    let (_folder, store) = store();
    let images: Vec<Digest> = (1..=4)
        .map(|seed| {
            let image = put_image(&store, &[&format!("a:{seed}")], seed);
            for layer in store.image(&image.hex()).unwrap().layers {
                store.extract(layer.diff_id, &|_| {}).unwrap();
            }
            age(&store, image, 1000 - seed * 100);
            image
        })
        .collect();
    store.put_bytes(&noise(50_000, 99)).unwrap();
    let policy = |keep_bytes, dry_run| Policy {
        images: Which::Unnamed,
        keep_bytes: Some(keep_bytes),
        dry_run,
    };
    // While all of it fits, not even what no image needs goes.
    assert_eq!(store.prune(&policy(1 << 40, false), &[]).unwrap(), Default::default());
    let everything = store.prune(&policy(0, true), &[]).unwrap();
    assert_eq!(everything.images, ["a:1", "a:2", "a:3", "a:4"]);
    let garbage = store.prune(&policy(everything.bytes - 1, true), &[]).unwrap();
    assert_eq!((garbage.images.len(), garbage.blobs), (0, 1));
    // One byte less than without the garbage: the image that was used longest ago as well.
    let keep = everything.bytes - garbage.bytes - 1;
    let dry = store.prune(&policy(keep, true), &[]).unwrap();
    let done = store.prune(&policy(keep, false), &[]).unwrap();
    assert_eq!((&done.images[..], done.bytes), (&["a:1".to_owned()][..], dry.bytes));
    assert!(done.bytes > garbage.bytes);
    // What is in use stays, however old, and the next one goes.
    let lease = store.lease(images[1]).unwrap();
    age(&store, images[1], 2000);
    let left = everything.bytes - done.bytes;
    let done = store.prune(&policy(left - 1, false), &[]).unwrap();
    assert_eq!(
        (&done.images[..], &done.in_use[..]),
        (&["a:3".to_owned()][..], &["a:2".to_owned()][..])
    );
    drop(lease);
    wait_for_lease_to_end(&store);
    let done = store.prune(&policy(0, false), &[]).unwrap();
    assert_eq!(done.images, ["a:2", "a:4"]);
}

#[test]
fn prune_by_age_and_size_together() {
    let (_folder, store) = store();
    for (seed, seconds) in [(1, 7200), (2, 60)] {
        let image = put_image(&store, &[&format!("a:{seed}")], seed);
        age(&store, image, seconds);
    }
    let images = Which::UnusedFor(Duration::from_secs(3600));
    let policy = Policy { images, keep_bytes: Some(1 << 40), dry_run: false };
    assert_eq!(store.prune(&policy, &[]).unwrap().images, ["a:1"]);
    assert!(store.image("a:2").is_ok());
}

#[test]
fn prune_spares_what_another_process_found_or_put() {
    let (_folder, store) = store();
    put_everything(&store, 1);
    let old = store.put_bytes(b"found by the other").unwrap();
    let gone = store.put_bytes(b"found by nobody").unwrap();
    store.remove_name("latest").unwrap();
    let other = Store::open(store.root()).unwrap();
    // Found, put, and half done when somebody prunes everything.
    assert!(other.blob_path(old).unwrap().is_some());
    let blob = other.put_bytes(b"put by the other").unwrap();
    let tree = other.create_tree(Twice::Refuse).unwrap();
    let done = other.create_tree(Twice::Refuse).unwrap();
    done.finish(Digest::of(b"done")).unwrap();
    let found = other.image(&store.images().unwrap()[0].manifest.hex()).unwrap();
    let partial = other.partial_path(gone);
    let lock = other.lock("partial", gone).unwrap();
    fs::write(&partial, b"half").unwrap();
    let pruned = store.prune(&EVERYTHING, &[]).unwrap();
    assert_eq!(pruned.in_use, [found.manifest.to_string()]);
    assert!(
        other.has_blob(old).unwrap()
            && other.has_blob(blob).unwrap()
            && !store.has_blob(gone).unwrap()
    );
    assert!(other.tree(Digest::of(b"done")).unwrap().is_some() && partial.exists());
    check_everything_but(&other, Digest::of(b"done"));
    let meta = Meta { mode: 0o644, ..Meta::DIRECTORY };
    tree.file("a", meta, 1).unwrap().write_all(b"a").unwrap();
    tree.finish(Digest::of(b"tree")).unwrap();
    drop((lock, other));
    // Nobody uses it any more.
    store.prune(&EVERYTHING, &[]).unwrap();
    assert!(!store.has_blob(old).unwrap() && !store.has_blob(blob).unwrap() && !partial.exists());
    assert!(store.images().unwrap().is_empty());
}

fn check_everything_but(store: &Store, tree: Digest) {
    let aside = store.root().join("aside");
    let path = store.root().join("trees").join(tree.hex());
    fs::rename(&path, &aside).unwrap();
    check_everything(store);
    fs::rename(&aside, &path).unwrap();
}

/// Builders that find, put and check while others prune everything, again and again.
#[test]
fn builders_and_pruners_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("home");
    let start = |work: &str| {
        let mut child = child_process(&root, work).stdin(Stdio::null()).spawn().unwrap();
        let said = listen(&mut child);
        (child, said)
    };
    let builders = [start("sharing build 25"), start("sharing build 25")];
    let pruners = [start("sharing prune 25"), start("sharing prune 25")];
    for (mut child, said) in builders.into_iter().chain(pruners) {
        let said: Vec<String> = said.collect();
        assert!(child.wait().unwrap().success(), "{said:?}");
        assert!(!said.is_empty() && said.iter().all(|word| !word.starts_with("note")), "{said:?}");
    }
    check_everything(&Store::open(&root).unwrap());
}

#[test]
fn a_lease_goes_to_another_process_by_its_descriptors() {
    let (_folder, store) = store();
    let image = put_image(&store, &["a:1"], 1);
    let lease = store.lease(image).unwrap();
    let scratch = lease.scratch().to_owned();
    fs::write(scratch.join("state"), "").unwrap();
    let mut fds = lease.into_fds().unwrap();
    assert_eq!(fds.len(), 2);
    // As its standard streams they are the only ones it inherits.
    let mut child = Command::new("sleep")
        .arg("600")
        .stdout(Stdio::from(fds.pop().unwrap()))
        .stderr(Stdio::from(fds.pop().unwrap()))
        .spawn()
        .unwrap();
    let root = store.root().to_owned();
    drop(store);
    let store = Store::open(&root).unwrap();
    assert_eq!(store.prune(&EVERYTHING, &[]).unwrap().in_use, ["a:1"]);
    assert!(store.image("a:1").is_ok() && scratch.join("state").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    drop(store);
    let store = Store::open(&root).unwrap();
    assert!(!scratch.exists());
    assert_eq!(store.prune(&EVERYTHING, &[]).unwrap().images, ["a:1"]);
    // Made a lease again it takes the folder with it.
    let image = put_image(&store, &[], 1);
    let lease = store.lease(image).unwrap();
    let scratch = lease.scratch().to_owned();
    let lease = Lease::from_fds(scratch.clone(), lease.into_fds().unwrap()).unwrap();
    assert_eq!(store.prune(&EVERYTHING, &[]).unwrap().in_use.len(), 1);
    drop(lease);
    assert!(!scratch.exists());
    assert_eq!(store.prune(&EVERYTHING, &[]).unwrap().images.len(), 1);
}

#[test]
fn removing_a_name_and_an_image() {
    let (_folder, store) = store();
    let image = put_image(&store, &["a:1", "b:1"], 1);
    put_image(&store, &["other:1"], 2);
    for name in ["a:1", "other:1"] {
        for layer in store.image(name).unwrap().layers {
            store.extract(layer.diff_id, &|_| {}).unwrap();
        }
    }
    let layers = store.image("a:1").unwrap().layers;
    let removed = store.remove_image("a:1").unwrap();
    assert_eq!((&removed.names[..], removed.image), (&["a:1".to_owned()][..], None));
    assert!(store.image("b:1").is_ok() && store.image("a:1").is_err());
    // In use it loses its name, and goes with a prune once it is free.
    let lease = store.lease(image).unwrap();
    let removed = store.remove_image("b:1").unwrap();
    assert!(removed.in_use && removed.image.is_none());
    assert!(store.remove_image(&image.hex()[..12]).unwrap().in_use);
    drop(lease);
    let removed = store.remove_image(&image.hex()[..12]).unwrap();
    assert_eq!(removed.image, Some(image));
    assert!(removed.bytes > 0);
    // The base is the other's too.
    assert!(
        store.tree(layers[0].diff_id).unwrap().is_some()
            && store.has_blob(layers[0].digest).unwrap()
    );
    assert!(
        store.tree(layers[1].diff_id).unwrap().is_none()
            && !store.has_blob(layers[1].digest).unwrap()
    );
    assert!(matches!(store.remove_image("a:1"), Err(Error::NoImage { .. })));
    store.verify(store.image("other:1").unwrap().layers[1].digest).unwrap();
    // What only it needed is gone: a prune finds nothing more.
    let policy = Policy { images: Which::Unnamed, ..EVERYTHING };
    assert_eq!(store.prune(&policy, &[]).unwrap(), Default::default());
}

#[test]
fn the_state_of_containers_is_left_alone() {
    let (_folder, store) = store();
    let containers = store.containers().unwrap();
    fs::write(containers.join("state"), "").unwrap();
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&containers).unwrap());
    assert_eq!(mode & 0o7777, 0o700);
    store.prune(&EVERYTHING, &[]).unwrap();
    let store = Store::open(store.root()).unwrap();
    assert!(store.containers().unwrap().join("state").exists());
}

/// Addresses of wheels were kept whole once, with their tokens.
#[test]
fn memos_of_older_versions_go() {
    let (_folder, store) = store();
    let key = Digest::of(b"wheel");
    store.put_memo("url", key, b"https://me:word@h.invalid/a.whl?token=1").unwrap();
    store.put_memo("url-like", key, b"kept").unwrap();
    let old = Which::UnusedFor(Duration::from_secs(3600));
    let policy = Policy { images: old, keep_bytes: None, dry_run: false };
    store.prune(&Policy { dry_run: true, ..policy.clone() }, &[]).unwrap();
    assert!(store.memo("url", key).unwrap().is_some());
    store.prune(&policy, &[]).unwrap();
    assert_eq!(store.memo("url", key).unwrap(), None);
    assert_eq!(store.memo("url-like", key).unwrap().as_deref(), Some(&b"kept"[..]));
}

/// What another process does on a disk of its own.
pub fn work(store: &Store, work: &str) {
    assert_eq!(work, "lease on a full disk");
    let image = put_image(store, &["a:1"], 1);
    let filler = store.root().join("filler");
    let fill = || {
        let mut file = fs::File::create(&filler).unwrap();
        let bytes = [0; 1 << 12];
        let full = std::iter::repeat_with(|| file.write_all(&bytes)).find_map(Result::err);
        assert_eq!(full.unwrap().kind(), std::io::ErrorKind::StorageFull);
    };
    let tell = |what: &str| match store.lease(image) {
        Ok(_) => say(&format!("{what}: kept")),
        Err(error) => say(&format!("{what}: {error}; {}", error.hint().unwrap_or_default())),
    };
    fill();
    tell("with a record");
    // What no other can be put in the place of, and nobody can lock.
    fs::remove_file(&filler).unwrap();
    let record = store.root().join("images").join(format!("{}.json", image.hex()));
    fs::remove_file(&record).unwrap();
    fs::create_dir(&record).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&record).status();
    assert!(mount.unwrap().success());
    tell("with room");
    fill();
    tell("with neither");
}

/// Where the record can't be locked and no pin be written, as on a full disk, nothing would keep the image: that is no lease.
#[test]
fn a_lease_that_nothing_keeps_is_refused() {
    need_root();
    let folder = tempfile::tempdir().unwrap();
    let said = said(child_on_a_small_disk(folder.path(), 8, "prune lease on a full disk"));
    let about = |what: &str| {
        let lines: Vec<&str> =
            said.iter().filter_map(|line| line.strip_prefix(&format!("{what}: "))).collect();
        assert_eq!(lines.len(), 1, "{said:?}");
        lines[0]
    };
    assert_eq!((about("with a record"), about("with room")), ("kept", "kept"));
    let refused = about("with neither");
    for part in [
        "nothing would keep image ",
        "from being pruned while it is used: its record can't be locked (",
        ".json: it is not a regular file), and ",
        "pins",
        "free space on the disk of ",
    ] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
}
