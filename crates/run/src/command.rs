//! Commands that run in a container beside its own, and copies: what their processes say, and to whom.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::process::{Pid, Signal};

use crate::control::{self, Message};
use crate::os;

/// The most messages of a process that are read after its end: one that was taken over may send without end.
pub(crate) const MOST_LAST_WORDS: usize = 64;

/// A command beside the container's own, or a copy: the process of ours that waits for it or does it.
pub(crate) struct Command {
    pub(crate) pid: Pid,
    pub(crate) life: OwnedFd,
    /// The client that started it; gets a message when it ends.
    pub(crate) client: OwnedFd,
    /// What the process says to the client, which that one must not be connected to: root inside sees the command at
    /// once, and would find the client's process behind its socket.
    pub(crate) says: Option<OwnedFd>,
    /// The command's own process, a pidfd.
    pub(crate) own: Option<OwnedFd>,
}

impl Command {
    /// Ends the command's own process, of which only this one may be able to: the one that waits for it has
    /// no more privileges than it. One that ended before that one is gone already.
    pub(crate) fn end_own(&self) {
        if let Some(own) = &self.own {
            let _ = rustix::process::pidfd_send_signal(own, Signal::KILL);
        }
    }

    /// Hands one message on; false where there is none. Its process comes first, and then how it began, once: whoever took
    /// the process over may send more, which is for nobody.
    pub(crate) fn hand_on(&mut self) -> bool {
        let Some(says) = self.says.as_ref().filter(|says| os::readable(says)) else { return false };
        match control::receive_with(says) {
            Ok(Some((Message::Take, mut sent))) if self.own.is_none() => {
                self.own = sent.pop().filter(|process| self.is_parent_of(process));
            }
            Ok(Some((
                message @ (Message::Started
                | Message::Terminal(_)
                | Message::ExecFailed(_)
                | Message::Failed { .. }),
                _,
            ))) => {
                drop(control::send(&self.client, &message));
                self.says = None;
            }
            Ok(Some(_)) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Ok(None) | Err(_) => self.says = None,
        }
        true
    }

    /// The number of its own process as the container counts.
    pub(crate) fn number(&self) -> Option<i32> {
        numbers_of(self.own.as_ref()?)?.pop()
    }

    /// Whether the process behind a pidfd was forked by the one that waits for it, as far as that can be seen: what is sent in its
    /// place may be a pidfd of another, which would be ended for it.
    fn is_parent_of(&self, process: &OwnedFd) -> bool {
        let parent = || {
            let number = *numbers_of(process)?.first()?;
            let status = fs::read_to_string(format!("/proc/{number}/status")).ok()?;
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
            parent.trim().parse::<i32>().ok()
        };
        parent().is_none_or(|parent| parent == self.pid.as_raw_nonzero().get())
    }

    /// Hands on what is left when the process has ended.
    pub(crate) fn hand_on_the_rest(&mut self) {
        for _ in 0..MOST_LAST_WORDS {
            if !self.hand_on() {
                return;
            }
        }
    }
}

/// The numbers of the process behind a pidfd, from the outermost namespace in (pidfd_open(2)).
fn numbers_of(process: &OwnedFd) -> Option<Vec<i32>> {
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd())).ok()?;
    let numbers = about.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_whitespace().map(|number| number.parse().ok()).collect()
}
