//! The server as a client meets it: raw requests over loopback, good ones and bad.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sconce_blob::{Assembly, Digest};
use sconce_build::Silent;
use sconce_fetch::http::{Client, Options};
use sconce_listen::Hosts;
use sconce_lock::{Facts, Host, Lock, Machine, Sealed};
use sconce_oci::{CONFIG, Descriptor, LAYER, MANIFEST, Manifest};
use sconce_serve::{Allowed, Limits, Pushes, Registry, Specifications, Stores, serve};
use sconce_store::{Layer, Store};

/// Bytes of the layer that is made of pieces of another blob.
const LAYER_SIZE: usize = 3 << 20;

struct World {
    _folder: tempfile::TempDir,
    address: SocketAddr,
    manifest: Digest,
    config: Digest,
    layer: Digest,
    layer_bytes: Vec<u8>,
    notes: Arc<Mutex<Vec<String>>>,
}

/// What came back.
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert!(body["errors"][0]["message"].as_str().is_some_and(|words| !words.is_empty()));
        body["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

fn world(limits: Limits) -> World {
    world_with_free(limits, 0)
}

/// A store with one image, `lab/demo:1` and `demo`, whose layer is virtual; and its server.
fn world_with_free(limits: Limits, min_free: u64) -> World {
    world_with(limits, min_free, None)
}

fn world_with(limits: Limits, min_free: u64, pushes: Option<Pushes>) -> World {
    let folder = tempfile::tempdir().unwrap();
    let root: PathBuf = folder.path().join("store");
    let store = Store::open(&root).unwrap();
    let part: Vec<u8> = (0..LAYER_SIZE as u32 - 4).map(|n| (n * 7 % 251) as u8).collect();
    let wheel = store.put_bytes(&part).unwrap();
    let mut assembly = Assembly::default();
    assembly.literal(b"ab");
    assembly.blob(wheel, 0, part.len() as u64);
    assembly.literal(b"yz");
    let layer_bytes = [b"ab", &part[..], b"yz"].concat();
    let layer = Digest::of(&layer_bytes);
    store.put_virtual(layer, &assembly).unwrap();
    let size = layer_bytes.len() as u64;
    let media_type = LAYER.to_owned();
    store.put_layer(&Layer { diff_id: layer, digest: layer, size, media_type }).unwrap();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{layer}"]}}}}"#
    );
    let layers = vec![Descriptor { size, ..Descriptor::of(LAYER, &layer_bytes) }];
    let manifest = Manifest::new(Descriptor::of(CONFIG, config.as_bytes()), layers).to_json();
    let names = ["lab/demo:1", "demo", "docker.io/library/alpine:3", "127.0.0.1:5000/hidden:1"];
    let manifest = store.put_image(&names, &manifest, config.as_bytes()).unwrap();
    drop(store);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let notes = Arc::new(Mutex::new(Vec::new()));
    let said = Arc::clone(&notes);
    std::thread::spawn(move || {
        let open = || Store::open(&root);
        let client = Client::new(Options { offline: true, ..Options::default() });
        let note = |text: &str| said.lock().unwrap().push(text.to_owned());
        let allowed = Allowed::new(vec!["torch:2.15.0".to_owned()]);
        let registry = Registry {
            stores: Stores::new(&open).unwrap(),
            specifications: Specifications::new(&client, &Silent, 1, Host::default(), allowed)
                .with_min_free(min_free),
            hosts: Hosts::new("", &[]),
            logins: None,
            pushes,
            tls: None,
            note: &note,
        };
        serve(&listener, &registry, &limits)
    });
    let config = Digest::of(config.as_bytes());
    World { _folder: folder, address, manifest, config, layer, layer_bytes, notes }
}

impl World {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// One request on a connection of its own.
    fn ask(&self, method: &str, path: &str, headers: &[&str]) -> Reply {
        let mut stream = self.connect();
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        headers.iter().for_each(|header| request.push_str(&format!("{header}\r\n")));
        stream.write_all(format!("{request}\r\n").as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        parse(&bytes)
    }

    fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[])
    }

    fn text(&self, path: &str) -> String {
        String::from_utf8(self.get(path).body).unwrap()
    }

    fn blob(&self) -> String {
        format!("/v2/lab/demo/blobs/{}", self.layer)
    }
}

fn parse(bytes: &[u8]) -> Reply {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer") + 4;
    let head = String::from_utf8(bytes[..at].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head, body: bytes[at..].to_vec() }
}

