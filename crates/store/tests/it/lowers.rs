//! Stores below the user's own.

use std::fs::{self, Permissions};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sconce_blob::Digest;
use sconce_store::{Error, LowerRoot, MACHINE_STORE, Options, Policy, Store, Which, lower_roots};

use crate::images::{put_image, put_image_of};
use crate::process::{NOBODY, child_of, need_root, open_folder, said};
use crate::sharing::with_mode;
use crate::{header, link, put_layer, store, tar};

const EVERYTHING: Policy = Policy { images: Which::All, keep_bytes: None, dry_run: false };

/// A store over others, and what it says.
fn over(root: &Path, lowers: &[&Path]) -> (Store, Arc<Mutex<Vec<String>>>) {
    let said = Arc::new(Mutex::new(Vec::new()));
    let words = said.clone();
    let lowers = lowers.iter().map(|root| LowerRoot { root: root.to_path_buf(), named: true });
    let options = Options {
        lowers: lowers.collect(),
        note: Some(Box::new(move |text| words.lock().unwrap().push(text.to_owned()))),
        remover: None,
        ..Options::default()
    };
    (Store::open_with(root, options).unwrap(), said)
}

/// All files of a store with their bytes' number and time, but for what opening it makes.
fn snapshot(root: &Path) -> Vec<(PathBuf, u64, i64)> {
    let mut all = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                folders.push(path.clone());
            }
            all.push((path, meta.len(), meta.mtime_nsec()));
        }
    }
    all.sort();
    all
}

#[test]
fn which_stores_are_read() {
    let roots = |value: Option<&str>| {
        let roots = lower_roots(|name| {
            assert_eq!(name, "SCONCE_STORES");
            value.map(Into::into)
        });
        roots.unwrap().into_iter().map(|lower| (lower.root, lower.named)).collect::<Vec<_>>()
    };
    let machine = (PathBuf::from(MACHINE_STORE), false);
    assert_eq!(roots(None), vec![machine.clone()]);
    assert_eq!(roots(Some("")), []);
    assert_eq!(roots(Some("/a::/b")), [("/a".into(), true), ("/b".into(), true), machine]);
}

#[test]
fn what_a_store_lacks_is_found_below_and_nothing_is_written_there() {
    let (folder, lower) = store();
    let image = put_image(&lower, &["a:1", "b:1"], 1);
    let layers = lower.image("a:1").unwrap().layers;
    for layer in &layers {
        lower.extract(layer.diff_id, &|_| {}).unwrap();
    }
    lower.put_memo("kind", image, b"remembered").unwrap();
    let lower_root = lower.root().to_owned();
    drop(lower);
    let before = snapshot(&lower_root);
    let (store, said) = over(&folder.path().join("own"), &[&lower_root]);
    let found = store.image("a:1").unwrap();
    assert_eq!((found.manifest, &found.store), (image, &lower_root));
    assert_eq!(store.image(&image.hex()[..10]).unwrap().names, ["a:1", "b:1"]);
    assert_eq!(store.images().unwrap().len(), 1);
    assert_eq!(store.memo("kind", image).unwrap().unwrap(), b"remembered");
    for layer in &layers {
        assert!(store.has_blob(layer.digest).unwrap());
        store.verify(layer.digest).unwrap();
        assert_eq!(store.layer(layer.diff_id).unwrap().as_ref(), Some(layer));
        // A private store's trees are as their layers say, so root takes them too.
        let tree = store.extract(layer.diff_id, &|_| {}).unwrap();
        assert!(tree.starts_with(&lower_root));
    }
    store
        .write_layout(&found, &[], &folder.path().join("layout"), &|_| ControlFlow::Continue(()))
        .unwrap();
    // A name here hides one below; another image shares what is below.
    let other = put_image(&store, &["b:1"], 2);
    assert_eq!(store.image("b:1").unwrap().manifest, other);
    assert_eq!(store.image("a:1").unwrap().names, ["a:1"]);
    assert!(!store.root().join("blobs/sha256").join(&layers[0].digest.hex()[..2]).exists());
    let lease = store.lease(image).unwrap();
    assert!(matches!(store.remove_image("a:1"), Err(Error::ReadOnly { .. })));
    // Two in one store is one row.
    assert_eq!(store.images().unwrap().len(), 2);
    store.prune(&EVERYTHING, &[]).unwrap();
    assert_eq!(store.images().unwrap().len(), 1);
    assert_eq!(snapshot(&lower_root), before);
    assert!(said.lock().unwrap().is_empty(), "{said:?}");
    // The lease keeps it from whoever may prune it.
    drop(store);
    let lower = Store::open(&lower_root).unwrap();
    assert_eq!(lower.prune(&EVERYTHING, &[]).unwrap().in_use, ["a:1, b:1"]);
    drop(lease);
    assert_eq!(lower.prune(&EVERYTHING, &[]).unwrap().images, ["a:1, b:1"]);
}

