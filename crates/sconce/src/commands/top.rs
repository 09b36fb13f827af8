//! `sconce top`.

use std::process::ExitCode;
use std::time::Duration;

use sconce_monitor::metric::Metric;
use sconce_monitor::sample::{Gpu, Process, Sample};
use sconce_monitor::sampler::{self, Options, say};

use crate::cli::Global;
use crate::commands::own;
use crate::error::{Failure, Kind};

/// Show the GPUs and who uses them
///
/// A table of GPUs, instances of MIG and processes with their user, container and image; what is looked at is half a second.
#[derive(clap::Args)]
pub struct Args {
    /// Print once and end: there is no other way yet
    #[arg(long)]
    once: bool,
    /// As JSON: {at_ms, driver, gpus: [{index, uuid, model, values, instances, processes, holders, …}]}, values in base units
    #[arg(long)]
    json: bool,
    /// A container, as Docker's command of this name takes one
    #[arg(hide = true)]
    container: Vec<String>,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    if !args.container.is_empty() {
        let what = "there is no `sconce top` of a container: it shows GPUs";
        let failure = Failure::new(Kind::Usage, what);
        return Err(failure.hint("`sconce exec NAME ps aux`, or `sconce stats`"));
    }
    let mut last = None;
    let mut left = 2;
    let interval = Duration::from_millis(500);
    sampler::run(
        Options { interval, listen: false, ..Options::new(Box::new(own::library), own::finder()) },
        |sample| {
            left -= 1;
            let go_on = left > 0 && sample.silence.is_none();
            last = Some(sample);
            go_on
        },
    );
    let sample: Sample = last.unwrap_or_default();
    if let Some(why) = &sample.silence {
        let failure = Failure::new(Kind::Machine, format!("NVML does not answer: {why}"));
        return Err(failure.hint("`sconce doctor` says what is wrong with the driver"));
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&sample).map_err(Failure::unwritable)?);
        return Ok(ExitCode::SUCCESS);
    }
    print!("{}", gpus(&sample));
    print!("{}", processes(&sample));
    if !args.once && !global.quiet {
        eprintln!("note: this is one look; `watch -n 2 sconce top --once` repeats it");
    }
    Ok(ExitCode::SUCCESS)
}

/// Columns as wide as what is in them, numbers to the right.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let plain = |text: &str| -> String {
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(60).collect()
    };
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        widest.max(head.get(column).map_or(0, |name| name.len()))
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            text += &format!("{cell:<width$}  ");
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(&mut head.iter().copied());
    for row in &rows {
        line(&mut row.iter().map(String::as_str));
    }
    out
}

/// A value with its unit, `-` where there is none.
fn shown(value: Option<f64>, by: f64, unit: &str) -> String {
    value.map_or("-".to_owned(), |value| format!("{:.0}{unit}", value * by))
}

fn of_gpu(gpu: &Gpu) -> Vec<String> {
    let value = |metric| gpu.values.get(metric);
    let state = match gpu.lost {
        Some(code) => say(code),
        None if gpu.mig => "MIG".to_owned(),
        None => String::new(),
    };
    vec![
        gpu.index.to_string(),
        gpu.model.clone(),
        shown(value(Metric::Utilization), 100.0, "%"),
        shown(value(Metric::SmActive), 100.0, "%"),
        shown(value(Metric::Tensor), 100.0, "%"),
        format!(
            "{} of {}",
            shown(value(Metric::MemoryUsed), 1e-9, ""),
            shown(value(Metric::MemoryTotal), 1e-9, " GB")
        ),
        shown(value(Metric::Power), 1.0, " W"),
        shown(value(Metric::Temperature), 1.0, " C"),
        shown(value(Metric::SmClock), 1e-6, " MHz"),
        state,
    ]
}

fn gpus(sample: &Sample) -> String {
    let mut rows = Vec::new();
    for gpu in &sample.gpus {
        rows.push(of_gpu(gpu));
        for one in &gpu.instances {
            let value = |metric| one.values.get(metric);
            let used = shown(value(Metric::MemoryUsed), 1e-9, "");
            let total = shown(value(Metric::MemoryTotal), 1e-9, " GB");
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

fn of_process(gpu: &Gpu, process: &Process) -> Vec<String> {
    let workload = &process.workload;
    let short = workload.container.get(..12).unwrap_or(&workload.container);
    let container = match (workload.name.is_empty(), short.is_empty()) {
        (false, _) => workload.name.clone(),
        (true, false) => format!("{}:{short}", workload.runtime),
        (true, true) if !workload.slurm_job.is_empty() => format!("job {}", workload.slurm_job),
        (true, true) => "-".to_owned(),
    };
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    vec![
        gpu.index.to_string(),
        process.pid.to_string(),
        process.user.clone().unwrap_or_else(|| "-".to_owned()),
        process.memory.map_or("-".to_owned(), |memory| format!("{:.1} GB", memory as f64 / 1e9)),
        container,
        or_dash(&workload.image),
        or_dash(&process.name),
    ]
}

fn processes(sample: &Sample) -> String {
    let rows = sample.gpus.iter().flat_map(|gpu| {
        gpu.processes.iter().flatten().map(move |process| of_process(gpu, process))
    });
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
