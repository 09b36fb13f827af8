//! `sconce push`, `pull`, `run` and `copy` with a registry on the loopback interface.

mod world;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use sconce_blob::Digest;
use sconce_testkit::{Fault, RegistryServer, Server};
use world::World;

const CA: &str = include_str!("../../serve/tests/tls/ca.pem");
const ECHO: &str = r#"{"Env": ["PATH=/usr/bin"], "Cmd": ["echo", "from the registry"]}"#;

fn done(world: &World, words: &[&str]) -> String {
    let (code, out, err) = world.says(words);
    assert_eq!(code, 0, "{words:?}\n{out}{err}");
    out
}

fn row(world: &World, words: &[&str]) -> serde_json::Value {
    serde_json::from_str(&done(world, words)).unwrap()
}

#[test]
fn what_one_machine_pushes_another_runs() {
    let registry = RegistryServer::start();
    let name = format!("{}/team/app:1", registry.host());
    let (here, there) = (World::new(), World::new());
    here.image(ECHO);
    let first = row(&here, &["push", "--json", "oci:image", &name]);
    assert_eq!((&first["there"], &first["mounted"]), (&0.into(), &0.into()));
    // A second time there is nothing to send but the manifest.
    let again = row(&here, &["push", "--json", "oci:image", &name]);
    assert_eq!(again["image"], first["image"]);
    assert!(again["moved"].as_u64().unwrap() < 1000, "{again}");
    let elsewhere = format!("{}/other/app:1", registry.host());
    let mounted = row(&here, &["push", "--json", "oci:image", &elsewhere]);
    assert_eq!(mounted["mounted"], again["there"]);
    assert!(mounted["moved"].as_u64().unwrap() < 1000, "{mounted}");

    assert_eq!(done(&there, &["run", "-q", "--gpus", "none", &name]), "from the registry\n");
    let gets = registry.count("GET");
    assert_eq!(done(&there, &["run", "-q", "--gpus", "none", &name]), "from the registry\n");
    assert_eq!(registry.count("GET"), gets, "it is in the store");
    assert!(done(&there, &["images"]).contains(&name));

    // Another image takes the name: who asks gets it, and only its configuration moves.
    here.image(&ECHO.replace("from the", "anew from the"));
    done(&here, &["push", "oci:image", &name]);
    assert_eq!(done(&there, &["run", "-q", "--gpus", "none", &name]), "from the registry\n");
    let always = ["run", "-q", "--gpus", "none", "--pull", "always", &name];
    assert_eq!(done(&there, &always), "anew from the registry\n");
    let pulled = row(&there, &["pull", "--json", &name]);
    assert!(pulled[0]["moved"].as_u64().unwrap() < 2000, "{pulled}");

    let (code, _, err) = World::new().says(&["run", "--gpus", "none", "--pull", "never", &name]);
    assert!(code == 125 && err.contains("is not in the store"), "{code} {err}");
    assert!(
        err.contains("--pull never") && err.contains(&format!("`sconce pull {name}`")),
        "{err}"
    );
    let (code, _, err) = there.says(&["pull", &format!("{}/team/none:1", registry.host())]);
    assert!(code == 5 && err.contains("has no team/none:1"), "{code} {err}");
    let (code, _, err) = there.says(&["pull", "--platform", "linux/riscv64", &name]);
    assert!(code == 4 && err.contains("is not for riscv64"), "{code} {err}");
}

