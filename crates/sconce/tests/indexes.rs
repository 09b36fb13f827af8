//! Where packages come from: addresses that are remembered, and logins, with an index on loopback.

mod index_world;

use index_world::World;
use sconce_store::Store;
use sconce_testkit::{Fault, PackageIndex, Wheel};

fn wheel() -> Wheel {
    Wheel::new("a", "1.0").file("a/__init__.py", b"")
}

impl World {
    /// Whether the wheel is in the store.
    fn has_wheel(&self) -> bool {
        let lock = self.locks();
        let store = Store::open(self.path("store")).unwrap();
        store.blob_path(lock.wheels[0].sha256).unwrap().is_some()
    }
}

/// An address that was remembered is a hint: what is configured now decides.
#[test]
fn a_remembered_address_that_fails_is_forgotten() {
    for fault in [Some(Fault::Status(404, None)), Some(Fault::Other(b"another".to_vec())), None] {
        let mut world = World::new(&[wheel()]);
        world.locks();
        let mut new = PackageIndex::json();
        new.add(&wheel());
        let path = world.index.path(&wheel().file_name());
        // Without a fault the old one is gone.
        let old = std::mem::replace(&mut world.index, new);
        if let Some(fault) = &fault {
            old.server.always(&path, fault.clone());
        }
        let _there = fault.is_some().then_some(old);
        // Without Debian packages there is nothing to build on: that comes after the download.
        let (_, said) = world.sconce(&["build"]);
        // What another address began is gone on with, and begun anew when the digest is wrong.
        let most = if matches!(fault, Some(Fault::Other(_))) { 2 } else { 1 };
        let asked = world.index.server.requests_for(&path).len();
        assert!((1..=most).contains(&asked), "{fault:?}: {asked} requests: {said}");
        assert!(world.has_wheel(), "{fault:?}: {said}");
    }
}

#[test]
fn an_index_that_wants_a_login_says_where_to_put_it() {
    let secret = |world: &mut World| {
        // me:secret
        world.index.server.guard("/", "Basic bWU6c2VjcmV0", "Basic realm=\"lab\"");
    };
    let mut world = World::new(&[wheel()]);
    world.asks(&format!("indexes = [{{ name = \"lab\", url = \"{}\" }}]", world.index.url()));
    world.locks();
    secret(&mut world);
    let (code, said) = world.sconce(&["build"]);
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("answered 401"), "{said}");
    for place in ["~/.netrc", "UV_INDEX_<NAME>_USERNAME", "uv.toml or pip.conf"] {
        assert!(said.contains(place), "{said}");
    }
    assert!(!said.contains("network"), "{said}");
    assert!(!world.has_wheel());

    // Variables that go to an address which a project names are a matter of trust.
    world.env =
        vec![("UV_INDEX_LAB_USERNAME", "me".into()), ("UV_INDEX_LAB_PASSWORD", "secret".into())];
    let (code, said) = world.sconce(&["build"]);
    assert_eq!(code, 9, "{said}");
    let (_, said) = world.sconce(&["build", "--trust"]);
    assert!(!said.contains("secret") && !said.contains("answered 401"), "{said}");
    world.env.clear();
    assert!(world.has_wheel());
}

#[test]
fn an_image_has_a_name_that_engines_take() {
    let world = World::new(&[wheel()]);
    let (code, said) = world.sconce(&["build", "--tag", "My Image"]);
    assert_eq!(code, 2, "{said}");
    let keys = "[image]\nname = \"Lab/Demo\"";
    world.asks(keys);
    let (code, said) = world.sconce(&["lock"]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("sconce.toml, line 5") && said.contains("lab/demo:1.2"), "{said}");
    // What it is called moves no package and makes no lock stale.
    world.asks("");
    world.locks();
    world.asks("[image]\nname = \"demo:1.2\"");
    let (code, said) = world.sconce(&["lock", "--check"]);
    assert_eq!(code, 0, "{said}");
}

