//! The history on disk: how large it gets, what is thinned, and what is left after a kill, a torn file and a clock that was
//! set back.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sconce_monitor::events;
use sconce_monitor::history::{Error, History, Span, read};
use sconce_monitor::metric::Metric;
use sconce_monitor::sample::{Gpu, Process, Sample, Workload};
use sconce_monitor::watch::{Change, Finding, Severity, Watch};

const BEGIN: u64 = 1_795_000_000_000;
const MINUTE: u64 = 60_000;
const DAY: u64 = 1440 * MINUTE;

fn sample(at_ms: u64, gpus: u32, power: f64) -> Sample {
    let gpu = |index: u32| {
        let mut gpu = Gpu { index, uuid: format!("GPU-{index}"), ..Gpu::default() };
        gpu.model = "NVIDIA H100 80GB HBM3".to_owned();
        gpu.values.set(Metric::Power, Some(power + f64::from(index)));
        gpu.values.set(Metric::Tensor, Some(0.5));
        gpu
    };
    Sample { at_ms, gpus: (0..gpus).map(gpu).collect(), ..Sample::default() }
}

fn power(span: &Span, gpu: usize) -> Vec<f32> {
    span.values["power_watts"][gpu].iter().flatten().copied().collect()
}

fn files(folder: &Path, tier: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let of = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(tier);
    let mut all: Vec<PathBuf> = entries.filter(of).collect();
    all.sort();
    all
}

fn bytes(folder: &Path) -> u64 {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn months_of_eight_gpus_fit_and_are_thinned() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = History::open(folder.path()).unwrap();
    // A hundred days, a sample each minute, then seven hours with one each second.
    for minute in 0..100 * 1440 {
        history.push(&sample(BEGIN + minute * MINUTE, 8, 100.0)).unwrap();
    }
    let dense = BEGIN + 100 * DAY;
    for second in 0..7 * 3600 {
        history.push(&sample(dense + second * 1000, 8, (second % 2) as f64 * 200.0)).unwrap();
    }
    let end = dense + 7 * 3_600_000;
    assert!(bytes(folder.path()) < 64 << 20, "{}", bytes(folder.path()));
    // Full resolution for hours: every second sample is another.
    let span = read(folder.path(), end - 2 * MINUTE, end, 2000);
    assert_eq!((span.every_ms, span.gpus.len()), (60, 8));
    assert_eq!(power(&span, 3)[..4], [3.0, 203.0, 3.0, 203.0]);
    // An hour on a page.
    let span = read(folder.path(), end - 60 * MINUTE, end, 600);
    assert_eq!(span.at_ms.len(), 600);
    assert!(power(&span, 0).iter().all(|watts| (*watts - 100.0).abs() < 1.0));
    // Weeks, in means: the same everywhere here.
    let span = read(folder.path(), end - 30 * DAY, end, 720);
    assert!((715..=722).contains(&span.at_ms.len()), "{}", span.at_ms.len());
    assert!(power(&span, 7).iter().all(|watts| (*watts - 107.0).abs() < 1.0));
    // Three months, and what is older is gone.
    let span = read(folder.path(), BEGIN, end, 1000);
    let oldest = span.at_ms[0];
    assert!((BEGIN + 5 * DAY..BEGIN + 15 * DAY).contains(&oldest), "{}", (oldest - BEGIN) / DAY);
    assert!(span.values.keys().eq(["power_watts", "tensor_active_ratio"].iter()));
}

#[test]
fn what_was_killed_torn_or_damaged_is_read_up_to_there() {
    let folder = tempfile::tempdir().unwrap();
    let at = |second: u64| BEGIN + second * 1000;
    let mut history = History::open(folder.path()).unwrap();
    for second in 0..10 {
        history.push(&sample(at(second), 2, 100.0)).unwrap();
    }
    // Two monitors do not write into one folder.
    assert!(matches!(History::open(folder.path()), Err(Error::Taken(_))));
    drop(history);
    let torn = files(folder.path(), "sample").pop().unwrap();
    let whole = fs::metadata(&torn).unwrap().len();
    OpenOptions::new().write(true).open(&torn).unwrap().set_len(whole - 7).unwrap();
    let count = |from: u64, to: u64| read(folder.path(), from, to, 2000).at_ms.len();
    assert_eq!(count(at(0), at(60)), 9);
    // The next start goes on in a file of its own.
    let mut history = History::open(folder.path()).unwrap();
    for second in 20..30 {
        history.push(&sample(at(second), 2, 100.0)).unwrap();
    }
    assert_eq!(count(at(0), at(60)), 19);
    // A GPU that falls away, and a clock that is set back.
    for second in 30..35 {
        history.push(&sample(at(second), 1, 50.0)).unwrap();
    }
    for second in 31..33 {
        history.push(&sample(at(second) + 500, 2, 70.0)).unwrap();
    }
    let span = read(folder.path(), at(0), at(60), 2000);
    assert_eq!((span.at_ms.len(), span.gpus.len()), (26, 2));
    assert!(span.at_ms.is_sorted());
    assert_eq!(span.values["power_watts"][1].iter().filter(|value| value.is_none()).count(), 5);
    // A flipped byte: all before it, nothing from there on.
    let mut damaged = fs::read(&torn).unwrap();
    let middle =
        damaged.len() - (damaged.len() - damaged.iter().position(|b| *b == b'\n').unwrap()) / 2;
    damaged[middle] ^= 1;
    fs::write(&torn, damaged).unwrap();
    let left = count(at(0), at(15));
    assert!((3..8).contains(&left), "{left}");
    // What is none of it, or of a later version, is passed by.
    for (name, text) in [
        (
            "sample-1795000040000.rows",
            "{\"sconce_history\":2,\"every_ms\":0,\"metrics\":[],\"gpus\":[]}\n",
        ),
        ("sample-1795000041000.rows", "no JSON\n"),
        ("sample-1795000042000.rows", ""),
        ("sample-99999999999999999999999.rows", "x"),
        (
            "sample-1795000043000.rows",
            "{\"sconce_history\":1,\"every_ms\":0,\"metrics\":[\"power_watts\",\"new\"],\"gpus\":[{\"uuid\":\"GPU-9\",\"index\":9}]}\nabc",
        ),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let huge: Vec<String> =
        (0..5000).map(|n| format!("{{\"uuid\":\"{n}\",\"index\":{n}}}")).collect();
    let huge = format!(
        "{{\"sconce_history\":1,\"every_ms\":0,\"metrics\":[],\"gpus\":[{}]}}\n",
        huge.join(",")
    );
    fs::write(folder.path().join("sample-1795000044000.rows"), huge).unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("sample-1795000045000.rows"))
        .unwrap();
    assert_eq!(count(at(20), at(60)), 17);
}

