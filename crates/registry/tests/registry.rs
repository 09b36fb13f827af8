//! A registry on the loopback interface, well-behaved and otherwise.

use std::io::Read;
use std::time::Duration;

use sconce_blob::Digest;
use sconce_fetch::http::Options;
use sconce_registry::{Access, Error, Image, Logins, Reference, Registry, Rights};
use sconce_testkit::{Fault, Server};

fn access(logins: &Logins) -> Access {
    let options = Options {
        backoff: Duration::from_millis(1),
        stall: Duration::from_secs(5),
        tries: 4,
        ..Options::default()
    };
    Access::new(options, logins.clone())
}

/// Larger than what one read or one connection's progress takes.
fn layer() -> Vec<u8> {
    (0..3_000_000_u32).map(|n| (n ^ n >> 9) as u8).collect()
}

/// An image of one layer for amd64 and arm64 at `team/app:1`, and the path of its layer.
struct World {
    folder: tempfile::TempDir,
    server: Server,
    blob: String,
    manifest: Digest,
}

impl World {
    fn new() -> Self {
        let server = Server::start();
        let blob = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            server.put(&format!("/v2/team/app/blobs/{digest}"), bytes);
            format!(r#"{{"mediaType":"","digest":"{digest}","size":{}}}"#, bytes.len())
        };
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            Digest::of(b"tar")
        );
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
            blob(config.as_bytes()),
            blob(&layer())
        );
        let digest = Digest::of(manifest.as_bytes());
        server.put(&format!("/v2/team/app/manifests/{digest}"), manifest.as_bytes());
        let row = |digest: Digest, os: &str, architecture: &str| {
            let size = manifest.len();
            format!(
                r#"{{"digest":"{digest}","size":{size},"platform":{{"os":"{os}","architecture":"{architecture}"}}}}"#
            )
        };
        let index = format!(
            r#"{{"manifests":[{},{}]}}"#,
            row(Digest::of(b"other"), "linux", "arm64"),
            row(digest, "linux", "amd64")
        );
        server.put("/v2/team/app/manifests/1", index.as_bytes());
        let blob = format!("/v2/team/app/blobs/{}", Digest::of(&layer()));
        let folder = tempfile::tempdir().unwrap();
        Self { folder, server, blob, manifest: digest }
    }

    fn host(&self) -> String {
        self.server.url("").replace("http://", "")
    }

    fn reference(&self) -> Reference {
        Reference::parse(&format!("{}/team/app:1", self.host())).unwrap()
    }

    fn with<T>(&self, logins: &Logins, work: impl FnOnce(&Registry) -> T) -> T {
        work(&Registry::new(&access(logins), self.reference(), &Rights::Pull).unwrap())
    }

    fn image(&self, logins: &Logins) -> Result<Image, Error> {
        self.with(logins, |registry| registry.image("amd64"))
    }

    /// The layer, and how many bytes it took.
    fn read(&self) -> Result<(Vec<u8>, u64), Error> {
        let layer = self.image(&Logins::default())?.layers.remove(0);
        self.with(&Logins::default(), |registry| {
            let mut blob = registry.blob(&layer)?;
            let mut bytes = Vec::new();
            // The error behind it comes from `verify`.
            let _ = blob.read_to_end(&mut bytes);
            blob.verify()?;
            Ok((bytes, registry.moved()))
        })
    }

    fn logins(&self, auth: &str) -> Logins {
        let path = self.folder.path().join(format!("{auth}.json"));
        let text = format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, self.host());
        std::fs::write(&path, text).unwrap();
        Logins::of_file(&path)
    }
}

#[test]
fn an_image_for_one_processor() {
    let world = World::new();
    let image = world.image(&Logins::default()).unwrap();
    assert_eq!(image.digest, world.manifest);
    assert_eq!(image.diff_ids, [Digest::of(b"tar")]);
    let (bytes, moved) = world.read().unwrap();
    assert_eq!((bytes == layer(), moved), (true, layer().len() as u64));
    let error = world.with(&Logins::default(), |registry| registry.image("riscv64")).unwrap_err();
    assert!(
        matches!(&error, Error::NoPlatform { there, .. } if *there == ["arm64", "amd64"]),
        "{error}"
    );
    // Listed, and not there.
    let error = world.with(&Logins::default(), |registry| registry.image("arm64")).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

#[test]
fn a_token_is_fetched_once_and_not_given_to_the_blob_store() {
    let world = World::new();
    let store = Server::start();
    store.put("/elsewhere", layer());
    world.server.always(
        &world.blob,
        Fault::Redirect(store.url("/elsewhere").replace("127.0.0.1", "localhost")),
    );
    world.server.put("/token", br#"{"token":"t0ken"}"#.as_slice());
    let challenge = format!(
        r#"Bearer realm="{}",service="s p",scope="repository:team/app:pull""#,
        world.server.url("/token")
    );
    world.server.guard("/v2/", "Bearer t0ken", &challenge);
    world.server.guard("/token", "Basic dTpw", "Basic");
    let denied = world.image(&Logins::default()).unwrap_err();
    assert!(matches!(denied, Error::Denied { known: false, .. }), "{denied}");
    let denied = world.image(&world.logins("d3Jvbmc=")).unwrap_err();
    assert!(matches!(denied, Error::Denied { known: true, .. }), "{denied}");

    let before = world.server.requests().len();
    let access = access(&world.logins("dTpw"));
    let registry = Registry::new(&access, world.reference(), &Rights::Pull).unwrap();
    let image = registry.image("amd64").unwrap();
    let mut bytes = Vec::new();
    let mut blob = registry.blob(&image.layers[0]).unwrap();
    blob.read_to_end(&mut bytes).unwrap();
    blob.verify().unwrap();
    assert!(bytes == layer());
    let asked = world.server.requests().split_off(before);
    let tokens: Vec<_> =
        asked.iter().filter(|request| request.path.starts_with("/token")).collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].path, "/token?service=s+p&scope=repository%3Ateam%2Fapp%3Apull");
    assert_eq!(store.requests().len(), 1);
    assert_eq!(store.requests()[0].header("authorization"), None);
}

