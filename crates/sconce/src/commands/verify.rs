//! `sconce verify`.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use sconce_build::Progress;
use sconce_run::{Captured, Container, Exit, Volume};
use sconce_verify::{Answer, By, CHECKS, Check, Malformed, Outcome, PROGRAM, Reader, Report};

use crate::cli::Global;
use crate::commands::run;
use crate::error::{Failure, Kind};
use crate::progress::Display;

/// Where the programs and their answers lie in the container.
const INSIDE: &str = "/run/sconce-verify";
/// How often is looked for answers.
const LOOK: Duration = Duration::from_millis(40);
/// Of what a program prints, this many bytes are kept.
const MOST_OUTPUT: usize = 64 << 10;

/// Prove from inside a container that its GPUs and its PyTorch work
///
/// Starts the container as `sconce run` would and checks what people do there: the driver, a kernel,
/// torch, cuDNN, mixed precision, TF32, FP8, sparsity, graphs, torch.compile, NCCL, DataLoader,
/// TensorBoard. docs/verify.md has a section for each. Exit code: 0 nothing failed, 1 a check failed.
#[derive(clap::Args)]
pub struct Args {
    /// A folder with a sconce.toml, a tag such as torch:2.15.0, or an image of the store
    #[arg(value_name = "DIR|TAG|IMAGE", default_value = ".")]
    target: String,
    /// Which GPUs: all, none, a number, indexes or UUIDs with commas
    #[arg(long, value_name = "WHICH")]
    gpus: Option<String>,
    /// Where the driver's files are, if not in the usual folders
    #[arg(long, value_name = "DIR")]
    driver_root: Option<PathBuf>,
    /// Size of /dev/shm, such as 8g; half of the machine's memory if not given
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<String>,
    /// Show a folder or file of this machine inside: HOST:CONTAINER[:ro]
    #[arg(short, long, value_name = "HOST:CONTAINER")]
    volume: Vec<String>,
    /// Set a variable: NAME=VALUE, or NAME to pass this machine's on
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Set variables from a file, one NAME=VALUE a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Who checks: name or uid, with :group or :gid
    #[arg(short, long)]
    user: Option<String>,
    /// The Python inside that has torch; `python` on the image's PATH, else `python3`, if not given
    #[arg(long, value_name = "PATH")]
    python: Option<String>,
    /// Start even where `sconce doctor` says that it can't work
    #[arg(long)]
    force: bool,
    /// Allow once what the project asks for outside its folder (see `sconce trust`)
    #[arg(long)]
    trust: bool,
    /// Make only these checks
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    only: Vec<String>,
    /// As JSON, when all is done (docs/format/verify.md)
    #[arg(long)]
    json: bool,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let asked = asked(&args.only)?;
    let ready = run::ready(global, &as_run(args))?;
    let stage = Stage::make(&ready.lease.scratch().join("verify"))?;
    let results = File::open(&stage.results).map_err(|error| unwritable(&stage.results, &error))?;
    let follower = Follower {
        results,
        reader: Reader::new(asked.iter().map(|check| check.name)),
        report: Report::default(),
        lines: !args.json,
        quiet: global.quiet,
    };
    let mut session = Session { container: ready.container, follower };
    session.container.volumes.extend(stage.volumes);
    let (gpus, boards) = (ready.gpus.devices(), ready.gpus.boards());

    let (can, cannot): (Vec<&Check>, Vec<&Check>) =
        asked.iter().copied().partition(|check| gpus > 0 || !check.gpu);
    let probes: Vec<&Check> = can.iter().copied().filter(|check| check.by == By::Probe).collect();
    let torch: Vec<&Check> = can.iter().copied().filter(|check| check.by == By::Torch).collect();
    session.fill(&cannot, Outcome::NotApplicable, "no GPU was given");
    session.probe(&probes, gpus, boards, args.python.as_deref())?;
    session.torch(&torch, gpus, args.python.as_deref())?;

    let report = session.follower.report;
    if args.json {
        let text = serde_json::to_string_pretty(&report.json(&args.target, gpus));
        println!("{}", text.map_err(Failure::unwritable)?);
    } else {
        println!("{}", report.verdict());
    }
    drop((ready.gpus, ready.lease));
    Ok(ExitCode::from(if report.tally().fail == 0 { 0 } else { Kind::No as u8 }))
}

