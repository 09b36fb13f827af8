//! Pulls from a registry on the loopback interface that lies, breaks off and floods: what comes of
//! each, and that nothing wrong is in the store afterwards.

use std::fs;
use std::io::Write;
use std::time::Duration;

use sconce_blob::Digest;
use sconce_build::Silent;
use sconce_fetch::http::Options;
use sconce_registry::{Access, Logins, Reference};
use sconce_store::Store;
use sconce_testkit::{Fault, Server};
use sconce_transfer::{Error, Pulled, SigningPolicy, Transfer};

const MANIFEST: &str = "/v2/team/app/manifests/1";

/// Bytes that don't compress, so that cuts are where they should be.
fn noise(len: usize, mut seed: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        out.extend_from_slice(&seed.to_le_bytes());
    }
    out.truncate(len);
    out
}

fn entry(kind: u8, name: &str, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn ended(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// A layer of one large file.
fn large() -> Vec<u8> {
    ended(&[entry(b'0', "large", "", &noise(3_000_000, 7))])
}

struct World {
    folder: tempfile::TempDir,
    server: Server,
}

/// What an image says of a layer.
struct Said {
    blob: Vec<u8>,
    diff_id: Digest,
    size: usize,
}

impl Said {
    fn truly(blob: Vec<u8>, tar: &[u8]) -> Self {
        Self { size: blob.len(), diff_id: Digest::of(tar), blob }
    }
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), server: Server::start() }
    }

    /// One with an image of these layers.
    fn of(layers: &[Said]) -> Self {
        let world = Self::new();
        world.put(layers);
        world
    }

    fn put(&self, layers: &[Said]) {
        let diff_ids: Vec<_> = layers.iter().map(|said| format!("\"{}\"", said.diff_id)).collect();
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":null,"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            diff_ids.join(",")
        );
        let blob = |bytes: &[u8], size: usize| {
            let digest = Digest::of(bytes);
            self.server.put(&format!("/v2/team/app/blobs/{digest}"), bytes);
            format!(r#"{{"mediaType":"","digest":"{digest}","size":{size}}}"#)
        };
        let rows: Vec<_> = layers.iter().map(|said| blob(&said.blob, said.size)).collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/nonsense","config":{},"layers":[{}]}}"#,
            blob(config.as_bytes(), config.len()),
            rows.join(",")
        );
        self.server.put(MANIFEST, manifest);
    }

    fn store(&self) -> Store {
        Store::open(self.folder.path().join("store")).unwrap()
    }

    fn pull_into(&self, store: &Store) -> Result<Pulled, Error> {
        let options = Options {
            backoff: Duration::from_millis(1),
            stall: Duration::from_millis(500),
            tries: 3,
            ..Options::default()
        };
        let access = Access::new(options, Logins::default());
        let policy = SigningPolicy::default();
        let transfer =
            Transfer { store, access: &access, progress: &Silent, policy: &policy, threads: 4 };
        let host = self.server.url("").replace("http://", "");
        let reference = Reference::parse(&format!("{host}/team/app:1")).unwrap();
        transfer.pull(&reference, "amd64", &["app"])
    }

    fn pull(&self) -> Result<Pulled, Error> {
        self.pull_into(&self.store())
    }

    fn blob(&self, said: &Said) -> String {
        format!("/v2/team/app/blobs/{}", Digest::of(&said.blob))
    }

    fn ranges(&self, path: &str) -> Vec<String> {
        let asked = self.server.requests_for(path);
        asked.iter().map(|one| one.header("range").unwrap_or("all").to_owned()).collect()
    }
}

