//! What of a lock is not for others: tokens and passwords in addresses, and paths of this machine. None of it is in
//! a lock, an image, what is beside an image in a registry, or what is said.

mod index_world;

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use sconce_blob::Digest;
use sconce_lock::Lock;
use sconce_testkit::{Fault, RegistryServer, Wheel};

const SECRETS: [&str; 3] = ["s3cr3t", "t0k3n", "V0lunteer"];

/// A project without Debian packages (its Python is a build of its own) that asks for `a` of the index and for `b`
/// at an address of its own.
fn project(b: &Wheel) -> index_world::World {
    let world = index_world::with_python(&[Wheel::new("a", "1.0").file("a.py", b"x")]);
    world.index.server.put(&signed(b), b.build());
    world
}

/// Where the server has the wheel, and nowhere else: below a query, as signed addresses are.
fn signed(wheel: &Wheel) -> String {
    format!("/signed/{}?token=t0k3n&Expires=9", wheel.file_name())
}

/// Writes sconce.toml with a requirement at this address, and has uv answer with it.
fn asks(world: &index_world::World, b: &Wheel, written: &str, whole: &str) {
    let text = format!(
        "[environment]\ntorch = false\nrequirements = [\"a\", \"b @ {written}\"]\npython = \"3.9\"\nbytecode = false\n"
    );
    fs::write(world.path("project/sconce.toml"), text).unwrap();
    let row = format!(
        "[[packages]]\nname = \"b\"\nversion = \"1.0\"\narchive = {{ url = \"{whole}\", hashes = {{ sha256 = \"{}\" }} }}\n",
        Digest::of(&b.build()).hex()
    );
    fs::write(world.path("pylock").join("b"), row).unwrap();
}

#[track_caller]
fn has_no_secret(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

/// Names and bytes of all that is in a store.
#[track_caller]
fn store_has_no_secret(store: &Path) {
    let mut folders = vec![store.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            has_no_secret(&path.strip_prefix(store).unwrap().to_string_lossy());
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => folders.push(path),
                kind if kind.is_file() => {
                    let bytes = fs::read(&path).unwrap();
                    for secret in SECRETS.map(str::as_bytes) {
                        let found = bytes.windows(secret.len()).any(|part| part == secret);
                        assert!(!found, "{}", path.display());
                    }
                }
                _ => {}
            }
        }
    }
}

fn count(folder: &Path, beginning: &str) -> usize {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with(beginning)).count()
}

/// All texts that a registry has of a repository: manifests, what they name, and so on.
fn published(registry: &RegistryServer, repository: &str) -> String {
    let mut all = String::new();
    let mut seen = HashSet::new();
    let tags = registry.tags(repository).into_iter();
    let mut todo: Vec<Vec<u8>> =
        tags.map(|tag| registry.manifest(repository, &tag).unwrap()).collect();
    while let Some(bytes) = todo.pop() {
        // Layers are for others to read; what names something is text.
        let Ok(text) = String::from_utf8(bytes) else { continue };
        for part in text.split("sha256:").skip(1).filter(|part| part.len() >= 64) {
            let Ok(digest) = format!("sha256:{}", &part[..64]).parse::<Digest>() else { continue };
            if seen.insert(digest) {
                let found = registry.manifest(repository, &digest.to_string());
                todo.extend(found.or_else(|| registry.blob(repository, digest)));
            }
        }
        all.push_str(&text);
    }
    all
}

