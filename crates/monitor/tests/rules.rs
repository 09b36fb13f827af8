//! The rules: known loads are told apart, faults are found, and the manual's page is theirs.

use std::sync::Arc;

use expect_test::{expect, expect_file};
use sconce_monitor::metric::Metric::{self, *};
use sconce_monitor::metric::Values;
use sconce_monitor::ports::Port;
use sconce_monitor::sample::{Event, EventKind, Gpu, Process, Sample, Workload};
use sconce_monitor::watch::{Change, Watch};
use sconce_monitor::window::Window;

/// Medians of known loads on an H100 80GB HBM3: percent, MiB/s, watts, MHz. Columns: util, graphics, sm_active, sm_occ, tensor,
/// fp32, fp16, dram, memutil, pcie_rx, nvl_rx, watt, sm, why.
const LOADS: &[(&str, [f64; 14])] = &[
    ("idle", [0., 0., 0., 0., 0., 0., 0., 0.000547, 0., 0.339, 0., 72.5, 345., 1.]),
    ("bf16 matmul", [100., 100., 96.7, 14.3, 93.8, 0., 0., 24.2, 31., 17., 0., 699., 1380., 4.]),
    ("fp8 matmul", [100., 100., 97.8, 14.5, 91.5, 23.2, 0., 23.8, 31., 16.6, 0., 698., 1268., 4.]),
    (
        "fp32 matmul",
        [100., 100., 96.9, 12.1, 0.000147, 77.3, 0., 6.77, 9., 5.14, 0., 689., 1980., 0.],
    ),
    (
        "tf32 matmul",
        [100., 100., 96.6, 18., 93.3, 0.0913, 0., 25., 32.5, 14.5, 0., 699., 1432., 4.],
    ),
    ("copy 8 GiB", [100., 100., 99.8, 80., 0., 0., 0., 90.3, 100., 24.9, 0., 388., 1980., 0.]),
    ("elementwise", [100., 100., 96.4, 87.8, 4.72, 44.2, 0., 47.2, 60., 36.9, 0., 615., 1980., 0.]),
    (
        "bf16 train",
        [100., 87.5, 78.1, 36.5, 25.3, 2.59, 0.148, 43.2, 63., 43.1, 0., 322., 1980., 0.],
    ),
    ("fp32 train", [100., 100., 96.1, 20.3, 3.28, 57.4, 0., 20.4, 25., 12.9, 0., 642., 1980., 0.]),
    ("starved", [16., 16.4, 13.4, 1.99, 13., 0., 0., 4.65, 6., 3.08, 0., 273., 1965., 4.]),
    (
        "launch-bound",
        [36., 35.8, 0.0357, 0.00186, 0.0002, 0.0004, 0., 0.000548, 0., 223., 0., 126., 1980., 0.],
    ),
    ("h2d copies", [100., 0.00593, 0., 0., 0., 0., 0., 1.64, 2., 56000., 0., 130., 1980., 0.]),
    ("memory held", [0., 0.00593, 0., 0., 0., 0., 0., 0.000547, 0., 0.2, 0., 122., 1980., 0.]),
    (
        "all-reduce",
        [100., 100., 17.5, 4.64, 0.00204, 0.122, 0., 39.6, 52., 15.2, 322500., 289., 1980., 0.],
    ),
    (
        "hang, waiting rank",
        [100., 100., 18.2, 4.83, 0., 0., 0., 0.00056, 0., 0.702, 0., 125., 1980., 0.],
    ),
    (
        "hang, silent rank",
        [0., 0.00571, 0., 0., 0., 0., 0., 0.000737, 0., 0.205, 0., 118., 1980., 0.],
    ),
];

