//! Processes that a program has left behind: also those in a session of their own, which ending its process group does not reach.
//!
//! A process whose parent ends becomes a child of the next one above that takes such (prctl(2), `PR_SET_CHILD_SUBREAPER`). So this process takes
//! them, and ends them when what it has started has ended.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid,
};

/// How long what was killed may take to end: one that the kernel can't end stays.
const PATIENCE: Duration = Duration::from_secs(2);

/// What becomes a child of this process from now on, and was not started by it.
pub(crate) struct Orphans {
    own: BTreeSet<i32>,
}

impl Orphans {
    /// Takes them from here on. What this process has started before is its own.
    pub(crate) fn take() -> Self {
        // Linux has had it since 3.4; without it they go to another process, as before.
        let _ = set_child_subreaper(Some(getpid()));
        Self { own: children().into_iter().collect() }
    }

    /// Ends them all, those that they leave in turn too. Nothing else that this process started may be running.
    pub(crate) fn end(&self) {
        let end = Instant::now() + PATIENCE;
        loop {
            let left: Vec<Pid> = children()
                .into_iter()
                .filter(|pid| !self.own.contains(pid))
                .filter_map(Pid::from_raw)
                .collect();
            if left.is_empty() || Instant::now() > end {
                return;
            }
            for pid in left {
                // It has its number until it is waited for, which only this process does.
                let _ = kill_process(pid, Signal::KILL);
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The children of this process, those that have ended and were not waited for too (proc(5), `/proc/PID/stat`).
fn children() -> Vec<i32> {
    let own = getpid().as_raw_nonzero().get();
    let parent = |stat: &str| -> Option<i32> {
        // The second field is a name that may hold anything; behind its bracket come the state and the parent.
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let Ok(folder) = fs::read_dir("/proc") else { return Vec::new() };
    folder
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
            parent(&String::from_utf8_lossy(&stat)) == Some(own)
        })
        .collect()
}