#[test]
fn a_token_of_an_address_is_in_nothing_that_is_published() {
    let b = Wheel::new("b", "1.0").file("b.py", b"x");
    let mut world = project(&b);
    let address = world.index.server.url(&signed(&b)).replace("http://", "http://me:s3cr3t@");
    world.env.push(("TOKEN", "t0k3n".to_owned()));
    asks(&world, &b, &address.replace("t0k3n", "${TOKEN}"), &address);
    let registry = RegistryServer::start();
    let name = format!("{}/team/app:1", registry.host());
    let (code, said) = world.sconce(&["push", "--trust", ".", &name]);
    assert_eq!(code, 0, "{said}");
    has_no_secret(&said);
    let lock = fs::read_to_string(world.path("project/sconce.lock")).unwrap();
    has_no_secret(&lock);
    assert!(lock.contains(&format!("/signed/{}\"\n", b.file_name())), "{lock}");
    let published = published(&registry, "team/app");
    assert!(published.contains("pkg:pypi/b@1.0") && published.contains("[[wheel]]"), "{published}");
    has_no_secret(&published);
    // All of a group may read its store.
    store_has_no_secret(&world.path("store"));
    assert!(count(&world.path("store/memo"), "address-") > 0);

    let (code, said) = world.sconce(&["lock", "--trust", "--explain"]);
    assert_eq!(code, 0, "{said}");
    has_no_secret(&said);

    // The address is whole again where the project names it: an empty store builds what the lock seals.
    world.env.push(("SCONCE_HOME", world.path("other").display().to_string()));
    let asked = world.index.server.requests_for(&signed(&b)).len();
    let (code, said) = world.sconce(&["build", "--trust", "--locked"]);
    assert_eq!(code, 0, "{said}");
    let requests = world.index.server.requests_for(&signed(&b));
    assert!(requests.len() > asked, "{requests:?}");
    assert_eq!(requests[asked].header("authorization"), Some("Basic bWU6czNjcjN0"));

    // A lock of an older sconce holds the query: it is built as it is where it may not be written, and not published.
    let old = Lock::parse(&lock).unwrap();
    let wheels = old.wheels.iter().cloned().map(|mut wheel| {
        wheel.url = wheel.url.map(|url| format!("{url}?token=t0k3n&Expires=9"));
        wheel
    });
    let old = Lock { wheels: wheels.collect(), sealed: None, ..old.clone() };
    let written = || fs::read_to_string(world.path("project/sconce.lock")).unwrap();
    fs::write(world.path("project/sconce.lock"), old.to_text()).unwrap();
    let (code, said) = world.sconce(&["build", "--trust", "--locked"]);
    assert_eq!((code, written()), (0, old.to_text()), "{said}");
    assert_eq!(old.private(), ["the address of b has a login or a query"]);
    // Where it may be written, it loses the query.
    for words in [&["lock", "--trust"][..], &["lock", "--trust", "--upgrade-package", "b"]] {
        fs::write(world.path("project/sconce.lock"), old.to_text()).unwrap();
        let (code, said) = world.sconce(words);
        assert_eq!(code, 0, "{words:?}: {said}");
        has_no_secret(&written());
    }
    fs::write(world.path("project/sconce.lock"), old.to_text()).unwrap();
    let name = format!("{}/old/app:1", registry.host());
    let (code, said) = world.sconce(&["push", "--trust", ".", &name]);
    assert_eq!(code, 0, "{said}");
    has_no_secret(&written());
    has_no_secret(&self::published(&registry, "old/app"));
    store_has_no_secret(&world.path("other"));
    fs::write(world.path("project/sconce.lock"), lock).unwrap();

    // What is said of a failure has the address without what is secret, in uv's words as well.
    world.env.push(("SCONCE_HOME", world.path("third").display().to_string()));
    world.index.server.always(&signed(&b), Fault::Status(403, None));
    let (code, said) = world.sconce(&["build", "--trust", "--locked"]);
    assert!(code == 5 && said.contains("/signed/b-1.0"), "{code} {said}");
    has_no_secret(&said);
    fs::write(world.path("fails"), format!("error: Failed to fetch: `{address}`\n")).unwrap();
    let (code, said) = world.sconce(&["lock", "--trust", "--upgrade"]);
    assert!(code != 0 && said.contains("Failed to fetch"), "{code} {said}");
    has_no_secret(&said);
}

#[test]
fn a_lock_with_paths_of_this_machine_is_not_published() {
    let b = Wheel::new("b", "1.0").file("b.py", b"x");
    let world = project(&b);
    let folder = world.path("V0lunteer");
    fs::create_dir(&folder).unwrap();
    let path = folder.join(b.file_name());
    fs::write(&path, b.build()).unwrap();
    let address = format!("file://{}", path.display());
    asks(&world, &b, &address, &address);
    let registry = RegistryServer::start();
    let name = format!("{}/team/app:1", registry.host());
    let (code, said) = world.sconce(&["push", "--trust", ".", &name]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("not put beside it: sconce.lock, for the address of b is a path"),
        "{said}"
    );
    let published = published(&registry, "team/app");
    assert!(
        published.contains("pkg:pypi/b@1.0") && !published.contains("[[wheel]]"),
        "{published}"
    );
    has_no_secret(&published);
}
