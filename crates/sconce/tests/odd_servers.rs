//! What stands where a registry should: other servers, servers of TLS that end the handshake, redirects and token servers that lead
//! nowhere. It is said what it is, and a hint is printed only where it helps.

#[allow(dead_code)]
mod world;

use std::fs;
use std::io::Write;
use std::sync::{Arc, Mutex};

use world::World;
use world::listener::{answer, answers, first, served};

const CA: &str = include_str!("../../serve/tests/tls/ca.pem");

fn world() -> World {
    let world = World::new();
    fs::write(world.path("ca.pem"), CA).unwrap();
    world
}

/// What is said of a pull from a port, with these options.
#[track_caller]
fn refusal(world: &World, port: u16, options: &[&str]) -> String {
    let name = format!("localhost:{port}/app:1");
    let (code, _, err) = world.says(&[&["pull"], options, &[name.as_str()]].concat());
    assert_eq!(code, 5, "{options:?}: {err}");
    // Words of the libraries below.
    for part in ["io:", "http parse", "rustls", "fatal alert", "InvalidContentType", "tried"] {
        assert!(!err.contains(part), "{options:?}: `{part}` in {err}");
    }
    err
}

const ALL_WAYS: [&[&str]; 4] =
    [&[], &["--plain-http"], &["--ca", "ca.pem"], &["--ca", "ca.pem", "--plain-http"]];

#[test]
fn servers_of_something_else_are_named() {
    let world = world();
    let ssh = served(|mut stream| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n");
        drop(first(&mut stream));
        let _ = stream.write_all(b"Invalid SSH identification string.\r\n");
    });
    // One that waits for who comes, and answers in its own way.
    let other = served(|mut stream| {
        drop(first(&mut stream));
        let _ = stream.write_all(b"N\0\0\0\x01");
    });
    for options in ALL_WAYS {
        let err = refusal(&world, ssh, options);
        assert!(err.contains("a server of SSH answers there, not one of HTTP"), "{err}");
        assert!(err.contains("its port") && !err.contains("--plain-http"), "{err}");
        let err = refusal(&world, other, options);
        assert!(err.contains("what answers there speaks neither TLS nor HTTP"), "{err}");
        assert!(!err.contains("--plain-http") && !err.contains("--ca"), "{err}");
    }
}

