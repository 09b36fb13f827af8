//! Figures through torch: what a program in Python says is held to what can be, and what NVML saw is NVML's.

use std::time::{Duration, Instant};

use super::machine::Machine;
use sconce_bench::{FIGURES, Group};

/// Figures through torch; those of the DataLoader need no GPU, and have no bound.
fn of(wanted: &[Group]) -> Vec<&'static str> {
    FIGURES.iter().filter(|row| wanted.contains(&row.group)).map(|row| row.name).collect()
}

const BY_GPU: [Group; 3] = [Group::Torch, Group::Training, Group::Small];

/// A figure; `with` replaces parts of it.
fn line(name: &str, with: &[(&str, &str)]) -> String {
    let gpus = if name.starts_with("loader") { "[]" } else { "[0]" };
    let mut text = format!(
        r#"{{"figure":{{"figure":"{name}","gpus":{gpus},"value":500,"best":510,"spread":0.1,"repeats":9,"method":"m","error":[0.001,0.01]}}}}"#
    );
    for (from, to) in with {
        assert!(text.contains(from), "{text}: {from}");
        text = text.replace(from, to);
    }
    text
}

/// A program that answers for each figure that it is asked for, with this value.
fn answers(value: &str) -> String {
    let line = line(
        "$name",
        &[("\"value\":500,\"best\":510", &format!("\"value\":{value},\"best\":{value}"))],
    );
    let line = line.replace('"', "\\\"");
    format!(
        "shift 7\nfor name in \"$@\"; do echo \"{{\\\"begin\\\":\\\"$name\\\"}}\"; echo \"{line}\"; done"
    )
}

#[test]
fn nothing_passes_its_bound() {
    let machine = Machine::new();
    let python = machine.python("2.15.0", &answers("900000"));
    let words = ["--only", "torch,training,small", "--python", &python];
    let (code, said) = machine.says(&words, "");
    assert_eq!(code, 1, "{said}");
    let all = of(&BY_GPU);
    assert!(all.len() > 12, "{all:?}");
    for name in &all {
        let its = |line: &&str| line.split(' ').next() == Some(name);
        let line = said.lines().find(its).unwrap_or_else(|| panic!("{name}: {said}"));
        assert!(
            line.contains(" WRONG: 900000 ")
                && line.contains("more than its multiprocessors can do"),
            "{line}"
        );
    }
    assert!(!said.contains("advice:"), "{said}");
    let end = format!("{} results wrong: do not compute on GPU 0\n", all.len());
    assert!(said.ends_with(&end), "{said}");
    // What can be is a figure, of each of them.
    let python = machine.python("2.15.0", &answers("40"));
    let (code, document, said) =
        machine.json(&["--only", "torch,training,small", "--python", &python], "");
    assert_eq!(code, 0, "{said}");
    assert_eq!(document["figures"].as_array().unwrap().len(), all.len(), "{document:#}");
}

/// Each product, block, loader and way of training: no number, less than nothing, or an error that is missing or too large.
#[test]
fn what_is_no_number_is_no_figure() {
    let machine = Machine::new();
    let refused = |name: &str, with: &[(&str, &str)], why: &str, wanted: i32| {
        let python = machine.python("2.15.0", &format!("cat <<'END'\n{}\nEND", line(name, with)));
        let (code, said) = machine.says(&["--only", name, "--python", &python], "");
        assert!(code == wanted && said.contains(why), "{name} {with:?}: {code} {said}");
        assert!(!said.contains("advice:") && !said.contains(" 500 "), "{name}: {said}");
    };
    let value = "\"value\":500";
    for name in of(&[Group::Torch, Group::Training, Group::Small, Group::Loader]) {
        refused(name, &[(value, "\"value\":NaN")], "a line from inside is no measurement", 12);
        refused(name, &[(value, "\"value\":-500")], &format!("`{name}` of no size"), 12);
    }
    for name in ["torch-fp8", "torch-attention", "train-bf16-compiled", "small-graph"] {
        let error = ",\"error\":[0.001,0.01]";
        let without = format!("`{name}` without the error of its results");
        refused(name, &[(error, "")], &without, 12);
        refused(name, &[("0.001", "-0.001")], "an error of no size", 12);
        refused(
            name,
            &[("0.001", "0.02")],
            "WRONG: its result is off by 2.0e-2, and 1e-2 is allowed",
            1,
        );
        refused(name, &[("\"best\":510", "\"best\":Infinity")], "a line from inside is no", 12);
    }
    for name in ["loader", "loader-passing", "train-bf16"] {
        refused(name, &[("0.1", "-0.1")], &format!("`{name}` of no spread"), 12);
        refused(name, &[(":9", ":0")], &format!("`{name}` of no repeats"), 12);
    }
}

