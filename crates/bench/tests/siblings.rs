//! GPUs of one machine beside each other: one is below the others only where both sides are known to be what they say.

mod recording;

use recording::{recorded, report};
use sconce_bench::answer::{Figure, Gpu, Line};

/// A recorded H100 three times, of which this figure alone is kept: changed by GPU, and the figures by GPU.
fn three(name: &str, gpus: impl Fn(&mut Gpu), figures: impl Fn(u32, &mut Figure)) -> Vec<String> {
    let lines = recorded("h100-bursts.jsonl");
    let (mut machine, mut measured) = (Vec::new(), Vec::new());
    for number in 0..3 {
        for line in &lines {
            match line {
                Line::Gpu(gpu) => {
                    let mut gpu = Gpu { gpu: number, ..gpu.clone() };
                    gpus(&mut gpu);
                    machine.push(Line::Gpu(gpu));
                }
                Line::Figure(figure) if figure.figure == name => {
                    let mut figure = Figure { gpus: vec![number], ..figure.clone() };
                    figures(number, &mut figure);
                    measured.push(Line::Figure(figure));
                }
                _ => {}
            }
        }
    }
    let report = report(machine.into_iter().chain(measured).collect());
    assert!(report.wrong.is_empty() && report.figures.len() == 3, "{report:?}");
    report.figures.iter().map(ToString::to_string).collect()
}

/// Its name and its memory are those of another product.
fn h200(gpu: &mut Gpu) {
    (gpu.name, gpu.memory_bytes) = ("NVIDIA H200".to_owned(), 150_754_820_096);
}

/// What one changes of a figure.
type Change = fn(&mut Figure);

fn becomes(figure: &mut Figure, value: f64) {
    (figure.value, figure.best) = (value, value);
}

/// The third is a tenth below what the first two say, unless one says why that is nothing to compare with.
fn third(gpus: impl Fn(&mut Gpu), others: impl Fn(&mut Figure)) -> Vec<String> {
    three("memory-copy", gpus, |number, figure| match number {
        2 => becomes(figure, 2900.0),
        _ => {
            becomes(figure, 3220.0);
            others(figure);
        }
    })
}

fn below(said: &[String]) -> Vec<bool> {
    said.iter().map(|line| line.contains(" % below the others")).collect()
}

#[test]
fn figures_of_equal_gpus_are_compared() {
    let said = third(|_| {}, |_| {});
    assert_eq!(below(&said), [false, false, true], "{said:?}");
    assert!(said[2].ends_with("as expected; 10 % below the others"), "{said:?}");
}

#[test]
fn what_can_not_be_told_by_itself_is_no_measure_for_others() {
    let cases: [(&str, Change); 3] = [
        ("the host's clock is 20 % away", |figure| figure.timer_within = Some(0.2)),
        ("its repeats are far apart", |figure| figure.spread = 0.5),
        ("is more than 1.1 times the best known", |figure| becomes(figure, 3400.0)),
    ];
    for (why, doubt) in cases {
        let said = third(|_| {}, doubt);
        assert!(said[0].contains("can't tell: ") && said[0].contains(why), "{said:?}");
        assert_eq!(below(&said), [false; 3], "{why}: {said:?}");
    }
    // Nor is it held against them.
    let said = three(
        "memory-copy",
        |_| {},
        |number, figure| {
            becomes(figure, if number == 2 { 2900.0 } else { 3220.0 });
            figure.timer_within = (number == 2).then_some(0.2);
        },
    );
    assert_eq!(below(&said), [false; 3], "{said:?}");
    // One of two is left to compare with.
    let said = three(
        "memory-copy",
        |_| {},
        |number, figure| {
            becomes(figure, [3400.0, 3220.0, 2900.0][number as usize]);
        },
    );
    assert_eq!(below(&said), [false, false, true], "{said:?}");
    assert!(said[2].ends_with("10 % below the others"), "{said:?}");
}

