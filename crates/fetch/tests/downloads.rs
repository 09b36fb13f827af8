//! Downloads against a server that does everything servers do.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sconce_blob::Digest;
use sconce_fetch::downloads::{DownloadProgress, Silent, Wanted, download, download_all};
use sconce_fetch::http::{Client, Options};
use sconce_fetch::{Error, Netrc, pypi};
use sconce_store::Store;
use sconce_testkit::{Fault, PackageIndex, Server, Wheel};

const SIZE: usize = 3 << 20;

struct World {
    server: Server,
    store: Store,
    client: Client,
    bytes: Vec<u8>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Options)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("home")).unwrap();
        let server = Server::start();
        let bytes: Vec<u8> = (0..SIZE as u32 / 4).flat_map(u32::to_le_bytes).collect();
        server.put("/file", bytes.clone());
        Self { server, store, client: client(change), bytes, _folder: folder }
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            name: "file.whl".to_owned(),
            others: Vec::new(),
            url: self.server.url("/file"),
            digest: Digest::of(&self.bytes),
            size: Some(SIZE as u64),
            within: None,
        }
    }

    fn download(&self) -> Result<(), Error> {
        download(&self.client, &self.store, &self.wanted(), &Silent)
    }

    /// What the ranges of the requests began with.
    fn ranges(&self) -> Vec<Option<u64>> {
        let start = |request: &sconce_testkit::Request| {
            let range = request.header("range")?;
            Some(range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap())
        };
        self.server.requests_for("/file").iter().map(start).collect()
    }

    fn is_whole(&self) -> bool {
        let digest = self.wanted().digest;
        let there = self.store.has_blob(digest).unwrap();
        if there {
            self.store.verify(digest).unwrap();
        }
        assert!(!there || !self.store.partial_path(digest).exists());
        there
    }
}

fn client(change: impl FnOnce(&mut Options)) -> Client {
    let mut options = Options {
        connect: Duration::from_secs(5),
        stall: Duration::from_millis(300),
        tries: 3,
        backoff: Duration::from_millis(1),
        ..Options::default()
    };
    change(&mut options);
    Client::new(options)
}

/// The failure below "tried N times".
fn cause(error: Error) -> Error {
    match error {
        Error::GaveUp { source, .. } => *source,
        error => error,
    }
}

#[test]
fn a_file_comes_once() {
    let world = World::new();
    world.download().unwrap();
    world.download().unwrap();
    assert!(world.is_whole());
    assert_eq!(world.server.requests().len(), 1);
    assert_eq!(world.server.requests()[0].header("accept-encoding"), Some("identity"));
}

#[test]
fn a_cut_file_goes_on_where_it_was_cut() {
    let world = World::new();
    for n in [1_000_000, 1_500_000, 0] {
        world.server.once("/file", Fault::CutAfter(n));
    }
    world.download().unwrap();
    assert!(world.is_whole());
    let ranges = world.ranges();
    assert_eq!(ranges[..2], [None, Some(1_000_000)]);
    assert_eq!(ranges[3], Some(2_500_000));
    // The part that is asked for is of the same file.
    assert!(world.server.requests()[1].header("if-range").is_some());
}

#[test]
fn tries_in_vain_are_counted_from_the_last_progress() {
    // Three, as many as at the beginning, after a cut that brought something.
    for cuts in [&[][..], &[1_000_000], &[1_000_000, 500_000]] {
        let world = World::new();
        cuts.iter().for_each(|n| world.server.once("/file", Fault::CutAfter(*n)));
        world.server.always("/file", Fault::CutAfter(0));
        let error = world.download().unwrap_err();
        assert!(matches!(error, Error::GaveUp { tries: 3, .. }), "{error}");
        assert_eq!(world.server.requests().len(), cuts.len() + 3);
    }
}

