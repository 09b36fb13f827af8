//! Containers that run on without who was attached to them, and what is said of those that have ended.

#[allow(dead_code)]
#[path = "../../run/tests/terminal.rs"]
mod terminal;
mod world;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use rustix::process::{Pid, Signal, kill_process};
use terminal::Terminal;
use world::World;
use world::detached::{eventually, ok, start, worlds};

const CONFIG: &str = r#"{"Env": ["PATH=/usr/bin"]}"#;

/// What `ps` knows of a container.
fn about(world: &World, name: &str) -> serde_json::Value {
    let all: Vec<serde_json::Value> =
        serde_json::from_str(&ok(world, &["ps", "-a", "--json"])).unwrap();
    all.into_iter().find(|one| one["name"] == name).unwrap()
}

/// Whether a process handles a signal (proc_pid_status(5)).
fn catches(process: u32, signal: Signal) -> bool {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << (signal.as_raw() - 1)) != 0
}

/// A closed window, or a lost connection, is a HUP to who is attached.
#[test]
fn a_terminal_that_is_closed_leaves_the_container() {
    for world in worlds() {
        world.image(CONFIG);
        start(
            &world,
            "shell",
            &["-i", "-t"],
            "trap 'echo caught' TERM; while :; do echo here; sleep 0.1; done",
        );
        for (signal, code) in [(Signal::HUP, 129), (Signal::TERM, 143), (Signal::INT, 130)] {
            let mut screen = Terminal::start(world.sconce(&["attach", "shell"]), (20, 50));
            screen.expect("here");
            kill_process(Pid::from_child(&screen.child), signal).unwrap();
            assert_eq!(screen.end(), code, "{signal:?}");
            screen.expect("shell runs on");
        }
        // Nothing of it was the command's.
        assert_eq!(about(&world, "shell")["status"], "running");
        assert!(!ok(&world, &["logs", "shell"]).contains("caught"));
        ok(&world, &["rm", "-f", "shell"]);

        // Without a terminal all others are passed on.
        start(
            &world,
            "plain",
            &[],
            "trap 'echo caught' TERM; echo up; while :; do sleep 0.1; done",
        );
        eventually("it has begun", || ok(&world, &["logs", "plain"]).contains("up"));
        let mut first = {
            let mut attach = world.sconce(&["attach", "plain"]);
            let attach = attach.stdout(std::process::Stdio::null()).spawn().unwrap();
            eventually("it listens", || catches(attach.id(), Signal::TERM));
            attach
        };
        kill_process(Pid::from_child(&first), Signal::TERM).unwrap();
        eventually("it has heard", || ok(&world, &["logs", "plain"]).contains("caught"));
        kill_process(Pid::from_child(&first), Signal::HUP).unwrap();
        assert_eq!(first.wait().unwrap().code(), Some(129));
        assert_eq!(about(&world, "plain")["status"], "running");
        ok(&world, &["rm", "-f", "plain"]);
    }
}

#[test]
fn a_command_that_is_not_there_has_ended_and_was_not_lost() {
    for world in worlds() {
        world.image(CONFIG);
        for (name, command, code) in [("none", "nosuch", 127), ("folder", "/usr", 126)] {
            let words = ["run", "-d", "--gpus", "none", "--name", name, "oci:image", command];
            assert_eq!(world.says(&words).0, code);
            let about = about(&world, name);
            assert_eq!((&about["status"], &about["exit_code"]), (&"exited".into(), &code.into()));
            assert!(about["error"].as_str().unwrap().contains(command), "{about}");
            assert!(ok(&world, &["ps", "-a"]).contains(&format!("exited ({code})")));
            assert_eq!(ok(&world, &["wait", name]).trim(), code.to_string());
            ok(&world, &["rm", name]);
        }
    }
}

/// The bytes of a link mean what they mean to whoever reads them.
#[test]
fn cp_leaves_links_as_they_are() {
    for world in worlds() {
        world.image(CONFIG);
        let long = "/x//y/".repeat(30);
        fs::create_dir(world.path("tree")).unwrap();
        for (name, target) in [("a", "/x//y/./z/"), ("b", "./../c//"), ("c", &long)] {
            symlink(target, world.path("tree").join(name)).unwrap();
        }
        start(&world, "one", &[], "sleep 1000");
        ok(&world, &["cp", "tree", "one:/tmp/in"]);
        let inside =
            ok(&world, &["exec", "one", "readlink", "/tmp/in/a", "/tmp/in/b", "/tmp/in/c"]);
        assert_eq!(inside, format!("/x//y/./z/\n./../c//\n{long}\n"));
        ok(&world, &["cp", "one:/tmp/in", "out"]);
        for (name, target) in [("a", "/x//y/./z/"), ("b", "./../c//"), ("c", &long)] {
            let there = fs::read_link(world.path("out").join(name)).unwrap();
            assert_eq!(there.as_os_str().as_bytes(), target.as_bytes());
        }
        let (code, _, err) = world.says(&["cp", "one:/proc", "out"]);
        assert!(code == 1 && err.contains("/proc is the kernel's view of all processes"), "{err}");
        ok(&world, &["rm", "-f", "one"]);
    }
}

#[test]
fn what_turns_the_direction_of_writing_is_not_shown() {
    let world = World::new();
    world.image(CONFIG);
    start(&world, "one", &["-l", "a=b\u{202e}c"], "sleep 1000; : \u{2066}\u{202e}");
    for words in [&["ps", "--no-trunc"][..], &["ps", "--json"], &["inspect", "one"]] {
        let out = ok(&world, words);
        let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        assert!(out.contains("sleep 1000") && !out.contains(turns), "{out:?}");
        assert_eq!(out.contains("\\u202e"), words != ["ps", "--no-trunc"]);
    }
    ok(&world, &["rm", "-f", "one"]);
}

/// Where the store lies is nothing that a container need know.
#[test]
fn the_first_process_does_not_say_where_the_store_lies() {
    for world in worlds() {
        world.image(CONFIG);
        start(&world, "one", &[], "cat /proc/1/cmdline; echo; sleep 1000");
        eventually("it has written", || ok(&world, &["logs", "one"]).contains('\n'));
        let said = ok(&world, &["logs", "one"]);
        assert!(said.starts_with("sconce-init") && !said.contains('/'), "{said:?}");
        ok(&world, &["rm", "-f", "one"]);
    }
}

/// What a start and later requests have read of the program is given back, also where the command never stops writing.
#[test]
fn what_waits_beside_a_command_takes_little_memory() {
    let most = 8_000_000;
    for world in worlds() {
        world.image(CONFIG);
        start(&world, "sleeps", &[], "sleep 1000");
        start(&world, "writes", &[], "while :; do echo here; sleep 0.1; done");
        ok(&world, &["exec", "sleeps", "true"]);
        for name in ["sleeps", "writes"] {
            let first = about(&world, name)["pid"].as_u64().unwrap();
            let status = fs::read_to_string(format!("/proc/{first}/status")).unwrap();
            let shim = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim();
            let held = || proportional(&first.to_string()) + proportional(shim);
            eventually(&format!("{name} holds {} bytes", held()), || held() < most);
        }
        ok(&world, &["rm", "-f", "sleeps", "writes"]);
    }
}

/// A process's own memory and its share of what others have mapped as well (proc(5), Pss), in bytes.
fn proportional(process: &str) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}
