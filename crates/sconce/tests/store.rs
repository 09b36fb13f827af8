//! `sconce images`, `rmi` and `prune`, started as a user starts them.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use sconce_blob::Digest;
use sconce_store::Store;
use world::World;

mod world;

/// `sconce` with a store of its own, no store of the machine, and these arguments.
fn sconce(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sconce"));
    command.env("SCONCE_HOME", home).env("SCONCE_STORES", "").args(args);
    command
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// What it prints on standard output and standard error; it must end with `code`.
fn run(mut command: Command, code: i32) -> (String, String) {
    let output = command.output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(code), "out: {out}\nerr: {err}");
    (out, err)
}

/// An image without layers.
fn put_image(store: &Store, names: &[&str], seed: u64) -> Digest {
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Labels": {"seed": seed.to_string(), "dev.sconce.torch": "2.15.0"}},
        "rootfs": {"type": "layers", "diff_ids": []},
    })
    .to_string();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                   "digest": Digest::of(config.as_bytes()).to_string(), "size": config.len()},
        "layers": [],
    })
    .to_string();
    store.put_image(names, manifest.as_bytes(), config.as_bytes()).unwrap()
}

#[test]
fn images_have_a_total_and_hide_those_without_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let store = Store::open(&home).unwrap();
    put_image(&store, &["a:1", "b:1"], 1);
    let unnamed = put_image(&store, &[], 2);
    drop(store);
    let (out, err) = run(sconce(&home, &["images"]), 0);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("NAME") && lines[0].ends_with("USED"), "{out}");
    assert!(lines[1].starts_with("a:1, b:1") && lines[1].ends_with("just now"), "{out}");
    assert!(lines[2].starts_with("1 image, ") && lines.len() == 3, "{out}");
    assert_eq!(err, "1 more have no name: `sconce images --all` lists them\n");
    let (out, err) = run(sconce(&home, &["images", "--all"]), 0);
    assert!(out.contains(&unnamed.short()) && out.contains("\n2 images, "), "{out}");
    assert_eq!(err, "");
    let named = Store::open(&home).unwrap().names().unwrap().into_values().next().unwrap();
    let (out, _) = run(sconce(&home, &["images", "-q"]), 0);
    assert_eq!(out, format!("{}\n", named.short()));
    let (out, _) = run(sconce(&home, &["images", "-q", "--all"]), 0);
    assert!(out.lines().count() == 2 && out.contains(&unnamed.short()), "{out}");
    let (out, _) = run(sconce(&home, &["images", "--json"]), 0);
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 2);
    for key in ["names", "digest", "size", "created", "last_used", "labels"] {
        assert!(rows[0].get(key).is_some(), "{key}");
    }
    assert_eq!(rows[0]["store"], home.to_str().unwrap());
    assert_eq!(rows[0]["read_only"], false);
}

#[test]
fn a_store_below_is_shown_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let (home, below) = (folder.path().join("home"), folder.path().join("below"));
    put_image(&Store::open(&below).unwrap(), &["below:1"], 1);
    put_image(&Store::open(&home).unwrap(), &["own:1"], 2);
    let over = |args: &[&str]| {
        let mut command = sconce(&home, args);
        command.env("SCONCE_STORES", format!("{}:/no/such/store", below.display()));
        command
    };
    let (out, err) = run(over(&["images"]), 0);
    let row = |name: &str| out.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(row("below:1").ends_with(below.to_str().unwrap()), "{out}");
    assert!(row("own:1").ends_with(home.to_str().unwrap()), "{out}");
    assert!(err.contains("note: skipping the store /no/such/store: "), "{err}");
    let (_, err) = run(over(&["rmi", "below:1"]), 7);
    assert!(err.contains("read-only here"), "{err}");
    run(over(&["prune", "--all"]), 0);
    let (out, _) = run(over(&["images"]), 0);
    assert!(out.contains("below:1") && !out.contains("own:1"), "{out}");
}