fn finding(since_ms: u64) -> Finding {
    // Only a watch makes findings: a GPU that is lost is one at once.
    let mut watch = Watch::new(Some(Duration::ZERO));
    let mut lost = sample(since_ms, 1, 0.0);
    lost.gpus[0].lost = Some(15);
    match watch.push(lost.into()).remove(0) {
        Change::Begins(finding) => finding,
        Change::Ends(..) => panic!("it has not begun"),
    }
}

#[test]
fn what_was_wrong_and_what_ran() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = History::open(folder.path()).unwrap();
    let with = |at_ms: u64, names: &[&str]| {
        let mut sample = sample(at_ms, 1, 100.0);
        let process = |name: &&str| Process {
            pid: 7,
            user: Some("ada".to_owned()),
            workload: Workload {
                runtime: "sconce".into(),
                name: (*name).to_owned(),
                ..Workload::default()
            },
            ..Process::default()
        };
        sample.gpus[0].processes = Some(names.iter().map(process).collect());
        sample
    };
    let first = finding(BEGIN + 5000);
    assert_eq!(first.severity, Severity::Critical);
    let events = history.events();
    events.push(&with(BEGIN, &["train", "train"]), &[]).unwrap();
    events.push(&with(BEGIN + 5000, &["train", "eval"]), &[Change::Begins(first.clone())]).unwrap();
    events.push(&with(BEGIN + 9000, &["eval"]), &[Change::Ends(first, BEGIN + 9000)]).unwrap();
    events
        .push(&with(BEGIN + 20_000, &["eval"]), &[Change::Begins(finding(BEGIN + 20_000))])
        .unwrap();
    drop(history);
    // Half a line of a kill.
    let file = files(folder.path(), "events").pop().unwrap();
    OpenOptions::new()
        .append(true)
        .open(&file)
        .unwrap()
        .write_all(b"{\"runs\":{\"at_ms\":17")
        .unwrap();
    let (told, ran) = events::read(folder.path(), BEGIN, BEGIN + 60_000);
    assert_eq!(
        told.iter().map(|one| (one.since_ms, one.until_ms)).collect::<Vec<_>>(),
        [(BEGIN + 5000, Some(BEGIN + 9000)), (BEGIN + 20_000, None)]
    );
    let ran: Vec<_> =
        ran.iter().map(|one| (one.what.name.as_str(), one.since_ms, one.until_ms)).collect();
    assert_eq!(ran, [("train", BEGIN, Some(BEGIN + 9000)), ("eval", BEGIN + 5000, None)]);
    // What was open when a monitor was killed is over where the next begins.
    let mut history = History::open(folder.path()).unwrap();
    history.events().push(&with(BEGIN + 90_000, &[]), &[]).unwrap();
    let (told, ran) = events::read(folder.path(), BEGIN, BEGIN + 100_000);
    assert_eq!(told[1].until_ms, Some(BEGIN + 90_000));
    assert_eq!(ran[1].until_ms, Some(BEGIN + 90_000));
    // Another time.
    assert_eq!(events::read(folder.path(), BEGIN + 91_000, BEGIN + 92_000), (vec![], vec![]));
}

/// Weeks of a monitor that has run for minutes are those minutes.
#[test]
fn a_long_time_of_a_young_monitor() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = History::open(folder.path()).unwrap();
    let end = BEGIN + 10 * MINUTE;
    for second in 0..600 {
        history.push(&sample(BEGIN + second * 1000, 2, 100.0)).unwrap();
    }
    for days in [1, 7, 30] {
        let span = read(folder.path(), end - days * DAY, end, 720);
        assert!(!span.at_ms.is_empty() && span.gpus.len() == 2, "{days}");
        assert!(power(&span, 1).iter().all(|watts| *watts == 101.0), "{days}");
    }
}

/// Of a segment that can't be read only its own time is missing, not that of finer ones.
#[test]
fn what_cant_be_read_hides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = History::open(folder.path()).unwrap();
    for second in 0..60 {
        history.push(&sample(BEGIN + second * 1000, 2, 100.0)).unwrap();
    }
    let later = "{\"sconce_history\":2,\"every_ms\":60000,\"metrics\":[],\"gpus\":[]}\n";
    for (name, text) in [("minute", later), ("quarter", ""), ("minute", "junk")] {
        let path = folder.path().join(format!("{name}-{:013}.rows", BEGIN - 5 * MINUTE));
        fs::write(&path, text).unwrap();
        let span = read(folder.path(), BEGIN - 59 * MINUTE, BEGIN + MINUTE, 600);
        assert!(
            span.at_ms.len() > 5 && span.gpus.len() == 2,
            "{name} {text}: {}",
            span.at_ms.len()
        );
        fs::remove_file(&path).unwrap();
    }
}
