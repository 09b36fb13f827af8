//! The GPUs and their processes as tables: what `--once` prints.

use sconce_monitor::metric::Metric;
use sconce_monitor::sample::{Gpu, Process, Sample};
use sconce_monitor::sampler::say;

use super::machines::Found;
use crate::table::aligned;

fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head = head.iter().map(|name| (*name).to_owned()).collect();
    let rows = rows.iter().map(|row| row.iter().map(|cell| plain(cell, 60)).collect());
    let all: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    aligned(&all, |_| false)
}

/// Names are whoever's who started it: nothing of them steers a terminal.
pub fn plain(text: &str, most: usize) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if steers(c) { ' ' } else { c }).take(most).collect()
}

/// Bytes of memory in GiB, as nvidia-smi's MiB.
pub const GIB: f64 = 1.0 / 1_073_741_824.0;
/// After so long without an answer a GPU's values are none of now any more, milliseconds.
const SILENT: u64 = 10_000;

/// How busy a GPU is: GPM's figure where there is one.
pub fn busy(gpu: &Gpu) -> Option<f64> {
    let value = |metric| gpu.values.get(metric);
    value(Metric::Graphics).or_else(|| value(Metric::Utilization))
}

/// Why a GPU has no values of now: it is lost, or does not answer.
pub fn absent(gpu: &Gpu) -> Option<String> {
    match gpu.lost {
        Some(code) => Some(say(code)),
        None if gpu.age_ms >= SILENT => Some(format!("no answer for {} s", gpu.age_ms / 1000)),
        None => None,
    }
}

/// The processes on it; what ran on one that is lost is not known any more.
pub fn running(gpu: &Gpu) -> impl Iterator<Item = &Process> {
    gpu.processes.iter().flatten().filter(|_| gpu.lost.is_none())
}

/// A value with its unit, `-` where there is none.
pub fn shown(value: Option<f64>, by: f64, unit: &str) -> String {
    value.map_or("-".to_owned(), |value| format!("{:.0}{unit}", value * by))
}

fn of_gpu(gpu: &Gpu) -> Vec<String> {
    let absent = absent(gpu);
    let value = |metric| gpu.values.get(metric).filter(|_| absent.is_none());
    let state = match &absent {
        Some(why) => why.clone(),
        None if gpu.mig => "MIG".to_owned(),
        None => String::new(),
    };
    vec![
        gpu.index.to_string(),
        gpu.model.clone(),
        shown(busy(gpu).filter(|_| absent.is_none()), 100.0, "%"),
        shown(value(Metric::SmActive), 100.0, "%"),
        shown(value(Metric::Tensor), 100.0, "%"),
        format!(
            "{} of {}",
            shown(value(Metric::MemoryUsed), GIB, ""),
            shown(value(Metric::MemoryTotal), GIB, " GiB")
        ),
        shown(value(Metric::Power), 1.0, " W"),
        shown(value(Metric::Temperature), 1.0, " C"),
        shown(value(Metric::SmClock), 1e-6, " MHz"),
        state,
    ]
}

/// What is wrong, a line each.
pub fn findings(findings: &[Found]) -> String {
    let line = |one: &Found| {
        let on = one.gpu.map(|gpu| format!(" on GPU {gpu}")).unwrap_or_default();
        let text = format!("{}: {}{on}: {}: {}", one.severity, one.rule, one.title, one.evidence);
        plain(&text, 400) + "\n"
    };
    let lines: String = findings.iter().map(line).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

pub fn gpus(sample: &Sample) -> String {
    let mut rows = Vec::new();
    for gpu in &sample.gpus {
        rows.push(of_gpu(gpu));
        for one in gpu.instances.iter().filter(|_| absent(gpu).is_none()) {
            let value = |metric| one.values.get(metric);
            let used = shown(value(Metric::MemoryUsed), GIB, "");
            let total = shown(value(Metric::MemoryTotal), GIB, " GiB");
            let mut row = vec![
                format!("{}:{}", gpu.index, one.gpu_instance),
                one.profile.clone(),
                "-".to_owned(),
                shown(value(Metric::SmActive), 100.0, "%"),
                shown(value(Metric::Tensor), 100.0, "%"),
                format!("{used} of {total}"),
            ];
            row.resize(10, String::new());
            rows.push(row);
        }
    }
    let head = ["GPU", "MODEL", "BUSY", "SM", "TENSOR", "MEMORY", "POWER", "HEAT", "CLOCK", ""];
    table(&head, &rows)
}

/// What a process is in: container, image, and its own name.
pub fn of_process(gpu: &Gpu, process: &Process) -> Vec<String> {
    let workload = &process.workload;
    let short = workload.container.get(..12).unwrap_or(&workload.container);
    let container =
        workload.pod_name().unwrap_or_else(|| match (workload.name.is_empty(), short.is_empty()) {
            (false, _) => workload.name.clone(),
            (true, false) => format!("{}:{short}", workload.runtime),
            (true, true) if !workload.slurm_job.is_empty() => format!("job {}", workload.slurm_job),
            (true, true) => "-".to_owned(),
        });
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    vec![
        gpu.index.to_string(),
        process.pid.to_string(),
        process.user.clone().unwrap_or_else(|| "-".to_owned()),
        process.memory.map_or("-".to_owned(), |memory| format!("{:.1} GiB", memory as f64 * GIB)),
        container,
        or_dash(&workload.image),
        or_dash(&process.name),
    ]
}

pub fn processes(sample: &Sample) -> String {
    let rows = sample
        .gpus
        .iter()
        .flat_map(|gpu| running(gpu).map(move |process| of_process(gpu, process)));
    let rows: Vec<_> = rows.collect();
    let hidden = !sample.sees_processes;
    match rows.is_empty() {
        true if hidden => {
            "no processes are seen: from inside a container those of others are not\n".to_owned()
        }
        true => String::new(),
        false => {
            let head = ["GPU", "PID", "USER", "MEMORY", "CONTAINER", "IMAGE", "PROCESS"];
            format!("\n{}", table(&head, &rows))
        }
    }
}
