//! Containers on this machine, started as root and as ordinary users.

#[allow(dead_code)]
mod terminal;
#[allow(dead_code)]
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use terminal::Terminal;
use world::{As, World, eventually, processes_with, texts};

const ALL: [As; 3] = [As::Root, As::Nobody, As::Mapped];

#[test]
fn the_command_and_its_status() {
    for who in ALL {
        let world = World::new(who);
        assert_eq!(world.check(&[], "id -u; id -g; pwd; echo $HOME", 0), "0\n0\n/\n/root\n");
        world.check(&[], "exit 3", 3);
        world.check(&[], "kill -TERM $$", 128 + 15);
        world.check(&["-w=/some/deep"], "test $(pwd) = /some/deep", 0);
        for (command, code, words) in [
            ("no-such-program", 127, "was not found in the image"),
            ("/etc/passwd", 126, "cannot be executed"),
            ("not-executable", 126, "cannot be executed"),
            ("/no/such/path", 127, "was not found in the image"),
        ] {
            let output = world.command(&[], &[command]).output().expect("started");
            let (_, err) = texts(&output);
            assert_eq!(output.status.code(), Some(code), "{command}: {err}");
            assert!(err.contains(words), "{err}");
        }
    }
}

#[test]
fn the_root_can_be_written_and_the_image_is_not() {
    for who in ALL {
        let world = World::new(who);
        world.check(&[], "echo changed > /etc/passwd; rm /usr/bin/head; mkdir /new", 0);
        let passwd = fs::read_to_string(world.path("root/etc/passwd")).expect("passwd");
        assert!(passwd.starts_with("root:"), "{passwd}");
        assert!(world.path("root/usr/bin/head").exists());
        assert!(!world.path("root/new").exists());
        world.check(&["--read-only"], "touch /new 2>/dev/null && exit 9; touch /dev/shm/x", 0);
    }
}

#[test]
fn changes_can_be_kept() {
    for who in ALL {
        let world = World::new(who);
        let keep = world.path("kept");
        world.check(&[&format!("--keep={}", keep.display())], "mkdir /new; echo hi > /new/file", 0);
        assert_eq!(fs::read_to_string(keep.join("new/file")).expect("kept"), "hi\n");
    }
}

#[test]
fn volumes_files_and_folders() {
    for who in ALL {
        let world = World::new(who);
        fs::create_dir(world.path("data")).expect("data");
        fs::write(world.path("data/in"), "in\n").expect("in");
        fs::write(world.path("one"), "one\n").expect("one");
        world.give("data");
        world.give("one");
        let options = ["-v=./data:/data", "-v=./one:/etc/one:ro", "-v=./missing/here:/made"];
        let script = "cat /data/in /etc/one; echo out > /data/out; echo m > /made/m
            echo x 2>/dev/null > /etc/one && exit 9; exit 0";
        assert_eq!(world.check(&options, script, 0), "in\none\n");
        assert_eq!(fs::read_to_string(world.path("data/out")).expect("out"), "out\n");
        assert_eq!(fs::read_to_string(world.path("missing/here/m")).expect("m"), "m\n");
        assert_eq!(fs::read_to_string(world.path("one")).expect("one"), "one\n");
    }
}

#[test]
fn what_a_training_job_needs() {
    for who in ALL {
        let world = World::new(who);
        // Shared memory far above Docker's 64 MB, and a name that resolves.
        let script = "df -k /dev/shm | tail -n 1; grep() { while read l; do case $l in
            *$1*) echo yes; return;; esac; done; }; grep $(hostname) < /etc/hosts; cat /etc/hostname";
        let out = world.check(&[], script, 0);
        let blocks: u64 =
            out.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a size");
        assert!(blocks >= 256 << 10, "{out}");
        assert!(out.contains("\nyes\n"), "{out}");
        // Locked memory and stack are as high as the machine lets them be.
        let out = world.check(&[], "ulimit -s; ulimit -Hl; ulimit -l", 0);
        let limits: Vec<&str> = out.lines().collect();
        assert_eq!(limits.get(1), limits.get(2), "{out}");
        assert!(matches!(limits.first(), Some(&("65536" | "unlimited"))), "{out}");
    }
}

