//! `sconce bench --baseline`: what differs from an earlier result is said before anything is measured, and what can't be compared
//! has no verdict, in any of the forms.

use std::fs;

use super::machine::{Machine, all};
use serde_json::Value;

const QUICK: [&str; 3] = ["--quick", "--only", "bf16"];

struct Before {
    machine: Machine,
    document: Value,
}

impl Before {
    /// A machine, and what it was.
    fn new() -> Self {
        let machine = Machine::new();
        let python = machine.python("2.15.0+cu130", "exit 1");
        let words = [&QUICK[..], &["--python", &python]].concat();
        let (code, document, said) = machine.json(&words, "");
        assert!(code == 0 && document["torch"] == "2.15.0+cu130", "{said} {document:#}");
        assert!(document.get("comparison").is_none(), "{document:#}");
        Self { machine, document }
    }

    /// The words of a run with an earlier result that is changed like this.
    fn with<'a>(&self, change: impl Fn(&mut Value), more: &[&'a str]) -> Vec<&'a str> {
        let mut document = self.document.clone();
        change(&mut document);
        fs::write(self.machine.world.path("before.json"), document.to_string()).unwrap();
        [&QUICK[..], &["--python", "venv/bin/python", "--baseline", "before.json"], more].concat()
    }
}

#[test]
fn the_same_machine_is_the_same() {
    let before = Before::new();
    let (code, said) = before.machine.says(&before.with(|_| {}, &[]), "");
    assert!(code == 0 && !said.contains("note:"), "{code} {said}");
    assert!(said.contains("since before.json:\n  bf16 gpu 0"), "{said}");
    assert!(said.contains("the same"), "{said}");
}

#[test]
fn another_gpu_driver_torch_or_effort_is_said_before_anything_is_measured() {
    let before = Before::new();
    let now = "NVIDIA H100 80GB HBM3";
    let cases: [(&str, Value, String, bool); 5] = [
        (
            "/gpus/0/name",
            "NVIDIA H200".into(),
            format!("GPU 0 was NVIDIA H200, and is {now}: two kinds of GPU are compared"),
            false,
        ),
        (
            "/gpus/0/sm_count",
            130.into(),
            "GPU 0 had 130 multiprocessors, and has 132".into(),
            false,
        ),
        (
            "/effort",
            "full".into(),
            "the effort was `full`, and is `quick`: other repeats and shapes".into(),
            false,
        ),
        ("/gpus/0/driver", "570.1".into(), "the driver was 570.1, and is 580.159.04".into(), true),
        ("/torch", "2.11.0".into(), "torch was 2.11.0, and is 2.15.0+cu130".into(), true),
    ];
    for (place, then, why, comparable) in cases {
        let change = |document: &mut Value| *document.pointer_mut(place).unwrap() = then.clone();
        let (code, said) = before.machine.says(&before.with(change, &[]), "");
        let note = format!("note: compared with before.json: {why}\n");
        let (first, rest) = said.split_once(&note).unwrap_or_else(|| panic!("{why}: {said}"));
        assert!(code == 0 && !first.contains("bf16 ") && rest.contains("bf16 gpu 0"), "{said}");
        assert!(!rest.contains("note:"), "{said}");
        // And in the header of the comparison.
        let (_, comparison) = rest.split_once("since before.json:\n").unwrap();
        let mut lines = comparison.lines();
        assert_eq!(lines.next(), Some(&*format!("  {why}")), "{said}");
        let line = lines.next().unwrap_or_default();
        assert!(line.starts_with("  bf16 gpu 0"), "{said}");
        let unknown = format!("can't tell because {why}");
        assert_eq!(line.ends_with(&unknown), !comparable, "{said}");
        assert_eq!(line.ends_with("the same"), comparable, "{said}");
        // With a document or a page as well.
        let (code, document, said) = before.machine.json(&before.with(change, &[]), "");
        assert!(code == 0 && said.starts_with(&note), "{said}");
        let comparison = &document["comparison"];
        assert_eq!(comparison["differences"][0]["en"], *why, "{comparison:#}");
        let figure = &comparison["figures"][0];
        assert_eq!(figure["verdict"] == "unknown", !comparable, "{comparison:#}");
        assert_eq!(figure["because"] == *why, !comparable, "{comparison:#}");
        for (form, title) in
            [("--markdown", "## Since before.json\n"), ("--html", "Since before.json<")]
        {
            let output =
                before.machine.command(&before.with(change, &[form]), "").output().unwrap();
            let page = String::from_utf8_lossy(&output.stdout).replace('\\', "");
            let page = page.replace("&#39;", "'");
            assert!(page.contains(title) && page.contains(&why), "{page}");
            assert_eq!(page.contains("can't tell because "), !comparable, "{form}: {page}");
        }
    }
}