/// The checks to make.
fn asked(only: &[String]) -> Result<Vec<&'static Check>, Failure> {
    if let Some(unknown) = only.iter().find(|name| sconce_verify::check(name).is_none()) {
        let names: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
        return Err(Failure::new(Kind::Usage, format!("there is no check `{unknown}`"))
            .hint(format!("there are {}", names.join(", "))));
    }
    let wanted = |check: &&Check| only.is_empty() || only.iter().any(|name| name == check.name);
    Ok(CHECKS.iter().filter(wanted).collect())
}

/// The same container as `sconce run` with these options.
fn as_run(args: &Args) -> run::Args {
    let mut run = run::Args::default();
    run.target.clone_from(&args.target);
    run.gpus.clone_from(&args.gpus);
    run.driver_root.clone_from(&args.driver_root);
    run.shm_size.clone_from(&args.shm_size);
    run.volume.clone_from(&args.volume);
    run.env.clone_from(&args.env);
    run.env_file.clone_from(&args.env_file);
    run.user.clone_from(&args.user);
    run.force = args.force;
    run.trust = args.trust;
    run
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Storage, format!("can't write {}: {error}", path.display()))
}

/// What is put into the container.
struct Stage {
    results: PathBuf,
    volumes: Vec<Volume>,
}

impl Stage {
    fn make(folder: &Path) -> Result<Self, Failure> {
        let write = |path: &Path, text: &str| {
            path.parent()
                .map_or(Ok(()), fs::create_dir_all)
                .and_then(|()| fs::write(path, text))
                .map_err(|error| unwritable(path, &error))
        };
        let program = folder.join("program");
        for (name, text) in PROGRAM {
            write(&program.join(name), text)?;
        }
        let results = folder.join("results");
        write(&results, "")?;
        // Whoever the image runs as must be able to answer.
        fs::set_permissions(&results, Permissions::from_mode(0o666))
            .map_err(|error| unwritable(&results, &error))?;
        let myself = std::env::current_exe().map_err(|error| {
            Failure::new(Kind::Machine, format!("can't find the running sconce: {error}"))
        })?;
        let volume = |source: PathBuf, name: &str, read_only| Volume {
            source,
            target: Path::new(INSIDE).join(name),
            read_only,
        };
        let volumes = vec![
            volume(program, "program", true),
            volume(results.clone(), "results", false),
            volume(myself, "sconce", true),
        ];
        Ok(Self { results, volumes })
    }
}

/// The container, and what comes out of it.
struct Session {
    container: Container,
    follower: Follower,
}

impl Session {
    /// Checks the driver; sconce itself is the program.
    fn probe(
        &mut self,
        checks: &[&Check],
        gpus: usize,
        boards: usize,
        python: Option<&str>,
    ) -> Result<(), Failure> {
        if checks.is_empty() {
            return Ok(());
        }
        let (gpus, boards) = (gpus.to_string(), boards.to_string());
        let (program, results) = (format!("{INSIDE}/sconce"), format!("{INSIDE}/results"));
        let mut command =
            vec![&*program, "probe", "--results", &results, "--gpus", &gpus, "--boards", &boards];
        command.extend(python.iter().flat_map(|python| ["--python", python]));
        let captured = self.attend(&command, checks)?;
        let reason = "sconce inside the container";
        self.fill(checks, Outcome::Fail, &ended(reason, captured.as_ref()));
        Ok(())
    }

    /// Checks torch, with the first Python there is.
    fn torch(
        &mut self,
        checks: &[&Check],
        gpus: usize,
        python: Option<&str>,
    ) -> Result<(), Failure> {
        if checks.is_empty() {
            return Ok(());
        }
        let gpus = gpus.to_string();
        let (program, results) = (format!("{INSIDE}/program"), format!("{INSIDE}/results"));
        let pythons = python.map_or(vec!["python", "python3"], |python| vec![python]);
        for python in &pythons {
            let command = [python, "-B", &*program, "--results", &results, "--gpus", &gpus];
            if let Some(captured) = self.attend(&command, checks)? {
                self.fill(checks, Outcome::Fail, &ended("Python", Some(&captured)));
                return Ok(());
            }
        }
        // A Python that was named must be there; an image may have none.
        match python {
            Some(python) => {
                let reason = format!("there is no `{python}` in the container");
                self.fill(checks, Outcome::Fail, &reason);
            }
            None => self.fill(checks, Outcome::NotApplicable, "there is no Python in the image"),
        }
        Ok(())
    }

