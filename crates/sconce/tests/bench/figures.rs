//! `sconce bench` beside a GPU that is none: libcuda, NVRTC, cuBLASLt, cuDNN, NCCL and NVML that are as fast, and compute as
//! wrongly, as a test says.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use super::machine::{Machine, all, at_last, working};
use sconce_testkit::FakeGpu;
use serde_json::Value;

const H200: (&str, &str) = ("FAKE_GPU_NAME", "NVIDIA H200");
/// So little memory that a product is a small one, which the fake computes in no time.
const SMALL: (&str, &str) = ("FAKE_GPU_FREE", "90000000");

const COLLECTIVES: [&str; 6] =
    ["all-reduce", "all-gather", "reduce-scatter", "all-to-all", "broadcast", "send-receive"];

/// A machine with all the libraries that there are.
fn machine() -> Machine {
    Machine::with(&[("libcudnn", "libcudnn.so.9"), ("libnccl", "libnccl.so.2")])
}

fn command(machine: &Machine, words: &[&str], says: &[(&str, &str)]) -> Command {
    // NVML calls a GPU what CUDA does.
    if let Some((_, name)) = says.iter().find(|(variable, _)| *variable == H200.0) {
        machine.nvml.becomes(&format!("{}gpu.*.name {name}\n", working(2)));
    }
    let mut command = machine.plain(&[&["--host", "--quick", "--seed", "7"], words].concat());
    command.envs(says.iter().copied());
    command
}

/// Exit code and what was printed.
fn told(machine: &Machine, words: &[&str], says: &[(&str, &str)]) -> (i32, String) {
    all(&mut command(machine, words, says))
}

/// The line of a figure holds these words, and this is the exit code.
fn expects(machine: &Machine, figure: &str, says: &[(&str, &str)], words: &str, code: i32) {
    at_last(|| {
        let (found, text) = told(machine, &["--only", figure], says);
        let its = |line: &&str| line.split(' ').next() == Some(figure);
        let holds = text.lines().find(its).unwrap_or_default().contains(words) && found == code;
        (holds, format!("{says:?}: {found} {text}"))
    });
}

/// A Python that is none: it does what it is told to.
fn python(machine: &Machine, script: &str) -> String {
    machine.python("2.15.0", script)
}

#[test]
fn products_are_expected_low_impossible_or_wrong() {
    let machine = machine();
    let speed = |value| ("FAKE_GPU_TFLOPS", value);
    expects(&machine, "bf16", &[SMALL, speed("800")], "794 (best known): as expected", 0);
    expects(&machine, "bf16", &[SMALL, speed("500")], "LOW, without a known cause", 1);
    expects(
        &machine,
        "bf16",
        &[SMALL, speed("1400")],
        "WRONG: 1400 TFLOP/s is more than its multiprocessors can do",
        1,
    );
    expects(
        &machine,
        "bf16",
        &[SMALL, speed("800"), ("FAKE_GPU_WRONG", "product")],
        "WRONG: bf16 of 1024x1024x1024 is",
        1,
    );
    expects(
        &machine,
        "bf16",
        &[SMALL, speed("800"), ("FAKE_GPU_WRONG", "numbers")],
        "added up with random signs, is off by ",
        1,
    );
    // What cuBLASLt refuses is no figure, and no speed either.
    expects(
        &machine,
        "fp8",
        &[],
        "not measured: cublasLtMatmulAlgoGetHeuristic: CUBLAS_STATUS_NOT_SUPPORTED (15)",
        12,
    );
    let (code, text) = told(&machine, &["--only", "fp8,bf16"], &[SMALL]);
    assert!(code == 11 && text.ends_with("; not measured: fp8\n"), "{code} {text}");
    let slow = working(2) + "gpu.*.sm_mhz 1200\ngpu.*.reasons 4\n";
    machine.nvml.becomes(&slow);
    expects(
        &machine,
        "bf16",
        &[SMALL, speed("500")],
        "LOW: the power limit holds its clock down",
        1,
    );
}

