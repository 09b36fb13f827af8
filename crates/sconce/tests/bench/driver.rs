//! `sconce bench` on a machine whose `libcuda.so.1` is forged: the path from the driver's C interface to the report.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::world::World;
use serde_json::Value;

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
    assert!(code == 3 && err.contains("it holds no result"), "{code} {out}{err}");
}

/// A GPU that computes wrongly is not judged by its speed.
#[test]
fn a_wrong_copy_is_said() {
    let world = World::new();
    driver(&world, &["DEVICES=1", "FLIPS"]);
    let (code, out, err) = said(&bench(&world, &["--quick", "--only", "host-to-device"]));
    assert!(code == 1, "{code} {out}{err}");
    assert!(out.contains("host-to-device") && out.contains("WRONG: "), "{out}");
    assert!(out.ends_with("1 result wrong: do not compute on GPU 0\n"), "{out}");
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
    // Part of it is not all of it.
    assert!(code == 11 && out.ends_with("; not measured: host\n"), "{code} {out}{err}");
    let has = |text: &str| out.lines().any(|line| line.contains(text));
    assert!(has("allocate") && out.contains(" us "), "{out}");
    assert!(
        out.lines().any(|l| l.starts_with("host ") && l.contains("it ended with signal 6")),
        "{out}"
    );
}

/// What was measured until Ctrl-C is printed, however often it is pressed.
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
    for _ in 0..3 {
        // One that has ended by then is what the next lines look at.
        _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        std::thread::sleep(std::time::Duration::from_millis(30));
    }
    std::io::Read::read_to_string(&mut out, &mut lines).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{lines}");
    assert!(lines.lines().last().unwrap().contains("measured"), "{lines}");
}