#[test]
fn it_is_separate_from_the_machine() {
    for who in ALL {
        let world = World::new(who);
        let script = "test $$ = 2 || exit 1      # process 1 is the reaper
            test -e /proc/3 && exit 2
            mknod /node c 1 3 2>/dev/null && exit 3
            mount -t tmpfs none /tmp 2>/dev/null && exit 4
            echo 1 2>/dev/null > /proc/sys/vm/drop_caches && exit 5
            hostname other 2>/dev/null && exit 6
            cat /proc/1/environ 2>/dev/null && exit 7
            ls /proc/1/exe /proc/1/fd >/dev/null 2>&1 && exit 8
            ls /dev/pts /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty >/dev/null";
        world.check(&[], script, 0);
    }
}

#[test]
fn device_edits_are_applied() {
    for who in ALL {
        let world = World::new(who);
        let edit = format!(
            r#"--edit={{"env":["DEVICE=yes"],"deviceNodes":[{{"path":"/dev/thing","hostPath":"/dev/null"}}],
            "mounts":[{{"hostPath":"{}","containerPath":"/opt/thing"}}]}}"#,
            world.path("root/etc").display()
        );
        let script = "echo $DEVICE; echo gone > /dev/thing; test -c /dev/thing; cat /opt/thing/group | head -n 1
            echo x 2>/dev/null > /opt/thing/group && exit 9; exit 0";
        assert_eq!(world.check(&[&edit], script, 0), "yes\nroot:x:0:\n");
    }
}

#[test]
fn no_network_is_loopback_alone() {
    for who in ALL {
        let world = World::new(who);
        let out = world.check(&["--none"], "cat /proc/net/dev | tail -n +3", 0);
        assert_eq!(out.lines().count(), 1, "{out}");
        assert!(out.trim_start().starts_with("lo:"), "{out}");
        let output = world.script(&["--none", "-p=8080:80"], "true").output().expect("started");
        assert_eq!(output.status.code(), Some(125));
        assert!(texts(&output).1.contains("has no ports"));
    }
}

#[test]
fn users_of_the_image() {
    let world = World::new(As::Root);
    let out = world.check(&["-u=ann"], "id -u; id -g; id -G; echo $HOME", 0);
    assert_eq!(out, "1000\n1000\n1000 44\n/home/ann\n");
    // A user the image does not know: a home to write to, and an entry that getpwuid finds.
    let script = "id -u; id -g; echo $HOME; touch $HOME/x; id -un";
    assert_eq!(world.check(&["-u=5:6"], script, 0), "5\n6\n/home/5\nuser5\n");
    world.check(&["-u=ann"], "touch /etc/x 2>/dev/null && exit 9; touch /tmp/x", 0);
    let output = world.script(&["-u=eve"], "true").output().expect("started");
    assert!(texts(&output).1.contains("the image has no user 'eve'"));
    let world = World::new(As::Nobody);
    let output = world.script(&["-u=ann"], "true").output().expect("started");
    assert_eq!(output.status.code(), Some(125));
    assert!(texts(&output).1.contains("/etc/subuid"), "{}", texts(&output).1);
}

#[test]
fn pipes_pass_through() {
    for who in ALL {
        let world = World::new(who);
        let mut child = world
            .script(&["-i"], "cat; echo err >&2")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut stdin = child.stdin.take().expect("stdin");
        let sent = vec![b'x'; 300_000];
        let thread = std::thread::spawn(move || stdin.write_all(&sent));
        let output = child.wait_with_output().expect("ended");
        thread.join().expect("joined").expect("written");
        assert_eq!(output.stdout.len(), 300_000);
        assert!(texts(&output).1.ends_with("err\n"));
        // Without -i there is no input to wait for.
        assert_eq!(world.check(&[], "cat; echo done", 0), "done\n");
    }
}

#[test]
fn output_can_be_thrown_away() {
    for who in ALL {
        let world = World::new(who);
        let mut command = world.script(&[], "echo out && echo err >&2");
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.expect("started").success(), "{who:?}");
    }
}

