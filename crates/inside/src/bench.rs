//! Figures in a container, or on this machine as it is: the program that measures is started, and its answers are read while
//! they are written.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use sconce_bench::answer::{Line, Reader};
use sconce_bench::measure::Effort;
use sconce_bench::{FIGURES, GROUPS, Group, PROGRAM};
use sconce_run::{Container, Exit, Interrupts, Shim};

use crate::error::Error;
use crate::measure;
use crate::stage::{INSIDE, Stage};
use crate::tail::{self, LOOK};

/// Told of answers as they come.
pub trait Listener: Send {
    /// An answer.
    fn line(&mut self, line: &Line);
    /// A remark that a person should see once.
    fn note(&mut self, text: &str);
}

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// How much time.
    pub effort: Effort,
    /// These figures; all of the effort's if empty.
    pub only: Vec<String>,
    /// The seed of the random numbers.
    pub seed: u64,
    /// The Python inside whose packages hold CUDA's libraries, if it is not the first of the image.
    pub python: Option<String>,
    /// Measure through torch as well, where no figures are named.
    pub torch: bool,
    /// How long `burn` takes, where it is asked for.
    pub burn: Duration,
}

/// What came out.
#[derive(Debug, Default)]
pub struct Measured {
    /// The answers, in the order in which they came.
    pub lines: Vec<Line>,
    /// What came and was no answer.
    pub remarks: Vec<String>,
    /// It was interrupted: the answers are those until then.
    pub interrupted: bool,
}

impl Order {
    /// The groups that are measured.
    pub fn groups(&self) -> Vec<Group> {
        let wanted = |group: Group| match self.only.is_empty() {
            true => group != Group::Burn && (self.torch || !group.by_torch()),
            false => FIGURES
                .iter()
                .any(|row| row.group == group && self.only.iter().any(|one| one == row.name)),
        };
        GROUPS.iter().map(|(group, _)| *group).filter(|group| wanted(*group)).collect()
    }

    /// The command line of the program, sconce and the other files being in the folder `place`.
    fn command(&self, program: &str, place: &str) -> Vec<String> {
        let seed = self.seed.to_string();
        let effort = measure::name(self.effort);
        let (results, files) = (format!("{place}/results"), format!("{place}/program"));
        let burn = self.burn.as_secs().to_string();
        let words = [program, "measure", "--results", &results, "--program", &files, "--effort"];
        let words = words.into_iter().chain([effort, "--seed", &seed, "--burn", &burn]);
        let mut command: Vec<String> = words.map(str::to_owned).collect();
        if !self.only.is_empty() {
            command.extend(["--only".to_owned(), self.only.join(",")]);
        }
        if let Some(python) = &self.python {
            command.extend(["--python".to_owned(), python.clone()]);
        }
        // A group may hang, and must not for long: what it takes, several times over.
        let limit = match self.effort {
            Effort::Quick => 120,
            Effort::Usual => 600,
            Effort::Full => 3600,
        };
        for group in self.groups() {
            let limit = if group == Group::Burn { limit + self.burn.as_secs() } else { limit };
            command.push(format!("{}:{limit}", group.name()));
        }
        command
    }
}

/// Measures in a container; what it needs is written into `folder`.
///
/// # Errors
/// A container that can't be started, answers that can't be read.
pub fn inside(
    mut container: Container,
    folder: &Path,
    order: &Order,
    listener: &mut dyn Listener,
) -> Result<Measured, Error> {
    let stage = Stage::make(folder, PROGRAM)?;
    container.volumes.extend(stage.volumes);
    container.command = order.command(&format!("{INSIDE}/sconce"), INSIDE);
    let mut notes = Vec::new();
    let (exit, mut measured) = follow(&stage.results, listener, || {
        let shim = Shim::spawn(&container.folder)?;
        sconce_run::run(&container, shim, Vec::new(), &mut |text| notes.push(text.to_owned()))
    })?;
    notes.iter().for_each(|note| listener.note(note));
    match exit? {
        Exit::Code(0) => {}
        Exit::Signal(libc::SIGINT | libc::SIGTERM | libc::SIGHUP) => measured.interrupted = true,
        Exit::Code(code) => measured.remarks.push(format!("it ended with exit code {code}")),
        Exit::Signal(signal) => measured.remarks.push(format!("it ended with signal {signal}")),
    }
    Ok(measured)
}

/// Measures on this machine as it is, without a container.
///
/// # Errors
/// The program can't be started, answers that can't be read.
pub fn here(folder: &Path, order: &Order, listener: &mut dyn Listener) -> Result<Measured, Error> {
    let stage = Stage::make(folder, PROGRAM)?;
    let program = std::env::current_exe().map_err(Error::Myself)?;
    let command = order.command(&program.to_string_lossy(), &folder.to_string_lossy());
    let (program, arguments) = command.split_first().map_or(("", [].as_slice()), |(a, b)| (a, b));
    let interrupts = Interrupts::listen()?;
    let (status, mut measured) = follow(&stage.results, listener, || {
        let mut command = Command::new(program);
        // A group of its own: what is measured ends as a whole.
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        let mut child = command.spawn()?;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if interrupts.came().is_some()
                && let Some(group) = Pid::from_raw(child.id().cast_signed())
            {
                // One that has ended meanwhile is found in the next round.
                _ = kill_process_group(group, Signal::KILL);
            }
            thread::sleep(LOOK);
        }
    })?;
    let status: ExitStatus = status.map_err(Error::Start)?;
    measured.interrupted = interrupts.came().is_some();
    if !status.success() && !measured.interrupted {
        measured.remarks.push(format!("it ended with {}", crate::child::how(status)));
    }
    Ok(measured)
}

/// Does `work`, and reads what is written to `results` until it is done.
fn follow<T: Send>(
    results: &Path,
    listener: &mut dyn Listener,
    work: impl FnOnce() -> T,
) -> Result<(T, Measured), Error> {
    let mut file = File::open(results).map_err(Error::Read)?;
    let running = AtomicBool::new(true);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut reader, mut measured) = (Reader::default(), Measured::default());
            loop {
                // Asked before reading: what was written before the end is read after it.
                let last = !running.load(Ordering::Acquire);
                let mut found = Vec::new();
                tail::read(&mut file, &mut |bytes| found.extend(reader.read(bytes)))?;
                for one in found {
                    match one {
                        Ok(line) => {
                            listener.line(&line);
                            measured.lines.push(line);
                        }
                        Err(malformed) => {
                            let words = malformed.to_string();
                            listener.note(&words);
                            measured.remarks.push(words);
                        }
                    }
                }
                if last {
                    return Ok(measured);
                }
                thread::sleep(LOOK);
            }
        });
        let done = Done(&running);
        let answer = work();
        drop(done);
        match reader.join() {
            Ok(Ok(measured)) => Ok((answer, measured)),
            Ok(Err(error)) => Err(Error::Read(error)),
            Err(_) => Err(Error::Panicked),
        }
    })
}

/// Says that nothing more is written, however this is left.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
