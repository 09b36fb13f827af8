//! A history of so many days of eight GPUs, a sample each second, as `sconce monitor` would have written it until now, and a fake
//! NVML of the same GPUs beside it: `cargo run --example history -- FOLDER DAYS`. `benches/monitoring.py` measures on it.

use std::error::Error;
use std::path::PathBuf;

use sconce_monitor::history::{History, KEPT};
use sconce_monitor::sample::{Gpu, Process, Sample};
use sconce_monitor::sampler::now_ms;
use sconce_testkit::FakeNvml;

const SECOND: u64 = 1000;
const DAY: u64 = 86_400 * SECOND;
/// Other programs run on a GPU each hour.
const HOUR: u64 = 3600 * SECOND;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(folder), Some(days)) = (words.next().map(PathBuf::from), words.next()) else {
        return Err("FOLDER DAYS".into());
    };
    let days: u64 = days.parse()?;
    // Eight processes on each GPU, which no machine has: nobody's.
    let mut world = FakeNvml::h100s(8);
    for gpu in 0..8 {
        let pids = (0..8).map(|one| format!("{}:1000000000", 4_194_305 + gpu * 8 + one));
        let pids: Vec<String> = pids.collect();
        world += &format!("gpu.{gpu}.util 97\ngpu.{gpu}.processes {}\n", pids.join(" "));
    }
    FakeNvml::new(&folder.join("nvml"), &world);
    let mut history = History::open(&folder.join("history"))?;
    let end = now_ms();
    let mut at_ms = end - days * DAY;
    while at_ms < end {
        let sample = Sample {
            at_ms,
            gpus: (0..8).map(|gpu| one(gpu, at_ms)).collect(),
            ..Sample::default()
        };
        history.push(&sample)?;
        history.events().push(&sample, &[])?;
        at_ms += SECOND;
    }
    Ok(())
}

fn one(index: u32, at_ms: u64) -> Gpu {
    let mut gpu = Gpu {
        index,
        uuid: format!("GPU-00000000-0000-0000-0000-{index:012}"),
        model: "NVIDIA H100 80GB HBM3".to_owned(),
        ..Gpu::default()
    };
    for (number, metric) in KEPT.iter().enumerate() {
        gpu.values.set(*metric, Some((at_ms / SECOND % 100 + number as u64) as f64));
    }
    let process = |one: u64| Process {
        pid: 7,
        name: format!("train-{}-{one}", at_ms / HOUR),
        user: Some("ada".to_owned()),
        ..Process::default()
    };
    gpu.processes = Some((0..8).map(process).collect());
    gpu
}