#[test]
fn a_registry_with_passwords() {
    let world = World::new();
    world.server.guard("/v2/", "Basic dTpw", r#"Basic realm="registry""#);
    assert!(matches!(world.image(&Logins::default()), Err(Error::Denied { known: false, .. })));
    assert!(world.image(&world.logins("dTpw")).is_ok());
}

#[test]
fn a_token_is_not_sent_for_without_tls() {
    let world = World::new();
    let challenge = r#"Bearer realm="http://auth.example.invalid/token",service="s""#;
    world.server.guard("/v2/", "Bearer t0ken", challenge);
    let error = world.image(&world.logins("dTpw")).unwrap_err();
    assert!(error.to_string().contains("without TLS"), "{error}");
}

#[test]
fn broken_connections_go_on_where_they_were() {
    let world = World::new();
    world.server.once(&world.blob, Fault::CutAfter(1_500_000));
    world.server.once(&world.blob, Fault::Status(429, Some(0)));
    world.server.once(&world.blob, Fault::Status(503, None));
    let (bytes, moved) = world.read().unwrap();
    assert_eq!((bytes == layer(), moved), (true, 3_000_000));
    let ranges: Vec<_> = world
        .server
        .requests_for(&world.blob)
        .iter()
        .map(|request| request.header("range").map(str::to_owned))
        .collect();
    let rest = Some("bytes=1500000-".to_owned());
    assert_eq!(ranges, [None, rest.clone(), rest.clone(), rest]);

    // A registry that knows no ranges sends the whole again, and that is counted.
    let world = World::new();
    world.server.once(&world.blob, Fault::CutAfter(1_500_000));
    world.server.once(&world.blob, Fault::IgnoreRange);
    let (bytes, moved) = world.read().unwrap();
    assert_eq!((bytes == layer(), moved), (true, 4_500_000));
}

#[test]
fn lies_are_found() {
    let world = World::new();
    world.server.once(&world.blob, Fault::CutAfter(1_500_000));
    world.server.once(&world.blob, Fault::WrongRange(7));
    let error = world.read().unwrap_err();
    assert!(matches!(error, Error::Answer { .. }), "{error}");

    let mut other = layer();
    other[2_000_000] ^= 1;
    let world = World::new();
    world.server.once(&world.blob, Fault::Other(other));
    let error = world.read().unwrap_err();
    assert!(matches!(error, Error::WrongDigest { .. }), "{error}");

    // Shorter than it should be, however often it is asked.
    let world = World::new();
    world.server.always(&world.blob, Fault::Other(layer()[..9].to_vec()));
    assert!(world.read().is_err());

    // More than it should be: the rest is not taken.
    let world = World::new();
    world.server.once(&world.blob, Fault::Other([layer(), vec![0; 9]].concat()));
    assert_eq!(world.read().unwrap().1, 3_000_000);

    let world = World::new();
    world.server.put("/v2/team/app/manifests/1", br#"{"manifests":[]}"#.as_slice());
    assert!(matches!(world.image(&Logins::default()), Err(Error::NoPlatform { .. })));
    world.server.put("/v2/team/app/manifests/1", b"{}".as_slice());
    assert!(matches!(world.image(&Logins::default()), Err(Error::Answer { .. })));
    world.server.put("/v2/team/app/manifests/1", b"no".as_slice());
    assert!(matches!(world.image(&Logins::default()), Err(Error::Answer { .. })));
    let manifest = format!("/v2/team/app/manifests/{}", world.manifest);
    let world = World::new();
    world.server.put(&manifest, b"{} ".as_slice());
    assert!(matches!(world.image(&Logins::default()), Err(Error::WrongDigest { .. })));
    world.server.always("/v2/team/app/manifests/1", Fault::Endless);
    let error = world.image(&Logins::default()).unwrap_err();
    assert!(matches!(error, Error::Fetch(sconce_fetch::Error::TooLarge { .. })), "{error}");
}
