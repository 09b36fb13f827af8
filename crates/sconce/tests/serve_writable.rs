//! `sconce serve --writable`: what clients push, as distribution-spec 1.1 has it, and what they may not.

mod world;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use sconce_blob::Digest;
use world::World;
use world::served::{Served, is};

const ECHO: &str = r#"{"Env": ["PATH=/usr/bin"], "Cmd": ["echo", "from the store"]}"#;
const MANIFEST: &str = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
/// `htpasswd -nbB -C 5 u secret`, and the login.
const USERS: &str = "u:$2y$05$S8.ks7lcwInJ6sk1kcKLYOpPYFFFSA2iDrBQen3Enevv5Koo93Ca2\n";
const LOGIN: &str = "Authorization: Basic dTpzZWNyZXQ=\r\n";
/// Another user of the same password.
const OTHER_USER: &str = "v:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
const OTHER_LOGIN: &str = "Authorization: Basic djpzZWNyZXQ=\r\n";

#[test]
fn blobs_come_whole_in_pieces_and_in_chunks() {
    let world = World::new();
    let served = Served::start(&world, &["--writable"]);
    // One request; the same again by digest alone, under another repository's name.
    let one = Digest::of(b"one");
    let whole = format!("/v2/lab/a/blobs/uploads/?digest={one}");
    let reply = served.ask("POST", &whole, "", b"one");
    is(&reply, 201, "");
    assert_eq!(reply.header("location"), Some(format!("/v2/lab/a/blobs/{one}").as_str()));
    assert_eq!(reply.header("docker-content-digest"), Some(one.to_string().as_str()));
    let mount = |digest| format!("/v2/lab/b/blobs/uploads/?mount={digest}&from=lab/a");
    is(&served.ask("POST", &mount(one), "", b""), 201, "");
    let reply = served.ask("POST", &mount(Digest::of(b"no")), "", b"");
    is(&reply, 202, "");
    // Pieces, in order alone; where it stands is told.
    let place = served.begin("lab/a");
    let reply = served.ask("PATCH", &place, "Content-Range: 0-2\r\n", b"abc");
    assert_eq!((reply.status, reply.header("range")), (202, Some("0-2")), "{}", reply.head);
    for range in ["0-2", "4-6", "x"] {
        let reply = served.ask("PATCH", &place, &format!("Content-Range: {range}\r\n"), b"xyz");
        assert_eq!((reply.status, reply.header("range")), (416, Some("0-2")), "{}", reply.head);
    }
    let reply = served.ask("GET", &place, "", b"");
    assert_eq!((reply.status, reply.header("range")), (204, Some("0-2")), "{}", reply.head);
    is(&served.ask("GET", &place.replace("lab/a", "lab/b"), "", b""), 404, "BLOB_UPLOAD_UNKNOWN");
    is(&served.ask("PATCH", &place, "", b"def"), 202, "");
    let all = Digest::of(b"abcdefghi");
    assert!(!served.has(all));
    is(&served.ask("PUT", &format!("{place}?digest={all}"), "", b"ghi"), 201, "");
    assert!(served.has(all));
    is(&served.ask("GET", &place, "", b""), 404, "BLOB_UPLOAD_UNKNOWN");
    // The wrong digest, none, and one of another kind: nothing is taken.
    for (digest, code) in [
        (format!("?digest={all}"), "DIGEST_INVALID"),
        (String::new(), "DIGEST_INVALID"),
        ("?digest=sha512:00".to_owned(), "DIGEST_INVALID"),
    ] {
        let place = served.begin("lab/a");
        is(&served.ask("PUT", &format!("{place}{digest}"), "", b"other"), 400, code);
    }
    assert!(!served.has(Digest::of(b"other")));
    let place = served.begin("lab/a");
    is(&served.ask("DELETE", &place, "", b""), 204, "");
    is(&served.ask("PATCH", &place, "", b"x"), 404, "BLOB_UPLOAD_UNKNOWN");
    // As clients send what they don't know the length of, and those that ask first.
    let place = served.begin("lab/a");
    let chunks = "5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: x\r\n\r\n";
    let head = format!(
        "PATCH {place} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    );
    let next = "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let said = served.send(format!("{head}{chunks}{next}").as_bytes());
    let statuses: Vec<&str> = said.lines().filter_map(|l| l.strip_prefix("HTTP/1.1 ")).collect();
    assert_eq!(statuses, ["100 Continue", "202 Accepted", "200 OK"], "{said}");
    let hello = Digest::of(b"hello world");
    is(&served.ask("PUT", &format!("{place}?digest={hello}"), "", b""), 201, "");
    let place = served.begin("lab/a");
    let said = served
        .send(format!("{}zz\r\n", head.replace(&head[6..6 + place.len()], &place)).as_bytes());
    assert!(said.contains(" 400 "), "{said}");
}

/// `Content-Range` says which bytes a piece is (distribution-spec, "Pushing a blob in chunks"): of one that says other bytes than come
/// nothing is taken, and it is said where the upload stands.
#[test]
fn a_piece_is_the_bytes_that_it_says() {
    let world = World::new();
    let served = Served::start(&world, &["--writable"]);
    let place = served.begin("a");
    let piece = |method: &str, place: &str, range: &str, bytes: &[u8]| {
        served.ask(method, place, &format!("Content-Range: {range}\r\n"), bytes)
    };
    is(&piece("PATCH", &place, "0-2", b"abc"), 202, "");
    let all = format!("{place}?digest={}", Digest::of(b"abcdef"));
    for range in ["3-9", "3-4", "3-3", "3-2", "3-", "3", "-5", "3-18446744073709551615", "3-5-7"] {
        for (method, place) in [("PATCH", &place), ("PUT", &all)] {
            let reply = piece(method, place, range, b"def");
            let said = (reply.status, reply.header("range"));
            assert_eq!(said, (416, Some("0-2")), "{method} {range}: {} {}", reply.head, reply.body);
            assert!(reply.header("location").is_some(), "{}", reply.head);
        }
    }
    // Of one in chunks it is only known at its end: what came is there, and the answer says so.
    let head = format!(
        "PATCH {place} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
    );
    for range in ["3-4", "3-9"] {
        let other = served.begin("a");
        is(&piece("PATCH", &other, "0-2", b"abc"), 202, "");
        let head = head.replace(&place, &other);
        let chunks = format!("{head}Content-Range: {range}\r\n\r\n3\r\ndef\r\n0\r\n\r\n");
        let said = served.send(chunks.as_bytes()).to_ascii_lowercase();
        assert!(said.starts_with("http/1.1 416 "), "{range}: {said}");
        assert!(said.contains("\r\nrange: 0-5\r\n"), "{range}: {said}");
    }
    let said =
        served.send(format!("{head}Content-Range: 3-4\r\n\r\n2\r\nde\r\n0\r\n\r\n").as_bytes());
    assert!(said.starts_with("HTTP/1.1 202 "), "{said}");
    is(&piece("PUT", &all, "5-5", b"f"), 201, "");
    assert!(served.has(Digest::of(b"abcdef")));
}

#[test]
fn what_breaks_off_is_not_there() {
    let world = World::new();
    let mut served = Served::start(&world, &["--writable"]);
    let bytes = vec![7; 1 << 20];
    let digest = Digest::of(&bytes);
    let whole = format!(
        "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        bytes.len()
    );
    let mut stream = TcpStream::connect(&served.host).unwrap();
    stream.write_all(whole.as_bytes()).unwrap();
    stream.write_all(&bytes[..1000]).unwrap();
    drop(stream);
    // What came of a piece can be gone on with.
    let place = served.begin("a");
    let mut stream = TcpStream::connect(&served.host).unwrap();
    let head = format!(
        "PATCH {place} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        bytes.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&bytes[..1000]).unwrap();
    drop(stream);
    let stands = || served.ask("GET", &place, "", b"").header("range").map(str::to_owned);
    for _ in 0..100 {
        if stands().as_deref() == Some("0-999") {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(stands().as_deref(), Some("0-999"));
    assert!(!served.has(digest));
    served.child.kill().unwrap();
    served.child.wait().unwrap();
    let (code, _, err) = world.says(&["prune"]);
    assert!(code == 0 && !err.contains("left"), "{err}");
    let blobs = fs::read_dir(world.path("store/blobs/sha256")).unwrap().count();
    assert_eq!((blobs, fs::read_dir(world.path("store/tmp")).unwrap().count()), (0, 0));
    // The next server does the same.
    let mut served = Served::start(&world, &["--writable"]);
    let place = served.begin("a");
    is(&served.ask("PATCH", &place, "", &bytes), 202, "");
    served.child.kill().unwrap();
    served.child.wait().unwrap();
    let files = || {
        let mut all = Vec::new();
        for folder in fs::read_dir(world.path("store/tmp")).unwrap().flatten() {
            all.extend(
                fs::read_dir(folder.path())
                    .unwrap()
                    .flatten()
                    .map(|file| file.metadata().unwrap().len()),
            );
        }
        all
    };
    assert!(files().contains(&(1 << 20)), "{:?}", files());
    let _served = Served::start(&world, &["--writable"]);
    assert!(!files().contains(&(1 << 20)), "{:?}", files());
}

#[test]
fn an_image_is_pushed_by_sconce_and_by_hand() {
    let (here, there) = (World::new(), World::new());
    there.image(ECHO);
    let served = Served::start(&here, &["--writable"]);
    let name = format!("{}/lab/demo:1", served.host);
    for words in [
        &["copy", "oci:image", "store:lab/demo:1"][..],
        &["push", "--image-only", "lab/demo:1", &name],
    ] {
        let (code, out, err) = there.says(words);
        assert_eq!(code, 0, "{out}{err}");
    }
    let (code, out, err) = here.says(&["run", "-q", "--gpus", "none", "lab/demo:1"]);
    assert_eq!((code, out.as_str()), (0, "from the store\n"), "{err}");
    assert!(fs::read_to_string(here.path("log")).unwrap().contains("pushed lab/demo:1"));
    // The manifest by hand.
    let tag = served.ask("GET", "/v2/lab/demo/manifests/1", "", b"");
    is(&tag, 200, "layers");
    let digest = Digest::of(tag.body.as_bytes());
    let put = |path: &str, body: &str| {
        served.ask("PUT", &format!("/v2/{path}"), MANIFEST, body.as_bytes())
    };
    let reply = put("lab/other/manifests/2", &tag.body);
    is(&reply, 201, "");
    assert_eq!(reply.header("docker-content-digest"), Some(digest.to_string().as_str()));
    assert_eq!(served.ask("GET", "/v2/lab/other/manifests/2", "", b"").body, tag.body);
    is(&put(&format!("lab/other/manifests/{digest}"), &tag.body), 201, "");
    is(
        &put(&format!("lab/other/manifests/{}", Digest::of(b"x")), &tag.body),
        400,
        "DIGEST_INVALID",
    );
    is(&put("lab/other/manifests/3", "{}"), 400, "MANIFEST_INVALID");
    is(&put("torch/manifests/2.15.0", &tag.body), 403, "what sconce builds for it");
    for name in [
        "docker.io/library/torch",
        "docker.io/torch",
        "index.docker.io/library/lab",
        "registry-1.docker.io/lab",
    ] {
        is(&put(&format!("{name}/manifests/2.15.0"), &tag.body), 400, "without Docker Hub's own");
    }
    for name in ["store", "oci", "docker-archive"] {
        is(&put(&format!("{name}/manifests/good"), &tag.body), 400, "says where an image is");
    }
    // It would be what that digest means on this machine.
    let name = format!("sha256/manifests/{}", Digest::of(b"another").hex());
    is(&put(&name, &tag.body), 400, "it is a digest");
    let manifest: serde_json::Value = serde_json::from_str(&tag.body).unwrap();
    let missing = tag
        .body
        .replace(manifest["layers"][0]["digest"].as_str().unwrap(), &Digest::of(b"no").to_string());
    is(&put("lab/other/manifests/3", &missing), 404, "MANIFEST_BLOB_UNKNOWN");
    let index = format!(
        r#"{{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [{{"mediaType":
        "application/vnd.oci.image.manifest.v1+json", "digest": "{digest}", "size": {}}}]}}"#,
        tag.body.len()
    );
    is(&put("lab/other/manifests/3", &index), 400, "Content-Type");
    let kind = "Content-Type: application/vnd.oci.image.index.v1+json\r\n";
    let reply = served.ask("PUT", "/v2/lab/other/manifests/3", kind, index.as_bytes());
    is(&reply, 400, "an index of several platforms");
    // A layer that is another than its configuration says.
    let config = format!(
        r#"{{"architecture": "amd64", "os": "linux", "config": {{}},
        "rootfs": {{"type": "layers", "diff_ids": ["{}"]}}}}"#,
        Digest::of(b"other")
    );
    let of_config = Digest::of(config.as_bytes());
    is(
        &served.ask(
            "POST",
            &format!("/v2/a/blobs/uploads/?digest={of_config}"),
            "",
            config.as_bytes(),
        ),
        201,
        "",
    );
    let mut lying = manifest.clone();
    lying["config"]["digest"] = of_config.to_string().into();
    lying["config"]["size"] = config.len().into();
    is(&put("lab/other/manifests/3", &lying.to_string()), 400, "MANIFEST_INVALID");
    is(&served.ask("GET", "/v2/lab/other/manifests/3", "", b""), 404, "");
    // Nothing is deleted, and nothing taken from a page that somebody reads.
    is(
        &served.ask("DELETE", &format!("/v2/lab/demo/manifests/{digest}"), "", b""),
        405,
        "sconce rmi",
    );
    is(&served.ask("POST", "/v2/a/blobs/uploads/", "Origin: http://x\r\n", b""), 403, "browser");
    is(&served.ask("GET", "/v2/lab/demo/manifests/1", "", b""), 200, "layers");
}

