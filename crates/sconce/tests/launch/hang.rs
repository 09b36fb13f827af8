//! `sconce hang` on processes that nobody prepared for it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::world::World;

/// Ranks as torchrun starts them, and no more: a parent without a rank, and children with theirs. Each says that it is there.
const TORCHRUN: &str = "import os, subprocess, sys\n\
    count = int(sys.argv[2])\n\
    ranks = [subprocess.Popen([sys.executable, sys.argv[1]], env=dict(os.environ, RANK=str(rank), LOCAL_RANK=str(rank),\n\
    \x20   LOCAL_WORLD_SIZE=str(count), WORLD_SIZE=sys.argv[3])) for rank in range(count)]\n\
    [rank.wait() for rank in ranks]\n";

/// What is ended with the test.
struct Job(Child);

impl Drop for Job {
    fn drop(&mut self) {
        // The whole group: children go with it.
        let group = rustix::process::Pid::from_raw(self.0.id() as i32).unwrap();
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.0.wait();
    }
}

impl Job {
    /// Starts ranks of this program, and waits until each has said `here`.
    fn start(
        world: &World,
        program: &str,
        (count, of): (u32, u32),
        before: &[&str],
        env: &[(&str, &str)],
    ) -> Self {
        fs::write(world.path("torchrun.py"), TORCHRUN).unwrap();
        fs::write(world.path("train.py"), program).unwrap();
        let words = ["python3", "torchrun.py", "train.py", &count.to_string(), &of.to_string()];
        let words = [before, &words].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(world.path("")).stdout(Stdio::piped());
        let torch = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/launch/python");
        command.env("PYTHONPATH", torch).envs(env.iter().copied());
        command.process_group(0);
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        // From here on it ends with the test, also where that fails.
        let job = Self(child);
        let mut lines = BufReader::new(stdout).lines();
        for _ in 0..count {
            assert_eq!(lines.next().unwrap().unwrap(), "here");
        }
        job
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

const HANGS: &str = "import os, time\nimport torch.distributed\n\ndef load():\n    time.sleep(600)\n\n\
    os.write(1, b'here\\n')\nif os.environ['RANK'] == '1':\n    load()\ntorch.distributed.all_reduce()\n";

#[test]
fn the_rank_that_does_not_come_is_named_from_outside() {
    let world = World::new();
    let job = Job::start(&world, HANGS, (3, 3), &[], &[]);
    let (code, out, err) = world.says(&["hang", &job.pid(), "--output", "evidence"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("rank 1 is not where the others are"), "{out}");
    assert!(out.contains("rank 1 is at ") && out.contains("train.py:5 in load"), "{out}");
    assert!(out.contains("ranks 0, 2 wait in all_reduce, at "), "{out}");
    assert_eq!(
        fs::read_to_string(world.path("evidence/hang.txt")).unwrap().lines().next(),
        out.lines().next()
    );
    let stacks = fs::read_dir(world.path("evidence"))
        .unwrap()
        .flatten()
        .map(|entry| fs::read_to_string(entry.path()).unwrap());
    assert!(
        stacks
            .filter(|text| text.contains("line 5 in load") && text.contains("waits at: "))
            .count()
            >= 2
    );
    // One rank alone: nobody is missing whom nobody could see.
    let (code, out, err) = world.says(&["hang", &child(&job, 0)]);
    assert_eq!(code, 12, "{out}{err}");
    assert!(out.contains("Only rank 0 of 3") && out.contains("in all_reduce"), "{out}");
    // A folder with something in it is somebody's.
    let (code, _, err) = world.says(&["hang", &job.pid(), "--output", "evidence"]);
    assert!(code == 7 && err.contains("not empty"), "{code} {err}");
}

/// A rank of the job.
fn child(job: &Job, rank: usize) -> String {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", job.pid())).unwrap();
    children.split_whitespace().nth(rank).unwrap().to_owned()
}

#[test]
fn what_works_and_what_waits_is_not_called_a_hang() {
    let world = World::new();
    let job = Job::start(
        &world,
        "import itertools, os\nos.write(1, b'here\\n')\ndef a(n):\n    return a(n - 1) if n else 0\n\
         for n in itertools.count():\n    a(n % 40)\n",
        (2, 2),
        &[],
        &[],
    );
    let (code, out, err) = world.says(&["hang", &job.pid()]);
    assert!(code == 0 && out.contains("They do not hang"), "{code} {out}{err}");
    drop(job);
    let job = Job::start(
        &world,
        "import os, threading, time\nthreading.Thread(target=lambda: all(iter(lambda: 1, 0)), daemon=True).start()\n\
         threading.Timer(0.5, os.write, (1, b'here\\n')).start()\ntime.sleep(600)\n",
        (1, 1),
        &[],
        &[],
    );
    let (code, out, err) = world.says(&["hang", &job.pid()]);
    assert_eq!(code, 12, "{out}{err}");
    assert!(out.contains("train.py:4 in <module>"), "{out}");
    // Another thread than the main one works.
    let busy = out.lines().filter_map(|line| line.strip_prefix("processors kept busy: "));
    assert!(busy.map(|share| share.parse::<f64>().unwrap()).any(|share| share > 0.0), "{out}");
}

#[test]
fn what_nccl_and_torch_have_to_say_is_asked_for() {
    let world = World::new();
    // NCCL's port on a loopback of its own: another network namespace, as a container's is.
    let program = "import fcntl, os, socket, struct, threading, time\nimport torch.distributed\n\
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        fcntl.ioctl(probe, 0x8914, struct.pack('16sh22x', b'lo', 0x41))\n\
        server = socket.create_server(('127.0.0.1', 28028)) if os.environ['RANK'] == '0' else None\n\
        def answer():\n    peer = server.accept()[0]\n    said = peer.makefile('rw')\n    said.readline()\n\
        \x20   said.write('SERVER PROTOCOL 2\\n'); said.flush()\n    for _ in range(2):\n        said.readline(); said.write('OK\\n'); said.flush()\n\
        \x20   assert said.readline() == 'STATUS\\n'\n\
        \x20   ranks = '{\"rank\": 0, \"collective_counts\": {\"AllReduce\": 6}}, {\"rank\": 1, \"collective_counts\": {\"AllReduce\": 5}}'\n\
        \x20   said.write('{\"communicators\": [{\"ranks\": [' + ranks + ']}]}'); said.flush()\n    said.close(); peer.close()\n\
        if server:\n    threading.Thread(target=answer, daemon=True).start()\n\
        os.write(1, b'here\\n')\nif os.environ['RANK'] == '1':\n    time.sleep(600)\ntorch.distributed.all_reduce()\n";
    let prefix = world.path("fr_").display().to_string();
    fs::write(world.path("fr_1"), "a dump").unwrap();
    let job = Job::start(
        &world,
        program,
        (2, 2),
        &["unshare", "--net"],
        &[("TORCH_FR_DUMP_TEMP_FILE", &prefix)],
    );
    let (code, out, err) = world.says(&["hang", &job.pid(), "--output", "evidence"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("NCCL has counted AllReduce differently: rank 0: 6, rank 1: 5"), "{out}");
    assert!(out.contains("rank 1 has dumped torch's flight recorder, 6 bytes: kept"), "{out}");
    assert_eq!(fs::read(world.path("evidence/flight-recorder-1")).unwrap(), b"a dump");
    assert!(
        fs::read_to_string(world.path("evidence/nccl-ras-1.json")).unwrap().contains("AllReduce")
    );
}

/// Stacks say that all wait in one place; NCCL knows who has not come to the sixth.
#[test]
fn the_rank_that_nccl_has_counted_less_of_is_named_from_outside() {
    let world = World::new();
    let behind = "import fcntl, os, socket, struct, threading, time\nimport torch.distributed\n\
        def answer():\n    while True:\n        peer = server.accept()[0]\n        said = peer.makefile('rw')\n\
        \x20       said.readline(); said.write('SERVER PROTOCOL 2\\n'); said.flush()\n\
        \x20       for _ in range(2):\n            said.readline(); said.write('OK\\n'); said.flush()\n        said.readline()\n\
        \x20       ranks = '{\"rank\": 0, \"collective_counts\": {\"AllReduce\": 6}}, {\"rank\": 1, \"collective_counts\": {\"AllReduce\": 5}}'\n\
        \x20       said.write('{\"communicators\": [{\"ranks\": [' + ranks + ']}]}'); said.flush()\n        said.close(); peer.close()\n\
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        fcntl.ioctl(probe, 0x8914, struct.pack('16sh22x', b'lo', 0x41))\n\
        if os.environ['RANK'] == '0':\n    server = socket.create_server(('127.0.0.1', 28028))\n\
        \x20   threading.Thread(target=answer, daemon=True).start()\n\
        os.write(1, b'here\\n')\ntorch.distributed.all_reduce()\n";
    let job = Job::start(&world, behind, (2, 2), &["unshare", "--net"], &[]);
    let (code, out, err) = world.says(&["hang", &job.pid()]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("rank 1 is not where the others are"), "{out}");
    assert!(out.contains("rank 1 has come to 5 collectives of NCCL"), "{out}");
}

/// Steps that are in one line for most of their time: a look that meets that line twice is no proof.
#[test]
fn what_goes_on_slowly_is_not_called_a_hang() {
    let world = World::new();
    let slow = "import os, time\nimport torch.distributed\n\ndef load():\n    time.sleep(0.7)\n\ndef work():\n    time.sleep(0.25)\n\n\
        os.write(1, b'here\\n')\nif os.environ['RANK'] == '1':\n    while True:\n        load()\n        work()\n\
        torch.distributed.all_reduce()\n";
    let job = Job::start(&world, slow, (2, 2), &[], &[]);
    let (code, out, err) = world.says(&["hang", &job.pid()]);
    // The other may come to where it waits only now.
    assert!(code == 0 && out.contains("They do not hang: rank"), "{code} {out}{err}");
    drop(job);
    // All ranks sleep in one place whenever one looks, and NCCL counts on.
    let counts = "import os, threading, time\n\
        def answer():\n    import socket\n    server = socket.create_server(('127.0.0.1', 28028))\n    for count in range(1000):\n\
        \x20       peer = server.accept()[0]\n        said = peer.makefile('rw')\n        said.readline()\n\
        \x20       said.write('SERVER PROTOCOL 2\\n'); said.flush()\n\
        \x20       for _ in range(2):\n            said.readline(); said.write('OK\\n'); said.flush()\n\
        \x20       said.readline()\n\
        \x20       said.write('{\"communicators\": [{\"ranks\": [{\"rank\": 0, \"collective_counts\": {\"AllReduce\": %d}}]}]}' % (6 + count))\n\
        \x20       said.flush()\n        said.close(); peer.close()\n\
        import fcntl, socket, struct\nprobe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        fcntl.ioctl(probe, 0x8914, struct.pack('16sh22x', b'lo', 0x41))\n\
        if os.environ['RANK'] == '0':\n    threading.Thread(target=answer, daemon=True).start()\n    time.sleep(1)\n\
        os.write(1, b'here\\n')\ntime.sleep(600)\n";
    let job = Job::start(&world, counts, (2, 2), &["unshare", "--net"], &[]);
    let (code, out, err) = world.says(&["hang", &job.pid()]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("They do not hang: NCCL has counted 1 more collectives"), "{out}");
}

#[test]
fn what_is_not_to_be_looked_at_is_refused() {
    let world = World::new();
    let refused = |words: &[&str], expected: i32, part: &str| {
        let (code, out, err) = world.says(&[&["hang"], words].concat());
        assert!(
            code == expected && out.is_empty() && err.contains(part),
            "{words:?}: {code} {out} {err}"
        );
        assert!(expected != 2 || err.contains("hint: "), "{err}");
    };
    refused(&["1"], 2, "process 1 started everything");
    refused(&["x"], 2, "PID");
    let mut gone = Command::new("true").spawn().unwrap();
    let pid = gone.id().to_string();
    gone.wait().unwrap();
    refused(&[&pid], 2, "there is no process");
    let sleep = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
    let sleep = Job(sleep);
    refused(&[&sleep.pid()], 2, "runs Python");
    // `exec` keeps the number: sconce is told its own.
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" hang $$", env!("CARGO_BIN_EXE_sconce")]);
    let said = command.output().unwrap();
    assert!(
        said.status.code() == Some(2)
            && String::from_utf8_lossy(&said.stderr).contains("is sconce itself"),
        "{said:?}"
    );
    let job = Job::start(
        &world,
        "import os, time\nos.write(1, b'here\\n')\ntime.sleep(600)\n",
        (1, 1),
        &[],
        &[],
    );
    let nobody = World::of_nobody();
    let (code, out, err) = nobody.says(&["hang", &job.pid()]);
    assert!(
        code == 8 && out.is_empty() && err.contains("is not ours to look at"),
        "{code} {out} {err}"
    );
    assert!(err.contains("hint: ") && err.contains("sudo sconce hang"), "{err}");
}
