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
