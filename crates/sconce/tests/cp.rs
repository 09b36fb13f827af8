//! `sconce cp` into and out of a container: interrupted, without room, too deep, of the kernel's.

mod world;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use world::World;
use world::detached::{eventually, ok, start, worlds};

const CONFIG: &str = r#"{"Env": ["PATH=/usr/bin"]}"#;

/// What its container runs.
const SCRIPT: &str = "echo $$; sleep 1000";

/// A folder that everybody may write to.
fn folder(world: &World, name: &str) {
    fs::create_dir_all(world.path(name)).unwrap();
    fs::set_permissions(world.path(name), fs::Permissions::from_mode(0o777)).unwrap();
}

#[test]
fn a_copy_into_a_container_that_is_interrupted_leaves_nothing() {
    for world in worlds() {
        world.image(CONFIG);
        folder(&world, "place");
        folder(&world, "tree");
        fs::write(world.path("tree/first"), "first").unwrap();
        // Its holes are too small to stay any: 4 GiB are written.
        let large = fs::File::create(world.path("tree/large")).unwrap();
        for part in 0..1_u64 << 16 {
            large.write_all_at(b"x", part << 16).unwrap();
        }
        start(&world, "full", &["-v", "./place:/place"], SCRIPT);
        let there = || fs::read_dir(world.path("place")).unwrap().count();
        for (source, signal, code) in [
            ("tree/large", Signal::INT, Some(130)),
            ("tree", Signal::TERM, Some(143)),
            ("tree/large", Signal::HUP, Some(129)),
            ("tree", Signal::KILL, None),
        ] {
            let mut copy = world.sconce(&["cp", source, "full:/place/here"]).spawn().unwrap();
            eventually("it began", || there() > 0);
            kill_process(Pid::from_child(&copy), signal).unwrap();
            assert_eq!(copy.wait().unwrap().code(), code);
            match code {
                Some(_) => assert_eq!(there(), 0, "{signal:?}"),
                None => eventually("the container removes it", || there() == 0),
            }
        }
        ok(&world, &["rm", "-f", "full"]);
    }
}

/// What can't be read or has no room is named, and what was there stays as it was.
#[test]
fn a_copy_into_a_container_that_fails_leaves_nothing() {
    for world in worlds() {
        world.image(CONFIG);
        folder(&world, "tree");
        fs::write(world.path("tree/a"), "new").unwrap();
        fs::write(world.path("tree/z"), vec![1; 32 << 20]).unwrap();
        start(&world, "small", &["--tmpfs", "/small:size=16m"], SCRIPT);
        let inside = |script: &str| ok(&world, &["exec", "small", "sh", "-c", script]);
        inside("mkdir /small/tree; echo old >/small/tree/a");
        for place in ["/small", "/small/other"] {
            let (code, _, err) = world.says(&["cp", "tree", &format!("small:{place}")]);
            assert!(code != 0 && err.contains("No space left on device"), "{code} {err}");
            assert_eq!(inside("ls -A /small; cat /small/tree/a"), "tree\nold\n");
        }
        fs::remove_file(world.path("tree/z")).unwrap();
        // A relative path counts from `/`.
        ok(&world, &["cp", "tree/a", "small:relative"]);
        assert_eq!(inside("cat /relative"), "new");
        ok(&world, &["cp", "tree", "small:/small"]);
        assert_eq!(inside("ls -A /small; cat /small/tree/a"), "tree\nnew");
        ok(&world, &["rm", "-f", "small"]);
    }
}

/// A folder on the way is a volume: a file system of its own, which nothing is moved into.
#[test]
fn a_copy_reaches_into_volumes() {
    for world in worlds() {
        world.image(CONFIG);
        for name in ["vol", "tree", "tree/data", "tree/data/deep", "tree/new"] {
            folder(&world, name);
        }
        fs::write(world.path("tree/data/deep/f"), "x").unwrap();
        fs::write(world.path("tree/new/g"), "y").unwrap();
        start(&world, "one", &["-v", "./vol:/top/tree/data"], SCRIPT);
        ok(&world, &["cp", "tree", "one:/top"]);
        assert_eq!(fs::read_to_string(world.path("vol/deep/f")).unwrap(), "x");
        assert_eq!(fs::read_dir(world.path("vol")).unwrap().count(), 1);
        assert_eq!(ok(&world, &["exec", "one", "cat", "/top/tree/new/g"]), "y");
        assert_eq!(ok(&world, &["exec", "one", "ls", "-A", "/top"]), "tree\n");
        ok(&world, &["rm", "-f", "one"]);
    }
}