#[test]
fn a_later_run_goes_on_too() {
    let world = World::new();
    world.server.always("/file", Fault::CutAfter(1000));
    let error = cause(world.download().unwrap_err());
    match &error {
        Error::CutOff { got: 3000, expected: Some(n), .. } => assert_eq!(*n, SIZE as u64),
        error => panic!("{error:?}"),
    }
    assert!(error.hint().unwrap().contains("goes on"));
    assert!(!world.is_whole());
    world.server.always("/file", Fault::Slow(1 << 20, Duration::ZERO));
    let seen = Seen::default();
    download(&world.client, &world.store, &world.wanted(), &seen).unwrap();
    assert!(world.is_whole());
    assert_eq!(world.ranges()[3], Some(3000));
    assert_eq!(seen.bytes.load(Ordering::Relaxed), SIZE as u64 - 3000);
    assert_eq!(seen.have.load(Ordering::Relaxed), 3000);
}

#[test]
fn a_cut_is_no_failure_while_it_goes_forward() {
    let world = World::new();
    // More cuts than tries: some bring little, none of all together nothing.
    for _ in 0..4 {
        world.server.once("/file", Fault::CutAfter((64 << 10) + 1));
        world.server.once("/file", Fault::CutAfter(10));
    }
    world.download().unwrap();
    assert!(world.is_whole());
}

#[test]
fn another_address_is_asked_when_the_first_fails() {
    for fault in [Fault::Status(404, None), Fault::HangUp, Fault::Other(vec![1; 10])] {
        let world = World::new();
        world.server.put("/bad", world.bytes.clone());
        world.server.always("/bad", fault);
        let bad = world.server.url("/bad");
        let others = vec![world.server.url("/none"), world.wanted().url];
        let wanted = Wanted { url: bad.clone(), others, ..world.wanted() };
        download(&world.client, &world.store, &wanted, &Silent).unwrap();
        assert!(world.is_whole());
        // Where all fail it is the first that is named.
        let world = World::new();
        let others = vec![world.server.url("/none/2")];
        let wanted = Wanted { url: world.server.url("/none/1"), others, ..world.wanted() };
        let error = download(&world.client, &world.store, &wanted, &Silent).unwrap_err();
        assert!(error.to_string().contains("/none/1"), "{error}");
        assert_eq!(world.server.requests_for("/none/2").len(), 1);
    }
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let world = World::new();
    world.server.once("/file", Fault::CutAfter(2_000_000));
    world.server.once("/file", Fault::IgnoreRange);
    let seen = Seen::default();
    download(&world.client, &world.store, &world.wanted(), &seen).unwrap();
    assert!(world.is_whole());
    assert_eq!(seen.restarted.load(Ordering::Relaxed), 2_000_000);
    assert_eq!(
        seen.bytes.load(Ordering::Relaxed) - seen.restarted.load(Ordering::Relaxed),
        SIZE as u64
    );
}

#[test]
fn a_part_from_elsewhere_is_not_taken() {
    let world = World::new();
    world.server.once("/file", Fault::CutAfter(2_000_000));
    world.server.once("/file", Fault::WrongRange(7));
    let error = world.download().unwrap_err();
    assert!(matches!(error, Error::BadAnswer { .. }), "{error:?}");
    world.download().unwrap();
    assert!(world.is_whole());
}

#[test]
fn a_part_of_another_file_is_found_out_and_fetched_anew() {
    let world = World::new();
    fs::write(world.store.partial_path(world.wanted().digest), vec![7; 1_000_000]).unwrap();
    world.download().unwrap();
    assert!(world.is_whole());
    assert_eq!(world.ranges(), [Some(1_000_000), None]);
    // Longer than the file, of its length, and whole already.
    for (part, requests) in [(vec![7; SIZE + 5], 1), (vec![7; SIZE], 1), (world.bytes.clone(), 0)] {
        let world = World::new();
        fs::write(world.store.partial_path(world.wanted().digest), part).unwrap();
        world.download().unwrap();
        assert!(world.is_whole());
        assert_eq!(world.server.requests().len(), requests);
    }
}

#[test]
fn a_wrong_file_is_thrown_away_and_both_digests_named() {
    let world = World::new();
    let mut other = world.bytes.clone();
    other[SIZE / 2] ^= 1;
    world.server.put("/file", other.clone());
    let error = world.download().unwrap_err();
    let text = error.to_string();
    for part in ["file.whl", &world.wanted().digest.to_string(), &Digest::of(&other).to_string()] {
        assert!(text.contains(part), "{text}");
    }
    assert!(error.hint().is_some());
    assert!(!world.is_whole() && !world.store.has_blob(Digest::of(&other)).unwrap());
    assert!(!world.store.partial_path(world.wanted().digest).exists());
    assert_eq!(world.server.requests().len(), 1, "a wrong file is no passing failure");
}

