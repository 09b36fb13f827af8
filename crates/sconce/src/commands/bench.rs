//! `sconce bench`.

mod devices;
mod lines;
mod log;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sconce_bench::answer::{Figure, Line, Unavailable};
use sconce_bench::measure::Effort;
use sconce_bench::report::{Report, Subject};
use sconce_bench::{Baseline, FIGURES, GROUPS, figure};
use sconce_inside::bench::{self, Measured, Order};
use sconce_inside::measure;
use sconce_run::Interrupts;

use crate::cli::Global;
use crate::commands::options::Options;
use crate::commands::paths;
use crate::commands::prepared;
use crate::context::Context;
use crate::error::{Failure, Kind};
use lines::Lines;

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
    let baseline = args.baseline.as_deref().map(earlier).transpose()?;
    if let Some((name, earlier)) = &baseline {
        comparable(name, earlier, &order)?;
    }
    if let Some((name, _)) = baseline.as_ref().filter(|(_, earlier)| earlier.is_part()) {
        eprintln!("note: {name} was interrupted: it has only what was measured until then");
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
    let (mut reports, mut interrupted) = (Vec::new(), false);
    // Signals are heard until all is printed: a second one takes nothing away that was measured.
    let mut interrupts = if args.host { Some(Interrupts::listen()?) } else { None };
    for target in targets {
        if interrupted {
            break;
        }
        if args.image.len() > 1 && !args.waits() {
            println!("in {target}:");
        }
        let (report, stopped) = one(global, args, target, &order, &mut interrupts)?;
        interrupted = stopped;
        reports.push(report);
    }
    print(args, &reports)?;
    let compared = |name: &str, report: &Report, earlier: &Baseline| {
        eprintln!("since {name}:");
        report.since(earlier).iter().for_each(|change| eprintln!("  {change}"));
    };
    if let [first, others @ ..] = reports.as_slice() {
        if let Some((name, earlier)) = baseline {
            compared(&name, first, &earlier);
        }
        let earlier = Baseline::from(first);
        for other in others {
            compared(&format!("{}, in {}", first.target, other.target), other, &earlier);
        }
    }
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

/// Measures in one target; whether it was interrupted.
fn one(
    global: &Global,
    args: &Args,
    target: &str,
    order: &Order,
    interrupts: &mut Option<Interrupts>,
) -> Result<(Report, bool), Failure> {
    let mut lines = Lines::new(!args.waits(), global.quiet);
    let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (target, image, mut measured) = match (args.host, interrupts.as_ref()) {
        (true, Some(interrupts)) => here(global, args, order, interrupts, &mut lines)?,
        _ => {
            // The container takes what comes meanwhile.
            drop(interrupts.take());
            let measured = inside(global, args, target, order, &mut lines)?;
            *interrupts = Some(Interrupts::listen()?);
            measured
        }
    };
    // What ended badly says so itself.
    if !measured.interrupted && measured.remarks.is_empty() {
        for line in unanswered(&args.only, &measured.lines) {
            bench::Listener::line(&mut lines, &line);
            measured.lines.push(line);
        }
    }
    lines.end();
    let mut report = Report::new(
        Subject {
            target,
            image,
            sconce: env!("CARGO_PKG_VERSION").to_owned(),
            time: begun.as_secs(),
            seed: order.seed,
            effort: measure::name(order.effort),
        },
        measured.lines,
        measured.remarks,
    );
    report.interrupted = measured.interrupted;
    let something = !report.figures.is_empty() || !report.wrong.is_empty();
    if !measured.interrupted && something {
        log::keep(&report)?;
    }
    Ok((report, measured.interrupted))
}

fn inside(
    global: &Global,
    args: &Args,
    target: &str,
    order: &Order,
    lines: &mut Lines,
) -> Result<(String, Option<String>, Measured), Failure> {
    let ready = prepared::ready(global, "bench", target, &args.options)?;
    if ready.gpus.devices() == 0 && !order.groups().iter().all(|group| group.without_gpu()) {
        let what = "no GPU was given, and there is nothing to measure";
        return Err(Failure::new(Kind::Machine, what).hint("`sconce doctor` says what is missing"));
    }
    let folder = ready.lease.scratch().join("bench");
    let measured = bench::inside(&ready.container, &folder, order, lines)?;
    drop((ready.gpus, ready.lease));
    Ok((target.to_owned(), Some(ready.manifest.to_string()), measured))
}

fn here(
    global: &Global,
    args: &Args,
    order: &Order,
    interrupts: &Interrupts,
    lines: &mut Lines,
) -> Result<(String, Option<String>, Measured), Failure> {
    let context = Context::open(&args.options.global(global))?;
    let folder = context.store.scratch_dir()?;
    let visible = match args.options.gpus() {
        None => None,
        Some(given) => devices::visible(given, || {
            let mut silent = Lines::new(false, true);
            let seen = bench::gpus_here(&folder, order, interrupts, &mut silent)?;
            silent.end();
            Ok(seen.gpus().map(|gpu| gpu.gpu).collect())
        })?,
    };
    let order = Order { visible, ..order.clone() };
    let measured = bench::here(&folder, &order, interrupts, lines)?;
    Ok(("this machine".to_owned(), None, measured))
}

/// What was asked for by name, a figure or a group, and nothing answered.
fn unanswered(names: &[String], lines: &[Line]) -> Vec<Line> {
    let of = |name: &str| figure(name).map(|row| row.group.name());
    let answers = |name: &String| {
        lines.iter().any(|line| match line {
            Line::Figure(Figure { figure: one, .. })
            | Line::Unavailable(Unavailable { figure: one, .. })
            | Line::Wrong(Unavailable { figure: one, .. }) => {
                // The group that is asked, or that of the figure that is asked; without GPUs all was answered.
                one == name
                    || of(one) == Some(name)
                    || of(name) == Some(one)
                    || one == sconce_bench::GPUS
            }
            _ => false,
        })
    };
    let line = |name: &String| {
        let reason = "there is none of it here: it needs a newer GPU, or more than one".to_owned();
        Line::Unavailable(Unavailable { figure: name.clone(), gpus: Vec::new(), reason })
    };
    names.iter().filter(|name| !answers(name)).map(line).collect()
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

/// An earlier result, read before anything is measured, and its name.
fn earlier(path: &Path) -> Result<(String, Baseline), Failure> {
    /// Bytes of a result: more is none.
    const MOST: u64 = 16 << 20;
    let name = path.display().to_string();
    let unusable = |why: String| {
        Failure::new(Kind::Document, format!("can't compare with {name}: {why}"))
            .hint("`sconce bench --json . > FILE` writes one")
    };
    let path = &paths::of_option("--baseline", path)?;
    let text = sconce_open::read(path, MOST).map_err(|error| unusable(error.to_string()))?;
    let baseline = Baseline::read(&text).map_err(unusable)?;
    Ok((name, baseline))
}

/// Refuses an earlier result that has nothing of what is to be measured, and says where it was measured with another effort:
/// before minutes have passed.
fn comparable(name: &str, earlier: &Baseline, order: &Order) -> Result<(), Failure> {
    let groups = order.groups();
    let measured = |known: &&str| {
        let row = figure(known).filter(|row| groups.contains(&row.group));
        row.is_some_and(|row| match order.only.as_slice() {
            [] => order.effort != Effort::Quick || row.quick,
            only => only.iter().any(|one| one == row.name),
        })
    };
    let names = earlier.names();
    if !names.iter().any(measured) {
        let what =
            format!("can't compare with {name}: it has none of the figures that are asked for");
        let hint = match names.is_empty() {
            true => "`sconce bench --json . > FILE` writes one".to_owned(),
            false => {
                let names: Vec<&str> = names.into_iter().collect();
                format!("`--only {}` measures what it has", names.join(","))
            }
        };
        return Err(Failure::new(Kind::Usage, what).hint(hint));
    }
    let now = measure::name(order.effort);
    if let Some(then) = earlier.effort().filter(|then| *then != now) {
        eprintln!(
            "note: {name} was measured with other repeats and shapes (effort `{then}`, and this run is `{now}`): figures may differ by \
             that alone"
        );
    }
    Ok(())
}

/// What there is to say at the end.
fn print(args: &Args, reports: &[Report]) -> Result<(), Failure> {
    if args.json {
        let text = match reports {
            [report] => serde_json::to_string_pretty(report),
            several => serde_json::to_string_pretty(several),
        };
        println!("{}", text.map_err(Failure::unwritable)?);
    }
    for report in reports {
        match (args.markdown, args.html) {
            (true, _) => print!("{}", report.markdown()),
            (_, true) => print!("{}", report.html()),
            _ if args.json => {}
            _ => say(report, reports.len() > 1),
        }
    }
    Ok(())
}

/// What the lines that came could not say yet.
fn say(report: &Report, several: bool) {
    for one in &report.figures {
        if one.below_siblings.is_some() {
            println!("{one}");
        }
    }
    report.remarks.iter().for_each(|remark| eprintln!("note: {remark}"));
    for one in &report.advice {
        println!("advice: {}", one.en);
    }
    match several {
        true => println!("{}: {}", report.target, report.verdict()),
        false => println!("{}", report.verdict()),
    }
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