#[test]
fn copies_from_place_to_place() {
    let registry = RegistryServer::start();
    let name = |repository: &str| format!("{}/{repository}:1", registry.host());
    let world = World::new();
    world.image(ECHO);
    done(&world, &["copy", "oci:image", &name("a/b")]);
    // Between registries nothing is stored, and what one has need not be sent.
    let empty = World::new();
    let row = row(&empty, &["copy", "--json", &name("a/b"), &name("c/d")]);
    assert!(row["mounted"].as_u64().unwrap() > 0, "{row}");
    assert!(done(&empty, &["images", "--all", "--json"]).trim() == "[]");
    done(&empty, &["copy", &name("c/d"), "docker-archive:image.tar"]);
    done(&empty, &["copy", "docker-archive:image.tar", "store:mine"]);
    assert_eq!(done(&empty, &["run", "-q", "--gpus", "none", "mine"]), "from the registry\n");
    done(&empty, &["copy", "mine", "oci:layout"]);
    assert_eq!(done(&empty, &["run", "-q", "--gpus", "none", "oci:layout"]), "from the registry\n");
    for (tag, name) in [("1.2", "tagged"), ("app:1.3", "named")] {
        let place = format!("oci:{name}:{tag}");
        done(&empty, &["copy", "mine", &place]);
        done(&empty, &["copy", &place, &format!("store:{name}")]);
        let index = fs::read_to_string(empty.path(name).join("index.json")).unwrap();
        let tag = tag.rsplit(':').next().unwrap();
        assert!(
            index.contains(&format!("\"org.opencontainers.image.ref.name\":\"{tag}\"")),
            "{index}"
        );
    }
    for (words, says) in [
        (["copy", "mine", "nowhere"], "names no registry"),
        (["copy", "mine", "oci:"], "names no folder"),
        (["copy", "mine", "store:A b"], "not a place to copy to"),
    ] {
        let (code, _, err) = empty.says(&words);
        assert!(code == 2 && err.contains(says), "{words:?}: {code} {err}");
    }
}

/// One name for two platforms.
#[test]
fn images_for_several_platforms_are_pushed_as_one() {
    let registry = RegistryServer::start();
    let name = format!("{}/team/app:1", registry.host());
    let world = World::new();
    for arch in ["amd64", "arm64"] {
        world.image_for(arch, &ECHO.replace("from the", &format!("{arch} from the")));
        fs::rename(world.path("image"), world.path(arch)).unwrap();
    }
    let pushed = row(&world, &["push", "--json", "oci:amd64", "oci:arm64", &name]);
    let index = registry.manifest("team/app", "1").unwrap();
    assert_eq!(pushed["image"], Digest::of(&index).to_string());
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    // A copy of all of it is the very same index, in another registry.
    let other = RegistryServer::start();
    let there = format!("{}/else/app:2", other.host());
    let copied = row(&World::new(), &["copy", "--all", "--json", &name, &there]);
    assert_eq!(copied["image"], pushed["image"]);
    assert_eq!(other.manifest("else/app", "2"), registry.manifest("team/app", "1"));
    for arch in ["amd64", "arm64"] {
        let pull = |name: &str| done(&World::new(), &["pull", "--platform", arch, name]);
        assert_eq!(pull(&there), pull(&name));
    }
    // And in a layout, from which each platform's image can be taken, beside another image.
    let all = ["copy", "--all", "--json", &name, "oci:layout:all"];
    assert_eq!(row(&world, &all)["image"], pushed["image"]);
    done(&world, &["copy", "oci:amd64", "oci:layout:one", "--platform", "amd64"]);
    assert_eq!(row(&world, &all)["image"], pushed["image"]);
    let listed = fs::read(world.path("layout/index.json")).unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
    let digests = listed["manifests"].as_array().unwrap().iter();
    let digests: Vec<_> = digests.map(|row| row["digest"].as_str().unwrap()).collect();
    assert!(digests.len() == 2 && digests[1] == pushed["image"], "{digests:?}");
    for arch in ["amd64", "arm64"] {
        let from = ["copy", "--platform", arch, "oci:layout:all", "store:taken"];
        let pull = done(&World::new(), &["pull", "--platform", arch, &name]);
        assert_eq!(done(&world, &from), pull);
    }
    let (code, _, err) = world.says(&["copy", "--all", &name, "docker-archive:all.tar"]);
    assert!(code == 2 && err.contains("or into oci:DIR"), "{code} {err}");
    for (at, arch) in ["amd64", "arm64"].into_iter().enumerate() {
        let pulled = done(&World::new(), &["pull", "--platform", arch, &name]);
        assert_eq!(pulled.trim(), index["manifests"][at]["digest"].as_str().unwrap());
        assert_eq!(index["manifests"][at]["platform"]["architecture"], arch);
    }
    let native = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let said = done(&World::new(), &["run", "-q", "--gpus", "none", &name]);
    assert_eq!(said, format!("{native} from the registry\n"));
    let again = row(&world, &["push", "--json", "oci:amd64", "oci:arm64", &name]);
    assert_eq!(again["image"], pushed["image"]);
    let (code, _, err) = world.says(&["push", "oci:amd64", "oci:amd64", &name]);
    assert!(code != 0 && err.contains("another one is for linux/amd64 too"), "{code} {err}");
}

