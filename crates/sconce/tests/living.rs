//! Containers that outlive the command that started them, as root and as an ordinary user.

#[allow(dead_code)]
#[path = "../../run/tests/terminal.rs"]
mod terminal;
mod world;

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use terminal::Terminal;
use world::World;
use world::detached::{eventually, ok, start, worlds};

const CONFIG: &str = r#"{"Env": ["PATH=/usr/bin", "COLOUR=red"]}"#;

/// Nothing is left of any container.
#[track_caller]
fn nothing_left(world: &World) {
    assert_eq!(ok(world, &["ps", "--all", "--ids"]), "");
    let left: Vec<_> = fs::read_dir(world.path("store/containers")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_interrupted_copy_leaves_nothing() {
    for world in worlds() {
        world.image(CONFIG);
        fs::create_dir(world.path("data")).unwrap();
        let large = fs::File::create(world.path("data/large")).unwrap();
        // Its holes are too small to stay any: 4 GiB are written.
        for part in 0..1_u64 << 16 {
            std::os::unix::fs::FileExt::write_all_at(&large, b"x", part << 16).unwrap();
        }
        let volume = format!("{}:/data:ro", world.path("data").display());
        start(&world, "full", &["-v", &volume], "sleep 1000");
        fs::create_dir(world.path("to")).unwrap();
        fs::set_permissions(world.path("to"), PermissionsExt::from_mode(0o777)).unwrap();
        let mut copy = world.sconce(&["cp", "full:/data/large", "to/large"]).spawn().unwrap();
        let written = || fs::read_dir(world.path("to")).unwrap().count();
        eventually("the copy began", || has_file(&world.path("store/tmp"), "large", 3));
        let pid = rustix::process::Pid::from_child(&copy);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert_eq!(copy.wait().unwrap().code(), Some(130));
        assert_eq!(written(), 0);
        assert!(!has_file(&world.path("store/tmp"), "large", 3));
        ok(&world, &["rm", "-f", "full"]);
    }
}

/// Whether a file of this name lies below a folder, so many levels deep.
fn has_file(folder: &std::path::Path, name: &str, levels: usize) -> bool {
    fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let here = entry.file_name() == name && entry.path().is_file();
        here || levels > 1 && has_file(&entry.path(), name, levels - 1)
    })
}

/// A container puts links into its volume: `cp` follows none of them, whatever path names it.
#[test]
fn a_copy_follows_no_link_of_a_volume() {
    let world = World::new();
    world.image(CONFIG);
    for folder in ["vol", "outside"] {
        fs::create_dir(world.path(folder)).unwrap();
    }
    fs::write(world.path("outside/secret"), "mine").unwrap();
    let script = "echo new > /tmp/secret; ln -s ../outside /vol/t; sleep 1000";
    start(&world, "hostile", &["-v", "./vol:/vol"], script);
    eventually("the link is there", || world.path("vol/t").is_symlink());
    for words in [
        ["hostile:/tmp/secret", "vol/t"],
        ["hostile:/tmp/secret", "vol/t/"],
        ["hostile:/tmp/secret", "vol/t/new"],
        ["vol/t/secret", "hostile:/tmp/got"],
        ["vol/t/", "hostile:/tmp/got"],
    ] {
        let (code, _, err) = world.says(&["cp", words[0], words[1]]);
        assert!(code != 0 && err.contains("is a link in a volume of a container"), "{err}");
    }
    assert_eq!(fs::read_to_string(world.path("outside/secret")).unwrap(), "mine");
    assert_eq!(fs::read_dir(world.path("outside")).unwrap().count(), 1);
    ok(&world, &["cp", "hostile:/tmp/secret", "vol"]);
    assert_eq!(fs::read_to_string(world.path("vol/secret")).unwrap(), "new\n");
    ok(&world, &["rm", "-f", "hostile"]);
}