/// One of plain HTTP that answers handshakes as most do: with 400, in words.
#[test]
fn plain_http_is_advised_where_it_would_help() {
    let world = world();
    let port = served(|mut stream| {
        let answer = match first(&mut stream).starts_with(b"GET ") {
            true => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            false => {
                "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n400 Bad Request"
            }
        };
        let _ = stream.write_all(answer.as_bytes());
    });
    let err = refusal(&world, port, &["--ca", "ca.pem"]);
    assert!(err.contains("the server speaks plain HTTP there"), "{err}");
    assert!(err.contains("hint: `--plain-http` asks it without TLS"), "{err}");
    let err = refusal(&world, port, &["--ca", "ca.pem", "--plain-http"]);
    assert!(err.contains("has no app:1"), "{err}");
    // A registry with --plain-http that sends there with TLS: the option was given already.
    let sends = served(move |mut stream| {
        drop(first(&mut stream));
        let _ = write!(
            stream,
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: https://localhost:{port}/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    });
    let err = refusal(&world, sends, &["--ca", "ca.pem", "--plain-http"]);
    assert!(err.contains(&format!("https://localhost:{port}/x: the server speaks plain")), "{err}");
    assert!(!err.contains("--plain-http"), "{err}");
}

/// What the server says of why it ends the handshake (RFC 8446, section 6.2).
#[test]
fn alerts_are_told_in_words() {
    let world = world();
    for (alert, says, hint) in [
        (
            40_u8,
            "it has no cipher that is spoken here (TLS 1.2 and 1.3), or it wants a certificate",
            "NAME.cert",
        ),
        (
            48,
            "the server does not know the authority of the certificate that it was shown",
            "NAME.cert",
        ),
        (42, "takes the certificate that it was shown for a bad one", "NAME.cert"),
        (116, "the server wants a certificate, and none was shown", "NAME.cert"),
        (70, "the server speaks neither TLS 1.2 nor 1.3", "the right host and port"),
        (112, "the server knows nothing of that host name", "the right host and port"),
        (80, "it has failed itself", "the right host and port"),
    ] {
        let port = served(move |mut stream| {
            drop(first(&mut stream));
            let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, alert]);
        });
        let err = refusal(&world, port, &["--ca", "ca.pem"]);
        assert!(err.contains(says) && err.contains(hint), "{alert}: {err}");
        assert!(!err.contains("--ca") && !err.contains("--plain-http"), "{alert}: {err}");
        // Asked without TLS, which nobody wanted by name.
        let err = refusal(&world, port, &[]);
        assert!(err.contains("the server speaks TLS there"), "{alert}: {err}");
        assert!(err.contains("--ca FILE") && !err.contains("--plain-http"), "{alert}: {err}");
        let err = refusal(&world, port, &["--plain-http"]);
        assert!(err.contains("leave --plain-http away"), "{alert}: {err}");
    }
}

/// Nothing is asked of what a realm can't mean, and nothing is read.
#[test]
fn a_realm_that_is_no_address_of_http() {
    let world = world();
    for (realm, why) in [
        ("file:///etc/hostname", "tokens are not taken from `file:`"),
        ("/token", "it has no host"),
        ("token", "it has no host"),
        ("ftp://localhost/token", "tokens are not taken from `ftp:`"),
        ("https://", "empty host"),
    ] {
        let asked = Arc::new(Mutex::new(0));
        let port = served({
            let asked = Arc::clone(&asked);
            move |mut stream| {
                drop(first(&mut stream));
                *asked.lock().unwrap() += 1;
                let _ = write!(
                    stream,
                    "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"{realm}\",service=\"s\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
            }
        });
        let err = refusal(&world, port, &[]);
        let says = format!(
            "localhost:{port} wants a token from `{realm}`, which is no address of a token server: "
        );
        assert!(err.contains(&says) && err.contains(why), "{realm}: {err}");
        assert!(err.contains("hint: whoever runs the registry"), "{realm}: {err}");
        assert_eq!(*asked.lock().unwrap(), 1, "{realm}");
    }
}

/// A redirect to what is not HTTP is no matter of TLS: the address is named, and nothing is asked of it.
#[test]
fn a_redirect_that_leads_out_of_http() {
    let world = world();
    world.image("{}");
    let (there, heard) = answers(answer("200 OK", ""));
    for (to, shown, why) in [
        ("file:///etc/hostname", "file:///etc/hostname", "`file:` is not HTTP"),
        (
            &format!("ftp://me:pw@localhost:{there}/x"),
            &format!("ftp://localhost:{there}/x"),
            "`ftp:` is not HTTP",
        ),
        ("//", "//", "it is no address"),
    ] {
        for status in ["301 Moved Permanently", "307 Temporary Redirect"] {
            let (port, asked) = answers(answer(status, &format!("Location: {to}")));
            let err = refusal(&world, port, &[]);
            let says = format!(
                "localhost:{port}/v2/app/manifests/1 redirects to `{shown}`, which is refused: {why}"
            );
            assert!(err.contains(&says), "{to}: {err}");
            assert!(
                !err.contains("TLS") && !err.contains("--ca") && !err.contains("pw@"),
                "{to}: {err}"
            );
            assert!(
                err.contains("hint: the fault is on the side of the server that sends there"),
                "{err}"
            );
            assert_eq!(asked.lock().unwrap().len(), 1, "{to}: {err}");
        }
        // An upload that is to go on there.
        let (port, _) = answers(answer("202 Accepted", &format!("Location: {to}")));
        let name = format!("localhost:{port}/app:1");
        let (code, _, err) = world.says(&["push", "oci:image", &name]);
        assert_eq!(code, 5, "{err}");
        assert!(!err.contains("TLS") && !err.contains("pw@"), "{to}: {err}");
    }
    assert!(heard.lock().unwrap().is_empty());
}

/// The address of a registry's API that leads to a page that is not there: it is no registry.
#[test]
fn a_login_says_what_it_met() {
    let world = world();
    let (there, _) = answers(answer("404 Not Found", ""));
    let location = format!("Location: http://localhost:{there}/home");
    let (port, _) = answers(answer("302 Found", &location));
    let login = |port: u16| {
        let host = format!("localhost:{port}");
        let (code, _, err) = world.says(&["login", "-u", "me", "-p", "pw", &host]);
        assert_eq!(code, 5, "{err}");
        assert!(err.contains("hint: look at the name of the registry and its port"), "{err}");
        assert!(!world.path("home/.docker/config.json").exists());
        err
    };
    let err = login(port);
    let says = format!(
        "error: localhost:{port} answers as no registry does: http://localhost:{port}/v2/ redirects to http://localhost:{there}/home, and that answered 404"
    );
    assert!(err.contains(&says), "{err}");
    let err = login(there);
    let says = format!(
        "error: localhost:{there} answers as no registry does: http://localhost:{there}/v2/ answered 404\n"
    );
    assert!(err.contains(&says), "{err}");
}

/// A way to log in that is not known here is named, and no login is advised.
#[test]
fn logins_that_are_not_supported_are_named() {
    let world = world();
    let asks = |challenges: &[&str]| {
        let lines: Vec<String> =
            challenges.iter().map(|text| format!("WWW-Authenticate: {text}")).collect();
        answers(answer("401 Unauthorized", &lines.join("\r\n"))).0
    };
    for (challenges, says) in [
        (&["Negotiate"][..], "wants a login by `Negotiate`, which is not supported"),
        (&["Negotiate", "NTLM"], "wants a login by `Negotiate` or `NTLM`, which is not supported"),
        (
            &["Digest realm=\"a, b\", nonce=\"x\""],
            "wants a login by `Digest`, which is not supported",
        ),
        (&["Bearer"], "wants a token (`Bearer`) and does not say from where"),
        (&["Bearer service=\"s\""], "wants a token (`Bearer`) and does not say from where"),
    ] {
        let port = asks(challenges);
        let host = format!("localhost:{port}");
        let pulled = refusal(&world, port, &[]);
        let (code, _, tried) = world.says(&["login", "-u", "me", "-p", "pw", &host]);
        assert_eq!(code, 5, "{tried}");
        for err in [pulled, tried] {
            assert!(err.contains(&format!("{host} {says}")), "{challenges:?}: {err}");
            assert!(!err.contains("sconce login") && !err.contains("password"), "{err}");
            assert!(err.contains("hint: "), "{err}");
        }
    }
    // One of those that a server takes is enough, wherever it stands.
    for challenges in [
        &["Negotiate", "Basic realm=\"r\""][..],
        &["Negotiate, Basic realm=\"r\""],
        &["Digest realm=\"a, b\", nonce=\"x\", Basic realm=\"r\""],
    ] {
        let err = refusal(&world, asks(challenges), &[]);
        assert!(err.contains("`sconce login localhost:"), "{challenges:?}: {err}");
    }
}

/// A session that the registry does not know although it has just begun it: once more, and then it is said.
#[test]
fn an_upload_that_the_registry_forgets_at_once() {
    let world = world();
    world.image("{}");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    let port = served(move |mut stream| {
        let mut came = first(&mut stream);
        while !came.windows(4).any(|part| part == b"\r\n\r\n") {
            came.extend(first(&mut stream));
        }
        let line = String::from_utf8_lossy(&came).lines().next().unwrap_or_default().to_owned();
        let text = match line.split(' ').next() {
            Some("POST") => answer("202 Accepted", "Location: /v2/app/blobs/uploads/1"),
            _ => answer("404 Not Found", "X: y"),
        };
        if !line.starts_with("HEAD ") {
            heard.lock().unwrap().push(line);
        }
        let _ = stream.write_all(text.as_bytes());
        // All of it is read: what is closed before is reset.
        let _ = stream.set_read_timeout(Some(std::time::Duration::from_millis(300)));
        while !first(&mut stream).is_empty() {}
    });
    let name = format!("localhost:{port}/app:1");
    let begun = std::time::Instant::now();
    let (code, _, err) = world.says(&["push", "--image-only", "oci:image", &name]);
    assert_eq!(code, 5, "{err}");
    let says = format!(
        "error: http://localhost:{port}/v2/app/blobs/uploads/1: the registry does not know the upload that it began (404)"
    );
    assert!(err.contains(&says) && !err.contains("tried") && !err.contains("cut off"), "{err}");
    assert!(err.contains("hint: "), "{err}");
    let asked = asked.lock().unwrap();
    let most = |verb: &str| asked.iter().filter(|line| line.starts_with(verb)).count();
    // Of each of the image's blobs: they go at once.
    assert!(most("POST") <= 4 && most("PUT") <= 4, "{asked:?}");
    assert!(begun.elapsed().as_secs() < 10);
}
