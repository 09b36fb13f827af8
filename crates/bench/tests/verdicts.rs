//! What a verdict makes of repeats that lie apart, of causes that held nothing, and what its last line keeps back.

mod recording;

use recording::{change, recorded, report};
use sconce_bench::answer::{Evidence, Figure, Line};
use sconce_bench::report::Report;

fn of(name: &str, by: impl Fn(&mut Figure)) -> String {
    let mut lines = recorded("h100-bursts.jsonl");
    change(&mut lines, name, by);
    let report = report(lines);
    let line = report.figures.iter().find(|one| one.figure.figure == name);
    line.map(ToString::to_string).unwrap_or_else(|| format!("{:?}", report.wrong))
}

const HEAT: u64 = 0x40;

/// The best known of BF16 is 794, so 739 is the least that is as expected.
#[test]
fn repeats_that_lie_apart() {
    let apart = "can't tell: its repeats are far apart (the middle half of them by 60 % of the median), and nothing says why";
    let heat = "LOW: heat holds its clock down (hardware thermal slowdown)";
    let none = "LOW, without a known cause";
    for (value, best, spread, seen, says) in [
        // Steady: its middle is what it is.
        (700.0, 760.0, 0.1, 0, none),
        (760.0, 790.0, 0.1, 0, "as expected"),
        // Far apart, and even the best is below what it should be.
        (400.0, 700.0, 0.6, 0, none),
        (400.0, 738.0, 0.6, 0, none),
        (400.0, 700.0, 0.6, HEAT, heat),
        // Far apart, and some are as they should be.
        (400.0, 740.0, 0.6, 0, apart),
        (700.0, 790.0, 0.6, 0, apart),
        (760.0, 790.0, 0.6, 0, apart),
        (400.0, 790.0, 0.6, HEAT, heat),
        (760.0, 790.0, 0.6, HEAT, heat),
    ] {
        let said = of("bf16", |figure| {
            (figure.value, figure.best, figure.spread) = (value, best, spread);
            figure.evidence = Some(Evidence {
                samples: 20,
                reasons: if seen == 0 { Vec::new() } else { vec![(seen, 0.4)] },
                ..Evidence::default()
            });
        });
        assert!(said.ends_with(says), "{value} {best} {spread} {seen}: {said}");
    }
}

/// What was there while the clock was the highest held nothing.
#[test]
fn what_held_nothing_is_no_cause() {
    let at = |least: f64, reason: u64| {
        of("bf16", |figure| {
            (figure.value, figure.best, figure.spread) = (760.0, 790.0, 0.6);
            figure.evidence = Some(Evidence {
                samples: 20,
                sm_mhz: Some((least, 1980.0, 1980.0)),
                reasons: vec![(reason, 0.4)],
                ..Evidence::default()
            });
        })
    };
    for reason in [0x4, HEAT] {
        let said = at(1980.0, reason);
        assert!(said.contains("can't tell: its repeats are far apart"), "{said}");
        assert!(at(1200.0, reason).contains("LOW: "), "{}", at(1200.0, reason));
    }
    // A power limit that is lower than it comes with, and a clock that was the highest.
    let mut lines = recorded("h100-bursts.jsonl");
    if let Some(Line::Gpu(gpu)) = lines.first_mut() {
        gpu.board.as_mut().expect("a board").power_limit_w = Some(650.0);
    }
    change(&mut lines, "bf16", |figure| {
        (figure.value, figure.best) = (500.0, 500.0);
        if let Some(seen) = figure.evidence.as_mut() {
            (seen.sm_mhz, seen.reasons) = (Some((1980.0, 1980.0, 1980.0)), Vec::new());
        }
    });
    let said = report(lines).figures.iter().map(|one| format!("{one}\n")).collect::<String>();
    let line = said.lines().find(|line| line.starts_with("bf16 gpu 0")).unwrap_or_default();
    assert!(line.ends_with("LOW, without a known cause"), "{line}");
}

/// A best repeat that is worse than the middle one is no answer.
#[test]
fn a_best_is_no_worse_than_the_middle() {
    let read = |name: &str, value: f64, best: f64| {
        let line = serde_json::json!({ "figure": {
            "figure": name, "gpus": [0], "value": value, "best": best, "spread": 0, "repeats": 9, "method": "m"
        }});
        sconce_bench::answer::line(line.to_string().as_bytes())
    };
    assert!(read("bf16", 800.0, 800.0).is_ok() && read("launch", 3.0, 2.7).is_ok());
    for (name, value, best) in [("bf16", 800.0, 500.0), ("launch", 3.0, 4.0)] {
        let error = read(name, value, best).expect_err(name).to_string();
        assert!(error.contains("a best that is worse than the middle"), "{error}");
    }
}

/// The last line names what can't be told: none is low of those that were compared, and that is not all.
#[test]
fn the_last_line_names_what_can_not_be_told() {
    let verdict = |by: &dyn Fn(&mut Figure)| {
        let mut lines = recorded("h100-bursts.jsonl");
        change(&mut lines, "bf16", by);
        let report: Report = report(lines);
        (report.verdict(), report.html())
    };
    let (said, page) = verdict(&|figure| figure.timer_within = Some(0.2));
    let whole = "9 figures measured; of the 7 with a known figure to compare with none is low; can't tell: bf16";
    assert_eq!(said, whole);
    assert!(page.contains("can&#39;t tell: bf16") || page.contains("can't tell: bf16"), "{said}");
    assert!(page.contains("无法判断：bf16") && !page.contains("verdict good"), "{said}");
    let mut lines = recorded("h100-bursts.jsonl");
    change(&mut lines, "bf16", |figure| figure.timer_within = Some(0.2));
    change(&mut lines, "fp8", |figure| (figure.value, figure.best) = (900.0, 900.0));
    assert_eq!(report(lines).verdict(), "low: fp8; can't tell: bf16");
}
