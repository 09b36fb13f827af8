//! `sconce doctor` as a user starts it: exit codes, a snapshot on standard output, and several machines over an ssh that
//! answers from files.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
    assert_eq!(code(&["--from", "/nowhere/snapshot.json"]), 7);
    assert_eq!(code(&["--save", "a", "--from", "b"]), 2);
    assert_eq!(code(&["gpu[1-", "gpu2"]), 2);
    assert_eq!(code(&["gpu1", "gpu2", "--watch"]), 2);
    let mut bare: serde_json::Value = serde_json::from_str(&text).unwrap();
    bare["pci"] = serde_json::json!([]);
    bare["gpus"] = serde_json::json!([]);
    bare["driver"] = serde_json::json!({ "nvml": false });
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