fn loaded(row: &[f64; 14]) -> Gpu {
    const COLUMNS: [(Metric, f64); 14] = [
        (Utilization, 0.01),
        (Graphics, 0.01),
        (SmActive, 0.01),
        (SmOccupancy, 0.01),
        (Tensor, 0.01),
        (Fp32, 0.01),
        (Fp16, 0.01),
        (Dram, 0.01),
        (MemoryActive, 0.01),
        (PcieRx, 1_048_576.),
        (NvlinkRx, 1_048_576.),
        (Power, 1.),
        (SmClock, 1e6),
        (ClockReasons, 1.),
    ];
    let mut gpu = healthy();
    for ((metric, by), value) in COLUMNS.iter().zip(row) {
        gpu.values.set(*metric, Some(value * by));
    }
    let idle = row[11] < 100.0;
    gpu.values.set(MemoryUsed, Some(if idle { 0.0 } else { 4e9 }));
    gpu.processes =
        Some(if idle { Vec::new() } else { vec![Process { pid: 7, ..Process::default() }] });
    gpu
}

fn healthy() -> Gpu {
    let mut values = Values::default();
    for (metric, value) in [
        (Utilization, 0.),
        (PowerLimit, 700.),
        (PowerDefault, 700.),
        (PcieGeneration, 5.),
        (PcieGenerationMax, 5.),
        (PcieLanes, 16.),
        (PcieLanesMax, 16.),
        (PcieReplays, 3.),
        (NvlinksUp, 18.),
        (Nvlinks, 18.),
        (NvlinkCrc, 0.),
        (NvlinkReplays, 0.),
        (NvlinkRecoveries, 0.),
        (EccUncorrected, 0.),
        (EccCorrected, 12.),
        (RemapPending, 0.),
        (RemapFailed, 0.),
        (MemoryUsed, 0.),
        (ClockReasons, 1.),
        (Temperature, 40.),
    ] {
        values.set(metric, Some(value));
    }
    Gpu {
        uuid: "GPU-1".to_owned(),
        model: "NVIDIA H100 80GB HBM3".to_owned(),
        bus_id: "0000:18:00.0".to_owned(),
        fabric: Some("completed".to_owned()),
        processes: Some(Vec::new()),
        values,
        ..Gpu::default()
    }
}

const START: u64 = 1_790_000_000_000;

/// The rules that hold after so many seconds of samples, one a second.
fn held(seconds: u64, moment: impl Fn(u64) -> Sample) -> Vec<String> {
    let mut watch = Watch::new(None);
    for second in 0..=seconds {
        let mut sample = moment(second);
        sample.at_ms = START + second * 1000;
        sample.sees_processes = true;
        let _ = watch.push(Arc::new(sample));
    }
    let findings = watch.findings();
    findings
        .iter()
        .map(|one| format!("{} {}: {}", one.severity.word(), one.rule, one.evidence))
        .collect()
}

fn of(gpu: Gpu) -> Sample {
    Sample { gpus: vec![gpu], ..Sample::default() }
}

/// A healthy GPU of which one value is another.
fn with(metric: Metric, value: f64) -> Gpu {
    let mut gpu = healthy();
    gpu.values.set(metric, Some(value));
    gpu
}

