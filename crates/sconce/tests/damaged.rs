//! Stores in which something is damaged, or lies in the place of something else: what is said, what goes on, and that the hints help.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use world::World;

mod world;

/// What may be found in the place of a file, and the shell that makes it.
const KINDS: [(&str, &str); 8] = [
    ("text", "echo garbage >"),
    ("empty", ": >"),
    ("cut off", "printf '{\"manifest\":\"sha' >"),
    ("newer", "echo '{\"version\": 9}' >"),
    ("a folder", "mkdir -p"),
    ("a full folder", "f() { mkdir -p \"$1/in\"; touch \"$1/in/file\"; }; f"),
    ("a pipe", "mkfifo"),
    ("a link", "ln -s /etc/passwd"),
];

fn shell(text: &str) {
    assert!(Command::new("sh").args(["-c", text]).status().unwrap().success(), "{text}");
}

fn put(make: &str, path: &Path) {
    shell(&format!("rm -rf '{0}'; {make} '{0}'", path.display()));
}

/// Two images, `one` and `two`, and the record of the first.
fn two_images() -> (World, PathBuf) {
    let world = World::new();
    for (name, config) in [("one", r#"{"Env": ["A=1"]}"#), ("two", r#"{"Env": ["A=2"]}"#)] {
        world.image(config);
        let (code, _, err) = world.says(&["copy", "oci:image", &format!("store:{name}")]);
        assert_eq!(code, 0, "{err}");
    }
    let digest = fs::read_to_string(world.path("store/refs/one")).unwrap();
    let hex = digest.trim().strip_prefix("sha256:").unwrap().to_owned();
    let record = world.path("store/images").join(format!("{hex}.json"));
    assert!(record.exists());
    (world, record)
}

const RUN: [&str; 4] = ["run", "-q", "--gpus", "none"];

fn run(image: &str) -> Vec<&str> {
    RUN.into_iter().chain([image, "sh", "-c", "echo $A"]).collect()
}

#[test]
fn a_damaged_record_is_read_from_the_manifest() {
    let (world, record) = two_images();
    // The last leaves nothing.
    for (kind, make) in KINDS.into_iter().chain([("gone", ": #")]) {
        for words in [&run("two")[..], &["images"], &["prune", "--dry-run"], &run("one")] {
            put(make, &record);
            let (code, out, err) = world.says(words);
            assert_eq!(code, 0, "{kind}: {words:?}: {out}{err}");
            match words {
                ["images"] => assert!(out.contains("one") && out.contains("two"), "{kind}: {out}"),
                ["run", ..] => assert!(["1\n", "2\n"].contains(&&*out), "{kind}: {out}"),
                _ => {}
            }
            let is_said = err.contains(&format!("{} is damaged: ", record.display()))
                && err.contains("is read from the image's manifest");
            assert!(is_said || words[..] == run("two") || words.contains(&"-q"), "{kind}: {err}");
        }
        // It was made anew.
        let (code, _, err) = world.says(&["images"]);
        assert!(code == 0 && !err.contains("damaged"), "{kind}: {err}");
    }
}

/// Of what has a name, as long as its manifest is there.
#[test]
fn records_that_have_gone_are_made_anew() {
    let (world, record) = two_images();
    for words in [&["prune"][..], &["images"], &run("one"), &["inspect", "one"]] {
        fs::remove_dir_all(world.path("store/images")).unwrap();
        let (code, out, err) = world.says(words);
        assert_eq!(code, 0, "{words:?}: {out}{err}");
        assert!(words.contains(&"-q") || err.contains("it is gone"), "{words:?}: {err}");
        for (name, wanted) in [("one", "1\n"), ("two", "2\n")] {
            let (code, out, err) = world.says(&run(name));
            assert_eq!((code, out.as_str()), (0, wanted), "{words:?}: {err}");
        }
        let (code, _, err) = world.says(&["images"]);
        assert!(code == 0 && err.is_empty(), "{words:?}: {err}");
    }
    // Without a manifest, the name is left.
    let hex = record.file_stem().unwrap().to_str().unwrap().to_owned();
    fs::remove_file(&record).unwrap();
    fs::remove_file(world.path("store/blobs/sha256").join(&hex[..2]).join(&hex)).unwrap();
    let name = world.path("store/refs/one");
    let (code, out, err) = world.says(&["images"]);
    assert!(code == 0 && out.contains("two") && !out.contains("one"), "{out}{err}");
    let said =
        format!("{} means the image {}, of which nothing is left", name.display(), &hex[..12]);
    assert!(err.contains(&said), "{err}");
    let (code, out, err) = world.says(&["prune"]);
    assert!(code == 0 && name.exists(), "{out}{err}");
    let (code, out, err) = world.says(&["rmi", "one"]);
    assert!(code == 0 && !name.exists(), "{out}{err}");
    let (code, _, err) = world.says(&["images"]);
    assert!(code == 0 && err.is_empty(), "{err}");
}

#[test]
fn an_image_of_which_nothing_can_be_read_stops_no_other() {
    for (kind, make) in KINDS {
        let (world, record) = two_images();
        let hex = record.file_stem().unwrap().to_str().unwrap().to_owned();
        let manifest = world.path("store/blobs/sha256").join(&hex[..2]).join(&hex);
        fs::remove_file(&manifest).unwrap();
        put(make, &record);
        let said = format!("{} is damaged: ", record.display());
        let (code, out, err) = world.says(&["images"]);
        assert!(code == 0 && out.contains("two") && !out.contains("one"), "{kind}: {out}{err}");
        assert!(err.contains(&said) && err.matches("damaged").count() == 1, "{kind}: {err}");
        assert_eq!(world.says(&run("two")), (0, "2\n".to_owned(), String::new()), "{kind}");
        let (code, _, err) = world.says(&run("one"));
        assert!(code == 125 && err.contains(&said), "{kind}: {code} {err}");
        let (code, _, err) = world.says(&["prune"]);
        assert!(code == 0 && err.contains(&said), "{kind}: {code} {err}");
        assert_eq!(world.says(&run("two")).0, 0, "{kind}");
        let (code, _, err) = world.says(&["rmi", "two"]);
        assert_eq!(code, 0, "{kind}: {err}");
        // As the hint has it, and by its name.
        let (_, _, err) = world.says(&run("one"));
        let hint = err.split('`').find(|part| part.starts_with("sconce rmi ")).unwrap();
        let words: Vec<&str> = match kind {
            "text" => vec!["rmi", "one"],
            _ => hint.split(' ').skip(1).collect(),
        };
        let (code, out, err) = world.says(&words);
        assert!(code == 0 && out.contains("one\n") && out.contains(&hex), "{kind}: {out}{err}");
        assert!(err.contains(&said) && err.contains("it is removed"), "{kind}: {err}");
        assert!(record.symlink_metadata().is_err(), "{kind}");
        assert_eq!(world.says(&["images"]).0, 0, "{kind}");
    }
}

/// What a container needs whose image can't be read is not known: a prune leaves all of it.
#[test]
fn a_container_whose_image_can_not_be_read_keeps_its_files() {
    let (world, record) = two_images();
    let hex = record.file_stem().unwrap().to_str().unwrap().to_owned();
    let script = "sleep 1000";
    let words = ["run", "-q", "-d", "--name", "c", "--gpus", "none", "one", "sh", "-c", script];
    assert_eq!(world.says(&words).0, 0);
    assert_eq!(world.says(&["rmi", "two"]).0, 0);
    // In place: the container holds this file.
    fs::write(&record, "garbage").unwrap();
    fs::remove_file(world.path("store/blobs/sha256").join(&hex[..2]).join(&hex)).unwrap();
    for words in [&["prune"][..], &["prune", "--all"]] {
        let (code, _, err) = world.says(words);
        assert!(code == 0 && err.contains("is in use, and what it needs"), "{words:?}: {err}");
        let (code, out, err) = world.says(&["exec", "c", "ls", "/etc"]);
        assert!(code == 0 && out.contains("passwd"), "{words:?}: {out}{err}");
    }
    let (code, _, err) = world.says(&["rmi", "one"]);
    assert!(code == 0 && err.contains("in use"), "{err}");
    assert_eq!(world.says(&["rm", "-f", "c"]).0, 0);
    let (code, out, err) = world.says(&["prune"]);
    assert!(code == 0 && out.contains(&hex) && record.symlink_metadata().is_err(), "{out}{err}");
}

/// A lock on a record goes with it. What the container is made of stays, whoever took the record away, and whatever is removed then.
#[test]
fn a_container_whose_record_was_taken_away_keeps_its_files() {
    let again = ("written anew", "f() { cp \"$1.kept\" \"$1\"; rm \"$1.kept\"; }; f");
    for (kind, make) in KINDS.into_iter().chain([("gone", ": #"), again]) {
        let (world, record) = two_images();
        let script = "sleep 1000";
        let words = ["run", "-q", "-d", "--name", "c", "--gpus", "none", "one", "sh", "-c", script];
        assert_eq!(world.says(&words).0, 0);
        let kept = format!("{}.kept", record.display());
        for words in [&["prune"][..], &["rmi", "one"], &["prune", "--all"], &["rmi", "two"]] {
            if record.is_file() {
                fs::copy(&record, &kept).unwrap();
            }
            put(make, &record);
            drop(fs::remove_file(&kept));
            let (_, out, err) = world.says(words);
            let (code, listed, why) = world.says(&["exec", "c", "ls", "/etc"]);
            let there = code == 0 && listed.contains("passwd");
            assert!(there, "{kind}: {words:?}: {out}{err}{listed}{why}");
        }
        assert_eq!(world.says(&["rm", "-f", "c"]).0, 0);
        drop(fs::remove_dir_all(&record));
        drop(fs::remove_file(&record));
        let (code, out, err) = world.says(&["prune", "--all"]);
        assert_eq!(code, 0, "{kind}: {out}{err}");
        let trees = fs::read_dir(world.path("store/trees")).unwrap().count();
        assert_eq!(trees, 0, "{kind}: {out}{err}");
    }
}

/// As in a store for a group, where another member made it: it can't be moved, and full not removed either.
#[test]
fn a_folder_of_somebody_else_in_a_records_place_stops_nobody() {
    for (kind, make) in
        [("empty", "mkdir"), ("full", "f() { mkdir \"$1\"; touch \"$1/file\"; }; f")]
    {
        let world = World::of_nobody();
        world.image(r#"{"Env": ["A=1"]}"#);
        let copy = ["copy", "oci:image", "store:one"];
        assert_eq!(world.says(&copy).0, 0);
        let digest = fs::read_to_string(world.path("store/refs/one")).unwrap();
        let hex = digest.trim().strip_prefix("sha256:").unwrap();
        let record = world.path("store/images").join(format!("{hex}.json"));
        for words in [&run("one")[..], &["images"], &copy, &["prune"], &run("one"), &["rmi", "one"]]
        {
            put(make, &record);
            let (code, out, err) = world.says(words);
            assert_eq!(code, 0, "{kind}: {words:?}: {out}{err}");
        }
        // Without a name the image goes, whatever lies there.
        let (code, out, err) = world.says(&["prune", "--all"]);
        assert_eq!(code, 0, "{kind}: {out}{err}");
        let trees = fs::read_dir(world.path("store/trees")).unwrap().count();
        assert_eq!(trees, 0, "{kind}: {out}{err}");
    }
}

/// What can be made anew is; what can't is named, with what helps.
#[test]
fn whatever_lies_in_the_place_of_a_file_is_named_or_made_anew() {
    let (world, _) = two_images();
    assert_eq!(world.says(&run("one")).0, 0);
    let first = |folder: &str| {
        let path = world.path("store").join(folder);
        fs::read_dir(path).unwrap().next().unwrap().unwrap().path()
    };
    let store = world.path("store");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let boot = store.join("unsynced").join(boot.trim());
    let places = [
        first("layers"),
        store.join("layers/x"),
        store.join("virtual/ab"),
        store.join("memo/x"),
        store.join("locks/gc"),
        store.join("unsynced/x"),
        store.join("unsynced/other/image-x"),
        boot,
        store.join("images/x"),
        store.join("version"),
        store.join("virtual"),
        store.join("memo"),
        store.join("unsynced"),
        store.join("locks"),
    ];
    for place in &places {
        for (kind, make) in KINDS {
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            let had_trees = fs::read_dir(store.join("trees")).unwrap().count();
            put(make, place);
            for words in [&["images"][..], &run("one"), &["prune"]] {
                let (code, out, err) = world.says(words);
                if code == 0 {
                    continue;
                }
                let said = format!("{} is damaged: ", place.display());
                assert!(err.contains(&said), "{kind}: {words:?}: {out}{err}");
                let hint = err.split('`').find(|part| part.starts_with("rm -rf "));
                shell(hint.unwrap_or_else(|| panic!("{kind}: {err}")));
                let (code, out, err) = world.says(words);
                assert_eq!(code, 0, "{kind}: {place:?} {words:?}: {out}{err}");
            }
            assert_eq!(fs::read_dir(store.join("trees")).unwrap().count(), had_trees, "{kind}");
        }
    }
}

/// The lock that a tag has in the store: its file is named, and what helps.
#[test]
fn a_damaged_lock_of_a_tag_is_named() {
    let (world, _) = two_images();
    let tag = "torch:2.15.0";
    let path = world
        .path("store/memo")
        .join(format!("tag-lock-{}", sconce_blob::Digest::of(tag.as_bytes()).hex()));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    for damage in ["version = 1\n[facts\n", "garbage"] {
        fs::write(&path, damage).unwrap();
        for words in [&["run", "--gpus", "none", "--frozen", tag][..], &["build", "--frozen", tag]]
        {
            let (code, _, err) = world.says(words);
            assert_eq!(code, if words[0] == "run" { 125 } else { 3 }, "{err}");
            let says = format!("{}, the lock of {tag}, can't be used: ", path.display());
            assert!(err.contains(&says), "{err}");
            assert!(err.contains(&format!("hint: `rm {}` removes it", path.display())), "{err}");
        }
    }
    // The hint holds.
    fs::remove_file(&path).unwrap();
    let (code, _, err) = world.says(&["build", "--frozen", tag]);
    assert!(code == 1 && !err.contains("can't be used"), "{code} {err}");
}
