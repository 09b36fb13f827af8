//! `sconce serve` for others: with TLS, with logins, and with clients that hold connections and say nothing.

mod world;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use world::World;

const ECHO: &str = r#"{"Env": ["PATH=/usr/bin"], "Cmd": ["echo", "from the store"]}"#;
const CA: &str = include_str!("../../serve/tests/tls/ca.pem");
const CERTIFICATE: &str = include_str!("../../serve/tests/tls/server.pem");
const KEY: &str = include_str!("../../serve/tests/tls/server.key");
/// `htpasswd -nbB -C 5 u secret`.
const USERS: &str = "u:$2y$05$S8.ks7lcwInJ6sk1kcKLYOpPYFFFSA2iDrBQen3Enevv5Koo93Ca2\n";
const LOGIN: &str = "dTpzZWNyZXQ=";

/// A server that ends with the test; what it says on standard error is in a file.
struct Served {
    child: Child,
    address: String,
}

impl Served {
    fn start(world: &World, words: &[&str]) -> Self {
        let mut words = words.to_vec();
        words.splice(0..0, ["serve", "--no-build"]);
        if !words.contains(&"--listen") {
            words.extend(["--listen", "127.0.0.1:0"]);
        }
        let log = fs::File::create(world.path("log")).unwrap();
        let mut child = world.sconce(&words).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let said = fs::read_to_string(world.path("log")).unwrap();
        assert!(line.contains("://"), "{line}{said}");
        Self { child, address: line.trim().to_owned() }
    }

