//! `sconce launch` as a person starts it, with a torch that only does what torchrun does: needs root, or user
//! namespaces, and python3.

mod world;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use world::{World, texts};

/// A world whose image has this machine's python3 and the torch of `launch_torch`.
struct Launch {
    world: World,
    options: Vec<String>,
    home: String,
}

impl Launch {
    fn new() -> Self {
        let world = World::new();
        let asked = Command::new("python3")
            .args([
                "-c",
                "import sys, os; print(sys.base_prefix); print(os.path.realpath(sys.executable))",
            ])
            .output()
            .unwrap();
        let said = String::from_utf8(asked.stdout).unwrap();
        let (prefix, program) = said.trim().split_once('\n').unwrap();
        let mut options = vec!["-v".to_owned(), "/usr/lib:/usr/lib:ro".to_owned()];
        let mut volume = |text: String| options.extend(["-v".to_owned(), text]);
        volume(format!("{program}:/usr/bin/python3:ro"));
        if prefix != "/usr" {
            volume(format!("{prefix}:{prefix}:ro"));
        }
        let torch = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/launch_torch");
        volume(format!("{}:/fake:ro", torch.display()));
        volume(format!("{}:/work", world.path("work").display()));
        fs::create_dir(world.path("work")).unwrap();
        let home = format!("PYTHONHOME={prefix}");
        let launch = Self { world, options, home };
        launch.image("/fake");
        launch
    }

    /// The image, its Python looking for packages here.
    fn image(&self, packages: &str) {
        self.world.image(&format!(
            r#"{{"Env": ["PATH=/usr/bin", "PYTHONPATH={packages}", "{}"], "WorkingDir": "/work"}}"#,
            self.home
        ));
    }

    fn program(&self, text: &str) {
        fs::write(self.world.path("work/train.py"), text).unwrap();
    }

    fn command(&self, options: &[&str], command: &[&str]) -> Command {
        let mut words = vec!["launch", "--evidence", "out"];
        words.extend(self.options.iter().map(String::as_str));
        words.extend(options);
        words.extend(["oci:image", "--"]);
        words.extend(command);
        self.world.sconce(&words)
    }

    fn says(&self, options: &[&str]) -> (i32, String, String) {
        texts(&self.command(options, &["train.py", "an argument"]).output().unwrap())
    }

    /// The only launch's folder.
    fn evidence(&self) -> std::path::PathBuf {
        let folders =
            fs::read_dir(self.world.path("out")).unwrap().flatten().map(|entry| entry.path());
        let folders: Vec<_> = folders.filter(|path| path.is_dir()).collect();
        assert_eq!(folders.len(), 1);
        folders[0].clone()
    }
}

/// Processes of this machine, containers' as well, that have this in their environment.
fn processes_with(mark: &str) -> usize {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter(|entry| {
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        String::from_utf8_lossy(&environ).contains(mark)
    })
    .count()
}