#[test]
fn a_convolution_is_expected_low_impossible_or_wrong() {
    let machine = machine();
    let check = |says: &[(&str, &str)], words: &str, code| {
        // So little memory that it is of one image, which the fake computes whole.
        let little = ("FAKE_GPU_FREE", "12000000");
        expects(&machine, "bf16-convolution", &[&[H200, little], says].concat(), words, code);
    };
    check(&[("FAKE_GPU_TFLOPS", "790")], "787 (best known): as expected", 0);
    check(&[("FAKE_GPU_TFLOPS", "500")], "LOW, without a known cause", 1);
    check(
        &[("FAKE_GPU_TFLOPS", "1400")],
        "WRONG: 1400 TFLOP/s is more than its multiprocessors",
        1,
    );
    check(&[("FAKE_GPU_WRONG", "convolution")], "WRONG: a sum of 1 images of 56x56", 1);
    let first = "numbers of the result were not written or are none (1 images of 56x56";
    check(&[("FAKE_GPU_WRONG", "first")], first, 1);
    let pixels = ": its channels, added up with random signs, are off by ";
    check(&[("FAKE_GPU_WRONG", "pixels")], pixels, 1);
    check(
        &[("FAKE_GPU_FREE", "1000000")],
        "not measured: cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY, out of memory (2)",
        12,
    );
    let cudnn = |define| {
        // The loader knows libraries by file: another one takes its place whole.
        fs::remove_file(machine.nvml.folder().join("libcudnn.so.9")).unwrap();
        drop(FakeGpu::new(&machine.world.path("gpu")).with("libcudnn", "libcudnn.so.9", &[define]));
    };
    cudnn("-DOLD");
    check(&[], "libcudnn.so.9 has no `cudnnConvolutionForward`", 12);
    cudnn("-DNONE");
    check(&[], "0 algorithms for 1 images", 12);
}

#[test]
fn memory_is_expected_low_impossible_or_wrong() {
    let machine = machine();
    let speed = |value| [("FAKE_GPU_GB_S", value)];
    expects(&machine, "memory-copy", &speed("3000"), "3015 (best known): as expected", 0);
    expects(&machine, "memory-read", &speed("2000"), "LOW, without a known cause", 1);
    for figure in ["memory-read", "memory-write", "memory-copy", "memory-triad"] {
        expects(&machine, figure, &speed("31000"), " is more than its memory has: 3685", 1);
    }
    expects(
        &machine,
        "l2-read",
        &speed("31000"),
        " is more than its multiprocessors can do at 1980 MHz",
        1,
    );
    expects(&machine, "memory-copy", &[("FAKE_GPU_WRONG", "copy")], "WRONG: ", 1);
    // An array that the cache holds is no measure of the memory.
    expects(
        &machine,
        "memory-read",
        &[("FAKE_GPU_FREE", "500000000")],
        "not measured: cuMemGetInfo_v2 answered",
        12,
    );
}

#[test]
fn copies_with_the_host_are_bounded_by_their_link() {
    let machine = machine();
    let speed = |value| [("FAKE_GPU_HOST_GB_S", value)];
    expects(&machine, "host-to-device", &speed("55"), "57.0 (best known): as expected", 0);
    for value in ["570", "64"] {
        expects(
            &machine,
            "host-to-device",
            &speed(value),
            " is more than PCIe 5 x16 carries: 63.0",
            1,
        );
    }
    expects(&machine, "device-to-host", &speed("570"), " is more than PCIe 5 x16 carries: 63.0", 1);
    expects(&machine, "host-both-ways", &speed("570"), " is more than PCIe 5 x16 carries: 126", 1);
    machine.nvml.becomes(&(working(2) + "gpu.*.pcie_lanes 1\n"));
    expects(
        &machine,
        "host-to-device",
        &speed("50"),
        "can't tell: 50.0 GB/s came with the right contents, and PCIe 5 x1 carries 3.9",
        0,
    );
    expects(&machine, "host-to-device", &speed("3"), "LOW: its PCIe link has 1 lanes of 16", 1);
    machine.nvml.becomes(&(working(2) + "gpu.*.pcie_generation 3\n"));
    let slow = "LOW: its PCIe link is at generation 3 under load, and board and slot have 5";
    expects(&machine, "host-to-device", &speed("12"), slow, 1);
    // A link beyond what board and slot have, or of no width that there is, bounds nothing.
    for (link, value) in
        [("generation 6", "120"), ("lanes 17", "66"), ("lanes 255", "800"), ("lanes 0", "55")]
    {
        machine.nvml.becomes(&(working(2) + &format!("gpu.*.pcie_{link}\n")));
        let unknown = match link {
            "lanes 0" => "can't tell: NVML does not say its PCIe link",
            _ => "can't tell: NVML says that its PCIe link ",
        };
        expects(&machine, "host-to-device", &speed(value), unknown, 0);
    }
    machine.nvml.becomes(&(working(2) + "gpu.*.pcie_lanes -\n"));
    expects(
        &machine,
        "host-to-device",
        &speed("55"),
        "can't tell: NVML does not say its PCIe link",
        0,
    );
}

