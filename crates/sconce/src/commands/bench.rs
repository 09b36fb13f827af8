//! `sconce bench`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use sconce_bench::answer::{Gpu, Line};
use sconce_bench::measure::Effort;
use sconce_bench::report::{self, Report, Subject};
use sconce_bench::{FIGURES, GROUPS};
use sconce_build::{Progress, Stage};
use sconce_inside::bench::{self, Listener, Measured, Order};
use sconce_inside::measure;
use serde_json::Value;

use crate::cli::Global;
use crate::commands::options::Options;
use crate::commands::prepared;
use crate::context::Context;
use crate::error::{Failure, Kind};
use crate::progress::Display;

/// Measure what this machine's GPUs really deliver, and say what they should
///
/// Starts the container as `sconce run` would and measures with its libraries: matrix products in every precision,
/// memory, transfers, NCCL, launches and graphs; each checked for right results, with the clock, power and temperature that
/// NVML saw. docs/bench.md has a row for each figure. Exit code: 0 as expected, 1 a wrong result, a figure that is low or
/// nothing measured.
#[derive(clap::Args)]
#[command(disable_help_flag = true, args_override_self = true)]
pub struct Args {
    /// A folder with a sconce.toml, a tag such as torch:2.15.0, an image of the store or of a registry
    /// (HOST/NAME:TAG, docker://NAME), an OCI layout or an image archive
    #[arg(value_name = "TARGET", default_value = ".")]
    target: String,
    /// The figures of the first look, one shape each
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// All shapes, all algorithms, a minute of sustained load
    #[arg(long)]
    full: bool,
    /// Measure only these figures or groups
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    only: Vec<String>,
    /// Say what changed since an earlier result, which `--json` wrote
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Measure on this machine as it is, without a container; --python names an interpreter that has torch
    #[arg(long)]
    host: bool,
    /// The Python whose packages hold CUDA's libraries; `python` on the PATH, else `python3`, if not given
    #[arg(long, value_name = "PATH")]
    python: Option<String>,
    /// The seed of the random numbers; by chance if not given
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// As JSON, when all is done (docs/format/bench.md)
    #[arg(long)]
    json: bool,
    /// As a Markdown page, when all is done
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    #[command(flatten)]
    options: Options,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let effort = match (args.quick, args.full) {
        (true, _) => Effort::Quick,
        (_, true) => Effort::Full,
        _ => Effort::Usual,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = args.seed.unwrap_or(now.as_nanos() as u64);
    let order = Order { effort, only: asked(&args.only)?, seed, python: args.python.clone() };
    let baseline = args.baseline.as_ref().map(earlier).transpose()?;
    let quiet = args.json || args.markdown;
    let mut lines =
        Lines { print: !quiet, display: Display::new(global.quiet), stage: None, gpus: Vec::new() };
    let (target, image, measured) = match args.host {
        true => here(global, args, &order, &mut lines)?,
        false => inside(global, args, &order, &mut lines)?,
    };
    drop(lines.stage.take());
    let interrupted = measured.interrupted;
    let report = Report::new(
        Subject {
            target,
            image,
            sconce: env!("CARGO_PKG_VERSION").to_owned(),
            time: now.as_secs(),
            seed,
            effort: measure::name(effort),
        },
        measured.lines,
        measured.remarks,
    );
    print(args, &report)?;
    if let Some((path, earlier)) = baseline {
        let changes = report.since(&earlier).map_err(|why| {
            Failure::new(Kind::Document, format!("can't compare with {}: {why}", path.display()))
        })?;
        eprintln!("since {}:", path.display());
        changes.iter().for_each(|change| eprintln!("  {change}"));
    }
    Ok(ExitCode::from(match (interrupted, report.holds()) {
        (true, _) => 130,
        (false, true) => 0,
        (false, false) => Kind::No as u8,
    }))
}

fn inside(
    global: &Global,
    args: &Args,
    order: &Order,
    lines: &mut Lines,
) -> Result<(String, Option<String>, Measured), Failure> {
    let ready = prepared::ready(global, "bench", &args.target, &args.options)?;
    if ready.gpus.devices() == 0 {
        let what = "no GPU was given, and there is nothing to measure";
        return Err(Failure::new(Kind::Machine, what).hint("`sconce doctor` says what is missing"));
    }
    let folder = ready.lease.scratch().join("bench");
    let measured = bench::inside(ready.container, &folder, order, lines)?;
    drop((ready.gpus, ready.lease));
    Ok((args.target.clone(), Some(ready.manifest.to_string()), measured))
}

fn here(
    global: &Global,
    args: &Args,
    order: &Order,
    lines: &mut Lines,
) -> Result<(String, Option<String>, Measured), Failure> {
    let context = Context::open(&args.options.global(global))?;
    let folder = context.store.scratch_dir()?;
    Ok(("this machine".to_owned(), None, bench::here(&folder, order, lines)?))
}

/// The figures that names of figures and groups stand for.
fn asked(only: &[String]) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    for name in only {
        let group = GROUPS.iter().find(|(_, known)| known == name).map(|(group, _)| *group);
        let rows: Vec<&str> = FIGURES
            .iter()
            .filter(|row| row.name == name || group == Some(row.group))
            .map(|row| row.name)
            .collect();
        if rows.is_empty() {
            let names: Vec<&str> = GROUPS
                .iter()
                .map(|(_, name)| *name)
                .chain(FIGURES.iter().map(|row| row.name))
                .collect();
            let what = format!("there is no figure `{name}`");
            return Err(
                Failure::new(Kind::Usage, what).hint(format!("there are {}", names.join(", ")))
            );
        }
        found.extend(rows.into_iter().map(str::to_owned));
    }
    found.dedup();
    Ok(found)
}

