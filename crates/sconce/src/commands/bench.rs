//! `sconce bench`.

mod devices;
mod earlier;
mod lines;
mod log;
mod measuring;
mod printing;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sconce_bench::measure::Effort;
use sconce_bench::report::Report;
use sconce_bench::{FIGURES, GROUPS};
use sconce_inside::bench::Order;
use sconce_run::Interrupts;

use crate::cli::Global;
use crate::commands::options::Options;
use crate::commands::{paths, prepared};
use crate::error::{Failure, Kind};
use earlier::Earlier;

/// The figure that `--burn` asks for.
const BURN: &str = "burn";
/// Seconds of the longest burn.
const MOST_BURN: u64 = 30 * 86_400;

/// Measure what this machine's GPUs really deliver, and say what they should
///
/// Starts the container as `sconce run` would and measures with its libraries: matrix products in every precision,
/// memory, transfers, NCCL, launches and graphs; each checked for right results, with the clock, power and temperature that
/// NVML saw. docs/bench.md has a row for each figure. Exit code: 0 all was measured and nothing is low, 1 a wrong result or
/// a figure that is low, 11 part of it could not be measured, 12 nothing could be.
#[derive(clap::Args)]
#[command(disable_help_flag = true, args_override_self = true)]
pub struct Args {
    /// A folder with a sconce.toml, a tag such as torch:2.15.0, an image of the store or of a registry
    /// (HOST/NAME:TAG, docker://NAME), an OCI layout or an image archive; `log` lists the results so far
    #[arg(value_name = "TARGET", default_value = ".")]
    target: String,
    /// The figures of the first look, one shape each
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// All shapes, all algorithms, a minute of sustained load, and through torch as with --advise
    #[arg(long)]
    full: bool,
    /// Measure through the image's torch as well (products, attention, training in each precision, torch.compile, CUDA
    /// graphs, DataLoader), and say what to make of it
    #[arg(long, conflicts_with = "quick")]
    advise: bool,
    /// Load all GPUs for this long (90s, 30m, 12h), every result compared; alone, if --only names nothing else
    #[arg(long, value_name = "TIME", value_parser = time)]
    burn: Option<Duration>,
    /// Measure in this image; given twice, the second is compared with the first
    #[arg(long, value_name = "TARGET", action = clap::ArgAction::Append, conflicts_with_all = ["target", "host"])]
    image: Vec<String>,
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
    /// As one page of HTML with charts, in English and Chinese, when all is done
    #[arg(long, conflicts_with_all = ["json", "markdown"])]
    html: bool,
    #[command(flatten)]
    options: Options,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    if args.target == "log" {
        args.only_of_the_log()?;
        return log::print(
            &asked(&args.only)?,
            &devices::of_the_log(args.options.gpus())?,
            args.json,
        );
    }
    devices::check(args.options.gpus())?;
    if args.host && args.target != "." {
        let what = format!("`--host` measures this machine, and `{}` is not on it", args.target);
        return Err(Failure::new(Kind::Usage, what).hint("leave one of the two out"));
    }
    if args.host && !args.options.says_only_gpus() {
        let what = "`--host` starts no container, and options of one are given (--user, -e, -v, --memory, ...)";
        return Err(Failure::new(Kind::Usage, what).hint("leave `--host` or the others out"));
    }
    let effort = match (args.quick, args.full) {
        (true, _) => Effort::Quick,
        (_, true) => Effort::Full,
        _ => Effort::Usual,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut only = asked(&args.only)?;
    if args.burn.is_some() && !only.iter().any(|one| one == BURN) {
        only.push(BURN.to_owned());
    }
    if args.burn.is_none() && only.iter().any(|one| one == BURN) {
        return Err(Failure::new(Kind::Usage, "how long is `burn` to take?")
            .hint("`--burn 30m` says it; alone it measures nothing else"));
    }
    if let (true, Some(python)) =
        (args.host, args.python.as_deref().filter(|one| one.contains('/')))
    {
        // It stays as it was named: a virtual environment is known by its own link to an interpreter.
        paths::of_option("--python", Path::new(python))?;
        if !Path::new(python).is_file() {
            let what = format!("there is no `{python}`, which `--python` names");
            return Err(Failure::new(Kind::Usage, what)
                .hint("without it, `python` of the PATH is asked for its packages"));
        }
    }
    let order = Order {
        effort,
        only,
        seed: args.seed.unwrap_or(now.as_nanos() as u64),
        python: args.python.clone(),
        torch: args.advise || args.full,
        burn: args.burn.unwrap_or_default(),
        visible: None,
    };
    let mut earlier = args.baseline.as_deref().map(Earlier::read).transpose()?;
    if let Some(earlier) = &earlier {
        earlier.comparable(&order)?;
    }
    let targets: Vec<&str> = match args.image.as_slice() {
        [] => vec![&args.target],
        images => images.iter().map(String::as_str).collect(),
    };
    // One that is not there is said before another is measured for minutes.
    if args.image.len() > 1 {
        for target in &targets {
            drop(prepared::ready(global, "bench", target, &args.options)?);
        }
    }
    let mut reports: Vec<Report> = Vec::new();
    let mut interrupted = false;
    // Signals are heard until all is printed: a second one takes nothing away that was measured.
    let mut interrupts = if args.host { Some(Interrupts::listen()?) } else { None };
    for target in targets {
        if interrupted {
            break;
        }
        if args.image.len() > 1 && !args.waits() {
            println!("in {target}:");
        }
        let (mut report, stopped) =
            measuring::one(global, args, target, &order, (&mut interrupts, earlier.as_ref()))?;
        interrupted = stopped;
        if let Some(earlier) = &earlier {
            earlier.compare(&mut report);
        }
        // The others are compared with the first.
        if reports.is_empty() {
            earlier = Some(Earlier::first(&report));
        }
        reports.push(report);
    }
    printing::print(args, &reports)?;
    let nothing = |report: &Report| report.figures.is_empty() && report.wrong.is_empty();
    let holds = |report: &Report| report.holds() || nothing(report);
    Ok(ExitCode::from(match interrupted {
        // 130 by Ctrl-C; 128 and the number of any other signal.
        true => sconce_run::ended_by()
            .and_then(|signal| u8::try_from(128 + signal).ok())
            .unwrap_or(Kind::Interrupted as u8),
        false if reports.iter().all(nothing) => Kind::CantTell as u8,
        false if !reports.iter().all(holds) => Kind::No as u8,
        false if reports.iter().any(|one| nothing(one) || one.in_part()) => Kind::InPart as u8,
        false => 0,
    }))
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

/// `90s`, `30m`, `12h`, `2d`.
fn time(given: &str) -> Result<Duration, String> {
    let split = given.find(|c: char| !c.is_ascii_digit()).unwrap_or(given.len());
    let (digits, unit) = given.split_at(split);
    let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let scale = units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
    let scale = scale.ok_or("times are 90s, 30m, 12h or 2d")?;
    let count: u64 = digits.parse().map_err(|_| format!("`{given}` has no number to count"))?;
    match count.checked_mul(scale) {
        Some(seconds @ 1..=MOST_BURN) => Ok(Duration::from_secs(seconds)),
        _ => Err("it takes a second at least, and 30 days at most".to_owned()),
    }
}

impl Args {
    /// What is measured is printed at the end, all at once.
    fn waits(&self) -> bool {
        self.json || self.markdown || self.html
    }

    /// `bench log` measures nothing: what says how to measure is refused, and not left unheard.
    fn only_of_the_log(&self) -> Result<(), Failure> {
        let given = [
            (self.quick, "--quick"),
            (self.full, "--full"),
            (self.advise, "--advise"),
            (self.burn.is_some(), "--burn"),
            (self.baseline.is_some(), "--baseline"),
            (self.host, "--host"),
            (self.python.is_some(), "--python"),
            (self.seed.is_some(), "--seed"),
            (self.markdown, "--markdown"),
            (self.html, "--html"),
            (!self.options.says_only_gpus(), "options of a container"),
        ];
        match given.iter().find(|(given, _)| *given) {
            None => Ok(()),
            Some((_, name)) => Err(Failure::new(
                Kind::Usage,
                format!("`sconce bench log` measures nothing, and takes no {name}"),
            )
            .hint("it takes --only NAME,..., --gpus 0,1 and --json")),
        }
    }
}
