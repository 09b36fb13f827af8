//! Whether a container's shim was stopped, by SIGSTOP or a debugger: it answers nothing then, and whoever waits for
//! it should know why.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::folder::Listed;

/// How often is looked.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// A shim that is looked at now and then.
#[derive(Debug)]
pub struct Pulse {
    /// The container in a person's words.
    name: String,
    /// The shim, as this process counts. It lives as long as the connection to it, so that the number is its own.
    shim: i32,
    next: Instant,
    /// It was stopped when it was last looked at.
    stopped: bool,
    said: bool,
    /// What keeps the number from being another's.
    _connection: Option<OwnedFd>,
}

impl Pulse {
    /// Of a shim that this process has started or is connected to.
    pub(crate) fn of(name: &str, shim: i32) -> Self {
        let next = Instant::now() + LOOK;
        let name = name.to_owned();
        Self { name, shim, next, stopped: false, said: false, _connection: None }
    }

    /// A sentence where the shim was found stopped twice in a row, once; and anew after it went on.
    pub fn word(&mut self) -> Option<String> {
        if Instant::now() < self.next {
            return None;
        }
        self.next = Instant::now() + LOOK;
        let before = std::mem::replace(&mut self.stopped, is_stopped(self.shim));
        self.said &= self.stopped;
        if !(before && self.stopped) || self.said {
            return None;
        }
        self.said = true;
        let (name, shim) = (&self.name, self.shim);
        Some(format!(
            "the shim of {name}, process {shim}, is stopped: nothing is heard of the container until `kill -CONT {shim}`"
        ))
    }
}

impl Listed {
    /// The container as a person calls it.
    pub(crate) fn called(&self) -> &str {
        self.container.name.as_deref().unwrap_or(&self.id)
    }

    /// What says when its shim is stopped, for who waits for something else of it. Nothing where it has ended.
    pub fn pulse(&self) -> Option<Pulse> {
        let connection = self.reach_shim().ok()?;
        let mut pulse = Pulse::of(self.called(), shim_of(&connection)?);
        // It is said at once where it is so already.
        (pulse.stopped, pulse.next) = (is_stopped(pulse.shim), Instant::now());
        pulse._connection = Some(connection);
        Some(pulse)
    }
}

/// The shim that listens to a socket that is connected to it, as this process counts (unix(7), SO_PEERCRED).
pub(crate) fn shim_of(socket: impl AsFd) -> Option<i32> {
    let peer = rustix::net::sockopt::socket_peercred(socket).ok()?;
    Some(peer.pid.as_raw_nonzero().get())
}

/// A process was stopped by a signal or by who traces it.
pub(crate) fn is_stopped(process: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // proc_pid_stat(5): the name in parentheses may hold anything; the state follows the last one.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}
