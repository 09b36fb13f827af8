//! What is told of, and when: however far samples are apart, and when what is told of becomes worse.

use std::sync::Arc;

use sconce_monitor::metric::Metric::{self, *};
use sconce_monitor::metric::Values;
use sconce_monitor::ports::Port;
use sconce_monitor::sample::{Event, EventKind, Gpu, Process, Sample};
use sconce_monitor::watch::{Change, Watch};

const START: u64 = 1_790_000_000_000;

type Row = [(Metric, f64)];

/// Medians of docs/monitor.md: a rank that waits in NCCL, training in FP32, one that waits for its data, memory held.
const HANG: &Row =
    &[(Graphics, 1.), (SmActive, 0.182), (SmOccupancy, 0.048), (Dram, 5.6e-6), (Power, 125.)];
const FP32: &Row = &[
    (Graphics, 1.),
    (SmActive, 0.961),
    (SmOccupancy, 0.203),
    (Tensor, 0.0328),
    (Fp32, 0.574),
    (Dram, 0.204),
    (Power, 642.),
];
const STARVED: &Row =
    &[(Utilization, 0.16), (Graphics, 0.164), (SmActive, 0.134), (Tensor, 0.13), (Dram, 0.0465)];
const HELD: &Row = &[(Utilization, 0.), (Graphics, 0.), (SmActive, 0.), (Power, 122.)];

fn gpu(row: &Row) -> Gpu {
    let mut values = Values::default();
    let usual = [
        (Utilization, 1.),
        (Tensor, 0.),
        (Fp32, 0.),
        (Dram, 0.),
        (PowerLimit, 700.),
        (PowerDefault, 700.),
        (Nvlinks, 18.),
        (NvlinksUp, 18.),
        (MemoryUsed, 20e9),
    ];
    usual.iter().chain(row).for_each(|(metric, value)| values.set(*metric, Some(*value)));
    Gpu {
        uuid: "GPU-1".to_owned(),
        model: "NVIDIA H100 80GB HBM3".to_owned(),
        processes: Some(vec![Process { pid: 7, ..Process::default() }]),
        values,
        ..Gpu::default()
    }
}

fn second(mut gpu: Gpu) -> Gpu {
    (gpu.index, gpu.uuid) = (1, "GPU-2".to_owned());
    gpu
}

fn of(gpu: Gpu) -> Sample {
    Sample { gpus: vec![gpu], sees_processes: true, ..Sample::default() }
}

/// What is told of, in the order in which it is, each with its second, of samples at these milliseconds.
fn told(times: impl IntoIterator<Item = u64>, moment: impl Fn(u64) -> Sample) -> Vec<String> {
    let mut watch = Watch::new(None);
    let mut all = Vec::new();
    for at in times {
        let mut sample = moment(at);
        sample.at_ms = START + at;
        for event in &mut sample.events {
            event.at_ms = START + at;
        }
        for change in watch.push(Arc::new(sample)) {
            if let Change::Begins(one) = change {
                all.push(format!("{} {} {}", at / 1000, one.severity.word(), one.rule));
            }
        }
    }
    all
}

fn rules(told: &[String]) -> Vec<&str> {
    told.iter().filter_map(|line| line.rsplit(' ').next()).collect()
}

/// So many milliseconds apart, an hour long (two dozen samples at least), with up to 20 ms of jitter.
fn every(step: u64) -> impl Iterator<Item = u64> {
    (0..(3_600_000 / step).max(24)).map(move |at| at * step + at * 7 % 20)
}

#[test]
fn loads_are_told_of_however_far_samples_are_apart() {
    for step in [500, 1_000, 2_000, 4_900, 5_000, 6_000, 10_000, 15_000, 30_000, 60_000] {
        for (row, rule) in [
            (HANG, "nccl-hang"),
            (FP32, "fp32-without-tensor-cores"),
            (STARVED, "starved"),
            (HELD, "held-idle"),
        ] {
            let told = told(every(step), |_| of(gpu(row)));
            assert_eq!(rules(&told), [rule], "{step} ms apart: {told:?}");
        }
    }
}