#[test]
fn names_and_images_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let store = Store::open(&home).unwrap();
    let image = put_image(&store, &["a:1", "b:1"], 1);
    let other = put_image(&store, &["c:1"], 2);
    drop(store);
    let (out, _) = run(sconce(&home, &["rmi", "a:1"]), 0);
    assert_eq!(out, "a:1\n");
    // All that can be removed is, and what can't be is said.
    let (out, err) = run(sconce(&home, &["rmi", "none:1", &image.short(), "c:1"]), 1);
    assert!(out.contains(&format!("b:1\n{image}\n")) && out.contains(&format!("c:1\n{other}\n")));
    assert!(err.contains("no image `none:1`") && err.contains("freed"), "{err}");
    let (_, err) = run(sconce(&home, &["images"]), 0);
    assert!(err.contains("no images yet"), "{err}");
    let (_, err) = run(sconce(&home, &["rmi"]), 2);
    assert!(err.contains("NAME|DIGEST"), "{err}");
}

#[test]
fn prune_by_age_and_size_and_beside_a_container() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let store = Store::open(&home).unwrap();
    let image = put_image(&store, &["a:1"], 1);
    let lease = store.lease(image).unwrap();
    drop(store);
    for old in ["0", "0h", "0d"] {
        let (out, err) = run(sconce(&home, &["prune", "--unused-for", old]), 0);
        assert!(out.is_empty() && err.contains("note: the image a:1 is in use and stays"), "{err}");
    }
    drop(lease);
    let (out, _) = run(sconce(&home, &["prune", "--unused-for", "12h"]), 0);
    assert_eq!(out, "");
    let (out, _) = run(sconce(&home, &["prune", "--keep-size", "50g"]), 0);
    assert_eq!(out, "");
    let (out, err) = run(sconce(&home, &["prune", "--keep-size", "1k", "--dry-run"]), 0);
    assert!(out == "a:1\n" && err.starts_with("would free"), "{out}{err}");
    let (out, _) = run(sconce(&home, &["prune", "--keep-size", "1k", "--json"]), 0);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["images"][0], &report["in_use"]), (&"a:1".into(), &serde_json::json!([])));
    for (option, value) in [("--unused-for", "soon"), ("--keep-size", "much")] {
        run(sconce(&home, &["prune", option, value]), 2);
    }
}

#[test]
fn an_exposed_store_is_refused_with_what_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("a home");
    run(sconce(&home, &["images"]), 0);
    fs::set_permissions(&home, Permissions::from_mode(0o777)).unwrap();
    let (_, err) = run(sconce(&home, &["images"]), 7);
    assert!(err.contains("others can write to the store"), "{err}");
    let hint = err.split('`').nth(1).unwrap();
    assert!(Command::new("sh").args(["-c", hint]).status().unwrap().success(), "{hint}");
    run(sconce(&home, &["images"]), 0);
}

/// What is printed moves an image into a store that others may read.
#[test]
fn a_private_store_is_not_opened_by_chmod() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("a home");
    let store = Store::open(&home).unwrap();
    put_image(&store, &["a:1"], 1);
    put_image(&store, &["b:1"], 2);
    drop(store);
    let opened = Command::new("chmod").args(["-R", "2755"]).arg(&home).status();
    assert!(opened.unwrap().success());
    let (_, err) = run(sconce(&home, &["images"]), 7);
    assert!(err.contains("was made with mode 0700 and has 2755 now: "), "{err}");
    let hint = err.split("hint: ").nth(1).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_sconce")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let commands: Vec<&str> = hint.split('`').skip(1).step_by(2).collect();
    assert_eq!(commands.len(), 5, "{hint}");
    // Each image on its own.
    let moves =
        |name: &'static str| commands[2..].iter().map(move |word| word.replace("NAME", name));
    let once = commands[..2].iter().map(|word| (*word).to_owned());
    for command in once.chain(moves("a:1")).chain(moves("b:1")) {
        let mut shell = Command::new("sh");
        shell.args(["-ec", &command]).current_dir(folder.path()).env("PATH", &path);
        let output = shell.env("SCONCE_STORES", "").output().unwrap();
        assert!(output.status.success(), "{command}: {}", texts(&output).1);
    }
    let shared = folder.path().join("a home-shared");
    let (out, _) = run(sconce(&shared, &["images"]), 0);
    assert!(out.contains("a:1") && out.contains("b:1"), "{out}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&shared), mode(&shared.join("trees"))), (0o2755, 0o2755));
    assert!(run(sconce(&home, &["images"]), 0).0.contains("a:1"));
}