#[track_caller]
fn soon(what: &str, limit: Duration, holds: impl Fn() -> bool) {
    let end = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn ranks_run_and_say_who_they_are() {
    let launch = Launch::new();
    launch.program(
        "import os, sys\nprint('rank', os.environ['RANK'], 'of', os.environ['WORLD_SIZE'], sys.argv, __name__, __file__)\n\
         print('no end of line', end='', file=sys.stderr)\nassert sys.path[0] == '/work', sys.path\n",
    );
    let (code, out, err) = launch.says(&["--ranks", "3"]);
    assert_eq!(code, 0, "{out}{err}");
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    let line =
        |rank| format!("[{rank}] rank {rank} of 3 ['train.py', 'an argument'] __main__ train.py");
    assert_eq!(lines, [line(0), line(1), line(2)]);
    assert!(err.contains("[2] no end of line\n"), "{err}");
    let folder = launch.evidence();
    let log = fs::read_to_string(folder.join("logs/rank-2.log")).unwrap();
    assert!(log.contains("rank 2 of 3") && log.contains("no end of line"), "{log}");
    assert!(!folder.join("node-0").exists());
    let (code, out, err) = launch.says(&["--ranks", "3", "--output", "rank0", "--explain"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(out.lines().count(), 1, "{out}");
    assert!(err.contains("OMP_NUM_THREADS=") && err.contains("--rdzv_conf=is_host=1"), "{err}");
}

#[test]
fn the_rank_that_failed_first_is_named() {
    let launch = Launch::new();
    let rank_1 = |what: &str| {
        launch.program(&format!(
            "import os, signal, sys, time\nif os.environ['RANK'] == '1':\n    {what}\ntime.sleep(60)\n"
        ));
        launch.says(&["--ranks", "2"])
    };
    let (code, _, err) = rank_1("raise ValueError('loss is NaN')");
    assert!(
        code == 1 && err.contains("rank 1 on") && err.contains("ValueError: loss is NaN"),
        "{code} {err}"
    );
    assert!(!err.contains("rank.py"), "{err}");
    let (code, _, err) = rank_1("sys.exit(3)");
    assert!(code == 3 && err.contains("rank 1 on"), "{code} {err}");
    let (code, _, err) = rank_1("os.kill(os.getpid(), signal.SIGKILL)");
    assert!(code == 137 && err.contains("killed by signal 9"), "{code} {err}");
}

#[test]
fn an_image_without_torch_and_a_target_that_is_none() {
    let launch = Launch::new();
    launch.program("");
    launch.image("/nowhere");
    let (code, _, err) = launch.says(&["--ranks", "1"]);
    assert!(code == 8 && err.contains("has no torch"), "{code} {err}");
    fs::remove_dir_all(launch.world.path("image")).unwrap();
    let (code, _, err) = launch.says(&["--ranks", "1"]);
    assert!(code != 0 && err.contains("can't open image"), "{code} {err}");
}

#[test]
fn a_rank_that_does_not_come_is_named() {
    let launch = Launch::new();
    launch.program(
        "import os, time\nimport torch.distributed\n\ndef load():\n    time.sleep(600)\n\nprint('begin')\n\
         if os.environ['RANK'] == '1':\n    load()\ntorch.distributed.all_reduce()\n",
    );
    let (code, _, err) = launch.says(&["--ranks", "3", "--hang-after", "1s"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("rank 1 is not where the others are"), "{err}");
    assert!(err.contains("rank 1 is at train.py:5 in load"), "{err}");
    assert!(err.contains("ranks 0, 2 wait in all_reduce, at train.py:10"), "{err}");
    let folder = launch.evidence();
    let stack = fs::read_to_string(folder.join("hang-1-look-2-rank-1.txt")).unwrap();
    assert!(stack.contains("line 5 in load"), "{stack}");
    assert!(folder.join("hang-1.txt").exists());
}

/// poll(2) ends early at any signal that its thread takes, and C libraries call that an error.
#[test]
fn a_look_disturbs_no_system_call() {
    let launch = Launch::new();
    launch.program(
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n\
         answer = libc.poll(None, 0, 8000)\nprint('poll:', answer, os.strerror(ctypes.get_errno()))\n",
    );
    let (code, out, err) =
        launch.says(&["--ranks", "1", "--hang-after", "1s", "--on-hang", "continue"]);
    assert_eq!((code, out.as_str()), (0, "poll: 0 Success\n"), "{err}");
    assert!(err.contains("is at train.py:3 in <module>"), "{err}");
}

#[test]
fn what_is_slow_does_not_hang() {
    let launch = Launch::new();
    launch.program(
        "import os, time\nend = time.time() + 6\ndef a():\n    time.sleep(0.9)\ndef b():\n    time.sleep(0.9)\n\
         while time.time() < end:\n    a(); time.sleep(0.05); b()\n",
    );
    // Two looks may find it in the same line; it must never be called a rank that the others wait for.
    let (_, _, err) = launch.says(&["--ranks", "1", "--hang-after", "1s", "--on-hang", "continue"]);
    assert!(!err.contains("not where the others are"), "{err}");
}

#[test]
fn nothing_outlives_the_launcher() {
    use rustix::process::{Pid, Signal, kill_process};
    for (signal, expected) in
        [(Signal::KILL, None), (Signal::INT, Some(130)), (Signal::TERM, Some(143))]
    {
        let launch = Launch::new();
        launch.program(
            "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('here', flush=True)\ntime.sleep(600)\n",
        );
        let mark = format!("LAUNCH_MARK={}-{}", std::process::id(), signal.as_raw());
        let mut command = launch.command(&["--ranks", "2", "-e", &mark], &["train.py"]);
        let log = fs::File::create(launch.world.path("said")).unwrap();
        let mut child = command.stdout(log).stderr(Stdio::null()).spawn().unwrap();
        let said =
            || fs::read_to_string(launch.world.path("said")).unwrap().matches("here").count() == 2;
        soon("both ranks run", Duration::from_secs(60), said);
        assert!(processes_with(&mark) >= 2);
        kill_process(Pid::from_raw(child.id() as i32).unwrap(), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), expected);
        soon("all processes are gone", Duration::from_secs(15), || processes_with(&mark) == 0);
        let containers = launch.world.path("store/containers");
        soon("the container is gone", Duration::from_secs(15), || {
            fs::read_dir(&containers).map_or(0, |entries| entries.count()) == 0
        });
    }
}

#[test]
fn restarts_and_the_time_limit() {
    let launch = Launch::new();
    launch.program(
        "import os, sys\nattempt = os.environ['SCONCE_LAUNCH_ATTEMPT']\nprint('attempt', attempt)\nsys.exit(0 if attempt == '1' else 5)\n",
    );
    let (code, out, err) = launch.says(&["--ranks", "1", "--restarts", "2"]);
    assert_eq!((code, out.as_str()), (0, "attempt 0\nattempt 1\n"), "{err}");
    assert!(err.contains("starting all ranks again (1 of 2)"), "{err}");
    launch.program("import time\ntime.sleep(600)\n");
    let (code, _, err) = launch.says(&["--ranks", "1", "--time-limit", "4s"]);
    assert!(code == 124 && err.contains("the time was over"), "{code} {err}");
}

#[test]
fn programs_that_are_no_python_files() {
    let launch = Launch::new();
    let said =
        |command: &[&str]| texts(&launch.command(&["--ranks", "1"], command).output().unwrap());
    assert_eq!(said(&["sh", "-c", "echo shell $RANK"]).1, "shell 0\n");
    fs::create_dir(launch.world.path("work/pkg")).unwrap();
    fs::write(launch.world.path("work/pkg/go.py"), "import sys\nprint(__name__, sys.argv[1:])\n")
        .unwrap();
    let (code, out, err) = said(&["python", "-m", "pkg.go", "-x"]);
    assert_eq!((code, out.as_str()), (0, "__main__ ['-x']\n"), "{err}");
}

/// Another machine: a `ssh` that runs the line here, with a store and a name of its own.
fn fake_ssh(launch: &Launch) -> String {
    use std::os::unix::fs::PermissionsExt;
    let folder = launch.world.path("bin");
    fs::create_dir_all(&folder).unwrap();
    let script = format!(
        "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nhost=$1; shift\n\
         [ \"$host\" = down ] && {{ echo 'ssh: connect to host down port 22: No route to host' >&2; exit 255; }}\n\
         export SCONCE_HOME={0}/store-of-$host TMPDIR={0}/tmp-of-$host\nmkdir -p \"$TMPDIR\"\ncd /\necho $$ >> {0}/pids-of-$host\nexec sh -c \"$*\"\n",
        launch.world.path("").display()
    );
    fs::write(folder.join("ssh"), script).unwrap();
    fs::set_permissions(folder.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

#[test]
fn machines_behind_ssh() {
    let launch = Launch::new();
    let path = fake_ssh(&launch);
    launch.program(
        "import os\nprint('rank', os.environ['RANK'], 'of', os.environ['WORLD_SIZE'], os.environ['MASTER_ADDR'], os.environ['GLOO_SOCKET_IFNAME'])\n",
    );
    let port = free_port();
    let options =
        ["--hosts", "node[1-3]", "--ranks", "2", "--master-addr", "127.0.0.1", "--port", &port];
    let run = |options: &[&str]| {
        texts(&launch.command(options, &["train.py"]).env("PATH", &path).output().unwrap())
    };
    let (code, out, err) = run(&options);
    assert_eq!(code, 0, "{out}{err}");
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    let line = |rank| format!("[{rank}] rank {rank} of 6 127.0.0.1 lo");
    assert_eq!(lines, (0..6).map(line).collect::<Vec<_>>(), "{err}");
    for host in ["node1", "node2", "node3"] {
        let left = fs::read_dir(launch.world.path(&format!("tmp-of-{host}"))).unwrap().count();
        assert_eq!(left, 0, "{host}");
    }
    let (code, _, err) = run(&["--hosts", "node1 down", "--ranks", "1"]);
    assert!(code == 8 && err.contains("down: ssh: connect to host down"), "{code} {err}");
    // A port that is taken is found before anything starts.
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    let (code, out, err) = run(&["--hosts", "node[1-2]", "--ranks", "1", "--port", &taken]);
    assert!(
        code == 8 && out.is_empty() && err.contains(&format!("port {taken}")),
        "{code} {out} {err}"
    );
}

#[test]
fn a_machine_that_is_cut_off_ends_the_others_within_seconds() {
    use rustix::process::{Pid, Signal, kill_process};
    let launch = Launch::new();
    let path = fake_ssh(&launch);
    launch.program("import time\nprint('here', flush=True)\ntime.sleep(600)\n");
    let port = free_port();
    let mark = format!("LAUNCH_MARK=cut-{}", std::process::id());
    let options = [
        "--hosts",
        "node[1-2]",
        "--ranks",
        "1",
        "--master-addr",
        "127.0.0.1",
        "--port",
        &port,
        "-e",
        &mark,
    ];
    let mut command = launch.command(&options, &["train.py"]);
    let log = fs::File::create(launch.world.path("said")).unwrap();
    let errors = fs::File::create(launch.world.path("errors")).unwrap();
    let mut child = command.env("PATH", &path).stdout(log).stderr(errors).spawn().unwrap();
    let said =
        || fs::read_to_string(launch.world.path("said")).unwrap().matches("here").count() == 2;
    soon("both ranks run", Duration::from_secs(90), said);
    // The last connection to node2 is the one that its node runs in: stopped, it neither ends nor says a word.
    let pids = fs::read_to_string(launch.world.path("pids-of-node2")).unwrap();
    let pid = pids.lines().last().unwrap().parse().unwrap();
    let stop = |pid: i32, signal| _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
    let tree = descendants(pid);
    tree.iter().for_each(|pid| stop(*pid, Signal::STOP));
    let since = Instant::now();
    soon("the launch ends", Duration::from_secs(30), || {
        fs::read_to_string(launch.world.path("errors")).unwrap().contains("node2 was lost")
    });
    let took = since.elapsed();
    tree.iter().for_each(|pid| stop(*pid, Signal::CONT));
    assert_eq!(child.wait().unwrap().code(), Some(1));
    // 5 s of silence, and what ending the others takes.
    assert!(took < Duration::from_secs(20), "{took:?}");
    soon("all processes are gone", Duration::from_secs(30), || processes_with(&mark) == 0);
}

#[test]
fn nothing_is_left_on_machines_of_a_killed_launcher() {
    let launch = Launch::new();
    let path = fake_ssh(&launch);
    launch.program("import time\nprint('here', flush=True)\ntime.sleep(600)\n");
    let port = free_port();
    let mark = format!("LAUNCH_MARK=killed-{}", std::process::id());
    let options = ["--hosts", "node[1-2]", "--ranks", "1", "--master-addr", "127.0.0.1"];
    let options = [&options[..], &["--port", &port, "-e", &mark]].concat();
    let mut command = launch.command(&options, &["train.py"]);
    let log = fs::File::create(launch.world.path("said")).unwrap();
    let mut child = command.env("PATH", &path).stdout(log).stderr(Stdio::null()).spawn().unwrap();
    let said =
        || fs::read_to_string(launch.world.path("said")).unwrap().matches("here").count() == 2;
    soon("both ranks run", Duration::from_secs(90), said);
    child.kill().unwrap();
    child.wait().unwrap();
    soon("all processes are gone", Duration::from_secs(20), || processes_with(&mark) == 0);
    for host in ["node1", "node2"] {
        let folder = launch.world.path(&format!("tmp-of-{host}"));
        let empty = || fs::read_dir(&folder).unwrap().count() == 0;
        soon("its folder is gone", Duration::from_secs(10), empty);
    }
}

fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// A process and all that came of it.
fn descendants(root: i32) -> Vec<i32> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        at += 1;
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let of = stat
                .rsplit(')')
                .next()
                .and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
            if of == Some(parent) && !found.contains(&pid) {
                found.push(pid);
            }
        }
    }
    found
}