/// A load that one sample alone shows is none that goes on.
#[test]
fn one_sample_of_a_load_is_none() {
    let rest = [(Utilization, 0.), (Graphics, 0.), (SmActive, 0.), (Power, 72.), (MemoryUsed, 0.)];
    for step in [1_000, 10_000, 30_000, 60_000, 120_000] {
        for row in [HANG, FP32, STARVED, HELD] {
            let told = told(every(step), |at| of(gpu(if at / step == 20 { row } else { &rest })));
            assert_eq!(told, [""; 0], "{step} ms apart");
        }
    }
}

/// Two looks five minutes apart show no hang of two minutes: that it can't be told is said elsewhere.
#[test]
fn what_is_too_far_apart_is_no_hang() {
    for step in [180_000, 300_000, 3_600_000] {
        assert_eq!(told(every(step), |_| of(gpu(HANG))), [""; 0], "{step} ms apart");
    }
}

#[test]
fn a_gap_is_no_part_of_a_hang() {
    for (step, before, gap) in
        [(1_000, 60, 3_600_000), (1_000, 100, 60_000), (10_000, 9, 300_000), (60_000, 2, 1_800_000)]
    {
        let times = (0..before + 2).map(|at| at * step + if at < before { 0 } else { gap });
        assert_eq!(told(times, |_| of(gpu(HANG))), [""; 0], "{gap} ms after {before} of {step}");
    }
    // A state that was seen before a gap and after it was not seen for a quarter of a minute.
    let times = (0..16).map(|at| at * 1_000 + if at < 8 { 0 } else { 3_600_000 });
    assert_eq!(told(times, |_| of(gpu(&[(NvlinksUp, 17.)]))), [""; 0]);
}

#[test]
fn one_moment_of_a_slowdown_is_none_also_where_samples_are_far_apart() {
    for step in [5_000, 10_000, 20_000, 30_000, 60_000] {
        let slowed = |at: u64| if at / step == 20 { 128. } else { 0. };
        assert_eq!(told(every(step), |at| of(gpu(&[(ClockReasons, slowed(at))]))), [""; 0]);
    }
}

#[test]
fn a_clock_that_is_set_back_hastens_nothing() {
    let times = (0..60).map(|at| if at < 30 { 60_000 + at * 1_000 } else { at * 1_000 });
    assert_eq!(told(times, |_| of(gpu(HANG))), [""; 0]);
}