/// An app of one's own on an environment of the machine: its container runs on trees from below.
#[test]
fn a_lease_keeps_the_trees_that_it_uses_below() {
    let (folder, lower) = store();
    put_image(&lower, &["environment:1"], 1);
    let layers = lower.image("environment:1").unwrap().layers;
    let base = lower.extract(layers[0].diff_id, &|_| {}).unwrap();
    let lower_root = lower.root().to_owned();
    drop(lower);
    let (store, _) = over(&folder.path().join("own"), &[&lower_root]);
    // It shares its first layer with the one below.
    let own = put_image(&store, &["app:1"], 2);
    let image = store.image("app:1").unwrap();
    assert_eq!(store.extract(image.layers[0].diff_id, &|_| {}).unwrap(), base);
    store.extract(image.layers[1].diff_id, &|_| {}).unwrap();
    // Looked up it stays, and so it does for a container once the store is closed.
    let lower = Store::open(&lower_root).unwrap();
    assert_eq!(lower.prune(&EVERYTHING, &[]).unwrap().in_use, ["environment:1"]);
    let lease = store.lease(own).unwrap();
    drop(store);
    assert_eq!(lower.prune(&EVERYTHING, &[]).unwrap().in_use, ["environment:1"]);
    assert!(base.exists());
    drop(lease);
    assert_eq!(lower.prune(&EVERYTHING, &[]).unwrap().images, ["environment:1"]);
}

#[test]
fn a_lock_of_another_user_stops_nobody() {
    let (folder, lower) = store();
    let image = put_image(&lower, &["a:1"], 1);
    let record = lower.root().join("images").join(format!("{}.json", image.hex()));
    let hostile = fs::File::open(record).unwrap();
    rustix::fs::flock(&hostile, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let (store, said) = over(&folder.path().join("own"), &[lower.root()]);
    store.image("a:1").unwrap();
    drop(store.lease(image).unwrap());
    assert!(said.lock().unwrap()[0].contains("another user locks"), "{said:?}");
}

#[test]
fn a_pruned_store_below_is_said_and_mended_by_building_again() {
    let (folder, lower) = store();
    put_image(&lower, &["a:1"], 1);
    let root = folder.path().join("own");
    let (store, _) = over(&root, &[lower.root()]);
    let own = put_image(&store, &["own:1"], 2);
    drop(store);
    lower.prune(&EVERYTHING, &[]).unwrap();
    let (store, _) = over(&root, &[lower.root()]);
    let error = store.image("own:1").unwrap_err();
    assert!(matches!(error, Error::Incomplete { .. }), "{error}");
    assert!(error.hint().unwrap().contains(&format!("sconce rmi {}", own.short())));
    assert_eq!(store.remove_image(&own.short()).unwrap().image, Some(own));
    put_image(&store, &["own:1"], 2);
    store.image("own:1").unwrap();
}

#[test]
fn what_others_could_write_is_believed_only_as_far_as_digests_go() {
    need_root();
    let folder = open_folder();
    let theirs = folder.path().join("theirs");
    let lower = Store::open(&theirs).unwrap();
    let image = put_image(&lower, &["a:1"], 1);
    let layers = lower.image("a:1").unwrap().layers;
    for layer in &layers {
        lower.extract(layer.diff_id, &|_| {}).unwrap();
    }
    lower.put_memo("kind", image, b"a lie").unwrap();
    drop(lower);
    give(&theirs);
    let root = folder.path().join("own");
    let (store, words) = over(&root, &[&theirs]);
    assert!(words.lock().unwrap()[0].contains("can write to the store"), "{words:?}");
    assert_eq!(store.image("a:1").unwrap().layers, layers);
    // A name that would write to the terminal is none.
    fs::write(theirs.join("refs/x%1B[2J"), image.to_string()).unwrap();
    assert_eq!(store.images().unwrap()[0].names, ["a:1"]);
    // Nor one that says a digest and has another's image.
    let lie = format!("localhost:5000/a@{}", Digest::of(b"another"));
    let true_one = format!("localhost:5000/a@{image}");
    for name in [&lie, &true_one] {
        let file = name.replace('/', "%2F").replace('.', "%2E");
        fs::write(theirs.join("refs").join(file), image.to_string()).unwrap();
    }
    assert_eq!(store.image(&true_one).unwrap().manifest, image);
    assert!(matches!(store.image(&lie), Err(Error::NoImage { .. })));
    assert!(!store.names().unwrap().contains_key(&lie));
    fs::remove_file(theirs.join("refs").join(true_one.replace('/', "%2F"))).unwrap();
    assert_eq!(store.memo("kind", image).unwrap(), None);
    // Neither a tree nor a file as it stands there: it could be changed at any time.
    assert!(layers.iter().all(|layer| store.tree(layer.diff_id).unwrap().is_none()));
    assert!(layers.iter().all(|layer| store.blob_path(layer.digest).unwrap().is_none()));
    for layer in &layers {
        assert!(store.extract(layer.diff_id, &|_| {}).unwrap().starts_with(&root));
    }
    let lease = store.lease(image).unwrap();
    // What is here of it stays as long as it is used, and as long as it has a name below.
    store.prune(&Policy { images: Which::Unnamed, ..EVERYTHING }, &[]).unwrap();
    let pruned = store.prune(&EVERYTHING, &[]).unwrap();
    assert_eq!(pruned.in_use, ["a:1 (its parts in this store)"]);
    assert!(layers.iter().all(|layer| store.tree(layer.diff_id).unwrap().is_some()));
    drop(lease);
    drop(store);
    fs::remove_dir_all(&root).unwrap();
    // A changed blob; a record that tells of other layers than the manifest; a pipe to wait at.
    let (store, _) = over(&root, &[&theirs]);
    let path = theirs.join("blobs/sha256").join(&layers[0].digest.hex()[..2]);
    let path = path.join(layers[0].digest.hex());
    let mut bytes = fs::read(&path).unwrap();
    bytes[600] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(store.extract(layers[0].diff_id, &|_| {}), Err(Error::WrongDigest { .. })));
    let record = theirs.join("images").join(format!("{}.json", image.hex()));
    let text = fs::read_to_string(&record).unwrap();
    let other = Digest::of(b"other");
    fs::write(&record, text.replace(&layers[1].diff_id.to_string(), &other.to_string())).unwrap();
    assert_eq!(store.image("a:1").unwrap().layers, layers);
    fs::remove_file(&record).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &record,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    assert!(store.images().unwrap().is_empty());
}