#[test]
fn a_path_that_is_too_long_is_refused_in_words() {
    use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
    let world = World::new();
    world.image(CONFIG);
    folder(&world, "vol");
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let mut at = openat(CWD, world.path("vol"), flags, Mode::empty()).unwrap();
    let name = "d".repeat(200);
    for _ in 0..30 {
        mkdirat(&at, &*name, Mode::RWXU).unwrap();
        at = openat(&at, &*name, flags, Mode::empty()).unwrap();
    }
    drop(at);
    start(&world, "deep", &["-v", "./vol:/vol"], SCRIPT);
    for words in [["deep:/vol", "out"], ["vol", "deep:/tmp/in"]] {
        let (code, _, err) = world.says(&["cp", words[0], words[1]]);
        assert!(code != 0 && err.contains("is longer than a path may be"), "{code} {err}");
        assert!(!err.contains("/proc/self/fd"), "what people have written: {err}");
    }
    assert!(!world.path("out").exists());
    assert_eq!(ok(&world, &["exec", "deep", "ls", "-A", "/tmp"]), "");
    ok(&world, &["rm", "-f", "deep"]);
}

/// As with Docker's: but for one that is written as a folder, and with `-L`.
#[test]
fn a_link_that_is_copied_in_stays_a_link() {
    use std::os::unix::fs::symlink;
    for world in worlds() {
        world.image(CONFIG);
        folder(&world, "s/sub");
        fs::write(world.path("s/a"), "1").unwrap();
        fs::write(world.path("s/sub/b"), "2").unwrap();
        for (to, name) in [("a", "l"), ("sub", "ls"), ("/nope", "dang")] {
            symlink(to, world.path("s").join(name)).unwrap();
        }
        start(&world, "c", &[], SCRIPT);
        for (words, there, is) in [
            (&["s/l", "c:/tmp/l"][..], "l", "a"),
            (&["s/ls", "c:/tmp"], "ls", "sub"),
            (&["s/dang", "c:/tmp/dang"], "dang", "/nope"),
            (&["s/ls/", "c:/tmp/d1"], "d1", "b"),
            (&["s/ls/.", "c:/tmp/d2"], "d2", "b"),
            (&["-L", "s/ls", "c:/tmp/d3"], "d3", "b"),
            (&["-L", "s/l", "c:/tmp/f"], "f", "/tmp/f"),
        ] {
            ok(&world, &[&["cp"], words].concat());
            let look = format!("readlink /tmp/{there} || ls /tmp/{there}");
            let seen = ok(&world, &["exec", "c", "sh", "-c", &look]);
            assert_eq!(seen.trim(), is, "{words:?}");
        }
        let (code, _, err) = world.says(&["cp", "-L", "s/dang", "c:/tmp/x"]);
        assert!(code == 1 && err.contains("s/dang"), "{code} {err}");
        ok(&world, &["cp", "c:/tmp/l", "back"]);
        assert_eq!(fs::read_link(world.path("back")).unwrap().to_str(), Some("a"));
        ok(&world, &["rm", "-f", "c"]);
    }
}

/// Files of the kernel have no length that can be relied on.
#[test]
fn a_file_of_the_kernels_that_is_cut_is_said() {
    let world = World::new();
    world.image(CONFIG);
    start(&world, "one", &[], SCRIPT);
    let mut pid = String::new();
    eventually("its number is known", || {
        pid = ok(&world, &["logs", "one"]);
        pid.ends_with('\n')
    });
    let file = format!("/proc/{}/pagemap", pid.trim());
    let (code, _, err) = world.says(&["cp", &format!("one:{file}"), "pagemap"]);
    let word =
        format!("{file} is the kernel's and longer than 16 MiB: only so much of it was copied");
    assert!(code == 0 && err.contains(&word), "{code} {err}");
    assert_eq!(fs::metadata(world.path("pagemap")).unwrap().len(), 16 << 20);
    ok(&world, &["rm", "-f", "one"]);
}

