//! `sconce serve` as a test starts it, and requests as they are.
#![allow(dead_code)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use sconce_blob::Digest;

use super::World;

/// A server that ends with the test.
pub struct Served {
    pub child: Child,
    pub host: String,
}

/// What came back.
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Served {
    pub fn start(world: &World, words: &[&str]) -> Self {
        let mut all = vec!["serve", "--no-build", "--listen", "127.0.0.1:0"];
        all.extend(words);
        let log = fs::File::create(world.path("log")).unwrap();
        let mut child = world.sconce(&all).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let said = fs::read_to_string(world.path("log")).unwrap();
        let host = line.trim().strip_prefix("http://").expect(&said).to_owned();
        Self { child, host }
    }

    /// Sends what is given as it is; what comes until the other end closes.
    pub fn send(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        let length = match body {
            [] => String::new(),
            body => format!("Content-Length: {}\r\n", body.len()),
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}Connection: close\r\n\r\n"
        );
        let answer = self.send(&[head.as_bytes(), body].concat());
        let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).expect(head);
        Reply { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub fn begin(&self, repository: &str) -> String {
        let reply = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
        assert_eq!((reply.status, reply.header("range")), (202, Some("0-0")), "{}", reply.head);
        reply.header("location").unwrap().to_owned()
    }

    pub fn has(&self, digest: Digest) -> bool {
        self.ask("HEAD", &format!("/v2/x/blobs/{digest}"), "", b"").status == 200
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[track_caller]
pub fn is(reply: &Reply, status: u16, says: &str) {
    assert!(reply.status == status && reply.body.contains(says), "{}\n{}", reply.head, reply.body);
}
