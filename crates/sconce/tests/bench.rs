//! `sconce bench` on a machine whose `libcuda.so.1` is forged: the path from the driver's C interface to the report.

mod world;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use world::World;

/// Builds the forged driver.
fn driver(world: &World, defines: &[&str]) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cuda/tests/forged/libcuda.c");
    fs::create_dir_all(world.path("lib")).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-w", "-o"]).arg(world.path("lib/libcuda.so.1"));
    cc.arg("-DH100").args(defines.iter().map(|define| format!("-D{define}"))).arg(source);
    assert!(cc.status().unwrap().success());
}

fn bench(world: &World, words: &[&str]) -> Output {
    let mut command = world.sconce(&["bench", "--host"]);
    command.args(words).env("LD_LIBRARY_PATH", world.path("lib"));
    command.env("PATH", "/usr/bin:/bin").output().unwrap()
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn copies_are_measured_and_reported() {
    let world = World::new();
    driver(&world, &["DEVICES=2"]);
    let only = "host-to-device,device-to-host,peer";
    let (_, out, err) = said(&bench(&world, &["--quick", "--only", only, "--seed", "7", "--json"]));
    let report: Value =
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    assert_eq!(report["version"], 1);
    assert_eq!(report["seed"], 7);
    assert_eq!(report["effort"], "quick");
    assert_eq!(report["gpus"].as_array().unwrap().len(), 2);
    let figures = report["figures"].as_array().unwrap();
    let names: Vec<String> =
        figures.iter().map(|one| format!("{} {}", one["figure"], one["gpus"])).collect();
    let wanted = [
        r#""host-to-device" [0]"#,
        r#""device-to-host" [0]"#,
        r#""host-to-device" [1]"#,
        r#""device-to-host" [1]"#,
        r#""peer" [0,1]"#,
        r#""peer" [1,0]"#,
    ];
    assert_eq!(names, wanted);
    assert!(figures.iter().all(|one| one["value"].as_f64().unwrap() > 0.1), "{out}");
    assert!(report["unavailable"].as_array().unwrap().is_empty(), "{out}");

    // Beside itself nothing is new; and a document that is none is said before anything is measured.
    fs::write(world.path("before.json"), &out).unwrap();
    let (_, out, err) =
        said(&bench(&world, &["--quick", "--only", "peer", "--baseline", "before.json"]));
    assert!(err.contains("since before.json:") && err.contains("peer 0 to 1"), "{out}{err}");
    fs::write(world.path("none.json"), "[]").unwrap();
    let (code, out, err) =
        said(&bench(&world, &["--quick", "--only", "peer", "--baseline", "none.json"]));
    assert!(code == 3 && err.contains("no result of `sconce bench --json`"), "{code} {out}{err}");
}

/// A GPU that computes wrongly is not judged by its speed.
#[test]
fn a_wrong_copy_is_said() {
    let world = World::new();
    driver(&world, &["DEVICES=1", "FLIPS"]);
    let (code, out, err) = said(&bench(&world, &["--quick", "--only", "host-to-device"]));
    assert!(code == 1, "{code} {out}{err}");
    assert!(out.contains("host-to-device") && out.contains("WRONG: "), "{out}");
    assert!(out.ends_with("1 result wrong: do not compute on this GPU\n"), "{out}");
}

#[test]
fn what_is_missing_is_said_figure_by_figure() {
    let world = World::new();
    driver(&world, &["DEVICES=1"]);
    let (code, out, err) = said(&bench(&world, &["--quick"]));
    assert!(code == 0 || code == 1, "{code} {out}{err}");
    assert!(
        out.contains("GPU 0: NVIDIA H100 80GB HBM3 (9.0, 132 multiprocessors, 80 GiB)"),
        "{out}"
    );
    let lines = |name: &str| -> Vec<&str> {
        out.lines().filter(|line| line.split(' ').next() == Some(name)).collect()
    };
    for (name, library) in [("bf16", "libcublasLt.so.13"), ("memory-read", "libnvrtc")] {
        let why = format!("not measured: there is no {library}");
        assert!(lines(name).iter().any(|line| line.contains(&why)), "{name}: {out}");
    }
    assert!(lines("host-to-device").iter().any(|line| line.contains("GB/s")), "{out}");
}

/// What happens to one group is that group's.
#[test]
fn a_crash_costs_one_group() {
    let world = World::new();
    driver(&world, &["DEVICES=1", "DIES"]);
    let (code, out, err) = said(&bench(&world, &["--quick", "--only", "host-to-device,allocate"]));
    assert!(code == 0, "{code} {out}{err}");
    let has = |text: &str| out.lines().any(|line| line.contains(text));
    assert!(has("allocate") && out.contains(" us "), "{out}");
    assert!(
        out.lines().any(|l| l.starts_with("host ") && l.contains("it ended with signal 6")),
        "{out}"
    );
}

/// What was measured until Ctrl-C is kept.
#[test]
fn an_interrupt_keeps_what_there_is() {
    let world = World::new();
    driver(&world, &["DEVICES=1"]);
    let mut command = world.sconce(&["bench", "--host", "--only", "allocate,host"]);
    command.env("LD_LIBRARY_PATH", world.path("lib")).env("PATH", "/usr/bin:/bin");
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut lines = String::new();
    while !lines.contains("allocate") {
        let read = std::io::BufRead::read_line(&mut out, &mut lines).unwrap();
        assert!(read > 0, "it ended: {lines}");
    }
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    std::io::Read::read_to_string(&mut out, &mut lines).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{lines}");
    assert!(lines.lines().last().unwrap().contains("measured"), "{lines}");
}

#[test]
fn without_a_gpu_nothing_is_measured_and_nothing_is_fine() {
    let world = World::new();
    let (code, out, err) = said(&bench(&world, &["--quick"]));
    assert!(code == 1 && out.contains("libcuda.so.1 can't be opened"), "{code} {out}{err}");
    assert!(out.ends_with("nothing could be measured\n"), "{out}");
    driver(&world, &["NO_DEVICE"]);
    let (code, out, _) = said(&bench(&world, &["--quick"]));
    assert!(code == 1 && out.contains("no CUDA-capable device is detected (100)"), "{out}");
    world.image(r#"{"Env": ["PATH=/usr/bin"]}"#);
    let (code, out, err) =
        said(&world.sconce(&["bench", "--gpus", "none", "oci:image"]).output().unwrap());
    assert!(code == 8 && err.contains("no GPU was given"), "{code} {out}{err}");
    let (code, _, err) = said(&bench(&world, &["--only", "speed"]));
    assert!(code == 2 && err.contains("there is no figure `speed`"), "{err}");
    let (code, _, err) = said(&bench(&world, &["--quick", "--full"]));
    assert!(code == 2 && err.contains("--full"), "{err}");
}
