//! What is stopped answers nothing: a container that stops what joins it, and a shim that was stopped.

mod world;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use world::World;
use world::detached::{eventually, ok, start, worlds};

const CONFIG: &str = r#"{"Env": ["PATH=/usr/bin"]}"#;

/// How a process ends within so many seconds.
#[track_caller]
fn ends(child: &mut Child, seconds: u64) -> Option<i32> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if begun.elapsed() > Duration::from_secs(seconds) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it did not end within {seconds} seconds");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Stops each process that comes into the container, `/flags/stoppedN` says which, until that one is gone.
const HUNTER: &str = "n=1; while :; do
    i=2; while :; do
        i=$((i + 1)); kill -STOP $i 2>/dev/null && break; [ $i -gt 60 ] && i=2
    done
    : >/flags/stopped$n; while kill -0 $i 2>/dev/null; do :; done; : >/flags/gone$n; n=$((n + 1))
done";

/// A command that takes long to be found, so that its process is seen before it runs.
fn long_path() -> String {
    format!("PATH={}/usr/bin", "/x:".repeat(30_000))
}

/// Root inside can keep a command of `exec` from ever starting; it can't keep its caller.
#[test]
fn a_start_that_the_container_stops_can_be_interrupted_and_is_named() {
    for (world, users) in worlds().into_iter().zip([&["0", "1234"][..], &["0"]]) {
        world.image(CONFIG);
        fs::create_dir(world.path("flags")).unwrap();
        fs::set_permissions(world.path("flags"), fs::Permissions::from_mode(0o777)).unwrap();
        start(&world, "hostile", &["-v", "./flags:/flags"], HUNTER);
        let path = long_path();
        let mut count = 0;
        for user in users {
            let words =
                ["exec", "--user", user, "-e", &path, "hostile", "sh", "-c", "echo begun; exit 0"];
            for signal in [Some(Signal::INT), Some(Signal::TERM), Some(Signal::HUP), None] {
                count += 1;
                let mut exec = world.sconce(&words);
                let mut exec = exec.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
                let flag = |name: &str| world.path("flags").join(format!("{name}{count}"));
                eventually("its process is stopped", || flag("stopped").exists());
                if let Some(signal) = signal {
                    std::thread::sleep(Duration::from_millis(100));
                    kill_process(Pid::from_child(&exec), signal).unwrap();
                }
                let code = ends(&mut exec, 12);
                let mut said = String::new();
                exec.stdout.take().unwrap().read_to_string(&mut said).unwrap();
                assert_eq!(said, "", "it was stopped before its command");
                exec.stderr.take().unwrap().read_to_string(&mut said).unwrap();
                match signal {
                    Some(signal) => assert_eq!(code, Some(128 + signal.as_raw()), "{said}"),
                    None => {
                        let what =
                            "the container stopped the process of exec before its command started";
                        assert!(code == Some(125) && said.contains(what), "{code:?} {said}");
                    }
                }
                eventually("nothing of it stays inside", || flag("gone").exists());
            }
        }
        ok(&world, &["rm", "-f", "hostile"]);
    }
}

/// The shim of a container, which goes by its id.
fn shim_of(world: &World, name: &str) -> Pid {
    let about: serde_json::Value =
        serde_json::from_str(&ok(world, &["inspect", "--json", name])).unwrap();
    let id = about["id"].as_str().unwrap();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let comm = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        if comm.trim().strip_prefix("sconce-").is_some_and(|start| id.starts_with(start)) {
            return Pid::from_raw(process.file_name().to_string_lossy().parse().unwrap()).unwrap();
        }
    }
    panic!("no shim of {name}");
}

/// Shims that are stopped while it lives: one that stays so could not be removed.
struct Stopped<'a>(&'a [Pid]);

impl<'a> Stopped<'a> {
    fn all(shims: &'a [Pid]) -> Self {
        shims.iter().for_each(|shim| kill_process(*shim, Signal::STOP).unwrap());
        Self(shims)
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|shim| kill_process(*shim, Signal::CONT).unwrap());
    }
}

