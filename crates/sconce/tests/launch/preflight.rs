//! What ranks measure before the first step, and machines that take others' places.

use std::fs;

use crate::Launch;
use crate::ssh::{fake_ssh, free_port};
use crate::world::texts;

const PROGRAM: &str =
    "import os\nprint('rank', os.environ['RANK'], 'of', os.environ['WORLD_SIZE'])\n";

struct Machines {
    launch: Launch,
    path: String,
}

impl Machines {
    fn new() -> Self {
        let launch = Launch::new();
        launch.program(PROGRAM);
        let path = fake_ssh(&launch);
        Self { launch, path }
    }

    /// What is said where this is wrong with a machine: `KIND:MACHINE`.
    fn says(&self, fault: &str, options: &[&str]) -> (i32, String, String) {
        let fault = format!("FAKE_FAULT={fault}");
        let port = free_port();
        let mut all = vec!["-e", "FAKE_GROUP=group", "-e", &fault, "--port", &port];
        all.extend(options);
        let mut command = self.launch.command(&all, &["train.py"]);
        texts(&command.env("PATH", &self.path).output().unwrap())
    }
}

fn sorted(out: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn ranks_add_up_before_they_begin() {
    let launch = Launch::new();
    launch.program(PROGRAM);
    let options = ["--ranks", "3", "--preflight", "-e", "FAKE_GROUP=group"];
    let (code, out, err) = launch.says(&options);
    assert_eq!((code, out.lines().count()), (0, 3), "{out}{err}");
    assert!(err.contains("before the first step: all-reduce of 8 MiB over 3 ranks at"), "{err}");
    assert!(err.contains("and all sums are right"), "{err}");
    let logs = launch.evidence().join("logs");
    // What was measured is not in the log of the program.
    assert_eq!(fs::read_to_string(logs.join("rank-1.log")).unwrap(), "rank 1 of 3\n");
    assert!(fs::read_to_string(logs.join("preflight-rank-1.log")).unwrap().contains("\"done\""));
    let (code, out, err) = launch.says(&[&options[..], &["-e", "FAKE_FAULT=wrong:here"]].concat());
    assert!(code == 8 && out.is_empty() && err.contains("are wrong"), "{code} {out}{err}");
    // Without it, it is not done.
    let (code, _, err) = launch.says(&["--ranks", "3", "-e", "FAKE_FAULT=fails:here"]);
    assert!(code == 0 && err.is_empty(), "{err}");
}

#[test]
fn a_machine_that_fails_hangs_or_is_slow_is_named_before_the_first_step() {
    let machines = Machines::new();
    let options = ["--hosts", "node[1-3]", "--ranks", "1", "--master-addr", "127.0.0.1"];
    let said = |fault: &str, limit: &str| {
        machines.says(fault, &[&options[..], &[&format!("--preflight={limit}")]].concat())
    };
    let (code, out, err) = said("fails:node2", "2m");
    assert!(code == 8 && out.is_empty(), "{code} {out}{err}");
    assert!(err.contains("node2: rank 1 failed before the first step"), "{err}");
    assert!(err.contains("uncorrectable ECC error"), "{err}");
    let (code, out, err) = said("hangs:node3", "8s");
    assert!(code == 8 && out.is_empty(), "{code} {out}{err}");
    assert!(
        err.contains("node3: rank 2 did not meet the others within 8 s, as all others did"),
        "{err}"
    );
    // It works: whoever has no other goes on with it, and knows.
    let (code, out, err) = said("slow:node2", "2m");
    assert_eq!(
        (code, sorted(&out)),
        (0, vec!["[0] rank 0 of 3", "[1] rank 1 of 3", "[2] rank 2 of 3"]),
        "{err}"
    );
    assert!(err.contains("note: node2: ") && err.contains("to and from its neighbours"), "{err}");
}

#[test]
fn spares_take_the_places_of_machines_that_cannot_be_used() {
    let machines = Machines::new();
    let said = |fault: &str, hosts: &str, more: &[&str]| {
        let options = ["--hosts", hosts, "--ranks", "1", "--spares", "1", "--preflight=2m"];
        machines.says(fault, &[&options[..], more].concat())
    };
    let two = vec!["[0] rank 0 of 2", "[1] rank 1 of 2"];
    let master = ["--master-addr", "127.0.0.1"];
    for fault in ["fails:node2", "wrong:nobody"] {
        let (code, out, err) = said(fault, "node[1-3]", &master);
        assert_eq!((code, sorted(&out)), (0, two.clone()), "{fault}: {err}");
        let left_out = err.contains("node2 is left out, node3 takes its place: rank 1 failed");
        assert_eq!(left_out, fault == "fails:node2", "{err}");
    }
    let (code, out, err) = said("slow:node2", "node[1-4]", &master);
    assert_eq!((code, out.lines().count()), (0, 3), "{err}");
    assert!(err.contains("node2 is left out, node4 takes its place: "), "{err}");
    let (code, out, err) = said(":", "node1 down node3", &master);
    assert_eq!((code, sorted(&out)), (0, two), "{err}");
    assert!(
        err.contains("down: ssh: connect to host down") && err.contains("it is left out"),
        "{err}"
    );
    // Two are needed, and only one is left.
    let (code, out, err) = said(":", "down down2 node3", &["--nodes", "2"]);
    assert!(code == 8 && out.is_empty() && err.contains("down"), "{code} {err}");
    let (code, _, err) = said(":", "node[1-4]", &["--nodes", "2"]);
    assert!(code == 2 && err.contains("2 nodes and 1 spares were asked for"), "{code} {err}");
}

#[test]
fn a_machine_that_was_lost_is_replaced_at_the_restart() {
    let machines = Machines::new();
    machines.launch.program(
        "import os, signal\nprint('rank', os.environ['RANK'], 'attempt', os.environ['SCONCE_LAUNCH_ATTEMPT'])\n\
         attempt = os.environ['SCONCE_LAUNCH_ATTEMPT']\n\
         if attempt == '0' and os.environ['RANK'] == '1':\n    node = os.getppid()\n    \
         parent = int(open(f'/proc/{node}/stat').read().rpartition(')')[2].split()[1])\n    os.kill(parent, signal.SIGKILL)\n\
         if attempt == '0':\n    import time\n    time.sleep(60)\n",
    );
    let options = [
        "--hosts",
        "node[1-3]",
        "--spares",
        "1",
        "--ranks",
        "1",
        "--master-addr",
        "127.0.0.1",
        "--restarts",
        "1",
    ];
    let (code, out, err) = machines.says(":", &options);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("[1] rank 1 attempt 1"), "{out}{err}");
    assert!(
        err.contains("node2 is left out, node3 takes its place") && err.contains("(1 of 1)"),
        "{err}"
    );
}