/// Most machines have cgroup v2 and nothing else; this one may have both.
#[test]
fn where_cgroup_v2_is_alone() {
    for who in ALL {
        let world = World::new(who);
        let command = world.command(&[], &["sh", "-c", "echo in; ls /sys/fs/cgroup | head -n 1"]);
        let mut alone = std::process::Command::new("unshare");
        let only_v2 =
            "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"";
        alone.args(["--mount", "sh", "-c", only_v2, "sh"]).arg(command.get_program());
        alone.args(command.get_args()).current_dir(world.path(""));
        let output = alone.output().expect("started");
        let (out, err) = texts(&output);
        assert!(output.status.success() && out.starts_with("in\n"), "{who:?}: {out}{err}");
    }
}

#[test]
fn signals_reach_the_command() {
    for who in ALL {
        let world = World::new(who);
        for (signal, number) in [("TERM", 15), ("INT", 2), ("USR1", 10), ("37", 37)] {
            let script = format!(
                "trap 'echo got; exit 4{number}' {signal}; echo up; while :; do sleep 0.05; done"
            );
            let mut child =
                world.script(&[], &script).stdout(Stdio::piped()).spawn().expect("started");
            let mut out = child.stdout.take().expect("stdout");
            let mut up = [0; 3];
            out.read_exact(&mut up).expect("up");
            let sent = std::process::Command::new("kill")
                .args([format!("-{number}"), child.id().to_string()])
                .status();
            assert!(sent.expect("kill").success());
            let mut rest = String::new();
            out.read_to_string(&mut rest).expect("rest");
            assert_eq!(rest, "got\n");
            let code = child.wait().expect("ended").code();
            assert_eq!(code, format!("4{number}").parse().ok().map(|c: i32| c % 256));
        }
    }
}

#[test]
fn orphans_are_collected() {
    let world = World::new(As::Root);
    // Twenty processes whose parents are gone end; none may stay as a zombie.
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do (true & true &) ; done; sleep 0.2
        n=0; for s in /proc/[0-9]*/stat; do read line < $s; case $line in *') Z '*) n=$((n+1));; esac; done
        echo $n";
    assert_eq!(world.check(&[], script, 0), "0\n");
}

/// `--pid host`: it sees this machine's processes, and its own end with it all the same.
#[test]
fn the_machines_processes() {
    let world = World::new(As::Root);
    let mark = format!("mark-{}-pids", std::process::id());
    let me = std::process::id();
    let script = format!(
        "test -d /proc/{me} || exit 9; test $$ -gt 2 || exit 8
        # Another's memory and files are still its own.
        cat /proc/{me}/environ >/dev/null 2>&1 && exit 7; ls /proc/{me}/root/ >/dev/null 2>&1 && exit 6
        (sh -c ': {mark}; sleep 1000; :' &) ; sh -c ': {mark}; sleep 1000; :' & sleep 0.3; exit 3"
    );
    world.check(&["--host-pids"], &script, 3);
    assert_eq!(processes_with(&mark), 0, "what it started stays");
    world.check(&["--host-pids"], "kill -TERM $$", 128 + 15);
    for who in [As::Nobody, As::Mapped] {
        let output = World::new(who).script(&["--host-pids"], "true").output().expect("started");
        assert_eq!(output.status.code(), Some(125));
        let (_, err) = texts(&output);
        assert!(err.contains("--pid 'host': only root can show"), "{err}");
    }
}

#[test]
fn killing_the_caller_leaves_nothing() {
    for who in ALL {
        let world = World::new(who);
        let mark = format!("mark-{}-{who:?}", std::process::id());
        let script = format!(": {mark}; echo up; sleep 1000 & sleep 1000");
        let mut child = world.script(&[], &script).stdout(Stdio::piped()).spawn().expect("started");
        let mut up = [0; 3];
        child.stdout.take().expect("stdout").read_exact(&mut up).expect("up");
        assert!(processes_with(&mark) >= 2, "caller and command");
        let shim = world.path("scratch").display().to_string();
        assert!(processes_with(&format!("sconce-shim\0{shim}")) >= 1, "shim");
        child.kill().expect("killed");
        assert_eq!(child.wait().expect("ended").signal(), Some(9));
        eventually("all processes are gone", || {
            processes_with(&mark) == 0 && processes_with(&format!("sconce-shim\0{shim}")) == 0
        });
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains(&world.path("scratch").display().to_string()));
        assert_eq!(world.runs(), 0, "its folder");
    }
}