#[test]
fn known_loads_are_told_apart() {
    let mut out = String::new();
    for (name, row) in LOADS {
        // Half an hour, in which all are due.
        let found = held(1900, |_| of(loaded(row)));
        out += &format!("{name}: {}\n", found.join("; "));
    }
    expect![[r#"
        idle: 
        bf16 matmul: 
        fp8 matmul: 
        fp32 matmul: note fp32-without-tensor-cores: FP32 77%, tensor cores 0.00%
        tf32 matmul: 
        copy 8 GiB: 
        elementwise: 
        bf16 train: 
        fp32 train: note fp32-without-tensor-cores: FP32 57%, tensor cores 3.28%
        starved: note starved: busy 16%, multiprocessors 13%
        launch-bound: note launch-bound: busy 36%, multiprocessors 0.04%
        h2d copies: 
        memory held: note held-idle: 3.7 GiB held, 122 W
        all-reduce: 
        hang, waiting rank: critical nccl-hang: busy 100%, multiprocessors 18%, tensor 0%, memory 0.00%, 1 MB/s over NVLink and PCIe, 125 W
        hang, silent rank: note held-idle: 3.7 GiB held, 118 W
    "#]]
    .assert_eq(&out);
}

/// A GPU without GPM says nothing that takes it: no rule guesses.
#[test]
fn what_a_gpu_does_not_say_is_no_finding() {
    let busy = |_| {
        let mut gpu = Gpu { uuid: "GPU-1".to_owned(), ..Gpu::default() };
        gpu.values.set(Utilization, Some(1.0));
        of(gpu)
    };
    assert_eq!(held(1900, busy), Vec::<String>::new());
    assert_eq!(held(1900, |_| of(Gpu::default())), Vec::<String>::new());
    assert_eq!(held(100, |_| Sample::default()), Vec::<String>::new());
}

#[test]
fn faults() {
    let mut out = String::new();
    let mut say =
        |name: &str, found: Vec<String>| out += &format!("{name}: {}\n", found.join("; "));
    say("healthy", held(900, |_| of(healthy())));
    say("lost", held(5, |_| of(Gpu { lost: Some(15), ..healthy() })));
    say("silent", held(1, |_| of(Gpu { age_ms: 14_000, ..healthy() })));
    let left = |kind: EventKind, line: &str, age_ms: u64| {
        let (bus_id, line) = ("0000:04:00".to_owned(), line.to_owned());
        let event = Event { at_ms: START, kind, bus_id: bus_id.clone(), line, ..Event::default() };
        let gpu = Gpu { age_ms, bus_id: bus_id + ".0", ..healthy() };
        held(5, |second| Sample {
            events: (second == 0).then(|| event.clone()).into_iter().collect(),
            ..of(gpu.clone())
        })
    };
    let line = "NVRM: GPU 0000:04:00.0: GPU has fallen off the bus.";
    say("left, silent", left(EventKind::LeftTheBus, line, 14_000));
    say("left, and back", left(EventKind::LeftTheBus, line, 0));
    let two = || vec![healthy(), Gpu { index: 1, uuid: "GPU-2".to_owned(), ..healthy() }];
    let some = |gpus: Vec<Gpu>| Sample { gpus, ..Sample::default() };
    say(
        "gone",
        held(10, |second| some(two().into_iter().take(if second < 5 { 2 } else { 1 }).collect())),
    );
    say(
        "gone, and back",
        held(30, |second| some(if second == 5 { vec![healthy()] } else { two() })),
    );
    let quiet = || Sample { silence: Some("no driver".to_owned()), ..Sample::default() };
    say("all silent", held(10, |second| if second < 5 { some(two()) } else { quiet() }));
    say("uncorrected", held(1, |_| of(with(EccUncorrected, 2.))));
    say("corrected", held(1, |_| of(with(EccCorrected, 3e7))));
    say("row waits", held(1, |_| of(with(RemapPending, 1.))));
    say("row failed", held(1, |_| of(with(RemapFailed, 1.))));
    say("fabric", held(200, |_| of(Gpu { fabric: Some("in-progress".to_owned()), ..healthy() })));
    say("links", held(100, |_| of(with(NvlinksUp, 17.))));
    say("no bridge", held(60, |_| of(with(NvlinksUp, 0.))));
    say("link errors", held(100, |second| of(with(NvlinkCrc, second as f64 * 300.))));
    say("lanes", held(60, |_| of(with(PcieLanes, 8.))));
    say("gen at rest", held(200, |_| of(with(PcieGeneration, 1.))));
    let slow = |_| {
        let mut gpu = with(PcieGeneration, 3.);
        gpu.values.set(Utilization, Some(1.0));
        of(gpu)
    };
    say("gen at work", held(200, slow));
    say("replays at once", held(5, |second| of(with(PcieReplays, (second * 3) as f64))));
    say("link errors at once", held(3, |second| of(with(NvlinkReplays, second as f64))));
    let moment = |second| of(with(ClockReasons, if second == 300 { 8. } else { 0. }));
    say("a moment's slowdown", held(320, moment));
    // Told of after ten seconds on end, or a fifth of a minute: seven are neither, whenever they come.
    let braked = |slowed: fn(u64) -> bool| {
        move |second| of(with(ClockReasons, if slowed(second) { 128. } else { 0. }))
    };
    for after in [6, 20, 60, 120, 360] {
        assert_eq!(held(100 + after, braked(|second| (100..107).contains(&second))), [""; 0]);
        assert_eq!(held(after, braked(|second| second < 7)), [""; 0]);
    }
    say("brake again and again", held(200, braked(|second| second % 3 == 0)));
    say("brake over", held(500, braked(|second| (100..115).contains(&second))));
    say("brake at once", held(12, |_| of(with(ClockReasons, 0x80 as f64))));
    say("replays", held(600, |second| of(with(PcieReplays, (second / 20) as f64))));
    say("heat", held(120, |_| of(with(ClockReasons, 0x20 as f64))));
    say("brake", held(120, |_| of(with(ClockReasons, 0x80 as f64))));
    let capped = |_| {
        let mut gpu = with(PowerLimit, 500.);
        gpu.values.set(ClockReasons, Some(4.0));
        of(gpu)
    };
    say("capped at rest", held(200, capped));
    let at_work = |busy: f64, watts: f64| {
        move |second| {
            let mut sample = capped(second);
            sample.gpus[0].values.set(Utilization, Some(busy));
            sample.gpus[0].values.set(Power, Some(watts));
            sample
        }
    };
    say("capped with nothing to do", held(200, at_work(0.0, 120.)));
    say("capped", held(200, at_work(1.0, 498.)));
    say("memory", held(400, |_| of(with(MemoryUsed, 20e9))));
    expect![[r#"
        healthy: 
        lost: critical gpu-lost: GPU is lost (15)
        silent: warning gpu-silent: no answer for more than 10 s
        left, silent: critical gpu-lost: it does not answer: NVRM: GPU 0000:04:00.0: GPU has fallen off the bus.; warning gpu-silent: no answer for more than 10 s
        left, and back: 
        gone: critical gpu-lost: it is listed no more
        gone, and back: 
        all silent: 
        uncorrected: critical ecc-errors: 2 uncorrected
        corrected: warning ecc-corrected: 30000000 corrected
        row waits: warning row-remap: a row waits for a reset
        row failed: critical row-remap: a row could not be replaced
        fabric: critical fabric: its state is in-progress
        links: critical nvlink-down: 17 of 18 active
        no bridge: 
        link errors: warning nvlink-errors: in two minutes 30000 checksum errors, 0 replays, 0 recoveries
        lanes: warning pcie-narrow: 8 lanes of 16
        gen at rest: 
        gen at work: warning pcie-narrow: generation 3 of 5 under load
        replays at once: warning pcie-replays: 15 in ten minutes
        link errors at once: warning nvlink-errors: in two minutes 0 checksum errors, 3 replays, 0 recoveries
        a moment's slowdown: 
        brake again and again: critical hardware-slowdown: 33% of the last minute
        brake over: 
        brake at once: critical hardware-slowdown: 100% of the last 10 s
        replays: warning pcie-replays: 30 in ten minutes
        heat: warning thermal-throttle: 100% of the last 30 s, 40 C, 0 MHz
        brake: critical hardware-slowdown: 100% of the last minute
        capped at rest: 
        capped with nothing to do: 
        capped: note power-limit-lowered: 500 W of 700 W, 100% of the last 30 s at it
        memory: warning memory-without-process: 18.6 GiB in use, no process
    "#]]
    .assert_eq(&out);
}

/// Processes and instances take most of a sample's memory, and of the newest alone they are looked at.
#[test]
fn older_samples_are_lean() {
    let mut window = Window::default();
    for second in 0..3 {
        let gpu = Gpu { processes: Some(vec![Process::default()]), ..healthy() };
        window.push(Arc::new(Sample { at_ms: START + second * 1000, ..of(gpu) }));
    }
    let processes = |sample: Option<&Sample>| sample.unwrap().gpus[0].processes.is_some();
    assert_eq!((processes(window.oldest()), processes(window.now())), (false, true));
    let older = window.oldest().unwrap();
    assert!(older.gpus[0].values.known().eq(window.gpus()[0].values.known()));
}

/// GPUs of one job: who is waited for, and who is not.
#[test]
fn gpus_of_one_job() {
    type Touch = fn(&mut Gpu);
    let busy = LOADS.iter().find(|(name, _)| name.starts_with("bf16 t")).map(|(_, row)| row);
    let job = |last: Touch, rest: Touch| {
        held(200, |_| {
            let gpus = (0..4).map(|index| {
                let mut gpu = loaded(busy.unwrap());
                gpu.index = index;
                gpu.uuid = format!("GPU-{index}");
                gpu.values.set(Graphics, Some(1.0));
                let process = Process { pid: 10 + index, parent: Some(9), ..Process::default() };
                gpu.processes = Some(vec![process]);
                if index == 3 {
                    last(&mut gpu)
                } else {
                    rest(&mut gpu)
                }
                gpu
            });
            Sample { gpus: gpus.collect(), ..Sample::default() }
        })
    };
    let same: Touch = |_| ();
    let mut out = String::new();
    let mut say =
        |name: &str, found: Vec<String>| out += &format!("{name}: {}\n", found.join("; "));
    say("all the same", job(same, same));
    say("one works, three wait", job(same, |gpu| gpu.values.set(Tensor, Some(0.1))));
    say("one waits for its program", job(|gpu| gpu.values.set(Graphics, Some(0.6)), same));
    say("one has a lower clock", job(|gpu| gpu.values.set(SmClock, Some(990e6)), same));
    // Replicas of one server: the others compute all the time, and wait for nobody.
    let idler: Touch = |gpu| {
        gpu.values.set(Graphics, Some(0.28));
        gpu.values.set(Tensor, Some(0.05));
    };
    say("one has less to do", job(idler, same));
    say("chips differ a little", job(|gpu| gpu.values.set(SmClock, Some(1700e6)), same));
    say(
        "another job",
        job(
            |gpu| {
                gpu.processes =
                    Some(vec![Process { pid: 99, parent: Some(98), ..Process::default() }])
            },
            |gpu| gpu.values.set(Tensor, Some(0.1)),
        ),
    );
    say(
        "nobody knows",
        job(
            |gpu| gpu.processes = None,
            |gpu| {
                gpu.processes = None;
                gpu.values.set(Tensor, Some(0.1));
            },
        ),
    );
    expect![[r#"
        all the same: 
        one works, three wait: note straggler: tensor cores 25%, the other 3 of its job 10%
        one waits for its program: note straggler: busy 60%, the other 3 of its job always
        one has a lower clock: note straggler: 990 MHz, the other 3 of its job 1980 MHz
        one has less to do: 
        chips differ a little: 
        another job: 
        nobody knows: 
    "#]]
    .assert_eq(&out);
}

#[test]
fn what_containers_were_given() {
    let holder = |digest: &str, job: &str| Workload {
        runtime: "sconce".into(),
        container: format!("c{digest}"),
        name: "train".into(),
        image_digest: format!("sha256:{digest}0123456789abcdef"),
        slurm_job: job.into(),
        ..Workload::default()
    };
    let two = |a: Workload, b: Workload, changes: bool| {
        held(60, |second| {
            let driver = if changes && second > 30 { "580.2" } else { "580.1" };
            let gpu = |index: u32, holder: &Workload| Gpu {
                index,
                uuid: format!("GPU-{index}"),
                holders: vec![holder.clone()],
                ..healthy()
            };
            let gpus = vec![gpu(0, &a), gpu(1, &b)];
            Sample { gpus, driver: Some(driver.to_owned()), ..Sample::default() }
        })
    };
    let mut out = String::new();
    let mut say =
        |name: &str, found: Vec<String>| out += &format!("{name}: {}\n", found.join("; "));
    say("one image", two(holder("a", "7"), holder("a", "7"), false));
    say("two images", two(holder("a", "7"), holder("b", "7"), false));
    say("two jobs", two(holder("a", "7"), holder("b", "8"), false));
    say("no jobs", two(holder("a", ""), holder("b", ""), false));
    say("another driver", two(holder("a", "7"), holder("a", "7"), true));
    expect![[r#"
        one image: 
        two images: warning different-images: job 7: sha256:a0123456789a and sha256:b0123456789a
        two jobs: 
        no jobs: 
        another driver: warning driver-changed: train: from 580.1 to 580.2; warning driver-changed: train: from 580.1 to 580.2
    "#]].assert_eq(&out);
}

/// A pod's GPU is nobody else's: one that it does not use is told of, with its name.
#[test]
fn what_pods_were_given() {
    let row = LOADS.iter().find(|(name, _)| *name == "memory held").unwrap();
    let pod = |pod: &str| Workload {
        runtime: "kubernetes".into(),
        name: "main".into(),
        pod: pod.into(),
        namespace: "ml".into(),
        ..Workload::default()
    };
    let mut out = String::new();
    let mut say = |name: &str, gpu: Gpu| {
        out += &format!("{name}: {}\n", held(1900, |_| of(gpu.clone())).join("; "));
    };
    let used = Gpu { holders: vec![pod("train-0")], ..loaded(&row.1) };
    let mut empty = Gpu { processes: Some(Vec::new()), ..used.clone() };
    empty.values.set(MemoryUsed, Some(0.0));
    let own = Workload { runtime: "sconce".into(), name: "mine".into(), ..Workload::default() };
    say("memory", used.clone());
    say("no process", empty.clone());
    say("shared", Gpu { holders: vec![pod("b"), pod("a"), pod("a")], ..empty.clone() });
    say("our own", Gpu { holders: vec![own], ..empty.clone() });
    say("nobody", Gpu { holders: Vec::new(), ..empty });
    expect![[r#"
        memory: note held-idle: 3.7 GiB held by pod ml/train-0, 122 W
        no process: note held-idle: 0.0 GiB held by pod ml/train-0, without a process, 122 W
        shared: note held-idle: 0.0 GiB held by pod ml/a, ml/b, without a process, 122 W
        our own: 
        nobody: 
    "#]]
    .assert_eq(&out);
}

#[test]
fn errors_by_the_catalogue() {
    let xid = |code: u32, at: u64| Event {
        at_ms: START + at * 1000,
        kind: EventKind::Xid,
        uuid: "GPU-1".to_owned(),
        code: Some(code),
        ..Event::default()
    };
    let at = |codes: &[(u32, u64)], seconds: u64| {
        held(seconds, |second| {
            let events =
                codes.iter().filter(|(_, at)| *at == second).map(|(code, at)| xid(*code, *at));
            Sample { events: events.collect(), ..of(healthy()) }
        })
    };
    let mut out = String::new();
    for codes in [&[(31, 5)][..], &[(79, 5), (48, 6)], &[(9999, 1)], &[(154, 1)]] {
        out += &format!("{codes:?}: {}\n", at(codes, 10).join("; "));
    }
    let bursts: Vec<(u32, u64)> = (0..5).map(|burst| (13, burst * 200)).collect();
    out += &format!("bursts: {}\n", at(&bursts, 900).join("; "));
    out += &format!("long ago: {}\n", at(&[(31, 5)], 1000).join("; "));
    expect![[r#"
        [(31, 5)]: note xid: Xid 31, GPU memory page fault
        [(79, 5), (48, 6)]: critical xid: Xid 79, GPU has fallen off the bus; critical xid: Xid 48, Double Bit ECC Error
        [(9999, 1)]: warning xid: Xid 9999, an error that the catalogue does not list
        [(154, 1)]: critical xid: Xid 154, GPU Recovery Action Changed
        bursts: critical xid: Xid 13, Graphics Engine Exception (5 bursts within a day)
        long ago: 
    "#]]
    .assert_eq(&out);
}

#[test]
fn ports_of_infiniband() {
    let port = |state: &str, downs: u64, errors: u64| Port {
        device: "mlx5_0".to_owned(),
        port: 1,
        state: state.to_owned(),
        physical: if state == "ACTIVE" { "LinkUp" } else { "Polling" }.to_owned(),
        counters: [("link_downs_total", downs), ("symbol_errors_total", errors)]
            .map(|(name, count)| (name.to_owned(), count))
            .into(),
        ..Port::default()
    };
    let over = |seconds: u64, moment: &dyn Fn(u64) -> Port| {
        held(seconds, |second| Sample { ports: vec![moment(second)], ..Sample::default() })
            .join("; ")
    };
    let mut out = String::new();
    type Moment<'a> = &'a dyn Fn(u64) -> Port;
    let rows: [(&str, u64, Moment<'_>); 8] = [
        ("active", 60, &|_| port("ACTIVE", 7, 500)),
        ("went down", 60, &|at| if at < 5 { port("ACTIVE", 0, 0) } else { port("DOWN", 1, 0) }),
        ("was down before", 60, &|_| port("DOWN", 1, 0)),
        ("never up", 60, &|_| port("DOWN", 0, 0)),
        ("for a moment", 20, &|at| port(if at > 5 { "DOWN" } else { "ACTIVE" }, 1, 0)),
        ("flaps", 120, &|at| port("ACTIVE", at / 30, 0)),
        ("errors", 60, &|at| port("ACTIVE", 0, at / 6)),
        // The driver was loaded anew.
        ("anew", 60, &|at| port("ACTIVE", 0, if at < 30 { 500 } else { 9 })),
    ];
    for (name, seconds, moment) in rows {
        out += &format!("{name}: {}\n", over(seconds, moment));
    }
    expect![[r#"
        active: 
        went down: critical infiniband-down: mlx5_0 port 1: DOWN (Polling)
        was down before: critical infiniband-down: mlx5_0 port 1: DOWN (Polling)
        never up: 
        for a moment: 
        flaps: warning infiniband-errors: mlx5_0 port 1: 4 times down in ten minutes
        errors: warning infiniband-errors: mlx5_0 port 1: 10 symbol errors in ten minutes
        anew: 
    "#]]
    .assert_eq(&out);
}

/// Told of once it was seen throughout, over once it was not seen for a while.
#[test]
fn a_finding_has_a_beginning_and_an_end() {
    let hang = LOADS.iter().find(|(name, _)| name.starts_with("hang, w")).map(|(_, row)| row);
    let busy = LOADS.iter().find(|(name, _)| name.starts_with("bf16 t")).map(|(_, row)| row);
    let mut watch = Watch::new(None);
    let mut out = String::new();
    for second in 0..400 {
        // A hiccup before it is due, one after it is told of, and the end.
        let hangs = second > 20 && second != 80 && second != 300 && second < 330;
        let mut sample = of(loaded(if hangs { hang } else { busy }.unwrap()));
        sample.at_ms = START + second * 1000;
        for change in watch.push(Arc::new(sample)) {
            out += &match change {
                Change::Begins(finding) => format!("{second} begins {}\n", finding.rule),
                Change::Ends(finding, _) => format!("{second} ends {}\n", finding.rule),
            };
        }
    }
    expect![[r#"
        206 begins nccl-hang
        345 ends nccl-hang
    "#]]
    .assert_eq(&out);
}

#[test]
fn the_page_is_the_rules() {
    expect_file!["../../../docs/monitor-rules.md"].assert_eq(&sconce_monitor::page());
}
