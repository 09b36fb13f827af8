//! Containers that run on while a test looks at them.

use std::time::{Duration, Instant};

use super::World;

/// One of root and one of an ordinary user.
pub fn worlds() -> [World; 2] {
    [World::new(), World::of_nobody()]
}

/// What `sconce` prints; it must end well.
#[track_caller]
pub fn ok(world: &World, words: &[&str]) -> String {
    let (code, out, err) = world.says(words);
    assert_eq!(code, 0, "{words:?}\n{out}{err}");
    out
}

/// Starts a detached container named `name`: its id.
#[track_caller]
pub fn start(world: &World, name: &str, options: &[&str], script: &str) -> String {
    let words = ["run", "-q", "-d", "--gpus", "none", "--name", name];
    let id = ok(world, &[&words, options, &["oci:image", "sh", "-c", script]].concat());
    id.trim().to_owned()
}

/// Waits twenty seconds at most.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