fn give(tree: &Path) {
    let status = std::process::Command::new("chown").args(["-R", "65534:65534"]).arg(tree).status();
    assert!(status.unwrap().success());
}

#[test]
fn a_store_of_the_machine_is_read_by_all_and_believed_if_only_root_can_write_it() {
    need_root();
    let folder = open_folder();
    let (machine, root) = (folder.path().join("machine"), folder.path().join("home"));
    fs::create_dir(&machine).unwrap();
    fs::set_permissions(&machine, Permissions::from_mode(0o2755)).unwrap();
    fs::create_dir(&root).unwrap();
    std::os::unix::fs::chown(&root, Some(NOBODY.uid), Some(NOBODY.gid)).unwrap();
    let store = Store::open(&machine).unwrap();
    put_image(&store, &["a:1"], 1);
    let layers = store.image("a:1").unwrap().layers;
    let tree = store.extract(layers[0].diff_id, &|_| {}).unwrap();
    drop(store);
    let extract = |unnamed: bool| {
        let work = format!("extract {}", layers[0].diff_id);
        let mut command = child_of(NOBODY, "022", folder.path(), &root, &work);
        command.env("STORE_LOWERS", &machine);
        if unnamed {
            command.env("STORE_UNNAMED", "1");
        }
        said(command)
    };
    for unnamed in [false, true] {
        assert_eq!(extract(unnamed), [tree.display().to_string()]);
    }
    // Root can have the tree as the layer says, so it makes one.
    let (above, _) = over(&folder.path().join("root's"), &[&machine]);
    assert!(above.extract(layers[0].diff_id, &|_| {}).unwrap().starts_with(above.root()));
    drop(above);
    // Not believed when others can write to it or a part of it; taken only where it was named.
    for (path, mode) in [("", 0o2777), ("", 0o2775), ("trees", 0o2777)] {
        let path = machine.join(path);
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let words = extract(true);
        assert!(words[0].contains("skipping the store"), "{words:?}");
        assert!(words[1].contains("no layer"), "{words:?}");
        let words = extract(false);
        assert!(words[0].contains("can write to the store"), "{words:?}");
        assert!(words[1].starts_with(&root.display().to_string()), "{words:?}");
        fs::set_permissions(&path, Permissions::from_mode(0o2755)).unwrap();
        fs::remove_dir_all(&root).unwrap();
        fs::create_dir(&root).unwrap();
        std::os::unix::fs::chown(&root, Some(NOBODY.uid), Some(NOBODY.gid)).unwrap();
    }
    // What the machine had not on its disk when it lost power is not taken for whole.
    let marker = machine.join("unsynced/an-earlier-boot");
    fs::create_dir(&marker).unwrap();
    fs::write(marker.join(format!("tree-{}", layers[0].diff_id.hex())), "").unwrap();
    assert!(extract(true)[0].starts_with(&root.display().to_string()));
}

