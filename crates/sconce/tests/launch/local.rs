//! On one machine: ranks, failures, hangs, restarts.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use crate::world::texts;
use crate::{Launch, processes_with, soon};

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

/// The container of a launch that goes on is looked at by its id, as any of `sconce ps`.
#[test]
fn a_container_is_looked_at_by_its_name() {
    let launch = Launch::new();
    launch.program(
        "import os, time\nimport torch.distributed\n\ndef load():\n    time.sleep(600)\n\nprint('begin', flush=True)\n\
         if os.environ['RANK'] == '1':\n    load()\ntorch.distributed.all_reduce()\n",
    );
    let mut command = launch.command(&["--ranks", "3", "--hang-after", "never"], &["train.py"]);
    let log = fs::File::create(launch.world.path("said")).unwrap();
    let mut child = command.stdout(log).stderr(Stdio::null()).spawn().unwrap();
    let said =
        || fs::read_to_string(launch.world.path("said")).unwrap().matches("begin").count() == 3;
    soon("all ranks run", Duration::from_secs(60), said);
    let containers = fs::read_dir(launch.world.path("store/containers")).unwrap().flatten();
    let id = containers.map(|entry| entry.file_name().into_string().unwrap()).next().unwrap();
    let (code, out, err) = launch.world.says(&["hang", &id]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("rank 1 is not where the others are"), "{out}");
    let (code, _, err) = launch.world.says(&["hang", "nobody"]);
    assert!(code == 2 && err.contains("no container is called so"), "{code} {err}");
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

/// A rank that answers for NCCL at a port of the test's own, `counts` being what it says the n-th time it is asked.
fn nccl(counts: &str, rest: &str) -> String {
    format!(
        "import json, os, socket, threading, time\nimport torch.distributed\n\n\
         def counts(n):\n    return {counts}\n\n\
         def answer():\n    for n in range(1000):\n        peer = server.accept()[0]\n        said = peer.makefile('rw')\n\
         \x20       said.readline(); said.write('SERVER PROTOCOL 2\\n'); said.flush()\n\
         \x20       for _ in range(2):\n            said.readline(); said.write('OK\\n'); said.flush()\n        said.readline()\n\
         \x20       ranks = [{{'rank': rank, 'collective_counts': {{'AllReduce': count}}}} for rank, count in enumerate(counts(n))]\n\
         \x20       said.write(json.dumps({{'communicators': [{{'size': 2, 'ranks': ranks}}]}})); said.flush()\n\
         \x20       said.close(); peer.close()\n\n\
         if os.environ['RANK'] == '0':\n\
         \x20   server = socket.create_server(('127.0.0.1', int(os.environ['NCCL_RAS_ADDR'].split(':')[1])))\n\
         \x20   threading.Thread(target=answer, daemon=True).start()\nprint('begin')\n{rest}"
    )
}

/// A variable with a port that nobody else has.
fn ras_address() -> String {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("NCCL_RAS_ADDR=127.0.0.1:{}", taken.local_addr().unwrap().port())
}

/// All sleep in one place whenever one looks, and NCCL counts on: ranks of a slow job are not to be ended.
#[test]
fn what_nccl_counts_on_is_not_called_a_hang() {
    let launch = Launch::new();
    launch.program(&nccl("[6 + n, 6 + n]", "time.sleep(600)\n"));
    let address = ras_address();
    let (code, _, err) =
        launch.says(&["--ranks", "2", "--hang-after", "1s", "--time-limit", "20s", "-e", &address]);
    assert_eq!(code, 124, "{err}");
    assert!(err.contains("They do not hang: NCCL has counted 2 more collectives"), "{err}");
}

/// Stacks say that all wait in one place; NCCL knows who has not come to the sixth.
#[test]
fn the_rank_that_nccl_has_counted_less_of_is_named() {
    let launch = Launch::new();
    launch.program(&nccl("[6, 5]", "torch.distributed.all_reduce()\n"));
    let address = ras_address();
    let (code, _, err) =
        launch.says(&["--ranks", "2", "--hang-after", "1s", "--time-limit", "40s", "-e", &address]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("rank 1 is not where the others are"), "{err}");
    assert!(err.contains("NCCL has counted AllReduce differently: rank 0: 6, rank 1: 5"), "{err}");
    assert!(err.contains("the ranks hung, and were ended"), "{err}");
}

/// Steps that are in one line for most of their time: looks that meet that line twice are no proof.
#[test]
fn what_goes_on_slowly_is_not_called_a_hang() {
    let launch = Launch::new();
    launch.program(
        "import os, time\nimport torch.distributed\n\ndef load():\n    time.sleep(1)\n\ndef work():\n    time.sleep(0.3)\n\n\
         print('begin')\nif os.environ['RANK'] == '1':\n    while True:\n        load()\n        work()\n\
         torch.distributed.all_reduce()\n",
    );
    let (code, _, err) =
        launch.says(&["--ranks", "2", "--hang-after", "1s", "--time-limit", "20s"]);
    assert_eq!(code, 124, "{err}");
    assert!(err.contains("They do not hang: rank 1 moved"), "{err}");
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