/// `hello` and `hello:latest` are one name for clients, and here.
#[test]
fn latest_is_what_a_name_without_a_tag_means() {
    let (here, there) = (World::new(), World::new());
    here.image(&ECHO.replace("from the store", "mine"));
    there.image(ECHO);
    let done = |world: &World, words: &[&str]| {
        let (code, out, err) = world.says(words);
        assert_eq!(code, 0, "{words:?}: {out}{err}");
        (out, err)
    };
    done(&here, &["copy", "oci:image", "store:hello"]);
    done(&there, &["copy", "oci:image", "store:x"]);
    let start = ["run", "-q", "--gpus", "none", "hello"];
    let names = || -> Vec<String> {
        let (out, _) = done(&here, &["images", "--json"]);
        let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
        let rows = rows.as_array().unwrap().iter().flat_map(|row| row["names"].as_array().unwrap());
        rows.map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(done(&here, &start).0, "mine\n");
    let served = Served::start(&here, &["--writable"]);
    let mine = Digest::of(served.ask("GET", "/v2/hello/manifests/latest", "", b"").body.as_bytes());
    done(&there, &["push", "--image-only", "x", &format!("{}/hello:latest", served.host)]);
    let body = served.ask("GET", "/v2/hello/manifests/latest", "", b"").body;
    let pushed = Digest::of(body.as_bytes());
    assert_ne!(mine, pushed);
    assert_eq!(names(), ["hello"]);
    for name in ["hello", "hello:latest"] {
        let (out, _) = done(&here, &["run", "-q", "--gpus", "none", name]);
        assert_eq!(out, "from the store\n", "{name}");
    }
    let is_pushed = |image| {
        let store = sconce_store::Store::open(here.path("store")).unwrap();
        ["hello", "hello:latest"].map(|name| store.is_pushed(name, image).unwrap())
    };
    assert_eq!(is_pushed(pushed), [true; 2]);
    // A person's word takes it back, by either spelling, and the mark with it.
    done(&here, &["copy", "oci:image", "store:hello:latest"]);
    assert_eq!((done(&here, &start).0.as_str(), names()), ("mine\n", vec!["hello".to_owned()]));
    assert_eq!(is_pushed(mine), [false; 2]);
    // A store that an older program has left with both: what was written last counts, and it is said.
    let refs = here.path("store/refs");
    let pause = || std::thread::sleep(Duration::from_millis(30));
    let mark = |name: &str| format!("%pushed-{}", Digest::of(name.as_bytes()).hex());
    pause();
    fs::write(refs.join("hello:latest"), format!("{pushed}\n")).unwrap();
    fs::write(refs.join(mark("hello:latest")), format!("{pushed}\n")).unwrap();
    let (out, err) = done(&here, &start);
    assert!(out == "from the store\n" && err.contains("twice"), "{out}{err}");
    assert_eq!((names(), is_pushed(pushed)), (vec!["hello".to_owned()], [true; 2]));
    pause();
    fs::write(refs.join("hello"), format!("{mine}\n")).unwrap();
    assert_eq!(done(&here, &start).0, "mine\n");
    // Each gives it anew to one file; one that is there under the long spelling alone is found too.
    done(&here, &["copy", "oci:image", "store:hello"]);
    assert!(!refs.join("hello:latest").exists());
    fs::rename(refs.join("hello"), refs.join("hello:latest")).unwrap();
    assert_eq!((done(&here, &start).0.as_str(), names()), ("mine\n", vec!["hello".to_owned()]));
    let (out, _) = done(&here, &["rmi", "hello:latest"]);
    assert!(out.starts_with("hello\n"), "{out}");
    assert!(!refs.join("hello").exists() && !refs.join("hello:latest").exists());
    assert!(!refs.join(mark("hello:latest")).exists() && names().is_empty());
}

#[test]
fn what_is_about_an_image_goes_with_it() {
    let (here, there) = (World::new(), World::new());
    there.image(ECHO);
    let served = Served::start(&here, &["--writable"]);
    let name = format!("{}/lab/demo:1", served.host);
    let (code, out, err) = there.says(&["copy", "oci:image", &name]);
    assert_eq!(code, 0, "{out}{err}");
    let image = served.ask("GET", "/v2/lab/demo/manifests/1", "", b"").body;
    let text = b"{\"sbom\": true}";
    for bytes in [&text[..], b"{}"] {
        let path = format!("/v2/lab/demo/blobs/uploads/?digest={}", Digest::of(bytes));
        is(&served.ask("POST", &path, "", bytes), 201, "");
    }
    let about = |image: Digest| {
        format!(
            r#"{{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/x.test", "config": {{"mediaType": "application/vnd.oci.empty.v1+json", "digest": "{}", "size": 2}},
        "layers": [{{"mediaType": "application/x.test", "digest": "{}", "size": {}}}],
        "subject": {{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "{image}", "size": 1}}}}"#,
            Digest::of(b"{}"),
            Digest::of(text),
            text.len()
        )
    };
    let digest = Digest::of(image.as_bytes());
    let artifact = about(digest);
    let path = format!("/v2/lab/demo/manifests/{}", Digest::of(artifact.as_bytes()));
    let reply = served.ask("PUT", &path, MANIFEST, artifact.as_bytes());
    is(&reply, 201, "");
    assert_eq!(reply.header("oci-subject"), Some(digest.to_string().as_str()));
    let list = served.ask("GET", &format!("/v2/lab/demo/referrers/{digest}"), "", b"");
    is(&list, 200, "application/x.test");
    let artifact = about(Digest::of(b"no"));
    let path = format!("/v2/lab/demo/manifests/{}", Digest::of(artifact.as_bytes()));
    is(&served.ask("PUT", &path, MANIFEST, artifact.as_bytes()), 404, "MANIFEST_BLOB_UNKNOWN");
}

