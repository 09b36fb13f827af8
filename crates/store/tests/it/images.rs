//! Images: put, named, listed, written out and taken in.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use sconce_blob::{Assembly, Digest};
use sconce_store::{Error, Layer, Store};

use crate::{header, noise, store, tar};

/// An image of one real and one virtual layer. Images of different seeds share the real one.
pub fn put_image(store: &Store, names: &[&str], seed: u64) -> Digest {
    let base = tar(&[(header(b'0', "base", 1000), &noise(1000, 77))]);
    let part = store.put_bytes(&noise(5000, seed)).unwrap();
    let content = header(b'0', "part", 5000);
    let mut assembly = Assembly::default();
    assembly.literal(content.as_bytes());
    assembly.blob(part, 0, 5000);
    assembly.literal(&[0; 120 + 1024]);
    let upper = tar(&[(content, &noise(5000, seed))]);
    store.put_virtual(Digest::of(&upper), &assembly).unwrap();
    store.put_bytes(&base).unwrap();
    let kind = "application/vnd.oci.image.layer.v1.tar";
    let ids: Vec<_> = [&base, &upper].map(|tar| Digest::of(tar).to_string()).to_vec();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "created": "1970-01-01T00:00:00Z",
        "config": {"Labels": {"seed": seed.to_string()}},
        "rootfs": {"type": "layers", "diff_ids": ids},
    })
    .to_string();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                   "digest": Digest::of(config.as_bytes()).to_string(), "size": config.len()},
        "layers": [
            {"mediaType": kind, "digest": ids[0], "size": base.len()},
            {"mediaType": kind, "digest": ids[1], "size": upper.len()},
        ],
    })
    .to_string();
    store.put_image(names, manifest.as_bytes(), config.as_bytes()).unwrap()
}

/// An image of layers that are in the store, uncompressed.
pub fn put_image_of(store: &Store, name: &str, layers: &[Digest]) -> Digest {
    let ids: Vec<_> = layers.iter().map(Digest::to_string).collect();
    let config = serde_json::json!({"rootfs": {"type": "layers", "diff_ids": ids}}).to_string();
    let layers: Vec<_> = layers
        .iter()
        .map(|id| {
            let size = store.open_blob(*id).unwrap().len();
            let media_type = "application/vnd.oci.image.layer.v1.tar";
            serde_json::json!({"mediaType": media_type, "digest": id.to_string(), "size": size})
        })
        .collect();
    let config_digest = Digest::of(config.as_bytes()).to_string();
    let manifest = serde_json::json!({
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()},
        "layers": layers,
    })
    .to_string();
    store.put_image(&[name], manifest.as_bytes(), config.as_bytes()).unwrap()
}

#[test]
fn an_image_of_trees_can_be_mounted_and_goes_nowhere() {
    let (folder, store) = store();
    let tar = tar(&[(header(b'0', "base", 1000), &noise(1000, 77))]);
    let id = crate::put_layer(&store, &tar);
    store.extract(id, &|_| ()).unwrap();
    store.remove_blob(id).unwrap();
    store.remove_blob(id).unwrap();
    assert!(!store.has_blob(id).unwrap());
    let config =
        serde_json::json!({"rootfs": {"type": "layers", "diff_ids": [id.to_string()]}}).to_string();
    let digest = Digest::of(config.as_bytes()).to_string();
    let media_type = "application/vnd.oci.image.layer.v1.tar";
    let manifest = serde_json::json!({
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": config.len()},
        "layers": [{"mediaType": media_type, "digest": id.to_string(), "size": tar.len()}],
    })
    .to_string();
    let documents = (manifest.as_bytes(), config.as_bytes());
    assert!(matches!(store.put_image(&[], documents.0, documents.1), Err(Error::MissingBlob(_))));
    let image = store.put_image_of_trees(documents.0, documents.1).unwrap();
    let found = store.image(&image.hex()).unwrap();
    assert_eq!(store.mount_layers(&found).unwrap().len(), 1);
    let out = folder.path().join("out");
    assert!(store.write_layout(&found, &[], &out, &|_| ControlFlow::Continue(())).is_err());
    // What lost its tree is not there.
    fs::remove_dir_all(store.tree(id).unwrap().unwrap()).unwrap();
    assert!(matches!(store.image(&image.hex()), Err(Error::Incomplete { .. })));
    let again = store.put_image_of_trees(documents.0, documents.1);
    assert!(matches!(again, Err(Error::MissingBlob(_))), "{again:?}");
}

