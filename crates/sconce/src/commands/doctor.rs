//! `sconce doctor`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use sconce_doctor::fleet::{self, Fleet};
use sconce_doctor::{Report, Snapshot, Subject, examine};
use sconce_gpu::Machine;

use crate::cli::Global;
use crate::commands::paths;
use crate::context::Context;
use crate::error::{Failure, Kind};

/// Say what keeps GPU containers from running here, and how to mend it
///
/// Captures a snapshot of the machine (files, device nodes, kernel log, limits) and judges it by
/// rules; docs/doctor.md has a page for each. With a folder, a tag or an image named, the pair is
/// judged: will this run here? Nothing is built or downloaded for it. With two or more names, or
/// brackets, they are machines: each is asked over ssh, and one table says who deviates. Exit code:
/// 0 it runs, 1 something stops it, 12 that can't be told, 10 there is no GPU; of machines the worst,
/// 5 for one that does not answer.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce doctor                      this machine
  sconce doctor torch:2.15.0         will this run here?
  sconce doctor --save here.json     a snapshot to send to somebody
  sconce doctor --watch              again at each change
  sconce doctor gpu1 gpu[2-8]        eight machines, over ssh")]
pub struct Args {
    /// What to judge together with the machine: a folder with a sconce.toml, a tag such as
    /// torch:2.15.0, or an image of the store; or machines, two or more, as in gpu1 gpu[2-8]
    #[arg(value_name = "TARGET|HOST")]
    targets: Vec<String>,
    /// The names are machines, even if it is one
    #[arg(long, requires = "targets")]
    hosts: bool,
    /// What sconce is called on the machines
    #[arg(long, value_name = "PROGRAM", default_value = "sconce")]
    remote_program: String,
    /// Judge a snapshot saved elsewhere instead of this machine
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Write the snapshot, without names and addresses of this machine; to standard output, and
    /// nothing else, with `-`
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    save: Option<PathBuf>,
    /// Where the driver's files are, if not in the usual folders
    #[arg(long, value_name = "DIR", conflicts_with = "from")]
    driver_root: Option<PathBuf>,
    /// Look again every so many seconds (10 if not said), and say it when something has changed
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "10",
        value_parser = clap::value_parser!(u64).range(1..=86_400),
        conflicts_with_all = ["from", "save"]
    )]
    watch: Option<u64>,
    /// As JSON: {verdict, findings}; docs/format/doctor.md
    #[arg(long)]
    json: bool,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let several = args.targets.len() > 1 || args.targets.iter().any(|word| word.contains('['));
    if args.hosts || several {
        return hosts(args);
    }
    let snapshot = match &args.from {
        Some(path) => Snapshot::load(&paths::of_option("--from", path)?)?,
        None => capture(args)?,
    };
    if let Some(path) = &args.save {
        if path == Path::new("-") {
            print!("{}", snapshot.json());
            return Ok(ExitCode::SUCCESS);
        }
        snapshot.save(&paths::of_option("--save", path)?)?;
        eprintln!("wrote {}; `sconce doctor --from` judges it anywhere", path.display());
    }
    let subject = match args.targets.first() {
        Some(target) => {
            let context = Context::open(global)?;
            let builder = context.builder(None);
            let subject =
                sconce_start::of_target(&paths::target(target)?, "doctor", &builder, &snapshot)?;
            if subject.is_none() {
                eprintln!("note: `{target}` asks for nothing: the machine alone is judged");
            }
            subject
        }
        None => None,
    };
    let report = examine(&snapshot, subject.as_ref());
    show(args, &report)?;
    match args.watch {
        Some(seconds) => watch(args, Duration::from_secs(seconds), subject.as_ref(), report),
        None => Ok(ExitCode::from(report.verdict.exit_code())),
    }
}

fn capture(args: &Args) -> Result<Snapshot, Failure> {
    let machine = Machine::host();
    let root = paths::of_given("--driver-root", args.driver_root.as_deref())?;
    Ok(Snapshot::capture(&match &root {
        Some(root) => machine.with_driver_root(root),
        None => machine,
    }))
}

fn show(args: &Args, report: &Report) -> Result<(), Failure> {
    match (args.json, args.watch) {
        // A report a line, for those who read along.
        (true, Some(_)) => println!("{}", report.json()),
        (true, None) => {
            let text = serde_json::to_string_pretty(&report.json()).map_err(Failure::unwritable)?;
            println!("{text}");
        }
        (false, _) => print!("{}", report.text()),
    }
    Ok(())
}

/// Judges the machine again and again, and shows the report when what it finds has changed. Ends with Ctrl-C, or when
/// nobody reads what it writes any more (`| head`).
fn watch(
    args: &Args,
    pause: Duration,
    subject: Option<&Subject>,
    mut last: Report,
) -> Result<ExitCode, Failure> {
    while !reader_gone_within(pause)? {
        let report = examine(&capture(args)?, subject);
        if report.essence() != last.essence() {
            if !args.json {
                println!("\n--- changed ---");
            }
            show(args, &report)?;
        }
        last = report;
    }
    Ok(ExitCode::SUCCESS)
}

/// The longest that poll(2) is told to wait; what is left is waited for after it.
const LONG: Timespec = Timespec { tv_sec: 86_400, tv_nsec: 0 };

/// Waits, and says whether the reader of stdout, a pipe, has gone meanwhile.
fn reader_gone_within(pause: Duration) -> Result<bool, Failure> {
    let until = Instant::now() + pause;
    loop {
        let stdout = std::io::stdout();
        let left = until.saturating_duration_since(Instant::now());
        // POLLERR is told without being asked for: the pipe has no reader (poll(2)).
        let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
        let timeout = Timespec::try_from(left).unwrap_or(LONG);
        match poll(&mut asked, Some(&timeout)) {
            Ok(0) if Instant::now() < until => {}
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(error) => {
                let message = format!("can't wait on stdout: {error}");
                return Err(Failure::new(Kind::Machine, message));
            }
        }
    }
}

/// Asks several machines, and shows them as one table.
fn hosts(args: &Args) -> Result<ExitCode, Failure> {
    if args.from.is_some()
        || args.save.is_some()
        || args.watch.is_some()
        || args.driver_root.is_some()
    {
        let what = "`--from`, `--save`, `--driver-root` and `--watch` are for this machine alone";
        return Err(
            Failure::new(Kind::Usage, what).hint("name no machines, or leave the option out")
        );
    }
    let names = fleet::names(&args.targets)?;
    let fleet = Fleet::judge(fleet::ask(&names, &args.remote_program));
    if args.json {
        let text = serde_json::to_string_pretty(&fleet.json()).map_err(Failure::unwritable)?;
        println!("{text}");
    } else {
        print!("{}", fleet.text());
    }
    Ok(ExitCode::from(fleet.exit_code()))
}