/// Root inside stops the process of an `exec` as soon as it sees it: it is inside already, and nothing that joins the
/// container with more privileges is ever seen there.
#[test]
fn what_joins_a_container_is_inside_before_it_is_seen() {
    for world in worlds() {
        world.image(CONFIG);
        let script = "i=2; while [ $i -lt 40 ]; do i=$((i + 1)); kill -STOP $i 2>/dev/null && break; \
                      [ $i = 39 ] && i=2; done; : >/tmp/stopped; sleep 1000";
        start(&world, "hostile", &[], script);
        let rows: serde_json::Value = serde_json::from_str(&ok(&world, &["ps", "--json"])).unwrap();
        let init = rows[0]["pid"].as_u64().unwrap();
        let namespace = |pid: u64, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
        let mut exec = world.sconce(&["exec", "hostile", "sleep", "0.2"]).spawn().unwrap();
        let mut copy = world.sconce(&["cp", "hostile:/tmp", "copied"]).spawn().unwrap();
        let begun = Instant::now();
        let mut seen = 0;
        while begun.elapsed() < Duration::from_secs(3) {
            for process in fs::read_dir("/proc").unwrap().flatten() {
                let Ok(pid) = process.file_name().to_string_lossy().parse::<u64>() else {
                    continue;
                };
                let (Ok(theirs), Ok(own)) = (namespace(pid, "pid"), namespace(init, "pid")) else {
                    continue;
                };
                if theirs != own {
                    continue;
                }
                seen += 1;
                // Nothing that is seen inside has the capability to mount, not for a moment.
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                let permitted = status.lines().find_map(|line| line.strip_prefix("CapPrm:\t"));
                let permitted = u64::from_str_radix(permitted.unwrap_or("0"), 16).unwrap();
                assert_eq!(permitted & (1 << 21), 0, "{pid} has CAP_SYS_ADMIN: {permitted:x}");
                let (Ok(theirs), Ok(own)) = (namespace(pid, "mnt"), namespace(init, "mnt")) else {
                    continue;
                };
                assert_eq!(
                    theirs, own,
                    "{pid} is a process of the container with files of the machine"
                );
            }
        }
        assert!(seen > 0);
        let _ = exec.kill();
        let _ = copy.kill();
        exec.wait().unwrap();
        copy.wait().unwrap();
        ok(&world, &["rm", "-f", "hostile"]);
    }
}

/// `/dev/null` of a container is the container's: it does not decide where the output of `exec` goes.
#[test]
fn a_null_device_that_is_another_file_changes_nothing() {
    let world = World::new();
    world.image(CONFIG);
    for make in [
        "rm /dev/null",
        "rm /dev/null; : >/dev/null",
        "rm /dev/null; mkfifo /dev/null",
        "rm /dev/null; mkdir /dev/null",
        "rm /dev/null; ln -s /proc/1/mem /dev/null",
        "rm /dev/null; ln -s /proc/self/mem /dev/null",
    ] {
        start(&world, "odd", &[], &format!("{make}; : >/tmp/made; sleep 1000"));
        eventually("it is made", || world.says(&["exec", "odd", "ls", "/tmp/made"]).0 == 0);
        for options in [&["exec"][..], &["exec", "-i"]] {
            let words = [options, &["odd", "sh", "-c", "echo out; echo err >&2; exit 3"]].concat();
            let said = world.says(&words);
            assert_eq!(said, (3, "out\n".into(), "err\n".into()), "{make}");
        }
        // Nor does the machine's null device come in: root inside could change its mode.
        for options in [&["exec"][..], &["exec", "-i"]] {
            let script = "for fd in 0 1 2; do stat -L -c %F /proc/self/fd/$fd; done; cat";
            let said = world.says(&[options, &["odd", "sh", "-c", script]].concat());
            assert_eq!(said, (0, "fifo\n".repeat(3), String::new()), "{make}");
        }
        ok(&world, &["rm", "-f", "odd"]);
    }
}

/// `rm -f` of one that ends meanwhile has done what was asked for.
#[test]
fn a_container_that_ends_meanwhile_is_removed() {
    let world = World::new();
    world.image(CONFIG);
    for _ in 0..8 {
        start(&world, "ends", &[], "trap 'exit 7' TERM; while :; do sleep 0.01; done");
        let mut stop = world.sconce(&["stop", "ends"]).spawn().unwrap();
        let mut kill = world.sconce(&["kill", "ends"]).spawn().unwrap();
        ok(&world, &["rm", "-f", "ends"]);
        stop.wait().unwrap();
        kill.wait().unwrap();
        nothing_left(&world);
    }
}