#[test]
fn images_are_found_by_name_and_digest() {
    let (_folder, store) = store();
    let first = put_image(&store, &["torch:2.15.0", "localhost:5000/a/b:c"], 1);
    let second = put_image(&store, &["torch:2.9.1"], 2);
    assert_eq!(store.image("torch:2.15.0").unwrap().manifest, first);
    assert_eq!(store.image("localhost:5000/a/b:c").unwrap().manifest, first);
    assert_eq!(store.image(&second.to_string()).unwrap().manifest, second);
    assert_eq!(store.image(&second.hex()[..8]).unwrap().names, ["torch:2.9.1"]);
    assert_eq!(store.images().unwrap()[0].manifest, second);
    assert_eq!(store.image("torch:2.9.1").unwrap().labels["seed"], "2");
    match store.image("torch:2.15").unwrap_err() {
        Error::NoImage { nearest, .. } => assert_eq!(nearest.as_deref(), Some("torch:2.15.0")),
        error => panic!("{error}"),
    }
    for bad in ["", "a b", "x\n", "../../etc/passwd\0"] {
        assert!(matches!(store.put_name(bad, first), Err(Error::BadName { .. })), "{bad:?}");
    }
    store.put_name("../x", first).unwrap();
    assert_eq!(store.image("../x").unwrap().manifest, first);
    assert!(!store.root().join("x").exists());
    // A name moves; the image it had stays until it is pruned.
    store.put_name("torch:2.9.1", first).unwrap();
    assert_eq!(store.image("torch:2.9.1").unwrap().manifest, first);
    assert!(store.image(&second.hex()).unwrap().names.is_empty());
    assert!(store.remove_name("../x").unwrap() && !store.remove_name("../x").unwrap());
}

#[test]
fn an_image_needs_its_layers() {
    let (_folder, store) = store();
    let config = br#"{"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let manifest = |config: &[u8], layers: &str| {
        format!(
            r#"{{"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{layers}]}}"#,
            Digest::of(config),
            config.len()
        )
    };
    let layer = format!(
        r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":1}}"#,
        Digest::of(b"no")
    );
    for (text, why) in [
        (manifest(config, &layer), "1 layers"),
        (manifest(b"{}", ""), "names the config"),
        ("{".to_owned(), "EOF"),
    ] {
        let error = store.put_image(&[], text.as_bytes(), config).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let config =
        format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#, Digest::of(b"no"));
    let text = manifest(config.as_bytes(), &layer);
    let put = store.put_image(&[], text.as_bytes(), config.as_bytes());
    assert!(matches!(put, Err(Error::MissingBlob(_))));
    assert!(store.images().unwrap().is_empty());
}