/// At any moment of its start as well.
#[test]
fn killing_the_caller_early_leaves_nothing() {
    for who in ALL {
        let world = World::new(who);
        let mark = format!("early-{}-{who:?}", std::process::id());
        let shim = format!("sconce-shim\0{}", world.path("scratch").display());
        let mut ids = BTreeSet::new();
        // Closer together at first: there the caller makes folders and cgroups, in a few milliseconds.
        let early = (0..80).map(|step| 150 * step);
        for microseconds in early.chain((0..30).map(|step| 4000 * step)) {
            let script = format!(": {mark}; sleep 1000");
            let mut child = world.script(&[], &script).spawn().expect("started");
            std::thread::sleep(std::time::Duration::from_micros(microseconds));
            child.kill().expect("killed");
            child.wait().expect("ended");
            let folders = fs::read_dir(world.path("scratch")).into_iter().flatten().flatten();
            ids.extend(folders.map(|folder| folder.file_name().to_string_lossy().into_owned()));
        }
        eventually("all processes are gone", || {
            processes_with(&mark) == 0 && processes_with(&shim) == 0
        });
        // One that had not come so far is cleaned up after by the next.
        world.check(&[], "true", 0);
        let left = cgroups_of(Path::new("/sys/fs/cgroup"), &ids);
        assert!(left.is_empty(), "{left:?}");
    }
}

/// The cgroups below `folder` of containers with these ids.
fn cgroups_of(folder: &Path, ids: &BTreeSet<String>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    // Others come and go meanwhile.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.strip_prefix("sconce-").is_some_and(|id| ids.contains(id)) {
                found.push(entry.path());
            }
            found.extend(cgroups_of(&entry.path(), ids));
        }
    }
    found
}

/// A shim that is killed takes the container with it, and its caller cleans up.
#[test]
fn killing_the_shim_ends_the_container() {
    for who in ALL {
        let world = World::new(who);
        let mark = format!("shim-{}-{who:?}", std::process::id());
        let script = format!(": {mark}; echo up; sleep 1000 & sleep 1000");
        let mut child = world.script(&[], &script).stdout(Stdio::piped()).spawn().expect("started");
        let mut up = [0; 3];
        child.stdout.take().expect("stdout").read_exact(&mut up).expect("up");
        let shim = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()));
        let shim: i32 = shim.expect("children").trim().parse().expect("one child");
        let shim = rustix::process::Pid::from_raw(shim).expect("a shim");
        rustix::process::kill_process(shim, rustix::process::Signal::KILL).expect("killed");
        assert_eq!(child.wait().expect("ended").code(), Some(125));
        eventually("all processes are gone", || processes_with(&mark) == 0);
        assert_eq!(world.runs(), 0, "its folder");
    }
}

/// At any moment of its start as well: what it was making then is bound to nobody yet.
#[test]
fn killing_the_shim_early_leaves_nothing() {
    for who in ALL {
        let world = World::new(who);
        let shim = format!("sconce-shim\0{}", world.path("scratch").display());
        for step in 0..40 {
            let mut child = world.script(&[], "sleep 1000").spawn().expect("started");
            std::thread::sleep(std::time::Duration::from_millis(step));
            let children = format!("/proc/{0}/task/{0}/children", child.id());
            let children = fs::read_to_string(children).unwrap_or_default();
            // Its first children may be others.
            let is_shim = |pid: &&str| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.starts_with(b"sconce-shim\0")
            };
            let number = children.split_whitespace().find(is_shim).and_then(|pid| pid.parse().ok());
            match number.and_then(rustix::process::Pid::from_raw) {
                Some(shim) => {
                    rustix::process::kill_process(shim, rustix::process::Signal::KILL)
                        .expect("killed");
                    assert_eq!(child.wait().expect("ended").code(), Some(125));
                }
                None => {
                    child.kill().expect("killed");
                    child.wait().expect("ended");
                }
            }
        }
        eventually("all processes are gone", || processes_with(&shim) == 0);
        world.check(&[], "true", 0);
    }
}