#[test]
fn a_wrong_length_is_an_error() {
    let world = World::new();
    world.server.always("/file", Fault::LengthTooLarge(10));
    // All bytes of the right file came; what the header says is the server's affair.
    world.download().unwrap();
    assert!(world.is_whole());
    let world = World::new();
    world.server.put("/file", vec![0; SIZE + 1]);
    let error = world.download().unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
    let world = World::new();
    world.server.put("/file", vec![0; SIZE - 1]);
    let error = cause(world.download().unwrap_err());
    assert!(matches!(error, Error::CutOff { .. } | Error::WrongDigest { .. }), "{error:?}");
    let world = World::new();
    world.server.always("/file", Fault::Endless);
    let error = world.download().unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
    assert!(!world.is_whole());
}

#[test]
fn silence_is_not_waited_for_forever() {
    let world = World::new();
    world.server.once("/file", Fault::StallAfter(1_000_000));
    let start = Instant::now();
    world.download().unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(world.ranges(), [None, Some(1_000_000)]);
    world.server.put("/stuck", vec![0; 10]);
    world.server.always("/stuck", Fault::StallAfter(1));
    let wanted = Wanted { url: world.server.url("/stuck"), size: None, ..world.wanted() };
    let wanted = Wanted { digest: Digest::of(&[0; 10]), ..wanted };
    let error = download(&world.client, &world.store, &wanted, &Silent).unwrap_err();
    assert!(matches!(&error, Error::GaveUp { tries: 3, .. }), "{error:?}");
    assert!(matches!(cause(error), Error::Stalled { .. }));
}

#[test]
fn a_connection_that_drips_is_given_up_and_taken_again() {
    let slow = || World::with(|options| options.slow = Duration::from_millis(300));
    let drips = || Fault::Slow(10, Duration::from_millis(20));
    let world = slow();
    world.server.once("/file", drips());
    let start = Instant::now();
    world.download().unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(world.is_whole());
    assert!(matches!(world.ranges()[..], [None, Some(1..)]), "{:?}", world.ranges());

    // Where it goes on like that, another address is asked.
    let world = slow();
    world.server.always("/file", drips());
    let error = cause(world.download().unwrap_err());
    assert!(matches!(error, Error::Slow { .. }), "{error:?}");
    assert!(error.hint().is_some());
    world.server.put("/other", world.bytes.clone());
    let wanted = Wanted { others: vec![world.server.url("/other")], ..world.wanted() };
    download(&world.client, &world.store, &wanted, &Silent).unwrap();
    assert!(world.is_whole());
    // Small answers too.
    let error = cause(world.client.get_bytes(&world.server.url("/file"), 4 << 20).unwrap_err());
    assert!(matches!(error, Error::Slow { .. }), "{error:?}");
}

#[test]
fn a_busy_server_may_name_a_date() {
    let world = World::new();
    let head = "HTTP/1.1 503 No\r\nContent-Length: 0\r\nRetry-After:";
    let busy = |date: &str| Fault::Raw(format!("{head} {date}\r\n\r\n").into_bytes());
    world.server.once("/file", busy("Sun, 06 Nov 1994 08:49:37 GMT"));
    world.download().unwrap();
    assert!(world.is_whole());
    let world = World::new();
    world.server.always("/file", busy("Fri, 31 Dec 2100 23:59:59 GMT"));
    assert!(matches!(world.download(), Err(Error::GaveUp { tries: 1, .. })));
}

