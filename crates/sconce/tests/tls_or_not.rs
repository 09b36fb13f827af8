//! Registries with TLS and without: asked the wrong way, and where they send with a login.

#[allow(dead_code)]
mod world;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use world::World;
use world::listener::{answer, first, served, served_at};

const CA: &str = include_str!("../../serve/tests/tls/ca.pem");
const CERTIFICATE: &str = include_str!("../../serve/tests/tls/server.pem");
/// Self-signed with `server.key`, of X.509 version 1: `openssl x509 -req` without extensions makes such.
const VERSION_1: &str = include_str!("../../serve/tests/tls/v1.pem");
const OTHER_KEY: &str = include_str!("../../sign/tests/cosign/plain.key");
const KEY: &str = include_str!("../../serve/tests/tls/server.key");

/// A server of Python's, whose TLS is OpenSSL's: each request is answered with what stands in the file `answer`.
const OPENSSL: &str = r#"
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.pem", "server.key")
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    plain, _ = listener.accept()
    plain.settimeout(20)
    try:
        with context.wrap_socket(plain, server_side=True) as stream:
            came = b""
            while b"\r\n\r\n" not in came:
                more = stream.recv(65536)
                if not more:
                    break
                came += more
            open("asked", "ab").write(came)
            if came:
                stream.sendall(open("answer", "rb").read())
    except OSError:
        plain.close()
"#;

/// A process that ends with the test.
struct Served(Child, u16);

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn openssl(world: &World) -> Served {
    for (name, text) in [
        ("ca.pem", CA),
        ("server.pem", CERTIFICATE),
        ("server.key", KEY),
        ("server.py", OPENSSL),
        ("answer", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    ] {
        fs::write(world.path(name), text).unwrap();
    }
    let mut python = Command::new("python3");
    python.arg("server.py").current_dir(world.path("")).stdout(Stdio::piped());
    let mut child = python.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim().parse().expect(&line);
    Served(child, port)
}

#[test]
fn a_server_of_tls_that_is_asked_without_is_told() {
    let world = World::new();
    let served = openssl(&world);
    let name = format!("localhost:{}/app:1", served.1);
    let (code, _, err) = world.says(&["pull", &name]);
    assert!(code == 5 && err.contains("the server speaks TLS there"), "{code} {err}");
    assert!(err.contains("--ca FILE") && !err.contains("tried"), "{err}");
    // The hint holds.
    let (code, _, err) = world.says(&["pull", "--ca", "ca.pem", &name]);
    assert!(code == 5 && err.contains("has no app:1"), "{code} {err}");
    // Of an address of this machine that is no loopback one.
    let name = format!("0.0.0.0:{}/app:1", served.1);
    let (code, _, err) = world.says(&["pull", "--plain-http", &name]);
    assert!(code == 5 && err.contains("the server speaks TLS there"), "{code} {err}");
    assert!(err.contains("hint: leave --plain-http away\n"), "{err}");
}

/// One that answers with an alert, as rustls and others do.
#[test]
fn an_alert_is_no_answer_of_http() {
    let port = served(|mut stream| {
        drop(first(&mut stream));
        // Fatal, protocol_version (RFC 8446, section 6).
        let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, 70]);
    });
    let world = World::new();
    let (code, _, err) = world.says(&["pull", &format!("localhost:{port}/app:1")]);
    assert!(code == 5 && err.contains("the server speaks TLS there"), "{code} {err}");
}

/// One without, that hangs up on who begins with a handshake, or waits for the end of a line.
#[test]
fn a_server_without_tls_that_is_asked_over_it_is_told() {
    let world = World::new();
    fs::write(world.path("ca.pem"), CA).unwrap();
    let port = served(|mut stream| {
        if first(&mut stream).starts_with(b"GET ") {
            let answer =
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(answer);
        }
    });
    let name = format!("localhost:{port}/app:1");
    let (code, _, err) = world.says(&["pull", "--ca", "ca.pem", &name]);
    assert!(code == 5 && err.contains("the server speaks plain HTTP there"), "{code} {err}");
    assert!(err.contains("`--plain-http`"), "{err}");
    let (code, _, err) = world.says(&["pull", "--ca", "ca.pem", "--plain-http", &name]);
    assert!(code == 5 && err.contains("has no app:1"), "{code} {err}");
    // One that hangs up whatever comes is not explained by it.
    let port = served(|mut stream| drop(first(&mut stream)));
    let (code, _, err) = world.says(&["pull", &format!("localhost:{port}/app:1")]);
    assert!(code == 5 && err.contains("can't reach") && !err.contains("speaks"), "{code} {err}");
}