/// What the image has in the way of the machine's files is said in our words.
#[test]
fn images_that_no_container_can_have() {
    for who in ALL {
        for (make, words) in [
            ("mkdir -p root/etc/resolv.conf", "the image's /etc/resolv.conf is a folder"),
            ("ln -s /tmp root/proc", "the image's /proc is not a folder"),
            ("echo > root/dev", "the image's /dev is not a folder"),
            ("rm -r root/etc; ln -s /dev root/etc", "the image's /etc/hosts leads to"),
            (
                "rm -r root/etc; ln -s ../nowhere root/etc",
                "the image's /etc/hosts is behind a link",
            ),
        ] {
            let world = World::new(who);
            assert!(world.around(make).status.success());
            let output = world.script(&[], "true").output().expect("started");
            let (out, err) = texts(&output);
            assert!(output.status.code() == Some(125) && err.contains(words), "{out}{err}");
        }
        // A working directory that a volume can't have.
        let world = World::new(who);
        fs::create_dir(world.path("data")).expect("data");
        let output = world.script(&["-v=./data:/data:ro", "-w=/data/a/b"], "true").output();
        let (_, err) = texts(&output.expect("started"));
        assert!(
            err.contains("working folder '/data/a/b': it is not there in the volume at /data"),
            "{err}"
        );
        world.check(&["-v=./data:/data:ro", "-w=/data"], "true", 0);
    }
}

/// Links of an image, or of what another volume shows, make no volume the container's /dev or /proc:
/// device files and masks would be made in the user's folder.
#[test]
fn links_lead_no_volume_to_what_is_the_kernels() {
    for who in ALL {
        let world = World::new(who);
        for (name, to) in
            [("d", "/dev"), ("p", "tmp/../d/../proc/sys"), ("top", "/"), ("ok", "home")]
        {
            symlink(to, world.path("root").join(name)).expect("a link");
        }
        for folder in ["data", "other"] {
            fs::create_dir(world.path(folder)).expect("a volume");
        }
        symlink("/dev", world.path("other/out")).expect("a link");
        world.give("data");
        world.give("other");
        let refused = [
            (vec!["-v=./data:/d"], "-v '/d': links lead from there to /dev"),
            (vec!["-v=./data:/d/shm"], "to /dev/shm"),
            (vec!["-v=./data:/p:ro"], "to /proc/sys"),
            (vec!["-v=./data:/top"], "to /, which"),
            (
                vec!["-v=./data:/o/out", "-v=./other:/o"],
                "-v '/o/out': links lead from there to /dev",
            ),
        ];
        for (options, words) in refused {
            let output = world.script(&options, "true").output().expect("started");
            let (out, err) = texts(&output);
            let code = output.status.code();
            assert!(code == Some(125) && err.contains(words), "{options:?}: {out}{err}");
            assert_eq!(fs::read_dir(world.path("data")).expect("data").count(), 0, "{options:?}");
        }
        world.check(&["-v=./data:/ok", "-v=./other:/data"], "touch /home/x", 0);
        assert!(world.path("data/x").exists());
    }
}

#[test]
fn a_terminal_is_a_terminal() {
    for who in ALL {
        let world = World::new(who);
        let script = "tty; stty size; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.05; done";
        let mut terminal = Terminal::start(world.script(&["-t"], script), (33, 77));
        terminal.expect("/dev/pts/0");
        terminal.expect("33 77");
        terminal.expect("ready");
        terminal.resize(40, 100);
        terminal.expect("40 100");
        assert_eq!(terminal.end(), 5);
        // What the keyboard sends is a signal inside, and the caller lives on.
        let script = "trap 'echo caught; exit 6' INT; echo ready; while :; do sleep 0.05; done";
        let mut terminal = Terminal::start(world.script(&["-t"], script), (10, 10));
        terminal.expect("ready");
        terminal.type_in(b"\x03");
        terminal.expect("caught");
        assert_eq!(terminal.end(), 6);
    }
    let world = World::new(As::Root);
    let output = world.script(&["-t"], "true").stdin(Stdio::null()).output().expect("started");
    assert!(texts(&output).1.contains("standard input is not one"));
}

