//! `sconce outdated`: the lock beside what would be locked today and the newest that the index has.

mod index_world;

use std::fs;

use index_world::World;
use sconce_testkit::Wheel;
use serde_json::{Value, json};

fn rows(said: &str) -> Value {
    let start = said.find("{\n").unwrap_or_else(|| panic!("{said}"));
    let found: Value =
        serde_json::from_str(&said[start..]).unwrap_or_else(|why| panic!("{why}: {said}"));
    found["packages"].clone()
}

#[test]
fn what_fits_and_what_there_is() {
    let mut world =
        World::new(&[Wheel::new("a", "1.9"), Wheel::new("b", "1.0"), Wheel::new("c", "1.0")]);
    // Debian's archive is not reached.
    let mirror = world.index.server.url("/debian");
    world.env.push(("SCONCE_DEBIAN_MIRROR", mirror));
    world.locks();
    let lock = fs::read(world.path("project/sconce.lock")).unwrap();
    let (code, said) = world.sconce(&["outdated"]);
    assert!(
        code == 12 && said.contains("note: of Debian packages it can't be told: "),
        "{code} {said}"
    );
    // A newer one that fits, one that only the index has, a preview.
    world.again(&Wheel::new("a", "1.10"));
    world.index.add(&Wheel::new("b", "2.0"));
    world.index.add(&Wheel::new("c", "2.0rc1"));
    let (code, said) = world.sconce(&["outdated", "--json"]);
    let row = |name: &str, locked: &str, fits: &str, newest: &str| json!({"kind": "python", "name": name, "locked": locked, "fits": fits, "newest": newest});
    assert_eq!(code, 1, "{said}");
    assert_eq!(
        rows(&said),
        json!([row("a", "1.9", "1.10", "1.10"), row("b", "1.0", "1.0", "2.0")])
    );
    let (code, said) = world.sconce(&["outdated"]);
    let line = said.lines().find(|line| line.starts_with("a ")).unwrap_or_else(|| panic!("{said}"));
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["a", "python", "1.9", "1.10", "1.10"]);
    assert_eq!(code, 1);
    assert_eq!(fs::read(world.path("project/sconce.lock")).unwrap(), lock, "nothing is written");
    // An index that went backwards: what is locked is no longer there.
    world.again(&Wheel::new("a", "1.8"));
    let (code, said) = world.sconce(&["outdated", "--json"]);
    assert_eq!((code, &rows(&said)[0]["fits"]), (1, &"1.8".into()), "{said}");
}

#[test]
fn without_a_lock_there_is_no_answer() {
    let world = World::new(&[Wheel::new("a", "1.0")]);
    fs::remove_file(world.path("project/sconce.lock")).unwrap();
    let (code, said) = world.sconce(&["outdated"]);
    assert!(code == 2 && said.contains("sconce lock"), "{code} {said}");
    fs::write(world.path("project/sconce.lock"), "version = 999\n").unwrap();
    assert_eq!(world.sconce(&["outdated"]).0, 3);
}