#[test]
fn any_compression_is_unpacked_while_it_comes() {
    let tars = [
        ended(&[entry(b'0', "gzip", "", b"1")]),
        ended(&[entry(b'0', "zstd", "", b"2")]),
        ended(&[entry(b'0', "plain", "", b"3")]),
    ];
    let zstd = ruzstd::encoding::compress_to_vec(
        &tars[1][..],
        ruzstd::encoding::CompressionLevel::Fastest,
    );
    let world = World::of(&[
        Said::truly(gzip(&tars[0]), &tars[0]),
        Said::truly(zstd, &tars[1]),
        Said::truly(tars[2].clone(), &tars[2]),
    ]);
    let pulled = world.pull().unwrap();
    let store = world.store();
    let image = store.image("app").unwrap();
    assert_eq!((image.manifest, image.layers.len()), (pulled.image, 3));
    for (layer, name) in image.layers.iter().zip(["gzip", "zstd", "plain"]) {
        assert!(store.tree(layer.diff_id).unwrap().unwrap().join(name).exists(), "{name}");
        store.verify(layer.digest).unwrap();
    }
    let before = world.server.requests().len();
    let again = world.pull().unwrap();
    assert_eq!(again.here, image.layers.iter().map(|layer| layer.size).sum::<u64>());
    // The manifest and the configuration alone.
    assert_eq!(world.server.requests().len() - before, 2);
}

/// What goes wrong on the way, and passes: the image is there in the end.
#[test]
fn what_passes_is_outlived() {
    let said = || Said::truly(large(), &large());
    for faults in [
        vec![Fault::CutAfter(1_000_000), Fault::CutAfter(900_000)],
        vec![Fault::Status(429, Some(0)), Fault::Status(503, None)],
        vec![Fault::Status(500, None), Fault::HangUp],
        vec![Fault::StallAfter(2_000_000)],
        vec![Fault::CutAfter(10), Fault::IgnoreRange],
        vec![Fault::LengthTooLarge(7), Fault::Raw(b"no HTTP".to_vec())],
    ] {
        let world = World::of(&[said()]);
        for fault in &faults {
            world.server.once(&world.blob(&said()), fault.clone());
        }
        if faults.contains(&Fault::Raw(b"no HTTP".to_vec())) {
            // Not a passing fault: it says that this is not a registry.
            assert!(world.pull().is_ok() || world.pull().is_ok(), "{faults:?}");
            continue;
        }
        world.pull().unwrap_or_else(|error| panic!("{faults:?}: {error}"));
    }
    // Cut after so many bytes for ever: each connection brings it further.
    let world = World::of(&[said()]);
    world.server.always(&world.blob(&said()), Fault::CutAfter(1_100_000));
    world.pull().unwrap();
}

#[test]
fn a_later_run_goes_on_where_the_first_was_cut_off() {
    let said = Said::truly(large(), &large());
    let world = World::of(std::slice::from_ref(&said));
    let path = world.blob(&said);
    world.server.once(&path, Fault::CutAfter(1_500_000));
    world.server.once(&path, Fault::Status(404, None));
    let error = world.pull().unwrap_err();
    assert!(matches!(error, Error::Registry(sconce_registry::Error::NotFound { .. })), "{error}");
    assert!(world.store().image("app").is_err());
    let pulled = world.pull().unwrap();
    assert_eq!(world.ranges(&path), ["all", "bytes=1500000-", "bytes=1500000-"]);
    assert!(pulled.moved < 1_600_000, "{}", pulled.moved);

    // What was left is damaged (a power cut): it is thrown away, and all of it comes again.
    let world = World::of(std::slice::from_ref(&said));
    world.server.once(&path, Fault::CutAfter(1_500_000));
    world.server.once(&path, Fault::Status(404, None));
    assert!(world.pull().is_err());
    let partial = world.store().partial_path(Digest::of(&said.blob));
    let mut bytes = fs::read(&partial).unwrap();
    bytes[1_000_000] ^= 1;
    fs::write(&partial, bytes).unwrap();
    world.pull().unwrap();
    assert_eq!(world.ranges(&path).last().unwrap(), "all");
    // And one that is longer than the layer.
    let world = World::of(std::slice::from_ref(&said));
    fs::write(world.store().partial_path(Digest::of(&said.blob)), noise(4_000_000, 3)).unwrap();
    world.pull().unwrap();
}

