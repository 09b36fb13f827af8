//! What people type who know Docker, and what they are told.

mod world;

use std::fs;
use std::process::{Command, Stdio};

use world::detached::{eventually, ok, start};
use world::{World, texts};

const CONFIG: &str = r#"{"Env": ["PATH=/usr/bin"], "WorkingDir": "/usr"}"#;

#[test]
fn commands_of_docker_are_answered_with_ours() {
    let world = World::new();
    for (words, instead) in [
        (&["image", "ls"][..], "`sconce images`"),
        (&["image", "rm", "x"], "`sconce rmi NAME`"),
        (&["container", "ls", "-a"], "`sconce ps`"),
        (&["container"], "its commands stand alone"),
        (&["system", "prune", "-f"], "`sconce prune`"),
        (&["system", "df"], "`sconce images`"),
        (&["volume", "ls"], "`-v DIR:DIR` shows a folder"),
        (&["top", "x"], "`sconce exec x ps aux`"),
    ] {
        let (code, _, err) = world.says(words);
        assert!(code == 2 && err.contains("there is no `sconce") && err.contains(instead), "{err}");
    }
}

#[test]
fn odd_values_of_options() {
    let world = World::new();
    world.image(CONFIG);
    let run = ["run", "-q", "--gpus", "none"];
    let says = |options: &[&str], command: &[&str]| {
        world.says(&[&run, options, &["oci:image"], command].concat())
    };
    for place in ["/dev/pts/x", "/dev/mqueue/x", "/dev/shm/x"] {
        let (code, _, err) = says(&["--device", &format!("/dev/null:{place}")], &["true"]);
        let why = "is a file system of its own and takes no device files";
        assert!(code == 125 && err.contains(why), "{place}: {code} {err}");
    }
    // As if it was not given.
    assert_eq!(says(&["-w", ""], &["pwd"]), (0, "/usr\n".into(), String::new()));
    assert_eq!(says(&["--workdir="], &["pwd"]), (0, "/usr\n".into(), String::new()));
    // What a shell makes of `<(…)`: a descriptor, or a FIFO of a name.
    let script = format!(
        "mkfifo pipe; (echo A=1 >pipe) & {0} run -q --gpus none --env-file pipe oci:image sh -c 'echo $A'
         echo A=2 | {0} run -q --gpus none --env-file /dev/stdin oci:image sh -c 'echo $A'",
        env!("CARGO_BIN_EXE_sconce")
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(world.path("")).stdin(Stdio::null());
    command.env("SCONCE_HOME", world.path("store")).env("HOME", world.path("home"));
    assert_eq!(texts(&command.output().unwrap()), (0, "1\n2\n".into(), String::new()));
}

#[test]
fn a_running_containers_words() {
    let world = World::new();
    world.image(CONFIG);
    let odd = "a\u{1b}[2Jb";
    let words =
        ["run", "-q", "-d", "--gpus", "none", "--name", "one", "-e", odd, "-l", "k=\u{9b}1m"];
    let (code, _, err) = world.says(&[&words, &["oci:image", "sleep", "1000"][..]].concat());
    assert_eq!(code, 0, "{err}");
    let (code, out, _) = world.says(&["exec", "-w", "", "one", "pwd"]);
    assert_eq!((code, out.as_str()), (0, "/usr\n"));
    let (code, unit, err) = world.says(&["generate", "systemd", "one"]);
    assert!(code == 0 && unit.contains(r#""a\x1b[2Jb""#), "{unit}{err}");
    assert!(unit.contains(r#""k=\xc2\x9b1m""#), "{unit}");
    assert!(unit.chars().all(|char| char == '\n' || !char.is_control()), "{unit:?}");
    for words in [
        &["cp", "one:/dev/null", "out"][..],
        &["cp", "/dev/null/", "one:/tmp"],
        &["cp", "one:/etc/passwd", "/dev/null/"],
    ] {
        let (code, _, err) = world.says(words);
        assert!(code != 0 && !err.contains("/dev/null/ is"), "{words:?}: {err}");
    }
    // The container's own user, as in Docker.
    assert_eq!(world.says(&["exec", "-u", "", "one", "id", "-u"]).1, "0\n");
    let (code, _, err) = world.says(&["cp", "one:/proc/self/status", "x"]);
    assert!(code == 1 && err.contains("of the process that asks for it"), "{code} {err}");
    let (code, _, err) = world.says(&["cp", "one:/proc/1/status", "status"]);
    assert!(code == 0 && world.path("status").is_file(), "{code} {err}");
    let id = world.says(&["ps", "--ids"]).1;
    let shown = world.says(&["ps", "--no-trunc"]).1;
    assert!(shown.contains(id.trim()) && !world.says(&["ps"]).1.contains(id.trim()), "{shown}");
    let (code, _, err) = world.says(&["rm", "-f", "one"]);
    assert_eq!(code, 0, "{err}");
    let words =
        ["run", "-q", "-dt", "--gpus", "none", "--name", "two", "oci:image", "sleep", "1000"];
    let (code, _, err) = world.says(&words);
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = world.says(&["attach", "two"]);
    let hint = "`sconce logs -f NAME` shows what it writes";
    assert!(code == 2 && err.contains(hint) && !err.contains("leave out -t"), "{code} {err}");
    let (code, _, err) = world.says(&["rm", "-f", "two"]);
    assert_eq!(code, 0, "{err}");
}

#[test]
fn options_of_docker_that_are_not_here_say_what_to_do() {
    let world = World::new();
    for (words, instead) in [
        (&["load", "-i", "x"][..], "`sconce copy docker-archive:FILE store:NAME`"),
        (&["build", "--no-cache"], "`sconce lock --upgrade`"),
        (&["build", "--build-arg", "A=1"], "sconce.toml says what is in an image"),
        (&["exec", "--privileged", "x", "true"], "see `sconce run`"),
    ] {
        let (code, _, err) = world.says(words);
        assert!(matches!(code, 2 | 125) && err.contains(instead), "{words:?}: {code} {err}");
    }
    let (code, out, err) = world.says(&["prune", "-f", "-a"]);
    assert!(code == 0 && out.is_empty() && err.starts_with("freed"), "{err}");
    let (code, out, err) = world.says(&["rmi", "-f", "none:1"]);
    assert!(code == 0 && out.is_empty() && err.contains("no image `none:1`"), "{code} {out}{err}");
    assert_eq!(world.says(&["rmi", "none:1"]).0, 1);
    for folder in ["/dev", "/dev/pts", "/dev/shm/"] {
        let (code, _, err) =
            world.says(&["run", "--gpus", "none", "--device", folder, "x", "true"]);
        assert!(code == 125 && err.contains("of its own"), "{folder}: {code} {err}");
    }
}

/// A FIFO that nobody writes into is waited for, and that is said.
#[test]
fn a_fifo_that_is_waited_for_is_named() {
    let world = World::new();
    world.image(CONFIG);
    assert!(Command::new("mkfifo").arg(world.path("pipe")).status().unwrap().success());
    let words = ["run", "-q", "--gpus", "none", "--env-file", "pipe", "oci:image", "sh", "-c"];
    let mut run = world.sconce(&[&words[..], &["echo $A"]].concat());
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(4));
    fs::write(world.path("pipe"), "A=1\n").unwrap();
    let (code, out, err) = texts(&run.wait_with_output().unwrap());
    assert_eq!((code, out.as_str()), (0, "1\n"), "{err}");
    assert_eq!(err, "note: pipe is a FIFO: waiting for what is to write into it\n");
}

/// The place that is full is the user's, and no other store helps.
#[test]
fn a_full_disk_that_an_image_is_written_to_is_named() {
    let world = World::new();
    world.image(CONFIG);
    let place = world.path("place");
    fs::create_dir(&place).unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(&place)
        .status();
    assert!(mount.unwrap().success(), "mounting takes root");
    let said: Vec<_> = ["oci:place/out", "docker-archive:place/out.tar"]
        .map(|to| world.says(&["copy", "oci:image", to]))
        .into();
    assert!(Command::new("umount").arg(&place).status().unwrap().success());
    for (code, _, err) in said {
        let hint = format!("free space on the disk of {}", place.display());
        assert!(code == 7 && err.contains("No space left") && err.contains(&hint), "{code} {err}");
        assert!(!err.contains("SCONCE_HOME") && !err.contains("partial"), "{err}");
    }
}

/// The codes of Docker's client (docs/run.md), and its words where `-f` makes it none.
#[test]
fn what_is_not_there_ends_as_in_docker() {
    let world = World::new();
    for (words, expected) in [
        (&["kill", "nosuch"][..], 1),
        (&["rm", "nosuch"], 1),
        (&["rm", "-f", "nosuch"], 0),
        (&["stop", "nosuch"], 1),
        (&["wait", "nosuch"], 1),
        (&["logs", "nosuch"], 1),
        (&["exec", "nosuch", "true"], 1),
        (&["attach", "nosuch"], 1),
        (&["stats", "nosuch"], 1),
        (&["cp", "nosuch:/x", "."], 1),
        (&["inspect", "nosuch"], 1),
        // One would be the answer.
        (&["inspect", "nosuch", "--for", "h100"], 2),
    ] {
        let (code, out, err) = world.says(words);
        assert_eq!((code, &*out), (expected, ""), "{words:?}: {err}");
        assert!(err.contains("nosuch") && err.contains("hint: "), "{words:?}: {err}");
    }
    // The others are not kept from it.
    world.image(CONFIG);
    let run = ["run", "-q", "-d", "--gpus", "none", "--name", "job", "oci:image", "sh", "-c"];
    assert_eq!(world.says(&[&run[..], &["exit 3"]].concat()).0, 0);
    let (code, out, _) = world.says(&["wait", "nosuch", "job"]);
    assert_eq!((code, &*out), (1, "3\n"));
    assert_eq!(world.says(&["rm", "-f", "nosuch", "job"]).1, "job\n");
}

#[test]
fn what_is_typed_otherwise_in_docker_is_answered_with_what_to_type() {
    let world = World::new();
    for (words, hints) in [
        (&["load", "x.tar"][..], &["`sconce pull docker-archive:FILE`", "--into docker"][..]),
        (&["load"], &["`sconce pull -`"]),
        (&["load", "-i", "x.tar"], &["`sconce pull docker-archive:FILE`"]),
        (
            &["run", "pytorch/pytorch:nosuchtag"],
            &["`pytorch/pytorch:2.", "`docker://pytorch/pytorch:nosuchtag`"],
        ),
        (&["top", "train"], &["`sconce exec train ps aux`", "`sconce stats train`"]),
        (&["top", "a b"], &["`sconce exec NAME ps aux`"]),
    ] {
        let (_, _, err) = world.says(words);
        for hint in hints {
            assert!(err.contains(hint), "{words:?}: {hint}: {err}");
        }
    }
}

/// What was typed does not look like a line of ours.
#[test]
fn line_breaks_of_arguments_are_shown_as_such() {
    let world = World::new();
    world.image(CONFIG);
    let run = ["run", "-q", "--gpus", "none"];
    let forged = "a\n  hint: `rm -r /`";
    for words in [
        &["logs", forged][..],
        &["exec", forged, "true"],
        &["lock", forged],
        &["logs", "--tail", forged, "x"],
        &["images", &format!("--{forged}")],
        &["images", forged],
        &[forged],
        &[&run[..], &["--name", forged, "oci:image", "true"]].concat(),
        &[&run[..], &[&format!("--name={forged}"), "oci:image", "true"]].concat(),
        &[&run[..], &["--memory", forged, "oci:image", "true"]].concat(),
        &[&run[..], &["oci:image", forged]].concat(),
        &[&run[..], &[forged, "true"]].concat(),
    ] {
        let (code, _, err) = world.says(words);
        assert!(code != 0 && err.contains(r"a\n  hint: `rm -r /`"), "{words:?}: {err}");
        assert!(!err.lines().any(|line| line.trim_start().starts_with("hint: `rm -r")), "{err}");
    }
    // Errors of several lines stay what they are.
    let script = "import sys\nsys.exit(7)";
    let (_, _, err) = world.says(&[&run[..], &["nosuch:1", "sh", "-c", script]].concat());
    assert!(err.contains("\n  hint: "), "{err}");
}

#[test]
fn which_argument_is_not_text_is_said() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let world = World::new();
    world.image(CONFIG);
    for (words, code) in [
        (&["logs"][..], 2),
        (&["run", "-q", "--gpus", "none", "oci:image", "true"], 125),
        (&["run", "-q", "--gpus", "none", "--name"], 125),
        (&["exec", "x"], 125),
        (&["--offline", "logs"], 2),
    ] {
        let mut command = world.sconce(words);
        command.arg(OsStr::from_bytes(b"caf\xc3\xa9 \xff"));
        if words.contains(&"--name") {
            command.args(["oci:image", "true"]);
        }
        let (given, _, err) = texts(&command.output().unwrap());
        assert_eq!(given, code, "{words:?}: {err}");
        assert!(
            err.contains("error: `caf\u{e9} \\xff` is not UTF-8\n  hint: "),
            "{words:?}: {err}"
        );
    }
}

/// One that was lost uses nothing, and is not passed over.
#[test]
fn stats_of_what_does_not_run_say_so() {
    let world = World::new();
    world.image(CONFIG);
    for name in ["one", "two"] {
        start(&world, name, &[], "sleep 1000");
    }
    let about: serde_json::Value =
        serde_json::from_str(&ok(&world, &["inspect", "--json", "two"])).unwrap();
    let shim = parent(about["pid"].as_i64().unwrap());
    assert!(Command::new("kill").args(["-KILL", &shim]).status().unwrap().success());
    eventually("it is lost", || ok(&world, &["ps", "-a"]).contains("lost"));
    let (code, out, err) = world.says(&["stats", "two", "one"]);
    assert!(code == 1 && out.contains("one") && !out.contains("two"), "{out}{err}");
    let id = about["id"].as_str().unwrap();
    assert!(err.contains(&format!("error: container {id} is not running\n")), "{err}");
    let (code, out, err) = world.says(&["stats", "--json", "two"]);
    assert!(code == 1 && out == "[]\n" && err.contains("is not running"), "{out}{err}");
    assert!(!ok(&world, &["stats"]).contains("two"));
    ok(&world, &["rm", "-f", "one", "two"]);
}

/// The process that started another one.
fn parent(process: i64) -> String {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned()
}

/// A process that is there for a moment of each start is killed by whoever is quick enough.
#[test]
fn a_start_whose_process_is_killed_says_so() {
    let world = World::new();
    world.image(CONFIG);
    let words = ["run", "-q", "--gpus", "none", "oci:image", "true"];
    assert_eq!(world.says(&words).0, 0);
    for _ in 0..400 {
        let mut child = world.sconce(&words).stderr(Stdio::piped()).spawn().unwrap();
        let mut killed = false;
        while !killed && child.try_wait().unwrap().is_none() {
            killed = newer_than(child.id()).any(|process| {
                let name = std::fs::read_to_string(format!("/proc/{process}/comm"));
                let is_it = name.is_ok_and(|name| name.starts_with("youki:[1:INTER"));
                let pid = rustix::process::Pid::from_raw(process.cast_signed()).unwrap();
                is_it
                    && comes_of(process, child.id())
                    && rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok()
            });
        }
        let output = child.wait_with_output().unwrap();
        if killed && !output.status.success() {
            let (code, _, err) = texts(&output);
            let what = "error: the container could not be made: a process at work on it ended";
            assert!(code == 125 && err.contains(what) && err.contains("`dmesg`"), "{err}");
            assert!(!err.contains("BrokenChannel"), "{err}");
            return;
        }
    }
    panic!("none was caught");
}

/// Whether a process was started by another, or by one that was: those of other tests, and of others' containers, are not ours to kill.
fn comes_of(process: u32, ancestor: u32) -> bool {
    let parent = |process: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
    };
    std::iter::successors(Some(process), |process| parent(*process))
        .take(8)
        .any(|one| one == ancestor)
}

/// The processes that began after one.
fn newer_than(process: u32) -> impl Iterator<Item = u32> {
    let names = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(move |number| *number > process)
}
