//! What is kept of wheels before they are downloaded is a hint: damaged, outdated or wrong, it changes no lock; and
//! what is begun before it is asked for changes no error.

mod index_world;

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use index_world::World;
use sconce_lock::{Lock, Wheel};
use sconce_store::Store;
use sconce_testkit::Wheel as Made;

fn wheels() -> [Made; 2] {
    let wheel = |name: &str| Made::new(name, "1.0").file(&format!("{name}/__init__.py"), b"");
    [wheel("a"), wheel("b")]
}

impl World {
    /// Locks anew for another reason each `time`: the wheels of the lock, and what was said.
    #[track_caller]
    fn locks_again(&self, time: usize) -> (Vec<Wheel>, String) {
        self.asks(&format!("exclude = [\"nobody-needs-{time}\"]"));
        let (code, said) = self.sconce(&["lock"]);
        assert_eq!(code, 0, "{said}");
        let text = fs::read_to_string(self.path("project/sconce.lock")).unwrap();
        (Lock::parse(&text).unwrap().wheels, said)
    }

    /// What is kept of the first wheel.
    fn kept(&self) -> PathBuf {
        let digest = self.locks().wheel("a").unwrap().sha256;
        self.path("store/memo").join(format!("contents-{}", digest.hex()))
    }
}

#[test]
fn a_document_that_is_damaged_or_of_another_version_is_made_again() {
    let world = World::new(&wheels());
    let kept = world.kept();
    let good = fs::read_to_string(&kept).unwrap();
    for words in [
        "\"version\":2",
        "\"verified\":false",
        "a/__init__.py",
        "Name: a",
        "Wheel-Version",
        "a/__init__.py,sha256=",
    ] {
        assert!(good.contains(words), "{words} is not in:\n{good}");
    }
    let file = wheels()[0].file_name();
    let (lock, _) = world.locks_again(100);
    assert_eq!(world.ranges(&file).len(), 1);
    let bad = [
        String::new(),
        good[..good.len() / 2].to_owned(),
        good.replace("\"version\":2", "\"version\":1"),
        good.replace("\"version\":2", "\"version\":2,\"more\":1"),
        // A method that no wheel has.
        good.replace(",8,", ",9,").replace(",0,", ",9,"),
        "[]".to_owned(),
    ];
    for (at, bad) in bad.iter().enumerate() {
        fs::write(&kept, bad).unwrap();
        let (again, said) = world.locks_again(at);
        assert_eq!(again, lock, "{bad}: {said}");
        assert_eq!(world.ranges(&file).len(), at + 2, "{bad}");
        assert_eq!(fs::read_to_string(&kept).unwrap(), good, "{bad}");
    }
}

#[test]
fn what_stands_in_the_place_of_the_document_is_said_and_changes_no_lock() {
    let world = World::new(&wheels());
    let kept = world.kept();
    let (lock, _) = world.locks_again(1);
    // A folder stands where the document belongs.
    fs::remove_file(&kept).unwrap();
    fs::create_dir(&kept).unwrap();
    let (again, said) = world.locks_again(2);
    assert_eq!(again, lock);
    assert!(said.contains("it is not a regular file; it is made anew"), "{said}");
    assert!(kept.is_file(), "{said}");
    assert!(!said.contains("can be installed beside"), "{said}");
}

#[test]
fn the_bytes_of_a_wheel_beat_what_an_index_said_of_them() {
    let [a, b] = wheels();
    let liar = Made::new("a", "1.0").file("b/__init__.py", b"something else");
    let world = World::new(&[a.clone(), b]);
    let path = world.index.path(&a.file_name());
    // The index serves another archive under the hash of the first.
    world.index.server.put(&path, liar.build());
    let (code, said) = world.sconce(&["lock"]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("both own b"), "{said}");
    // The wheel itself comes into the store.
    let store = Store::open(world.path("store")).unwrap();
    let bytes = a.build();
    let file = world.path("a.whl");
    fs::write(&file, &bytes).unwrap();
    store.put_file(&file, Some(sconce_blob::Digest::of(&bytes))).unwrap();
    drop(store);
    let (code, said) = world.sconce(&["lock"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("what an index said is in a-1.0-py3-none-any.whl is not"), "{said}");
    let kept = fs::read_to_string(world.kept()).unwrap();
    assert!(kept.contains("\"verified\":true") && !kept.contains("something else"), "{kept}");
    // Once said, it is done with.
    assert!(!world.locks_again(1).1.contains("an index said"));
}

/// A mirror of Debian's that takes connections and never answers.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/debian", listener.local_addr().unwrap());
    (listener, url)
}

#[test]
fn the_error_is_that_of_what_is_asked_first_and_comes_at_once() {
    let mut world = World::new(&wheels());
    // Without a lock both are asked.
    fs::remove_file(world.path("project/sconce.lock")).unwrap();
    let answers = fs::read_to_string(world.path("uv")).unwrap();
    let refuses = answers.replace(
        "cat >/dev/null\n",
        "cat >/dev/null; echo 'No solution found: a needs c' >&2; exit 1\n",
    );
    fs::write(world.path("uv"), refuses).unwrap();
    let (_listener, hangs) = silent();
    for mirror in [hangs, "http://127.0.0.1:9/debian".to_owned()] {
        world.env = vec![("SCONCE_DEBIAN_MIRROR", mirror.clone())];
        let begun = Instant::now();
        let (code, said) = world.sconce(&["lock"]);
        assert!(begun.elapsed() < Duration::from_secs(10), "{mirror}: {:?}", begun.elapsed());
        assert_eq!(code, 4, "{mirror}: {said}");
        assert!(said.contains("a needs c"), "{mirror}: {said}");
        assert!(!said.contains("ancelled") && !said.contains("debian"), "{mirror}: {said}");
    }
    // Where the packages are found, it is the archive's own.
    fs::write(world.path("uv"), answers).unwrap();
    world.env = vec![("SCONCE_DEBIAN_MIRROR", "file:///nowhere/debian".to_owned())];
    let (code, said) = world.sconce(&["lock"]);
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("/nowhere/debian/dists/"), "{said}");
    assert!(!said.contains("ancelled"), "{said}");
}