/// One whose shim does not answer keeps no other from its end, and is said.
#[test]
fn a_shim_that_does_not_answer_is_said() {
    let world = World::new();
    world.image(CONFIG);
    start(&world, "stuck", &[], "sleep 1000");
    start(&world, "other", &[], "sleep 1000");
    let shim = shim_of(&world, "stuck");
    rustix::process::kill_process(shim, rustix::process::Signal::STOP).unwrap();
    // It is stopped when it has come to run once more.
    let stat = format!("/proc/{}/stat", shim.as_raw_nonzero());
    let begun = std::time::Instant::now();
    while !fs::read_to_string(&stat).unwrap().contains(") T") {
        assert!(begun.elapsed().as_secs() < 20, "it is not stopped");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let (code, out, err) = world.says(&["stop", "--time", "0", "stuck", "other"]);
    assert!(code == 125 && out == "other\n", "{code} {out}{err}");
    let hint = format!("`kill -CONT {}`", shim.as_raw_nonzero());
    assert!(err.contains("is stopped") && err.contains(&hint), "{err}");
    for args in [
        &["exec", "stuck", "true"][..],
        &["wait", "stuck"],
        &["kill", "stuck"],
        &["kill", "-s", "INT", "stuck"],
        &["attach", "stuck"],
        &["cp", "stuck:/etc", "."],
        &["rm", "-f", "stuck"],
    ] {
        let (code, _, err) = world.says(args);
        assert!(code != 0 && err.contains(&hint), "{args:?}: {code} {err}");
    }
    rustix::process::kill_process(shim, rustix::process::Signal::CONT).unwrap();
    ok(&world, &["kill", "stuck"]);
    ok(&world, &["wait", "stuck"]);
    ok(&world, &["rm", "stuck", "other"]);
}

/// The shim of a container, which goes by its id.
fn shim_of(world: &World, name: &str) -> rustix::process::Pid {
    let about: serde_json::Value =
        serde_json::from_str(&ok(world, &["inspect", "--json", name])).unwrap();
    let id = about["id"].as_str().unwrap();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let comm = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        if comm.trim().strip_prefix("sconce-").is_some_and(|start| id.starts_with(start)) {
            let pid = process.file_name().to_string_lossy().parse().unwrap();
            return rustix::process::Pid::from_raw(pid).unwrap();
        }
    }
    panic!("no shim of {name}");
}

