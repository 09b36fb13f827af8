//! Figures in a container, or on this machine as it is: the program that measures is started, and its answers are read while
//! they are written.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use sconce_bench::answer::{Gpu, Line, Reader};
use sconce_bench::measure::Effort;
use sconce_bench::{Asked, FIGURES, GPUS, GROUPS, Group, PROGRAM};
use sconce_run::{Container, Exit, Interrupts, Shim};

use crate::error::Error;
use crate::measure;
use crate::orphans::Orphans;
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
    /// What CUDA is to show of this machine's GPUs, without a container (`CUDA_VISIBLE_DEVICES`, in the order of their buses).
    pub visible: Option<String>,
}

/// A program of its own, with a file of answers of its own: what an image's Python starts can write to any file that it
/// finds, and finds those of its own part only.
struct Part {
    /// It says which GPUs there are.
    lists: bool,
    groups: Vec<Group>,
}

/// Seconds that listing the GPUs may take: CUDA starts them, which takes some seconds each where none keeps them ready.
const LISTING: u64 = 45;

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

    /// What CUDA's libraries measure, and then what Python does.
    fn parts(&self) -> Vec<Part> {
        let (by_torch, native): (Vec<Group>, Vec<Group>) =
            self.groups().into_iter().partition(|group| group.by_torch());
        let lists = !native.is_empty() || by_torch.iter().any(|group| !group.without_gpu());
        let parts = [Part { lists, groups: native }, Part { lists: false, groups: by_torch }];
        parts.into_iter().filter(|part| part.lists || !part.groups.is_empty()).collect()
    }

    /// The command line of the program, sconce and the other files being in the folder `place`.
    fn command(&self, part: &Part, program: &str, place: &str) -> Vec<String> {
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
        if part.lists {
            command.push(format!("{GPUS}:{LISTING}"));
        }
        for group in &part.groups {
            let limit = if *group == Group::Burn { limit + self.burn.as_secs() } else { limit };
            command.push(format!("{}:{limit}", group.name()));
        }
        command
    }
}

impl Measured {
    /// The GPUs that there are.
    pub fn gpus(&self) -> impl Iterator<Item = &Gpu> {
        self.lines.iter().filter_map(|line| match line {
            Line::Gpu(gpu) => Some(gpu),
            _ => None,
        })
    }

    /// What of a part can be measured after what was measured: without a GPU, what needs none.
    fn leaves(&self, part: Part) -> Option<Part> {
        let blind = !part.lists && self.gpus().next().is_none();
        let groups = part.groups.into_iter().filter(|group| !blind || group.without_gpu());
        let part = Part { groups: groups.collect(), ..part };
        (part.lists || !part.groups.is_empty()).then_some(part)
    }

    /// What a part may say.
    fn asks(&self, part: &Part, order: &Order) -> Asked {
        let asked = Asked::of(&part.groups, &order.only);
        let watches = part.groups.iter().any(|group| !group.without_gpu());
        let asked = if watches { asked.and_nvml() } else { asked };
        if part.lists { asked.and_gpus() } else { asked.on(self.gpus().map(|gpu| gpu.gpu)) }
    }

    fn add(&mut self, other: Self) {
        self.lines.extend(other.lines);
        self.remarks.extend(other.remarks);
        self.interrupted |= other.interrupted;
    }
}

/// Measures in a container, a new one for each part; what it needs is written into `folder`.
///
/// # Errors
/// A container that can't be started, answers that can't be read.
pub fn inside(
    container: &Container,
    folder: &Path,
    order: &Order,
    listener: &mut dyn Listener,
) -> Result<Measured, Error> {
    let mut all = Measured::default();
    for (number, part) in order.parts().into_iter().enumerate() {
        let Some(part) = all.leaves(part) else { continue };
        let stage = Stage::make(&folder.join(number.to_string()), PROGRAM)?;
        let mut container = container.clone();
        container.volumes.extend(stage.volumes);
        container.command = order.command(&part, &format!("{INSIDE}/sconce"), INSIDE);
        let mut notes = Vec::new();
        let asked = all.asks(&part, order);
        let (exit, mut measured) = follow(&stage.results, asked, listener, || {
            let shim = Shim::spawn(&container.folder)?;
            sconce_run::run(&container, shim, Vec::new(), &mut |text| notes.push(text.to_owned()))
        })?;
        notes.iter().for_each(|note| listener.note(note));
        match exit? {
            Exit::Code(0) => {}
            Exit::Signal(libc::SIGINT | libc::SIGTERM | libc::SIGHUP) => {
                measured.interrupted = true
            }
            Exit::Code(code) => measured.remarks.push(format!("it ended with exit code {code}")),
            Exit::Signal(signal) => measured.remarks.push(format!("it ended with signal {signal}")),
        }
        all.add(measured);
        if all.interrupted {
            break;
        }
    }
    Ok(all)
}