/// Artifacts of one login fill the room beside an image: what another brings finds some, and what is refused is nowhere.
#[test]
fn junk_crowds_no_signature_out() {
    let (world, there) = (World::new(), World::new());
    fs::write(world.path("users"), format!("{USERS}{OTHER_USER}")).unwrap();
    there.image(ECHO);
    let (code, out, err) = there.says(&["copy", "--image-only", "oci:image", "oci:same:1"]);
    assert_eq!(code, 0, "{out}{err}");
    let layout = there.path("same").display().to_string();
    let (code, out, err) = world.says(&["copy", &format!("oci:{layout}:1"), "store:lab/demo:1"]);
    assert_eq!(code, 0, "{out}{err}");
    let served = Served::start(&world, &["--writable", "--htpasswd", "users"]);
    let image = served.ask("GET", "/v2/lab/demo/manifests/1", LOGIN, b"");
    let image = Digest::of(image.body.as_bytes());
    for bytes in [&b"junk"[..], b"{}"] {
        let path = format!("/v2/lab/demo/blobs/uploads/?digest={}", Digest::of(bytes));
        is(&served.ask("POST", &path, LOGIN, bytes), 201, "");
    }
    let put = |login: &str, kind: &str| {
        let artifact = format!(
            r#"{{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": "{kind}",
        "config": {{"mediaType": "application/vnd.oci.empty.v1+json", "digest": "{}", "size": 2}},
        "layers": [{{"mediaType": "application/x.test", "digest": "{}", "size": 4}}],
        "subject": {{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "{image}", "size": 1}}}}"#,
            Digest::of(b"{}"),
            Digest::of(b"junk"),
        );
        let path = format!("/v2/lab/demo/manifests/{}", Digest::of(artifact.as_bytes()));
        let headers = format!("{MANIFEST}{login}");
        (served.ask("PUT", &path, &headers, artifact.as_bytes()), path)
    };
    const SIGNATURE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
    for number in 0..256 {
        let kind = format!("{SIGNATURE}.{number}");
        assert_eq!(put(LOGIN, &kind).0.status, 201, "{number}");
    }
    let (refused, path) = put(LOGIN, "application/x.more");
    is(&refused, 400, "no more room");
    is(&served.ask("GET", &path, LOGIN, b""), 404, "MANIFEST_UNKNOWN");
    is(&put(OTHER_LOGIN, SIGNATURE).0, 201, "");
    is(&put(LOGIN, "application/x.more").0, 400, "no more room");
    let list = served.ask("GET", &format!("/v2/lab/demo/referrers/{image}"), LOGIN, b"");
    is(&list, 200, &format!("\"{SIGNATURE}\""));
    assert!(!list.body.contains("x.more"), "{}", list.body);
}

