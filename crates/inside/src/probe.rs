//! The half of a session that runs inside the container: `sconce probe` checks the driver, and writes
//! its answers to a file.
//!
//! Each check is a process of its own, `sconce probe` again with `--alone`: a driver in trouble can crash or
//! hang whoever asks it.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sconce_cuda::{Cuda, Device, Module, Nvrtc, Places, nvrtc};
use sconce_gpu::nvml;
use sconce_verify::{Answer, Outcome};

use crate::child::{attend, how, with_words};
use crate::error::Error;
use crate::packages::packages;
/// Elements of the kernel's vectors: several blocks, and not a multiple of one.
const ELEMENTS: usize = 100_003;

/// What `sconce probe` is asked.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// Where a line of JSON is appended for each check.
    pub results: PathBuf,
    /// How many CUDA devices were given.
    pub gpus: usize,
    /// How many boards they are on.
    pub boards: usize,
    /// The Python whose packages may hold NVRTC.
    pub python: Option<PathBuf>,
    /// Make one check in this very process.
    pub alone: bool,
    /// The checks, each with the seconds it may take: `NAME:SECONDS`.
    pub checks: Vec<String>,
}

/// How a check came out: what was found, or the outcome and its reason.
type Found = Result<String, (Outcome, String)>;

/// One check.
type Probe = fn(&Order) -> Found;

/// The checks by name.
const PROBES: &[(&str, Probe)] =
    &[("nvidia-smi", smi), ("nvml", management), ("cuda-driver", driver), ("nvrtc", kernel)];

/// Makes the checks.
///
/// # Errors
/// The file of answers can't be written.
pub fn run(args: &Order) -> Result<(), Error> {
    for order in &args.checks {
        let (name, limit) = order.split_once(':').unwrap_or((order, "60"));
        let limit = Duration::from_secs(limit.parse().unwrap_or(60));
        let begun = Instant::now();
        let probe = PROBES.iter().find(|(known, _)| *known == name);
        let (outcome, detail) = match probe {
            None => (Outcome::Fail, "this sconce does not know that check".to_owned()),
            Some((_, probe)) if args.alone => match probe(args) {
                Ok(detail) => (Outcome::Pass, detail),
                Err(reason) => reason,
            },
            Some(_) => match guarded(args, order, limit) {
                Ok(()) => continue,
                Err(reason) => (Outcome::Fail, reason),
            },
        };
        let answer = Answer::new(name, outcome, detail, begun.elapsed().as_secs_f64());
        append(&args.results, &answer)?;
    }
    Ok(())
}

fn append(path: &Path, answer: &Answer) -> Result<(), Error> {
    let line = answer.line()?;
    let file = OpenOptions::new().append(true).open(path);
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    written.map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Makes one check in a process of its own, which answers for itself unless it crashes or hangs.
fn guarded(args: &Order, order: &str, limit: Duration) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| format!("can't find myself: {error}"))?;
    let mut command = Command::new(program);
    command.arg("probe").arg("--alone").arg("--results").arg(&args.results);
    command.args(["--gpus", &args.gpus.to_string(), "--boards", &args.boards.to_string()]);
    if let Some(python) = &args.python {
        command.arg("--python").arg(python);
    }
    command.arg(order);
    let (status, printed) = attend(&mut command, limit)?;
    let status = status.ok_or_else(|| format!("no end after {} s", limit.as_secs()))?;
    match status.success() {
        true => Ok(()),
        false => Err(with_words(format!("it ended with {}", how(status)), &printed)),
    }
}

fn fail(reason: impl std::fmt::Display) -> (Outcome, String) {
    (Outcome::Fail, reason.to_string())
}

/// `one GPU`, `2 GPUs`.
fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn expect(seen: usize, given: usize, who: &str, what: &str) -> Result<(), (Outcome, String)> {
    match seen == given {
        true => Ok(()),
        false => Err(fail(format!("{who} shows {}; {given} given", count(seen, what)))),
    }
}