/// A torch that is gone, or was not looked for, is not the same torch.
#[test]
fn what_one_of_them_does_not_say_is_said() {
    let before = Before::new();
    let without = |document: &mut Value| {
        document.as_object_mut().unwrap().remove("torch");
    };
    let (_, said) = before.machine.says(&before.with(without, &[]), "");
    let why = "torch is 2.15.0+cu130, and the earlier result does not say which it had";
    assert!(said.contains(&format!("note: compared with before.json: {why}\n")), "{said}");
    let words = before.with(|_| {}, &[]);
    before.machine.python("2", "exit 1");
    fs::remove_dir_all(before.machine.world.path("venv/lib")).unwrap();
    let (_, said) = before.machine.says(&words, "");
    let why = "torch was 2.15.0+cu130, and none is found now";
    // Unless this machine has one in its own folders.
    let other = "torch was 2.15.0+cu130, and is ";
    assert!(said.contains(why) || said.contains(other), "{said}");
}

/// A document that can't be compared with is said before anything is measured.
#[test]
fn a_baseline_is_read_first() {
    let before = Before::new();
    let good = serde_json::to_string_pretty(&before.document).unwrap();
    let machine = &before.machine;
    let file = machine.world.path("before.json");
    let with = |text: &str| {
        fs::write(&file, text).unwrap();
        machine.says(&[&QUICK[..], &["--baseline", "before.json"]].concat(), "")
    };
    for (from, to, why) in [
        ("\"TFLOP/s\"", "\"us\"", "is in `us`, and is measured in TFLOP/s"),
        ("\"version\": 1", "\"version\": 2", "it has version 2"),
        ("\"value\": ", "\"value\": -", "which can't be"),
        ("\"value\": ", "\"value\": 1e999, \"x\": ", "number out of range"),
        ("\"gpu\": 0", "\"gpu\": 4", "which it does not list"),
    ] {
        let (code, text) = with(&good.replacen(from, to, 1));
        assert!(code == 3 && text.contains(why) && !text.contains("GPU 0:"), "{to}: {code} {text}");
    }
    for path in ["/dev/zero", "nowhere", "gpu"] {
        let (code, text) = machine.says(&[&QUICK[..], &["--baseline", path]].concat(), "");
        assert!(code == 3 && !text.contains("GPU 0:"), "{path}: {code} {text}");
    }
}

/// One that has nothing to compare with is refused before anything is measured.
#[test]
fn a_baseline_of_something_else() {
    let before = Before::new();
    fs::write(before.machine.world.path("before.json"), before.document.to_string()).unwrap();
    let words = ["--quick", "--only", "launch", "--baseline", "before.json"];
    let (code, said) = before.machine.says(&words, "");
    let why = "can't compare with before.json: it has none of the figures that are asked for";
    assert!(code == 2 && said.contains(why) && !said.contains("GPU 0:"), "{code} {said}");
    assert!(said.contains("`--only bf16` measures what it has"), "{said}");
}

/// An earlier result of other GPUs, of what can't be, and of what was wrong.
#[test]
fn a_baseline_that_says_nothing_of_this_gpu_or_what_can_not_be() {
    let before = Before::new();
    let other = |document: &mut Value| {
        document["gpus"][0]["gpu"] = 1.into();
        document["figures"][0]["gpus"][0] = 1.into();
    };
    let (code, said) = before.machine.says(&before.with(other, &[]), "");
    let why =
        "it has no GPU that is measured (GPU 0), it is of GPU 1: nothing of a GPU is compared";
    assert!(code == 0 && said.matches(why).count() == 2, "{code} {said}");
    let beyond = |document: &mut Value| document["figures"][0]["best"] = 1575.0.into();
    let (code, said) = before.machine.says(&before.with(beyond, &[]), "");
    let why =
        "its `bf16` can't be: 1575 TFLOP/s is more than its multiprocessors can do at 1980 MHz";
    assert!(code == 3 && said.contains(why) && !said.contains("GPU 0:"), "{code} {said}");
    let wrong = |document: &mut Value| {
        document["wrong"] =
            serde_json::json!([{ "figure": "bf16", "gpus": [0], "reason": "a sum is off" }]);
    };
    let (_, said) = before.machine.says(&before.with(wrong, &[]), "");
    assert!(said.contains("GPU 0 was wrong then: bf16: a sum is off"), "{said}");
    assert!(said.contains("can't tell because the earlier one was wrong (a sum is off)"), "{said}");
}

/// What can't be told of a figure by itself, then or now, is neither better nor worse.
#[test]
fn what_can_not_be_told_is_not_compared() {
    let before = Before::new();
    for (keys, value, why) in [
        (
            &["timer_within"][..],
            0.11,
            "the host's clock is 11 % away from CUDA's timer, where 3 % is allowed",
        ),
        (&["spread"], 0.9, "its repeats are far apart (the middle half of them by 90 % of"),
        (&["value", "best"], 946.0, "946 TFLOP/s is more than 1.1 times the best known (794)"),
    ] {
        let change = |document: &mut Value| {
            keys.iter().for_each(|key| document["figures"][0][*key] = value.into());
        };
        let (code, said) = before.machine.says(&before.with(change, &[]), "");
        let why = format!("can't tell because the earlier one was \"can't tell\": {why}");
        assert!(code == 0 && said.contains(&why), "{code} {said}");
    }
    let words = before.with(|_| {}, &[]);
    for (key, value, why) in [
        ("FAKE_GPU_TFLOPS", "900", "900 TFLOP/s is more than 1.1 times the best known"),
        ("FAKE_GPU_TIMER_TIMES", "0.9", "the host's clock is "),
    ] {
        let (code, said) = all(before.machine.command(&words, "").env(key, value));
        let why = format!("can't tell because {why}");
        assert!(code == 0 && said.contains(&why), "{code} {said}");
    }
}

