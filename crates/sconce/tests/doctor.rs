//! `sconce doctor` as a user starts it: exit codes, a snapshot on standard output, a machine that changes while it is
//! watched, and several machines over an ssh that answers from files.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use expect_test::{Expect, expect};

fn snapshots() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../doctor/tests/snapshots")
}

fn doctor(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sconce")).arg("doctor").args(args).output().unwrap()
}

fn code(args: &[&str]) -> i32 {
    doctor(args).status.code().unwrap()
}

#[test]
fn exit_codes() {
    let from = |name: &str| code(&["--from", snapshots().join(name).to_str().unwrap()]);
    assert_eq!(from("h100-vm.json"), 0);
    assert_eq!(from("cases/xid79-node-opens.json"), 0);
    assert_eq!(from("cases/needs-open-modules.json"), 1);
    let dir = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(snapshots().join("h100-vm.json")).unwrap();
    let edited = |text: String| {
        let file = dir.path().join("edited.json");
        fs::write(&file, text).unwrap();
        code(&["--from", file.to_str().unwrap()])
    };
    // Bytes that are not what was promised, as with `inspect`.
    assert_eq!(edited(text.replacen("\"schema\": 1", "\"schema\": 99", 1)), 6);
    assert_eq!(edited(text.replacen('{', "", 1)), 6);
    // What no sconce and no driver writes: it can't be judged, and is not ready.
    assert_eq!(edited(text.replacen("\"schema\": 1", "\"schema\": 0", 1)), 6);
    assert_eq!(edited(text.replace("580.159.04", "foo")), 6);
    let xid = "\"kernel_log\": [\"NVRM: Xid (PCI:0000:00:06): 4294967296, GPU\",";
    assert_eq!(edited(text.replace("\"kernel_log\": [", xid)), 6);
    assert_eq!(code(&["--from", "/nowhere/snapshot.json"]), 7);
    assert_eq!(code(&["--save", "a", "--from", "b"]), 2);
    assert_eq!(code(&["gpu[1-", "gpu2"]), 2);
    assert_eq!(code(&["gpu1", "gpu2", "--watch"]), 2);
    let mut bare: serde_json::Value = serde_json::from_str(&text).unwrap();
    bare["pci"] = serde_json::json!([]);
    bare["gpus"] = serde_json::json!([]);
    bare["driver"] = serde_json::json!({ "nvml": false });
    assert_eq!(edited(bare.to_string()), 10);
    // A driver without a GPU is not ready for any.
    bare["driver"] = serde_json::from_str::<serde_json::Value>(&text).unwrap()["driver"].clone();
    assert_eq!(edited(bare.to_string()), 10);
}

#[test]
fn a_snapshot_on_standard_output_and_nothing_else() {
    let output = doctor(&["--save", "-"]);
    assert!(output.status.success());
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["schema"], 2);
}

/// An ssh that knows its machines as files, and says how it was called.
fn ssh(dir: &Path, hosts: &[(&str, &str)]) {
    for (host, snapshot) in hosts {
        fs::copy(snapshots().join(snapshot), dir.join(format!("{host}.json"))).unwrap();
    }
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {dir}/calls\nwhile [ \"$1\" != -- ]; do shift; done\n\
         test -f {dir}/$2.json || {{ echo \"ssh: Could not resolve hostname $2\" >&2; exit 255; }}\ncat {dir}/$2.json\n",
        dir = dir.display()
    );
    fs::write(dir.join("ssh"), script).unwrap();
    fs::set_permissions(dir.join("ssh"), Permissions::from_mode(0o755)).unwrap();
}

