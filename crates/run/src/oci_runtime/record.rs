//! What is known of a container, and its status (runtime-spec, runtime.md "State").

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use libcontainer::container::{Container, ContainerStatus};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{Doing, Error};

/// The version of the specification that states and `features` name.
pub(super) const VERSION: &str = "1.2.0";
/// The file of a record.
pub(super) const NAME: &str = "state.json";

/// How far a container has come, as the runtime brought it there; what became of its process is asked of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    Creating,
    Created,
    Running,
    Paused,
}

/// A process that no other can be taken for: numbers are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// When it began, in ticks since the machine's start (proc_pid_stat(5)).
    pub(super) began: u64,
}

impl Process {
    pub(super) fn of(pid: i32) -> Option<Self> {
        let (began, _) = look(pid)?;
        Some(Self { pid, began })
    }

    pub(super) fn lives(self) -> bool {
        look(self.pid)
            .is_some_and(|(began, state)| began == self.began && !matches!(state, 'Z' | 'X'))
    }

    /// Sends a signal; false where the process has ended.
    pub(super) fn signal(self, number: i32) -> Result<bool, Error> {
        let what = || format!("sending signal {number} to process {}", self.pid);
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(false) };
        let Ok(open) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
            return Ok(false);
        };
        // Looked at once it is held: the number can't go to another any more.
        if !self.lives() {
            return Ok(false);
        }
        let signal = signal(number)
            .ok_or_else(|| Error::Container(format!("there is no signal {number}")))?;
        match rustix::process::pidfd_send_signal(&open, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(false),
            other => other.map(|()| true).doing(what()),
        }
    }
}

fn signal(number: i32) -> Option<Signal> {
    crate::signals::numbered(number)
}

/// When a process began, and its state.
fn look(pid: i32) -> Option<(u64, char)> {
    let about = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The fields follow the name, which may have anything in it; the third is the first of them.
    let fields: Vec<&str> = about.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.get(19)?.parse().ok()?, fields.first()?.chars().next()?))
}

/// What the runtime writes down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) bundle: PathBuf,
    pub(super) root: PathBuf,
    pub(super) created: String,
    pub(super) owner: u32,
    pub(super) phase: Phase,
    pub(super) process: Option<Process>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) cgroup: PathBuf,
    pub(super) systemd: bool,
}

impl Record {
    pub(super) fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(NAME);
        crate::folder::read(folder, NAME).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::Document {
                path: folder.to_owned(),
                why: "it was never made whole: its `create` was stopped".to_owned(),
            },
            _ => Error::Document { path, why: error.to_string() },
        })
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), Error> {
        Ok(crate::folder::write(folder, NAME, self)?)
    }

    /// Its status, `paused` beside those of the specification.
    pub(super) fn status(&self) -> &'static str {
        match (self.phase, self.process) {
            (Phase::Creating, _) => "creating",
            (_, process) if !process.is_some_and(Process::lives) => "stopped",
            (Phase::Created, _) => "created",
            (Phase::Paused, _) => "paused",
            (Phase::Running, _) => "running",
        }
    }

    /// The process, where it lives.
    pub(super) fn living(&self) -> Option<Process> {
        self.process.filter(|process| process.lives())
    }

    /// As `state` prints it: the specification's fields, and runc's `rootfs`, `created` and `owner`.
    pub(super) fn state(&self) -> Value {
        let mut state = json!({
            "ociVersion": VERSION,
            "id": self.id,
            "status": self.status(),
            "pid": self.living().map_or(0, |process| process.pid),
            "bundle": self.bundle,
            "rootfs": self.root,
            "created": self.created,
            "owner": owner(self.owner),
        });
        if !self.annotations.is_empty() {
            state["annotations"] = json!(self.annotations);
        }
        state
    }

    /// As libcontainer hands it to hooks.
    pub(super) fn for_hooks(
        &self,
        folder: &Path,
        status: ContainerStatus,
    ) -> Result<Container, Error> {
        let pid = self.process.map(|process| process.pid);
        let container = Container::new(&self.id, status, pid, &self.bundle, folder);
        let mut container = container.map_err(|error| Error::Container(super::chain(&error)))?;
        container.set_annotations(Some(self.annotations.clone().into_iter().collect()));
        Ok(container)
    }
}

/// The name of a user, as /etc/passwd of this machine has it.
fn owner(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    crate::user::find(&passwd, |entry| entry.uid == uid)
        .map_or_else(String::new, |entry| entry.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_again() {
        let me = Process::of(std::process::id().cast_signed()).expect("this process");
        assert!(me.lives());
        assert!(!Process { began: me.began + 1, ..me }.lives(), "another of the same number");
        assert!(!Process { began: me.began + 1, ..me }.signal(15).expect("looked at"));
    }
}