/// Links that are all down: those that were up, and those of a board whose other GPUs have theirs.
#[test]
fn all_links_down() {
    let links = |up: f64| gpu(&[(Utilization, 0.), (NvlinksUp, up), (MemoryUsed, 0.)]);
    let seconds = || (0..180).map(|at| at * 1_000);
    let both = |a: Gpu, b: Gpu| Sample { gpus: vec![a, second(b)], ..Sample::default() };
    let told_of = |moment: &dyn Fn(u64) -> Sample| {
        let told = told(seconds(), moment);
        told.iter().filter(|line| line.ends_with("critical nvlink-down")).count()
    };
    assert_eq!(told_of(&|at| of(links(if at < 20_000 { 18. } else { 0. }))), 1);
    let all_go = |at| {
        let up = if at < 20_000 { 18. } else { 0. };
        both(links(up), links(up))
    };
    assert_eq!(told_of(&all_go), 2);
    assert_eq!(told_of(&|_| both(links(18.), links(0.))), 1);
    // Boards without a bridge, and cards of which two have one.
    assert_eq!(told_of(&|_| both(links(0.), links(0.))), 0);
    let split = |at| Gpu { mig: at >= 20_000, ..links(if at < 20_000 { 18. } else { 0. }) };
    assert_eq!(told_of(&|at| both(links(18.), split(at))), 0);
    // Boards whose links are wired, and cards, which have those of their bridges; an A40 has four links.
    let of_model = |model: &str, all: f64, up: [f64; 2]| {
        let links = |up: f64| {
            let row = [(Utilization, 0.), (NvlinksUp, up), (Nvlinks, all), (MemoryUsed, 0.)];
            Gpu { model: model.to_owned(), ..gpu(&row) }
        };
        told_of(&|_| both(links(up[0]), links(up[1])))
    };
    for (model, all) in [
        ("NVIDIA A800-SXM4-80GB", 8.),
        ("NVIDIA H800", 8.),
        ("NVIDIA H20", 18.),
        ("NVIDIA H20-3e", 18.),
        ("NVIDIA B300 SXM6 AC", 18.),
        ("NVIDIA GB300", 18.),
        ("Tesla V100-SXM2-32GB", 6.),
        ("Tesla P100-SXM2-16GB", 4.),
    ] {
        assert_eq!(of_model(model, all, [all, 0.]), 1, "{model}");
        assert_eq!(of_model(model, all, [all, all - 1.]), 1, "{model}");
    }
    for (model, all) in [
        ("NVIDIA H100 NVL", 18.),
        ("NVIDIA H100 PCIe", 18.),
        ("NVIDIA H200 NVL", 18.),
        ("NVIDIA H800 PCIe", 12.),
        ("NVIDIA A100-PCIE-40GB", 12.),
        ("NVIDIA A100 80GB PCIe", 12.),
        ("NVIDIA A800 80GB PCIe", 8.),
        ("NVIDIA A800 40GB Active", 8.),
        ("NVIDIA A40", 4.),
        ("NVIDIA A30", 4.),
        ("NVIDIA RTX A6000", 4.),
        ("A GPU that nobody knows", 18.),
    ] {
        assert_eq!(of_model(model, all, [all, 0.]), 0, "{model}");
        // One bridge of two or three.
        assert_eq!(of_model(model, all, [all / 2., all / 2.]), 0, "{model}");
        assert_eq!(of_model(model, all, [all / 2., all]), 0, "{model}");
    }
    // A bridge that had links, and lost some.
    let bridge = |up: f64| {
        let row = [(Utilization, 0.), (NvlinksUp, up), (Nvlinks, 12.), (MemoryUsed, 0.)];
        Gpu { model: "NVIDIA A100 80GB PCIe".to_owned(), ..gpu(&row) }
    };
    let loses = |at| of(bridge(if at < 20_000 { 8. } else { 4. }));
    assert_eq!(told_of(&loses), 1);
    assert_eq!(told_of(&|at| of(bridge(if at < 20_000 { 4. } else { 8. }))), 0);
    // Links that come up late, or after MIG is switched off, are read once a minute.
    assert_eq!(told_of(&|at| both(links(18.), links(if at < 60_000 { 0. } else { 18. }))), 0);
}

/// A lowered limit is nearer to the power of a GPU that rests.
#[test]
fn a_hang_under_a_lowered_power_limit() {
    for limit in [200., 250., 310., 700.] {
        let told =
            told(every(1_000).take(200), |_| of(gpu(&[HANG, &[(PowerLimit, limit)]].concat())));
        assert_eq!(rules(&told), ["nccl-hang"], "{limit} W");
    }
}

/// Rank 0 works for minutes, in an evaluation or at a checkpoint, and the others wait for it: no hang.
#[test]
fn ranks_that_wait_for_one_that_works() {
    let of_job = |row: &Row| {
        let process = Process { pid: 7, parent: Some(5), ..Process::default() };
        Gpu { processes: Some(vec![process]), ..gpu(row) }
    };
    let told_of = |first: &Row| {
        let told = told(every(1_000).take(200), |_| Sample {
            gpus: vec![of_job(first), second(of_job(HANG))],
            sees_processes: true,
            ..Sample::default()
        });
        rules(&told).into_iter().filter(|rule| *rule == "nccl-hang").count()
    };
    assert_eq!([told_of(FP32), told_of(STARVED)], [0, 0]);
    // One whose rank sleeps does not, and where all wait all hang.
    assert_eq!([told_of(HELD), told_of(HANG)], [1, 2]);
}

fn xid(code: u32, line: &str) -> Event {
    let (uuid, line) = ("GPU-1".to_owned(), line.to_owned());
    Event { kind: EventKind::Xid, uuid, code: Some(code), line, ..Event::default() }
}

