//! `sconce attach`: who looks at a running container, types into it and leaves it.

#[allow(dead_code)]
#[path = "../../run/tests/terminal.rs"]
mod terminal;
mod world;

use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use terminal::Terminal;
use world::World;
use world::detached::{eventually, ok, start, worlds};

const CONFIG: &str = r#"{"Env": ["PATH=/usr/bin", "COLOUR=red"]}"#;

/// Who goes away in the middle of output takes nobody else's place: the others look on, and the container goes on.
#[test]
fn one_that_leaves_holds_up_nobody() {
    let world = World::new();
    world.image(CONFIG);
    start(&world, "busy", &["-i"], "while :; do echo and so on; done");
    let attach = || {
        let mut command = world.sconce(&["attach", "busy"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    for _ in 0..8 {
        let mut leaves = attach();
        let mut first = [0; 4096];
        leaves.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        let mut stays = attach();
        let mut seen = stays.stdout.take().unwrap();
        let count = std::sync::Arc::new(AtomicU64::new(0));
        let counted = std::sync::Arc::clone(&count);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 64 << 10];
            while seen.read(&mut buffer).is_ok_and(|length| length > 0) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        eventually("the second looks on", || count.load(Ordering::Relaxed) > 0);
        drop(leaves.stdout.take());
        drop(leaves.stdin.take());
        std::thread::sleep(Duration::from_millis(100));
        let before = count.load(Ordering::Relaxed);
        eventually("output goes on", || count.load(Ordering::Relaxed) > before + 5);
        for mut client in [leaves, stays] {
            client.kill().unwrap();
            client.wait().unwrap();
        }
        reader.join().unwrap();
    }
    let begun = Instant::now();
    ok(&world, &["rm", "-f", "busy"]);
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(fs::read_dir(world.path("store/containers")).unwrap().count(), 0);
}

const LOUD: &str = "while :; do echo and so on, and so on, and so on, and so on, and so on; done";

/// A terminal passes every key through.
fn is_raw(screen: &Terminal) -> bool {
    let now = rustix::termios::tcgetattr(&screen.slave).unwrap();
    !now.local_modes.contains(rustix::termios::LocalModes::ECHO)
}

/// Who does not read holds up the container for a moment, and is told that it goes on alone.
#[test]
fn one_that_does_not_read_is_told_that_it_is_let_go() {
    let world = World::new();
    world.image(CONFIG);
    let said =
        "error: the container's output was not read for a second, and goes on without this one";
    for (name, options) in [("pipe", &["-i"][..]), ("shown", &["-i", "-t"])] {
        start(&world, name, options, LOUD);
        let hint = format!("`sconce attach {name}` joins it again, `sconce logs -f {name}`");
        if name == "pipe" {
            let mut command = world.sconce(&["attach", name]);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut client = command.spawn().unwrap();
            let mut first = [0; 4096];
            client.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
            ends(&mut client, 125);
            let mut err = String::new();
            client.stderr.take().unwrap().read_to_string(&mut err).unwrap();
            assert!(err.contains(said) && err.contains(&hint), "{err}");
        } else {
            let mut screen = Terminal::start(world.sconce(&["attach", name]), (20, 80));
            eventually("the terminal is raw", || is_raw(&screen));
            eventually("it is given back", || !is_raw(&screen));
            screen.expect(said);
            screen.expect(&hint);
            assert_eq!(screen.end(), 125);
        }
        ok(&world, &["exec", name, "true"]);
        ok(&world, &["rm", "-f", name]);
    }
}

/// Waits twenty seconds at most for a program's end.
#[track_caller]
fn ends(client: &mut std::process::Child, code: i32) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        if let Some(status) = client.try_wait().unwrap() {
            return assert_eq!(status.code(), Some(code));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    client.kill().unwrap();
    client.wait().unwrap();
    panic!("it did not end");
}

/// Whose output nobody reads ends by signals all the same, and within seconds.
#[test]
fn signals_end_those_whose_output_nobody_reads() {
    use rustix::process::{Pid, Signal, kill_process};
    let world = World::new();
    world.image(CONFIG);
    start(&world, "there", &["-i", "-t"], "exec sleep 600");
    let exec = ["exec", "there", "sh", "-c", LOUD];
    let exec_shown = ["exec", "-it", "there", "sh", "-c", LOUD];
    let run = ["run", "-q", "--gpus", "none", "oci:image", "sh", "-c", LOUD];
    let run_shown = ["run", "-q", "-it", "--gpus", "none", "oci:image", "sh", "-c", LOUD];
    for (words, signal) in [(&exec[..], Signal::TERM), (&run, Signal::TERM), (&run, Signal::INT)] {
        // One with a name: a pipe without is handed on.
        let fifo = world.path("fifo");
        let _ = fs::remove_file(&fifo);
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        )
        .unwrap();
        let end = fs::File::options().read(true).write(true).open(&fifo).unwrap();
        let mut command = world.sconce(words);
        let mut client = command.stdin(Stdio::null()).stdout(end).spawn().unwrap();
        std::thread::sleep(Duration::from_secs(2));
        kill_process(Pid::from_child(&client), signal).unwrap();
        ends(&mut client, 128 + signal.as_raw());
    }
    for (words, signal) in [
        (&exec_shown[..], Signal::TERM),
        (&exec_shown, Signal::HUP),
        (&run_shown, Signal::TERM),
        (&run_shown, Signal::HUP),
    ] {
        let mut screen = Terminal::start(world.sconce(words), (20, 80));
        std::thread::sleep(Duration::from_secs(2));
        kill_process(Pid::from_child(&screen.child), signal).unwrap();
        ends(&mut screen.child, 128 + signal.as_raw());
        assert!(!is_raw(&screen), "{words:?}");
    }
    // Of one who looks, before it is let go.
    ok(&world, &["rm", "-f", "there"]);
    start(&world, "loud", &["-i", "-t"], LOUD);
    for signal in [Signal::TERM, Signal::HUP] {
        let mut screen = Terminal::start(world.sconce(&["attach", "loud"]), (20, 80));
        eventually("the terminal is raw", || is_raw(&screen));
        std::thread::sleep(Duration::from_millis(300));
        kill_process(Pid::from_child(&screen.child), signal).unwrap();
        ends(&mut screen.child, 128 + signal.as_raw());
    }
    ok(&world, &["rm", "-f", "loud"]);
    assert_eq!(ok(&world, &["ps", "--all", "--ids"]), "");
}

/// Whose window is closed ends as by HUP, also where the signal goes to another process.
#[test]
fn a_closed_terminal_is_left() {
    let world = World::new();
    world.image(CONFIG);
    let talks = "while :; do echo and so on; sleep 0.1; done";
    start(&world, "talks", &["-i", "-t"], talks);
    for words in [
        &["attach", "talks"][..],
        &["exec", "-it", "talks", "sh", "-c", talks],
        &["run", "-q", "-it", "--gpus", "none", "oci:image", "sh", "-c", talks],
    ] {
        let mut screen = Terminal::start(world.sconce(words), (20, 80));
        screen.expect("and so on");
        ends(&mut screen.close(), 128 + 1);
    }
    assert_eq!(ok(&world, &["ps", "--ids"]).lines().count(), 1);
    ok(&world, &["rm", "-f", "talks"]);
}

/// Also to a command that is slow to read.
#[test]
fn input_of_who_attaches_reaches_the_command() {
    for world in worlds() {
        world.image(CONFIG);
        let length = 2_000_000;
        start(&world, "slow", &["-i"], &format!("sleep 3; head -c {length} | wc -c"));
        fs::write(world.path("input"), vec![b'x'; length]).unwrap();
        let mut attach = world.sconce(&["attach", "slow"]);
        attach.stdin(fs::File::open(world.path("input")).unwrap());
        let output = attach.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{length}\n"));
        ok(&world, &["rm", "slow"]);
        assert_eq!(ok(&world, &["ps", "--all", "--ids"]), "");
    }
}

/// The terminal is the container's own: who attaches brings the size of the window, may leave and
/// come back.
#[test]
fn a_terminal_is_attached_left_and_attached_again() {
    for world in worlds() {
        world.image(CONFIG);
        start(&world, "shell", &["-i", "-t"], "exec sh");
        let mut screen = Terminal::start(world.sconce(&["attach", "shell"]), (33, 77));
        screen.type_in(b"stty size\r");
        screen.expect("33 77");
        screen.resize(44, 99);
        eventually("the window's new size arrives", || {
            screen.type_in(b"stty size; echo so far\r");
            screen.expect("so far\r\n");
            screen.expect("so far\r\n").contains("44 99")
        });
        // Ctrl-P alone is the container's.
        screen.type_in(b"\x10two\r");
        screen.expect("two: not found");
        screen.type_in(b"\x10\x11");
        screen.expect("shell runs on");
        assert_eq!(screen.end(), 0);
        assert!(ok(&world, &["ps"]).contains("shell"));

        let mut screen = Terminal::start(world.sconce(&["attach", "shell"]), (20, 50));
        screen.type_in(b"stty size\r");
        screen.expect("20 50");
        screen.type_in(b"exit 4\r");
        assert_eq!(screen.end(), 4);
        ok(&world, &["rm", "shell"]);

        start(&world, "execd", &[], "sleep 600");
        let mut screen = Terminal::start(world.sconce(&["exec", "-it", "execd", "sh"]), (25, 70));
        screen.type_in(b"stty size\r");
        screen.expect("25 70");
        screen.type_in(b"exit 9\r");
        assert_eq!(screen.end(), 9);
        ok(&world, &["rm", "-f", "execd"]);
        assert_eq!(ok(&world, &["ps", "--all", "--ids"]), "");
    }
}