#[test]
fn launches_take_the_time_that_they_must() {
    let machine = machine();
    let none = "can't tell: nothing is known to compare it with";
    expects(&machine, "launch", &[("FAKE_GPU_LAUNCH_NS", "3000")], none, 0);
    expects(&machine, "graph-kernel", &[("FAKE_GPU_LAUNCH_NS", "0")], "WRONG: 0.", 1);
}

#[test]
fn gpus_together_are_expected_low_impossible_or_wrong() {
    let machine = machine();
    let check = |figure: &str, says: &[(&str, &str)], words: &str, code| {
        expects(&machine, figure, &[&[H200, ("FAKE_GPU_COUNT", "2")], says].concat(), words, code);
    };
    check("peer", &[("FAKE_GPU_PEER_GB_S", "390")], "391 (best known): as expected", 0);
    check("peer", &[("FAKE_GPU_PEER_GB_S", "50")], "LOW, without a known cause", 1);
    check(
        "peer",
        &[("FAKE_GPU_PEER_GB_S", "900")],
        "900 GB/s is more than its NVLink carries: 48",
        1,
    );
    let busbw = |value| [("FAKE_GPU_NCCL_GB_S", value), ("FAKE_GPU_FREE", "1000000000")];
    check("all-reduce", &busbw("335"), "327 (best known): as expected", 0);
    check("all-reduce", &busbw("100"), "LOW, without a known cause", 1);
    for figure in COLLECTIVES {
        check(figure, &busbw("20000"), " is more than its NVLink carries: 48", 1);
    }
    let small = ("FAKE_GPU_FREE", "8000000");
    check("broadcast", &[small, ("FAKE_GPU_WRONG", "collective")], "WRONG: 1 of ", 1);
    // It takes its time, and does what it is asked for once.
    for figure in COLLECTIVES {
        let first = ("FAKE_GPU_WRONG", "collective-first");
        check(
            figure,
            &[small, first],
            " numbers that GPU 0 got are wrong, in the last timed call of ",
            1,
        );
    }
}

#[test]
fn a_burn_is_expected_impossible_or_wrong() {
    let machine = machine();
    let burn = |says: &[(&str, &str)], words: &str, wanted| {
        at_last(|| {
            let (code, text) = told(&machine, &["--burn", "1s"], &[&[SMALL], says].concat());
            (text.contains(words) && code == wanted, format!("{says:?}: {code} {text}"))
        });
    };
    burn(&[("FAKE_GPU_TFLOPS", "640")], "648 (best known): as expected", 0);
    burn(&[("FAKE_GPU_TFLOPS", "300")], "LOW, without a known cause", 1);
    burn(&[("FAKE_GPU_TFLOPS", "1400")], "TFLOP/s is more than its multiprocessors can do", 1);
    burn(&[("FAKE_GPU_WRONG", "burn")], "16 bytes differed from the first result", 1);
    burn(&[("FAKE_GPU_WRONG", "product")], "WRONG: bf16 of 1024x1024x1024 is", 1);
    // It computes no more, and what is in its places was right once.
    burn(&[("FAKE_GPU_WRONG", "stops")], "16 bytes differed from the first result", 1);
    burn(&[("FAKE_GPU_WRONG", "dead")], "it does not do what it is told", 1);
    let slow = [("FAKE_GPU_TFLOPS", "400"), ("FAKE_GPU_TIMER_TIMES", "0.625")];
    burn(&slow, "by the host's clock: without a timer", 12);
}

/// A figure as a program inside says it.
fn line(name: &str, value: u32) -> String {
    format!(
        r#"{{"figure":{{"figure":"{name}","gpus":[0],"value":{value},"best":{value},"spread":0,"repeats":9,"error":[0.001,0.01],"method":"x"}}}}"#
    )
}

