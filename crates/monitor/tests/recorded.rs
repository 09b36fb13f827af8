//! What two H200 (driver 580.159.04) showed under known loads, as `scripts/gpu-monitor.sh` recorded it: the rules tell them apart.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sconce_monitor::recording::Replay;
use sconce_monitor::watch::{Change, Finding, Watch};

/// The rules that name a load.
const OF_LOADS: [&str; 4] = ["nccl-hang", "fp32-without-tensor-cores", "launch-bound", "starved"];

#[test]
fn known_loads_of_two_h200_are_told_apart() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let mut replay = Replay::open(File::open(folder.join("two-h200.gz")).unwrap()).unwrap();
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
    assert_eq!((count, replay.torn()), (186, false));
    let loads = std::fs::read_to_string(folder.join("two-h200.loads")).unwrap();
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
        assert!(expected == "-" || rules.contains(&expected), "{name}: {rules:?}");
        rules.retain(|rule| OF_LOADS.contains(rule) && *rule != expected);
        assert!(rules.is_empty(), "{name} is not {rules:?}");
        seen += 1;
    }
    assert_eq!(seen, 11);
    // Nothing was broken on those machines.
    assert!(
        told.iter().all(|(finding, _)| OF_LOADS.contains(&finding.rule)
            || ["held-idle", "power-limit"].contains(&finding.rule)),
        "{told:?}"
    );
}
