//! Samples far apart, gaps between them, and intervals that change: one look is no state, and a gap is no interval.

use std::sync::Arc;

use sconce_monitor::metric::Metric::{self, *};
use sconce_monitor::metric::Values;
use sconce_monitor::sample::{Event, EventKind, Gpu, Sample};
use sconce_monitor::watch::{Change, Watch};

const START: u64 = 1_790_000_000_000;

/// A GPU that works at a lowered power limit, with these values.
fn gpu(row: &[(Metric, f64)]) -> Gpu {
    let mut values = Values::default();
    let usual = [
        (Utilization, 1.),
        (Power, 480.),
        (PowerLimit, 500.),
        (PowerDefault, 700.),
        (Nvlinks, 18.),
        (NvlinksUp, 18.),
    ];
    usual.iter().chain(row).for_each(|(metric, value)| values.set(*metric, Some(*value)));
    let model = "NVIDIA H100 80GB HBM3".to_owned();
    Gpu { uuid: "GPU-1".to_owned(), model, values, ..Gpu::default() }
}

fn held(reasons: f64) -> Gpu {
    gpu(&[(ClockReasons, reasons)])
}

/// What begins and ends, of samples at these milliseconds: `120 begins xid`.
fn told(times: impl IntoIterator<Item = u64>, moment: impl Fn(u64) -> Gpu) -> Vec<String> {
    let mut watch = Watch::new(None);
    let mut all = Vec::new();
    for at in times {
        let gpus = vec![moment(at)];
        let sample = Sample { at_ms: START + at, gpus, ..Sample::default() };
        for change in watch.push(Arc::new(sample)) {
            all.push(match change {
                Change::Begins(one) => format!("{} begins {}", at / 1000, one.rule),
                Change::Ends(one, end) => format!("{} ends {}", (end - START) / 1000, one.rule),
            });
        }
    }
    all
}

fn every(step: u64, count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |at| at * step + at * 7 % 20)
}

/// Heat 0x20, a power limit 0x4: whatever the interval, one sample is a moment, and so is one in two.
#[test]
fn one_sample_is_a_moment() {
    for step in [5_000, 10_000, 15_000, 20_000, 29_990, 30_000, 45_000, 59_990, 60_000] {
        for reason in [32., 4.] {
            for count in [1, 2] {
                let on = |at: u64| (20..20 + count).contains(&(at / step));
                let told_of = told(every(step, 60), |at| held(if on(at) { reason } else { 0. }));
                let long = count * step > 30_000;
                assert!(
                    told_of.is_empty() || (long && count > 1 && step < 30_000),
                    "{step} ms, {count} of {reason}: {told_of:?}"
                );
            }
            let seldom =
                told(every(step, 60), |at| held(if at / step % 2 == 0 { reason } else { 0. }));
            assert_eq!(seldom, [""; 0], "every second sample, {step} ms apart");
            let first = told(every(step, 60), |at| held(if at < step { reason } else { 0. }));
            assert_eq!(first, [""; 0], "the first sample, {step} ms apart");
        }
    }
}

#[test]
fn what_goes_on_is_told_at_each_interval_that_shows_it() {
    for step in [1_000, 5_000, 10_000, 15_000, 30_000, 60_000] {
        for (reason, rule) in
            [(32., "thermal-throttle"), (4., "power-limit-lowered"), (8., "hardware-slowdown")]
        {
            let told_of = told(every(step, 400), |_| held(reason));
            assert!(told_of.len() == 1 && told_of[0].ends_with(rule), "{step} ms: {told_of:?}");
        }
    }
}

/// A machine that sleeps, a monitor that waits: what is on both sides of a gap was not seen in it.
#[test]
fn a_gap_is_no_interval() {
    let down = || gpu(&[(NvlinksUp, 17.)]);
    // Right after the first sample, where nothing says yet what is usual.
    let first = (0..10).map(|at| at * 1_000 + if at < 1 { 0 } else { 3_600_000 });
    assert_eq!(told(first, |_| down()), [""; 0]);
    // A short interval after a long one: the pauses of before say nothing of those since.
    let faster = |at: u64| if at < 10 { at * 60_000 } else { 540_000 + (at - 9) * 1_000 };
    let times = (0..40).map(|at| faster(at) + if at < 15 { 0 } else { 170_000 });
    let late = |at: u64| gpu(&[(NvlinksUp, if at < 541_000 { 18. } else { 17. })]);
    assert_eq!(told(times, late), [""; 0]);
    // What was told of and is over after a gap ended with it at the latest.
    let times = (0..200).map(|at| at * 1_000 + if at < 100 { 0 } else { 3_600_000 });
    let mended = |at: u64| gpu(&[(NvlinksUp, if at < 100_000 { 17. } else { 18. })]);
    assert_eq!(told(times, mended), ["75 begins nvlink-down", "99 ends nvlink-down"]);
}

/// A longer interval is the usual one once it came three times, and what goes on is told of then.
#[test]
fn an_interval_that_changes() {
    let slower = |at: u64| if at < 30 { at * 1_000 } else { 29_000 + (at - 29) * 60_000 };
    let told_of = told((0..40).map(slower), |at| held(if at > 29_000 { 32. } else { 0. }));
    assert_eq!(told_of, ["329 begins thermal-throttle"]);
    let faster = |at: u64| if at < 10 { at * 60_000 } else { 540_000 + (at - 9) * 1_000 };
    let told_of = told((0..60).map(faster), |at| held(if at > 540_000 { 32. } else { 0. }));
    assert!(told_of.len() == 1 && told_of[0].ends_with("begins thermal-throttle"), "{told_of:?}");
    let at: u64 = told_of[0].split(' ').next().unwrap().parse().unwrap();
    assert!((570..=600).contains(&at), "{told_of:?}");
}

/// An error is judged when it comes, and counted once where a sample has it again.
#[test]
fn events_are_judged_when_they_come() {
    let event = Event {
        at_ms: START + 61_000,
        kind: EventKind::Xid,
        uuid: "GPU-1".to_owned(),
        code: Some(79),
        ..Event::default()
    };
    let sample = |at: u64, events: Vec<Event>| {
        Arc::new(Sample { at_ms: START + at, gpus: vec![held(0.)], events, ..Sample::default() })
    };
    let mut watch = Watch::new(None);
    let begins = |changes: Vec<Change>| {
        let of = |change: &Change| match change {
            Change::Begins(one) => Some((one.rule, one.gpu, one.evidence.clone())),
            Change::Ends(..) => None,
        };
        changes.iter().filter_map(of).collect::<Vec<_>>()
    };
    assert_eq!(begins(watch.push(sample(0, Vec::new()))), []);
    assert_eq!(begins(watch.push(sample(60_000, Vec::new()))), []);
    let told = begins(watch.happened(START + 61_000, vec![event.clone()]));
    assert_eq!(told, [("xid", Some(0), "Xid 79, GPU has fallen off the bus".to_owned())]);
    assert_eq!(watch.findings().len(), 1);
    assert_eq!(begins(watch.push(sample(120_000, vec![event.clone()]))), []);
    assert_eq!(watch.xids(), [("GPU-1".to_owned(), 79, 1)]);
    assert!(!watch.findings()[0].evidence.contains("times"), "{:?}", watch.findings());
    // The same a second time, by a sample alone.
    drop(watch.push(sample(180_000, vec![event])));
    assert_eq!(watch.xids(), [("GPU-1".to_owned(), 79, 2)]);
}