fn fleet(hosts: &[(&str, &str)], args: &[&str], exit: i32, says: Expect) -> String {
    let dir = tempfile::tempdir().unwrap();
    ssh(dir.path(), hosts);
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let output = Command::new(env!("CARGO_BIN_EXE_sconce"))
        .arg("doctor")
        .args(args)
        .env("PATH", path)
        .output()
        .unwrap();
    says.assert_eq(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(exit), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read_to_string(dir.path().join("calls")).unwrap()
}

#[test]
fn machines_that_answer_with_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: Vec<u8>| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let noise = file("noise", vec![0xff; 4096]);
    let flood = file("flood", vec![b' '; 64 << 20]);
    let hosts = [("gpu1", noise.as_str()), ("gpu2", flood.as_str()), ("gpu3", "cases/x121.json")];
    fleet(
        &hosts,
        &["gpu[1-3]"],
        5,
        expect![[r#"
        gpu1  no answer  its answer is not text
        gpu2  no answer  its answer is longer than the 4194304 bytes of a snapshot
        gpu3  ready      -
        most: 8x NVIDIA H100 80GB HBM3, driver 550.127.05 (CUDA up to 12.4); 5.15.0-122-generic
    "#]],
    );
}

#[test]
fn several_machines() {
    let hosts = [
        ("gpu1", "cases/cdi-container-1-of-8.json"),
        ("gpu2", "cases/x121.json"),
        ("gpu3", "cases/x121.json"),
        ("gpu4", "cases/xid79-node-opens.json"),
        ("gpu5", "cases/b200-154-reboot.json"),
    ];
    let calls = fleet(
        &hosts,
        &["gpu1", "gpu[2-5]"],
        0,
        expect![[r#"
        gpu1  ready      -; GPUs and driver differ: 1x NVIDIA H100 80GB HBM3 (of 8 on the machine), driver 550.127.05 (CUDA up to 12.4)
        gpu2  ready      -
        gpu3  ready      -
        gpu4  warns      gpu-lost
        gpu5  warns      recovery-action; GPUs and driver differ: 8x NVIDIA B200, driver 580.126.20 (CUDA up to 13.0)
        most: 8x NVIDIA H100 80GB HBM3, driver 550.127.05 (CUDA up to 12.4); 5.15.0-122-generic
    "#]],
    );
    assert_eq!(calls.lines().count(), 5);
    let call = "-o BatchMode=yes -o ConnectTimeout=10 -- gpu4 sconce doctor --save -";
    assert!(calls.lines().any(|line| line == call), "{calls}");
    let hosts = [("gpu1", "cases/x121.json"), ("gpu2", "cases/needs-open-modules.json")];
    fleet(
        &hosts,
        &["gpu[1-3]"],
        1,
        expect![[r#"
            gpu1  ready      -; GPUs and driver differ: 8x NVIDIA H100 80GB HBM3, driver 550.127.05 (CUDA up to 12.4)
            gpu2  BLOCKED    needs-open-module; GPUs and driver differ: no GPU seen, driver 570.124.06 (CUDA up to 12.8)
            gpu3  no answer  ssh: Could not resolve hostname gpu3
        "#]],
    );
    fleet(
        &hosts[..1],
        &["gpu1", "gpu9"],
        5,
        expect![[r#"
        gpu1  ready      -
        gpu9  no answer  ssh: Could not resolve hostname gpu9
        most: 8x NVIDIA H100 80GB HBM3, driver 550.127.05 (CUDA up to 12.4); 5.15.0-122-generic
    "#]],
    );
    fleet(
        &hosts[..1],
        &["--hosts", "gpu1", "--remote-program", "/opt/sconce"],
        0,
        expect![[r#"
        gpu1  ready      -
        most: 8x NVIDIA H100 80GB HBM3, driver 550.127.05 (CUDA up to 12.4); 5.15.0-122-generic
    "#]],
    );
}

/// `sconce doctor --watch=1` on a machine whose driver's files are in a folder of the test's.
struct Watch {
    child: Child,
    lines: Receiver<String>,
    driver: tempfile::TempDir,
}

impl Watch {
    /// Longer than any look takes on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn start(args: &[&str]) -> Self {
        let driver = tempfile::tempdir().unwrap();
        // Whoever runs the tests in the background of a shell ignores INT.
        let mut child = Command::new("env")
            .arg("--default-signal=INT,TERM")
            .arg(env!("CARGO_BIN_EXE_sconce"))
            .args(["doctor", "--watch=1", "--driver-root"])
            .arg(driver.path())
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            out.lines()
                .map_while(Result::ok)
                .take_while(|line| send.send(line.clone()).is_ok())
                .count()
        });
        Self { child, lines, driver }
    }

    fn library(&self) -> PathBuf {
        self.driver.path().join("usr/lib/x86_64-linux-gnu/libcuda.so.580.65.06")
    }

    /// Puts a libcuda of driver 580.65.06 where the driver's files are.
    fn install(&self) {
        let mut header = [0u8; 64];
        header[..5].copy_from_slice(b"\x7fELF\x02");
        header[18] = 62;
        fs::create_dir_all(self.library().parent().unwrap()).unwrap();
        let new = self.driver.path().join("new");
        fs::write(&new, header).unwrap();
        fs::rename(new, self.library()).unwrap();
    }

    /// Reads until a line has `text` in it.
    fn until(&self, text: &str) -> String {
        let end = Instant::now() + Self::PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line =
                self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no line with {text}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Nothing is printed during several looks, the rest of a report before them apart.
    fn silent(&self) {
        while self.lines.recv_timeout(Duration::from_millis(500)).is_ok() {}
        if let Ok(line) = self.lines.recv_timeout(Duration::from_millis(3500)) {
            panic!("nothing has changed, and it says: {line}");
        }
    }

    /// Sends a signal; the process ends of it, with all that it printed whole.
    fn end(mut self, signal: &str, number: i32) {
        let kill = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
        let end = Instant::now() + Self::PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "it goes on after {signal}");
            thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(status.signal(), Some(number));
        assert!(self.lines.recv_timeout(Self::PATIENCE).is_err(), "it printed half a report");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_machine_is_judged_again_when_it_changes() {
    let watch = Watch::start(&[]);
    watch.until("GPU");
    watch.silent();
    watch.install();
    watch.until("--- changed ---");
    watch.until("580.65.06");
    fs::write(watch.driver.path().join("other"), "of no concern").unwrap();
    watch.silent();
    fs::remove_file(watch.library()).unwrap();
    watch.until("--- changed ---");
    watch.silent();
    watch.end("-INT", 2);
}

#[test]
fn each_judgement_is_a_line_of_json() {
    let watch = Watch::start(&["--json"]);
    let report = |line: String| serde_json::from_str::<serde_json::Value>(&line).unwrap();
    let first = report(watch.until("{"));
    assert_eq!(first["schema"], 1);
    watch.install();
    let second = report(watch.until("{"));
    assert!(second["findings"].to_string().contains("580.65.06"), "{second}");
    watch.end("-TERM", 15);
}