#[test]
fn a_day_of_one_container() {
    for world in worlds() {
        world.image(CONFIG);
        let script = "echo begun; trap 'echo bye; exit 7' TERM; while :; do sleep 0.1; done";
        let cid = world.path("cid");
        let id = start(&world, "train", &["--cidfile", cid.to_str().unwrap()], script);
        assert_eq!(fs::read_to_string(&cid).unwrap(), id);
        let (code, _, err) =
            world.says(&["run", "-d", "--gpus", "none", "--cidfile", "cid", "oci:image", "true"]);
        assert!(code == 125 && err.contains("cid"), "an id file that is there: {err}");
        let taken = ["run", "-d", "--gpus", "none", "--name", "train", "oci:image", "true"];
        let (code, _, err) = world.says(&taken);
        assert!(code == 125 && err.contains("train"), "{err}");

        let rows: serde_json::Value = serde_json::from_str(&ok(&world, &["ps", "--json"])).unwrap();
        assert_eq!((&rows[0]["name"], &rows[0]["status"]), (&"train".into(), &"running".into()));
        assert_eq!(rows[0]["id"], *id);
        let shown: serde_json::Value =
            serde_json::from_str(&ok(&world, &["inspect", "--json", "train"])).unwrap();
        assert_eq!(shown["id"], *id);
        eventually("its first line is logged", || ok(&world, &["logs", "train"]) == "begun\n");

        let exec = |words: &[&str]| ok(&world, &[&["exec"], words].concat());
        assert_eq!(exec(&["-e", "A=1", "train", "sh", "-c", "echo $A $COLOUR"]), "1 red\n");
        assert_eq!(exec(&["-e", "COLOUR", "train", "sh", "-c", "echo ${COLOUR-gone}"]), "gone\n");
        assert_eq!(exec(&["-w", "/tmp", "train", "pwd"]), "/tmp\n");
        assert_eq!(world.says(&["exec", "train", "sh", "-c", "exit 3"]).0, 3);
        assert_eq!(world.says(&["exec", "train", "nowhere"]).0, 127);
        assert_eq!(
            exec(&["-w", "/tmp", "-w", "/usr", "train", "pwd"]),
            "/usr\n",
            "the last counts"
        );

        fs::write(world.path("in"), "from here").unwrap();
        ok(&world, &["cp", "in", "train:/tmp/copied"]);
        assert_eq!(exec(&["train", "cat", "/tmp/copied"]), "from here");
        ok(&world, &["cp", "train:/tmp/copied", "out"]);
        assert_eq!(fs::read_to_string(world.path("out")).unwrap(), "from here");

        // A folder takes the place of nothing that is there.
        let (code, _, err) = world.says(&["cp", "train:/tmp", "out"]);
        assert!(code == 1 && err.contains("/tmp is a folder, and out is not"), "{err}");
        assert_eq!(fs::read_to_string(world.path("out")).unwrap(), "from here");
        assert_eq!(world.says(&["cp", "train:/tmp", "-"]).0, 1);
        // A link to a file is followed, as `cp` does; what is neither file nor folder stays what it is.
        std::os::unix::fs::symlink("linked", world.path("link")).unwrap();
        let (code, _, err) = world.says(&["cp", "train:/tmp/copied", "link"]);
        assert!(code != 0 && err.contains("follow the link"), "{err}");
        fs::write(world.path("linked"), "").unwrap();
        ok(&world, &["cp", "train:/tmp/copied", "link"]);
        assert_eq!(fs::read_to_string(world.path("linked")).unwrap(), "from here");
        let fifo = world.path("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        for words in [["cp", "train:/tmp/copied", "fifo"], ["cp", "fifo", "train:/tmp"]] {
            let (code, _, err) = world.says(&words);
            assert!(code == 1 && err.contains("is a device, a socket or a FIFO"), "{err}");
        }
        assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
        exec(&["train", "mkfifo", "/tmp/lone"]);
        let (code, _, err) = world.says(&["cp", "train:/tmp/lone", "lone"]);
        assert!(code == 1 && err.contains("nothing of /tmp/lone could be copied"), "{err}");
        // What follows the name is the command's.
        assert_eq!(exec(&["train", "echo", "-h", "--help", "-e"]), "-h --help -e\n");
        let (code, _, err) = world.says(&["exec", "train"]);
        assert!(code == 125 && err.contains("COMMAND"), "{err}");
        // An archive has no sockets: they are left out, and it is said.
        let _socket = std::os::unix::net::UnixListener::bind(world.path("tree.sock")).unwrap();
        fs::create_dir(world.path("tree")).unwrap();
        fs::rename(world.path("tree.sock"), world.path("tree/sock")).unwrap();
        fs::write(world.path("tree/file"), "x").unwrap();
        let (code, _, err) = world.says(&["cp", "tree", "train:/tmp"]);
        let left_out = "note: tree/sock is a socket, a FIFO or a device, and was left out";
        assert!(code == 0 && err.contains(left_out), "{err}");
        assert_eq!(exec(&["train", "ls", "/tmp/tree"]), "file\n");
        exec(&["train", "mkfifo", "/tmp/tree/fi\u{1b}fo"]);
        let (code, _, err) = world.says(&["cp", "train:/tmp/tree", "copied"]);
        assert!(
            code == 0 && err.contains("tree/fi\\u{1b}fo is a socket, a FIFO or a device"),
            "{err}"
        );
        assert_eq!(fs::read_to_string(world.path("copied/file")).unwrap(), "x");
        assert!(!world.path("copied/fi\u{1b}fo").exists());
        fs::write(world.path("plain"), "x").unwrap();
        // Where nothing can be written, in words.
        for (place, why) in [
            ("/dev/null", "a device, a socket or a FIFO"),
            ("/etc/hosts", "something is mounted there"),
            ("/proc/x", "writing to /proc: No such file or directory"),
        ] {
            let (code, _, err) = world.says(&["cp", "plain", &format!("train:{place}")]);
            assert!(code != 0 && err.contains(why), "{place}: {code} {err}");
        }
        assert_eq!(exec(&["train", "head", "-c1", "/dev/null"]), "");
        // What ends like a folder is one.
        let (code, _, err) = world.says(&["cp", "plain", "train:/tmp/nodir/"]);
        assert!(code == 1 && err.contains("no such folder"), "{code} {err}");
        assert!(!exec(&["train", "ls", "/tmp"]).contains("nodir"));
        // All of it, without what is the kernel's.
        let (code, _, err) = world.says(&["cp", "train:/", "all"]);
        assert!(code == 0 && err.contains("folders of the kernel's were left out"), "{code} {err}");
        assert!(world.path("all/usr/bin/sh").is_file());
        fs::create_dir(world.path("kernel")).unwrap();
        fs::set_permissions(world.path("kernel"), PermissionsExt::from_mode(0o777)).unwrap();
        ok(&world, &["cp", "train:/proc/1/limits", "kernel/limits"]);
        assert!(
            fs::read_to_string(world.path("kernel/limits")).unwrap().contains("Max open files")
        );
        // Into one that is there: beside what it has.
        fs::create_dir_all(world.path("into/tree/sub")).unwrap();
        for name in ["into", "into/tree", "into/tree/sub"] {
            fs::set_permissions(world.path(name), PermissionsExt::from_mode(0o777)).unwrap();
        }
        fs::write(world.path("into/tree/mine"), "mine").unwrap();
        fs::write(world.path("into/tree/file"), "old").unwrap();
        exec(&["train", "sh", "-c", "mkdir /tmp/tree/sub; echo deep > /tmp/tree/sub/deep"]);
        ok(&world, &["cp", "train:/tmp/tree", "into"]);
        for (name, text) in [("mine", "mine"), ("file", "x"), ("sub/deep", "deep\n")] {
            assert_eq!(fs::read_to_string(world.path("into/tree").join(name)).unwrap(), text);
        }
        // A folder does not take a file's place, nor a file a folder's.
        fs::remove_dir_all(world.path("into/tree/sub")).unwrap();
        fs::write(world.path("into/tree/sub"), "a file").unwrap();
        let (code, _, err) = world.says(&["cp", "train:/tmp/tree", "into"]);
        assert!(code != 0 && err.contains("into/tree"), "{err}");
        assert_eq!(fs::read_to_string(world.path("into/tree/sub")).unwrap(), "a file");

        assert!(ok(&world, &["stats", "train"]).contains("train"));
        let unit = ok(&world, &["generate", "systemd", "train"]);
        assert!(unit.contains("[Service]") && unit.contains("oci:image"), "{unit}");

        let (code, _, err) = world.says(&["rm", "train"]);
        assert!(code != 0 && err.contains("is running"), "a running one is not removed: {err}");
        ok(&world, &["stop", "train"]);
        assert_eq!(ok(&world, &["wait", "train"]), "7\n");
        assert_eq!(ok(&world, &["logs", "train"]), "begun\nbye\n");
        assert_eq!(ok(&world, &["ps", "--ids"]), "");
        let rows: serde_json::Value =
            serde_json::from_str(&ok(&world, &["ps", "--all", "--json"])).unwrap();
        assert_eq!((&rows[0]["status"], &rows[0]["exit_code"]), (&"exited".into(), &7.into()));
        assert_eq!(world.says(&["exec", "train", "true"]).0, 1);
        ok(&world, &["rm", "train"]);
        nothing_left(&world);
    }
}