/// A row for each lie: what the error says, and that the store has no such image afterwards.
#[test]
fn lies_are_found() {
    let honest = || Said::truly(large(), &large());
    let path = World::new().blob(&honest());
    type Lie<'a> = (&'a str, Box<dyn Fn() -> World + 'a>, &'a str);
    let lies: Vec<Lie<'_>> = vec![
        (
            "other bytes",
            Box::new(|| {
                let world = World::of(&[honest()]);
                let mut other = large();
                other[2_000_000] ^= 1;
                world.server.always(&path, Fault::Other(other));
                world
            }),
            "but sha256:",
        ),
        (
            "other bytes that are no tar",
            Box::new(|| {
                let world = World::of(&[honest()]);
                world.server.always(&path, Fault::Other(noise(large().len(), 9)));
                world
            }),
            "but sha256:",
        ),
        (
            "a DiffID that is another's",
            Box::new(|| World::of(&[Said { diff_id: Digest::of(b"x"), ..honest() }])),
            "uncompressed",
        ),
        (
            "a size too small",
            Box::new(|| World::of(&[Said { size: 2_000_000, ..honest() }])),
            "but sha256:",
        ),
        (
            "a size too large",
            Box::new(|| World::of(&[Said { size: 4_000_000, ..honest() }])),
            "fewer bytes",
        ),
        (
            "a size without measure",
            Box::new(|| World::of(&[Said { size: usize::MAX / 4, ..honest() }])),
            "fewer bytes",
        ),
        (
            "silence",
            Box::new(|| {
                let world = World::of(&[honest()]);
                world.server.always(&path, Fault::StallAfter(0));
                world
            }),
            "sent nothing",
        ),
        (
            "a range that is another one",
            Box::new(|| {
                let world = World::of(&[honest()]);
                world.server.once(&path, Fault::CutAfter(1_500_000));
                world.server.always(&path, Fault::WrongRange(7));
                world
            }),
            "it sends those from 7 on",
        ),
        (
            "logins in a loop",
            Box::new(|| {
                let world = World::of(&[honest()]);
                let challenge = format!("Bearer realm=\"{}\"", world.server.url("/token"));
                world.server.put("/token", br#"{"token":"t"}"#.as_slice());
                world.server.guard("/v2/", "Bearer other", &challenge);
                world
            }),
            "refuses to show",
        ),
        (
            "a manifest without end",
            Box::new(|| {
                let world = World::of(&[honest()]);
                world.server.always(MANIFEST, Fault::Endless);
                world
            }),
            "more than the 4194304 bytes",
        ),
        (
            "a thousand layers",
            Box::new(|| {
                let tar = ended(&[]);
                World::of(&(0..1000).map(|_| Said::truly(tar.clone(), &tar)).collect::<Vec<_>>())
            }),
            "1000 layers",
        ),
        (
            "redirects without end",
            Box::new(|| {
                let world = World::of(&[honest()]);
                world.server.always(&path, Fault::Redirect(path.clone()));
                world
            }),
            "redirects without end",
        ),
        (
            "an index that leads to itself",
            Box::new(|| {
                let world = World::new();
                // No document can name its own digest: the one named is another's.
                let named = Digest::of(b"itself");
                let index = format!(
                    r#"{{"manifests":[{{"digest":"{named}","size":9,"platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#
                );
                world.server.put(&format!("/v2/team/app/manifests/{named}"), index.as_bytes());
                world.server.put(MANIFEST, index);
                world
            }),
            "but sha256:",
        ),
        (
            "indexes below indexes",
            Box::new(|| {
                let world = World::new();
                let mut index = r#"{"manifests":[]}"#.to_owned();
                for _ in 0..6 {
                    let digest = Digest::of(index.as_bytes());
                    world.server.put(&format!("/v2/team/app/manifests/{digest}"), index.as_bytes());
                    let size = index.len();
                    index = format!(r#"{{"manifests":[{{"digest":"{digest}","size":{size}}}]}}"#);
                }
                world.server.put(MANIFEST, index);
                world
            }),
            "without end",
        ),
    ];
    for (name, world, words) in lies {
        let world = world();
        let error = world.pull().expect_err(name).to_string();
        assert!(error.contains(words), "{name}: {error}");
        let store = world.store();
        assert!(store.images().unwrap().is_empty() && store.image("app").is_err(), "{name}");
        let diff_id = honest().diff_id;
        assert!(store.tree(diff_id).unwrap().is_none(), "{name} left a tree");
        assert!(store.layer(diff_id).unwrap().is_none(), "{name} left a layer");
    }
}

