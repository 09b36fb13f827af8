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
