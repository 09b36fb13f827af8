//! The half of `sconce bench` that runs inside the container, or on this machine: measures, and writes what it found to a
//! file.
//!
//! Each group of figures is a process of its own, `sconce measure` again with `--alone`: a driver in trouble can crash
//! or hang whoever asks it, and the other groups are measured nevertheless.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use sconce_bench::answer::{self, Gpu, Line, Torch, Unavailable};
use sconce_bench::measure::{self, Effort};
use sconce_bench::{FIGURES, GPUS, Group, NVML, Row};
use sconce_cuda::Places;

use crate::child::{attend, how, with_words};
use crate::error::Error;
use crate::orphans::Orphans;
use crate::packages::{self, packages};
use crate::torch;

/// What `sconce measure` is asked.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// Where a line of JSON is appended for each answer.
    pub results: PathBuf,
    /// How much time.
    pub effort: Effort,
    /// The seed of the random numbers.
    pub seed: u64,
    /// These figures; all of the effort's if empty.
    pub only: Vec<String>,
    /// The Python whose packages may hold CUDA's libraries.
    pub python: Option<PathBuf>,
    /// Where the program in Python lies that measures through torch.
    pub program: PathBuf,
    /// How long `burn` takes.
    pub burn: Duration,
    /// Measure one group in this very process.
    pub alone: bool,
    /// The groups, each with the seconds it may take: `NAME:SECONDS`.
    pub groups: Vec<String>,
}

/// How what a signal ended is said.
const SIGNAL: &str = "it ended with signal";

/// The name of an effort on the command line.
pub fn name(effort: Effort) -> &'static str {
    match effort {
        Effort::Quick => "quick",
        Effort::Usual => "usual",
        Effort::Full => "full",
    }
}

/// The effort of that name.
pub fn effort(name: &str) -> Option<Effort> {
    [Effort::Quick, Effort::Usual, Effort::Full].into_iter().find(|one| self::name(*one) == name)
}

/// Measures the groups.
///
/// # Errors
/// The file of answers can't be written.
pub fn run(order: &Order) -> Result<(), Error> {
    // Who asked may be killed, and nobody would read what is measured. The container's first process has its end anyway.
    if rustix::process::getpid() != rustix::process::Pid::INIT {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(Error::Lonely)?;
    }
    let (mut shown, mut blind) = (true, false);
    // What a group leaves behind would take from the next one's figures.
    let orphans = (!order.alone).then(Orphans::take);
    for one in &order.groups {
        let (name, limit) = one.split_once(':').unwrap_or((one, "300"));
        let limit = Duration::from_secs(limit.parse().unwrap_or(300));
        let failed = match Group::named(name) {
            None if name == GPUS && order.alone => list(order)?,
            None if name == GPUS => {
                let mut ended = guarded(order, one, limit, blind);
                // NVML may have taken CUDA with it: without the one the other may be there.
                if let Err(why) = &ended
                    && why.starts_with(SIGNAL)
                    && listed(&order.results).is_empty()
                {
                    let reason = format!(
                        "asking it which GPUs there are took CUDA with it ({why}): clocks, power, limits and links are not known"
                    );
                    let alone = guarded(order, one, limit, true);
                    if !listed(&order.results).is_empty() {
                        (blind, ended) = (true, alone);
                        append(&order.results, &unavailable(NVML, reason))?;
                    }
                }
                // One that said all and then did not end has said all.
                shown = lists_a_gpu(&order.results);
                if shown { Ok(()) } else { ended }
            }
            None => Err("this sconce does not know that group".to_owned()),
            // Why was said of the GPUs.
            Some(group) if !shown && !group.without_gpu() => Ok(()),
            Some(group) if order.alone && group.by_torch() => torch::measure(order, group)?,
            Some(group) if order.alone => alone(order, group)?,
            Some(_) => guarded(order, one, limit, blind),
        };
        if let Some(orphans) = &orphans {
            orphans.end();
        }
        if let Err(reason) = failed {
            append(&order.results, &unavailable(name, reason))?;
        }
    }
    Ok(())
}

/// Says which torch and which GPUs there are; the inner answer is why the latter can't be said.
fn list(order: &Order) -> Result<Result<(), String>, Error> {
    let version = packages::torch(&packages(order.python.as_deref()));
    // Where asking NVML took CUDA with it, this is asked once more.
    if !answers(&order.results).any(|line| matches!(line, Line::Torch(_))) {
        append(&order.results, &Line::Torch(Torch { version }))?;
    }
    match measure::gpus() {
        Ok(lines) if lines.is_empty() => Ok(Err("CUDA shows no GPU".to_owned())),
        Ok(lines) => lines.iter().try_for_each(|line| append(&order.results, line)).map(Ok),
        Err(refusal) => Ok(Err(refusal.to_string())),
    }
}