/// The requests of the distribution-spec's conformance tests for pulls, and discovery.
#[test]
fn what_the_specification_asks_for() {
    let world = world(Limits::default());
    let (manifest, digest) = (world.manifest, world.manifest.to_string());
    let base = world.get("/v2/");
    assert_eq!(
        (base.status, base.header("docker-distribution-api-version")),
        (200, Some("registry/2.0"))
    );
    for name in ["lab/demo", "demo", "alpine"] {
        let tag = match name {
            "lab/demo" => "1",
            "alpine" => "3",
            _ => "latest",
        };
        for wanted in [tag, &digest] {
            let path = format!("/v2/{name}/manifests/{wanted}");
            let (got, head) = (world.get(&path), world.ask("HEAD", &path, &[]));
            assert_eq!((got.status, head.status), (200, 200), "{path}");
            assert_eq!(Digest::of(&got.body), manifest);
            assert!(head.body.is_empty());
            for reply in [&got, &head] {
                assert_eq!(reply.header("content-type"), Some(MANIFEST));
                assert_eq!(reply.header("docker-content-digest"), Some(&*digest));
                assert_eq!(reply.header("content-length"), Some(&*got.body.len().to_string()));
            }
        }
    }
    let config = world.get(&format!("/v2/demo/blobs/{}", world.config));
    assert_eq!((config.status, Digest::of(&config.body)), (200, world.config));
    let head = world.ask("HEAD", &world.blob(), &["Range: bytes=0-1"]);
    assert_eq!((head.status, head.header("content-length")), (200, Some("3145728")));
    let whole = world.get(&world.blob());
    assert_eq!((whole.status, Digest::of(&whole.body)), (200, world.layer));
    assert_eq!(whole.header("docker-content-digest"), Some(&*world.layer.to_string()));

    let json = |path: &str| -> serde_json::Value {
        serde_json::from_slice(&world.get(path).body).unwrap()
    };
    assert_eq!(
        json("/v2/lab/demo/tags/list"),
        serde_json::json!({"name": "lab/demo", "tags": ["1"]})
    );
    let names = serde_json::json!({"repositories": ["alpine", "demo", "lab/demo"]});
    assert_eq!(json("/v2/_catalog"), names);
    let first = world.get("/v2/_catalog?n=2");
    assert_eq!(first.header("link"), Some("</v2/_catalog?last=demo&n=2>; rel=\"next\""));
    assert_eq!(
        json("/v2/_catalog?last=demo&n=2"),
        serde_json::json!({"repositories": ["lab/demo"]})
    );
    assert!(world.get("/v2/_catalog?last=demo&n=2").header("link").is_none());
    assert_eq!(json("/v2/demo/tags/list?n=0"), serde_json::json!({"name": "demo", "tags": []}));

    let none = Digest::of(b"none");
    for (path, status, code) in [
        (format!("/v2/demo/blobs/{none}"), 404, "BLOB_UNKNOWN"),
        (format!("/v2/demo/manifests/{none}"), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/demo/manifests/{}", world.config), 404, "MANIFEST_UNKNOWN"),
        ("/v2/demo/manifests/2".to_owned(), 404, "MANIFEST_UNKNOWN"),
        ("/v2/none/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
        ("/v2/demo/blobs/sha256:12".to_owned(), 400, "DIGEST_INVALID"),
        ("/v2/Demo/manifests/1".to_owned(), 400, "NAME_INVALID"),
        ("/v2/../../etc/passwd/manifests/1".to_owned(), 400, "NAME_INVALID"),
        ("/v2/%2e%2e/manifests/1".to_owned(), 400, "NAME_INVALID"),
        ("/v2/demo/manifests/..".to_owned(), 404, "MANIFEST_UNKNOWN"),
        ("/v2/demo/blobs/../../../version".to_owned(), 404, "NAME_UNKNOWN"),
        ("/locks/../version:1".to_owned(), 400, "NAME_INVALID"),
        ("/".to_owned(), 404, "NAME_UNKNOWN"),
    ] {
        let reply = world.get(&path);
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{path}");
        let head = world.ask("HEAD", &path, &[]);
        assert!(head.status == status && head.body.is_empty(), "{path}");
    }
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
        let reply =
            world.ask(method, "/v2/demo/blobs/uploads/", &["Content-Length: 4\r\n\r\nabcd"]);
        assert_eq!((reply.status, reply.code().as_str()), (405, "UNSUPPORTED"), "{method}");
        assert_eq!(reply.header("allow"), Some("GET, HEAD"));
    }
}

#[test]
fn ranges_of_a_layer_that_lies_nowhere() {
    let world = world(Limits::default());
    let size = LAYER_SIZE;
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=1-3", 1, 4),
        ("bytes=1000000-2000000", 1_000_000, 2_000_001),
        ("bytes=3145726-", size - 2, size),
        ("bytes=-3", size - 3, size),
        ("bytes=1-99999999", 1, size),
    ] {
        let reply = world.ask("GET", &world.blob(), &[&format!("Range: {range}")]);
        assert_eq!(reply.status, 206, "{range}");
        assert!(reply.body == world.layer_bytes[start..end], "{range}");
        let expected = format!("bytes {start}-{}/{size}", end - 1);
        assert_eq!(reply.header("content-range"), Some(&*expected));
    }
    for range in ["bytes=3145728-", "bytes=99999999999999999999-", "bytes=-0"] {
        let reply = world.ask("GET", &world.blob(), &[&format!("Range: {range}")]);
        assert_eq!((reply.status, reply.header("content-range")), (416, Some("bytes */3145728")));
    }
    let tag = format!("\"{}\"", world.layer);
    for (header, status) in [
        (format!("If-Range: {tag}\r\nRange: bytes=0-0"), 206),
        ("If-Range: \"other\"\r\nRange: bytes=0-0".to_owned(), 200),
        (format!("If-None-Match: {tag}"), 304),
    ] {
        let reply = world.ask("GET", &world.blob(), &[&header]);
        assert_eq!(reply.status, status, "{header}");
        assert!(status != 304 || reply.body.is_empty());
    }
}