#[test]
fn an_archive_comes_over_standard_input() {
    let world = World::new();
    world.image(ECHO);
    done(&world, &["copy", "oci:image", "docker-archive:image.tar"]);
    let said = |words: &[&str]| {
        let archive = fs::File::open(world.path("image.tar")).unwrap();
        let home = World::new();
        let output = home.sconce(words).stdin(archive).output().unwrap();
        let (code, out, err) = world::texts(&output);
        assert_eq!(code, 0, "{words:?} {err}");
        (home, out.trim().to_owned())
    };
    let (home, image) = said(&["pull", "-"]);
    let id = image.replace("sha256:", "");
    assert_eq!(done(&home, &["run", "-q", "--gpus", "none", &id[..12]]), "from the registry\n");
    let (home, _) = said(&["copy", "-", "store:mine"]);
    assert_eq!(done(&home, &["run", "-q", "--gpus", "none", "mine"]), "from the registry\n");
    let file = format!("docker-archive:{}", world.path("image.tar").display());
    assert_eq!(done(&World::new(), &["pull", &file]).trim(), image);
}

#[test]
fn logins_are_tried_kept_and_forgotten() {
    let open = RegistryServer::start();
    let (code, _, err) = World::new().says(&["login", "-u", "u", "-p", "pw", &open.host()]);
    assert!(code == 0 && err.contains("asked for no login"), "{code} {err}");
    let registry = RegistryServer::start();
    registry.guard("Basic dTpzZWNyZXQ=");
    let (host, name) = (registry.host(), format!("{}/team/app:1", registry.host()));
    let world = World::new();
    world.image(ECHO);
    let (code, _, err) = world.says(&["push", "oci:image", &name]);
    assert!(code == 5 && err.contains(&format!("`sconce login {host}`")), "{code} {err}");
    let login = |password: &str| world.says(&["login", "-u", "u", "-p", password, &host]);
    let (code, out, err) = login("wr0ng");
    assert!(code == 5 && err.contains("refuses to log in"), "{code} {err}");
    assert!(!(out + &err).contains("wr0ng") && !world.path("home/.docker/config.json").exists());
    let (code, out, err) = login("secret");
    assert!(code == 0 && !(out + &err).contains("secret"), "{err}");
    assert!(!err.contains("asked for no login"), "{err}");
    done(&world, &["push", "oci:image", &name]);
    done(&world, &["logout", &host]);
    let kept = fs::read_to_string(world.path("home/.docker/config.json")).unwrap();
    assert!(!kept.contains("dTpzZWNyZXQ="), "{kept}");
    assert_eq!(world.says(&["pull", &name]).0, 5);

    // podman's file, and a helper of Docker's.
    fs::create_dir_all(world.path("home/.config/containers")).unwrap();
    let auth = format!(r#"{{"auths":{{"{host}/team":{{"auth":"dTpzZWNyZXQ="}}}}}}"#);
    fs::write(world.path("home/.config/containers/auth.json"), auth).unwrap();
    done(&world, &["pull", &name]);
    fs::remove_file(world.path("home/.config/containers/auth.json")).unwrap();
    let config = format!(r#"{{"credHelpers":{{"{host}":"test"}}}}"#);
    fs::write(world.path("home/.docker/config.json"), config).unwrap();
    let helper = world.path("docker-credential-test");
    let script = "#!/bin/sh\nread host\necho '{\"ServerURL\":\"x\",\"Username\":\"u\",\"Secret\":\"secret\"}'\n";
    fs::write(&helper, script).unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", world.path("").display(), std::env::var("PATH").unwrap());
    let output = world.sconce(&["pull", &name]).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A helper that does not erase a login has it still, and says so; one that has none is no fault.
#[test]
fn a_helper_that_does_not_forget() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let host = "r.example.invalid";
    fs::create_dir_all(world.path("home/.docker")).unwrap();
    let config = format!(r#"{{"credHelpers":{{"{host}":"test"}}}}"#);
    fs::write(world.path("home/.docker/config.json"), config).unwrap();
    let path = format!("{}:{}", world.path("").display(), std::env::var("PATH").unwrap());
    let logout = |get: &str| {
        let helper = world.path("docker-credential-test");
        let script = format!(
            "#!/bin/sh\ncat >/dev/null\ncase $1 in get) {get};; *) echo keychain is locked; exit 1;; esac\n"
        );
        fs::write(&helper, script).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = world.sconce(&["logout", host]);
        command.env("PATH", &path).env_remove("DOCKER_CONFIG").env_remove("REGISTRY_AUTH_FILE");
        world::texts(&command.output().unwrap())
    };
    for get in [
        r#"echo '{"ServerURL":"x","Username":"u","Secret":"pw"}'"#,
        "echo keychain is locked; exit 1",
    ] {
        let (code, _, err) = logout(get);
        let says = "helper `test` failed: it did not erase the login: keychain is locked\n";
        assert!(code == 8 && err.contains(says), "{code} {err}");
    }
    let (code, _, err) = logout("echo credentials not found in native keychain; exit 1");
    assert!(code == 0 && err.contains("there was no login"), "{code} {err}");
}

/// A layer that was cut off, and documents with other bytes: a pull says so and brings them anew, and the hints say to pull.
#[test]
fn what_is_damaged_of_an_image_is_pulled_anew() {
    let registry = RegistryServer::start();
    let name = format!("{}/team/app:1", registry.host());
    let world = World::new();
    world.image(ECHO);
    done(&world, &["push", "oci:image", &name]);
    let there = World::new();
    let image = done(&there, &["pull", &name]);
    let manifest = registry.manifest("team/app", "1").unwrap();
    let parsed: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let blob = |digest: &str| {
        let hex = digest.trim().strip_prefix("sha256:").unwrap();
        there.path("store/blobs/sha256").join(&hex[..2]).join(hex)
    };
    let layer = blob(parsed["layers"][0]["digest"].as_str().unwrap());
    let config = blob(parsed["config"]["digest"].as_str().unwrap());
    let manifest = blob(&image);
    let hint = format!("hint: `sconce pull {name}` fetches it\n");
    let stored = format!("store:{name}");
    let put = |path: &std::path::Path, bytes: &[u8]| {
        fs::remove_file(path).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let flipped = |path: &std::path::Path| {
        let mut bytes = fs::read(path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        bytes
    };
    let copied = |says: &str, kind: i32| {
        for to in ["oci:out", "docker-archive:out.tar"] {
            let (code, _, err) = there.says(&["copy", &stored, to]);
            assert!(code == kind && err.contains(says) && err.contains(&hint), "{to} {code} {err}");
        }
    };
    let whole = [&layer, &config, &manifest].map(|path| fs::read(path).unwrap());
    let pulled_anew = |says: &str| {
        let (code, _, err) = there.says(&["pull", &name]);
        assert!(code == 0 && err.contains(says), "{code} {err}");
        let now = [&layer, &config, &manifest].map(|path| fs::read(path).unwrap());
        assert!(now == whole, "{says}");
        assert_eq!(done(&there, &["run", "-q", "--gpus", "none", &name]), "from the registry\n");
    };
    fs::remove_file(&layer).unwrap();
    copied("is not in the store", 7);
    pulled_anew("");
    for bytes in [&b""[..], &whole[0][..100]] {
        put(&layer, bytes);
        pulled_anew("is damaged: it has");
        put(&layer, bytes);
        let (code, _, err) = there.says(&["copy", &stored, "oci:out"]);
        let says = err.contains("is damaged: it has") && err.contains(&hint);
        assert!(code == 6 && says, "{code} {err}");
        pulled_anew("");
    }
    // Of a layer with its size nothing is read by a pull. Who reads it finds out, and has it removed.
    put(&layer, &flipped(&layer));
    let (code, _, err) = there.says(&["copy", &stored, "oci:out"]);
    assert!(code == 6 && err.contains("has digest") && err.contains(&hint), "{code} {err}");
    pulled_anew("");
    put(&layer, &flipped(&layer));
    let elsewhere = RegistryServer::start();
    let (code, _, err) = there.says(&["push", &stored, &format!("{}/a:1", elsewhere.host())]);
    assert!(code == 6 && err.contains("is damaged") && err.contains(&hint), "{code} {err}");
    pulled_anew("");
    put(&config, &flipped(&config));
    let (code, _, err) = there.says(&["run", "-q", "--gpus", "none", &name]);
    assert!(code == 125 && err.contains("has digest") && err.contains(&hint), "{code} {err}");
    pulled_anew("it is fetched anew");
    put(&manifest, &flipped(&manifest));
    let (code, _, err) = there.says(&["copy", &stored, "oci:out"]);
    assert!(code == 6 && err.contains("has digest") && err.contains(&hint), "{code} {err}");
    pulled_anew("it is fetched anew");
}

/// Killed in the middle, the next run goes on with what had come.
#[test]
fn a_pull_that_is_killed_goes_on() {
    let (world, server) = (World::new(), Server::start());
    world.image(ECHO);
    let mut layer = (0, String::new());
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(world.path("image/index.json")).unwrap()).unwrap();
    let manifest = index["manifests"][0]["digest"].as_str().unwrap();
    for entry in fs::read_dir(world.path("image/blobs/sha256")).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        let digest = Digest::of(&bytes);
        let kind = if digest.to_string() == manifest { "manifests" } else { "blobs" };
        let path = format!("/v2/app/{kind}/{digest}");
        layer = layer.max((bytes.len(), path.clone()));
        server.put(&path, bytes.clone());
        if kind == "manifests" {
            server.put("/v2/app/manifests/latest", bytes);
        }
    }
    server.once(&layer.1, Fault::Slow(layer.0 / 40, Duration::from_millis(50)));
    let name = server.url("/app").replace("http://", "");
    let mut child = world.sconce(&["pull", &name]).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let came = || {
        let files = fs::read_dir(world.path("store/partial")).into_iter().flatten().flatten();
        files.map(|file| file.metadata().map_or(0, |meta| meta.len())).sum::<u64>()
    };
    while came() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing came");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(done(&world, &["images", "--all", "--json"]).trim() == "[]");
    assert_eq!(done(&world, &["run", "-q", "--gpus", "none", &name]), "from the registry\n");
    let asked = server.requests_for(&layer.1);
    assert!(asked[1].header("range").unwrap().starts_with("bytes="), "{asked:?}");
}

#[test]
fn what_is_absent_is_named_as_it_was_asked_for() {
    let (world, registry) = (World::new(), RegistryServer::start());
    let digest = Digest::of(b"nothing").to_string();
    let name = format!("{}/team/none@{digest}", registry.host());
    let (code, _, err) = world.says(&["pull", &name]);
    assert!(code == 5 && err.contains(&format!("has no team/none@{digest}")), "{code} {err}");

    world.image(ECHO);
    for (target, says, hint) in [
        (&*digest, format!("no image `{digest}` in the store"), "`sconce images --all`"),
        ("store:x", "no image `x` in the store".to_owned(), "`sconce images`"),
        ("store:evil:1", "no image `evil:1` in the store".to_owned(), "`sconce images`"),
        ("store:lab/x:1", "no image `lab/x:1` in the store".to_owned(), "`sconce images`"),
        ("store:", "`store:` names no image".to_owned(), "store:NAME"),
        ("oci:", "`oci:` names no folder".to_owned(), "oci:DIR"),
        ("docker-archive:", "`docker-archive:` names no file".to_owned(), "docker-archive:FILE"),
        ("dir:x", "`dir:` are not read".to_owned(), "`skopeo copy dir:x oci:DIR:TAG`"),
    ] {
        let (code, _, err) = world.says(&["run", "--gpus", "none", target]);
        assert!(code == 125 && err.contains(&says) && err.contains(hint), "{target}: {code} {err}");
        assert!(!err.contains("is not a tag"), "{target}: {err}");
    }
    done(&world, &["copy", "oci:image", "store:lab/x:1"]);
    done(&world, &["copy", "store:lab/x:1", "store:y"]);
    for target in ["store:lab/x:1", "store:y"] {
        assert_eq!(done(&world, &["run", "-q", "--gpus", "none", target]), "from the registry\n");
    }
}

/// Offline it is the way to have such an image; who did not mean it is told.
#[test]
fn a_name_that_is_a_tag_can_be_given_and_is_said() {
    let world = World::new();
    world.image(ECHO);
    let (code, _, err) = world.says(&["copy", "oci:image", "store:mine:2.15.0"]);
    assert!(code == 0 && err.is_empty(), "{code} {err}");
    let (code, _, err) = world.says(&["copy", "oci:image", "store:torch:2.15.0"]);
    assert!(code == 0 && err.contains("`sconce rmi torch:2.15.0` ends that"), "{code} {err}");
    let run = ["--offline", "run", "-q", "--gpus", "none", "torch:2.15.0"];
    assert_eq!(done(&world, &run), "from the registry\n");
    done(&world, &["rmi", "torch:2.15.0"]);
    assert_ne!(world.says(&run).0, 0);
}

/// A registry of plain HTTP that is asked over TLS, and the other way round.
#[test]
fn with_tls_or_without_is_said() {
    let (world, here) = (World::new(), World::new());
    world.image(ECHO);
    fs::write(world.path("ca.pem"), CA).unwrap();
    // As Go's servers, it answers what is no HTTP with 400 in plain words.
    let served = world::served::Served::start(&here, &["--writable"]);
    let name = format!("{}/team/app:1", served.host);
    for words in
        [&["push", "--ca", "ca.pem", "oci:image", &name][..], &["pull", "--ca", "ca.pem", &name]]
    {
        let (code, _, err) = world.says(words);
        assert!(code == 5 && err.contains("the server speaks plain HTTP there"), "{code} {err}");
        assert!(err.contains("`--plain-http`"), "{err}");
        // The hint holds.
        let words: Vec<&str> = [words, &["--plain-http"]].concat();
        done(&world, &words);
    }

    // As Go, nginx and Apache answer.
    let server = Server::start();
    let name = server.url("/app").replace("http://", "");
    let page =
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>";
    for answer in [
        "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
            .to_owned(),
        format!("{page}<center>The plain HTTP request was sent to HTTPS port</center>"),
        format!("{page}You're speaking plain HTTP to an SSL-enabled server port.<br />"),
    ] {
        server.always("/v2/app/manifests/latest", Fault::Raw(answer.into()));
        let (code, _, err) = world.says(&["pull", "--plain-http", &name]);
        assert!(code == 5 && err.contains("the server speaks TLS there"), "{code} {err}");
        assert!(err.contains("leave --plain-http away"), "{err}");
    }
}

/// The disk that is full is the store's, whatever a layer calls its files.
#[test]
fn a_full_disk_is_said_of_the_store() {
    let (world, server) = (World::new(), Server::start());
    fs::create_dir_all(world.path("layer/usr/deep")).unwrap();
    for number in 0..24 {
        fs::write(world.path(&format!("layer/usr/deep/{number}")), vec![b'x'; 1 << 20]).unwrap();
    }
    let run = |program: &str, words: &[&str]| {
        let mut command = std::process::Command::new(program);
        assert!(command.args(words).current_dir(world.path("")).status().unwrap().success());
    };
    run("tar", &["--create", "--file", "layer.tar", "--directory", "layer", "usr"]);
    run("gzip", &["--keep", "layer.tar"]);
    let diff_id = Digest::of(&fs::read(world.path("layer.tar")).unwrap());
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let blob = |bytes: &[u8], kind: &str| {
        let digest = Digest::of(bytes);
        server.put(&format!("/v2/app/blobs/{digest}"), bytes);
        let kind = format!("application/vnd.oci.image.{kind}");
        format!(r#"{{"mediaType": "{kind}", "digest": "{digest}", "size": {}}}"#, bytes.len())
    };
    let config = format!(
        r#"{{"architecture": "{arch}", "os": "linux", "config": {{}}, "rootfs": {{"type": "layers", "diff_ids": ["{diff_id}"]}}}}"#
    );
    let config = blob(config.as_bytes(), "config.v1+json");
    let layer = blob(&fs::read(world.path("layer.tar.gz")).unwrap(), "layer.v1.tar+gzip");
    let manifest = format!(r#"{{"schemaVersion": 2, "config": {config}, "layers": [{layer}]}}"#);
    server.put("/v2/app/manifests/latest", manifest);
    let name = server.url("/app").replace("http://", "");
    // In mounts of its own, which end with it; that takes root.
    let mut command = std::process::Command::new("unshare");
    let script = "mkdir -p store && mount -t tmpfs -o size=16m,mode=700 tmpfs store && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_sconce")]);
    command.args(["pull", &name]).current_dir(world.path(""));
    command.env("SCONCE_HOME", world.path("store")).env("HOME", world.path("home"));
    let (code, _, err) = world::texts(&command.output().unwrap());
    let store = world.path("store").display().to_string();
    let says = format!("no space left to unpack a layer into the store {store}: ");
    assert!(code == 7 && err.contains(&says) && !err.contains("usr/deep"), "{code} {err}");
    assert!(err.contains(&format!("free space on the disk of {store} (")), "{err}");
}