/// Go's servers of TLS say it in the body of an answer, which one to HEAD does not have: a push begins with that.
#[test]
fn a_push_without_tls_to_a_server_of_tls() {
    let world = World::new();
    world.image("{}");
    fs::write(world.path("ca.pem"), CA).unwrap();
    for words in ["Client sent an HTTP request to an HTTPS server.\n", ""] {
        let port = served(move |mut stream| {
            let came = first(&mut stream);
            // A handshake is 22 (RFC 8446, 5.1), and it is answered with an alert.
            let _ = match came.first() {
                Some(22) => stream.write_all(&[21, 3, 3, 0, 2, 2, 70]),
                _ if came.starts_with(b"HEAD ") => {
                    stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                }
                _ => {
                    stream.write_all(format!("HTTP/1.0 400 Bad Request\r\n\r\n{words}").as_bytes())
                }
            };
        });
        for (host, options, hint) in [
            ("localhost", &[][..], "hint: name the authority of its certificate: --ca FILE"),
            (
                "localhost",
                &["--plain-http"],
                "hint: leave --plain-http away, and name the authority",
            ),
            ("0.0.0.0", &["--plain-http"], "hint: leave --plain-http away\n"),
        ] {
            let name = format!("{host}:{port}/app:1");
            let all = [&["push"], options, &["oci:image", &name]].concat();
            let (code, _, err) = world.says(&all);
            let says = "the server speaks TLS there, and was asked over plain HTTP";
            assert!(code == 5 && err.contains(says) && err.contains(hint), "{all:?}: {code} {err}");
        }
    }
    // One of plain HTTP that does not like the question is none.
    let port = served(|mut stream| {
        let came = first(&mut stream);
        if came.first() != Some(&22) {
            let _ = stream.write_all(answer("400 Bad Request", "X: y").as_bytes());
        }
    });
    let (code, _, err) = world.says(&["push", "oci:image", &format!("localhost:{port}/app:1")]);
    assert!(code == 5 && err.contains("answered 400") && !err.contains("speaks TLS"), "{err}");
}

/// What came to a server of plain HTTP, which answers all of it with 404.
fn listener() -> (u16, Arc<Mutex<String>>) {
    let heard = Arc::new(Mutex::new(String::new()));
    let port = served({
        let heard = Arc::clone(&heard);
        move |mut stream| {
            let came = first(&mut stream);
            heard.lock().unwrap().push_str(&String::from_utf8_lossy(&came));
            let _ = stream.write_all(
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            );
        }
    });
    (port, heard)
}

