//! `sconce serve` with more requests for builds than it takes: each client has its share, and who has left has none.

mod world;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use world::World;

/// An index that takes connections and says nothing.
fn silent_index() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().collect::<Vec<_>>());
    format!("http://{address}/simple")
}

/// Asks for something; what comes within a second.
fn ask(host: &str, what: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(host).unwrap();
    let head = format!("GET /v2/{what} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut bytes = [0; 4096];
    let said = match stream.read(&mut bytes) {
        Ok(count) => String::from_utf8_lossy(&bytes[..count]).into_owned(),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            String::new()
        }
        Err(error) => error.to_string(),
    };
    (stream, said)
}

#[test]
fn who_has_left_keeps_nobody_out() {
    let (world, index) = (World::new(), silent_index());
    world.image(r#"{"Cmd": ["true"]}"#);
    assert_eq!(world.says(&["copy", "oci:image", "store:mine"]).0, 0);
    let mut serve = world.sconce(&["serve", "--listen", "127.0.0.1:0"]);
    serve.env("UV_DEFAULT_INDEX", &index).env("PIP_INDEX_URL", &index);
    let mut serve = serve.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(serve.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let host = line.trim().strip_prefix("http://").expect(&line).to_owned();
    // Two are built and 32 wait, all of one client; they are asked for at once.
    let asked: Vec<_> = (0..40)
        .map(|tag| {
            std::thread::spawn({
                let host = host.clone();
                move || ask(&host, &format!("torch/manifests/9.{tag}.0"))
            })
        })
        .collect();
    let asked: Vec<_> = asked.into_iter().map(|thread| thread.join().unwrap()).collect();
    let refused = asked.iter().filter(|(_, said)| said.starts_with("HTTP/1.1 429 ")).count();
    let waiting = asked.iter().filter(|(_, said)| said.is_empty()).count();
    let says: Vec<&String> = asked.iter().map(|(_, said)| said).collect();
    assert_eq!((refused, waiting), (6, 34), "{says:?}");
    assert!(says.iter().any(|said| said.contains("of your requests")), "{says:?}");
    // What is there is given out meanwhile.
    let (_, said) = ask(&host, "mine/manifests/latest");
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    // They leave: their places are free.
    for (stream, _) in &asked {
        drop(stream.shutdown(Shutdown::Both));
    }
    drop(asked);
    std::thread::sleep(Duration::from_secs(3));
    let (_, said) = ask(&host, "torch/manifests/9.100.0");
    drop(serve.kill());
    drop(serve.wait());
    assert_eq!(said, "");
}

/// A uv that waits for an index which says nothing, for as long as it is let; it says which processes it is.
const WAITING: &str = r#"#!/bin/sh
[ "$1" = --version ] && echo 'uv 99.0.0' && exit
cat >/dev/null
sleep 600 &
echo "$$ $!" >>"${0%/*}/running"
wait
"#;

/// The processes of each uv that has been started.
fn running(world: &World) -> Vec<Vec<i32>> {
    let text = std::fs::read_to_string(world.path("bin/running")).unwrap_or_default();
    let ids = |line: &str| line.split(' ').map(|id| id.parse().unwrap()).collect();
    text.lines().map(ids).collect()
}

fn is_alive(process: i32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = text.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

/// Waits forty seconds at most.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(40), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A server that ends with the test, and what its uvs left.
struct Waiting<'a>(std::process::Child, &'a World);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
        for process in running(self.1).into_iter().flatten().filter(|process| is_alive(*process)) {
            end(process, rustix::process::Signal::KILL);
        }
    }
}

fn end(process: i32, signal: rustix::process::Signal) {
    let process = rustix::process::Pid::from_raw(process).unwrap();
    let _ = rustix::process::kill_process(process, signal);
}

/// A server whose uv waits.
fn serve_waiting(world: &World) -> (Waiting<'_>, String) {
    use std::os::unix::fs::PermissionsExt;
    let uv = world.path("bin/uv");
    std::fs::create_dir_all(world.path("bin")).unwrap();
    std::fs::write(&uv, WAITING).unwrap();
    std::fs::set_permissions(&uv, std::fs::Permissions::from_mode(0o755)).unwrap();
    let index = silent_index();
    let mut serve = world.sconce(&["serve", "--listen", "127.0.0.1:0"]);
    serve.env("UV_DEFAULT_INDEX", &index).env("PIP_INDEX_URL", &index).env("SCONCE_UV", &uv);
    let log = std::fs::File::create(world.path("log")).unwrap();
    let mut serve = serve.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(serve.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let host = line.trim().strip_prefix("http://").expect(&line).to_owned();
    (Waiting(serve, world), host)
}

#[test]
fn what_nobody_waits_for_ends_where_others_wait() {
    let world = World::new();
    let (mut serve, host) = serve_waiting(&world);
    let gone: Vec<_> =
        (0..2).map(|tag| ask(&host, &format!("torch/manifests/9.{tag}.0"))).collect();
    until("two are built", || running(&world).len() == 2);
    for (stream, said) in &gone {
        assert_eq!(said, "");
        drop(stream.shutdown(Shutdown::Both));
    }
    drop(gone);
    // Nobody waits for their place: they go on, and who asks again has the image.
    std::thread::sleep(Duration::from_secs(12));
    let first = running(&world);
    assert!(first.iter().flatten().all(|process| is_alive(*process)), "{first:?}");
    // Now somebody does.
    let third = ask(&host, "torch/manifests/9.2.0");
    assert_eq!(third.1, "");
    until("the third is built", || running(&world).len() > 2);
    let ended = |ids: &Vec<i32>| ids.iter().all(|process| !is_alive(*process));
    until("a build in the way has ended, with all it started", || first.iter().any(ended));
    // One place was wanted: the other goes on.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(first.iter().filter(|ids| ended(ids)).count(), 1, "{first:?}");
    // The image of one that was ended can be asked for again: that is no failure of it.
    let log = std::fs::read_to_string(world.path("log")).unwrap();
    assert!(!log.contains("torch:9.0.0: ") && !log.contains("torch:9.1.0: "), "{log}");

    // The end of the server is theirs.
    let all = running(&world);
    end(serve.0.id().cast_signed(), rustix::process::Signal::TERM);
    drop(serve.0.wait());
    until("all have ended", || all.iter().flatten().all(|process| !is_alive(*process)));
}