#[test]
fn a_gpu_that_contradicts_itself_is_no_measure_for_others() {
    let first_two = |change: fn(&mut Gpu)| {
        move |gpu: &mut Gpu| {
            if gpu.gpu < 2 {
                change(gpu)
            }
        }
    };
    let other_uuid: fn(&mut Gpu) = |gpu| {
        gpu.uuid = Some("00000000-0000-0000-0000-000000000000".to_owned());
        gpu.nvml_uuid = Some("00000000-0000-0000-0000-000000000009".to_owned());
    };
    let said = third(first_two(other_uuid), |_| {});
    assert!(said[0].contains("can't tell: CUDA's UUID of GPU 0 is "), "{said:?}");
    assert_eq!(below(&said), [false; 3], "{said:?}");
    // Of a product that nobody knows as well.
    let unheard: fn(&mut Gpu) = |gpu| gpu.name = "NVIDIA Unheard-of 9000".to_owned();
    let said = third(unheard, |_| {});
    assert_eq!(below(&said), [false, false, true], "{said:?}");
    let said = third(
        |gpu| {
            unheard(gpu);
            first_two(other_uuid)(gpu);
        },
        |_| {},
    );
    assert_eq!(below(&said), [false; 3], "{said:?}");
    assert!(said[0].contains("can't tell: CUDA's UUID of GPU 0 is "), "{said:?}");
    // A clock that its figure does not allow.
    let said = three(
        "bf16",
        |_| {},
        |number, figure| {
            becomes(figure, if number == 2 { 750.0 } else { 800.0 });
            if let Some(seen) = figure.evidence.as_mut().filter(|_| number < 2) {
                seen.sm_mhz = Some((600.0, 600.0, 600.0));
            }
        },
    );
    assert!(said[0].contains("is beyond what its clock allows"), "{said:?}");
    assert_eq!(below(&said), [false; 3], "{said:?}");
}

#[test]
fn other_products_are_not_compared() {
    let others: [fn(&mut Gpu); 3] = [
        h200,
        |gpu| gpu.mig = Some(true),
        // A board of the same name that comes with another limit.
        |gpu| gpu.board.as_mut().expect("a board").power_default_w = Some(500.0),
    ];
    for (number, other) in others.into_iter().enumerate() {
        let said = third(
            |gpu| {
                if gpu.gpu < 2 {
                    other(gpu);
                }
            },
            |_| {},
        );
        assert_eq!(below(&said), [false; 3], "{number}: {said:?}");
    }
}

/// A figure of two kinds of GPU has nothing to be compared with.
#[test]
fn a_pair_of_two_kinds_is_not_judged() {
    let lines = recorded("h100-bursts.jsonl");
    let Some(Line::Gpu(first)) = lines.first().cloned() else { panic!("a GPU") };
    let pair = lines.iter().find_map(|line| match line {
        Line::Figure(figure) if figure.figure == "memory-copy" => Some(figure.clone()),
        _ => None,
    });
    let pair = Figure {
        figure: "peer".to_owned(),
        gpus: vec![0, 1],
        value: 24.0,
        best: 24.0,
        ..pair.expect("a figure")
    };
    let two = |number| {
        let mut gpu = Gpu { gpu: number, ..first.clone() };
        h200(&mut gpu);
        gpu
    };
    let said = |second: Gpu| {
        let lines = vec![Line::Gpu(two(0)), Line::Gpu(second), Line::Figure(pair.clone())];
        report(lines).figures[0].to_string()
    };
    assert!(said(two(1)).contains("LOW, without a known cause"), "{}", said(two(1)));
    let other = said(Gpu { gpu: 1, ..first.clone() });
    let why =
        "can't tell: GPU 0 is NVIDIA H200, and GPU 1 is NVIDIA H100 80GB HBM3: two kinds of GPU";
    assert!(other.contains(why), "{other}");
}