/// An earlier result, read before anything is measured.
fn earlier(path: &PathBuf) -> Result<(PathBuf, Value), Failure> {
    /// Bytes of a result: more is none.
    const MOST: u64 = 16 << 20;
    let unreadable =
        |why: String| Failure::new(Kind::Document, format!("can't read {}: {why}", path.display()));
    let about = fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
    if !about.is_file() || about.len() > MOST {
        return Err(unreadable("it is no result of `sconce bench --json`".to_owned()));
    }
    let text = fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let value: Value =
        serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
    Ok((path.clone(), value))
}

/// What there is to say at the end.
fn print(args: &Args, report: &Report) -> Result<(), Failure> {
    if args.json {
        println!("{}", serde_json::to_string_pretty(report).map_err(Failure::unwritable)?);
        return Ok(());
    }
    if args.markdown {
        print!("{}", report.markdown());
        return Ok(());
    }
    for one in &report.figures {
        if one.below_siblings.is_some() {
            println!("{one}");
        }
    }
    println!("{}", report.verdict());
    Ok(())
}

/// Answers as lines, as they come; with `--json` they wait for the end.
struct Lines {
    print: bool,
    display: Display,
    /// The line of progress, below the answers.
    stage: Option<Box<dyn Stage>>,
    gpus: Vec<Gpu>,
}

impl Listener for Lines {
    fn line(&mut self, line: &Line) {
        // The line of progress goes before another is printed.
        drop(self.stage.take());
        self.show(line);
        self.stage = Some(self.display.begin("measuring", None));
    }

    fn note(&mut self, text: &str) {
        drop(self.stage.take());
        eprintln!("note: {text}");
    }
}

impl Lines {
    fn show(&mut self, line: &Line) {
        if let Line::Gpu(gpu) = line {
            self.gpus.push(gpu.clone());
        }
        if !self.print {
            return;
        }
        match line {
            Line::Gpu(gpu) => println!("{}", report::about(gpu)),
            Line::Figure(figure) => {
                for one in sconce_bench::judge::judge(&self.gpus, vec![figure.clone()]) {
                    println!("{one}");
                }
            }
            Line::Unavailable(one) => println!("{:<26} not measured: {}", one.figure, one.reason),
            Line::Wrong(one) => println!("{:<26} WRONG: {}", one.figure, one.reason),
        }
    }
}
