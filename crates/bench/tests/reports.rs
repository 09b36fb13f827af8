//! Reports of recorded runs: what is said of figures, and what is not believed.

mod recording;

use recording::{change, recorded, report};
use sconce_bench::answer::{Line, Malformed, Reader};
use sconce_bench::report::Report;
use sconce_bench::{FIGURES, Group};
use serde_json::json;

/// The lines of a report that are about these figures.
fn about(report: &Report, names: &[&str]) -> String {
    let wanted = report.figures.iter().filter(|one| names.contains(&one.figure.figure.as_str()));
    wanted.map(|one| format!("{one}\n")).collect()
}

/// Makes a figure this one, its best repeat too.
fn is(figure: &mut sconce_bench::answer::Figure, value: f64) {
    (figure.value, figure.best) = (value, value);
}

#[test]
fn a_power_limit_is_named_as_the_cause() {
    let report = report(recorded("h100-without-pauses.jsonl"));
    assert!(!report.holds());
    assert_eq!(report.verdict(), "low: fp64, tf32, fp16, bf16, fp8, int8, bf16-sparse");
    expect_test::expect![[r#"
        memory-read gpu 0               3118 GB/s  ± 0.0 %  at 1980 MHz; 3106 (best known): as expected
        bf16 gpu 0                    696 TFLOP/s  ± 3.9 %  at 1350 MHz; 794 (best known): LOW: the power limit holds its clock down
        bf16-sustained gpu 0          692 TFLOP/s  ± 2.5 %  at 1350 MHz, 95 % of its peak there; 794 (best known): as expected
        fp8 gpu 0                    1330 TFLOP/s  ± 4.6 %  at 1395 MHz; 1506 (best known): LOW: the power limit holds its clock down
    "#]]
    .assert_eq(&about(&report, &["memory-read", "bf16", "bf16-sustained", "fp8"]));
}

#[test]
fn a_healthy_gpu_is_as_expected() {
    let report = report(recorded("h100-bursts.jsonl"));
    assert!(report.holds());
    expect_test::expect![
        "9 figures measured; of the 8 with a known figure to compare with none is low"
    ]
    .assert_eq(&report.verdict());
}

#[test]
fn what_is_low_without_a_cause_says_so_and_causes_are_those_that_were_seen() {
    let mut lines = recorded("h100-bursts.jsonl");
    change(&mut lines, "bf16", |figure| {
        figure.value = 500.0;
        figure.evidence = None;
    });
    assert!(about(&report(lines.clone()), &["bf16"]).contains("LOW, without a known cause"));
    change(&mut lines, "bf16", |figure| {
        figure.evidence = Some(sconce_bench::answer::Evidence {
            samples: 20,
            reasons: vec![(0x40, 0.5), (0x4, 0.05)],
            ..Default::default()
        });
    });
    let said = about(&report(lines.clone()), &["bf16"]);
    assert!(
        said.contains("LOW: heat holds its clock down (hardware thermal slowdown)\n"),
        "{said}"
    );
    if let Some(Line::Gpu(gpu)) = lines.first_mut() {
        gpu.others = Some(2);
        gpu.board.as_mut().expect("a board").power_limit_w = Some(350.0);
    }
    let said = about(&report(lines), &["bf16"]);
    assert!(
        said.contains("its power limit is 350 W, and 700 W by default; 2 more processes"),
        "{said}"
    );
}

/// Nothing is held against a product that nobody published figures of, or a part of one.
#[test]
fn without_a_public_figure_there_is_no_verdict() {
    let mut lines = recorded("h100-bursts.jsonl");
    if let Some(Line::Gpu(gpu)) = lines.first_mut() {
        gpu.name = "NVIDIA Unheard-of 9000".to_owned();
    }
    let unknown = report(lines.clone());
    assert_eq!(unknown.verdict(), "9 figures measured, with no known figure to compare with");
    // An instance of MIG with a seventh of the multiprocessors.
    if let Some(Line::Gpu(gpu)) = lines.first_mut() {
        gpu.name = "NVIDIA H100 80GB HBM3 MIG 1g.10gb".to_owned();
        gpu.sm_count = 16;
    }
    // A seventh of the whole: an eighth of its speed is what is expected, and its memory is not judged.
    for name in ["fp64", "tf32", "fp16", "bf16", "bf16-sustained", "fp8", "bf16-sparse"] {
        change(&mut lines, name, |figure| is(figure, figure.value * 16.0 / 132.0));
    }
    let report = report(lines);
    assert_eq!(
        report.verdict(),
        "9 figures measured; of the 6 with a known figure to compare with none is low"
    );
    let said = about(&report, &["bf16"]);
    assert!(said.contains("(16/132 of the best known): as expected"), "{said}");
}

#[test]
fn the_slow_one_of_several_is_named() {
    let mut lines = recorded("h100-bursts.jsonl");
    let Some(Line::Gpu(first)) = lines.first().cloned() else { panic!("a GPU") };
    let figures: Vec<Line> =
        lines.iter().filter(|line| matches!(line, Line::Figure(_))).cloned().collect();
    for number in 1..3 {
        lines.push(Line::Gpu(sconce_bench::answer::Gpu { gpu: number, ..first.clone() }));
        for line in &figures {
            let Line::Figure(figure) = line else { continue };
            let mut figure = figure.clone();
            figure.gpus = vec![number];
            if number == 2 && figure.figure == "memory-copy" {
                figure.value *= 0.9;
            }
            lines.push(Line::Figure(figure));
        }
    }
    let report = report(lines);
    let named: Vec<String> = report
        .figures
        .iter()
        .filter(|one| one.below_siblings.is_some())
        .map(ToString::to_string)
        .collect();
    assert!(named.len() == 1 && named[0].starts_with("memory-copy gpu 2"), "{named:?}");
    assert!(report.markdown().contains("10 % below the others"));
}

#[test]
fn a_wrong_result_decides() {
    let mut lines = recorded("h100-bursts.jsonl");
    lines.push(Line::Wrong(sconce_bench::answer::Unavailable {
        figure: "fp8".to_owned(),
        gpus: vec![0],
        reason: "3 of 4 numbers".to_owned(),
    }));
    let report = report(lines);
    assert!(!report.holds());
    assert_eq!(report.verdict(), "1 result wrong: do not compute on GPU 0");
    assert!(!of_nothing().holds());
}

fn of_nothing() -> Report {
    report(Vec::new())
}

/// Lines come from a container.
#[test]
fn what_is_no_answer_is_not_believed() {
    let one = |line: &str| Reader::default().read(format!("{line}\n").as_bytes()).remove(0);
    let figure = |name: &str, value: &str| {
        format!(
            r#"{{"figure":{{"figure":"{name}","gpus":[0],"value":{value},"best":1,"spread":0,"repeats":1,"method":""}}}}"#
        )
    };
    assert!(one(&figure("bf16", "1")).is_ok());
    for line in [
        "",
        "[]",
        "{}",
        "null",
        r#"{"figure":[]}"#,
        r#"{"other":{}}"#,
        &figure("speed", "1"),
        &figure("bf16", "-1"),
        &figure("bf16", "1e300"),
        &figure("bf16", "null"),
        &figure("bf16", r#""1""#),
        r#"{"gpu":{"gpu":70000,"name":"","capability":[9,0],"sm_count":1,"memory_bytes":1,"l2_bytes":1}}"#,
    ] {
        assert!(one(line).is_err(), "{line}");
    }
    let mut reader = Reader::default();
    let flood = reader.read(&vec![b'x'; 1 << 20]);
    assert_eq!(flood, [Err(Malformed::Flood)]);
    assert!(reader.read(b"{}\n").is_empty());
    let many = Reader::default().read(&b"\n".repeat(100_000));
    assert_eq!(many.last(), Some(&Err(Malformed::Flood)));
    assert!(many.len() < 10_000);
}

#[test]
fn the_page_is_the_table() {
    expect_test::expect_file!["../../../docs/bench.md"].assert_eq(&sconce_bench::page());
}

#[test]
fn advice_is_the_ratio_of_figures_of_one_run() {
    let mut lines = recorded("h100-bursts.jsonl");
    lines.extend(recorded("h100-torch.jsonl"));
    let advice: Vec<String> = report(lines.clone()).advice.into_iter().map(|one| one.en).collect();
    expect_test::expect![[r#"
        TF32 trains 4.26 times as fast as float32, and is off by default: torch.set_float32_matmul_precision("high")
        AMP trains 2.57 times as fast as TF32: torch.autocast("cuda", torch.bfloat16)
        FP8 with plain scaling trains 0.69 times as fast as BF16: it pays only where the scaling is fused (torchao.float8 with torch.compile, Transformer Engine)
        torch.compile trains a large block 1.08 times as fast: torch.compile(model)
        a CUDA graph gives a large block nothing (1.00 times): its kernels are long beside their launches
        torch.compile trains a small model 1.08 times as fast: torch.compile(model)
        a CUDA graph trains a small model 9.76 times as fast: torch.cuda.graph, or torch.compile(model, mode="reduce-overhead")
        torch keeps 100 % of what cuBLASLt reaches in BF16
        torch keeps 100 % of what cuBLASLt reaches in FP8
        a block in BF16 trains at 76 % of what products sustain
        a DataLoader that decodes as much as this gives 1673 samples/s with num_workers=16"#]].assert_eq(&advice.join("\n"));
    // A ratio of what nobody believes is no advice.
    let mut doubted = lines.clone();
    change(&mut doubted, "bf16", |figure| figure.timer_within = Some(0.2));
    let says: Vec<String> = report(doubted).advice.into_iter().map(|one| one.en).collect();
    assert_eq!(says.len(), advice.len() - 1, "{says:?}");
    assert!(!says.iter().any(|one| one.contains("cuBLASLt reaches in BF16")), "{says:?}");
    change(&mut lines, "small-graph", |figure| figure.value = 100.0);
    let advice: Vec<String> = report(lines).advice.into_iter().map(|one| one.en).collect();
    let nothing = "a CUDA graph gives a small model nothing (";
    assert!(advice.iter().any(|one| one.starts_with(nothing)), "{advice:?}");
    assert!(report(recorded("h100-without-pauses.jsonl")).advice.is_empty());
}

/// What can't be is not judged by its speed: in each figure that there is, but for those whose bound nobody knows.
#[test]
fn what_can_not_be_is_wrong() {
    let lines = |name: &str, value: f64| {
        let mut lines = recorded("h100-bursts.jsonl");
        lines.retain(|line| matches!(line, Line::Gpu(_)));
        let Some(Line::Gpu(first)) = lines.first().cloned() else { panic!("a GPU") };
        lines.push(Line::Gpu(sconce_bench::answer::Gpu { gpu: 1, ..first }));
        let group = FIGURES.iter().find(|row| row.name == name).expect("a figure").group;
        let together = matches!(group, Group::Peers | Group::Collectives);
        let gpus = if group == Group::Loader {
            vec![]
        } else if together {
            vec![0, 1]
        } else {
            vec![0]
        };
        let line = json!({ "figure": {
            "figure": name, "gpus": gpus, "value": value, "best": value, "spread": 0, "repeats": 9, "method": "m",
            "error": [0, 1]
        }});
        lines.extend(
            Reader::default().read(format!("{line}\n").as_bytes()).into_iter().map(Result::unwrap),
        );
        report(lines)
    };
    let mut unbounded = Vec::new();
    for row in FIGURES {
        let beyond = if row.more { 1e9 } else { 1e-3 };
        let said = lines(row.name, beyond);
        match said.wrong.is_empty() {
            true => unbounded.push(row.name),
            false => assert!(said.figures.is_empty() && !said.holds(), "{}", row.name),
        }
    }
    assert_eq!(unbounded, ["loader", "loader-passing"]);
    // Ten times what is known, and once that.
    for (name, known) in [
        ("host-to-device", 57.0),
        ("memory-read", 3106.0),
        ("memory-write", 3207.0),
        ("memory-copy", 3015.0),
        ("memory-triad", 2894.0),
        ("bf16", 794.5),
        ("fp8", 1505.5),
        ("int8", 1508.0),
        ("fp64", 60.1),
        ("bf16-sparse", 1177.0),
    ] {
        assert_eq!(
            lines(name, known * 10.0).verdict(),
            "1 result wrong: do not compute on GPU 0",
            "{name}"
        );
        assert!(about(&lines(name, known), &[name]).contains("as expected"), "{name}");
    }
    let error = |line: &mut sconce_bench::answer::Figure| line.error = Some((5.0, 0.05));
    let mut wrong = recorded("h100-bursts.jsonl");
    change(&mut wrong, "fp8", error);
    assert_eq!(report(wrong).verdict(), "1 result wrong: do not compute on GPU 0");
    // One repeat that can't be is as impossible as their median.
    let mut wrong = recorded("h100-bursts.jsonl");
    change(&mut wrong, "bf16", |figure| figure.best = 1400.0);
    assert_eq!(report(wrong).verdict(), "1 result wrong: do not compute on GPU 0");
}

/// Without what a bound is worked out from nothing is as expected; what is low is low all the same.
#[test]
fn without_a_bound_nothing_is_as_expected() {
    let mut lines = recorded("h100-bursts.jsonl");
    if let Some(Line::Gpu(gpu)) = lines.first_mut() {
        gpu.board = None;
    }
    let said = about(&report(lines.clone()), &["bf16"]);
    assert!(said.contains("can't tell: NVML does not say its highest clock"), "{said}");
    change(&mut lines, "bf16", |figure| figure.value = 500.0);
    assert!(about(&report(lines), &["bf16"]).contains("LOW"));
}

/// An idle GPU lowers the generation of its link, which is no fault; one that has it under load is held back.
#[test]
fn a_slow_link_is_a_cause_under_load() {
    let with = |value: f64, seen: Option<(u32, u32)>| {
        let mut lines = recorded("h100-bursts.jsonl");
        if let Some(Line::Gpu(gpu)) = lines.first_mut() {
            let board = gpu.board.as_mut().expect("a board");
            (board.pcie_generation, board.pcie_lanes) = (Some((1, 5)), Some((16, 16)));
        }
        change(&mut lines, "memory-copy", |figure| {
            figure.figure = "host-to-device".to_owned();
            (figure.value, figure.best) = (value, value);
            figure.evidence = Some(sconce_bench::answer::Evidence {
                samples: 9,
                pcie: seen,
                ..Default::default()
            });
        });
        let report = report(lines);
        let wrong = report.wrong.iter().map(|one| one.reason.clone());
        about(&report, &["host-to-device"]) + &wrong.collect::<String>()
    };
    for seen in [None, Some((5, 16))] {
        assert!(with(55.0, seen).contains("as expected"), "{seen:?}");
        assert!(with(30.0, seen).contains("LOW, without a known cause"), "{seen:?}");
    }
    let said = with(12.0, Some((3, 16)));
    assert!(
        said.contains(
            "LOW: its PCIe link is at generation 3 under load, and board and slot have 5\n"
        ),
        "{said}"
    );
    let said = with(3.5, Some((5, 1)));
    assert!(said.contains("LOW: its PCIe link has 1 lanes of 16\n"), "{said}");
    // Right contents that came faster than the link that NVML says: one of the two is not true, and nothing is wrong for it.
    let said = with(50.0, Some((5, 1)));
    let why = "can't tell: 50.0 GB/s came with the right contents, and PCIe 5 x1 carries 3.9, as NVML says its link is";
    assert!(said.contains(why), "{said}");
    let said = with(500.0, Some((5, 1)));
    assert_eq!(said, "500 GB/s is more than PCIe 5 x16 carries: 63.0");
}

/// What was measured until somebody interrupted it is not all, wherever it is read.
#[test]
fn an_interrupted_run_says_so() {
    let mut report = report(recorded("h100-bursts.jsonl"));
    let whole = serde_json::to_vec(&report).unwrap();
    assert!(!sconce_bench::Baseline::read(&whole).unwrap().is_part());
    report.interrupted = true;
    let words = "interrupted, and not whole: ";
    assert!(report.verdict().starts_with(words), "{}", report.verdict());
    assert!(report.markdown().contains(words));
    let page = report.html();
    assert!(
        page.contains(words) && page.contains("已中断，不完整：") && !page.contains("verdict good")
    );
    let part = serde_json::to_vec(&report).unwrap();
    assert!(sconce_bench::Baseline::read(&part).unwrap().is_part());
}

/// Fewer multiprocessors are no smaller GPU unless it is an instance of MIG.
#[test]
fn a_part_of_a_gpu_is_not_compared_with_a_part() {
    let mut lines = recorded("h100-bursts.jsonl");
    if let Some(Line::Gpu(gpu)) = lines.first_mut() {
        gpu.sm_count = 66;
    }
    change(&mut lines, "bf16", |figure| is(figure, 398.0));
    let said = about(&report(lines), &["bf16"]);
    assert!(said.contains("LOW: it shows 66 multiprocessors of 132"), "{said}");
}

/// A floor says what is low; above it nothing is proved. A clock that was the highest was not held.
#[test]
fn floors_and_causes() {
    let mut lines = recorded("h100-bursts.jsonl");
    if let Some(Line::Gpu(gpu)) = lines.first_mut() {
        gpu.name = "NVIDIA H100 PCIe".to_owned();
        gpu.sm_count = 114;
    }
    let memory = |value: f64, lines: &mut Vec<Line>| {
        change(lines, "memory-copy", |figure| {
            figure.figure = "memory-read".to_owned();
            is(figure, value);
        });
        change(lines, "memory-read", |figure| is(figure, value));
        about(&report(lines.clone()), &["memory-read"])
    };
    let said = memory(1500.0, &mut lines);
    assert!(said.contains("1230 (DCGM's floor): above it"), "{said}");
    let said = memory(1100.0, &mut lines);
    assert!(said.contains("LOW"), "{said}");
    let mut lines = recorded("h100-bursts.jsonl");
    change(&mut lines, "bf16", |figure| {
        figure.value = 500.0;
        figure.evidence = Some(sconce_bench::answer::Evidence {
            samples: 20,
            sm_mhz: Some((1980.0, 1980.0, 1980.0)),
            reasons: vec![(0x4, 0.28)],
            ..Default::default()
        });
    });
    let said = about(&report(lines.clone()), &["bf16"]);
    assert!(said.contains("LOW, without a known cause"), "{said}");
    change(&mut lines, "bf16", |figure| {
        if let Some(seen) = &mut figure.evidence {
            (seen.sm_mhz, seen.reasons) = (Some((1200.0, 1200.0, 1200.0)), Vec::new());
        }
    });
    let said = about(&report(lines), &["bf16"]);
    assert!(
        said.contains("its clock was at 1200 of 1980 MHz, and NVML does not say why"),
        "{said}"
    );
}

/// Two instances of MIG have one name, for CUDA and NVML, and one board, one place and one UUID of it: none of that is a contradiction.
#[test]
fn instances_of_one_board_do_not_contradict_each_other() {
    let mut lines = recorded("h100-bursts.jsonl");
    let mut other = None;
    for line in &mut lines {
        if let Line::Gpu(gpu) = line {
            gpu.name = "NVIDIA H100 80GB HBM3 MIG 1g.10gb".to_owned();
            gpu.nvml_name = Some(gpu.name.clone());
            (gpu.sm_count, gpu.memory_bytes, gpu.twin) = (16, 10 << 30, Some(1));
            gpu.bus_id = Some("0000:18:00.0".to_owned());
            let twin = sconce_bench::answer::Gpu { gpu: 1, twin: Some(0), ..gpu.clone() };
            other = Some(Line::Gpu(twin));
        }
    }
    lines.extend(other);
    let sixteenth = 16.0 / 132.0;
    change(&mut lines, "bf16", |figure| {
        figure.value *= sixteenth;
        figure.best *= sixteenth;
    });
    let said = about(&report(lines), &["bf16"]);
    assert!(said.contains("16/132 of the best known): as expected"), "{said}");
}
