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
        store.blob_path(lock.wheels[0].sha256).is_some()
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
    world.asks("[image]\nname = \"lab/demo:1.2\"");
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
    for (line, why) in [
        ("--find-links ./none", "`--find-links`: there is no "),
        ("--find-links file:///none/at/all", "`--find-links`: there is no /none/at/all"),
        ("--find-links ./b-1-py3-none-any.whl", "is a wheel: name its folder"),
        ("--extra-index-url ./none", "`--extra-index-url`: there is no "),
        ("--extra-index-url ./a.txt", "a.txt is no folder"),
        ("--index-url file:///none/at/all", "`--index-url`: there is no /none/at/all"),
        ("./none-1-py3-none-any.whl", "there is no "),
        ("none @ ./none-1-py3-none-any.whl", "there is no "),
        ("./b-1-py3-none-any.whl", "is not a zip archive"),
    ] {
        toml("\"requirements.txt\"", "");
        put("requirements.txt", &format!("a\n{line}\n")).unwrap();
        said("requirements.txt, line 2", why);
    }
    let project = "[project]\nname = \"x\"\nversion = \"1\"\ndependencies = [\"a\"]\n";
    for (table, why) in [
        ("[tool.uv]\nfind-links = [\"./none\"]", "there is no "),
        ("[tool.uv.sources]\na = { path = \"./a-1-py3-none-any.whl\" }", "there is no "),
        ("[[tool.uv.index]]\nurl = \"./a.txt\"", "a.txt is no folder"),
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
