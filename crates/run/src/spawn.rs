//! Starts a shim: a fork that drops everything of the caller's and executes this program anew.
//!
//! The forked process leaves the caller's session, groups, keyring and descriptors; without root it enters
//! a user namespace; then it executes a sealed copy of this program ([`crate::sealed`]) with an empty
//! environment. So nothing of the caller's memory is near the container, and the program that runs there
//! is none that a container could change. It then waits for its container: executing a program takes
//! longer than anything else of a start, and goes on beside the caller's own preparations.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use crate::cgroup::Groups;
use crate::control::{self, Begin, MOST_FDS, Message};
use crate::error::{Doing, Error};
use crate::ids::{self, Power};
use crate::{os, sealed, signals, streams};

/// `argv[0]` of a shim.
pub(crate) const NAME: &str = "sconce-shim";

/// Where a shim finds the socket to its caller.
pub(crate) const CONTROL: RawFd = 3;

/// A shim that waits for its container. It ends when this is dropped, or with this process.
#[derive(Debug)]
pub struct Shim {
    pub(crate) control: OwnedFd,
    pub(crate) power: Power,
    /// What the user should know of the ids in its user namespace.
    pub(crate) note: Option<String>,
    /// None once it is left to itself, or collected.
    process: Option<Pid>,
}

/// What a container takes of its caller.
pub(crate) struct Belongings<'a> {
    /// The container's folder, and the lock on it.
    pub(crate) folder: &'a Path,
    pub(crate) lock: &'a OwnedFd,
    pub(crate) streams: &'a [OwnedFd; 3],
    /// Locks that it keeps open until it ends.
    pub(crate) held: &'a [OwnedFd],
    pub(crate) groups: &'a Groups,
    /// Rows and columns of the terminal that the caller shows.
    pub(crate) window: Option<(u16, u16)>,
}

impl Shim {
    /// Starts one for a container whose folder will be in `containers`, which ps(1) shows. Best before
    /// anything else: it gets ready beside that.
    ///
    /// # Errors
    /// This machine lets this user start no containers.
    pub fn spawn(containers: &Path) -> Result<Self, Error> {
        signals::expect_children();
        let power = ids::power()?;
        let (control, theirs) = control::pair().doing("making a pair of sockets")?;
        let process = os::fork(|| {
            signals::block_signals();
            let error = match become_shim(&theirs, power, containers) {
                Ok(never) => match never {},
                Err(error) => error,
            };
            let failed = Message::Failed { message: error.chain(), hint: error.hint() };
            drop(control::send(os::borrow(CONTROL), &failed));
            1
        });
        let process = Some(process.doing("starting the shim")?);
        let mut shim = Self { control, power, note: None, process };
        drop(theirs);
        if power == Power::User {
            shim.note = shim.map_ids()?;
        }
        Ok(shim)
    }

    /// Writes the id maps of its user namespace.
    fn map_ids(&self) -> Result<Option<String>, Error> {
        let lost = || Error::Lost("its shim ended without saying why".to_owned());
        match control::receive(&self.control).doing("waiting for the shim")? {
            Some(Message::MapMe) => {}
            Some(Message::Failed { message, hint }) => return Err(Error::Shim { message, hint }),
            _ => return Err(lost()),
        }
        let note = ids::write_maps(self.process.ok_or_else(lost)?)?;
        control::send(&self.control, &Message::Go).doing("answering the shim")?;
        Ok(note)
    }

    /// Gives it its container.
    pub(crate) fn begin(&self, given: &Belongings<'_>) -> Result<(), Error> {
        let groups = given.groups.made.iter();
        let groups = groups.flat_map(|group| [group.entrance.as_fd(), group.parent.as_fd()]);
        let all = given.streams.iter().chain([given.lock]).map(AsFd::as_fd);
        let all = all.chain(groups).chain(given.held.iter().map(AsFd::as_fd));
        let all: Vec<BorrowedFd<'_>> = all.collect();
        let begin = Message::Begin(Begin {
            folder: given.folder.into(),
            groups: given.groups.made.len(),
            window: given.window,
        });
        let sent = all
            .chunks(MOST_FDS)
            .try_for_each(|some| control::send_with(&self.control, &Message::Take, some))
            .and_then(|()| control::send(&self.control, &begin));
        match sent {
            // It has ended, and said why: that is heard next.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.doing("giving the shim its container"),
        }
    }

    /// Waits until it has ended: how, unless it is collected or left to itself.
    pub(crate) fn collect(&mut self) -> io::Result<Option<WaitStatus>> {
        let Some(process) = self.process.take() else { return Ok(None) };
        let ended = rustix::process::waitpid(Some(process), WaitOptions::empty())?;
        Ok(ended.map(|(_, status)| status))
    }

    /// Leaves it to itself: it outlives this process.
    pub(crate) fn leave(&mut self) {
        self.process = None;
    }

    /// Its process, while it is this one's to collect.
    pub(crate) fn number(&self) -> Option<i32> {
        self.process.map(|process| process.as_raw_nonzero().get())
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            let _ = rustix::process::kill_process(process, Signal::KILL);
            let _ = rustix::process::waitpid(Some(process), WaitOptions::empty());
        }
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        self.kill();
    }
}

fn become_shim(control: &OwnedFd, power: Power, containers: &Path) -> Result<Infallible, Error> {
    let what = "leaving the caller's descriptors";
    // Moved out of the way first: it may be one of those that are replaced.
    let control = rustix::io::fcntl_dupfd_cloexec(control, CONTROL + 1).doing(what)?;
    os::place(control.as_fd(), CONTROL).doing(what)?;
    let null = streams::null().doing("opening /dev/null")?;
    for stream in 0..CONTROL {
        os::place(null.as_fd(), stream).doing(what)?;
    }
    std::mem::forget((control, null));
    os::close_from(CONTROL as u32 + 1);
    // The keyboard's signals are the caller's to pass on.
    rustix::process::setsid().doing("leaving the caller's session")?;
    os::leave_keyring().doing("leaving the caller's keyring")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    if power == Power::User {
        os::unshare(libc::CLONE_NEWUSER).map_err(ids::refusal)?;
        control::send(os::borrow(CONTROL), &Message::MapMe).doing("asking for id maps")?;
        match control::receive(os::borrow(CONTROL)).doing("waiting for the caller")? {
            Some(Message::Go) => {}
            _ => return Err(Error::Lost("the caller is gone".to_owned())),
        }
        os::set_ids(0, 0).map_err(ids::refusal)?;
    }
    // Without root the store of a group, and volumes, may be reached by a supplementary group alone: the shim keeps the
    // caller's, and each process gives them up before it is one of the container's.
    if power == Power::Root && !ids::groups_are_fixed() {
        rustix::thread::set_thread_groups(&[]).doing("leaving the caller's groups")?;
    }
    if power == Power::User {
        // An overlay takes CAP_SYS_ADMIN in a mount namespace of one's own. Ubuntu lets the
        // namespace be made and takes its powers away: seen only here.
        os::unshare(libc::CLONE_NEWNS).map_err(ids::refusal)?;
    }
    let program = sealed::program().doing("copying this program")?;
    let words = [NAME.as_bytes(), containers.as_os_str().as_bytes()].map(CString::new);
    let [name, containers] = words.map(|word| word.map_err(io::Error::from));
    let (name, containers) = (name.doing("naming it")?, containers.doing("naming it")?);
    Err(os::execute_fd(program.as_fd(), &[&name, &containers])).doing("starting the shim")
}