/// Who waits for a container whose shim is stopped meanwhile is told, once.
#[test]
fn who_waits_for_a_shim_that_is_stopped_is_told() {
    let world = World::new();
    world.image(CONFIG);
    fs::create_dir(world.path("flags")).unwrap();
    start(&world, "stuck", &["-v", "./flags:/flags"], "echo begun; sleep 1000");
    let run = ["run", "-q", "--gpus", "none", "--name", "front", "oci:image", "sleep", "1000"];
    let waiting = [
        &["logs", "-f", "stuck"][..],
        &["wait", "stuck"],
        &["attach", "stuck"],
        &["exec", "stuck", "sh", "-c", ": >/flags/exec; sleep 1000"],
        &run,
    ];
    let mut children: Vec<Child> = waiting
        .iter()
        .enumerate()
        .map(|(number, words)| {
            let file = fs::File::create(world.path(&format!("err{number}"))).unwrap();
            world.sconce(words).stdout(Stdio::null()).stderr(file).spawn().unwrap()
        })
        .collect();
    eventually("the command runs", || world.path("flags/exec").exists());
    eventually("the other runs", || ok(&world, &["ps"]).contains("front"));
    std::thread::sleep(Duration::from_millis(500));
    let shims = [shim_of(&world, "stuck"), shim_of(&world, "front")];
    let stopped = Stopped::all(&shims);
    let said = |number: usize| fs::read_to_string(world.path(&format!("err{number}"))).unwrap();
    for (number, words) in waiting.iter().enumerate() {
        let (name, shim) = if number == 4 { ("front", shims[1]) } else { ("stuck", shims[0]) };
        let shim = shim.as_raw_nonzero();
        let word = format!("the shim of {name}, process {shim}, is stopped: ");
        eventually(&format!("{words:?} says so"), || said(number).contains(&word));
        assert!(said(number).contains(&format!("`kill -CONT {shim}`")), "{}", said(number));
    }
    std::thread::sleep(Duration::from_secs(3));
    drop(stopped);
    ok(&world, &["kill", "stuck", "front"]);
    for (number, child) in children.iter_mut().enumerate() {
        ends(child, 10);
        assert_eq!(said(number).matches("is stopped").count(), 1, "once: {}", said(number));
    }
    ok(&world, &["rm", "stuck"]);
}

/// A command that comes while its container ends hears that, and not what the kernel said.
#[test]
fn exec_in_a_container_that_ends_says_so() {
    for world in worlds() {
        world.image(CONFIG);
        for number in 0..15 {
            start(&world, "short", &[], "sleep 0.2");
            let code_of = |code, err: &str| {
                let known = ["is not running", "is ending", "ended before it was done"];
                let said =
                    !matches!(code, 1 | 125) || known.iter().any(|words| err.contains(words));
                assert!(said, "{number}: {code} {err}");
                code
            };
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let mut exec = world.sconce(&["exec", "short", "true"]);
                    std::thread::spawn(move || {
                        let mut all = Vec::new();
                        loop {
                            let said = world::texts(&exec.output().unwrap());
                            all.push((said.0, said.2));
                            if matches!(said.0, 1 | 125) || all.len() > 200 {
                                return all;
                            }
                        }
                    })
                })
                .collect();
            let all = threads.into_iter().flat_map(|thread| thread.join().unwrap());
            let last: Vec<i32> = all.map(|(code, err)| code_of(code, &err)).collect();
            assert!(last.iter().any(|code| matches!(code, 1 | 125)));
            ok(&world, &["rm", "-f", "short"]);
        }
    }
}