    /// Runs a program to its end, with the checks as its last arguments, and shows answers as they come.
    /// `None` where there is no such program.
    fn attend(&mut self, command: &[&str], checks: &[&Check]) -> Result<Option<Captured>, Failure> {
        self.container.command = command.iter().map(|word| (*word).to_owned()).collect();
        self.container.command.extend(checks.iter().map(|check| check.order()));
        let running = AtomicBool::new(true);
        let (container, follower) = (&self.container, &mut self.follower);
        let (result, followed) = thread::scope(|scope| {
            let follower = scope.spawn(|| follower.follow(&running, checks));
            let stop = Stop(&running);
            let result = sconce_run::run_captured(container, MOST_OUTPUT, &mut |text| {
                eprintln!("note: {text}");
            });
            drop(stop);
            (result, follower.join())
        });
        match result {
            Ok(captured) => match followed {
                Ok(Ok(())) => Ok(Some(captured)),
                Ok(Err(error)) => {
                    let what = format!("the answers from inside can't be read: {error}");
                    Err(Failure::new(Kind::Storage, what))
                }
                Err(_) => Err(Failure::new(Kind::Storage, "the reader of answers has died")),
            },
            Err(sconce_run::Error::NotFound(_)) => Ok(None),
            Err(error) => Err(Failure::from(error)),
        }
    }

    /// Gives checks without an answer this one.
    fn fill(&mut self, checks: &[&Check], verdict: Outcome, reason: &str) {
        for answer in self.follower.report.fill(checks, verdict, reason) {
            self.follower.show(&answer);
        }
    }
}

/// Says that the container has ended, however this is left.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Reads answers while they are written, and shows them.
struct Follower {
    results: File,
    reader: Reader,
    report: Report,
    /// Answers are printed as they come; with `--json` they wait for the end.
    lines: bool,
    quiet: bool,
}

impl Follower {
    /// Follows until the container has ended and all is read. On a terminal it shows what is waited for.
    fn follow(&mut self, running: &AtomicBool, checks: &[&Check]) -> std::io::Result<()> {
        let mut waiting: Option<Display> = None;
        loop {
            // Asked before reading: what was written before the end is read after it.
            let last = !running.load(Ordering::Acquire);
            let found = self.read()?;
            if !found.is_empty() || waiting.is_none() {
                // The line of progress goes before another is printed.
                drop(waiting.take());
                found.into_iter().for_each(|found| self.take(found));
                let next = checks.iter().find(|check| !self.report.has(check.name));
                if let Some(next) = next.filter(|_| !last) {
                    let display = Display::new(self.quiet);
                    display.begin(next.name, None);
                    waiting = Some(display);
                }
            }
            if last {
                return Ok(());
            }
            thread::sleep(LOOK);
        }
    }

    /// What has been written since.
    fn read(&mut self) -> std::io::Result<Vec<Result<Answer, Malformed>>> {
        let mut bytes = [0; 16 << 10];
        let mut found = Vec::new();
        // A program that writes faster than is read here must not keep this from ending.
        for _ in 0..256 {
            let count = self.results.read(&mut bytes)?;
            if count == 0 {
                break;
            }
            found.extend(self.reader.read(&bytes[..count]));
        }
        Ok(found)
    }

    fn take(&mut self, found: Result<Answer, Malformed>) {
        match found {
            Ok(answer) => {
                self.show(&answer);
                self.report.answers.push(answer);
            }
            Err(malformed) => {
                eprintln!("note: {malformed}");
                self.report.remarks.push(malformed.to_string());
            }
        }
    }

    fn show(&self, answer: &Answer) {
        if self.lines {
            println!("{answer}");
        }
    }
}

/// How a program ended that did not answer everything.
fn ended(program: &str, captured: Option<&Captured>) -> String {
    let Some(captured) = captured else { return format!("{program} could not be started") };
    let how = match captured.exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
    };
    let words = match Report::last_words(&captured.stderr) {
        words if words.is_empty() => Report::last_words(&captured.stdout),
        words => words,
    };
    match words.is_empty() {
        true => format!("{program} ended with {how} before this check"),
        false => format!("{program} ended with {how} before this check: {words}"),
    }
}