/// What torch.compile and CUDA graphs gain is a ratio of figures that are believed: one that is not gives no advice.
#[test]
fn gains_are_of_figures_that_can_be() {
    let machine = Machine::new();
    let run = |changes: &[(&str, &[(&str, &str)])]| {
        let names = [
            "train-bf16",
            "train-bf16-compiled",
            "train-bf16-graph",
            "small-eager",
            "small-compiled",
            "small-graph",
        ];
        let lines: Vec<String> = names
            .map(|name| {
                let with = changes.iter().find(|(changed, _)| *changed == name);
                format!(
                    "*' {name} '*) ;;\n*) false ;; esac && echo '{}'",
                    line(name, with.map_or(&[], |(_, with)| with))
                )
            })
            .map(|line| format!("case \" $* \" in {line}"))
            .to_vec();
        let python = machine.python("2.15.0", &(lines.join("\n") + "\nexit 0"));
        machine.says(&["--only", "training,small", "--python", &python], "").1
    };
    let faster = [("\"value\":500,\"best\":510", "\"value\":700,\"best\":710")];
    let gains = [
        ("train-bf16-compiled", "advice: torch.compile trains a large block 1.40 times"),
        ("train-bf16-graph", "advice: a CUDA graph trains a large block 1.40 times"),
        ("small-compiled", "advice: torch.compile trains a small model 1.40 times"),
        ("small-graph", "advice: a CUDA graph trains a small model 1.40 times"),
    ];
    let all: Vec<(&str, &[(&str, &str)])> =
        gains.iter().map(|(name, _)| (*name, &faster[..])).collect();
    let said = run(&all);
    for (name, gain) in gains {
        assert!(said.contains(gain), "{name}: {said}");
    }
    let forged: [&[(&str, &str)]; 3] = [
        &[("\"value\":500,\"best\":510", "\"value\":900000,\"best\":900000")],
        &[("\"value\":500,\"best\":510", "\"value\":700,\"best\":900000")],
        &[
            ("\"value\":500,\"best\":510", "\"value\":700,\"best\":710"),
            ("[0.001,0.01]", "[0.5,0.01]"),
        ],
    ];
    for (name, gain) in gains {
        let short = gain.split(" 1.40").next().unwrap();
        for with in forged {
            let said = run(&[(name, with)]);
            assert!(!said.contains(short), "{name}: {said}");
            let its = |line: &str| line.starts_with(name) && line.contains("WRONG: ");
            assert!(said.lines().any(its), "{name}: {said}");
        }
    }
}

/// NVML that hangs meanwhile holds nobody up, and is said.
#[test]
fn nvml_that_hangs_while_python_measures() {
    let machine = Machine::new();
    let script =
        format!("echo '{{\"begin\":\"torch-bf16\"}}'; sleep 2; echo '{}'", line("torch-bf16", &[]));
    let python = machine.python("2.15.0", &script);
    let begun = Instant::now();
    let words = ["--only", "torch-bf16", "--python", &python];
    let (code, document, said) = machine.json(&words, "gpu.*.clocks_before_hang 8\n");
    assert!(begun.elapsed() < Duration::from_secs(90), "{:?}", begun.elapsed());
    assert!(code == 11, "{code} {said} {document:#}");
    assert_eq!(document["figures"][0]["value"], 500.0, "{document:#}");
    let why = "no answer for 5 s while `torch` was measured: clocks, power";
    let silent = &document["unavailable"][0];
    assert_eq!(silent["figure"], "nvml", "{document:#}");
    assert!(silent["reason"].as_str().unwrap().starts_with(why), "{document:#}");
    // What it had said until then, and no more.
    let samples = document["figures"][0]["evidence"]["samples"].as_u64().unwrap_or(0);
    assert!(samples <= 8, "{document:#}");
    assert!(document["remarks"].as_array().unwrap().is_empty(), "{document:#}");
}

/// What NVML saw while a figure was measured is neither Python's to say nor to choose.
#[test]
fn evidence_is_nvmls() {
    let machine = Machine::new();
    let forged = line(
        "torch-bf16",
        &[("\"method\"", "\"evidence\":{\"samples\":999,\"sm_mhz\":[1980,1980,1980]},\"method\"")],
    );
    let begin = "echo '{\"begin\":\"torch-bf16\"}'";
    let seen = |script: &str, nvml: &str| {
        let python = machine.python("2.15.0", script);
        let words = ["--only", "torch-bf16", "--python", &python];
        let (_, document, said) = machine.json(&words, nvml);
        assert_eq!(document["figures"][0]["value"], 500.0, "{said} {document:#}");
        document["figures"][0]["evidence"].clone()
    };
    let evidence = seen(&format!("{begin}; sleep 1; echo '{forged}'"), "gpu.*.sm_mhz 1200\n");
    assert!(
        evidence["sm_mhz"][1] == 1200.0 && evidence["samples"].as_u64() < Some(900),
        "{evidence}"
    );
    // It begins once: a program does not choose the moment that counts.
    let again = seen(&format!("{begin}; sleep 2; {begin}; echo '{forged}'"), "");
    assert!(again["samples"].as_u64().unwrap_or(0) >= 3, "{again}");
    // Without NVML there is none.
    let python = machine.python("2.15.0", &format!("{begin}; echo '{forged}'"));
    let mut command = machine.command(&["--only", "torch-bf16", "--python", &python, "--json"], "");
    let output = command.env("FAKE_NVML_WORLD", "/nowhere").output().unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(document["figures"][0].get("evidence").is_none(), "{document:#}");
    // Nor does it speak for NVML, or say which torch there is.
    for said in [
        r#"{"unavailable":{"figure":"nvml","gpus":[],"reason":"x"}}"#,
        r#"{"torch":{"version":"9.9.9"}}"#,
    ] {
        let python = machine.python("2.15.0", &format!("echo '{said}'"));
        let (code, document, _) = machine.json(&["--only", "torch-bf16", "--python", &python], "");
        assert!(code == 12 && document["torch"] == "2.15.0", "{document:#}");
        let reason = document["unavailable"][0]["reason"].as_str().unwrap();
        assert!(reason.contains("which nobody asked of it"), "{document:#}");
    }
}