#[test]
fn kill_wait_and_rm_with_force() {
    for world in worlds() {
        world.image(CONFIG);
        start(&world, "one", &[], "sleep 600");
        let mut waiting = world.sconce(&["wait", "one"]);
        let waiting = waiting.stdout(std::process::Stdio::piped()).spawn().unwrap();
        ok(&world, &["kill", "one"]);
        let output = waiting.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "137\n");
        start(&world, "two", &["--rm"], "sleep 600");
        ok(&world, &["kill", "-s", "TERM", "two"]);
        eventually("`--rm` leaves nothing", || !ok(&world, &["ps", "--all"]).contains("two"));
        start(&world, "three", &[], "sleep 600");
        let three = ok(&world, &["ps", "-q"]);
        assert_eq!(three.lines().count(), 1, "{three}");
        // Who kills one may remove it at once.
        ok(&world, &["kill", three.trim()]);
        ok(&world, &["rm", "three"]);
        start(&world, "four", &[], "sleep 600");
        ok(&world, &["rm", "--force", "one", "four"]);
        nothing_left(&world);
    }
}

/// A log that grows too long is begun anew, at a moment that nobody who reads knows.
#[test]
fn logs_are_read_while_they_are_begun_anew() {
    let world = World::new();
    world.image(CONFIG);
    let line = "x".repeat(1 << 16);
    // 160 MB: two times a new file.
    let script = format!("i=0; while test $i -lt 2500; do echo $i {line}; i=$((i+1)); done");
    start(&world, "long", &[], &script);
    let follower = world.sconce(&["logs", "--follow", "long"]).stdout(Stdio::piped()).spawn();
    let mut looks = 0;
    while ok(&world, &["ps", "-q"]).contains(char::is_alphanumeric) {
        let (code, _, err) = world.says(&["logs", "--tail", "1", "long"]);
        assert_eq!(code, 0, "{err}");
        looks += 1;
        assert!(looks < 10_000);
    }
    let output = follower.unwrap().wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    let wanted: Vec<String> = (0..2500).map(|number| number.to_string()).collect();
    assert!(numbers == wanted, "{} lines", numbers.len());
    ok(&world, &["rm", "long"]);
}