#[test]
fn without_a_gpu_nothing_is_measured_and_nothing_is_fine() {
    let world = World::new();
    let (code, out, err) = said(&bench(&world, &["--quick"]));
    assert!(code == 12 && out.contains("libcuda.so.1 can't be opened"), "{code} {out}{err}");
    assert!(out.ends_with("nothing could be measured\n"), "{out}");
    driver(&world, &["NO_DEVICE"]);
    let (code, out, _) = said(&bench(&world, &["--quick"]));
    assert!(code == 12 && out.contains("no CUDA-capable device is detected (100)"), "{out}");
    world.image(r#"{"Env": ["PATH=/usr/bin"]}"#);
    let (code, out, err) =
        said(&world.sconce(&["bench", "--gpus", "none", "oci:image"]).output().unwrap());
    assert!(code == 8 && err.contains("no GPU was given"), "{code} {out}{err}");
    let (code, _, err) = said(&bench(&world, &["--only", "speed"]));
    assert!(code == 2 && err.contains("there is no figure `speed`"), "{err}");
    let wrong: &[(&[&str], &str)] = &[
        (&["--quick", "--full"], "--full"),
        (&["--quick", "--advise"], "--advise"),
        (&["--burn", "0s"], "a second at least"),
        (&["--burn", "soon"], "90s, 30m, 12h or 2d"),
        (&["--burn", "99999999999999999999d"], "no number"),
        (&["--only", "burn"], "how long is `burn` to take?"),
        (&["torch:2.15.0"], "`--host` measures this machine"),
        (&["--json", "--html"], "--html"),
    ];
    for (words, why) in wrong {
        let (code, _, err) = said(&bench(&world, words));
        assert!(code == 2 && err.contains(why), "{words:?}: {code} {err}");
    }
}

/// Writes a Python that is none: it says what it is told to.
fn python(world: &World, script: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = world.path("python");
    fs::write(&path, format!("#!/bin/sh\n{script}")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_string_lossy().into_owned()
}

const LOADER: &str = r#"{"figure":{"figure":"loader","gpus":[],"value":100,"best":110,"spread":0.1,"repeats":9,"method":"m","curve":[[0,50],[2,99],[4,100]]}}"#;

/// What the program in Python says is figures; what it does not say is nobody's.
#[test]
fn figures_through_torch_are_read_and_not_believed() {
    let world = World::new();
    let run = |script: &str, words: &[&str]| {
        let python = python(&world, script);
        said(&bench(&world, &[&["--python", &python], words].concat()))
    };
    let told = format!("echo '{{\"begin\":\"loader\"}}'; echo '{LOADER}'");
    let (code, out, err) = run(&told, &["--only", "loader"]);
    assert!(code == 0 && out.contains(" 100 samples/s"), "{code} {out}{err}");
    assert!(out.contains("advice: a DataLoader") && out.contains("num_workers=2"), "{out}");
    // It dies in the middle: what came before counts, and where it was is said.
    let dies =
        format!("{told}; echo '{{\"begin\":\"loader-passing\"}}'; echo oh no >&2; kill -9 $$");
    let (code, out, err) = run(&dies, &["--only", "loader"]);
    assert!(code == 11 && out.contains(" 100 samples/s"), "{code} {out}{err}");
    let died = "Python ended with signal 9 while it measured `loader-passing`; last words: oh no";
    assert!(out.contains(died), "{out}{err}");
    // What is no answer ends it; what lies is not taken.
    for line in [r#"{"figure":{"figure":"speed"}}"#, "hello", r#"{"figure":[]}"#] {
        let (code, out, err) = run(&format!("echo '{line}'"), &["--only", "loader"]);
        assert!(
            code == 12 && out.contains("loader") && out.contains("a line from inside"),
            "{out}{err}"
        );
    }
    let (code, out, err) = run("while :; do echo '{\"begin\":\"x\"}'; done", &["--only", "loader"]);
    assert!(code == 12 && out.ends_with("nothing could be measured\n"), "{code} {out}{err}");
    let (code, out, _) = run("exec /usr/bin/python3 \"$@\"", &["--only", "loader"]);
    assert!(code == 12 || out.contains("samples/s"), "{code} {out}");
    let none = said(&bench(&world, &["--python", "/nowhere/python", "--only", "loader"]));
    assert!(none.0 == 2 && none.2.contains("there is no `/nowhere/python`"), "{none:?}");
}

/// A figure through torch without the error of its results, or with numbers that can't be, is none.
#[test]
fn figures_that_say_too_little_are_none() {
    let world = World::new();
    driver(&world, &["DEVICES=1"]);
    let run = |line: &str| {
        let python = python(&world, &format!("echo '{line}'"));
        said(&bench(&world, &["--python", &python, "--only", "torch-bf16"]))
    };
    let line = |value: &str, error: &str| {
        format!(
            r#"{{"figure":{{"figure":"torch-bf16","gpus":[0],"value":{value},"best":500,"spread":0.1,"repeats":9,"method":"m"{error}}}}}"#
        )
    };
    let held = r#","error":[0.001,0.01]"#;
    let (code, out, err) = run(&line("500", held));
    assert!(out.contains("torch-bf16") && out.contains(" 500 TFLOP/s"), "{code} {out}{err}");
    for (said, why) in [
        (line("500", ""), "`torch-bf16` without the error of its results"),
        (line("0", held), "`torch-bf16` of no size"),
        (line("-1", held), "`torch-bf16` of no size"),
        (line("500", r#","error":[-1,0.01]"#), "an error of no size"),
        (line("NaN", held), "a line from inside"),
        (line("\"500\"", held), "a line from inside"),
    ] {
        let (code, out, err) = run(&said);
        assert!(
            code == 12 && out.contains(why) && !out.contains("TFLOP/s"),
            "{said}: {code} {out}{err}"
        );
    }
}

/// What a program leaves running in a session of its own ends with the measurement, however that ends.
#[test]
fn what_leaves_its_process_group_ends_too() {
    let world = World::new();
    let place = world.path("pid").display().to_string();
    let leaves = format!(
        "setsid sh -c 'echo $$ > {place}.new; mv {place}.new {place}; exec sleep 600' > /dev/null 2>&1 &\nuntil test -e {place}; do sleep 0.05; done\n"
    );
    let is_gone = || {
        let pid = fs::read_to_string(&place).unwrap();
        for _ in 0..100 {
            if !Path::new(&format!("/proc/{}", pid.trim())).exists() {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        false
    };
    let ends = python(&world, &format!("{leaves}echo '{LOADER}'"));
    let (code, out, err) = said(&bench(&world, &["--python", &ends, "--only", "loader"]));
    assert!(code == 0 && out.contains(" 100 samples/s"), "{code} {out}{err}");
    assert!(is_gone());
    fs::remove_file(&place).unwrap();
    let stays = python(&world, &format!("{leaves}exec sleep 600"));
    let mut command = world.sconce(&["bench", "--host", "--python", &stays, "--only", "loader"]);
    command.env("PATH", "/usr/bin:/bin").stdout(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    for _ in 0..600 {
        if Path::new(&place).exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(is_gone());
}

/// A timer that answers nonsense stops its group at once, and not when its time is up.
#[test]
fn a_timer_that_lies_costs_no_minutes() {
    for timer in ["-1.0f", "0.0f", "__builtin_nanf(\"\")", "1e-6f", "1e12f"] {
        let world = World::new();
        driver(&world, &["DEVICES=1", &format!("TIMER={timer}")]);
        let begun = std::time::Instant::now();
        let (code, out, err) = said(&bench(&world, &["--quick", "--only", "host-to-device"]));
        assert!(
            code == 12 && out.contains("cuEventElapsedTime answered"),
            "{timer}: {code} {out}{err}"
        );
        assert!(begun.elapsed().as_secs() < 60, "{timer}: {:?}", begun.elapsed());
    }
}

#[test]
fn results_are_kept_and_listed() {
    let world = World::new();
    let log = |words: &[&str]| {
        said(&world.sconce(&[&["bench", "log"], words].concat()).output().unwrap())
    };
    let (code, out, err) = log(&[]);
    assert!(code == 0 && out.is_empty() && err.contains("nothing was measured yet"), "{out}{err}");
    driver(&world, &["DEVICES=1"]);
    for seed in ["1", "2"] {
        let words = ["--quick", "--only", "host-to-device", "--seed", seed];
        assert_eq!(said(&bench(&world, &words)).0, said(&bench(&world, &words)).0);
    }
    fs::write(world.path("store/bench/000000000001-broken.json"), "{").unwrap();
    let (code, out, err) = log(&[]);
    assert!(code == 0 && err.contains("-broken.json is left out"), "{err}");
    let wanted = "  GPU 0: NVIDIA H100 80GB HBM3, driver not known: host-to-device ";
    assert_eq!(out.lines().filter(|line| line.starts_with(wanted)).count(), 4, "{out}");
    assert!(out.contains("ago  this machine  quick\n"), "{out}");
    let (_, out, _) = log(&["--only", "device-to-host"]);
    assert!(!out.contains("host-to-device"), "{out}");
    let figures = |words: &[&str]| -> usize {
        let all: Value = serde_json::from_str(&log(words).1).unwrap();
        all.as_array().unwrap().iter().map(|one| one["figures"].as_array().unwrap().len()).sum()
    };
    assert_eq!(figures(&["--json"]), 4);
    assert_eq!(figures(&["--json", "--only", "device-to-host"]), 0);
    assert_eq!(
        (figures(&["--json", "--gpus", "device=0"]), figures(&["--json", "--gpus", "1,2"])),
        (4, 0)
    );
    for words in
        [&["--quick"][..], &["--host"], &["--seed", "1"], &["--html"], &["-e", "A=b"], &["--force"]]
    {
        let (code, _, err) = log(words);
        assert!(
            code == 2 && err.contains("`sconce bench log` measures nothing"),
            "{words:?}: {code} {err}"
        );
    }
    fs::write(world.path("store/bench/999999999999-new.json"), r#"{"version": 2}"#).unwrap();
    let (code, out, _) = log(&[]);
    let newer = "a result of a newer sconce: version 2, and this one reads 1\n";
    assert!(code == 0 && out.ends_with(newer), "{out}");
    let (code, out, err) = log(&["--json"]);
    assert!(code == 0 && err.contains("has version 2"), "{err}");
    assert!(out.contains("host-to-device"), "{out}");
    let (_, out, _) = log(&["--json"]);
    let all: Value = serde_json::from_str(&out).unwrap();
    let seeds: Vec<u64> =
        all.as_array().unwrap().iter().map(|one| one["seed"].as_u64().unwrap()).collect();
    assert_eq!(seeds, [1, 1, 2, 2]);
}

/// A burn without what compares its results is no burn.
#[test]
fn a_burn_that_can_not_compare_is_not_measured() {
    let world = World::new();
    driver(&world, &["DEVICES=2"]);
    let (code, out, err) = said(&bench(&world, &["--burn", "1s"]));
    assert!(code == 12 && out.ends_with("nothing could be measured\n"), "{code} {out}{err}");
    assert_eq!(out.matches("burn gpu ").count(), 2, "{out}");
}
