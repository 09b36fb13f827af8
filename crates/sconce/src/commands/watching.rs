//! `sconce run` tells of errors of its GPUs: a process beside it asks NVML, so that a driver that hangs or crashes
//! costs the run nothing.

use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sconce_monitor::sample::Sample;
use sconce_monitor::sampler::{self, Options};
use sconce_monitor::watch::{Change, Severity, Watch};

use crate::commands::monitor_output::line;
use crate::commands::own;
use crate::error::Failure;

/// How often the GPUs are asked: an error is told of by NVML when it happens.
const INTERVAL: Duration = Duration::from_secs(2);
/// Before it begins: a short command is over by then, and a long one is not slowed while it starts.
const BEFORE: Duration = Duration::from_secs(1);

/// The process, which ends with this.
pub struct Watching(Child);

impl Watching {
    /// Watches the GPUs on these buses. That it can't be started is no reason not to run.
    pub fn begin(buses: &[&str]) -> Option<Self> {
        if buses.is_empty() {
            return None;
        }
        let mut command = Command::new(std::env::current_exe().ok()?);
        command.args(["monitor", "--tell", &buses.join(",")]);
        // Ctrl-C is for the container.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
        command.spawn().ok().map(Self)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What [`Watching`] starts: tells of what is wrong with the GPUs on these buses, until whoever started it is gone.
pub fn tell(buses: &[String], hold: Option<Duration>) -> Result<ExitCode, Failure> {
    let parent = rustix::process::getppid();
    std::thread::sleep(BEFORE);
    let mut watch = Watch::new(hold);
    // A terminal of the container's is raw.
    let end = if std::io::stderr().is_terminal() { "\r\n" } else { "\n" };
    let options = Options::new(Box::new(own::library), Box::new(Vec::new));
    sampler::run(Options { interval: INTERVAL, pods: None, ..options }, |sample: Sample| {
        let sample = Arc::new(sample);
        let ours = |uuid: &str| {
            sample.gpus.iter().any(|gpu| gpu.uuid == uuid && buses.contains(&gpu.bus_id))
        };
        for change in watch.push(Arc::clone(&sample)) {
            if let Change::Begins(finding) = change
                // An error is one, also where ending its program is all that follows.
                && (finding.severity > Severity::Note || finding.rule == "xid")
                && ours(&finding.uuid)
            {
                let word = finding.severity.word();
                eprint!("sconce: {word}: {}{end}  hint: {}{end}", line(&finding), finding.action);
            }
        }
        rustix::process::getppid() == parent
    });
    Ok(ExitCode::SUCCESS)
}