/// Whoever reads more slowly than a container writes misses some of it, and is told where.
#[test]
fn what_a_slow_reader_of_logs_misses_is_said() {
    let world = World::new();
    world.image(CONFIG);
    let line = "x".repeat(1 << 16);
    // 320 MB: of five files two are kept.
    let script = format!("i=0; while test $i -lt 5000; do echo $i {line}; i=$((i+1)); done");
    start(&world, "long", &["-v", &format!("{}:/x", world.path(".").display())], &script);
    let mut follower = world.sconce(&["logs", "--follow", "long"]);
    let mut follower = follower.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(ok(&world, &["wait", "long"]), "0\n");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut follower.stdout.take().unwrap(), &mut text).unwrap();
    let output = follower.wait_with_output().unwrap();
    let numbers: Vec<u32> =
        text.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect();
    let gaps = numbers.windows(2).filter(|pair| pair[0] + 1 != pair[1]).count();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(gaps <= 1 && numbers.last() == Some(&4999), "{gaps} gaps: {err}");
    let starts_late = usize::from(numbers[0] != 0);
    assert_eq!(err.matches("output is missing here").count(), gaps, "{err}");
    assert_eq!(err.matches("its first output is no longer there").count(), starts_late, "{err}");
    assert_eq!(gaps + starts_late, 1, "it was read as fast as it came: {err}");
    let (_, out, err) = world.says(&["logs", "--tail", "1000000", "long"]);
    assert!(out.lines().count() < 5000 && err.contains("its first output is no"), "{err}");
    ok(&world, &["rm", "long"]);
}

#[test]
fn logs_are_followed_to_the_end() {
    for world in worlds() {
        world.image(CONFIG);
        let script = "for i in 1 2 3 4 5; do echo $i; echo e$i >&2; sleep 0.1; done";
        start(&world, "talk", &[], script);
        let (code, out, err) = world.says(&["logs", "--follow", "talk"]);
        assert_eq!((code, out.as_str()), (0, "1\n2\n3\n4\n5\n"));
        assert_eq!(err, "e1\ne2\ne3\ne4\ne5\n");
        assert_eq!(ok(&world, &["logs", "--tail", "2", "talk"]).lines().count(), 1);
        for all in ["all", "-1"] {
            assert_eq!(ok(&world, &["logs", "--tail", all, "talk"]), ok(&world, &["logs", "talk"]));
        }
        ok(&world, &["rm", "talk"]);
        nothing_left(&world);
    }
}

#[test]
fn a_user_that_is_not_mapped_is_refused_by_exec_as_by_run() {
    let world = World::of_nobody();
    world.image(CONFIG);
    start(&world, "one", &[], "sleep 600");
    let (code, _, err) = world.says(&["exec", "--user", "7", "one", "true"]);
    assert!(code == 125 && err.contains("--user '7': without root, other users need"), "{err}");
    ok(&world, &["rm", "--force", "one"]);
}

/// A small file system on a folder, until this is dropped.
struct Small(std::path::PathBuf);

