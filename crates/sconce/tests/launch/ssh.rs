//! On machines behind ssh.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::world::texts;
use crate::{Launch, processes_with, soon};

/// Another machine: a `ssh` that runs the line here, with a store and a name of its own.
pub(crate) fn fake_ssh(launch: &Launch) -> String {
    use std::os::unix::fs::PermissionsExt;
    let folder = launch.world.path("bin");
    fs::create_dir_all(&folder).unwrap();
    let script = format!(
        "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nhost=$1; shift\n\
         [ \"${{host#down}}\" != \"$host\" ] && {{ echo 'ssh: connect to host down port 22: No route to host' >&2; exit 255; }}\n\
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

pub(crate) fn free_port() -> String {
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