fn files_below(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                files.push((name, fs::read(path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_layout_goes_out_and_in() {
    let (folder, ours) = store();
    let digest = put_image(&ours, &["a:1"], 1);
    let image = ours.image("a:1").unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    ours.write_layout(&image, &["a:1".into()], &one, &|_| ControlFlow::Continue(())).unwrap();
    ours.write_layout(&image, &["a:1".into()], &two, &|_| ControlFlow::Continue(())).unwrap();
    let files = files_below(&one);
    assert_eq!(files, files_below(&two));
    for (name, bytes) in &files {
        if let Some(hex) = name.strip_prefix("blobs/sha256/") {
            assert_eq!(Digest::of(bytes).hex(), hex);
        }
    }
    let again = ours.write_layout(&image, &[], &one, &|_| ControlFlow::Continue(()));
    assert!(matches!(again, Err(Error::Exists(_))));
    let (_folder, theirs) = store();
    assert_eq!(theirs.read_layout(&one, Some("1"), "amd64", &["b:2"]).unwrap(), digest);
    let taken = theirs.image("b:2").unwrap();
    assert_eq!(taken.layers, image.layers);
    for layer in &taken.layers {
        theirs.extract(layer.diff_id, &|_| {}).unwrap();
    }
    assert!(theirs.read_layout(&one, Some("2"), "amd64", &[]).is_err());
    assert!(theirs.read_layout(&one, None, "arm64", &[]).is_err());
    // Changed bytes, and a link to what isn't the layout's.
    let (_folder, third) = store();
    let blob = one.join("blobs/sha256").join(image.layers[1].digest.hex());
    let mut bytes = fs::read(&blob).unwrap();
    bytes[100] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    let result = third.read_layout(&one, None, "amd64", &[]);
    assert!(matches!(result, Err(Error::WrongDigest { .. })), "{result:?}");
    fs::remove_file(&blob).unwrap();
    std::os::unix::fs::symlink(two.join("blobs/sha256").join(image.layers[1].digest.hex()), &blob)
        .unwrap();
    assert!(matches!(third.read_layout(&one, None, "amd64", &[]), Err(Error::Corrupt { .. })));
    assert!(third.images().unwrap().is_empty());
}

/// Whoever can write beside the place exchanges what is being written for a link as soon as it is there.
#[test]
fn what_goes_out_follows_no_link() {
    let (folder, ours) = store();
    put_image(&ours, &["a:1"], 1);
    let image = ours.image("a:1").unwrap();
    for exchanged in ["", "blobs", "blobs/sha256"] {
        let world = folder.path().join(format!("world-{}", exchanged.len()));
        let outside = world.join("outside");
        fs::create_dir_all(outside.join("sha256")).unwrap();
        let partial = world.join(format!(".layout.partial-{}", std::process::id()));
        let first = std::sync::Once::new();
        let result = ours.write_layout(&image, &[], &world.join("layout"), &|_| {
            first.call_once(|| {
                let victim = match exchanged {
                    "" => partial.clone(),
                    below => partial.join(below),
                };
                fs::rename(&victim, world.join("moved")).unwrap();
                std::os::unix::fs::symlink(&outside, &victim).unwrap();
            });
            ControlFlow::Continue(())
        });
        assert!(first.is_completed(), "nothing was exchanged");
        assert_eq!(files_below(&outside), [], "{exchanged}: {result:?}");
        if exchanged.is_empty() {
            assert!(matches!(result, Err(Error::Exchanged(_))), "{result:?}");
        }
    }
    // The folder above: what is written is not where it was asked for.
    let world = folder.path().join("above");
    fs::create_dir_all(world.join("folder")).unwrap();
    fs::create_dir(world.join("outside")).unwrap();
    let first = std::sync::Once::new();
    let result = ours.write_layout(&image, &[], &world.join("folder/layout"), &|_| {
        first.call_once(|| {
            fs::rename(world.join("folder"), world.join("moved")).unwrap();
            std::os::unix::fs::symlink("outside", world.join("folder")).unwrap();
        });
        ControlFlow::Continue(())
    });
    assert!(result.is_err(), "{result:?}");
    assert_eq!(files_below(&world.join("outside")), []);
    // And before it begins.
    let result = ours
        .write_layout(&image, &[], &world.join("folder/layout"), &|_| ControlFlow::Continue(()));
    assert!(result.is_err(), "{result:?}");
    assert_eq!(files_below(&world.join("outside")), []);
    let archive = folder.path().join("image.tar");
    let partial = folder.path().join(format!(".image.tar.partial-{}", std::process::id()));
    let first = std::sync::Once::new();
    let result = ours.write_docker_archive(&image, &[], &archive, &|_| {
        first.call_once(|| {
            fs::rename(&partial, folder.path().join("moved.tar")).unwrap();
            std::os::unix::fs::symlink("/nowhere", &partial).unwrap();
        });
        ControlFlow::Continue(())
    });
    assert!(matches!(result, Err(Error::Exchanged(_))), "{result:?}");
}

/// Whoever can write to a store may put a file of any size in place of a blob: it is not copied, as it would fill the disk.
#[test]
fn a_blob_of_another_size_goes_nowhere() {
    let (folder, ours) = store();
    put_image(&ours, &["a:1"], 1);
    let image = ours.image("a:1").unwrap();
    let hex = image.layers[0].digest.hex();
    let blob = folder.path().join("home/blobs/sha256").join(&hex[..2]).join(hex);
    fs::remove_file(&blob).unwrap();
    fs::File::create(&blob).unwrap().set_len(1 << 40).unwrap();
    let copied = std::sync::atomic::AtomicU64::new(0);
    let count = |bytes| {
        copied.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        ControlFlow::Continue(())
    };
    let (layout, archive) = (folder.path().join("layout"), folder.path().join("a.tar"));
    let names = ["a:1".to_owned()];
    for result in [
        ours.write_layout(&image, &names, &layout, &count),
        ours.write_docker_archive(&image, &names, &archive, &count),
        ours.send_docker_archive(&image, &names, &mut std::io::sink(), &count),
    ] {
        let error = result.unwrap_err();
        assert!(error.to_string().contains("1099511627776 bytes"), "{error}");
    }
    assert!(copied.into_inner() < 1 << 20 && !layout.exists() && !archive.exists());
}

#[test]
fn an_archive_goes_out_and_in() {
    let (folder, ours) = store();
    let digest = put_image(&ours, &["a:1"], 1);
    let image = ours.image("a:1").unwrap();
    let (one, two) = (folder.path().join("one.tar"), folder.path().join("two.tar"));
    for to in [&one, &two] {
        ours.write_docker_archive(&image, &["a:1".into()], to, &|_| ControlFlow::Continue(()))
            .unwrap();
    }
    let bytes = fs::read(&one).unwrap();
    assert!(bytes == fs::read(&two).unwrap());
    // tar(1) reads it, and manifest.json names what is there.
    let unpacked = folder.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let mut tar = std::process::Command::new("tar");
    tar.arg("-xf").arg(&one).arg("-C").arg(&unpacked);
    assert!(tar.status().unwrap().success());
    let saved: serde_json::Value =
        serde_json::from_slice(&fs::read(unpacked.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(saved[0]["RepoTags"][0], "a:1");
    for (name, digest) in saved[0]["Layers"]
        .as_array()
        .unwrap()
        .iter()
        .zip(image.layers.iter().map(|layer| layer.digest))
    {
        let bytes = fs::read(unpacked.join(name.as_str().unwrap())).unwrap();
        assert_eq!(Digest::of(&bytes), digest);
    }
    let (_folder, theirs) = store();
    assert_eq!(theirs.read_archive(&one, None, "amd64", &[]).unwrap(), digest);
    for len in [0, 100, 513, 2000, bytes.len() - 3000] {
        let (_folder, third) = store();
        fs::write(&two, &bytes[..len]).unwrap();
        assert!(third.read_archive(&two, None, "amd64", &[]).is_err(), "cut at {len}");
        assert!(third.images().unwrap().is_empty());
    }
}

#[test]
fn a_layer_whose_blob_is_gone_is_unknown() {
    let (_folder, store) = store();
    put_image(&store, &["a:1"], 1);
    let layer: Layer = store.image("a:1").unwrap().layers[0].clone();
    fs::remove_file(store.blob_path(layer.digest).unwrap().unwrap()).unwrap();
    assert_eq!(store.layer(layer.diff_id).unwrap(), None);
    assert!(matches!(store.extract(layer.diff_id, &|_| {}), Err(Error::MissingLayer(_))));
}

/// What Docker before 25, podman and skopeo save: `manifest.json` with plain tars, a layer that two
/// images share as a link.
#[test]
fn archives_of_the_older_form() {
    let (folder, store) = store();
    let base = tar(&[(header(b'0', "base", 1000), &noise(1000, 77))]);
    let digest = Digest::of(&base);
    let config = |diff_id: &Digest| {
        serde_json::json!({"architecture": "amd64", "os": "linux", "config": null,
            "rootfs": {"type": "layers", "diff_ids": [diff_id.to_string(), diff_id.to_string()]}})
        .to_string()
    };
    let (good, lie) = (config(&digest), config(&Digest::of(b"x")));
    let image = |config: &str, tag: &str| serde_json::json!({"Config": config, "RepoTags": [tag], "Layers": ["a/layer.tar", "b/layer.tar"]});
    let manifest = serde_json::json!([
        image("good.json", "app:1"),
        image("lie.json", "app:2"),
        {"Config": "good.json", "RepoTags": null, "Layers": ["a/layer.tar"]},
    ])
    .to_string();
    let entry = |name: &str, bytes: &[u8]| (header(b'0', name, bytes.len()), bytes.to_vec());
    let files = [
        entry("a/layer.tar", &base),
        (crate::link(b'2', "b/layer.tar", "../a/layer.tar"), Vec::new()),
        entry("good.json", good.as_bytes()),
        entry("lie.json", lie.as_bytes()),
        entry("manifest.json", manifest.as_bytes()),
    ];
    let files: Vec<_> = files.iter().map(|(header, bytes)| (header.clone(), &bytes[..])).collect();
    let path = folder.path().join("saved.tar");
    fs::write(&path, tar(&files)).unwrap();
    let read = |tag: Option<&str>, architecture: &str| {
        store.read_archive(&path, tag, architecture, &["taken"])
    };
    let refused = |tag, architecture| read(tag, architecture).unwrap_err().to_string();
    assert!(refused(None, "amd64").contains("several images"));
    assert!(refused(Some("3"), "amd64").contains("no image of the name or tag `3`"));
    assert!(refused(Some("1"), "arm64").contains("for amd64, not arm64"));
    assert!(refused(Some("app:2"), "amd64").contains("uncompressed"));
    assert!(store.images().unwrap().is_empty());
    let digest_of = read(Some("app:1"), "amd64").unwrap();
    let image = store.image("taken").unwrap();
    assert_eq!((image.manifest, image.layers.len()), (digest_of, 2));
    assert!(store.tree(digest).unwrap().unwrap().join("base").exists());
}
