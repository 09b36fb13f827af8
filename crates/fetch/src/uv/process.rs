//! Programs that are run for a question. Where the question has somebody who can take it back, a program is ended with all
//! that it started: who waits for an answer of two minutes that nobody wants keeps others waiting.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

/// Says that nobody wants an answer any more.
pub type Stop = Arc<AtomicBool>;

/// How often it is looked whether a program has ended or is to.
const LOOK: Duration = Duration::from_millis(20);

/// Why a program gave no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// It can't be run.
    Io(io::Error),
    /// It was stopped.
    Stopped,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The process groups that run.
static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Ends all that run in process groups of their own: for the end of this process, which reaches them in no other way.
pub fn end_all() {
    running().iter().for_each(|group| end(*group));
}

/// Runs a program to its end with this on its standard input. Without `stop` it stays in our process group, and Ctrl-C reaches
/// it; with it, it is the first of a group of its own, which ends when `stop` is set.
pub(super) fn output(
    command: &mut Command,
    input: &str,
    stop: Option<&Stop>,
) -> Result<Output, Failed> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
        return Err(Failed::Stopped);
    }
    let (mut child, group) = match stop {
        None => (command.spawn()?, None),
        Some(_) => Group::begin(command.process_group(0)).map(|(child, it)| (child, Some(it)))?,
    };
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        // It may refuse its arguments before it reads: what it says then matters, not the broken pipe.
        scope.spawn(|| pipes.0.map(|mut stdin| stdin.write_all(input.as_bytes())));
        let stdout = scope.spawn(|| all(pipes.1));
        let stderr = scope.spawn(|| all(pipes.2));
        let status = match (stop, &group) {
            (Some(stop), Some(group)) => wait(&mut child, group, stop)?,
            _ => child.wait()?,
        };
        // What it has left behind holds the pipes open.
        drop(group);
        let read = |thread: thread::ScopedJoinHandle<'_, io::Result<Vec<u8>>>| {
            thread.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
        };
        Ok(Output { status, stdout: read(stdout)?, stderr: read(stderr)? })
    })
}

/// Waits for the first of a group, or ends them all.
fn wait(child: &mut Child, group: &Group, stop: &Stop) -> Result<ExitStatus, Failed> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if stop.load(Ordering::Relaxed) {
            end(group.0);
            child.wait()?;
            return Err(Failed::Stopped);
        }
        thread::sleep(LOOK);
    }
}

/// A process group, until it is dropped.
struct Group(i32);

impl Group {
    /// Starts its first process. Nobody who ends all comes between that and the list.
    fn begin(command: &mut Command) -> io::Result<(Child, Self)> {
        let mut running = running();
        let child = command.spawn()?;
        let id = i32::try_from(child.id()).map_err(io::Error::other)?;
        running.insert(id);
        Ok((child, Self(id)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        running().remove(&self.0);
        end(self.0);
    }
}

fn running() -> MutexGuard<'static, BTreeSet<i32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a group, of which nothing may be left.
fn end(group: i32) {
    if let Some(group) = Pid::from_raw(group) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn all(pipe: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn an_answer_is_whole_with_and_without_somebody_who_can_stop_it() {
        // More than a pipe holds, in and out.
        let input = "x".repeat(300_000);
        for stop in [None, Some(Stop::default())] {
            let answer = output(&mut shell("cat; echo no >&2; exit 3"), &input, stop.as_ref());
            let answer = answer.unwrap_or_else(|error| panic!("{error:?}"));
            assert_eq!(answer.status.code(), Some(3));
            assert!(answer.stdout == input.as_bytes() && answer.stderr == b"no\n");
        }
        assert!(matches!(output(&mut Command::new("/none"), "", None), Err(Failed::Io(_))));
        let set = Stop::new(true.into());
        assert!(matches!(output(&mut shell("true"), "", Some(&set)), Err(Failed::Stopped)));
    }

    #[test]
    fn what_it_started_ends_with_it() {
        let begun = Instant::now();
        let stop = Stop::default();
        thread::scope(|scope| {
            // The shell's own child has its pipes as well.
            let script = "sleep 100 & echo $!; sleep 100; true";
            let ran = scope.spawn(|| output(&mut shell(script), "", Some(&stop)));
            thread::sleep(Duration::from_millis(300));
            stop.store(true, Ordering::Relaxed);
            assert!(matches!(ran.join().unwrap(), Err(Failed::Stopped)));
        });
        // Nor does what it leaves behind keep its answer.
        let left = output(&mut shell("sleep 100 & echo done"), "", Some(&Stop::default()));
        assert!(left.is_ok_and(|left| left.stdout == b"done\n"));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