/// Measures on this machine as it is, without a container. `interrupts` is the caller's, who has to print what was measured
/// when a signal came.
///
/// # Errors
/// The program can't be started, answers that can't be read.
pub fn here(
    folder: &Path,
    order: &Order,
    interrupts: &Interrupts,
    listener: &mut dyn Listener,
) -> Result<Measured, Error> {
    let mut all = Measured::default();
    for (number, part) in order.parts().into_iter().enumerate() {
        let Some(part) = all.leaves(part) else { continue };
        all.add(part_here(
            &folder.join(number.to_string()),
            order,
            (&part, &all),
            interrupts,
            listener,
        )?);
        if all.interrupted {
            break;
        }
    }
    Ok(all)
}

/// The GPUs that CUDA shows on this machine, and nothing measured.
///
/// # Errors
/// As [`here`].
pub fn gpus_here(
    folder: &Path,
    order: &Order,
    interrupts: &Interrupts,
    listener: &mut dyn Listener,
) -> Result<Measured, Error> {
    let part = Part { lists: true, groups: Vec::new() };
    part_here(&folder.join("gpus"), order, (&part, &Measured::default()), interrupts, listener)
}

fn part_here(
    folder: &Path,
    order: &Order,
    (part, before): (&Part, &Measured),
    interrupts: &Interrupts,
    listener: &mut dyn Listener,
) -> Result<Measured, Error> {
    let stage = Stage::make(folder, PROGRAM)?;
    let orphans = Orphans::take();
    let program = std::env::current_exe().map_err(Error::Myself)?;
    let command = order.command(part, &program.to_string_lossy(), &folder.to_string_lossy());
    let (program, arguments) = command.split_first().map_or(("", [].as_slice()), |(a, b)| (a, b));
    let (status, mut measured) =
        follow(&stage.results, before.asks(part, order), listener, || {
            let mut command = Command::new(program);
            // A group of its own: what is measured ends as a whole.
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
            if let Some(visible) = &order.visible {
                command.env("CUDA_DEVICE_ORDER", "PCI_BUS_ID").env("CUDA_VISIBLE_DEVICES", visible);
            }
            ended(command.spawn()?, interrupts)
        })?;
    orphans.end();
    let status: ExitStatus = status.map_err(Error::Start)?;
    measured.interrupted = interrupts.came().is_some();
    if !status.success() && !measured.interrupted {
        measured.remarks.push(format!("it ended with {}", crate::child::how(status)));
    }
    Ok(measured)
}

/// Waits for the end of a process, and ends with it what it left running in its group.
fn ended(mut child: Child, interrupts: &Interrupts) -> io::Result<ExitStatus> {
    let pid = Pid::from_child(&child);
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    // It is not waited for before its group was ended: until then nobody else has its number.
    while interrupts.came().is_none() && waitid(WaitId::Pid(pid), ended)?.is_none() {
        thread::sleep(LOOK);
    }
    // The group may be gone already.
    _ = kill_process_group(pid, Signal::KILL);
    child.wait()
}

/// Remarks that are kept on what was no answer.
const MOST_REMARKS: usize = 100;

/// Does `work`, and reads what is written to `results` until it is done.
fn follow<T: Send>(
    results: &Path,
    mut asked: Asked,
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
                    let one = one.map_err(|malformed| malformed.to_string());
                    match one.and_then(|line| asked.take(&line).map(|()| line)) {
                        Ok(line) => {
                            listener.line(&line);
                            measured.lines.push(line);
                        }
                        Err(refused) if measured.remarks.len() < MOST_REMARKS => {
                            listener.note(&refused);
                            measured.remarks.push(refused);
                        }
                        Err(_) => {}
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
