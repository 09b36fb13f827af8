//! A run beside an earlier one: what differs is said, and what can't be compared has no verdict.

mod recording;

use recording::{recorded, report};
use sconce_bench::Baseline;
use sconce_bench::answer::{Line, Torch};
use sconce_bench::comparison::{Changed, Comparison};
use serde_json::Value;

/// Compares a run with an earlier one, which is changed as a document.
fn compared(earlier: impl Fn(&mut Value), now: impl Fn(&mut Vec<Line>)) -> Comparison {
    let torch = || Line::Torch(Torch { version: Some("2.15.0".to_owned()) });
    let mut lines = recorded("h100-without-pauses.jsonl");
    lines.push(torch());
    let mut before = serde_json::to_value(report(lines)).unwrap();
    before["image"] = "sha256:aa".into();
    earlier(&mut before);
    let mut lines = recorded("h100-bursts.jsonl");
    lines.push(torch());
    now(&mut lines);
    let mut report = report(lines);
    report.image = Some("sha256:aa".to_owned());
    report.compare("before.json", &Baseline::read(before.to_string().as_bytes()).unwrap());
    report.comparison.unwrap()
}

fn differences(comparison: &Comparison) -> Vec<&str> {
    comparison.differences.iter().map(|one| one.en.as_str()).collect()
}

fn gpu(lines: &mut [Line], change: impl Fn(&mut sconce_bench::answer::Gpu)) {
    for line in lines {
        if let Line::Gpu(gpu) = line {
            change(gpu);
        }
    }
}

fn unknown(comparison: &Comparison) -> usize {
    let is = |one: &&_| matches!(one, Changed::Unknown { .. });
    comparison.figures.iter().map(|one| &one.verdict).filter(is).count()
}

#[test]
fn runs_are_compared() {
    let comparison = compared(|_| {}, |_| {});
    assert!(comparison.differences.is_empty(), "{comparison:?}");
    let lines: Vec<String> = comparison.figures.iter().map(ToString::to_string).collect();
    let changes = lines.join("\n");
    assert!(changes.contains("bf16 gpu 0") && changes.contains("+16.1 %  better"), "{changes}");
    assert!(changes.contains("memory-copy gpu 0") && changes.contains("the same"), "{changes}");
    assert_eq!(unknown(&comparison), 0, "{changes}");
}

/// A change of 16 % that the repeats of either run have among themselves is none.
#[test]
fn what_repeats_differ_by_is_no_change() {
    for (then, now, verdict) in [
        (0.01, 0.01, Changed::Better),
        (0.01, 0.15, Changed::Better),
        (0.01, 0.17, Changed::Same),
        (0.17, 0.01, Changed::Same),
    ] {
        let earlier = |before: &mut Value| {
            let figures = before["figures"].as_array_mut().unwrap();
            for one in figures.iter_mut().filter(|one| one["figure"] == "bf16") {
                one["spread"] = then.into();
            }
        };
        let comparison = compared(earlier, |lines| {
            for line in lines {
                if let Line::Figure(figure) = line
                    && figure.figure == "bf16"
                {
                    figure.spread = now;
                }
            }
        });
        let bf16 = comparison.figures.iter().find(|one| one.figure == "bf16").unwrap();
        assert_eq!(bf16.verdict, verdict, "{then} {now}: {bf16}");
    }
}

/// Of two kinds of GPU, of parts of one, or of two efforts no figure is better than the other.
#[test]
fn what_can_not_be_compared_has_no_verdict() {
    let cases: [(Comparison, &str); 4] = [
        (
            compared(|_| {}, |lines| gpu(lines, |gpu| gpu.name = "NVIDIA A100".to_owned())),
            "GPU 0 was NVIDIA H100 80GB HBM3, and is NVIDIA A100: two kinds of GPU are compared",
        ),
        (
            compared(|_| {}, |lines| gpu(lines, |gpu| gpu.sm_count = 66)),
            "GPU 0 had 132 multiprocessors, and has 66",
        ),
        (
            compared(|earlier| earlier["effort"] = "quick".into(), |_| {}),
            "the effort was `quick`, and is `usual`: other repeats and shapes",
        ),
        (
            compared(|earlier| earlier["gpus"][0]["name"] = "NVIDIA H200".into(), |_| {}),
            "GPU 0 was NVIDIA H200, and is NVIDIA H100 80GB HBM3: two kinds of GPU are compared",
        ),
    ];
    for (comparison, why) in cases {
        assert_eq!(differences(&comparison), [why]);
        let all = comparison.figures.len();
        assert!(all > 0 && unknown(&comparison) == all, "{comparison:?}");
        for one in &comparison.figures {
            let text = one.to_string();
            assert!(text.ends_with(&format!("can't tell because {why}")), "{text}");
            assert!(!text.contains('%'), "{text}");
        }
        let document = serde_json::to_value(&comparison).unwrap();
        assert_eq!(document["figures"][0]["verdict"], "unknown");
        assert_eq!(document["figures"][0]["because"], why);
    }
    // NVML says that it is another GPU than CUDA does: nothing says which one was measured.
    let comparison = compared(
        |_| {},
        |lines| gpu(lines, |gpu| gpu.nvml_name = Some("NVIDIA A100-SXM4-80GB".to_owned())),
    );
    assert_eq!(unknown(&comparison), comparison.figures.len(), "{comparison:?}");
}

/// Another driver, image or torch is what people compare: it is said, and so is what became of the figures.
#[test]
fn what_differs_beside_the_gpu_is_said() {
    let driver = |version: &'static str| {
        move |lines: &mut Vec<Line>| gpu(lines, |gpu| gpu.driver = Some(version.to_owned()))
    };
    let comparison = compared(
        |earlier| {
            earlier["gpus"][0]["driver"] = "580.95.05".into();
            earlier["image"] = "sha256:bb".into();
            earlier["torch"] = "2.11.0".into();
        },
        driver("590.44"),
    );
    assert_eq!(
        differences(&comparison),
        [
            "the image was sha256:bb, and is sha256:aa",
            "the driver was 580.95.05, and is 590.44",
            "torch was 2.11.0, and is 2.15.0",
        ]
    );
    assert_eq!(unknown(&comparison), 0, "{comparison:?}");
    // What one of them does not say is not taken for the same.
    let comparison = compared(
        |earlier| {
            earlier["gpus"][0].as_object_mut().unwrap().remove("driver");
            earlier.as_object_mut().unwrap().remove("torch");
        },
        driver("590.44"),
    );
    assert_eq!(
        differences(&comparison),
        [
            "the driver is 590.44, and the earlier result does not say which it had",
            "torch is 2.15.0, and the earlier result does not say which it had",
        ]
    );
    // A driver is one for all GPUs, and said once.
    let two = |lines: &mut Vec<Line>| {
        let Some(Line::Gpu(first)) = lines.first().cloned() else { panic!("a GPU") };
        lines.push(Line::Gpu(sconce_bench::answer::Gpu { gpu: 1, ..first }));
        gpu(lines, |gpu| gpu.driver = Some("590.44".to_owned()));
    };
    let comparison = compared(
        |earlier| {
            earlier["gpus"][0]["driver"] = "580.95.05".into();
            let mut second = earlier["gpus"][0].clone();
            second["gpu"] = 1.into();
            earlier["gpus"].as_array_mut().unwrap().push(second);
        },
        two,
    );
    assert_eq!(differences(&comparison), ["the driver was 580.95.05, and is 590.44"]);
}