/// A lie of one image is not believed of another: the DiffID of a layer that is here stands in the
/// configuration of an image whose blob is something else.
#[test]
fn a_known_diff_id_proves_nothing() {
    let world = World::of(&[Said::truly(large(), &large())]);
    world.pull().unwrap();
    let other = ended(&[entry(b'0', "evil", "", b"evil")]);
    world.put(&[Said { diff_id: Digest::of(&large()), size: other.len(), blob: other.clone() }]);
    let error = world.pull().unwrap_err().to_string();
    assert!(error.contains("uncompressed"), "{error}");
    let known = world.store().layer(Digest::of(&large())).unwrap().unwrap();
    assert_eq!(known.digest, Digest::of(&large()));
}

#[test]
fn hostile_layers_stay_in_their_tree() {
    let deep = format!("{}x", "d/".repeat(49));
    let outside = tempfile::tempdir().unwrap();
    let out = outside.path().display().to_string();
    for (name, entries, refused) in [
        ("..", vec![entry(b'0', "a/../../x", "", b"x")], Some("`..`")),
        ("absolute", vec![entry(b'0', "/x", "", b"x")], None),
        ("twice", vec![entry(b'0', "x", "", b"1"), entry(b'0', "x", "", b"2")], None),
        (
            "through a link out",
            vec![entry(b'2', "l", &out, b""), entry(b'0', "l/x", "", b"x")],
            None,
        ),
        ("a hard link out", vec![entry(b'1', "l", "../../etc/passwd", b"")], Some("`..`")),
        ("a hard link to nothing", vec![entry(b'1', "l", "nowhere", b"")], Some("nowhere")),
        ("deep", vec![entry(b'0', &deep, "", b"x")], None),
        ("cut off", vec![entry(b'0', "x", "", &[1; 600])[..700].to_vec()], Some("cut off")),
        ("another kind", vec![entry(b'V', "x", "", b"")], Some("of a kind")),
        ("no checksum", vec![vec![b'a'; 512]], Some("damaged")),
    ] {
        let tar = match name {
            "cut off" => entries.concat(),
            _ => ended(&entries),
        };
        let world = World::of(&[Said::truly(gzip(&tar), &tar)]);
        match (world.pull(), refused) {
            (Ok(_), None) => {
                let tree = world.store().tree(Digest::of(&tar)).unwrap().unwrap();
                // As a container sees the link: it leads to a folder of its own.
                let inside = out.trim_start_matches('/');
                let at = if name == "through a link out" { tree.join(inside) } else { tree };
                assert!(at.join("x").exists() || name == "deep", "{name}");
            }
            (Err(error), Some(words)) => {
                let error = error.to_string();
                assert!(error.contains(words), "{name}: {error}");
                assert!(world.store().tree(Digest::of(&tar)).unwrap().is_none(), "{name}");
                assert!(world.store().images().unwrap().is_empty(), "{name}");
            }
            (other, _) => panic!("{name}: {other:?}"),
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{name}");
    }
}

#[test]
fn two_pulls_at_once_download_once() {
    let said = Said::truly(large(), &large());
    let world = World::of(std::slice::from_ref(&said));
    world.server.once(&world.blob(&said), Fault::Slow(300_000, Duration::from_millis(20)));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            // A process each, as far as the store can tell.
            scope.spawn(|| world.pull().unwrap());
        }
    });
    assert_eq!(world.ranges(&world.blob(&said)), ["all"]);
    assert!(world.store().image("app").is_ok());
}