    fn host(&self) -> &str {
        self.address.split_once("://").unwrap().1
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.host()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    fn ask(&self, path: &str, headers: &str) -> String {
        let mut stream = self.connect();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        // Closed in the middle of what it is: that is an answer too.
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn with_image() -> World {
    let world = World::new();
    for (name, text) in
        [("ca.pem", CA), ("node.pem", CERTIFICATE), ("node.key", KEY), ("users", USERS)]
    {
        fs::write(world.path(name), text).unwrap();
    }
    world.image(ECHO);
    let (code, out, err) = world.says(&["copy", "oci:image", "store:lab/demo:1"]);
    assert_eq!(code, 0, "{out}{err}");
    world
}

#[test]
fn who_has_a_login_pulls_over_tls() {
    let here = with_image();
    let tls = ["--tls-cert", "node.pem", "--tls-key", "node.key", "--htpasswd", "users"];
    let served = Served::start(&here, &tls);
    assert!(served.address.starts_with("https://127.0.0.1:"), "{}", served.address);
    let there = World::new();
    fs::write(there.path("ca.pem"), CA).unwrap();
    let name = format!("{}/lab/demo:1", served.host());
    let pull = ["pull", "--ca", "ca.pem", &name];
    let (code, _, err) = there.says(&pull);
    assert!(code == 5 && err.contains("sconce login"), "{code} {err}");
    let login = |password: &str| {
        there.says(&["login", "--ca", "ca.pem", "-u", "u", "-p", password, served.host()])
    };
    let (code, _, err) = login("wr0ng");
    assert!(code == 5 && err.contains("refuses to log in"), "{code} {err}");
    let (code, _, err) = login("secret");
    assert!(code == 0, "{code} {err}");
    // `run` takes it from there as `pull` does.
    let run = ["run", "-q", "--gpus", "none"];
    let (code, _, err) = there.says(&[&run[..], &[&name]].concat());
    assert_eq!(code, 125, "{err}");
    let (code, out, err) = there.says(&[&run[..], &["--ca", "ca.pem", &name]].concat());
    assert_eq!((code, out.as_str()), (0, "from the store\n"), "{err}");
    let (code, out, err) = there.says(&pull);
    assert!(code == 0, "{code} {out}{err}");
    let (code, out, err) = there.says(&["run", "-q", "--gpus", "none", &name]);
    assert_eq!((code, out.as_str()), (0, "from the store\n"), "{err}");
    // Asked without TLS it answers with no HTTP.
    let (code, _, err) = World::new().says(&["pull", &name]);
    assert!(
        code == 5 && err.contains("the server speaks TLS there") && err.contains("--ca FILE"),
        "{err}"
    );
    // An authority that nobody named is none.
    let (code, _, err) = World::new().says(&["pull", "--ca", "/dev/null", &name]);
    assert_ne!(code, 0, "{err}");
    // Who speaks in the clear learns nothing.
    let plain = served.ask("/v2/_catalog", &format!("Authorization: Basic {LOGIN}\r\n"));
    assert!(!plain.contains("lab/demo") && !plain.contains("200"), "{plain}");
    let log = fs::read_to_string(here.path("log")).unwrap();
    assert!(log.contains("the name or the password is wrong"), "{log}");
    for secret in ["secret", "wr0ng", LOGIN, "S8.ks7"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn nothing_is_shown_without_a_login() {
    let here = with_image();
    let served = Served::start(&here, &["--htpasswd", "users"]);
    for path in ["/v2/", "/v2/_catalog", "/v2/lab/demo/manifests/1", "/locks/torch:2.15.0", "/"] {
        for headers in [
            String::new(),
            "Authorization: Basic dTpTZWNyZXQ=\r\n".to_owned(),
            format!("Authorization: Bearer {LOGIN}\r\n"),
        ] {
            let refused = served.ask(path, &headers);
            assert!(refused.starts_with("HTTP/1.1 401 "), "{path} {headers}: {refused}");
            assert!(refused.contains("WWW-Authenticate: Basic realm=\"sconce\""), "{refused}");
            assert!(refused.contains("UNAUTHORIZED") && !refused.contains("lab/demo"), "{refused}");
        }
    }
    let login = format!("Authorization: Basic {LOGIN}\r\n");
    assert!(served.ask("/v2/_catalog", &login).contains("lab/demo"));
    let twice = served.ask("/v2/_catalog", &format!("{login}{login}"));
    assert!(twice.starts_with("HTTP/1.1 400 "), "{twice}");
}

#[test]
fn what_is_not_encrypted_is_said() {
    let here = with_image();
    let said = |words: &[&str]| {
        let mut words = words.to_vec();
        words.extend(["--listen", "0.0.0.0:0"]);
        drop(Served::start(&here, &words));
        fs::read_to_string(here.path("log")).unwrap()
    };
    let plain = said(&[]);
    assert!(plain.contains("unencrypted") && plain.contains("all images of the store"), "{plain}");
    let logins = said(&["--htpasswd", "users"]);
    assert!(logins.contains("passwords and images go over the network unencrypted"), "{logins}");
    assert!(!logins.contains("all images of the store"), "{logins}");
    let tls = said(&["--tls-cert", "node.pem", "--tls-key", "node.key"]);
    assert!(!tls.contains("unencrypted"), "{tls}");

    fs::write(here.path("other.key"), include_str!("../../sign/tests/cosign/plain.key")).unwrap();
    fs::write(here.path("md5"), "u:$apr1$abcdefgh$secretsecretsecretsecr\n").unwrap();
    for (words, code, says) in [
        (&["--tls-cert", "node.pem"][..], 2, "--tls-key"),
        (&["--tls-cert", "node.pem", "--tls-key", "other.key"], 3, "can't be used"),
        (&["--tls-cert", "node.key", "--tls-key", "node.key"], 3, "no certificate"),
        (&["--tls-cert", "node.pem", "--tls-key", "node.pem"], 3, "no private key"),
        (&["--tls-cert", "none.pem", "--tls-key", "node.key"], 9, "none.pem"),
        (&["--htpasswd", "md5"], 3, "line 1: its password is not hashed with bcrypt"),
    ] {
        let mut all = vec!["serve", "--no-build", "--listen", "127.0.0.1:0"];
        all.extend(words);
        let (found, out, err) = here.says(&all);
        assert!(
            err.contains(says) && out.is_empty() && !err.contains("secret"),
            "{words:?}: {err}"
        );
        if code != 9 {
            assert_eq!(found, code, "{words:?}: {err}");
        }
    }
}

/// As docs/registry.md has it: 256 connections, and silent ones keep nobody out.
#[test]
fn a_thousand_silent_connections_keep_nobody_out() {
    let here = with_image();
    for words in [&[][..], &["--tls-cert", "node.pem", "--tls-key", "node.key"]] {
        let served = Served::start(&here, words);
        let idle: Vec<TcpStream> =
            (0..1000).filter_map(|_| TcpStream::connect(served.host()).ok()).collect();
        assert!(idle.len() > 900, "{} connections", idle.len());
        let begun = Instant::now();
        let name = format!("{}/lab/demo:1", served.host());
        let there = World::new();
        fs::write(there.path("ca.pem"), CA).unwrap();
        let mut pull = vec!["pull", &name];
        if !words.is_empty() {
            pull.splice(1..1, ["--ca", "ca.pem"]);
        }
        let (code, out, err) = there.says(&pull);
        assert!(code == 0, "{code} {out}{err}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        drop(idle);
    }
}

/// Headers that come byte by byte, on more connections than there are.
#[test]
fn slow_headers_keep_nobody_out() {
    let here = with_image();
    let served = Served::start(&here, &[]);
    let mut slow: Vec<TcpStream> =
        (0..400).filter_map(|_| TcpStream::connect(served.host()).ok()).collect();
    assert!(slow.len() > 300, "{} connections", slow.len());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let text = "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX: ".bytes();
            for byte in text.chain(std::iter::repeat(b'x')) {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                for stream in &mut slow {
                    // Some are closed by now.
                    let _ = stream.write(&[byte]);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let begun = Instant::now();
        for _ in 0..3 {
            let answer = served.ask("/v2/lab/demo/manifests/1", "");
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        let took = begun.elapsed();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(took < Duration::from_secs(20), "{took:?}");
    });
}

/// One that says nothing is closed after ten seconds, whoever else is there.
#[test]
fn a_silent_connection_ends() {
    let here = with_image();
    for words in [&[][..], &["--tls-cert", "node.pem", "--tls-key", "node.key"]] {
        let served = Served::start(&here, words);
        let begun = Instant::now();
        let mut silent = served.connect();
        let mut bytes = Vec::new();
        let _ = silent.read_to_end(&mut bytes);
        let took = begun.elapsed();
        assert!(bytes.is_empty(), "{bytes:?}");
        assert!(took > Duration::from_secs(9) && took < Duration::from_secs(15), "{took:?}");
    }
}