#[test]
fn who_may_write() {
    let world = World::new();
    fs::write(world.path("users"), USERS).unwrap();
    let (code, _, err) = world.says(&["serve", "--writable", "--listen", "0.0.0.0:0"]);
    assert!(code == 2 && err.contains("--htpasswd"), "{code} {err}");
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(b"x"));
    let served = Served::start(&world, &[]);
    is(&served.ask("POST", &path, "", b"x"), 405, "UNSUPPORTED");
    drop(served);
    let served = Served::start(&world, &["--writable", "--htpasswd", "users"]);
    is(&served.ask("POST", &path, "", b"x"), 401, "UNAUTHORIZED");
    is(&served.ask("POST", &path, LOGIN, b"x"), 201, "");
}

/// What one login has begun is none of another's.
#[test]
fn an_upload_is_of_the_login_that_began_it() {
    let world = World::new();
    fs::write(world.path("users"), format!("{USERS}{OTHER_USER}")).unwrap();
    let served = Served::start(&world, &["--writable", "--htpasswd", "users"]);
    let begun = served.ask("POST", "/v2/a/blobs/uploads/", LOGIN, b"");
    let place = begun.header("location").unwrap();
    let whole = format!("{place}?digest={}", Digest::of(b"abc"));
    for (method, path) in [("GET", place), ("PATCH", place), ("PUT", &whole), ("DELETE", place)] {
        let body: &[u8] = if method == "PATCH" { b"x" } else { b"" };
        is(&served.ask(method, path, OTHER_LOGIN, body), 404, "BLOB_UPLOAD_UNKNOWN");
    }
    is(&served.ask("PATCH", place, LOGIN, b"abc"), 202, "");
    is(&served.ask("PUT", &whole, LOGIN, b""), 201, "");
}