#[test]
fn a_page_of_another_machine_leads_to_no_file_of_this_one() {
    let world = World::new();
    let page = "<a href=\"file:///etc/hostname\">a-1-py3-none-any.whl</a>";
    world.server.put_as("/simple/a/", "text/html", page);
    let error = pypi::files(&world.client, &world.server.url("/simple"), "a").unwrap_err();
    assert!(error.to_string().contains("a file of this machine"), "{error}");
    let json = r#"{"files": [{"filename": "b-1.tar.gz", "url": "file:///etc/hostname"}]}"#;
    world.server.put_as("/simple/b/", "application/vnd.pypi.simple.v1+json", json);
    let error = pypi::files(&world.client, &world.server.url("/simple"), "b").unwrap_err();
    assert!(error.to_string().contains("b-1.tar.gz is a file of this machine"), "{error}");
    // A page on this machine may.
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("a")).unwrap();
    fs::write(folder.path().join("a/index.html"), page).unwrap();
    let base = format!("file://{}", folder.path().display());
    assert_eq!(pypi::files(&world.client, &base, "a").unwrap().len(), 1);
}

#[test]
fn a_busy_server_is_asked_again_after_the_time_it_says() {
    let world = World::new();
    world.server.once("/file", Fault::Status(429, Some(1)));
    world.server.once("/file", Fault::Status(503, None));
    let start = Instant::now();
    world.download().unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert!(world.is_whole());
    for (status, tries) in [(500, 3), (429, 3), (404, 1), (403, 1)] {
        let world = World::new();
        world.server.always("/file", Fault::Status(status, None));
        let error = world.download().unwrap_err();
        assert!(error.hint().is_some());
        assert!(matches!(cause(error), Error::Status { status: s, .. } if s == status));
        assert_eq!(world.server.requests().len(), tries, "{status}");
    }
    let world = World::new();
    world.server.always("/file", Fault::Status(429, Some(100_000)));
    assert!(matches!(world.download(), Err(Error::GaveUp { tries: 1, .. })));
}

#[test]
fn redirects_are_followed_but_not_without_end() {
    let world = World::new();
    world.server.always("/moved", Fault::Redirect("/file".into()));
    let wanted = Wanted { url: world.server.url("/moved"), ..world.wanted() };
    download(&world.client, &world.store, &wanted, &Silent).unwrap();
    assert!(world.is_whole());
    world.server.always("/loop", Fault::Redirect("/loop".into()));
    let error = world.client.get_bytes(&world.server.url("/loop"), 10).unwrap_err();
    assert!(matches!(error, Error::BadAnswer { .. }), "{error:?}");
}

#[test]
fn logins_go_to_their_host_and_into_no_error() {
    let server = Server::start();
    let other = Server::start();
    other.put("/x", "y");
    server.put("/x", "y");
    // Two names of this machine are two hosts.
    let elsewhere = other.url("/x").replace("127.0.0.1", "localhost");
    server.always("/away", Fault::Redirect(elsewhere));
    let with_login = |path: &str| server.url(path).replace("http://", "http://me:s3cr%23t@");
    let client = client(|_| {});
    assert_eq!(client.get_bytes(&with_login("/x"), 10).unwrap(), b"y");
    assert_eq!(server.requests()[0].header("authorization"), Some("Basic bWU6czNjciN0"));
    client.get_bytes(&with_login("/away"), 10).unwrap();
    assert_eq!(other.requests()[0].header("authorization"), None);
    // So are two ports of one name.
    server.always("/aside", Fault::Redirect(other.url("/x")));
    client.get_bytes(&with_login("/aside"), 10).unwrap();
    assert_eq!(other.requests()[1].header("authorization"), None);
    // On its own host it goes along.
    server.always("/round", Fault::Redirect("/x".into()));
    client.get_bytes(&with_login("/round"), 10).unwrap();
    let last = server.requests().pop().unwrap();
    assert_eq!(last.header("authorization"), Some("Basic bWU6czNjciN0"));
    for error in [
        client.get_bytes(&with_login("/none"), 10).unwrap_err(),
        client.get_bytes(&with_login("/x"), 0).unwrap_err(),
        client.get_bytes("https://me:s3cr%23t@", 10).unwrap_err(),
        client.get_bytes("ftp://me:s3cr%23t@host/", 10).unwrap_err(),
        client.get_bytes(&with_login("/x?token=s3cr%23t").replace("/x", "/none"), 10).unwrap_err(),
    ] {
        let text = format!("{error} {error:?}");
        assert!(!text.contains("s3cr"), "{text}");
    }
    let netrc = Netrc::parse("machine 127.0.0.1 login a password b");
    let client = self::client(|options| options.netrc = netrc);
    client.get_bytes(&server.url("/x"), 10).unwrap();
    assert_eq!(server.requests().last().unwrap().header("authorization"), Some("Basic YTpi"));
    client.remember(&with_login("/simple"));
    client.get_bytes(&server.url("/x"), 10).unwrap();
    let last = server.requests();
    assert_eq!(last.last().unwrap().header("authorization"), Some("Basic bWU6czNjciN0"));
    // It is for that port, a query for that address.
    let other = Server::start();
    other.put("/x", "y");
    let asked = self::client(|_| {});
    asked.remember(&with_login("/x?token=1"));
    asked.get_bytes(&other.url("/x"), 10).unwrap();
    assert_eq!(other.requests()[0].path, "/x");
    assert_eq!(other.requests()[0].header("authorization"), None);
    server.put("/x?token=1", "z");
    assert_eq!(asked.get_bytes(&server.url("/x"), 10).unwrap(), b"z");
}

