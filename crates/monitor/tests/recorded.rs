//! What two H200 (driver 580.159.04) showed under known loads, twice, as `scripts/gpu-monitor.sh` recorded it: the rules tell them apart.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sconce_monitor::recording::Replay;
use sconce_monitor::watch::{Change, Finding, Watch};

/// The rules that name a load.
const OF_LOADS: [&str; 5] =
    ["nccl-hang", "straggler", "fp32-without-tensor-cores", "launch-bound", "starved"];

#[test]
fn known_loads_of_two_h200_are_told_apart() {
    told_apart("two-h200", 186, 11);
}

#[test]
fn ranks_of_one_job_on_two_h200_are_told_apart() {
    told_apart("two-h200-ranks", 159, 12);
}

/// Replays a recording of so many samples beside its loads, of which there are so many.
fn told_apart(name: &str, samples: usize, of_loads: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let recording = folder.join(format!("{name}.gz"));
    let mut replay = Replay::open(File::open(recording).unwrap()).unwrap();
    let mut watch = Watch::new(Some(Duration::from_secs(6)));
    let mut told: Vec<(Finding, u64)> = Vec::new();
    let mut count = 0;
    for sample in replay.by_ref() {
        count += 1;
        for change in watch.push(Arc::new(sample)) {
            match change {
                Change::Begins(finding) => told.push((finding, u64::MAX)),
                Change::Ends(finding, at) => {
                    let same = |(one, end): &&mut (Finding, u64)| {
                        *end == u64::MAX && (one.rule, one.gpu) == (finding.rule, finding.gpu)
                    };
                    told.iter_mut().find(same).expect("what ends has begun").1 = at;
                }
            }
        }
    }
    assert_eq!((count, replay.torn()), (samples, false));
    let loads = std::fs::read_to_string(folder.join(format!("{name}.loads"))).unwrap();
    let mut seen = 0;
    for line in loads.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [name, gpu, expected, begun, ended] = columns[..] else { panic!("{line}") };
        let gpu: u32 = gpu.parse().unwrap();
        let (begun, ended): (u64, u64) = (begun.parse().unwrap(), ended.parse().unwrap());
        // A rule needs its seconds to be told of, and some to be over.
        let during = told.iter().filter(|(finding, until)| {
            finding.gpu == Some(gpu) && finding.since_ms < ended - 2000 && *until > begun + 7000
        });
        let mut rules: Vec<&str> = during.map(|(finding, _)| finding.rule).collect();
        rules.dedup();
        let expected: Vec<&str> = expected.split('+').filter(|rule| *rule != "-").collect();
        assert!(expected.iter().all(|rule| rules.contains(rule)), "{name}: {rules:?}");
        rules.retain(|rule| OF_LOADS.contains(rule) && !expected.contains(rule));
        assert!(rules.is_empty(), "{name} is not {rules:?}");
        seen += 1;
    }
    assert_eq!(seen, of_loads);
    // Nothing was broken on those machines.
    assert!(
        told.iter().all(|(finding, _)| OF_LOADS.contains(&finding.rule)
            || ["held-idle", "power-limit"].contains(&finding.rule)),
        "{told:?}"
    );
}