/// What Python starts is not to be trusted: it answers for what it was asked, wherever it writes.
#[test]
fn python_answers_for_no_native_figure() {
    let machine = machine();
    let names =
        ["launch", "host-to-device", "memory-copy", "fp16", "bf16", "bf16-sparse", "peer", "burn"];
    let native: String = names.iter().map(|name| line(name, 50) + "\n").collect();
    fs::write(machine.world.path("forged"), &native).unwrap();
    let forged = machine.world.path("forged").to_string_lossy().into_owned();
    let torch = line("torch-bf16", 803);
    let run = |script: &str| {
        let python = python(&machine, script);
        let output = command(
            &machine,
            &["--only", "torch-bf16,host-to-device", "--python", &python, "--json"],
            &[],
        )
        .output()
        .unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let figures = report["figures"].as_array().unwrap();
        let names: Vec<String> =
            figures.iter().map(|one| one["figure"].as_str().unwrap().to_owned()).collect();
        let value =
            figures.iter().find(|one| one["figure"] == "host-to-device").unwrap()["value"].as_f64();
        assert!(value.unwrap() > 54.0, "{report:#}");
        (output.status.code().unwrap(), names, report.to_string())
    };
    let (code, names, all) = run(&format!("echo '{torch}'"));
    assert!(code == 0 && names == ["host-to-device", "torch-bf16"], "{code} {all}");
    // Into every file of answers that it finds, before and after its own.
    let write = format!(
        "for file in \"$2\"/../results \"$2\"/../../*/results; do cat {forged} >>\"$file\"; done"
    );
    for script in [format!("{write}; echo '{torch}'"), format!("echo '{torch}'; {write}")] {
        let (code, names, all) = run(&script);
        assert!(code == 11 && names == ["host-to-device", "torch-bf16"], "{code} {all}");
        assert!(all.contains("it answered for `fp16`, which nobody asked of it"), "{all}");
    }
    // On its own way.
    let gpu = r#"{"gpu":{"gpu":1,"name":"NVIDIA H100","capability":[9,0],"sm_count":1,"memory_bytes":1,"l2_bytes":1}}"#;
    let wrong = r#"{"wrong":{"figure":"fp16","gpus":[0],"reason":"x"}}"#;
    let wrong_of_another = r#"{"wrong":{"figure":"torch-bf16","gpus":[7],"reason":"x"}}"#;
    let other = line("torch-bf16", 803).replace("[0]", "[1]");
    for (said, why) in [
        (line("fp16", 50).as_str(), "it answered for `fp16`"),
        (&line("torch-tf32", 50), "it answered for `torch-tf32`"),
        (wrong, "it answered for `fp16`"),
        (wrong_of_another, "of GPU 7, which CUDA does not show"),
        (gpu, "it says what GPU 1 is"),
        (&other, "of GPU 1, which CUDA does not show"),
    ] {
        let (code, names, all) = run(&format!("echo '{said}'"));
        assert!(
            code == 11 && names == ["host-to-device"] && all.contains(why),
            "{said}: {code} {all}"
        );
    }
    let (_, names, all) = run(&format!("echo '{torch}'; echo '{torch}'"));
    assert!(names.len() == 2 && all.contains("it answered twice for `torch-bf16`"), "{all}");
}