/// Without a lock the error says what is missing.
#[test]
fn a_project_that_can_only_be_read() {
    let world = World::new(&[wheel()]);
    std::fs::remove_file(world.path("project/sconce.lock")).unwrap();
    let (code, said) = world.sconce_on_read_only(&["lock"]);
    assert_eq!(code, 7, "{said}");
    assert!(said.contains("bring sconce.lock along"), "{said}");
    assert!(!world.path("project/sconce.lock").exists(), "{said}");
}

/// What is wrong in a person's own file has its name and line, and is not about the network.
#[test]
fn what_is_not_there_is_said_by_file_and_line() {
    let world = World::new(&[wheel()]);
    let toml = |requirements: &str, more: &str| {
        let keys = format!("requirements = {requirements}\n{more}");
        let text = format!("[environment]\ntorch = false\n{keys}\n");
        std::fs::write(world.path("project/sconce.toml"), text).unwrap();
    };
    let put = |name: &str, text: &str| std::fs::write(world.path("project").join(name), text);
    let said = |place: &str, why: &str| {
        let (code, said) = world.sconce(&["lock", "--trust"]);
        assert_eq!(code, 3, "{said}");
        let line = said.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(line.contains(place) && line.contains(why), "{said}");
        assert!(!said.contains("network") && !said.contains("package index"), "{said}");
    };
    put("a.txt", "a file").unwrap();
    put("b-1-py3-none-any.whl", "no archive").unwrap();
    put("c-1-py3-none-any.whl", "PK\u{3}\u{4} and no end").unwrap();
    for (line, why) in [
        ("--find-links ./none", "`--find-links`: there is no "),
        ("--find-links file:///none/at/all", "`--find-links`: there is no /none/at/all"),
        ("--find-links ./b-1-py3-none-any.whl", "is a wheel: name its folder"),
        ("--extra-index-url ./none", "`--extra-index-url`: there is no "),
        ("--extra-index-url ./a.txt", "a.txt is not a folder"),
        ("--index-url file:///none/at/all", "`--index-url`: there is no /none/at/all"),
        ("./none-1-py3-none-any.whl", "there is no "),
        ("none @ ./none-1-py3-none-any.whl", "there is no "),
        ("./b-1-py3-none-any.whl", "is not a zip archive"),
        ("./c-1-py3-none-any.whl", "is a zip archive that was cut off"),
    ] {
        toml("\"requirements.txt\"", "");
        put("requirements.txt", &format!("a\n{line}\n")).unwrap();
        said("requirements.txt, line 2", why);
    }
    let project = "[project]\nname = \"x\"\nversion = \"1\"\ndependencies = [\"a\"]\n";
    for (table, why) in [
        ("[tool.uv]\nfind-links = [\"./none\"]", "there is no "),
        ("[tool.uv.sources]\na = { path = \"./a-1-py3-none-any.whl\" }", "there is no "),
        ("[[tool.uv.index]]\nurl = \"./a.txt\"", "a.txt is not a folder"),
    ] {
        toml("\"pyproject.toml\"", "");
        put("pyproject.toml", &format!("{project}{table}\n")).unwrap();
        said("pyproject.toml, line ", why);
    }
    toml("\"none.txt\"", "");
    said("sconce.toml, line 3", "there is no ");
    toml("[\n\"a\",\n\"./none-1-py3-none-any.whl\"]", "");
    said("sconce.toml, line 5", "there is no ");
    toml("[\"a\"]", "indexes = [\n{ name = \"lab\", url = \"./none\" }]");
    said("sconce.toml, line 5", "there is no ");
}