#[test]
fn nonsense_is_an_error() {
    let server = Server::start();
    let client = client(|_| {});
    for bytes in [&b"garbage\r\n\r\n"[..], b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b""] {
        server.once("/x", Fault::Raw(bytes.to_vec()));
        server.once("/x", Fault::Raw(bytes.to_vec()));
        server.once("/x", Fault::Raw(bytes.to_vec()));
        assert!(client.get_bytes(&server.url("/x"), 10).is_err());
    }
    server.put("/large", vec![0; 1000]);
    assert!(matches!(client.get_bytes(&server.url("/large"), 999), Err(Error::TooLarge { .. })));
    assert_eq!(client.get_bytes(&server.url("/large"), 1000).unwrap().len(), 1000);
    drop(server);
}

#[test]
fn nobody_there_is_said() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = client(|_| {}).get_bytes(&format!("http://{address}/"), 10).unwrap_err();
    assert!(error.to_string().contains("tried 3 times"), "{error}");
    assert!(matches!(cause(error), Error::Unreachable { .. }));
}

#[test]
fn offline_names_what_is_missing() {
    let world = World::with(|options| options.offline = true);
    let local = world.store.root().join("local.whl");
    fs::write(&local, "local").unwrap();
    let at_hand = Wanted {
        name: "local.whl".into(),
        others: Vec::new(),
        url: format!("file://{}", local.display()),
        digest: Digest::of(b"local"),
        size: Some(5),
        within: None,
    };
    // Only where it may be, whatever its path says: what counts is what was opened.
    let elsewhere = tempfile::tempdir().unwrap();
    let place = elsewhere.path().canonicalize().unwrap();
    std::os::unix::fs::symlink(&local, place.join("local.whl")).unwrap();
    let link = Wanted {
        url: format!("file://{}", place.join("local.whl").display()),
        within: Some(vec![place]),
        ..at_hand.clone()
    };
    let refused = download_all(&world.client, &world.store, &[link], 4, &Silent).unwrap_err();
    assert!(matches!(refused, Error::Untrusted { .. }), "{refused}");
    assert!(world.store.blob_path(at_hand.digest).unwrap().is_none());
    let within = Some(vec![world.store.root().canonicalize().unwrap()]);
    let at_hand = Wanted { within, ..at_hand };
    download_all(&world.client, &world.store, std::slice::from_ref(&at_hand), 4, &Silent).unwrap();
    let files = [at_hand, world.wanted()];
    match download_all(&world.client, &world.store, &files, 4, &Silent).unwrap_err() {
        Error::Offline { missing } => assert_eq!(missing, ["file.whl"]),
        error => panic!("{error:?}"),
    }
    let offline = world.client.get_bytes(&world.server.url("/file"), 1 << 30);
    assert!(matches!(offline, Err(Error::Offline { .. })));
    assert!(world.server.requests().is_empty());
    let online = client(|_| {});
    download_all(&online, &world.store, &files, 4, &Silent).unwrap();
    download_all(&world.client, &world.store, &files, 4, &Silent).unwrap();
}

