//! Checks in a container: it is started with a program, and answers are read while they are written.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use sconce_run::{Captured, Container, Exit};
use sconce_verify::{Answer, By, Check, Malformed, Outcome, PROGRAM, Reader, Report};

use crate::error::Error;
use crate::stage::{INSIDE, Stage};
use crate::tail::{self, LOOK};

/// Of what a program prints, this many bytes are kept.
const MOST_OUTPUT: usize = 64 << 10;

/// Told of answers as they come.
pub trait Listener: Send {
    /// A check has its answer.
    fn answer(&mut self, answer: &Answer);
    /// This check is waited for; called again with the next one.
    fn waiting(&mut self, check: &Check);
    /// Nothing is waited for any more.
    fn idle(&mut self);
    /// A remark that a person should see once.
    fn note(&mut self, text: &str);
}

/// A container for checks, and what came out of it so far.
pub struct Session<'a> {
    container: Container,
    follower: Follower<'a>,
    asked: Vec<&'static Check>,
}

impl<'a> Session<'a> {
    /// Prepares for the checks `asked`: the programs are written into `folder`, and shown in
    /// `container`.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn new(
        mut container: Container,
        folder: &Path,
        asked: Vec<&'static Check>,
        listener: &'a mut dyn Listener,
    ) -> Result<Self, Error> {
        let stage = Stage::make(folder, PROGRAM)?;
        container.volumes.extend(stage.volumes);
        let results = File::open(&stage.results).map_err(Error::Read)?;
        let reader = Reader::new(asked.iter().map(|check| check.name));
        let follower = Follower { results, reader, report: Report::default(), listener };
        Ok(Self { container, follower, asked })
    }

    /// Makes the checks in a container with so many CUDA devices on so many boards; `python` is the one
    /// inside that has torch, if it is not the first of the image.
    ///
    /// # Errors
    /// A container that can't be started, answers that can't be read.
    pub fn run(
        mut self,
        gpus: usize,
        boards: usize,
        python: Option<&str>,
    ) -> Result<Report, Error> {
        let asked = std::mem::take(&mut self.asked);
        let (can, cannot): (Vec<&Check>, Vec<&Check>) =
            asked.into_iter().partition(|check| gpus > 0 || !check.gpu);
        let (probes, torch): (Vec<&Check>, Vec<&Check>) =
            can.into_iter().partition(|check| check.by == By::Probe);
        self.fill(&cannot, Outcome::NotApplicable, "no GPU was given");
        self.probe(&probes, gpus, boards, python)?;
        self.torch(&torch, gpus, python)?;
        Ok(self.follower.report)
    }

    /// Checks the driver; sconce itself is the program.
    fn probe(
        &mut self,
        checks: &[&Check],
        gpus: usize,
        boards: usize,
        python: Option<&str>,
    ) -> Result<(), Error> {
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
    fn torch(&mut self, checks: &[&Check], gpus: usize, python: Option<&str>) -> Result<(), Error> {
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
    fn attend(&mut self, command: &[&str], checks: &[&Check]) -> Result<Option<Captured>, Error> {
        self.container.command = command.iter().map(|word| (*word).to_owned()).collect();
        self.container.command.extend(checks.iter().map(|check| check.order()));
        let running = AtomicBool::new(true);
        let mut notes = Vec::new();
        let (container, follower) = (&self.container, &mut self.follower);
        let (result, followed) = thread::scope(|scope| {
            let follower = scope.spawn(|| follower.follow(&running, checks));
            let stop = Stop(&running);
            let result = sconce_run::run_captured(container, MOST_OUTPUT, &mut |text| {
                notes.push(text.to_owned());
            });
            drop(stop);
            (result, follower.join())
        });
        notes.iter().for_each(|note| self.follower.listener.note(note));
        match result {
            Ok(captured) => match followed {
                Ok(Ok(())) => Ok(Some(captured)),
                Ok(Err(error)) => Err(Error::Read(error)),
                Err(_) => Err(Error::Panicked),
            },
            Err(sconce_run::Error::NotFound(_)) => Ok(None),
            Err(error) => Err(Error::Run(error)),
        }
    }

    /// Gives checks without an answer this one.
    fn fill(&mut self, checks: &[&Check], verdict: Outcome, reason: &str) {
        for answer in self.follower.report.fill(checks, verdict, reason) {
            self.follower.listener.answer(&answer);
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

/// Reads answers while they are written, and passes them on.
struct Follower<'a> {
    results: File,
    reader: Reader,
    report: Report,
    listener: &'a mut dyn Listener,
}

impl Follower<'_> {
    /// Follows until the container has ended and all is read.
    fn follow(&mut self, running: &AtomicBool, checks: &[&Check]) -> std::io::Result<()> {
        let mut first = true;
        loop {
            // Asked before reading: what was written before the end is read after it.
            let last = !running.load(Ordering::Acquire);
            let found = self.read()?;
            if !found.is_empty() || first {
                first = false;
                found.into_iter().for_each(|found| self.take(found));
                let next = checks.iter().find(|check| !self.report.has(check.name));
                match next.filter(|_| !last) {
                    Some(next) => self.listener.waiting(next),
                    None => self.listener.idle(),
                }
            }
            if last {
                self.listener.idle();
                return Ok(());
            }
            thread::sleep(LOOK);
        }
    }

    /// What has been written since.
    fn read(&mut self) -> std::io::Result<Vec<Result<Answer, Malformed>>> {
        let mut found = Vec::new();
        let reader = &mut self.reader;
        tail::read(&mut self.results, &mut |bytes| found.extend(reader.read(bytes)))?;
        Ok(found)
    }

    fn take(&mut self, found: Result<Answer, Malformed>) {
        match found {
            Ok(answer) => {
                self.listener.answer(&answer);
                self.report.answers.push(answer);
            }
            Err(malformed) => {
                let words = malformed.to_string();
                self.listener.note(&words);
                self.report.remarks.push(words);
            }
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