/// A command that runs may be stopped by the container, or hear no signal: its caller leaves by the third, and is told what is left.
#[test]
fn the_third_signal_leaves_what_does_not_end() {
    for world in worlds() {
        world.image(CONFIG);
        fs::create_dir(world.path("flags")).unwrap();
        fs::set_permissions(world.path("flags"), fs::Permissions::from_mode(0o777)).unwrap();
        let deaf = "trap '' INT TERM HUP QUIT; while :; do sleep 0.1; done";
        start(&world, "deaf", &["-v", "./flags:/flags"], deaf);
        for (number, signal) in [Signal::TERM, Signal::INT, Signal::HUP].into_iter().enumerate() {
            let script =
                format!("echo $$ >/flags/part; mv /flags/part /flags/{number}; kill -STOP $$");
            let exec = ["exec", "deaf", "sh", "-c", &script.replace("mv", "ln")];
            for words in [&exec[..], &["attach", "deaf"]] {
                let is_exec = words[0] == "exec";
                // Who is attached leaves by the first, as when a terminal is closed.
                if !is_exec && signal == Signal::HUP {
                    continue;
                }
                let mut client = world.sconce(words);
                // A file: what runs on has a pipe for as long.
                let errors = fs::File::create(world.path("errors")).unwrap();
                let mut client = client.stdout(Stdio::null()).stderr(errors).spawn().unwrap();
                let flag = world.path("flags").join(number.to_string());
                if is_exec {
                    eventually("the command runs", || flag.exists());
                    fs::remove_file(world.path("flags/part")).unwrap();
                }
                std::thread::sleep(Duration::from_millis(500));
                for _ in 0..3 {
                    assert!(client.try_wait().unwrap().is_none(), "it left before");
                    kill_process(Pid::from_child(&client), signal).unwrap();
                    std::thread::sleep(Duration::from_millis(200));
                }
                assert_eq!(ends(&mut client, 10), Some(128 + signal.as_raw()), "{words:?}");
                let said = fs::read_to_string(world.path("errors")).unwrap();
                if !is_exec {
                    assert!(said.contains("left after three signals: deaf runs on"), "{said}");
                    continue;
                }
                let process = fs::read_to_string(&flag).unwrap();
                let process = process.trim();
                let left = format!("the command runs on in deaf, as process {process}");
                assert!(said.contains(&left), "{said}");
                // What it says to do is done.
                let hint =
                    said.split('`').nth(1).unwrap().strip_prefix("sconce exec deaf ").unwrap();
                let kill = hint.strip_prefix("sh -c ").unwrap().trim_matches('\'');
                ok(&world, &["exec", "deaf", "sh", "-c", kill]);
                let gone = format!("! kill -0 {process} 2>/dev/null");
                eventually("it is gone", || {
                    world.says(&["exec", "deaf", "sh", "-c", &gone]).0 == 0
                });
            }
        }
        // Who hears its first signals is not left.
        let mut exec = world.sconce(&[
            "exec",
            "deaf",
            "sh",
            "-c",
            "trap 'exit 7' TERM; : >/flags/hears; while :; do sleep 0.1; done",
        ]);
        let mut exec = exec.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        eventually("the command runs", || world.path("flags/hears").exists());
        for _ in 0..3 {
            let _ = kill_process(Pid::from_child(&exec), Signal::TERM);
        }
        assert_eq!(ends(&mut exec, 10), Some(7));
        ok(&world, &["rm", "-f", "deaf"]);
    }
}

/// Whoever reads what a command of `exec` says sees the end when its caller leaves it, though the command goes on.
#[test]
fn who_leaves_a_command_takes_its_pipe_along() {
    for world in worlds() {
        world.image(CONFIG);
        start(&world, "long", &[], "sleep 1000");
        let script = "trap '' TERM; echo begun; while :; do sleep 1; done";
        let mut exec = world.sconce(&["exec", "long", "sh", "-c", script]);
        let mut exec = exec.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = exec.stdout.take().unwrap();
        let mut begun = [0; 6];
        said.read_exact(&mut begun).unwrap();
        assert_eq!(&begun, b"begun\n");
        // On a busy machine two may become one.
        eventually("three signals leave it", || {
            let _ = kill_process(Pid::from_child(&exec), Signal::TERM);
            std::thread::sleep(Duration::from_millis(300));
            exec.try_wait().unwrap().is_some()
        });
        let (done, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(said.read_to_end(&mut Vec::new()).is_ok()));
        assert_eq!(wait.recv_timeout(Duration::from_secs(5)), Ok(true), "the pipe is still open");
        ok(&world, &["rm", "-f", "long"]);
    }
}