/// Whether a GPU is among the answers so far.
fn lists_a_gpu(results: &Path) -> bool {
    !listed(results).is_empty()
}

/// The GPUs that were listed before anything was measured.
fn listed(results: &Path) -> Vec<Gpu> {
    let gpu = |line| match line {
        Line::Gpu(gpu) => Some(gpu),
        _ => None,
    };
    answers(results).filter_map(gpu).collect()
}

/// What was answered so far.
fn answers(results: &Path) -> impl Iterator<Item = Line> {
    let answers = std::fs::read(results).unwrap_or_default();
    let lines: Vec<Line> =
        answers.split(|byte| *byte == b'\n').filter_map(|line| answer::line(line).ok()).collect();
    lines.into_iter()
}

fn unavailable(figure: &str, reason: String) -> Line {
    Line::Unavailable(Unavailable { figure: figure.to_owned(), gpus: Vec::new(), reason })
}

pub(crate) fn append(path: &Path, line: &Line) -> Result<(), Error> {
    let line = serde_json::to_string(line)? + "\n";
    let file = OpenOptions::new().append(true).open(path);
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    written.map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Measures a group here; the inner answer is why it could not be.
fn alone(order: &Order, group: Group) -> Result<Result<(), String>, Error> {
    let places = Places::of_packages(&packages(order.python.as_deref()));
    let asked = measure::Order {
        effort: order.effort,
        only: &order.only,
        places: &places,
        seed: order.seed,
        burn: order.burn,
        listed: &listed(&order.results),
    };
    let mut written = Ok(());
    let measured = measure::run(group, &asked, &mut |line| {
        if written.is_ok() {
            written = append(&order.results, &line);
        }
    });
    written?;
    Ok(measured.map_err(|refusal| refusal.to_string()))
}

/// What of a group has no answer yet, in the order in which it is measured; the first is what was under way, if this GPU has it.
fn unanswered(order: &Order, group: &str) -> Vec<String> {
    const SHOWN: usize = 3;
    let name = group.split(':').next().unwrap_or(group);
    let answers = std::fs::read(&order.results).unwrap_or_default();
    let answers: Vec<Line> =
        answers.split(|byte| *byte == b'\n').filter_map(|line| answer::line(line).ok()).collect();
    let has = |figure: &str, gpu: u32| {
        answers.iter().any(|line| match line {
            Line::Figure(one) => one.figure == figure && one.gpus.contains(&gpu),
            Line::Unavailable(one) | Line::Wrong(one) => {
                one.figure == figure && one.gpus.contains(&gpu)
            }
            _ => false,
        })
    };
    let wanted = |row: &&Row| {
        row.group.name() == name
            && match order.only.as_slice() {
                [] => order.effort != Effort::Quick || row.quick,
                only => only.iter().any(|one| one == row.name),
            }
    };
    let gpus = answers.iter().filter_map(|line| match line {
        Line::Gpu(gpu) => Some(gpu.gpu),
        _ => None,
    });
    let left = gpus.flat_map(|gpu| {
        let rows = FIGURES.iter().filter(wanted).filter(move |row| !has(row.name, gpu));
        rows.map(move |row| format!("{} gpu {gpu}", row.name)).collect::<Vec<_>>()
    });
    left.take(SHOWN).collect()
}

/// Measures a group in a process of its own, which answers for itself unless it crashes or hangs.
fn guarded(order: &Order, group: &str, limit: Duration, blind: bool) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| format!("can't find myself: {error}"))?;
    let mut command = Command::new(program);
    command.arg("measure").arg("--alone").arg("--results").arg(&order.results);
    command.arg("--program").arg(&order.program);
    command.args(["--effort", name(order.effort), "--seed", &order.seed.to_string()]);
    command.args(["--burn", &order.burn.as_secs().to_string()]);
    if !order.only.is_empty() {
        command.args(["--only", &order.only.join(",")]);
    }
    if let Some(python) = &order.python {
        command.arg("--python").arg(python);
    }
    if blind {
        command.env(measure::WITHOUT_NVML, "1");
    }
    command.arg(group);
    let (status, printed) = attend(&mut command, limit)?;
    let status = status.ok_or_else(|| {
        let left = unanswered(order, group);
        let under_way = match left.as_slice() {
            [] => String::new(),
            left => format!("; without an answer: {}", left.join(", ")),
        };
        format!("no end after {} s{under_way}", limit.as_secs())
    })?;
    match status.success() {
        true => Ok(()),
        false => Err(with_words(format!("it ended with {}", how(status)), &printed)),
    }
}