/// Any member of a group's store can put things there, and what helps is printed.
#[test]
fn what_a_member_put_in_the_place_of_a_folder_is_named() {
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin"]}"#);
    let root = world.path("store");
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, Permissions::from_mode(0o2770)).unwrap();
    let start = ["run", "-q", "--gpus", "none", "oci:image", "echo", "ran"];
    let good = (0, "ran\n".to_owned(), String::new());
    assert_eq!(world.says(&start), good);
    let tree = fs::read_dir(root.join("trees")).unwrap().next().unwrap().unwrap().path();
    let own = root.join("containers/0");
    let cases = [
        (&tree, "is not the tree of a layer: "),
        (&own, "must be a folder of mode 0700 that you own"),
    ];
    for (path, why) in cases {
        for make in ["touch", "mkfifo", "ln -s /tmp", "ln -s /nonexistent"] {
            let moved = root.join("leftovers").join("aside");
            fs::rename(path, &moved).unwrap();
            let put = format!("{make} {0} && chown -h 65001 {0}", path.display());
            assert!(Command::new("sh").args(["-c", &put]).status().unwrap().success());
            let (code, _, err) = world.says(&start);
            assert!(code == 125 && err.contains(why), "{put}: {code} {err}");
            let hint = err.split('`').rfind(|part| part.starts_with("rm ")).unwrap_or(&err);
            assert!(Command::new("sh").args(["-c", hint]).status().unwrap().success(), "{err}");
            assert!(path.symlink_metadata().is_err(), "{err}");
            assert_eq!(world.says(&start), good, "{put}");
            fs::remove_dir_all(&moved).unwrap();
        }
    }
}

/// Any member of a group's store can hold its locks: who waits for one is told of it.
#[test]
fn a_lock_that_another_process_holds_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let store = Store::open(&home).unwrap();
    put_image(&store, &["a:1"], 1);
    drop(store);
    let lock = home.join("locks/gc");
    let mut holder = Command::new("flock");
    // It becomes the command: a child would go on holding the lock.
    let mut holder = holder.args(["-x", "-F"]).arg(&lock).args(["sleep", "1000"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let run = ["run", "-q", "--gpus", "none", "a:1", "true"];
    let begun = Instant::now();
    let mut waits = sconce(&home, &run).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(waits.stderr.take().unwrap()).read_line(&mut said).unwrap();
    let waited = begun.elapsed();
    let interrupted = Command::new("kill").args(["-INT", &waits.id().to_string()]).status();
    let ended = waits.wait().unwrap();
    let freed = Command::new("kill").arg(holder.id().to_string()).status();
    holder.wait().unwrap();
    assert!(interrupted.unwrap().success() && freed.unwrap().success());
    let who = format!("process {} (", holder.id());
    for part in [lock.to_str().unwrap(), &who, " of uid 0", "Ctrl-C"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.starts_with("note: waiting for "), "{said}");
    assert!(waited < Duration::from_secs(8) && !ended.success(), "{waited:?} {ended}");
}

/// A holder that is stopped, or slow, stops nobody for ever.
#[test]
fn a_lock_is_waited_for_as_long_as_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let store = Store::open(&home).unwrap();
    put_image(&store, &["a:1"], 1);
    drop(store);
    let lock = home.join("locks/gc");
    let mut holder = Command::new("flock");
    let mut holder = holder.args(["-x", "-F"]).arg(&lock).args(["sleep", "1000"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let pid = holder.id().to_string();
    let signal =
        |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    let waits = |seconds: &str, words: &[&str]| {
        let begun = Instant::now();
        let output = sconce(&home, words).env("SCONCE_LOCK_TIMEOUT", seconds).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), err, begun.elapsed())
    };
    let start = ["run", "-q", "--gpus", "none", "a:1", "true"];
    let busy = waits("2", &start);
    let word = waits("soon", &["images"]);
    signal("-STOP");
    let stopped_start = waits("1", &start);
    signal("-CONT");
    signal("-TERM");
    holder.wait().unwrap();
    let who = format!("process {pid} (sleep) of uid 0");
    let (code, err, waited) = busy;
    assert!(code == Some(125) && waited >= Duration::from_secs(2), "{code:?} {waited:?} {err}");
    assert!(waited < Duration::from_secs(20), "{waited:?}");
    for part in
        [&format!("error: {who} has locked "), "locks/gc", "export SCONCE_LOCK_TIMEOUT=3600"]
    {
        assert!(err.contains(part), "{part}: {err}");
    }
    assert!(word.0 == Some(2) && word.1.contains("no number of seconds"), "{word:?}");
    let (code, err, _) = stopped_start;
    assert_eq!(code, Some(125), "{err}");
    for part in [&format!("{who}, which is stopped, has locked "), &format!("`kill -CONT {pid}`")] {
        assert!(err.contains(part), "{part}: {err}");
    }
}