impl Small {
    fn on(folder: std::path::PathBuf) -> Self {
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m,mode=777", "tmpfs"])
            .arg(&folder)
            .status();
        assert!(mount.unwrap().success(), "mounting takes root");
        Self(folder)
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("fill")).unwrap();
        while std::io::Write::write(&mut file, &[1; 4096]).is_ok_and(|count| count > 0) {}
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("fill")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A run of days must not end for its log. What is lost is said, and how it ended is kept.
#[test]
fn a_full_disk_ends_no_container() {
    for world in worlds() {
        world.image(CONFIG);
        start(&world, "first", &["--rm"], "true");
        let containers = world.path("store/containers");
        let disk = Small::on(containers.clone());
        fs::create_dir(world.path("flags")).unwrap();
        fs::set_permissions(world.path("flags"), PermissionsExt::from_mode(0o777)).unwrap();
        let volume = format!("{}:/flags", world.path("flags").display());
        let line = "x".repeat(1000);
        let script = format!(
            "until_there() {{
                n=0; while test ! -e /flags/$1; do sleep 0.02; n=$((n+1)); test $n -lt 3000 || exit 9; done
            }}
            until_there full; i=0
            while test $i -lt 200; do echo {line}; i=$((i+1)); done; touch /flags/written
            until_there room; echo back; until_there full-again
            while test $i -lt 400; do echo {line}; i=$((i+1)); done; exit 7"
        );
        start(&world, "long", &["-v", &volume], &script);
        let flag = |name: &str| drop(fs::File::create(world.path("flags").join(name)).unwrap());
        disk.fill();
        flag("full");
        eventually("it goes on", || world.path("flags/written").exists());
        disk.make_room();
        flag("room");
        eventually("what is missing is said", || {
            let (_, out, err) = world.says(&["logs", "long"]);
            let why = "sconce: output is missing here: No space left on device";
            out.ends_with("back\n") && err.contains(why)
        });
        disk.fill();
        flag("full-again");
        assert_eq!(ok(&world, &["wait", "long"]), "7\n");
        let (code, out, err) = world.says(&["logs", "long"]);
        assert!(code == 0 && out.contains("back\n"), "{out}{err}");
        assert!(err.contains("the end of its output could not be kept: No space left"), "{err}");
        // What can't start says why and leaves nothing.
        let (code, _, err) = world.says(&["run", "-q", "--gpus", "none", "oci:image", "true"]);
        assert!(code == 125 && err.contains("No space left on device"), "{err}");
        let kept = || fs::read_dir(&containers).unwrap().flatten();
        let kept = kept().filter(|entry| entry.file_name() != "fill").count();
        assert_eq!(kept, 1, "the one that ended");
        disk.make_room();
        ok(&world, &["rm", "long"]);
        nothing_left(&world);
    }
}

/// A link of the container's to a descriptor of the process that joins it (the pattern of
/// CVE-2024-21626).
#[test]
fn nothing_of_the_host_is_open_to_exec_and_cp() {
    for world in worlds() {
        world.image(CONFIG);
        start(&world, "trap", &["-w", "/w"], "sleep 600");
        for number in 3..20 {
            let place = format!("rm -rf /w; ln -s /proc/self/fd/{number} /w");
            ok(&world, &["exec", "-w", "/", "trap", "sh", "-c", &place]);
            for words in [&["exec", "trap", "ls"][..], &["exec", "-w", "/w", "trap", "ls", ".."]] {
                let (code, out, _) = world.says(words);
                assert!(code != 0 || !out.contains("container.json"), "{number}: {out}");
                assert!(code != 0 || !out.contains("containers"), "{number}: {out}");
            }
            for inside in ["/w/container.json", "/w/../version", "/w/../../version"] {
                let (code, _, err) = world.says(&["cp", &format!("trap:{inside}"), "stolen"]);
                assert!(code != 0 && !world.path("stolen").exists(), "{number} {inside}: {err}");
            }
        }
        ok(&world, &["rm", "-f", "trap"]);
        nothing_left(&world);
    }
}

/// Without any command that would clean up after it.
#[test]
fn one_that_ends_alone_leaves_nothing() {
    for world in worlds() {
        world.image(CONFIG);
        start(&world, "short", &["--rm"], "sleep 0.2");
        for folder in ["containers", "tmp"] {
            let folder = world.path("store").join(folder);
            eventually("its folders go", || fs::read_dir(&folder).unwrap().next().is_none());
        }
    }
}

/// The command that starts it, its session and its terminal may end: it stays.
#[test]
fn it_outlives_the_terminal_that_started_it() {
    let world = World::new();
    world.image(CONFIG);
    let words = ["run", "-d", "--gpus", "none", "--name", "long", "oci:image", "sleep", "600"];
    let mut screen = Terminal::start(world.sconce(&words), (24, 80));
    assert_eq!(screen.end(), 0);
    drop(screen);
    assert!(ok(&world, &["ps"]).contains("long"));
    ok(&world, &["rm", "-f", "long"]);
    nothing_left(&world);
}