/// What does not answer is named, and the rest is measured.
#[test]
fn a_hang_costs_what_hangs() {
    let machine = machine();
    let begun = Instant::now();
    machine.nvml.becomes(&(working(2) + "init_block_ms 600000\n"));
    let (code, text) = told(&machine, &["--only", "host-to-device"], &[]);
    assert!(
        code == 11 && text.contains("not measured: no answer after 20 s: clocks, power"),
        "{code} {text}"
    );
    assert!(
        text.contains("host-to-device gpu 0") && text.contains("can't tell: NVML does not say"),
        "{text}"
    );
    assert!(begun.elapsed() < Duration::from_secs(90), "{:?}", begun.elapsed());
    let begun = Instant::now();
    let loader = r#"{"figure":{"figure":"loader","gpus":[],"value":100,"best":110,"spread":0.1,"repeats":9,"method":"m"}}"#;
    let python = python(&machine, &format!("echo '{loader}'"));
    let words = ["--only", "host-to-device,loader", "--python", &python];
    let (code, text) = told(&machine, &words, &[("FAKE_GPU_HANGS", "1")]);
    assert!(code == 11 && text.contains("not measured: no end after 45 s"), "{code} {text}");
    assert!(text.contains(" 100 samples/s"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
}

/// A program that leaves something running holds nobody up.
#[test]
fn what_python_leaves_running_is_not_waited_for() {
    let machine = machine();
    let loader = r#"{"figure":{"figure":"loader","gpus":[],"value":100,"best":110,"spread":0.1,"repeats":9,"method":"m"}}"#;
    let python = python(&machine, &format!("sleep 300 & echo '{loader}'"));
    let begun = Instant::now();
    let (code, text) = told(&machine, &["--only", "loader", "--python", &python], &[]);
    assert!(code == 0 && text.contains(" 100 samples/s"), "{code} {text}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[test]
fn gpus_that_there_are_not_are_said_at_once() {
    let machine = machine();
    let check = |gpus: &str, words: &str, wanted| {
        let (code, text) = told(
            &machine,
            &["--only", "launch", &format!("--gpus={gpus}")],
            &[("FAKE_GPU_COUNT", "2")],
        );
        assert!(code == wanted && text.contains(words), "{gpus}: {code} {text}");
    };
    check("99", "asks for more GPUs than there are: CUDA shows 2 (number 0, 1)", 8);
    check("0,5", "asks for more GPUs than there are", 8);
    check("0,0", "`--gpus 0,0` names `0` twice", 2);
    check("-1", "there is no GPU of a number below 0", 2);
    check("0,-1", "-1", 2);
    check("x", "`x`", 2);
    let gpus = |given: &str| {
        let (code, text) =
            told(&machine, &["--only", "launch", "--gpus", given], &[("FAKE_GPU_COUNT", "2")]);
        assert_eq!(code, 0, "{given}: {text}");
        // One that is slower than the others is said again at the end.
        let its = text.lines().filter(|line| line.starts_with("launch gpu "));
        its.map(|line| line.get(..12)).collect::<BTreeSet<_>>().len()
    };
    assert_eq!([gpus("all"), gpus("device=1"), gpus("1"), gpus("0,1")], [2, 1, 1, 2]);
}

/// An image's Python is trusted as little; and an image that is not there is said before another is measured.
#[test]
fn in_a_container() {
    let machine = machine();
    let world = &machine.world;
    world.image(r#"{"Env": ["PATH=/usr/bin:/bin"]}"#);
    let loader = r#"{"figure":{"figure":"loader","gpus":[],"value":100,"best":110,"spread":0.1,"repeats":9,"method":"m"}}"#;
    let native = line("fp16", 790).replace("[0]", "[]");
    let python = python(&machine, &format!("echo '{loader}'; echo '{native}' >>\"$2/../results\""));
    let mount = format!("{python}:/usr/bin/python:ro");
    // What sconce itself needs, and the tiny image has not.
    let needed = Command::new("ldd").arg(env!("CARGO_BIN_EXE_sconce")).output().unwrap().stdout;
    let libraries: Vec<String> = String::from_utf8_lossy(&needed)
        .split_whitespace()
        .filter(|word| {
            word.starts_with('/') && ["libgcc_s", "libm."].iter().any(|name| word.contains(name))
        })
        .map(|path| format!("{path}:{path}:ro"))
        .collect();
    let bench = |images: &[&str]| {
        let mut words = vec!["bench", "--gpus", "none", "--only", "loader", "-v", &mount];
        libraries.iter().for_each(|library| words.extend(["-v", library.as_str()]));
        world.says(&[&words, images].concat())
    };
    let (code, out, err) = bench(&["oci:image"]);
    assert!(out.contains(" 100 samples/s") && !out.contains("fp16 "), "{code} {out}{err}");
    assert!(
        code == 11 && err.contains("it answered for `fp16`, which nobody asked of it"),
        "{code} {out}{err}"
    );
    // Another image than that of an earlier result is said before anything is measured.
    let (_, out, _) = bench(&["--json", "oci:image"]);
    let mut earlier: Value = serde_json::from_str(&out).unwrap();
    let image = earlier["image"].as_str().unwrap().to_owned();
    earlier["image"] = "sha256:00".into();
    fs::write(world.path("before.json"), earlier.to_string()).unwrap();
    let (_, out, err) = bench(&["--baseline", "before.json", "oci:image"]);
    let why = format!("the image was sha256:00, and is {image}");
    let note = format!("note: compared with before.json: {why}\n");
    assert!(err.contains(&note) && err.contains(&format!("  {why}\n  loader ")), "{out}{err}");
    let (code, out, err) = bench(&["--image", "oci:image", "--image", "oci:missing"]);
    assert!(code != 0 && out.is_empty() && err.contains("missing"), "{code} {out}{err}");
}