/// What is said of a name, and what makes it so.
type Case<'a> = (&'a str, &'a dyn Fn(&Path));

#[test]
fn what_lies_among_the_names_and_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let store = Store::open(&home).unwrap();
    put_image(&store, &["good"], 1);
    drop(store);
    let bad = home.join("refs/bad");
    let mkfifo =
        |path: &Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    let cases: [Case<'_>; 6] = [
        ("it holds no SHA-256 digest", &|path| fs::write(path, "sha256:12").unwrap()),
        ("it is empty", &|path| fs::write(path, "").unwrap()),
        ("it holds no SHA-256 digest", &|path| fs::write(path, vec![0xff; 1 << 20]).unwrap()),
        ("it is a link", &|path| std::os::unix::fs::symlink("good", path).unwrap()),
        ("it is not a regular file", &|path| fs::create_dir(path).unwrap()),
        ("it is not a regular file", &mkfifo),
    ];
    for (why, make) in cases {
        make(&bad);
        for words in [&["images"][..], &["inspect", "bad"], &["prune", "--all"]] {
            let (_, err) = run(sconce(&home, words), 6);
            let what = format!("error: {} is not the name of an image: {why}\n", bad.display());
            let hint = format!("hint: `rm -r {}` takes the name away", bad.display());
            assert!(err.contains(&what) && err.contains(&hint), "{words:?}: {err}");
        }
        // As the hint says.
        assert!(Command::new("rm").arg("-r").arg(&bad).status().unwrap().success());
        assert!(run(sconce(&home, &["images"]), 0).0.contains("good"));
    }
    // What no sconce has written there is said and stops nobody.
    fs::write(home.join("refs/.DS_Store"), "x").unwrap();
    fs::rename(home.join("refs/good"), home.join("refs/%67ood")).unwrap();
    let (out, err) = run(sconce(&home, &["images", "--all"]), 0);
    assert!(!out.contains("good"), "{out}");
    for name in [".DS_Store", "%67ood"] {
        let said = format!("refs/{name}\" is not the name of an image, and is left out");
        assert_eq!(err.matches(&said).count(), 1, "{err}");
    }
}

/// In a store that a group writes to, a member may leave a program where uv is looked for.
#[test]
fn no_program_is_run_from_a_groups_store() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    fs::create_dir(at("store")).unwrap();
    mode(&at("store"), 0o2770);
    run(sconce(&at("store"), &["images"]), 0);
    let bin = at("store").join("tools/uv").join(&sconce_lock::resolver().pinned).join("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("uv"), format!("#!/bin/sh\ntouch {}\n", at("ran").display())).unwrap();
    mode(&bin.join("uv"), 0o755);
    fs::create_dir(at("project")).unwrap();
    let spec = "[environment]\ntorch = false\nrequirements = [\"packaging\"]\n";
    fs::write(at("project/sconce.toml"), spec).unwrap();
    let mut lock = sconce(&at("store"), &["--offline", "lock"]);
    // No uv of this machine's is found.
    lock.arg(at("project")).env("PATH", "/nonexistent").env("HOME", at("home"));
    lock.env_remove("SCONCE_UV").env_remove("XDG_CACHE_HOME");
    let (out, err) = texts(&lock.output().unwrap());
    assert!(err.contains("it is not on this machine, and --offline forbids"), "{out}{err}");
    assert!(!at("ran").exists());
    // One's own would be here.
    assert!(at("home/.cache/sconce/tools").is_dir());
}