#[test]
fn many_files_come_side_by_side() {
    let world = World::new();
    let mut files = Vec::new();
    for number in 0..20_u8 {
        let bytes = vec![number; 10_000];
        let path = format!("/{number}");
        world.server.put(&path, bytes.clone());
        world.server.once(&path, Fault::CutAfter(usize::from(number) * 100));
        files.push(Wanted {
            name: number.to_string(),
            others: Vec::new(),
            url: world.server.url(&path),
            digest: Digest::of(&bytes),
            size: (number % 2 == 0).then_some(10_000),
            within: None,
        });
    }
    files.push(files[3].clone());
    let seen = Seen::default();
    download_all(&world.client, &world.store, &files, 6, &seen).unwrap();
    files.iter().for_each(|file| world.store.verify(file.digest).unwrap());
    let finished = seen.finished.lock().unwrap().len();
    assert_eq!(finished, 20);
    let bytes = seen.bytes.load(Ordering::Relaxed) - seen.restarted.load(Ordering::Relaxed);
    assert_eq!(bytes, 200_000);
    // One failure ends it, and is what is said.
    world.server.always("/file", Fault::Status(404, None));
    let error = download_all(&world.client, &world.store, &[world.wanted()], 3, &Silent);
    assert!(matches!(error, Err(Error::Status { status: 404, .. })));
}

#[test]
fn stopping_keeps_what_has_come() {
    let cancel = Arc::new(AtomicBool::new(false));
    let world = World::with(|options| options.cancel = cancel.clone());
    world.server.once("/file", Fault::Slow(300_000, Duration::from_millis(30)));
    let stopper = Seen { cancel: Some(cancel.clone()), ..Seen::default() };
    let result = download(&world.client, &world.store, &world.wanted(), &stopper);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert!(!world.is_whole());
    let kept = fs::metadata(world.store.partial_path(world.wanted().digest)).unwrap().len();
    assert!(kept > 0 && kept < SIZE as u64);
    cancel.store(false, Ordering::Relaxed);
    world.download().unwrap();
    assert!(world.is_whole());
    assert_eq!(world.ranges(), [None, Some(kept)]);
}

#[test]
fn a_wheel_is_found_in_both_kinds_of_index() {
    for mut index in [PackageIndex::json(), PackageIndex::html()] {
        let wheel = Wheel::new("Some-Thing", "1.0+cu12").file("some_thing/__init__.py", b"x = 1\n");
        let digest = index.add(&wheel);
        let client = client(|_| {});
        let name = wheel.file_name();
        let url = pypi::find(&client, &index.url(), &name, digest).unwrap();
        assert_eq!(Digest::of(&client.get_bytes(&url, 1 << 20).unwrap()), digest);
        let asked = index.server.requests_for("/simple/some-thing/");
        assert!(asked[0].header("accept").unwrap().contains("v1+json"));
        match pypi::find(&client, &index.url(), &name, Digest::of(b"")).unwrap_err() {
            Error::NotInIndex { other, .. } => assert_eq!(other, Some(digest)),
            error => panic!("{error:?}"),
        }
        let missing = pypi::find(&client, &index.url(), "other-1-py3-none-any.whl", digest);
        assert!(matches!(missing, Err(Error::Status { status: 404, .. })));
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a b-1.whl"), "w").unwrap();
    let links = pypi::find_links(&client(|_| {}), folder.path().to_str().unwrap()).unwrap();
    assert_eq!(links[0].name, "a b-1.whl");
    assert_eq!(client(|_| {}).get_bytes(&links[0].url, 10).unwrap(), b"w");
}

#[derive(Default)]
struct Seen {
    have: AtomicU64,
    bytes: AtomicU64,
    restarted: AtomicU64,
    finished: Mutex<Vec<String>>,
    cancel: Option<Arc<AtomicBool>>,
}

impl DownloadProgress for Seen {
    fn started(&self, _: &str, have: u64, _: Option<u64>) {
        self.have.fetch_add(have, Ordering::Relaxed);
    }

    fn advanced(&self, _: &str, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(cancel) = &self.cancel {
            cancel.store(true, Ordering::Relaxed);
        }
    }

    fn restarted(&self, _: &str, bytes: u64) {
        self.restarted.fetch_add(bytes, Ordering::Relaxed);
    }

    fn finished(&self, name: &str) {
        self.finished.lock().unwrap().push(name.to_owned());
    }

    fn retrying(&self, _: &str, _: &Error) {}
}