/// Five bursts within a day are no longer the program's, whether the first is still told of or not.
#[test]
fn an_error_that_comes_again_becomes_worse() {
    let rest = || gpu(&[(Utilization, 0.), (MemoryUsed, 0.)]);
    for minutes in [10, 14, 16, 60] {
        let told = told((0..6 * minutes * 6).map(|at| at * 10_000), |at| {
            let events = if at % (minutes * 60_000) == 0 { vec![xid(13, "")] } else { Vec::new() };
            Sample { events, ..of(rest()) }
        });
        let due = format!("{} critical xid", 4 * minutes * 60);
        let first = told.iter().find(|line| line.contains("critical"));
        assert_eq!(first, Some(&due), "every {minutes} minutes: {told:?}");
    }
}

/// What the line says of itself: the recovery that is asked for, the kind of an NVLink's error.
#[test]
fn errors_are_as_bad_as_their_lines_say() {
    let bad = |code: u32, line: &str| {
        let told = told([0, 1_000], |at| {
            let events = if at == 0 { vec![xid(code, line)] } else { Vec::new() };
            Sample { events, ..of(gpu(&[(Utilization, 0.), (MemoryUsed, 0.)])) }
        });
        told.first().cloned().unwrap_or_default()
    };
    let recovery = |to: &str| {
        bad(
            154,
            &format!(
                "NVRM: Xid (PCI:0000:18:00): 154, pid=1, name=a, GPU recovery action changed from 0x1 (GPU Reset Required) to {to}"
            ),
        )
    };
    assert_eq!(recovery("0x0 (None)"), "0 note xid");
    assert_eq!(recovery("0x1 (GPU Reset Required)"), "0 critical xid");
    assert_eq!(recovery("0x2 (Node Reboot Required)"), "0 critical xid");
    assert_eq!(recovery("0x3 (Drain P2P)"), "0 critical xid");
    assert_eq!(bad(154, ""), "0 critical xid");
    let link = |kind: &str, words: &str| {
        bad(
            149,
            &format!(
                "NVRM: Xid (PCI:0000:18:00): 149, NETIR_LINK_EVT  {kind}  XC0 i0 Link 00 ({words} 0x0)"
            ),
        )
    };
    assert_eq!(link("Fatal", "0x004505c6 0x00000000"), "0 critical xid");
    assert_eq!(link("Nonfatal", "0xffffffff 0x00000000"), "0 note xid");
    assert_eq!(link("Nonfatal", "0x004505c6 0x00000000"), "0 warning xid");
    assert_eq!(link("Fatal", "0xffffffff 0x00000000"), "0 critical xid");
    // NVML's event has no line: which of them it is can't be known.
    assert_eq!(bad(149, ""), "0 warning xid");
}

/// A switch's error that its line calls fatal, whatever the guide says of the number: how bad it is and what to do agree.
#[test]
fn a_switchs_fatal_error_is_not_dealt_with() {
    let told_of = |code: u32, line: &str| {
        let event = Event {
            at_ms: START,
            kind: EventKind::Sxid,
            bus_id: "0000:c1:00".to_owned(),
            code: Some(code),
            line: format!("nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): {code}, {line}"),
            ..Event::default()
        };
        let sample = Sample { at_ms: START, events: vec![event], ..Sample::default() };
        let mut watch = Watch::new(None);
        drop(watch.push(Arc::new(sample)));
        let found = watch.findings();
        (found[0].severity.word(), found[0].action.clone())
    };
    let (how, action) = told_of(11012, "Fatal, Link 30 ingress ECC error");
    assert!(how == "critical" && action.contains("reset all of them"), "{how}: {action}");
    let (how, action) = told_of(20001, "Fatal, Link 30 TX Replay Error");
    assert!(how == "critical" && !action.starts_with("nothing"), "{how}: {action}");
    let (how, action) = told_of(11012, "Non-fatal, Link 30 ingress ECC error");
    assert_eq!((how, action.as_str()), ("note", "nothing: it was dealt with"));
    // One that the guide calls fatal and its line does not was survived: it is a note, with what to do if it stays.
    let (how, action) = told_of(20034, "Non-fatal, Link 30 LTSSM Fault Up");
    assert!(how == "note" && action.contains("comes again"), "{how}: {action}");
    // What the guide does not list.
    let (how, action) = told_of(99999, "Fatal, Link 30 something");
    assert!(how == "critical" && !action.contains("the guide says"), "{how}: {action}");
}