/// A wheel that uv can't read is said by its path, and by the line that names it or its folder.
#[test]
fn a_wheel_on_this_machine_that_is_damaged() {
    let world = World::new(&[wheel()]);
    std::fs::create_dir(world.path("project/wheels")).unwrap();
    let text = "[environment]\ntorch = false\nrequirements = \"requirements.txt\"\n";
    std::fs::write(world.path("project/sconce.toml"), text).unwrap();
    let put = |name: &str, text: &str| std::fs::write(world.path("project").join(name), text);
    put("requirements.txt", "a\n--find-links ./wheels\n").unwrap();
    let words = |what: &str, cause: &str| {
        let text = format!("error: Failed to download `{what}`\n  cause: {cause}\n");
        std::fs::write(world.path("fails"), text).unwrap();
    };
    for (bytes, cause, why) in [
        (
            "PK\u{3}\u{4} and no end",
            "ZIP structure was truncated",
            "it is a zip archive that was cut off",
        ),
        ("hello", "unexpected header", "it is not a zip archive"),
        (
            "PK\u{3}\u{4} PK\u{5}\u{6}",
            "The wheel is invalid: Missing .dist-info directory",
            "Missing .dist-info directory",
        ),
    ] {
        put("wheels/Zq.cut-1.0-py3-none-any.whl", bytes).unwrap();
        words("zq-cut==1.0", cause);
        let (code, said) = world.sconce(&["lock"]);
        assert_eq!(code, 3, "{said}");
        let line = said.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        for part in [
            "requirements.txt, line 2: `--find-links`: ",
            "/wheels/Zq.cut-1.0-py3-none-any.whl: ",
            why,
        ] {
            assert!(line.contains(part), "`{part}` is not in {said}");
        }
        assert!(!said.contains("download"), "{said}");
    }
    // What is on the network is not this machine's.
    words("elsewhere==1.0", "Missing .dist-info directory");
    let (_, said) = world.sconce(&["lock"]);
    assert!(said.contains("Failed to download `elsewhere==1.0`"), "{said}");
}

/// A wheel is of the release in its name, wherever it comes from.
#[test]
fn a_wheel_of_another_release_than_its_name_says() {
    let other = |name: &str, version: &str| {
        let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n");
        let texts =
            [("METADATA", metadata.as_str()), ("WHEEL", "Wheel-Version: 1.0\n"), ("RECORD", "")];
        let entry = |(file, text): (&str, &str)| {
            sconce_testkit::ZipEntry::deflated(&format!("a-1.0.dist-info/{file}"), text.as_bytes())
        };
        sconce_testkit::zip(&texts.map(entry))
    };
    let world = World::new(&[wheel()]);
    let path = world.path("project/wheels/a-1.0-py3-none-any.whl");
    std::fs::create_dir(world.path("project/wheels")).unwrap();
    let toml = "[environment]\ntorch = false\nrequirements = [\"a\"]\nindexes = [{ name = \"lab\", url = \"./wheels\" }]\n";
    std::fs::write(world.path("project/sconce.toml"), toml).unwrap();
    for (name, version) in [("a", "2.0"), ("b", "1.0")] {
        let bytes = other(name, version);
        std::fs::write(&path, &bytes).unwrap();
        let digest = sconce_blob::Digest::of(&bytes);
        let real = std::fs::canonicalize(&path).unwrap();
        world.put_at(&wheel(), digest, &format!("file://{}", real.display()));
        let (code, said) = world.sconce(&["lock", "--trust"]);
        assert_eq!(code, 3, "{said}");
        let words =
            format!("its METADATA is of {name} {version}: a wheel is of the release in its name");
        assert!(said.contains(&words) && said.contains("sconce.toml, line 4"), "{said}");
        // The same from an index.
        let url = world.index.server.url("/simple/other/a-1.0-py3-none-any.whl");
        world.index.server.put("/simple/other/a-1.0-py3-none-any.whl", bytes);
        world.put_at(&wheel(), digest, &url);
        let (code, said) = world.sconce(&["lock", "--trust"]);
        assert_eq!(code, 3, "{said}");
        assert!(said.contains(&format!("a-1.0-py3-none-any.whl: {words}")), "{said}");
    }
}