/// A client that opens as many uploads as it can, and lets bytes of them drip, keeps nobody from pulling or pushing.
#[test]
fn who_uploads_slowly_keeps_nobody_out() {
    let (world, there) = (World::new(), World::new());
    fs::write(world.path("users"), format!("{USERS}{OTHER_USER}")).unwrap();
    there.image(ECHO);
    let served = Served::start(&world, &["--writable", "--htpasswd", "users"]);
    let push = |name: &str| {
        let name = format!("{}/{name}", served.host);
        let login = ["login", "--username", "v", "--password-stdin", &served.host];
        let mut login = there.sconce(&login).stdin(Stdio::piped()).spawn().unwrap();
        login.stdin.take().unwrap().write_all(b"secret").unwrap();
        assert!(login.wait().unwrap().success());
        let (code, out, err) = there.says(&["copy", "--image-only", "oci:image", &name]);
        assert_eq!(code, 0, "{out}{err}");
    };
    push("lab/demo:1");
    let begin = || served.ask("POST", "/v2/a/blobs/uploads/", LOGIN, b"");
    let places: Vec<String> = (0..256)
        .map(|_| begin())
        .filter(|reply| reply.status == 202)
        .map(|reply| reply.header("location").unwrap().to_owned())
        .collect();
    assert_eq!(places.len(), 64);
    let refused = begin();
    is(&refused, 429, "you have begun too many uploads");
    assert_eq!(refused.header("retry-after"), Some("5"));
    // 256 connections, of which each brings a little each second.
    let drips: Vec<TcpStream> = (0..256)
        .map(|number| {
            let mut stream = TcpStream::connect(&served.host).unwrap();
            let place = &places[number % places.len()];
            let head = format!(
                "PATCH {place} HTTP/1.1\r\nHost: localhost\r\n{LOGIN}Content-Length: 10000000000\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                drips.iter().for_each(|mut stream| drop(stream.write_all(&[b'x'; 6000])));
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        let begun = std::time::Instant::now();
        for _ in 0..7 {
            is(&served.ask("GET", "/v2/lab/demo/manifests/1", OTHER_LOGIN, b""), 200, "layers");
        }
        push("lab/other:1");
        let took = begun.elapsed();
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(took < Duration::from_secs(20), "{took:?}");
    });
    // What was too much was told so.
    let told = drips.iter().filter(|stream| {
        stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let mut said = [0; 12];
        (&mut &**stream).read_exact(&mut said).is_ok() && said.ends_with(b" 429")
    });
    assert!(told.count() > 100);
}

/// What a manifest says of its parts, and its request of it, is one.
#[test]
fn manifests_are_what_they_say() {
    let (here, there) = (World::new(), World::new());
    there.image(ECHO);
    let served = Served::start(&here, &["--writable"]);
    let name = format!("{}/lab/demo:1", served.host);
    assert_eq!(there.says(&["copy", "--image-only", "oci:image", &name]).0, 0);
    let good = served.ask("GET", "/v2/lab/demo/manifests/1", "", b"").body;
    let put = |kind: &str, body: &str| {
        let kind = match kind {
            "" => String::new(),
            kind => format!("Content-Type: {kind}\r\n"),
        };
        served.ask("PUT", "/v2/lab/demo/manifests/2", &kind, body.as_bytes())
    };
    const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
    const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
    const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    let parsed: serde_json::Value = serde_json::from_str(&good).unwrap();
    assert_eq!(parsed["layers"][0]["mediaType"], LAYER);
    let with = |pointer: &str, value: serde_json::Value| {
        let mut changed = parsed.clone();
        match value {
            serde_json::Value::Null => {
                let (above, key) = pointer.rsplit_once('/').unwrap();
                changed.pointer_mut(above).unwrap().as_object_mut().unwrap().remove(key);
            }
            value => *changed.pointer_mut(pointer).unwrap() = value,
        }
        changed.to_string()
    };
    let docker_layer = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    let docker_config = "application/vnd.docker.container.image.v1+json";
    for (kind, body, status, says) in [
        (OCI, good.clone(), 201, ""),
        ("", good.clone(), 201, ""),
        (&format!("{OCI}; charset=utf-8"), good.clone(), 201, ""),
        (OCI, with("/mediaType", serde_json::Value::Null), 201, ""),
        (DOCKER, with("/mediaType", DOCKER.into()), 201, ""),
        // Mixed by real tools, and taken by containerd and skopeo. Bytes say what they are packed with.
        (OCI, with("/layers/0/mediaType", docker_layer.into()), 201, ""),
        (OCI, with("/config/mediaType", docker_config.into()), 201, ""),
        ("text/html", good.clone(), 400, "Content-Type"),
        ("application/json", good.clone(), 400, "Content-Type"),
        (OCI_INDEX, good.clone(), 400, "Content-Type"),
        (DOCKER, good.clone(), 400, "its own mediaType"),
        (OCI, with("/mediaType", DOCKER.into()), 400, "its own mediaType"),
        (OCI, with("/mediaType", OCI_INDEX.into()), 400, "mediaType is not that"),
        (DOCKER, with("/mediaType", serde_json::Value::Null), 400, "no mediaType of its own"),
        (OCI, with("/config/size", 1.into()), 400, "not the 1 that it says"),
        (OCI, with("/config/mediaType", "".into()), 400, "no media type"),
        (OCI, with("/config/mediaType", LAYER.into()), 400, "artifact of type"),
        (
            OCI,
            with("/config/mediaType", "application/vnd.cncf.helm.config.v1+json".into()),
            400,
            "artifact of type `application/vnd.cncf.helm.config.v1+json`",
        ),
        (OCI, with("/layers/0/mediaType", "text/html".into()), 400, "`text/html` is no layer"),
        (OCI, with("/layers/0/mediaType", "".into()), 400, "no media type"),
        (OCI, with("/layers/0/mediaType", CONFIG.into()), 400, "is no layer"),
        (OCI, with("/layers/0/size", 1.into()), 400, "not 1"),
        // What the specification asks of the fields.
        (OCI, with("/schemaVersion", 1.into()), 400, "schema 1"),
        (OCI, with("/schemaVersion", 3.into()), 400, "schemaVersion is not 2"),
        (OCI, with("/schemaVersion", "2".into()), 400, "MANIFEST_INVALID"),
        (OCI, with("/schemaVersion", serde_json::Value::Null), 400, "schemaVersion is not 2"),
        (OCI, with("/config", serde_json::Value::Null), 400, "neither a configuration nor"),
        (OCI, with("/config", "x".into()), 400, "MANIFEST_INVALID"),
        (OCI, with("/layers", serde_json::Value::Null), 400, "`layers` are no list"),
        (OCI, with("/layers", serde_json::json!({})), 400, "MANIFEST_INVALID"),
        (OCI, with("/layers", serde_json::json!(["x"])), 400, "MANIFEST_INVALID"),
        (OCI, with("/layers/0", 1.into()), 400, "MANIFEST_INVALID"),
        (OCI, good.replacen('{', r#"{"subject": "x","#, 1), 400, "`subject` is no descriptor"),
        (OCI, good.replacen('{', r#"{"schemaVersion": 2,"#, 1), 400, "duplicate field"),
        (
            OCI,
            format!(r#"[2, "{OCI}", "", {}, {}, null]"#, parsed["config"], parsed["layers"]),
            400,
            "MANIFEST_INVALID",
        ),
        (
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            r#"{"schemaVersion": 1, "fsLayers": []}"#.to_owned(),
            400,
            "schema 1",
        ),
    ] {
        let reply = put(kind, &body);
        assert!(
            reply.status == status && reply.body.contains(says),
            "{kind} {body}: {}",
            reply.body
        );
        assert!(!reply.body.contains("struct "), "the names of the code: {}", reply.body);
        assert!(
            status == 201
                || reply.body.contains("MANIFEST_INVALID")
                || reply.body.contains("UNSUPPORTED")
        );
        if status == 201 {
            let served = served.ask("GET", "/v2/lab/demo/manifests/2", "", b"");
            let kind = if kind.starts_with(DOCKER) { DOCKER } else { OCI };
            assert_eq!((served.header("content-type"), &served.body), (Some(kind), &body));
        }
    }
}

/// What came of an upload that is still coming goes with the server, however that is ended.
#[test]
fn who_ends_the_server_finds_no_uploads() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let world = World::new();
        let mut served = Served::start(&world, &["--writable"]);
        let whole = served.begin("lab/a");
        is(&served.ask("PATCH", &whole, "", &[1; 100_000]), 202, "");
        // Another one is at work at that moment.
        let mut stream = TcpStream::connect(&served.host).unwrap();
        let place = served.begin("lab/a");
        let head =
            format!("PATCH {place} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n");
        stream.write_all(&[head.as_bytes(), &[2; 300_000]].concat()).unwrap();
        let left = || {
            let folders = fs::read_dir(world.path("store/tmp")).unwrap().flatten();
            let files = |folder: fs::DirEntry| {
                fs::read_dir(folder.path()).unwrap().flatten().map(|file| file.path())
            };
            folders.flat_map(files).collect::<Vec<_>>()
        };
        assert!(left().len() >= 2, "{:?}", left());
        let pid = served.child.id().to_string();
        let sent = std::process::Command::new("kill").args([&format!("-{signal}"), &pid]).status();
        assert!(sent.unwrap().success());
        assert_eq!(served.child.wait().unwrap().code(), Some(code));
        assert_eq!(left(), Vec::<std::path::PathBuf>::new());
        let folders = fs::read_dir(world.path("store/tmp")).unwrap().count();
        assert_eq!(folders, 0, "the folder of the process is left");
    }
}
