//! What is done with a container that is there.

use std::path::Path;
use std::time::{Duration, Instant};

use libcontainer::container::ContainerStatus;
use libcontainer::notify_socket::NotifySocket;
use libcontainer::oci_spec::runtime::{Hook, LinuxResources};
use serde_json::Value;

use super::bundle::{Bundle, CONFIG};
use super::create::NOTIFY;
use super::error::Error;
use super::folder::{self, Folder};
use super::record::{Phase, Process, Record};
use super::{Runtime, chain};

/// How long a process that was killed may take to its end.
const ENDS: Duration = Duration::from_secs(10);

impl Runtime {
    /// Lets a container's command begin.
    ///
    /// # Errors
    /// Where it is not `created`.
    pub fn start(&self, id: &str) -> Result<(), Error> {
        let folder = Folder::find(&self.root, id)?;
        let mut record = folder.record()?;
        expect(&record, "start", "created")?;
        let mut notify = NotifySocket::new(folder.path.join(NOTIFY));
        notify.notify_container_start().map_err(|error| Error::Container(chain(&error)))?;
        record.phase = Phase::Running;
        record.write(&folder.path)?;
        let hooks = self.bundle_of(&folder, &record).and_then(|bundle| bundle.spec.hooks().clone());
        self.run_hooks(
            "poststart",
            hooks.and_then(|hooks| hooks.poststart().clone()),
            &record,
            &folder.path,
        );
        Ok(())
    }

    /// Its state, as the specification has it.
    ///
    /// # Errors
    /// Where there is no such container.
    pub fn state(&self, id: &str) -> Result<Value, Error> {
        Ok(Record::read(&folder::place(&self.root, id)?)?.state())
    }

    /// The states of all of the caller's containers.
    ///
    /// # Errors
    /// Where the folder can't be read.
    pub fn list(&self) -> Result<Vec<Value>, Error> {
        let names = folder::names(&self.root)?;
        Ok(names.iter().filter_map(|name| self.state(name).ok()).collect())
    }

    /// Sends a signal to its first process, or to all.
    ///
    /// # Errors
    /// Where nothing of it runs.
    pub fn kill(&self, id: &str, signal: i32, all: bool) -> Result<(), Error> {
        let record = Record::read(&folder::place(&self.root, id)?)?;
        let mut reached = false;
        if all {
            for pid in record.processes() {
                reached |= Process::of(pid).map_or(Ok(false), |process| process.signal(signal))?;
            }
        }
        if !reached && let Some(process) = record.process {
            reached = process.signal(signal)?;
        }
        if signal == libc::SIGKILL && record.phase == Phase::Paused {
            // Under cgroup v1 what is frozen does not end.
            record.freeze(false)?;
        }
        match reached {
            true => Ok(()),
            false => Err(status(&record, "kill", "created or running")),
        }
    }

    /// Removes a container that has stopped or was never started; with `force` in any state, and one that is not there.
    ///
    /// # Errors
    /// Where it runs.
    pub fn delete(&self, id: &str, force: bool) -> Result<(), Error> {
        let folder = match Folder::find(&self.root, id) {
            Err(Error::NoContainer { .. }) if force => return Ok(()),
            other => other?,
        };
        let record = match folder.record() {
            // One whose `create` was killed; nothing is known of it but its folder.
            Err(Error::Document { .. }) if force => return folder.remove(),
            other => other?,
        };
        match record.status() {
            "stopped" | "created" => {}
            _ if force => {}
            _ => return Err(status(&record, "delete", "stopped or created")),
        }
        if record.phase == Phase::Paused {
            record.freeze(false)?;
        }
        if let Some(process) = record.living() {
            process.signal(libc::SIGKILL)?;
            let until = Instant::now() + ENDS;
            while process.lives() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(2));
            }
            if process.lives() {
                let words = format!(
                    "process {} of container '{id}' was killed and does not end",
                    process.pid
                );
                return Err(Error::Container(words));
            }
        }
        record.remove_cgroups()?;
        let hooks = self.bundle_of(&folder, &record).and_then(|bundle| bundle.spec.hooks().clone());
        let stopped = Record { process: None, ..record };
        self.run_hooks(
            "poststop",
            hooks.and_then(|hooks| hooks.poststop().clone()),
            &stopped,
            &folder.path,
        );
        folder.remove()
    }

    /// Freezes its processes, or lets them go on.
    ///
    /// # Errors
    /// Where it does not run, or is not paused.
    pub fn pause(&self, id: &str, paused: bool) -> Result<(), Error> {
        let folder = Folder::find(&self.root, id)?;
        let mut record = folder.record()?;
        match paused {
            true => expect(&record, "pause", "running")?,
            false => expect(&record, "resume", "paused")?,
        }
        record.freeze(paused)?;
        record.phase = if paused { Phase::Paused } else { Phase::Running };
        record.write(&folder.path)
    }

    /// Changes its limits to those of a `linux.resources` document.
    ///
    /// # Errors
    /// Where it has stopped, or the document is none.
    pub fn update(&self, id: &str, resources: &[u8]) -> Result<(), Error> {
        let folder = Folder::find(&self.root, id)?;
        let record = folder.record()?;
        if record.living().is_none() {
            return Err(status(&record, "update", "created or running"));
        }
        let resources: LinuxResources = sconce_open::json(resources).map_err(|error| {
            Error::Document { path: "resources".into(), why: error.to_string() }
        })?;
        record.limit(&resources)
    }

    /// The numbers of its processes.
    ///
    /// # Errors
    /// Where there is no such container.
    pub fn processes(&self, id: &str) -> Result<Vec<i32>, Error> {
        Ok(Record::read(&folder::place(&self.root, id)?)?.processes())
    }

    /// The configuration it was made from.
    fn bundle_of(&self, folder: &Folder, record: &Record) -> Option<Bundle> {
        let read = Bundle::read(&folder.path.join(CONFIG), &record.bundle);
        read.inspect_err(|error| self.warn(&format!("no hooks are run: {error}"))).ok()
    }

    /// Runs hooks whose failure stops nothing (runtime.md, "Lifecycle"): each is told.
    pub(super) fn run_hooks(
        &self,
        kind: &str,
        hooks: Option<Vec<Hook>>,
        record: &Record,
        folder: &Path,
    ) {
        let status = match record.status() {
            "stopped" | "creating" => ContainerStatus::Stopped,
            _ => ContainerStatus::Running,
        };
        for hook in hooks.unwrap_or_default() {
            let name = hook.path().display().to_string();
            let container = record.for_hooks(folder, status);
            let ran = container.and_then(|container| {
                libcontainer::hooks::run_hooks(
                    Some(&vec![hook]),
                    Some(&container.state),
                    None,
                    None,
                    None,
                )
                .map_err(|error| Error::Container(chain(&error)))
            });
            if let Err(error) = ran {
                self.warn(&format!("the {kind} hook {name} failed: {error}"));
            }
        }
    }
}

pub(super) fn status(record: &Record, asked: &'static str, needed: &'static str) -> Error {
    Error::Status { id: record.id.clone(), status: record.status().to_owned(), asked, needed }
}

pub(super) fn expect(
    record: &Record,
    asked: &'static str,
    needed: &'static str,
) -> Result<(), Error> {
    match record.status() == needed {
        true => Ok(()),
        false => Err(status(record, asked, needed)),
    }
}