/// What can't be reached is said with the line that names it.
#[test]
fn a_host_that_is_not_there() {
    let world = World::new(&[wheel()]);
    let text = "[environment]\ntorch = false\nrequirements = \"requirements.txt\"\n";
    std::fs::write(world.path("project/sconce.toml"), text).unwrap();
    let lines = "a\nb @ https://nohost.invalid/b-1.0-py3-none-any.whl\n";
    std::fs::write(world.path("project/requirements.txt"), lines).unwrap();
    let words = "error: Failed to download `b @ https://nohost.invalid/b-1.0-py3-none-any.whl`\n  \
                 cause: Failed to fetch: `https://nohost.invalid/b-1.0-py3-none-any.whl`\n  cause: dns error\n";
    std::fs::write(world.path("fails"), words).unwrap();
    let (code, said) = world.sconce(&["lock", "--trust"]);
    assert_eq!(code, 5, "{said}");
    let named = "requirements.txt, line 2 names https://nohost.invalid/b-1.0-py3-none-any.whl)";
    assert!(
        said.contains("error: could not ask the package index (") && said.contains(named),
        "{said}"
    );
}

/// A server that says it has no such file is no network that fails: the line that names the file is wrong.
#[test]
fn a_wheel_that_its_server_does_not_have() {
    let world = World::new(&[wheel()]);
    let text = "[environment]\ntorch = false\nrequirements = \"requirements.txt\"\n";
    std::fs::write(world.path("project/sconce.toml"), text).unwrap();
    let url = "https://host.invalid/b-1.0-py3-none-any.whl";
    std::fs::write(world.path("project/requirements.txt"), format!("a\nb @ {url}\n")).unwrap();
    let words = format!(
        "error: Failed to download `b @ {url}`\n  cause: Failed to fetch: `{url}`\n  cause: HTTP status client error \
         (404 Not Found) for url ({url})\n"
    );
    std::fs::write(world.path("fails"), words).unwrap();
    let (code, said) = world.sconce(&["lock", "--trust"]);
    let expected = format!(
        "requirements.txt, line 2: `b @ {url}`: the server has no such file (its answer is 404)"
    );
    assert!(code == 3 && said.contains(&expected), "{code} {said}");
    assert!(!said.contains("network"), "{said}");
}

/// What stands in a file outside the folder is not shown: nobody has said that it may be read.
#[test]
fn a_file_outside_is_not_shown() {
    let world = World::new(&[wheel()]);
    std::fs::write(world.path("secret.txt"), "# ours\nhunter2 is the password\n").unwrap();
    for (file, more) in [("../secret.txt", ""), ("r.txt", "-r ../secret.txt\n")] {
        let text = format!("[environment]\ntorch = false\nrequirements = \"{file}\"\n");
        std::fs::write(world.path("project/sconce.toml"), text).unwrap();
        std::fs::write(world.path("project/r.txt"), more).unwrap();
        let (code, said) = world.sconce(&["lock"]);
        assert!(code == 3 && said.contains("secret.txt, line 2: "), "{code} {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

/// A lock that is taken as it is stays as it is, whatever sconce.toml says by now.
#[test]
fn a_stale_lock_gets_no_seal() {
    let world = World::new(&[wheel()]);
    // There is no Python here to compile with.
    world.asks("bytecode = false");
    world.locks();
    let path = world.path("project/sconce.lock");
    let before = std::fs::read_to_string(&path).unwrap();
    world.asks("bytecode = false\nexclude = [\"b\"]");
    let (code, said) = world.sconce(&["build", "--frozen"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    assert!(
        said.contains("the lock stays without a seal: sconce.lock is not of this sconce.toml"),
        "{said}"
    );
    // Nor does one that fits, where nothing is to be written: the image is there all the same.
    world.asks("bytecode = false");
    std::fs::remove_dir_all(world.path("store")).unwrap();
    for words in [&["build", "--locked"][..], &["build", "--frozen"]] {
        let (code, said) = world.sconce(words);
        assert_eq!(code, 0, "{said}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before, "{words:?}");
    }
    // Else it gets one.
    let (code, said) = world.sconce(&["build"]);
    assert_eq!(code, 0, "{said}");
    assert!(std::fs::read_to_string(&path).unwrap().contains("[sealed]"));
}

/// `--explain` says no less than a lock without it.
#[test]
fn explained_is_said_as_well() {
    let world = World::new(&[wheel()]);
    let (code, said) = world.sconce(&["lock", "--explain", "--upgrade-package", "none"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("note: `none` is not in the lock") && said.contains("+ a 1.0"), "{said}");
}
