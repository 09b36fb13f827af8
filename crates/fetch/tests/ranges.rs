//! A file that is read in parts, from servers that send parts and from those that do not.

use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use sconce_fetch::http::{Client, Options};
use sconce_fetch::range::Remote;
use sconce_testkit::{Fault, Server};

const SIZE: usize = 3 << 20;
const LIMIT: u64 = 1 << 20;

fn client() -> Client {
    Client::new(Options {
        connect: Duration::from_secs(5),
        stall: Duration::from_millis(300),
        tries: 3,
        backoff: Duration::from_millis(1),
        ..Options::default()
    })
}

fn served() -> (Server, Vec<u8>) {
    let server = Server::start();
    let bytes: Vec<u8> = (0..SIZE as u32 / 4).flat_map(u32::to_le_bytes).collect();
    server.put("/file.whl", bytes.clone());
    (server, bytes)
}

/// Why a file can't be opened, causes included.
#[track_caller]
fn refused(url: &str) -> String {
    match Remote::open(&client(), url, LIMIT) {
        Ok(remote) => panic!("opened, {} bytes", remote.size()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn parts_are_read_and_each_block_once() {
    let (server, bytes) = served();
    let client = client();
    let remote = Remote::open(&client, &server.url("/file.whl"), LIMIT).unwrap();
    assert_eq!(remote.size(), SIZE as u64);
    let mut buf = vec![0; 1000];
    for at in [0, 700_000, SIZE - 1000, 700_500, 262_144 - 500] {
        assert_eq!(remote.read_at(&mut buf, at as u64).unwrap(), 1000);
        assert_eq!(buf, bytes[at..at + 1000], "at {at}");
    }
    // The end, and what is behind it.
    assert_eq!(remote.read_at(&mut buf, SIZE as u64 - 3).unwrap(), 3);
    assert_eq!(remote.read_at(&mut buf, SIZE as u64).unwrap(), 0);
    assert_eq!(remote.read_at(&mut buf, u64::MAX).unwrap(), 0);
    let asked = server.requests_for("/file.whl").len();
    assert_eq!(asked, 4, "the first block, that of 700,000, the last, and the second");
}

#[test]
fn what_stands_together_comes_with_one_request_over_one_connection() {
    let (server, bytes) = served();
    let client = client();
    let remote = Remote::open_at_end(&client, &server.url("/file.whl"), SIZE as u64).unwrap();
    let mut buf = [0; 8];
    assert_eq!(remote.read_at(&mut buf, 800_000).unwrap(), 8);
    // On both sides of what is there, and into the end that came first.
    let mut part = vec![0; SIZE - 100_000];
    assert_eq!(remote.read_at(&mut part, 100_000).unwrap(), part.len());
    assert_eq!(part, bytes[100_000..]);
    let asked = server.requests_for("/file.whl");
    let ranges: Vec<_> = asked.iter().filter_map(|asked| asked.header("range")).collect();
    assert_eq!(
        ranges,
        ["bytes=-98304", "bytes=786432-1048575", "bytes=0-786431", "bytes=1048576-3145727"]
    );
    assert_eq!(server.connections(), 1);
}

#[test]
fn no_more_is_fetched_than_allowed() {
    let (server, _) = served();
    let client = client();
    let remote = Remote::open(&client, &server.url("/file.whl"), LIMIT).unwrap();
    let mut all = vec![0; SIZE];
    let words = remote.read_at(&mut all, 0).unwrap_err().to_string();
    assert!(words.contains("more than 1048576 bytes"), "{words}");
    assert!(server.requests_for("/file.whl").len() <= 4);
}

#[test]
fn a_server_that_ignores_ranges_is_refused_before_its_body_is_read() {
    let (server, _) = served();
    server.always("/file.whl", Fault::IgnoreRange);
    let words = refused(&server.url("/file.whl"));
    assert!(words.contains("the whole file where a part is asked for"), "{words}");
    // Trying again would not help.
    assert_eq!(server.requests_for("/file.whl").len(), 1);
}

#[test]
fn a_server_that_lies_about_the_length() {
    let (server, _) = served();
    let raw = |range: &str, length: usize, body: usize| {
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: {range}\r\nContent-Length: {length}\r\n\r\n"
        );
        Fault::Raw([head.into_bytes(), vec![0; body]].concat())
    };
    let block = 256 << 10;
    for (fault, word) in [
        // Another part, no part, a file of 16 EiB, and one that is shorter than it says.
        (Fault::WrongRange(7), "another one"),
        (raw("bytes 0-9/many", 10, 10), "which part it sends"),
        (raw("bytes 0-262143/18446744073709551615", block, block), "18446744073709551615 bytes"),
        (raw("bytes 0-262143/3145728", block, 100), "cut off after 100 bytes"),
        (raw("bytes 0-99/3145728", 100, 100), "cut off"),
    ] {
        server.always("/file.whl", fault.clone());
        let words = refused(&server.url("/file.whl"));
        assert!(words.contains(word), "{fault:.80?}: {words}");
    }
    // A body that is longer than the part is not read to its end.
    server.always("/file.whl", raw("bytes 0-262143/3145728", 64 << 20, 1 << 20));
    let client = client();
    let remote = Remote::open(&client, &server.url("/file.whl"), LIMIT).unwrap();
    assert_eq!(remote.read_at(&mut [0; 10], 262_134).unwrap(), 10);
    // The file is another one by now.
    server.always("/file.whl", raw("bytes 262144-524287/9000000", block, block));
    let words = remote.read_at(&mut [0; 10], 300_000).unwrap_err().to_string();
    assert!(words.contains("had 3145728 bytes and now has 9000000"), "{words}");
}

#[test]
fn a_reset_is_tried_again_and_given_up_in_time() {
    let (server, bytes) = served();
    for fault in [Fault::HangUp, Fault::CutAfter(1000)] {
        server.once("/file.whl", fault);
    }
    let client = client();
    let remote = Remote::open(&client, &server.url("/file.whl"), LIMIT).unwrap();
    let mut buf = [0; 8];
    assert_eq!(remote.read_at(&mut buf, 8).unwrap(), 8);
    assert_eq!(buf, bytes[8..16]);
    server.always("/file.whl", Fault::StallAfter(1000));
    let words = remote.read_at(&mut buf, 600_000).unwrap_err().to_string();
    assert!(words.contains("3 times") && words.contains("sent nothing"), "{words}");

    // A connection that is closed while the request lies unread is reset.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/file.whl", listener.local_addr().unwrap());
    let resets = std::thread::spawn(move || {
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().unwrap();
            stream.peek(&mut [0; 10]).unwrap();
            stream.write_all(b"HTTP/1.1 206 Partial").unwrap();
        }
    });
    let begun = Instant::now();
    let words = refused(&url);
    assert!(words.contains("3 times"), "{words}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    resets.join().unwrap();
}

#[test]
fn a_local_file_is_read_and_a_fifo_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.whl");
    std::fs::write(&path, b"0123456789").unwrap();
    let url = format!("file://{}", path.display());
    let client = client();
    let remote = Remote::open(&client, &url, LIMIT).unwrap();
    let mut buf = [0; 4];
    assert_eq!((remote.size(), remote.read_at(&mut buf, 8).unwrap()), (10, 2));
    assert_eq!(&buf[..2], b"89");
    let fifo = folder.path().join("b.whl");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    refused(&format!("file://{}", fifo.display()));
}