/// A registry with TLS has nobody's login sent without, not even to this machine, where others may listen.
#[test]
fn a_login_stays_with_tls() {
    let world = World::new();
    let served = openssl(&world);
    let host = format!("localhost:{}", served.1);
    let logins = format!(r#"{{"auths":{{"{host}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#);
    fs::create_dir_all(world.path("home/.docker")).unwrap();
    fs::write(world.path("home/.docker/config.json"), logins).unwrap();
    let name = format!("{host}/app:1");
    let pull = || {
        let mut command = world.sconce(&["pull", "--ca", "ca.pem", &name]);
        for variable in ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR"] {
            command.env_remove(variable);
        }
        world::texts(&command.output().unwrap())
    };
    let answer = |text: String| fs::write(world.path("answer"), text).unwrap();

    let (port, heard) = listener();
    for realm in [format!("http://localhost:{port}/token"), format!("http://127.0.0.1:{port}/")] {
        answer(format!(
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"{realm}\",service=\"s\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ));
        let (code, _, err) = pull();
        assert!(code == 5 && err.contains("sends for a token to"), "{code} {err}");
        assert_eq!(*heard.lock().unwrap(), "", "{err}");
    }
    // A redirect takes the login nowhere.
    answer(
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"r\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            .to_owned(),
    );
    let (code, ..) = pull();
    let asked = fs::read_to_string(world.path("asked")).unwrap();
    assert!(code == 5 && asked.contains("Basic bWU6c2VjcmV0"), "the login is used: {asked}");
    answer(format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://localhost:{port}/v2/app/manifests/1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ));
    let (code, _, err) = pull();
    let heard = heard.lock().unwrap();
    assert!(code == 5 && heard.starts_with("GET /v2/app/manifests/1 "), "{code} {err}{heard}");
    assert!(!heard.to_ascii_lowercase().contains("authorization"), "{heard}");
}

#[test]
fn a_redirect_names_where_it_failed() {
    let world = World::new();
    let there = openssl(&world);
    let elsewhere = format!("https://localhost:{}/storage", there.1);
    let location = format!("Location: {elsewhere}?signature=1");
    let port = served(move |mut stream| {
        drop(first(&mut stream));
        let _ = stream.write_all(answer("307 Temporary Redirect", &location).as_bytes());
    });
    let (code, _, err) = world.says(&["pull", &format!("localhost:{port}/app:1")]);
    let says = format!(
        "error: {elsewhere}?...: the server's certificate is of no authority that is trusted"
    );
    assert!(code == 5 && err.contains(&says) && err.contains("--ca FILE"), "{code} {err}");
}

/// A certificate for other names says which; the hint is not to trust it.
#[test]
fn a_certificate_for_other_names() {
    let world = World::new();
    let there = openssl(&world);
    let name = format!("127.0.0.2:{}/app:1", there.1);
    // It listens on 127.0.0.1 alone, which is asked by another name of this machine.
    let port = there.1;
    let forward = served_at("127.0.0.2:0", move |mut stream| {
        let mut to = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut from, mut back) = (stream.try_clone().unwrap(), to.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let _ = std::io::copy(&mut back, &mut stream);
    });
    let name = name.replace(&format!(":{port}/"), &format!(":{forward}/"));
    let (code, _, err) = world.says(&["pull", "--ca", "ca.pem", &name]);
    assert!(code == 5 && err.contains("is not for that name, but for localhost"), "{code} {err}");
    assert!(err.contains("hint: ask by one of these names"), "{err}");
}

/// The login that a registry wants is tried as the registry was reached: else the command in the hint fails for its certificate.
#[test]
fn the_command_that_logs_in_reaches_the_registry() {
    let world = World::new();
    let there = openssl(&world);
    let challenge = answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"r\"");
    fs::write(world.path("answer"), challenge).unwrap();
    fs::write(world.path("my ca.pem"), CA).unwrap();
    let host = format!("localhost:{}", there.1);
    let (code, _, err) = world.says(&["pull", "--ca", "my ca.pem", &format!("{host}/app:1")]);
    assert!(code == 5 && err.contains("refuses to show app without a login"), "{code} {err}");
    assert!(err.contains(&format!("hint: `sconce login --ca 'my ca.pem' {host}`")), "{err}");
    let (code, _, err) = world.says(&["login", "--ca", "my ca.pem", "-u", "me", "-p", "x", &host]);
    assert!(code == 5 && err.contains("refuses to log in with this login"), "{code} {err}");
    let (_, _, err) = world.says(&[
        "pull",
        "--plain-http",
        &format!(
            "0.0.0.0:{}/app:1",
            served(|mut stream| {
                drop(first(&mut stream));
                let _ = stream.write_all(
                    answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"r\"").as_bytes(),
                );
            })
        ),
    ]);
    assert!(err.contains("hint: `sconce login --plain-http 0.0.0.0:"), "{err}");
}

/// What a registry is shown of the client is checked before it is asked.
#[test]
fn a_client_certificate_that_cant_be_used() {
    let world = World::new();
    let there = openssl(&world);
    world.image("{}");
    let host = format!("localhost:{}", there.1);
    let name = format!("{host}/app:1");
    let folder = world.path("home/.config/containers/certs.d").join(&host);
    fs::create_dir_all(&folder).unwrap();
    let junk = |what: &str| format!("-----BEGIN {what}-----\nAAAA\n-----END {what}-----\n");
    let put = |certificate: &str, key: &str| {
        fs::write(folder.join("client.cert"), certificate).unwrap();
        fs::write(folder.join("client.key"), key).unwrap();
    };
    // OpenSSL's own form of an encrypted key.
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n".to_owned();
    for (certificate, key, file, says) in [
        (CERTIFICATE, OTHER_KEY, "client.key", "is not that of the certificate"),
        (VERSION_1, KEY, "client.cert", "not of X.509 version 3"),
        (&junk("CERTIFICATE"), KEY, "client.cert", "its certificate is damaged"),
        (CERTIFICATE, &junk("PRIVATE KEY"), "client.key", "its key is damaged"),
        (CERTIFICATE, &junk("ENCRYPTED PRIVATE KEY"), "client.key", "its key is encrypted"),
        (CERTIFICATE, &old, "client.key", "its key is encrypted"),
        (
            CERTIFICATE,
            CERTIFICATE,
            "client.key",
            "no private key in PEM: the file holds a certificate",
        ),
        (CERTIFICATE, "", "client.key", "no private key in PEM: the file is empty"),
        (KEY, KEY, "client.cert", "no certificate in PEM: the file holds a private key"),
    ] {
        put(certificate, key);
        for (words, expected) in [
            (&["pull", "--ca", "ca.pem", &name][..], 3),
            (&["login", "--ca", "ca.pem", "-u", "me", "-p", "x", &host], 3),
            (&["push", "--ca", "ca.pem", "oci:image", &name], 3),
            (&["run", "--gpus", "none", "--ca", "ca.pem", &name], 125),
        ] {
            let (code, _, err) = world.says(words);
            let named = err.contains(&format!("{}: ", folder.join(file).display()));
            assert!(code == expected && named && err.contains(says), "{words:?}: {code} {err}");
            assert!(err.contains("hint: "), "{err}");
            let key = folder.join("client.key").display().to_string();
            let decrypts = format!("hint: `openssl pkey -in {key} -out {key}.plain` asks for");
            assert_eq!(err.contains(&decrypts), says.contains("encrypted"), "{err}");
        }
    }
    put(CERTIFICATE, KEY);
    let (code, _, err) = world.says(&["pull", "--ca", "ca.pem", &name]);
    assert!(code == 5 && err.contains("has no app:1"), "{code} {err}");
    // An authority that can't be read.
    fs::write(world.path("junk.pem"), junk("CERTIFICATE")).unwrap();
    let (code, _, err) = world.says(&["pull", "--ca", "junk.pem", &name]);
    assert!(err.contains("junk.pem: its certificate is damaged") && code <= 3, "{code} {err}");
}

/// An address for tokens whose host would have to be guessed gets no login.
#[test]
fn an_address_for_tokens_without_a_host() {
    let world = World::new();
    let there = openssl(&world);
    let host = format!("localhost:{}", there.1);
    let logins = format!(r#"{{"auths":{{"{host}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#);
    fs::create_dir_all(world.path("home/.docker")).unwrap();
    fs::write(world.path("home/.docker/config.json"), logins).unwrap();
    for realm in [format!("https:///{host}/token"), format!("https:{host}/token")] {
        let challenge = format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"s\"");
        fs::write(world.path("answer"), answer("401 Unauthorized", &challenge)).unwrap();
        let mut command = world.sconce(&["pull", "--ca", "ca.pem", &format!("{host}/app:1")]);
        for variable in ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR"] {
            command.env_remove(variable);
        }
        let (code, _, err) = world::texts(&command.output().unwrap());
        assert!(code == 5 && err.contains("it has no host"), "{code} {err}");
        let asked = fs::read_to_string(world.path("asked")).unwrap();
        assert!(!asked.to_ascii_lowercase().contains("authorization"), "{asked}");
    }
}