/// A GPU, or a clock, that contradicted itself then: nobody knows what was measured.
#[test]
fn what_contradicted_itself_then_is_not_compared() {
    let before = Before::new();
    let uuid = "00000000-0000-0000-0000-000000000009";
    for (place, value, why) in [
        ("/gpus/0/nvml_uuid", serde_json::json!(uuid), "CUDA's UUID of GPU 0 is 00000000-"),
        (
            "/gpus/0/nvml_name",
            "NVIDIA A100-SXM4-80GB".into(),
            "CUDA says that GPU 0 is NVIDIA H100 80GB HBM3, and NVML says that it is NVIDIA A100-SXM4-80GB",
        ),
        ("/gpus/0/twin", 1.into(), "GPU 0 and GPU 1 have one UUID, as if they were one"),
        (
            "/gpus/0/capability",
            serde_json::json!([8, 0]),
            "CUDA says that its capability is 8.0, and H100 SXM5 80GB has 9.0",
        ),
        (
            "/gpus/0/board/sm_max_mhz",
            3000.into(),
            "NVML says that its highest clock is 3000 MHz, and H100 SXM5 80GB has 1980 MHz",
        ),
        (
            "/figures/0/evidence/sm_mhz",
            serde_json::json!([300.0, 600.0, 600.0]),
            " TFLOP/s is beyond what its clock allows: NVML saw 600 MHz at most",
        ),
    ] {
        let change = |document: &mut Value| {
            let (parent, key) = place.rsplit_once('/').unwrap();
            document.pointer_mut(parent).unwrap()[key] = value.clone();
            document["figures"][0]["evidence"]["samples"] = 9.into();
        };
        let (code, said) = before.machine.says(&before.with(change, &[]), "");
        let doubt = "can't tell because the earlier one was \"can't tell\": ";
        assert!(code == 0 && said.contains(doubt) && said.contains(why), "{place}: {code} {said}");
        assert!(!said.contains("the same"), "{place}: {said}");
    }
    // What an older sconce did not write contradicts nothing.
    let older = |document: &mut Value| {
        let gpu = document["gpus"][0].as_object_mut().unwrap();
        for key in ["capability", "memory_bytes", "nvml_name", "uuid", "nvml_uuid", "bus_id", "mig"]
        {
            gpu.remove(key);
        }
        document["figures"][0].as_object_mut().unwrap().remove("evidence");
    };
    let (code, said) = before.machine.says(&before.with(older, &[]), "");
    assert!(code == 0 && said.contains("the same"), "{code} {said}");
}

/// Numbers that no figure has.
#[test]
fn a_baseline_of_no_gpu_or_no_repeats_is_refused() {
    let before = Before::new();
    for (key, value, why) in [
        ("gpus", serde_json::json!([]), "its `bf16` is of no GPU"),
        ("gpus", serde_json::json!([0, 0]), "its `bf16` is of one GPU twice"),
        ("spread", (-1.0).into(), "its `bf16` has no spread, which can't be"),
        ("repeats", 0.into(), "its `bf16` has no repeats, which can't be"),
        ("timer_within", (-1.0).into(), "which can't be"),
        ("timer_within", 1e9.into(), "the clocks of its `bf16` are 1e9 apart, which can't be"),
    ] {
        let change = |document: &mut Value| document["figures"][0][key] = value.clone();
        let (code, said) = before.machine.says(&before.with(change, &[]), "");
        assert!(code == 3 && said.contains(why) && !said.contains("GPU 0:"), "{code} {said}");
    }
}

/// Where there is nothing below "since", it is said why; and a GPU that only one of the two has.
#[test]
fn a_comparison_of_nothing_says_so() {
    let before = Before::new();
    let words = before.with(|_| {}, &[]);
    for (key, value, why) in [
        ("FAKE_GPU_WRONG", "numbers", "bf16 gpu 0 gave a wrong result now"),
        ("FAKE_GPU_TIMER_TIMES", "0.5", "bf16 gpu 0 could not be measured now"),
    ] {
        let (_, said) = all(before.machine.command(&words, "").env(key, value));
        let why = format!("since before.json:\n  nothing is compared: {why}\n");
        assert!(said.contains(&why), "{said}");
    }
    let words = ["--quick", "--baseline", "before.json"];
    let (code, said) = before.machine.run_as(&words, "bf16", "", &[("FAKE_GPU_COUNT", "2")]);
    let why = "it does not have GPU 1, it is of GPU 0: nothing of GPU 1 is compared\n";
    assert!(code == 0 && said.matches(why).count() == 2, "{code} {said}");
    assert!(said.contains("the same") && !said.contains("nothing is compared"), "{said}");
}