#[test]
fn the_callers_terminal_comes_back() {
    let world = World::new(As::Root);
    for script in ["exit 0", "kill -KILL $$"] {
        let mut terminal = Terminal::start(world.script(&["-t"], script), (10, 10));
        let before = rustix::termios::tcgetattr(&terminal.slave).expect("settings");
        terminal.end();
        let after = rustix::termios::tcgetattr(&terminal.slave).expect("settings");
        assert_eq!(before.local_modes, after.local_modes);
        assert_eq!(before.input_modes, after.input_modes);
        assert_eq!(before.output_modes, after.output_modes);
    }
}

#[test]
fn another_port_is_forwarded() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a server");
    let inside = server.local_addr().expect("address").port();
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let outside = free.local_addr().expect("address").port();
    drop(free);
    let world = World::new(As::Nobody);
    let option = format!("-p=127.0.0.1:{outside}:{inside}");
    let mut child = world
        .script(&["-i", &option], "echo up; cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut up = [0; 3];
    child.stdout.as_mut().expect("stdout").read_exact(&mut up).expect("up");
    // The test's own server stands for one inside: it is the same network.
    let thread = std::thread::spawn(move || {
        let (mut socket, _) = server.accept().expect("accepted");
        let mut asked = String::new();
        socket.read_to_string(&mut asked).expect("read");
        socket.write_all(format!("you said {asked}").as_bytes()).expect("answered");
    });
    let mut client = TcpStream::connect(("127.0.0.1", outside)).expect("connected");
    client.write_all(b"hello").expect("sent");
    client.shutdown(std::net::Shutdown::Write).expect("shut");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("read");
    assert_eq!(answer, "you said hello");
    thread.join().expect("joined");
    // A port that is taken is an error before anything starts.
    let output = world.script(&[&option], "echo started").output().expect("started");
    let (out, err) = texts(&output);
    assert!(out.is_empty() && err.contains(&format!("port {outside}")), "{out}{err}");
    drop(child.stdin.take());
    assert!(child.wait().expect("ended").success());
}

/// It runs where it was told to, and every process in it.
#[test]
fn processors_are_kept() {
    let all = sconce_run::processors().expect("this machine says");
    let last = all.last().copied().expect("one");
    for who in ALL {
        let world = World::new(who);
        let option = format!("--processors={last}");
        let script = "sh -c 'cat /proc/self/status' | head -n 200";
        let output = world.script(&[&option], script).output().expect("started");
        let (out, err) = texts(&output);
        let list = out.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        assert_eq!(list.map(str::trim), Some(last.to_string().as_str()), "{err}");
    }
}

#[test]
fn limits_are_set_or_said_not_to_be() {
    let world = World::new(As::Root);
    let script = "cat /proc/self/cgroup";
    let output = world.script(&["--memory=64m", "--cpus=0.5"], script).output().expect("started");
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{err}");
    // The group of the container is its root, or the limits were refused in so many words.
    let said = err.contains("limit is not set") || err.contains("no limits are set");
    assert!(said || out.contains(":/\n"), "{out}{err}");
    if !said {
        // More than the limit cannot be had: the shell's string is killed or refused.
        let script = "x=$(head -c 100000000 /dev/zero | tail -c 90000000 | wc -c); echo $x;
            head -c 200m /dev/zero > /dev/shm/x; echo survived";
        let output = world.script(&["--memory=32m"], script).output().expect("started");
        assert!(!texts(&output).0.contains("survived") || !output.status.success(), "{output:?}");
    }
    let world = World::new(As::Nobody);
    let output = world.script(&["--memory=64m"], "echo ran").output().expect("started");
    let (out, err) = texts(&output);
    assert_eq!(out, "ran\n", "{err}");
    assert_eq!(err.matches("limit is not set").count(), 1, "said once: {err}");
}
