//! Kills, full disks, power cuts, and two processes at once.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use sconce_blob::{Assembly, Digest};
use sconce_store::{Error, Layer, Meta, Store, Twice};

use crate::process::{child_process, listen, say};
use crate::{noise, store};

/// What the other process does.
pub fn work(store: &Store, work: &str) {
    match work {
        "endless" => {
            for number in 1.. {
                put_everything(store, number);
                say("done");
            }
        }
        "once" => {
            let _lock = store.lock("work", Digest::of(b"work")).unwrap();
            let made = store.root().join("memo/made");
            if made.exists() {
                return say("was there");
            }
            std::thread::sleep(Duration::from_millis(200));
            fs::write(made, "").unwrap();
            say("made it");
        }
        "hold" => {
            let _lock = store.lock("work", Digest::of(b"work")).unwrap();
            say("holding");
            std::thread::sleep(Duration::from_secs(600));
        }
        "fill" => match fill(store) {
            Err(error @ Error::NoSpace { .. }) if error.hint().is_some() => say("no space"),
            Err(error) => say(&format!("another error: {error}")),
            Ok(()) => say("there was room"),
        },
        other => panic!("unknown work {other}"),
    }
}

/// A blob, a virtual blob, a tree of it and an image.
pub fn put_everything(store: &Store, number: u64) {
    let bytes = noise(400_000, number);
    let part = store.put_bytes(&bytes).unwrap();
    let mut assembly = Assembly::default();
    assembly.literal(&number.to_le_bytes());
    assembly.blob(part, 0, bytes.len() as u64);
    let whole = [&number.to_le_bytes()[..], &bytes].concat();
    let digest = Digest::of(&whole);
    store.put_virtual(digest, &assembly).unwrap();
    let tree = store.create_tree(Twice::Refuse).unwrap();
    for name in 0..20 {
        let piece = &bytes[name * 20_000..][..20_000];
        let meta = Meta { mode: 0o644, ..Meta::DIRECTORY };
        let mut file = tree.file(format!("d/{name}"), meta, 20_000).unwrap();
        file.write_all(piece).unwrap();
    }
    tree.finish(Digest::of(&bytes)).unwrap();
    let config =
        format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#, Digest::of(&bytes));
    let manifest = format!(
        r#"{{"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},
            "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{}}}]}}"#,
        Digest::of(config.as_bytes()),
        config.len(),
        whole.len()
    );
    store.put_image(&["latest"], manifest.as_bytes(), config.as_bytes()).unwrap();
}

/// That all that looks whole is whole.
pub fn check_everything(store: &Store) -> usize {
    let mut blobs = 0;
    for kind in ["blobs/sha256", "virtual"] {
        for folder in fs::read_dir(store.root().join(kind)).unwrap() {
            for file in fs::read_dir(folder.unwrap().path()).unwrap() {
                let name = file.unwrap().file_name();
                store.verify(name.to_str().unwrap().parse().unwrap()).unwrap();
                blobs += 1;
            }
        }
    }
    for tree in fs::read_dir(store.root().join("trees")).unwrap() {
        let tree = tree.unwrap().path();
        let whole: Vec<u8> =
            (0..20).flat_map(|name| fs::read(tree.join(format!("d/{name}"))).unwrap()).collect();
        assert_eq!(Digest::of(&whole).hex(), tree.file_name().unwrap().to_str().unwrap());
    }
    for image in store.images().unwrap() {
        for layer in &image.layers {
            assert!(store.has_blob(layer.digest).unwrap());
        }
        store.config(&image).unwrap();
    }
    blobs
}

#[test]
fn a_kill_leaves_nothing_half_made() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("home");
    let mut blobs = 0;
    for round in 0..12_u64 {
        let mut child = child_process(&root, "crash endless").spawn().unwrap();
        listen(&mut child).next().unwrap();
        std::thread::sleep(Duration::from_micros(round * 7_919 % 40_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(&root).unwrap();
        blobs = check_everything(&store);
        let left = fs::read_dir(root.join("tmp")).unwrap().count();
        assert_eq!(left, 1, "only our own scratch folder");
    }
    assert!(blobs >= 4);
}

#[test]
fn work_is_done_once() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("home");
    let mut children: Vec<_> =
        (0..4).map(|_| child_process(&root, "crash once").spawn().unwrap()).collect();
    let mut said: Vec<_> = children.iter_mut().flat_map(listen).collect();
    said.sort();
    assert_eq!(said, ["made it", "was there", "was there", "was there"]);
    children.iter_mut().for_each(|child| assert!(child.wait().unwrap().success()));
}

