//! Wheels that install different files at one path are refused by `sconce lock`, which asks an index on
//! loopback for the ends of their archives alone.

mod index_world;

use expect_test::{Expect, expect};
use index_world::World;
use sconce_testkit::{Fault, Wheel};

#[track_caller]
fn refuses(world: &World, expected: Expect) {
    let (code, said) = world.sconce(&["lock"]);
    assert_eq!(code, 4, "{said}");
    let from = said.find("error:").unwrap_or_else(|| panic!("{said}"));
    expected.assert_eq(&said[from..]);
}

fn opencv(name: &str, code: &[u8]) -> Wheel {
    let wheel = Wheel::new(name, "4.12.0").tag("cp39-abi3-manylinux_2_28_x86_64");
    wheel.file("cv2/__init__.py", b"").file("cv2/cv2.abi3.so", code).file("LICENSE.txt", code)
}

fn two_opencvs() -> [Wheel; 3] {
    [
        Wheel::new("albumentations", "2.0")
            .metadata("Requires-Dist: OpenCV_Python-headless>=4.9")
            .metadata("Requires-Dist: opencv-python; extra == 'windows'"),
        opencv("opencv-python", b"with windows"),
        opencv("opencv-python-headless", b"without"),
    ]
}

/// What is said of [`two_opencvs`].
fn refusal() -> Expect {
    expect![[r#"
        error: opencv-python 4.12.0 and opencv-python-headless 4.12.0 (needed by albumentations) both own cv2: cv2/cv2.abi3.so is not the same in them
          hint: keep one of the two: `exclude = ["opencv-python"]` or `exclude = ["opencv-python-headless"]` under [environment] leaves that one out though something requires it; or keep both: `prefer = ["opencv-python"]` or `prefer = ["opencv-python-headless"]` lets the files of that one win
    "#]]
}

#[test]
fn two_packages_that_own_one_folder_are_refused_before_they_are_downloaded() {
    let world = World::new(&two_opencvs());
    refuses(&world, refusal());
    let file = opencv("opencv-python", b"").file_name();
    assert_eq!(world.ranges(&file), ["bytes=-98304"], "the end of the archive, once");
    // What a wheel has in it is remembered by its hash.
    refuses(&world, refusal());
    assert_eq!(world.ranges(&file).len(), 1);

    world.asks("exclude = [\"OpenCV.python\"]");
    let lock = world.locks();
    assert!(lock.wheel("opencv-python").is_none() && lock.wheels.len() == 2, "{lock:?}");
    assert_eq!(lock.facts.prefer, [""; 0]);

    world.asks("prefer = [\"opencv-python-headless\", \"pillow\"]");
    let lock = world.locks();
    assert_eq!(
        (lock.wheels.len(), lock.facts.prefer.as_slice()),
        (3, &["opencv-python-headless".to_owned()][..])
    );
    // An unchanged lock asks nothing.
    let before = world.index.server.requests().len();
    world.locks();
    assert_eq!(world.index.server.requests().len(), before);
}

#[test]
fn commands_of_one_name_are_told_apart_by_what_they_call() {
    let wheel = |name: &str, call: &str| {
        Wheel::new(name, "1.0").entry_points(&format!("[console_scripts]\ntrain = {call}\n"))
    };
    World::new(&[wheel("a", "x:main"), wheel("b", "x:main")]).locks();
    let world = World::new(&[wheel("a", "x:main"), wheel("b", "y:main")]);
    refuses(
        &world,
        expect![[r#"
        error: a 1.0 and b 1.0 both install bin/train, each another one
          hint: keep one of the two: `exclude = ["a"]` or `exclude = ["b"]` under [environment] leaves that one out though something requires it; or keep both: `prefer = ["a"]` or `prefer = ["b"]` lets the files of that one win
    "#]],
    );
}

#[test]
fn what_can_t_be_asked_is_left_to_the_build() {
    for fault in [
        Fault::IgnoreRange,
        Fault::WrongRange(7),
        Fault::Status(404, None),
        Fault::Other(b"no zip".to_vec()),
        Fault::Endless,
    ] {
        let world = World::new(&two_opencvs());
        let file = opencv("opencv-python", b"").file_name();
        world.index.server.always(&world.index.path(&file), fault.clone());
        let (code, said) = world.sconce(&["lock", "--explain"]);
        assert_eq!(code, 0, "{fault:?}: {said}");
        let note = "note: whether 1 wheel can be installed beside the others shows when";
        assert!(said.contains(note), "{fault:?}: `{note}` is not in:\n{said}");
    }
}

#[test]
fn a_server_that_knows_no_end_is_asked_from_the_beginning() {
    let world = World::new(&two_opencvs());
    let file = opencv("opencv-python", b"").file_name();
    world.index.server.once(&world.index.path(&file), Fault::Status(416, None));
    let (code, said) = world.sconce(&["lock"]);
    assert_eq!(code, 4, "{said}");
    assert_eq!(world.ranges(&file), ["bytes=-98304", "bytes=0-262143"]);
}

/// What a refusal advises, as it is printed: lines for [environment].
fn advice(said: &str) -> Vec<String> {
    let hint = said.split_once("hint: ").unwrap_or_else(|| panic!("{said}")).1;
    let quoted = hint.split('`').skip(1).step_by(2);
    let keys =
        quoted.filter(|text| text.starts_with("exclude = ") || text.starts_with("prefer = "));
    keys.map(str::to_owned).collect()
}

/// Each way that is advised is gone, and ends with a lock.
#[test]
fn what_is_advised_locks() {
    let third = opencv("opencv-contrib-python", b"with more");
    let [needs, one, other] = two_opencvs();
    for (wheels, ways) in
        [(vec![needs.clone(), one.clone(), other.clone()], 4), (vec![needs, one, other, third], 2)]
    {
        let refused = World::new(&wheels);
        let (code, said) = refused.sconce(&["lock"]);
        assert_eq!(code, 4, "{said}");
        let advised = advice(&said);
        assert_eq!(advised.len(), ways, "{said}");
        for keys in advised {
            let world = World::new(&wheels);
            world.asks(&keys);
            let lock = world.locks();
            let names: Vec<&str> = lock.wheels.iter().map(|wheel| wheel.name.as_str()).collect();
            let named: Vec<&str> = keys.split('"').skip(1).step_by(2).collect();
            assert!(!named.is_empty(), "{keys}");
            match keys.starts_with("exclude") {
                true => {
                    assert_eq!(names.len(), wheels.len() - named.len(), "{keys}: {names:?}");
                    assert!(named.iter().all(|name| !names.contains(name)), "{keys}: {names:?}");
                    assert_eq!(lock.facts.prefer, [""; 0]);
                }
                false => {
                    assert_eq!(names.len(), wheels.len(), "{keys}: {names:?}");
                    assert_eq!(lock.facts.prefer, named);
                }
            }
        }
    }
}