/// A fatal one is told of at once, whatever came before it with the same number.
#[test]
fn a_fatal_error_of_a_switch_after_one_that_was_not() {
    let event = |at_ms: u64, how: &str| Event {
        at_ms,
        kind: EventKind::Sxid,
        bus_id: "0000:c1:00".to_owned(),
        code: Some(12028),
        line: format!("nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 12028, {how}, Link 30 egress"),
        ..Event::default()
    };
    for (first, second) in [(START, START + 50_000), (START, START)] {
        let mut watch = Watch::new(None);
        let mut told = Vec::new();
        for at in (0..60).map(|n| START + n * 1000) {
            let all = [event(first, "Non-fatal"), event(second, "Fatal")];
            let events = all.into_iter().filter(|event| event.at_ms == at).collect();
            told.extend(watch.push(Arc::new(Sample { at_ms: at, events, ..Sample::default() })));
        }
        let last = told.last().unwrap();
        let Change::Begins(found) = last else { panic!("{last:?}") };
        assert_eq!(found.severity.word(), "critical", "{told:?}");
        assert!(found.action.contains("reset all of them"), "{}", found.action);
    }
}

/// NVML's event and the kernel's line are one error, and the line says more.
#[test]
fn an_error_that_both_nvml_and_the_kernel_tell_of() {
    let event = |at_ms: u64, code: u32, line: &str| Event {
        at_ms,
        uuid: "u".to_owned(),
        code: Some(code),
        line: line.to_owned(),
        ..Event::default()
    };
    let fatal = "NVRM: Xid (PCI:0000:18:00): 149, NETIR_LINK_EVT  Fatal   XC0 i0 Link 00 (0x000000d7 0x00000000 0x00000000 0x00000000 0x00000000 0x00000000)";
    let none = "NVRM: Xid (PCI:0000:18:00): 154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)";
    for (code, line, how) in [(149, fatal, "critical"), (154, none, "note")] {
        for (of_nvml, of_kernel) in [(0, 1500), (1500, 0), (0, 0)] {
            let mut watch = Watch::new(None);
            for at in (0..5).map(|n| START + n * 1000) {
                let all = [event(START + of_nvml, code, ""), event(START + of_kernel, code, line)];
                let due = |event: &Event| event.at_ms <= at && event.at_ms + 1000 > at;
                let events = all.into_iter().filter(due).collect();
                drop(watch.push(Arc::new(Sample { at_ms: at, events, ..Sample::default() })));
            }
            let found = watch.findings();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].severity.word(), how, "{found:?}");
            assert!(!found[0].evidence.contains("times"), "{}", found[0].evidence);
            assert_eq!(watch.xids(), [("u".to_owned(), code, 1)]);
        }
    }
}

/// A port that is gone with its adapter.
#[test]
fn a_port_that_is_not_there_any_more() {
    let port = Port {
        device: "mlx5_0".to_owned(),
        port: 1,
        state: "ACTIVE".to_owned(),
        ..Port::default()
    };
    let mut watch = Watch::new(None);
    for at in 0..60 {
        let ports = if at < 10 { vec![port.clone()] } else { Vec::new() };
        let sample = Sample { at_ms: START + at * 1000, ports, ..Sample::default() };
        drop(watch.push(Arc::new(sample)));
    }
    let found = watch.findings();
    assert_eq!(found[0].rule, "infiniband-down");
    assert!(found[0].evidence.contains("is not there any more"), "{}", found[0].evidence);
}

/// An adapter that does not count how often its link went down: that the port was active is enough.
#[test]
fn a_port_without_a_count_goes_down() {
    let port = |state: &str| Port {
        device: "bnxt_re0".to_owned(),
        port: 1,
        state: state.to_owned(),
        ..Port::default()
    };
    let moment = |first: &'static str| {
        move |at: u64| {
            let state = if at < 20_000 { first } else { "DOWN" };
            Sample { ports: vec![port(state)], ..Sample::default() }
        }
    };
    let seconds = || (0..60).map(|at| at * 1_000);
    assert_eq!(told(seconds(), moment("ACTIVE")), ["45 critical infiniband-down"]);
    assert_eq!(told(seconds(), moment("DOWN")), [""; 0]);
}
