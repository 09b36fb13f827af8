//! Uploads to a registry on the loopback interface, as it should be and otherwise.

use std::io::{self, Read};
use std::time::Duration;

use sconce_blob::Digest;
use sconce_fetch::http::Options;
use sconce_oci::Descriptor;
use sconce_registry::{Access, Error, Login, Logins, Outgoing, Reference, Registry, Rights, Sent};
use sconce_testkit::{RegistryServer, Trouble};

const CHUNK: usize = 100_000;

fn bytes(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| (n ^ n >> 9) as u8).collect()
}

struct Bytes(Vec<u8>);

impl Outgoing for Bytes {
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(&self.0[..]))
    }

    fn sent(&self, _: u64) {}
}

struct World {
    server: RegistryServer,
    access: Access,
}

impl World {
    fn new() -> Self {
        let options = Options {
            backoff: Duration::from_millis(1),
            stall: Duration::from_secs(5),
            tries: 4,
            ..Options::default()
        };
        let access = Access::new(options, Logins::default()).with_chunk(CHUNK as u64);
        Self { server: RegistryServer::start(), access }
    }

    fn registry(&self, others: &[&str]) -> Registry {
        let reference = Reference::parse(&format!("{}/team/app:1", self.server.host())).unwrap();
        let rights = Rights::Push(others.iter().map(|name| (*name).to_owned()).collect());
        Registry::new(&self.access, reference, &rights).unwrap()
    }

    fn put(&self, content: &[u8], from: Option<&str>) -> Result<Sent, Error> {
        let blob = Descriptor::of("x", content);
        let sent = self.registry(&[]).put_blob(&blob, from, &Bytes(content.to_owned()))?;
        assert_eq!(self.server.blob("team/app", blob.digest).unwrap(), content);
        Ok(sent)
    }
}

#[test]
fn small_in_one_request_large_in_chunks() {
    let world = World::new();
    let (small, large) = (bytes(CHUNK), bytes(2 * CHUNK + 7));
    assert!(!world.registry(&[]).has_blob(Digest::of(&small)).unwrap());
    assert_eq!(world.put(&small, None).unwrap(), Sent::Uploaded);
    assert!(world.registry(&[]).has_blob(Digest::of(&small)).unwrap());
    assert_eq!((world.server.count("PUT"), world.server.count("PATCH")), (1, 0));
    world.put(&large, None).unwrap();
    assert_eq!((world.server.count("PUT"), world.server.count("PATCH")), (2, 3));
    world.put(b"", None).unwrap();
}

#[test]
fn what_another_repository_has_is_taken_from_there() {
    let world = World::new();
    let content = bytes(5_000);
    world.server.put_blob("team/base", &content);
    assert_eq!(world.put(&content, Some("team/base")).unwrap(), Sent::Mounted);
    assert_eq!(world.server.count("PUT"), 0);
    // 202: the upload that has begun is gone on with.
    let world = World::new();
    world.server.put_blob("team/base", &content);
    world.server.mount_nothing();
    assert_eq!(world.put(&content, Some("team/base")).unwrap(), Sent::Uploaded);
    assert_eq!((world.server.count("POST"), world.server.count("PUT")), (1, 1));
}

/// Whatever happens to an upload, what is there in the end is the blob.
#[test]
fn an_upload_that_breaks_off_goes_on() {
    let large = bytes(3 * CHUNK + 7);
    let small = bytes(CHUNK);
    use Trouble::{Cut, CutAndForget, Status};
    for (content, troubles, patches) in [
        (&large, vec![Cut(70_000)], 4),
        (&large, vec![Cut(0), Cut(CHUNK)], 5),
        (&large, vec![Status(500), CutAndForget(70_000)], 6),
        (&large, vec![Status(416), Status(416)], 6),
        (&large, vec![Status(404)], 5),
        (&small, vec![Cut(40_000)], 1),
        (&small, vec![CutAndForget(40_000), Status(503)], 0),
        (&small, vec![Cut(CHUNK)], 0),
    ] {
        let world = World::new();
        world.server.refuse_once(429);
        troubles.iter().for_each(|trouble| world.server.once(trouble.clone()));
        world.put(content, None).unwrap_or_else(|error| panic!("{troubles:?}: {error}"));
        let log = world.server.log();
        assert_eq!(world.server.count("PATCH"), patches, "{troubles:?} {log:#?}");
    }
}

