//! Root inside with CAP_SYS_PTRACE takes over the process of an `exec` at its first instant, and has it do what it may.
//!
//! It reached the machine once: the process had all capabilities until its command was executed.

mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use world::World;

const CONFIG: &str = r#"{"Env": ["PATH=/usr/bin"]}"#;

/// How many commands are started before it.
const TRIES: usize = 60;

/// The capabilities that a process of ours may be seen with: a container's own (`docs/security.md`), CAP_SYS_PTRACE which
/// this one has, and CAP_SYS_RESOURCE, without which limits can't be set (linux/capability.h).
const MOST: u64 = {
    let own = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31];
    let more = [19, 24];
    let (mut bits, mut at) = (0, 0);
    while at < own.len() {
        bits |= 1 << own[at];
        at += 1;
    }
    bits | 1 << more[0] | 1 << more[1]
};

/// Builds a program into the folder `hunter`.
fn compile(world: &World, name: &str, source: &str) {
    let (program, text) = (world.path("hunter").join(name), world.path("source.c"));
    fs::write(&text, source).unwrap();
    let built = Command::new("cc").args(["-O1", "-w", "-o"]).args([program, text]).status();
    assert!(built.expect("a C compiler").success());
}

/// The first process was joined to the shim by a socket, which told who had made it: with that the shim's folders were taken.
#[test]
fn no_socket_inside_leads_to_the_shim() {
    for world in [World::new(), World::of_nobody()] {
        world.image(CONFIG);
        fs::create_dir(world.path("hunter")).unwrap();
        fs::set_permissions(world.path("hunter"), fs::Permissions::from_mode(0o777)).unwrap();
        compile(&world, "peers", include_str!("peers.c"));
        let run = |more: &[&str]| {
            let words = ["run", "-q", "--gpus", "none", "--cap-add", "SYS_PTRACE"];
            let image = ["-v", "./hunter:/hunter:ro", "oci:image", "/hunter/peers"];
            let (code, out, err) = world.says(&[&words, more, &image].concat());
            assert_eq!(code, 0, "{err}");
            out
        };
        assert_eq!(run(&[]), "0 of its own, 0 of others\n");
        let out = run(&["--security-opt", "seccomp=unconfined"]);
        assert!(out.ends_with(", 0 of others\n") && !out.starts_with("0 "), "{out}");
    }
}

/// A process of `exec` had the socket of its client: with that the client's descriptors were taken.
#[test]
fn no_socket_of_exec_leads_to_its_client() {
    for world in [World::new(), World::of_nobody()] {
        world.image(CONFIG);
        for name in ["flags", "hunter"] {
            fs::create_dir(world.path(name)).unwrap();
            fs::set_permissions(world.path(name), fs::Permissions::from_mode(0o777)).unwrap();
        }
        compile(&world, "clients", include_str!("clients.c"));
        let words = ["run", "-q", "-d", "--gpus", "none", "--name", "hostile", "--cap-add"];
        let more = ["SYS_PTRACE", "--security-opt", "seccomp=unconfined", "-v", "./flags:/flags"];
        let image = ["-v", "./hunter:/hunter:ro", "oci:image", "/hunter/clients"];
        let (code, _, err) = world.says(&[&words, &more[..], &image].concat());
        assert_eq!(code, 0, "{err}");
        let begun = Instant::now();
        while !world.path("flags/ready").exists() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it did not begin");
            std::thread::sleep(Duration::from_millis(20));
        }
        // A command that takes long to be found: its process has its descriptors until then.
        let path = format!("PATH={}/usr/bin", "/x:".repeat(30_000));
        for _ in 0..10 {
            let (code, _, err) = world.says(&["exec", "-e", &path, "hostile", "true"]);
            assert_eq!(code, 0, "{err}");
        }
        fs::write(world.path("flags/stop"), "").unwrap();
        let (_, _, err) = world.says(&["wait", "hostile"]);
        let (code, out, _) = world.says(&["logs", "hostile"]);
        assert_eq!((code, out.as_str()), (0, "some, 0 of others\n"), "{err}");
        world.says(&["rm", "-f", "hostile"]);
    }
}

/// What root inside sends in the first process's place is for nobody, and ends nothing.
#[test]
fn junk_on_the_first_processs_socket_is_ignored() {
    for world in [World::new(), World::of_nobody()] {
        world.image(CONFIG);
        fs::create_dir(world.path("hunter")).unwrap();
        fs::set_permissions(world.path("hunter"), fs::Permissions::from_mode(0o777)).unwrap();
        compile(&world, "junk", include_str!("junk.c"));
        let words = ["run", "-q", "--gpus", "none", "--cap-add", "SYS_PTRACE", "--security-opt"];
        let image =
            ["seccomp=unconfined", "-v", "./hunter:/hunter:ro", "oci:image", "/hunter/junk"];
        let (code, out, err) = world.says(&[&words[..], &image].concat());
        assert_eq!(code, 7, "{out}{err}");
    }
}

#[test]
fn a_process_of_exec_that_is_taken_over_reaches_nothing() {
    for (world, other) in [(World::new(), "1234"), (World::of_nobody(), "0")] {
        world.image(CONFIG);
        for name in ["flags", "hunter"] {
            fs::create_dir(world.path(name)).unwrap();
            fs::set_permissions(world.path(name), fs::Permissions::from_mode(0o777)).unwrap();
        }
        compile(&world, "hunter", include_str!("hunted.c"));
        let words = ["run", "-q", "-d", "--gpus", "none", "--name", "hostile", "--cap-add"];
        let more = ["SYS_PTRACE", "-v", "./flags:/flags", "-v", "./hunter:/hunter:ro", "oci:image"];
        let (code, _, err) = world.says(&[&words, &more[..], &["/hunter/hunter"]].concat());
        assert_eq!(code, 0, "{err}");
        let log = || fs::read_to_string(world.path("flags/log")).unwrap_or_default();
        let begun = Instant::now();
        while !log().contains("ready") {
            assert!(begun.elapsed() < Duration::from_secs(20), "it did not begin");
            std::thread::sleep(Duration::from_millis(20));
        }
        for number in 0..TRIES {
            let user = if number % 2 == 0 { "0" } else { other };
            let (code, _, err) = world.says(&["exec", "--user", user, "hostile", "true"]);
            assert_eq!(code, 0, "{err}");
        }
        let log = log();
        let mut taken = 0;
        for line in log.lines().skip(1).filter(|line| line.starts_with("1 ")) {
            let mut words = line.split(' ').skip(1);
            let bits = u64::from_str_radix(words.next().unwrap(), 16).unwrap();
            let mounted: i64 = words.next().unwrap().parse().unwrap();
            assert_eq!(bits & !MOST, 0, "more than the container's: {line}");
            assert_ne!(mounted, 0, "it may mount: {line}");
            assert_eq!(words.next(), Some("2"), "it has no filter: {line}");
            taken += 1;
        }
        println!("{taken} of {TRIES} were taken over");
        // The rest had begun, or ended, before it came to them.
        assert!(taken > TRIES / 12, "it took over {taken} of {TRIES}: {log}");
        let (code, _, err) = world.says(&["rm", "-f", "hostile"]);
        assert_eq!(code, 0, "{err}");
    }
}