/// The kernel lets nobody change a folder of a user whom the namespace doesn't have, so the folders
/// of the image come from the caller.
#[test]
fn trees_of_another_user_are_mounted_below_folders_of_ones_own() {
    need_root();
    let folder = open_folder();
    let (machine, root) = (folder.path().join("machine"), folder.path().join("home"));
    fs::create_dir(&machine).unwrap();
    fs::set_permissions(&machine, Permissions::from_mode(0o2755)).unwrap();
    fs::create_dir(&root).unwrap();
    std::os::unix::fs::chown(&root, Some(NOBODY.uid), Some(NOBODY.gid)).unwrap();
    let dir = |name: &str, mode| (with_mode(header(b'5', name, 0), mode), &b""[..]);
    let file = |name: &str| (header(b'0', name, 0), &b""[..]);
    let base = tar(&[
        dir("tmp/", 0o1777),
        dir("root/", 0o700),
        dir("closed/in/", 0o000),
        dir("gone/below/", 0o755),
        dir("replaced/below/", 0o755),
        dir("link/", 0o755),
        dir("opaque/old/", 0o755),
        dir("kept/old/", 0o755),
        file("kept/old/file"),
    ]);
    let upper = tar(&[
        file(".wh.gone"),
        file("replaced"),
        (link(b'2', "link", "/etc"), b""),
        file("opaque/.wh..wh..opq"),
        dir("opaque/new/", 0o2750),
        dir("kept/new/", 0o755),
    ]);
    let store = Store::open(&machine).unwrap();
    let ids = [put_layer(&store, &base), put_layer(&store, &upper)];
    let image = put_image_of(&store, "a:1", &ids);
    let trees = ids.map(|id| store.extract(id, &|_| {}).unwrap());
    let roots = store.mount_layers(&store.image("a:1").unwrap()).unwrap();
    assert_eq!(roots, [trees[1].clone(), trees[0].clone()]);
    drop(store);
    let mount = || {
        let mut command = child_of(NOBODY, "077", folder.path(), &root, "sharing mount a:1");
        command.env("STORE_LOWERS", &machine);
        said(command)
    };
    let mounted = mount();
    assert_eq!(mounted[1..], [&trees[1], &trees[0]].map(|tree| tree.display().to_string()));
    let top = PathBuf::from(&mounted[0]);
    assert!(top.starts_with(root.join("trees")), "{mounted:?}");
    let mut found: Vec<(String, u32)> = Vec::new();
    for (path, ..) in snapshot(&top) {
        let meta = fs::symlink_metadata(&path).unwrap();
        assert!(meta.is_dir() && meta.uid() == NOBODY.uid, "{}", path.display());
        let name = path.strip_prefix(&top).unwrap().to_str().unwrap().to_owned();
        found.push((name, meta.mode() & 0o7777));
    }
    let wanted = [
        ("closed", 0o755),
        ("closed/in", 0o000),
        ("kept", 0o755),
        ("kept/new", 0o755),
        ("kept/old", 0o755),
        ("opaque", 0o755),
        ("opaque/new", 0o750),
        ("root", 0o700),
        ("tmp", 0o1777),
    ];
    assert_eq!(found, wanted.map(|(name, mode)| (name.to_owned(), mode)));
    // Made once, kept as long as the image has a name below, gone with what is here of it.
    assert_eq!(mount(), mounted);
    let prune = |images| {
        let work = format!("sharing prune-{images}");
        let mut command = child_of(NOBODY, "077", folder.path(), &root, &work);
        command.env("STORE_LOWERS", &machine);
        said(command)
    };
    assert_eq!(prune("unnamed"), ["pruned 0"]);
    assert_eq!(prune("all"), ["pruned 1"]);
    assert!(!top.exists() && machine.join("images").join(format!("{}.json", image.hex())).exists());
}