/// More cuts than tries: each brings the upload further.
#[test]
fn a_cut_is_no_failure_while_an_upload_goes_forward() {
    let world = World::new();
    (0..12).for_each(|_| world.server.once(Trouble::Cut(70_000)));
    world.put(&bytes(9 * CHUNK), None).unwrap();
    // Not for ever: what brings nothing counts.
    let world = World::new();
    (0..12).for_each(|_| world.server.once(Trouble::Cut(10)));
    assert!(world.put(&bytes(9 * CHUNK), None).is_err());
}

#[test]
fn a_registry_that_takes_no_chunks_gets_all_at_once() {
    let world = World::new();
    world.server.take_no_chunks();
    world.put(&bytes(3 * CHUNK), None).unwrap();
    assert_eq!((world.server.count("PUT"), world.server.count("PATCH")), (1, 1));
}

#[test]
fn it_gives_up_in_the_end() {
    let world = World::new();
    for _ in 0..40 {
        world.server.once(Trouble::Status(503));
    }
    let error = world.put(&bytes(10), None).unwrap_err();
    assert!(
        error.to_string().contains("503") && error.to_string().contains("tried 4 times"),
        "{error}"
    );
}

#[test]
fn what_is_damaged_here_does_not_get_there() {
    for len in [1_000, 3 * CHUNK] {
        let world = World::new();
        let blob = Descriptor::of("x", &bytes(len));
        let mut other = bytes(len);
        other[len - 3] ^= 1;
        let registry = world.registry(&[]);
        let error = registry.put_blob(&blob, None, &Bytes(other.clone())).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        other.truncate(len - 1);
        let error = registry.put_blob(&blob, None, &Bytes(other)).unwrap_err();
        assert!(matches!(error, Error::Source { .. }), "{error}");
        assert!(world.server.blob("team/app", blob.digest).is_none());
    }
}

#[test]
fn a_login_does_not_follow_an_upload_to_another_host() {
    let world = World::new();
    world.server.guard("Basic dTpw");
    let port = world.server.host().rsplit_once(':').unwrap().1.to_owned();
    world.server.upload_elsewhere(&format!("http://localhost:{port}"));
    let refused = world.put(b"x", None).unwrap_err();
    assert!(matches!(refused, Error::Denied { known: false, writes: true, .. }), "{refused}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    sconce_registry::save(&path, &world.server.host(), "u", "p").unwrap();
    let access = Access::new(Options::default(), Logins::of_file(&path));
    Registry::try_login(&access, &world.server.host(), Login::new("u", "p")).unwrap();
    let wrong = Registry::try_login(&access, &world.server.host(), Login::new("u", "secret"));
    let wrong = wrong.unwrap_err().to_string();
    assert!(wrong.contains("refuses to log in") && !wrong.contains("secret"), "{wrong}");
    let world = World { access, ..world };
    world.put(b"x", None).unwrap();
    assert!(!world.server.was_authorized_elsewhere());
}

#[test]
fn the_manifest_needs_its_blobs() {
    let world = World::new();
    let registry = world.registry(&[]);
    let manifest = format!(r#"{{"config":{{"digest":"{}","size":1}}}}"#, Digest::of(b"x"));
    let error = registry.put_manifest("a/b", manifest.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("is not here"), "{error}");
    world.put(b"x", None).unwrap();
    registry.put_manifest("a/b", manifest.as_bytes()).unwrap();
    assert_eq!(world.server.manifest("team/app", "1").unwrap(), manifest.as_bytes());
}