#[test]
fn a_dead_holder_holds_nothing() {
    let (_folder, store) = store();
    let mut child = child_process(store.root(), "crash hold").spawn().unwrap();
    assert_eq!(listen(&mut child).next().as_deref(), Some("holding"));
    assert!(store.try_lock("work", Digest::of(b"work")).unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    drop(store.lock("work", Digest::of(b"work")).unwrap());
    let left = fs::read_dir(store.root().join("locks")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["gc"]);
}

/// Files no larger than a limit stand in for a full disk: `ENOSPC` takes the same way as `EFBIG`.
#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("home");
    drop(Store::open(&root).unwrap());
    let inner = child_process(&root, "crash fill");
    // The signal that comes with it is ignored, as sconce itself must (setrlimit(2)).
    let mut command = Command::new("sh");
    command.arg("-c").arg("trap '' XFSZ; ulimit -f 200; exec \"$0\" \"$@\"");
    command.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap());
    }
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(listen(&mut child).collect::<Vec<_>>(), ["no space"]);
    assert!(child.wait().unwrap().success());
    let store = Store::open(&root).unwrap();
    assert_eq!(check_everything(&store), 1, "the small blob alone");
    assert!(fs::read_dir(root.join("trees")).unwrap().next().is_none());
}

fn fill(store: &Store) -> Result<(), Error> {
    store.put_bytes(b"small")?;
    let meta = Meta { mode: 0o644, ..Meta::DIRECTORY };
    let tree = store.create_tree(Twice::Refuse)?;
    let mut file = tree.file("large", meta, 2 << 20)?;
    let written: Result<(), Error> = file
        .write_all(&noise(2 << 20, 1))
        .map_err(|error| Error::of_io("write", Path::new("large"), error));
    assert!(matches!(written, Err(Error::NoSpace { .. })), "{written:?}");
    drop(file);
    assert!(tree.finish(Digest::of(b"tree")).is_err());
    store.put_bytes(&noise(1 << 20, 1)).map(drop)
}

#[test]
fn after_a_power_cut_what_was_not_synced_is_checked() {
    let (_folder, store) = store();
    put_everything(&store, 1);
    put_everything(&store, 2);
    let root = store.root().to_owned();
    let good = Digest::of(&noise(400_000, 1));
    let torn = Digest::of(&noise(400_000, 2));
    let of_number =
        |number: u64| Digest::of(&[&number.to_le_bytes()[..], &noise(400_000, number)].concat());
    for (number, diff_id) in [(1, good), (2, torn)] {
        let media_type = "l".to_owned();
        store
            .put_layer(&Layer { diff_id, digest: of_number(number), size: 400_008, media_type })
            .unwrap();
    }
    drop(store);
    // As after a crash: another boot, and a file whose blocks never came to the disk.
    let marks = fs::read_dir(root.join("unsynced")).unwrap().next().unwrap().unwrap().path();
    fs::rename(&marks, root.join("unsynced/an-earlier-boot")).unwrap();
    let path = root.join("blobs/sha256").join(&torn.hex()[..2]).join(torn.hex());
    fs::remove_file(&path).unwrap();
    fs::write(&path, vec![0; 400_000]).unwrap();
    let assembled = of_number(2);
    let path = root.join("virtual").join(&assembled.hex()[..2]).join(assembled.hex());
    let length = fs::metadata(&path).unwrap().len();
    fs::write(&path, vec![0; length as usize]).unwrap();
    fs::write(root.join(format!("layers/{}.json", torn.hex())), "").unwrap();
    for record in fs::read_dir(root.join("images")).unwrap() {
        let record = record.unwrap().path();
        if fs::read_to_string(&record).unwrap().contains(&assembled.hex()) {
            fs::write(&record, "").unwrap();
        }
    }
    let store = Store::open(&root).unwrap();
    assert!(store.has_blob(good).unwrap() && !store.has_blob(torn).unwrap());
    assert!(store.has_blob(of_number(1)).unwrap() && !store.has_blob(assembled).unwrap());
    assert!(store.layer(good).unwrap().is_some() && store.layer(torn).unwrap().is_none());
    assert!(store.tree(good).unwrap().is_none() && store.tree(torn).unwrap().is_none());
    assert!(fs::read_dir(root.join("unsynced")).unwrap().next().is_none());
    // What has a name is known again from its manifest.
    assert_eq!(store.images().unwrap().len(), 2);
    // Settled, a later boot believes everything.
    put_everything(&store, 1);
    store.settle().unwrap();
    drop(store);
    let marks = fs::read_dir(root.join("unsynced")).unwrap().next().unwrap().unwrap().path();
    fs::rename(&marks, root.join("unsynced/an-earlier-boot")).unwrap();
    assert!(Store::open(&root).unwrap().tree(good).unwrap().is_some());
}