#[test]
fn one_connection_serves_many_requests() {
    let world = world(Limits::default());
    let mut stream = world.connect();
    let one = "GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let last = "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(format!("{one}{one}{last}").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3, "{text}");
}

#[test]
fn what_is_no_request_is_refused() {
    let world = world(Limits { head: Duration::from_millis(400), ..Limits::default() });
    let many = "a: b\r\n".repeat(100);
    let huge = format!("a: {}\r\n", "x".repeat(100 << 10));
    for (request, status) in [
        ("GET /v2/\r\n\r\n".to_owned(), "400"),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}".to_owned(), "400"),
        ("GET http://x/v2/ HTTP/1.1\r\n\r\n".to_owned(), "400"),
        // RFC 9112, section 3.2: what has no Host could be for anybody.
        ("GET /v2/ HTTP/1.1\r\n\r\n".to_owned(), "400"),
        (format!("GET /v2/ HTTP/1.1\r\n{many}\r\n"), "431"),
        (format!("GET /v2/ HTTP/1.1\r\n{huge}\r\n"), "431"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "a/".repeat(20 << 10)), "431"),
        // Its end never comes.
        ("GET /v2/ HTTP/1.1\r\nHost: localhost\r\n".to_owned(), "408"),
    ] {
        let mut stream = world.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let said = String::from_utf8_lossy(&bytes);
        let start: String = request.chars().take(60).collect();
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{start:?}: {said}");
    }
}