/// `nvidia-smi` finds the boards.
fn smi(args: &Order) -> Found {
    let query = ["--query-gpu=name,driver_version", "--format=csv,noheader"];
    let (status, printed) =
        attend(Command::new("nvidia-smi").args(query), Duration::from_secs(25)).map_err(fail)?;
    let status = status.ok_or_else(|| fail("nvidia-smi did not end"))?;
    if !status.success() {
        return Err(fail(with_words(format!("nvidia-smi ended with {}", how(status)), &printed)));
    }
    let text = String::from_utf8_lossy(&printed);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| line.contains(',')).collect();
    expect(lines.len(), args.boards, "nvidia-smi", "board")?;
    Ok(lines.join("; "))
}

/// NVML answers.
fn management(args: &Order) -> Found {
    let answers =
        nvml::ask(Path::new("libnvidia-ml.so.1"), Duration::from_secs(20)).map_err(fail)?;
    expect(answers.gpus.len(), args.boards, "NVML", "board")?;
    let named = answers.gpus.iter().filter(|gpu| gpu.uuid.is_some()).count();
    if named != args.boards {
        return Err(fail(format!("NVML gives a UUID for {named} of {}", args.boards)));
    }
    let driver = answers.driver.unwrap_or_else(|| "of unknown version".to_owned());
    Ok(format!("driver {driver}, {}", count(named, "board")))
}

fn cuda() -> Result<(Cuda, Vec<Device>), (Outcome, String)> {
    let cuda = Cuda::open(Path::new("libcuda.so.1")).map_err(fail)?;
    let devices = cuda.devices().map_err(fail)?;
    Ok((cuda, devices))
}

/// `cuInit`, and the devices.
fn driver(args: &Order) -> Found {
    let (cuda, devices) = cuda()?;
    let version = cuda.version().map_err(fail)?;
    expect(devices.len(), args.gpus, "CUDA", "device")?;
    let devices = devices.iter().map(|device| {
        let (major, minor) = device.capability;
        format!("{} ({major}.{minor}, {} GiB)", device.name, device.memory_bytes >> 30)
    });
    let devices: Vec<String> = devices.collect();
    Ok(format!("CUDA {}.{}: {}", version / 1000, version % 1000 / 10, devices.join(", ")))
}

/// A kernel through NVRTC on each device.
fn kernel(args: &Order) -> Found {
    let places = Places::of_packages(&packages(args.python.as_deref()));
    let Some(nvrtc) = Nvrtc::find(&places).map_err(fail)? else {
        let reason = "no libnvrtc in the linker's folders, the toolkit's, or Python's packages";
        return Err((Outcome::NotApplicable, reason.to_owned()));
    };
    let (cuda, devices) = cuda()?;
    expect(devices.len(), args.gpus, "CUDA", "device")?;
    let (major, minor) = nvrtc.version().map_err(fail)?;
    // Whole numbers below 2^24: each step is exact in float32, fused or not.
    let x: Vec<f32> = (0..ELEMENTS).map(|i| (i % 1000) as f32).collect();
    let y: Vec<f32> = (0..ELEMENTS).map(|i| (i % 777) as f32).collect();
    let mut targets = Vec::new();
    for device in &devices {
        let image = nvrtc.compile(nvrtc::SAXPY, device.capability).map_err(fail)?;
        let context = cuda.context(device).map_err(fail)?;
        let module = Module::load(&context, &image).map_err(fail)?;
        let kernel = module.kernel(nvrtc::SAXPY_NAME).map_err(fail)?;
        let result = context.saxpy(&kernel, 3.0, &x, &y).map_err(fail)?;
        let wrong =
            result.iter().zip(x.iter().zip(&y)).filter(|(got, (x, y))| **got != 3.0 * **x + **y);
        let wrong = wrong.count();
        if wrong != 0 || result.len() != ELEMENTS {
            return Err(fail(format!(
                "{wrong} of {ELEMENTS} numbers are wrong on device {}",
                device.ordinal
            )));
        }
        targets.push(image.target);
    }
    targets.dedup();
    let path = nvrtc.path().display();
    Ok(format!(
        "NVRTC {major}.{minor} ({path}): {} right on {}",
        targets.join(", "),
        count(devices.len(), "device")
    ))
}
