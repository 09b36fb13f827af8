//! Files from peers that have them, and from peers that lie, hang, drip or are gone.

use std::net::TcpListener;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sconce_blob::Digest;
use sconce_fetch::downloads::DownloadProgress;
use sconce_fetch::peers::{Needed, Peers};
use sconce_store::Store;
use sconce_testkit::{Fault, Server};

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl DownloadProgress for Heard {
    fn started(&self, _: &str, _: u64, _: Option<u64>) {}
    fn advanced(&self, _: &str, _: u64) {}
    fn restarted(&self, _: &str, _: u64) {}
    fn finished(&self, name: &str) {
        self.0.lock().unwrap().push(format!("{name} is there"));
    }
    fn retrying(&self, name: &str, why: &sconce_fetch::Error) {
        self.0.lock().unwrap().push(format!("{name}: {why}"));
    }
}

struct World {
    _folder: tempfile::TempDir,
    store: Store,
    heard: Heard,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    World { _folder: folder, store, heard: Heard::default() }
}

impl World {
    fn take(&self, peers: &[&Server], files: &[&[u8]]) -> Vec<bool> {
        let hosts: Vec<String> =
            peers.iter().map(|peer| peer.url("").replace("http://", "")).collect();
        self.take_at(&Peers::new(&hosts).unwrap(), files)
    }

    fn take_at(&self, peers: &Peers, files: &[&[u8]]) -> Vec<bool> {
        let needed: Vec<Needed> = files.iter().map(|bytes| needed(bytes)).collect();
        peers.take(&self.store, &needed, 4, &self.heard).unwrap();
        files
            .iter()
            .map(|bytes| self.store.blob_path(Digest::of(bytes)).unwrap().is_some())
            .collect()
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.heard.0.lock().unwrap())
    }
}

fn needed(bytes: &[u8]) -> Needed {
    let name = String::from_utf8_lossy(&bytes[..bytes.len().min(8)]).into_owned();
    Needed { name, digest: Digest::of(bytes), size: bytes.len() as u64 }
}

fn path(bytes: &[u8]) -> String {
    format!("/v2/sconce/blobs/{}", Digest::of(bytes))
}

#[test]
fn what_one_of_them_has() {
    let (first, second) = (Server::start(), Server::start());
    let files: [&[u8]; 3] = [b"in the first", b"in the second", b"in neither"];
    first.put(&path(files[0]), files[0]);
    second.put(&path(files[1]), files[1]);
    let world = world();
    assert_eq!(world.take(&[&first, &second], &files), [true, true, false]);
    let mut heard = world.heard();
    heard.sort();
    assert_eq!(heard, ["in the f is there", "in the s is there"]);
    let asked = first.requests().len() + second.requests().len();
    assert_eq!(world.take(&[&first, &second], &files[..2]), [true, true]);
    assert_eq!(
        first.requests().len() + second.requests().len(),
        asked,
        "what is here is not asked for"
    );
}

/// Whatever a peer does wrong, nothing of it is in the store, and another that has the file gives it.
#[test]
fn what_a_bad_peer_sends_is_dropped() {
    let file = &[7_u8; 100_000][..];
    for fault in [
        Fault::Other(vec![8; 100_000]),
        Fault::Other(vec![7; 100_001]),
        Fault::Other(vec![7; 99_999]),
        Fault::CutAfter(5000),
        Fault::Status(500, None),
        Fault::Status(401, None),
        Fault::HangUp,
        Fault::Endless,
        Fault::Raw(b"SSH-2.0-x\r\n".to_vec()),
    ] {
        let (bad, good) = (Server::start(), Server::start());
        bad.put(&path(file), file);
        bad.always(&path(file), fault.clone());
        let world = world();
        assert_eq!(world.take(&[&bad], &[file]), [false], "{fault:?}");
        assert_eq!(world.heard().len(), 1, "{fault:?}");
        let left = std::fs::read_dir(world.store.root().join("partial")).unwrap().count();
        assert_eq!(left, 0, "{fault:?}: nothing that another download would go on with");
        good.put(&path(file), file);
        assert_eq!(world.take(&[&bad, &good], &[file]), [true], "{fault:?}");
    }
}

#[test]
fn a_peer_that_hangs_drips_or_is_gone_costs_seconds() {
    let files: Vec<Vec<u8>> = (0..20).map(|n| vec![n; 600_000]).collect();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let (hangs, drips) = (Server::start(), Server::start());
    for file in &files {
        for server in [&hangs, &drips] {
            server.put(&path(file), *file);
        }
        hangs.always(&path(file), Fault::StallAfter(10));
        drips.always(&path(file), Fault::Slow(2000, Duration::from_millis(100)));
    }
    for host in [gone, hangs.url("").replace("http://", ""), drips.url("").replace("http://", "")] {
        let world = world();
        let begun = Instant::now();
        let peers = Peers::new(std::slice::from_ref(&host)).unwrap();
        assert!(world.take_at(&peers, &files).iter().all(|there| !there), "{host}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{host}: {:?}", begun.elapsed());
        // Given up: not asked again, by nobody who has it from the same list.
        let begun = Instant::now();
        world.take_at(&peers.clone(), &files);
        assert!(begun.elapsed() < Duration::from_secs(1), "{host}: {:?}", begun.elapsed());
    }
}

#[test]
fn addresses() {
    for good in ["node1:5000", "127.0.0.1:5000", "http://node1", "https://node1:5000", "[::1]:5000"]
    {
        assert!(Peers::new(&[good.to_owned()]).is_ok(), "{good}");
    }
    for bad in [
        "",
        "http://",
        "ftp://node1",
        "file:///etc/passwd",
        "node1:5000/path",
        "http://u:p@node1",
        "a b",
    ] {
        assert!(Peers::new(&[bad.to_owned()]).is_err(), "{bad}");
    }
    assert!(Peers::new(&["node1:5000".to_owned()]).unwrap().has("node1:5000"));
    assert!(Peers::new(&[]).unwrap().is_empty());
}