/// Bytes that come one by one don't keep a connection; a client that takes nothing doesn't either.
#[test]
fn slow_clients_are_let_go() {
    let short = Duration::from_millis(500);
    let world = world(Limits {
        connections: 2,
        head: short,
        idle: short,
        send: short,
        ..Limits::default()
    });
    let begun = Instant::now();
    let mut slow = world.connect();
    let mut ended = false;
    for byte in "GET /v2/ HTTP/1.1\r\nHost: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx".bytes() {
        ended |= slow.write_all(&[byte]).is_err();
        std::thread::sleep(Duration::from_millis(30));
    }
    let mut rest = Vec::new();
    ended |=
        slow.read_to_end(&mut rest).is_err() || String::from_utf8_lossy(&rest).contains(" 408 ");
    assert!(ended, "{}", String::from_utf8_lossy(&rest));

    // Three of them ask for a layer and read nothing of it: there is room for two.
    let idle: Vec<TcpStream> = (0..3)
        .map(|_| {
            let mut stream = world.connect();
            let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", world.blob());
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    assert_eq!(world.get("/v2/").status, 200);
    for mut stream in idle {
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        // Whole if the kernel's buffers took it, else cut off: never more than its length says.
        assert!(read.is_ok() || matches!(read, Err(e) if e.kind() == ErrorKind::ConnectionReset));
    }
    assert!(begun.elapsed() < Duration::from_secs(30));
}

/// Clients that take a byte now and then hold all connections, and keep nobody out.
#[test]
fn slow_readers_make_room_for_others() {
    let slow = Duration::from_secs(1);
    let world = world(Limits { connections: 16, slow, ..Limits::default() });
    let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", world.blob());
    // More than the kernel's buffers take.
    let readers: Vec<TcpStream> = (0..16)
        .map(|_| {
            let mut stream = world.connect();
            stream.write_all(request.repeat(16).as_bytes()).unwrap();
            stream
        })
        .collect();
    let drip: Vec<TcpStream> = readers.iter().map(|stream| stream.try_clone().unwrap()).collect();
    std::thread::spawn(move || {
        for _ in 0..200 {
            drip.iter().for_each(|mut stream| drop(stream.read(&mut [0; 1])));
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    std::thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    for _ in 0..3 {
        assert_eq!(world.get("/v2/").status, 200);
        assert_eq!(world.get(&world.blob()).body, world.layer_bytes);
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    drop(readers);
}

/// An upload is held to a speed: a low one always, a higher one where somebody else has no room.
#[test]
fn slow_uploads_are_ended() {
    let limits = |send, slow| Limits {
        connections: 8,
        send: Duration::from_secs(send),
        slow: Duration::from_secs(slow),
        ..Limits::default()
    };
    let begin = |world: &World| {
        let reply = world.ask("POST", "/v2/a/blobs/uploads/", &[]);
        assert_eq!(reply.status, 202);
        reply.header("location").unwrap().to_owned()
    };
    let upload = |world: &World, place: &str| {
        let mut stream = world.connect();
        let head =
            format!("PATCH {place} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let pushes = || Some(Pushes::default().with_min_free(0));
    let world = world_with(limits(2, 1), 0, pushes());
    let place = begin(&world);
    let begun = Instant::now();
    let mut stream = upload(&world, &place);
    let mut said = Vec::new();
    while begun.elapsed() < Duration::from_secs(10) && stream.write_all(&[1; 100]).is_ok() {
        std::thread::sleep(Duration::from_millis(100));
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut piece = [0; 1000];
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => said.extend_from_slice(&piece[..n]),
            Err(_) => {}
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    // What came before is kept: it can be gone on with.
    assert_eq!(world.get(&place).status, 204);

    // One client has one of eight connections for uploads; while that is taken, another of its own is refused.
    let world = world_with(limits(60, 60), 0, pushes());
    let (first, second) = (begin(&world), begin(&world));
    let held = upload(&world, &first);
    std::thread::sleep(Duration::from_millis(300));
    let reply = world.ask("PATCH", &second, &["Content-Length: 1\r\n\r\nx"]);
    assert_eq!((reply.status, reply.header("retry-after")), (429, Some("5")));
    assert_eq!(world.get("/v2/lab/demo/manifests/1").status, 200);
    drop(held);
    let begun = Instant::now();
    while world.ask("PATCH", &second, &["Content-Length: 1\r\n\r\nx"]).status == 429 {
        assert!(begun.elapsed() < Duration::from_secs(10), "the place of one that is gone is free");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_thousand_connections_wait_for_their_turn() {
    let second = Duration::from_secs(1);
    let (connections, slow) = (64, second);
    let world = world(Limits { connections, head: second, idle: second, send: second, slow });
    let idle: Vec<TcpStream> =
        (0..1000).filter_map(|_| TcpStream::connect(world.address).ok()).collect();
    assert!(idle.len() > 500, "{} connections", idle.len());
    let begun = Instant::now();
    drop(idle.into_iter().step_by(2).collect::<Vec<_>>());
    assert_eq!(world.get("/v2/lab/demo/manifests/1").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
}

#[test]
fn clients_that_go_away_and_two_at_once() {
    let world = world(Limits::default());
    for _ in 0..20 {
        let mut stream = world.connect();
        stream
            .write_all(
                format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", world.blob()).as_bytes(),
            )
            .unwrap();
        let mut some = [0; 100];
        stream.read_exact(&mut some).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
    }
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(Digest::of(&world.get(&world.blob()).body), world.layer));
        }
    });
    let notes = world.notes.lock().unwrap();
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn specifications_are_built_for_whoever_may_ask() {
    let world = world(Limits::default());
    let reply = world.get("/v2/torch/manifests/2.14.0");
    let words = String::from_utf8_lossy(&reply.body).into_owned();
    assert_eq!((reply.status, reply.code().as_str()), (403, "DENIED"), "{words}");
    assert!(words.contains("--allow torch:2.14.0"), "{words}");
    // No network: the build fails, the log says why, and the client learns no address.
    let reply = world.get("/v2/torch/manifests/2.15.0");
    assert_eq!((reply.status, reply.code().as_str()), (500, "UNKNOWN"));
    assert_eq!(world.get("/v2/torch/manifests/2.15.0").status, 500);
    let notes = world.notes.lock().unwrap().clone();
    assert_eq!(notes.len(), 1, "a failure is remembered: {notes:?}");
    assert!(notes[0].starts_with("torch:2.15.0: "), "{notes:?}");
    assert_eq!(world.get("/locks/torch:2.15.0").status, 404);
}

/// A lock that says which image it builds to.
fn lock(image: Digest) -> Lock {
    Lock {
        sealed: Some(Sealed { image, layers: Vec::new() }),
        ..Lock::of_facts(Facts::of_base(Machine::X86_64, "bookworm", "3.11", "2.36"))
    }
}

/// What the lock of a tag says is beside the image that was built from it.
#[test]
fn the_lock_of_a_tag_is_beside_its_image() {
    let world = world(Limits::default());
    let store = Store::open(world._folder.path().join("store")).unwrap();
    store.put_name("torch:2.15.0", world.manifest).unwrap();
    let lock = lock(world.manifest).to_text();
    store.put_memo("tag-lock", Digest::of(b"torch:2.15.0"), lock.as_bytes()).unwrap();
    let path = format!("/v2/torch/referrers/{}", world.manifest);
    let list: serde_json::Value = serde_json::from_slice(&world.get(&path).body).unwrap();
    let rows = list["manifests"].as_array().unwrap();
    assert_eq!(rows.len(), 3, "{list}");
    for row in rows {
        let digest = row["digest"].as_str().unwrap();
        let manifest = world.get(&format!("/v2/torch/manifests/{digest}"));
        assert_eq!(Digest::of(&manifest.body).to_string(), digest);
        let manifest: serde_json::Value = serde_json::from_slice(&manifest.body).unwrap();
        assert_eq!(manifest["subject"]["digest"], world.manifest.to_string());
        let file = manifest["layers"][0]["digest"].as_str().unwrap();
        let file = world.get(&format!("/v2/torch/blobs/{file}"));
        assert_eq!(file.status, 200);
        if row["artifactType"] == "application/vnd.sconce.lock.v1" {
            assert_eq!(String::from_utf8(file.body).unwrap(), world.text("/locks/torch:2.15.0"));
        }
    }
    let kind = "application%2Fvnd.cyclonedx%2Bjson";
    let list = world.text(&format!("{path}?artifactType={kind}"));
    assert_eq!(list.matches("\"digest\"").count(), 1, "{list}");
    // By another name it is the same image without that lock.
    let other = world.text(&format!("/v2/lab/demo/referrers/{}", world.manifest));
    assert!(other.contains("\"manifests\":[]"), "{other}");
    for path in ["/v2/torch/referrers/1", "/v2/Torch/referrers/sha256:12"] {
        assert_eq!(world.get(path).status, 400, "{path}");
    }
}

/// A page of anybody's that is open on the same machine can ask the loopback address.
#[test]
fn no_build_begins_for_a_web_page() {
    let world = world(Limits::default());
    for header in [
        "Origin: https://page.example.invalid",
        "Sec-Fetch-Site: cross-site",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0",
    ] {
        let reply = world.ask("GET", "/v2/torch/manifests/2.15.0", &[header]);
        assert_eq!((reply.status, reply.code().as_str()), (403, "DENIED"), "{header}");
        let there = world.ask("GET", "/v2/lab/demo/manifests/1", &[header]);
        assert_eq!(there.status, 200, "what is there may be read: {header}");
    }
    assert!(world.notes.lock().unwrap().iter().all(|note| !note.contains("torch")));
}

#[test]
fn no_build_begins_on_a_full_disk() {
    let world = world_with_free(Limits::default(), u64::MAX);
    let reply = world.get("/v2/torch/manifests/2.15.0");
    assert_eq!((reply.status, reply.code().as_str()), (403, "DENIED"));
    assert!(String::from_utf8_lossy(&reply.body).contains("too full"));
    assert_eq!(world.get("/v2/lab/demo/manifests/1").status, 200, "what is there is served");
}