/// A file of a length that no test could copy, with something at its beginning, within it and at its end.
#[track_caller]
fn check_sparse(world: &World, name: &str, size: u64) {
    let file = fs::File::open(world.path(name)).unwrap();
    let about = file.metadata().unwrap();
    assert_eq!(about.len(), size, "{name}");
    assert!(about.blocks() * 512 < 8 << 20, "{name}: {} blocks", about.blocks());
    for at in [0, 1 << 30, size - (1 << 20)] {
        let mut read = vec![0; 1 << 20];
        file.read_exact_at(&mut read, at).unwrap();
        assert!(read.iter().all(|byte| *byte == b'x'), "{name} {at}");
        if at > 0 {
            file.read_exact_at(&mut read[..4096], at - 4096).unwrap();
            assert!(read[..4096].iter().all(|byte| *byte == 0), "{name} {at}");
        }
    }
}

#[test]
fn holes_stay_holes() {
    for world in worlds() {
        world.image(CONFIG);
        for name in ["vol", "tree", "deep"] {
            folder(&world, name);
        }
        let size = 10 << 30;
        let file = fs::File::create(world.path("tree/sparse")).unwrap();
        file.set_len(size).unwrap();
        for at in [0, 1 << 30, size - (1 << 20)] {
            file.write_all_at(&[b'x'; 1 << 20], at).unwrap();
        }
        fs::File::create(world.path("tree/nothing")).unwrap().set_len(size).unwrap();
        start(&world, "one", &["-v", "./vol:/vol", "-v", "./deep:/top/tree"], SCRIPT);
        let begun = Instant::now();
        // Into a folder, through another file system's, and back.
        ok(&world, &["cp", "tree", "one:/vol"]);
        ok(&world, &["cp", "tree", "one:/top"]);
        ok(&world, &["cp", "one:/vol/tree", "back"]);
        for name in ["vol/tree/sparse", "deep/sparse", "back/sparse"] {
            check_sparse(&world, name, size);
        }
        for name in ["vol/tree/nothing", "deep/nothing", "back/nothing"] {
            let about = fs::metadata(world.path(name)).unwrap();
            assert!(about.len() == size && about.blocks() < 16, "{name}: {about:?}");
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        ok(&world, &["rm", "-f", "one"]);
    }
}

/// As Docker's client: 125 for options that it does not know, 1 for all else that fails.
#[test]
fn exit_codes_are_those_of_docker() {
    let world = World::new();
    world.image(CONFIG);
    start(&world, "one", &[], SCRIPT);
    fs::write(world.path("file"), "x").unwrap();
    for (words, code) in [
        (&["--nosuch", "one:/a", "b"][..], 125),
        (&["one:/nosuch", "out"], 1),
        (&["nosuch:/a", "out"], 1),
        (&["file", "nosuch:/a"], 1),
        (&["nosuch", "one:/a"], 1),
        (&["file", "one:/nosuch/deep/x"], 1),
        (&["file", "one:/dev/null"], 1),
        (&["one:/proc", "out"], 1),
        (&["one:/etc", "file"], 1),
        (&["a", "b"], 1),
        (&["-", "one:/a"], 1),
        (&["file", "one:/tmp/file"], 0),
    ] {
        let (ended, out, err) = world.says(&[&["cp"], words].concat());
        assert_eq!(ended, code, "{words:?}: {out}{err}");
        assert_eq!(err.contains("error: "), code != 0, "{words:?}: {err}");
    }
    ok(&world, &["rm", "-f", "one"]);
}

/// The table of `docker cp`: what the slashes of both paths mean, and what is there already.
#[test]
fn paths_mean_what_they_mean_in_docker() {
    let world = World::new();
    world.image(CONFIG);
    start(&world, "c", &[], SCRIPT);
    let made = "mkdir -p s/dir/sub s/there && echo f >s/file && echo i >s/dir/in && echo i >s/dir/sub/deep";
    ok(&world, &["exec", "-w", "/", "c", "sh", "-c", made]);
    // Source, destination, what is there before, and what is there in the end; `None` where it is refused, in these words.
    type Row = (&'static str, &'static str, &'static str, Result<&'static str, &'static str>);
    let rows: [Row; 18] = [
        ("file", "new", "", Ok("new")),
        ("file", "new/", "", Err("is not a folder")),
        ("file", "new/.", "", Err("folder")),
        ("file", "old", "touch old", Ok("old")),
        ("file", "old/", "touch old", Err("folder")),
        ("file", "there", "mkdir there", Ok("there there/file")),
        ("file", "there/", "mkdir there", Ok("there there/file")),
        ("file/", "new", "", Err("Not a directory")),
        ("file/.", "new", "", Err("is not a folder")),
        ("dir", "new", "", Ok("new new/in new/sub new/sub/deep")),
        ("dir", "new/", "", Ok("new new/in new/sub new/sub/deep")),
        ("dir/.", "new", "", Ok("new new/in new/sub new/sub/deep")),
        ("dir/.", "new/", "", Ok("new new/in new/sub new/sub/deep")),
        ("dir", "old", "touch old", Err("folder")),
        ("dir/.", "old", "touch old", Err("folder")),
        (
            "dir",
            "there",
            "mkdir there",
            Ok("there there/dir there/dir/in there/dir/sub there/dir/sub/deep"),
        ),
        (
            "dir/",
            "there/",
            "mkdir there",
            Ok("there there/dir there/dir/in there/dir/sub there/dir/sub/deep"),
        ),
        (
            "dir/.",
            "there",
            "mkdir there; touch there/own",
            Ok("there there/in there/own there/sub there/sub/deep"),
        ),
    ];
    let list = "find . -mindepth 1 | sed 's/^..//' | LC_ALL=C sort";
    let host = |text: &str, folder: &str| {
        let sh = std::process::Command::new("sh")
            .args(["-c", text])
            .current_dir(world.path(folder))
            .output();
        String::from_utf8(sh.unwrap().stdout)
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    host(made, ".");
    for (number, (source, dest, before, after)) in rows.into_iter().enumerate() {
        let place = format!("out{number}");
        fs::create_dir(world.path(&place)).unwrap();
        host(before, &place);
        let (code, _, err) =
            world.says(&["cp", &format!("c:/s/{source}"), &format!("{place}/{dest}")]);
        let there = host(list, &place);
        match after {
            Ok(after) => {
                assert!(code == 0 && there == after, "out: {source} {dest}: {there} {err}")
            }
            Err(why) => {
                assert!(
                    code == 1 && err.contains(why),
                    "out: {source} {dest}: {code} {there} {err}"
                );
                assert!(["", "old"].contains(&&*there), "out: {source} {dest}: {there}");
            }
        }
        // The same the other way.
        ok(
            &world,
            &[
                "exec",
                "c",
                "sh",
                "-c",
                &format!(
                    "mkdir /{place} && cd /{place} && {}",
                    if before.is_empty() { "true" } else { before }
                ),
            ],
        );
        let (code, _, err) =
            world.says(&["cp", &format!("s/{source}"), &format!("c:/{place}/{dest}")]);
        ok(&world, &["cp", &format!("c:/{place}"), &format!("in{number}")]);
        let there = host(list, &format!("in{number}"));
        match after {
            Ok(after) => assert!(code == 0 && there == after, "in: {source} {dest}: {there} {err}"),
            Err(_) => {
                assert!(code == 1, "in: {source} {dest}: {code} {there} {err}");
                assert!(["", "old"].contains(&&*there), "in: {source} {dest}: {there}");
            }
        }
    }
    // All that a folder holds, into the root and out of a folder named from within.
    ok(&world, &["cp", "s/.", "c:/"]);
    assert_eq!(ok(&world, &["exec", "c", "cat", "/file"]), "f\n");
    fs::create_dir(world.path("within")).unwrap();
    let within =
        world.sconce(&["cp", "c:/s/dir/.", "."]).current_dir(world.path("within")).status();
    assert!(within.unwrap().success());
    assert_eq!(host(list, "within"), "in sub sub/deep");
    ok(&world, &["rm", "-f", "c"]);
}
